//! One decoder layer: `x += attention(norm(x))`, `x += mlp(norm(x))`.

use candle_core::Tensor;
use swinseek_kernels::{
    Result, Trace, Weights,
    layers::{FeedForward, Norm, RmsNorm},
};

use crate::{
    attention::SelfAttention,
    cache::LayerCache,
    config::{LanguageConfig, MoeConfig},
    context::Pass,
    decode::Step,
    mlp::mlp,
    moe::MixtureOfExperts,
};

#[derive(Debug)]
pub(crate) struct Block {
    input_norm: Norm,
    attention: SelfAttention,
    mlp: Mlp,
}

#[derive(Debug)]
enum Mlp {
    Dense(FeedForward),
    Sparse(RmsNorm, Box<MixtureOfExperts>),
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
        let w_mlp = w.pp("mlp");
        let after = norm("post_attention_layernorm")?;
        let feed_forward = if let Some(moe) = moe {
            Mlp::Sparse(after, Box::new(MixtureOfExperts::new(config, moe, index, &w_mlp)?))
        } else {
            Mlp::Dense(mlp(config, config.intermediate_size, Some(after.into()), &w_mlp)?)
        };
        Ok(Self {
            input_norm: norm("input_layernorm")?.into(),
            attention: SelfAttention::new(config, index, &w.pp("self_attn"))?,
            mlp: feed_forward,
        })
    }

    /// `x (batch, tokens, dim)` to the same shape, or at least to its last `queries` tokens.
    pub(crate) fn forward(
        &self,
        x: &Tensor,
        (pass, queries): (&Pass, usize),
        cache: Option<&mut LayerCache>,
        trace: &mut Trace,
    ) -> Result<Tensor> {
        self.feed_forward(&self.attention.forward(x, &self.input_norm, (pass, queries), cache, trace)?, trace)
    }

    /// One token of each of many sequences, `x (rows, 1, dim)`: row `i` is [`forward`](Self::forward) with `caches[i]`.
    pub(crate) fn decode(&self, x: &Tensor, step: &Step, caches: &mut [&mut LayerCache]) -> Result<Tensor> {
        self.feed_forward(&self.attention.decode(x, &self.input_norm, step, caches)?, &mut Trace::off())
    }

    fn feed_forward(&self, x: &Tensor, trace: &mut Trace) -> Result<Tensor> {
        match &self.mlp {
            Mlp::Dense(mlp) => mlp.forward_residual(x),
            Mlp::Sparse(norm, experts) => Ok((x + experts.forward(&norm.forward(x)?, trace)?)?),
        }
    }
}
