//! One decoder layer: `x += attention(norm(x))`, `x += mlp(norm(x))`.

use candle_core::Tensor;
use swinseek_kernels::{Result, Trace, Weights, layers::RmsNorm};

use crate::{
    attention::SelfAttention,
    cache::LayerCache,
    config::{LanguageConfig, MoeConfig},
    context::Pass,
    decode::Step,
    mlp::Mlp,
    moe::MixtureOfExperts,
};

#[derive(Debug)]
pub(crate) struct Block {
    input_norm: RmsNorm,
    attention: SelfAttention,
    post_attention_norm: RmsNorm,
    feed_forward: FeedForward,
}

#[derive(Debug)]
enum FeedForward {
    Dense(Mlp),
    Sparse(Box<MixtureOfExperts>),
}

impl Block {
    /// Reads layer `index`, with experts if `moe` says so.
    pub(crate) fn new(
        config: &LanguageConfig,
        moe: Option<&MoeConfig>,
        index: usize,
        w: &Weights,
    ) -> Result<Self> {
        let norm = |name: &str| RmsNorm::new(config.hidden_size, config.rms_norm_eps, &w.pp(name));
        let mlp = w.pp("mlp");
        Ok(Self {
            input_norm: norm("input_layernorm")?,
            attention: SelfAttention::new(config, index, &w.pp("self_attn"))?,
            post_attention_norm: norm("post_attention_layernorm")?,
            feed_forward: match moe {
                Some(moe) => FeedForward::Sparse(Box::new(MixtureOfExperts::new(config, moe, index, &mlp)?)),
                None => FeedForward::Dense(Mlp::new(config, config.intermediate_size, &mlp)?),
            },
        })
    }

    /// `x (batch, tokens, dim)` to the same shape.
    pub(crate) fn forward(
        &self,
        x: &Tensor,
        pass: &Pass,
        cache: Option<&mut LayerCache>,
        trace: &mut Trace,
    ) -> Result<Tensor> {
        let attended = self.attention.forward(&self.input_norm.forward(x)?, pass, cache, trace)?;
        self.feed_forward(&(x + attended)?, trace)
    }

    /// One token of each of many sequences, `x (rows, 1, dim)`: row `i` is [`forward`](Self::forward) with `caches[i]`.
    pub(crate) fn decode(&self, x: &Tensor, step: &Step, caches: &mut [&mut LayerCache]) -> Result<Tensor> {
        let attended = self.attention.decode(&self.input_norm.forward(x)?, step, caches)?;
        self.feed_forward(&(x + attended)?, &mut Trace::off())
    }

    fn feed_forward(&self, x: &Tensor, trace: &mut Trace) -> Result<Tensor> {
        let normed = self.post_attention_norm.forward(x)?;
        let y = match &self.feed_forward {
            FeedForward::Dense(mlp) => mlp.forward(&normed)?,
            FeedForward::Sparse(moe) => moe.forward(&normed, trace)?,
        };
        Ok((x + y)?)
    }
}
