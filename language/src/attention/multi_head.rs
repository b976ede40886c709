//! Multi-head and grouped-query attention (Vaswani et al. 2017, Ainslie et al. 2023) with half-split rotation.

use candle_core::Tensor;
use swinseek_kernels::{
    Result, Weights,
    layers::Linear,
    ops::{
        attention::{attention, attention_each},
        rope::{RopeLayout, rope},
    },
};

use crate::{
    cache::LayerCache,
    config::{LanguageConfig, MultiHeadConfig},
    context::Pass,
    decode::Step,
    mlp::{output_projection, projection},
};

#[derive(Debug)]
pub(crate) struct MultiHeadAttention {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    o_proj: Linear,
    sizes: MultiHeadConfig,
}

impl MultiHeadAttention {
    pub(crate) fn new(config: &LanguageConfig, sizes: &MultiHeadConfig, w: &Weights) -> Result<Self> {
        let (dim, bias) = (config.hidden_size, sizes.bias);
        let (q_dim, kv_dim) = (sizes.num_heads * sizes.head_dim, sizes.num_key_value_heads * sizes.head_dim);
        Ok(Self {
            q_proj: projection(dim, q_dim, bias, &w.pp("q_proj"))?,
            k_proj: projection(dim, kv_dim, bias, &w.pp("k_proj"))?,
            v_proj: projection(dim, kv_dim, bias, &w.pp("v_proj"))?,
            o_proj: output_projection(config, (q_dim, dim), bias, &w.pp("o_proj"))?,
            sizes: sizes.clone(),
        })
    }

    /// `x (batch, tokens, dim)` to the same shape.
    pub(crate) fn forward(&self, x: &Tensor, pass: &Pass, cache: Option<&mut LayerCache>) -> Result<Tensor> {
        let (b, t) = (pass.batch, pass.q_len);
        let MultiHeadConfig { num_heads, num_key_value_heads, head_dim, .. } = self.sizes;
        let rotate = |x: &Tensor| rope(x, &pass.rotation.cos, &pass.rotation.sin, RopeLayout::HalfSplit);
        let q = rotate(&self.q_proj.forward(x)?.reshape((b, t, num_heads, head_dim))?)?;
        let mut k = rotate(&self.k_proj.forward(x)?.reshape((b, t, num_key_value_heads, head_dim))?)?;
        let mut v = self.v_proj.forward(x)?.reshape((b, t, num_key_value_heads, head_dim))?;
        if let Some(cache) = cache {
            k = cache.keys.append(&k, pass.past)?;
            v = cache.values.append(&v, pass.past)?;
        }
        let output = attention(&q, &k, &v, None, pass.mask(), (head_dim as f64).powf(-0.5))?;
        self.o_proj.forward(&output.reshape((b, t, num_heads * head_dim))?)
    }

    /// One token of each of many sequences, `x (rows, 1, dim)`: row `i` is [`forward`](Self::forward) with `caches[i]`.
    pub(crate) fn decode(&self, x: &Tensor, step: &Step, caches: &mut [&mut LayerCache]) -> Result<Tensor> {
        let rows = step.passes.len();
        let MultiHeadConfig { num_heads, num_key_value_heads, head_dim, .. } = self.sizes;
        let rotate = |x: &Tensor| rope(x, &step.rotation.cos, &step.rotation.sin, RopeLayout::HalfSplit);
        let q = rotate(&self.q_proj.forward(x)?.reshape((rows, 1, num_heads, head_dim))?)?;
        let k = rotate(&self.k_proj.forward(x)?.reshape((rows, 1, num_key_value_heads, head_dim))?)?;
        let v = self.v_proj.forward(x)?.reshape((rows, 1, num_key_value_heads, head_dim))?;
        let mut keys = Vec::with_capacity(rows);
        for (row, (cache, pass)) in caches.iter_mut().zip(&step.passes).enumerate() {
            let k = cache.keys.append(&k.narrow(0, row, 1)?, pass.past)?;
            keys.push((k, cache.values.append(&v.narrow(0, row, 1)?, pass.past)?));
        }
        let output = attention_each(&q, &keys, (head_dim as f64).powf(-0.5))?;
        self.o_proj.forward(&output.reshape((rows, 1, num_heads * head_dim))?)
    }
}
