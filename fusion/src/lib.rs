//! The fusion room: the joined vision-language model, its checkpoints and its generation loop.
//!
//! | module | knows |
//! |---|---|
//! | [`checkpoint`] | a model directory on disk: reading and writing weights of every stored type |
//! | [`config`] | `config.json` of a joined model |
//! | [`projector`] | encoder features to memory tokens, and which token is where in the image |
//! | [`cross_attention`] | gated cross-attention layers (Llama-3.2-Vision) |
//! | [`model`] | [`SwinSeek`], the joined model |
//! | [`mllama`], [`donut`] | published models of the same kind |
//! | [`pool_joint`] | the pooled joint attention of the article that describes this product |
//! | [`generate`](mod@generate) | the unbatched generation loop and beam search |
//! | [`session`] | many sequences in one decoding step |
//! | [`load`] | a directory to a model of any architecture |
//! | [`mod@verify`] | a checkpoint against stored outputs |
//! | [`mod@compose`], [`mod@inspect`] | two directories to one; what a directory holds |
//!
//! Only this room reads model files; it is the one place outside the kernels with `unsafe` (a memory map).

pub mod checkpoint;
pub mod compose;
pub mod config;
pub mod cross_attention;
pub mod donut;
pub mod error;
pub mod evidence;
pub mod generate;
pub mod inspect;
pub mod load;
pub mod mllama;
pub mod model;
pub mod pipeline;
pub mod pool_joint;
pub mod projector;
pub mod prompt_encoder;
pub mod session;
pub mod verify;

pub use compose::{ComposeOptions, compose};
pub use config::ModelConfig;
pub use error::{Error, Result};
pub use generate::{FinishReason, GenerateParams, Generation, TokenModel, generate};
pub use inspect::inspect;
pub use load::{LoadedModel, Model, load_model};
pub use model::{EncodedImages, ImageMemory, SwinSeek};
pub use verify::verify;
