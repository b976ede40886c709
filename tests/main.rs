//! One test binary over the whole product: each module is a theme.

mod bleu_command;
mod commands;
mod eval;
mod evaluation;
mod tidy;
mod training;
