//! One test binary over the whole product: each module is a theme.

mod commands;
mod engine;
mod formats;
mod server;
mod tidy;
mod training;
