//! One test binary over the whole product: each module is a theme.

mod commands;
mod engine;
mod server;
mod tidy;
mod training;
