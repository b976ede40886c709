//! The service over real connections, with a model whose answers are known.

mod chat;
mod client;
mod harness;
mod hostile;
mod mock;
mod operation;
mod reports;
mod safety;
