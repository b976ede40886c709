//! `swinseek phantom`
