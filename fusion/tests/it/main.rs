//! The room's tests over whole models, in one binary.

mod adapter;
mod checkpoint;
mod compose;
mod cuda;
mod generate;
mod gguf;
mod goldens;
mod model;
mod pool_joint;
mod session;
mod support;
