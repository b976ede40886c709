//! swinseek
