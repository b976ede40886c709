//! Where another room can work on the hidden states between the decoder's layers.

use candle_core::Tensor;
use swinseek_kernels::{Result, Trace};

/// Called before each decoder layer; gated cross-attention is one.
pub trait LayerHook {
    /// `hidden (batch, tokens, dim)` on its way into layer `index`; the result has the same shape. At an index in
    /// [`cross_attention_layers`](crate::config::LanguageConfig::cross_attention_layers) this is the whole layer.
    fn before(&self, index: usize, hidden: Tensor, trace: &mut Trace) -> Result<Tensor>;
}

/// Changes nothing: text only.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoHook;

impl LayerHook for NoHook {
    fn before(&self, _index: usize, hidden: Tensor, _trace: &mut Trace) -> Result<Tensor> {
        Ok(hidden)
    }
}
