//! Self-attention: multi-head (MHA, GQA) and multi-head latent (MLA).

mod latent;
mod multi_head;

use candle_core::Tensor;
use swinseek_kernels::{Result, Trace, Weights, layers::Norm};

use crate::{
    cache::LayerCache,
    config::{AttentionConfig, LanguageConfig},
    context::Pass,
    decode::Step,
};
use latent::LatentAttention;
use multi_head::MultiHeadAttention;

/// The self-attention of one layer.
#[derive(Debug)]
pub(crate) enum SelfAttention {
    MultiHead(MultiHeadAttention),
    Latent(Box<LatentAttention>),
}

impl SelfAttention {
    /// Reads `self_attn.*` of layer `index`.
    pub(crate) fn new(config: &LanguageConfig, index: usize, w: &Weights) -> Result<Self> {
        Ok(match &config.attention {
            AttentionConfig::MultiHead(sizes) => {
                Self::MultiHead(MultiHeadAttention::new(config, sizes, index, w)?)
            }
            AttentionConfig::Latent(sizes) => {
                Self::Latent(Box::new(LatentAttention::new(config, sizes, index, w)?))
            }
        })
    }

    /// `x + attention(norm(x))`, `(batch, tokens, dim)` to the same shape, or at least to its last `queries` tokens.
    pub(crate) fn forward(
        &self,
        x: &Tensor,
        norm: &Norm,
        pass: (&Pass, usize),
        cache: Option<&mut LayerCache>,
        trace: &mut Trace,
    ) -> Result<Tensor> {
        match self {
            Self::MultiHead(attention) => attention.forward(x, norm, pass, cache),
            Self::Latent(attention) => attention.forward(x, norm, pass, cache, trace),
        }
    }

    /// One token of each of many sequences, `x (rows, 1, dim)`: row `i` is [`forward`](Self::forward) with `caches[i]`.
    pub(crate) fn decode(
        &self,
        x: &Tensor,
        norm: &Norm,
        step: &Step,
        caches: &mut [&mut LayerCache],
    ) -> Result<Tensor> {
        match self {
            Self::MultiHead(attention) => attention.decode(x, norm, step, caches),
            Self::Latent(attention) => attention.decode(x, norm, step, caches),
        }
    }
}
