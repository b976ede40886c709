//! One test binary over the whole product: each module is a theme.

mod bleu_command;
mod commands;
mod engine;
mod eval;
mod evaluation;
mod formats;
mod server;
mod tidy;
mod training;
