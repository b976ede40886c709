//! The kernels room: every tensor operation the models are made of, once.
//!
//! [`ops`] holds one file per operation with its contract, a plain reference built from candle
//! primitives, and the fused path that is tested against it. [`layers`] binds operations to weights,
//! [`weights`] says where weights come from, [`trace`] lets a caller look at intermediate tensors.
//!
//! Activations are `f32`, contiguous, channels last. This is the only room that may use `unsafe`.
#![allow(unsafe_code)]

#[cfg(feature = "cuda")]
mod cuda;
pub mod device;
pub mod error;
pub mod gemm;
pub mod heap;
pub mod layers;
mod memory;
pub mod ops;
mod parameter;
pub mod quant;
pub mod roofline;
mod simd;
#[cfg(test)]
mod testing;
pub mod threads;
pub mod trace;
mod vectorise;
pub mod weights;

/// Results are only streamed to memory that begins with a cache line.
#[cfg(test)]
#[global_allocator]
static HEAP: heap::Heap = heap::Heap;

pub use device::Compute;
pub use error::{Error, Result};
pub use parameter::Parameter;
pub use trace::Trace;
pub use vectorise::vectorised;
pub use weights::{Init, Precision, TensorSource, Weights};
