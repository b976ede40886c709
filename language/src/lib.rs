//! The language room: text to token ids, ids to hidden states and logits, logits to the next token.
//!
//! [`Decoder`] is one decoder for all families (llama, DeepSeekMoE, V2, V3, V3.2, the text half of Llama 3.2 Vision),
//! built from parts that exist once and chosen by [`LanguageConfig`]; [`Cache`] holds what decoding reuses;
//! [`LayerHook`] lets another room work on the hidden states between layers. This room reads no files.

mod attention;
mod block;
mod bpe;
pub mod cache;
pub mod config;
pub mod constraint;
pub mod context;
mod decode;
pub mod decoder;
pub mod hook;
mod indexer;
pub mod mbart;
mod mlp;
mod moe;
pub mod prompt;
pub mod rope_scaling;
mod rope_table;
mod router;
pub mod sampler;
pub mod text_stream;
pub mod tokenizer;
mod top_k;

pub use cache::Cache;
pub use config::LanguageConfig;
pub use constraint::{Constraint, Constraints, Lexicon, TokenMask};
pub use context::Context;
pub use decoder::Decoder;
pub use hook::{LayerHook, NoHook};
