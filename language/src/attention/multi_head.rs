//! Multi-head and grouped-query attention (Vaswani et al. 2017, Ainslie et al. 2023) with half-split rotation.

use candle_core::Tensor;
use swinseek_kernels::{
    Precision, Result, Weights,
    layers::{Linear, Norm},
    ops::{
        attention::{attention_each, attention_in},
        rope::{RopeLayout, rope, rope_rounded},
        round::round_to_bf16,
    },
};

use crate::{
    cache::LayerCache,
    config::{LanguageConfig, MultiHeadConfig},
    context::Pass,
    decode::Step,
    mlp::{output_projection, projection},
    rope_table::{Rotation, last},
};

#[derive(Debug)]
pub(crate) struct MultiHeadAttention {
    qkv: QueryKeyValue,
    o_proj: Linear,
    sizes: MultiHeadConfig,
    precision: Precision,
}

/// The projections of queries, keys and values.
#[derive(Debug)]
enum QueryKeyValue {
    /// Side by side in one matrix, where that is faster.
    Joined(Linear),
    /// Keys and values side by side: the last layer may have fewer queries.
    QueryApart {
        query: Linear,
        key_value: Linear,
    },
    Apart([Linear; 3]),
}

impl QueryKeyValue {
    fn new(apart: [Linear; 3], in_last_layer: bool) -> Result<Self> {
        if !in_last_layer {
            let joined = Linear::joined(&apart.each_ref())?;
            return Ok(joined.map_or(Self::Apart(apart), Self::Joined));
        }
        let [query, key, value] = apart;
        Ok(match Linear::joined(&[&key, &value])? {
            Some(key_value) => Self::QueryApart { query, key_value },
            None => Self::Apart([query, key, value]),
        })
    }
}

impl MultiHeadAttention {
    /// Reads `self_attn.*` of layer `index`.
    pub(crate) fn new(
        config: &LanguageConfig,
        sizes: &MultiHeadConfig,
        index: usize,
        w: &Weights,
    ) -> Result<Self> {
        let (dim, bias) = (config.hidden_size, sizes.bias);
        let (q_dim, kv_dim) = (sizes.num_heads * sizes.head_dim, sizes.num_key_value_heads * sizes.head_dim);
        let apart = [
            projection(dim, q_dim, bias, &w.pp("q_proj"))?,
            projection(dim, kv_dim, bias, &w.pp("k_proj"))?,
            projection(dim, kv_dim, bias, &w.pp("v_proj"))?,
        ];
        Ok(Self {
            qkv: QueryKeyValue::new(apart, index + 1 == config.layers.len())?,
            precision: w.precision(),
            o_proj: output_projection(config, (q_dim, dim), bias, &w.pp("o_proj"))?,
            sizes: sizes.clone(),
        })
    }

    /// Queries `(batch, queries, heads, head_dim)` of the last tokens, keys and values of all, of `norm(x)`, before the rotation.
    fn project(&self, x: &Tensor, norm: &Norm, queries: usize) -> Result<[Tensor; 3]> {
        let MultiHeadConfig { num_heads, num_key_value_heads: kv_heads, head_dim, .. } = self.sizes;
        let split = |y: Tensor, heads: usize| {
            let (b, t, _) = y.dims3()?;
            y.reshape((b, t, heads, head_dim))
        };
        let normed = |proj: &Linear, x: &Tensor| proj.forward_with(x, Some(norm), None, None);
        match &self.qkv {
            QueryKeyValue::Joined(proj) => {
                let y = split(normed(proj, x)?, num_heads + 2 * kv_heads)?;
                let part = |first: usize, count: usize| y.narrow(2, first, count);
                let q = last(&part(0, num_heads)?, queries)?;
                Ok([q, part(num_heads, kv_heads)?, part(num_heads + kv_heads, kv_heads)?])
            }
            QueryKeyValue::QueryApart { query, key_value } => {
                let q = split(normed(query, &last(x, queries)?)?, num_heads)?;
                let y = split(normed(key_value, x)?, 2 * kv_heads)?;
                Ok([q, y.narrow(2, 0, kv_heads)?, y.narrow(2, kv_heads, kv_heads)?])
            }
            QueryKeyValue::Apart([q_proj, k_proj, v_proj]) => {
                let x = norm.forward(x)?;
                let q = split(q_proj.forward(&last(&x, queries)?)?, num_heads)?;
                Ok([q, split(k_proj.forward(&x)?, kv_heads)?, split(v_proj.forward(&x)?, kv_heads)?])
            }
        }
    }

    /// `x + attention(norm(x))` of the last `queries` tokens of `x (batch, tokens, dim)`.
    pub(crate) fn forward(
        &self,
        x: &Tensor,
        norm: &Norm,
        (pass, queries): (&Pass, usize),
        cache: Option<&mut LayerCache>,
    ) -> Result<Tensor> {
        let [q, k, v] = self.project(x, norm, queries)?;
        let rotation = pass.rotation.last(queries)?;
        // A single query is computed in `f32`; many are rounded for their products, as keys and values are.
        let tracked = [&q, &k, &v].into_iter().any(Tensor::track_op);
        let many = x.dim(1)? > 1 && !self.is_exact() && !tracked;
        let (q, scale) = if many {
            (rounded(&q, &rotation, self.scale())?, 1.0)
        } else {
            (rotated(&q, &rotation)?, self.scale())
        };
        let (mut k, mut v) = if many || (cache.is_some() && !self.is_exact()) {
            (rounded(&k, &pass.rotation, 1.0)?, round_to_bf16(&v)?)
        } else {
            (rotated(&k, &pass.rotation)?, v)
        };
        if let Some(cache) = cache {
            let kept = (cache.keys.append(&k, pass.past)?, cache.values.append(&v, pass.past)?);
            // What is read here for the first time need not be read back.
            if pass.past > 0 {
                (k, v) = kept;
            }
        }
        let attended = attention_in(self.precision, &q, &k, &v, pass.mask(queries), scale)?;
        self.o_proj.forward_with(&attended.flatten_from(2)?, None, None, Some(&last(x, queries)?))
    }

    /// One token of each of many sequences, `x (rows, 1, dim)`: row `i` is [`forward`](Self::forward) with `caches[i]`.
    pub(crate) fn decode(
        &self,
        x: &Tensor,
        norm: &Norm,
        step: &Step,
        caches: &mut [&mut LayerCache],
    ) -> Result<Tensor> {
        let [q, mut k, mut v] = self.project(x, norm, 1)?;
        let q = rotated(&q, &step.rotation)?;
        (k, v) = if self.is_exact() {
            (rotated(&k, &step.rotation)?, v)
        } else {
            (rounded(&k, &step.rotation, 1.0)?, round_to_bf16(&v)?)
        };
        let mut keys = Vec::with_capacity(caches.len());
        for (row, (cache, pass)) in caches.iter_mut().zip(&step.passes).enumerate() {
            let k = cache.keys.append(&k.narrow(0, row, 1)?, pass.past)?;
            keys.push((k, cache.values.append(&v.narrow(0, row, 1)?, pass.past)?));
        }
        let attended = attention_each(&q, &keys, self.scale())?;
        self.o_proj.forward_with(&attended.flatten_from(2)?, None, None, Some(x))
    }

    /// Whether keys and values are kept as they are; otherwise they are rounded to what the products of a prompt round them to.
    fn is_exact(&self) -> bool {
        self.precision == Precision::F32
    }

    fn scale(&self) -> f64 {
        (self.sizes.head_dim as f64).powf(-0.5)
    }
}

fn rotated(x: &Tensor, Rotation { cos, sin }: &Rotation) -> Result<Tensor> {
    Ok(rope(x, cos, sin, RopeLayout::HalfSplit)?)
}

/// `factor · x`, rotated and rounded: queries for their products, keys as the cache keeps them.
fn rounded(x: &Tensor, Rotation { cos, sin }: &Rotation, factor: f64) -> Result<Tensor> {
    Ok(rope_rounded(x, (cos, sin), RopeLayout::HalfSplit, factor)?)
}
