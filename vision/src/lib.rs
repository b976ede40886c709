//! The vision room: image and DICOM bytes to pixels ([`preprocess`]), pixels to features ([`Encoder`]).
//!
//! The encoders are Swin v1 (Liu et al. 2021, arXiv 2103.14030), Swin v2 (Liu et al. 2022, arXiv 2111.09883) and
//! Donut's Swin (Kim et al. 2022, arXiv 2111.15664), in the `transformers` and `timm` checkpoint layouts, exact
//! against both at any image size, and behind an optional overlapping convolution stem of our own.
//!
//! This room reads no files: it takes bytes, a configuration value and a
//! [`Weights`](swinseek_kernels::Weights) source.

pub mod config;
pub mod encoder;
pub mod preprocess;

mod block;
mod fields;
#[cfg(feature = "onnx")]
mod onnx;
mod patch_embed;
mod stage;
mod stem;
mod timm;
mod transformers;
mod window;

pub use config::VisionConfig;
pub use encoder::{Encoder, EncoderOutput, FeatureMap};
#[cfg(feature = "onnx")]
pub use onnx::OnnxEncoder;
pub use stem::Convolution;
