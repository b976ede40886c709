//! Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434).
//!
//! Keys and values of all heads are up-projections of one latent `c` per token; one rotated key `k^R` is shared.
//! Two forms compute the same thing: *expanded* builds every head's keys and values, *absorbed* moves the
//! up-projections to the query and output side and attends in the latent space, as if to one key head.

use candle_core::{D, DType, Tensor};
use swinseek_kernels::{
    Precision, Result, Trace, Weights,
    layers::{GroupedLinear, Linear, Norm, RmsNorm},
    ops::{
        attention::{Mask, attention_each, attention_in, latent_attention},
        rope::{RopeLayout, rope},
        round::round_to_bf16,
    },
};

use crate::{
    cache::LayerCache,
    config::{LanguageConfig, LatentConfig},
    context::Pass,
    decode::Step,
    indexer::Indexer,
    mlp::{output_projection, projection},
    rope_table::{Rotation, last},
};

/// Of the two latent norms, whatever `rms_norm_eps` says.
const LATENT_NORM_EPS: f64 = 1e-6;

#[derive(Debug)]
pub(crate) struct LatentAttention {
    query: Query,
    kv_a_proj: Linear,
    kv_a_norm: RmsNorm,
    kv_b_proj: Linear,
    o_proj: Linear,
    /// Ready unless the weights are being trained.
    absorbed: Option<Absorbed>,
    indexer: Option<Indexer>,
    sizes: LatentConfig,
    precision: Precision,
}

#[derive(Debug)]
enum Query {
    Full(Linear),
    LowRank { down: Linear, norm: RmsNorm, up: Linear },
}

/// `kv_b_proj` cut into what the absorbed form multiplies by.
#[derive(Debug)]
struct Absorbed {
    /// `W_UK` transposed, `(heads, kv_lora_rank, nope)`.
    key: GroupedLinear,
    /// `W_UV`, `(heads, v, kv_lora_rank)`.
    value: GroupedLinear,
}

impl Query {
    fn new(dim: usize, sizes: &LatentConfig, w: &Weights) -> Result<Self> {
        let out = sizes.num_heads * sizes.qk_head_dim();
        Ok(match sizes.q_lora_rank {
            None => Self::Full(projection(dim, out, false, &w.pp("q_proj"))?),
            Some(rank) => Self::LowRank {
                down: projection(dim, rank, sizes.bias, &w.pp("q_a_proj"))?,
                norm: RmsNorm::new(rank, LATENT_NORM_EPS, &w.pp("q_a_layernorm"))?,
                up: projection(rank, out, false, &w.pp("q_b_proj"))?,
            },
        })
    }

    /// The queries of all heads, and what they were projected from (the latent, or `x` itself).
    fn forward(&self, x: &Tensor) -> Result<(Tensor, Tensor)> {
        match self {
            Self::Full(proj) => Ok((proj.forward(x)?, x.clone())),
            Self::LowRank { down, norm, up } => {
                let latent = norm.forward(&down.forward(x)?)?;
                Ok((up.forward(&latent)?, latent))
            }
        }
    }
}

/// Queries, and the latents of as many keys.
struct Operands {
    /// `(batch, tokens, heads, nope)`
    q_nope: Tensor,
    /// `(batch, tokens, heads, rope)`
    q_rope: Tensor,
    /// `c`, `(batch, tokens, kv_lora_rank)`
    latent: Tensor,
    /// `k^R`, `(batch, tokens, 1, rope)`
    k_rope: Tensor,
}

impl Operands {
    /// `[c ; k^R]`, what the cache holds: `(batch, tokens, 1, kv_lora_rank + rope)`.
    fn joined(&self) -> Result<Tensor> {
        Ok(Tensor::cat(&[&self.latent.unsqueeze(2)?, &self.k_rope], D::Minus1)?)
    }

    /// Batch row `row` alone.
    fn row(&self, row: usize) -> Result<Self> {
        Ok(Self {
            q_nope: self.q_nope.narrow(0, row, 1)?,
            q_rope: self.q_rope.narrow(0, row, 1)?,
            latent: self.latent.narrow(0, row, 1)?,
            k_rope: self.k_rope.narrow(0, row, 1)?,
        })
    }

    /// The same queries with the cached keys.
    fn with_keys(self, joined: &Tensor, sizes: &LatentConfig) -> Result<Self> {
        let rank = sizes.kv_lora_rank;
        let part = |first: usize, count: usize| joined.narrow(3, first, count)?.to_dtype(DType::F32);
        let latent = part(0, rank)?.squeeze(2)?.contiguous()?;
        Ok(Self { latent, k_rope: part(rank, sizes.qk_rope_head_dim)?, ..self })
    }
}

impl LatentAttention {
    pub(crate) fn new(
        config: &LanguageConfig,
        sizes: &LatentConfig,
        index: usize,
        w: &Weights,
    ) -> Result<Self> {
        let dim = config.hidden_size;
        let (heads, rank, rope) = (sizes.num_heads, sizes.kv_lora_rank, sizes.qk_rope_head_dim);
        let kv_b_proj =
            projection(rank, heads * (sizes.qk_nope_head_dim + sizes.v_head_dim), false, &w.pp("kv_b_proj"))?;
        // A trainer changes its variables in place, so nothing may be derived from them ahead of a pass.
        let trained = kv_b_proj.is_trained();
        let absorbed =
            if trained { None } else { Some(Absorbed::new(&kv_b_proj.weight()?, sizes, w.precision())?) };
        let indexer = match &sizes.indexer {
            Some(indexer) => Some(Indexer::new(dim, sizes, indexer, index, &w.pp("indexer"))?),
            None => None,
        };
        Ok(Self {
            query: Query::new(dim, sizes, w)?,
            kv_a_proj: projection(dim, rank + rope, sizes.bias, &w.pp("kv_a_proj_with_mqa"))?,
            kv_a_norm: RmsNorm::new(rank, LATENT_NORM_EPS, &w.pp("kv_a_layernorm"))?,
            kv_b_proj,
            o_proj: output_projection(config, (heads * sizes.v_head_dim, dim), sizes.bias, &w.pp("o_proj"))?,
            absorbed,
            indexer,
            sizes: sizes.clone(),
            precision: w.precision(),
        })
    }

    /// `x + attention(norm(x))` of the last `queries` tokens of `x (batch, tokens, dim)`, with an indexer of all.
    pub(crate) fn forward(
        &self,
        residual: &Tensor,
        norm: &Norm,
        (pass, queries): (&Pass, usize),
        mut cache: Option<&mut LayerCache>,
        trace: &mut Trace,
    ) -> Result<Tensor> {
        let queries = if self.indexer.is_some() { pass.q_len } else { queries };
        let x = &norm.forward(residual)?;
        let (query, query_source) = self.query.forward(&last(x, queries)?)?;
        let operands = self.operands(x, &query, &pass.rotation)?;
        let selected = match &self.indexer {
            Some(indexer) => {
                let index_keys = cache.as_mut().map(|cache| &mut cache.index_keys);
                indexer.forward(x, &query_source, pass, index_keys, trace)?
            }
            None => None,
        };
        let mask = selected.as_ref().map_or_else(|| pass.mask(queries), Mask::Additive);
        let heads = match cache {
            Some(cache) => {
                let joined = cache.keys.append(&self.kept(operands.joined()?)?, pass.past)?;
                self.attend_cached(operands, &joined, pass, mask)?
            }
            None => self.attend_expanded(&operands, mask)?,
        };
        self.o_proj.forward_with(&heads, None, None, Some(&last(residual, queries)?))
    }

    /// One token of each of many sequences, `(rows, 1, dim)`: row `i` is [`forward`](Self::forward) with `caches[i]`.
    pub(crate) fn decode(
        &self,
        residual: &Tensor,
        norm: &Norm,
        step: &Step,
        caches: &mut [&mut LayerCache],
    ) -> Result<Tensor> {
        let x = &norm.forward(residual)?;
        let (query, query_source) = self.query.forward(x)?;
        let operands = self.operands(x, &query, &step.rotation)?;
        let joined = self.kept(operands.joined()?)?;
        let mut keys = Vec::with_capacity(caches.len());
        let mut masks = Vec::with_capacity(caches.len());
        for (row, (cache, pass)) in caches.iter_mut().zip(&step.passes).enumerate() {
            masks.push(match &self.indexer {
                Some(indexer) => {
                    let (x, source) = (x.narrow(0, row, 1)?, query_source.narrow(0, row, 1)?);
                    indexer.forward(&x, &source, pass, Some(&mut cache.index_keys), &mut Trace::off())?
                }
                None => None,
            });
            keys.push(cache.keys.append(&joined.narrow(0, row, 1)?, pass.past)?);
        }
        let heads = if masks.iter().all(Option::is_none) && step.passes.iter().all(|pass| self.absorbs(pass))
        {
            self.attend_each(&operands, &keys)?
        } else {
            let row = |(row, pass): (usize, &Pass)| {
                let mask = masks[row].as_ref().map_or(Mask::None, Mask::Additive);
                self.attend_cached(operands.row(row)?, &keys[row], pass, mask)
            };
            Tensor::cat(&step.passes.iter().enumerate().map(row).collect::<Result<Vec<_>>>()?, 0)?
        };
        self.o_proj.forward_with(&heads, None, None, Some(residual))
    }

    /// `[c ; k^R]` as the cache keeps it: in `f32`, or rounded to what the kernels of a GPU read.
    fn kept(&self, joined: Tensor) -> Result<Tensor> {
        let rounds = self.precision != Precision::F32 && !joined.device().is_cpu();
        Ok(if rounds { round_to_bf16(&joined)? } else { joined })
    }

    /// In the form that costs less for this pass.
    fn attend_cached(&self, operands: Operands, joined: &Tensor, pass: &Pass, mask: Mask) -> Result<Tensor> {
        if self.absorbs(pass) {
            self.attend_absorbed(&operands, joined, mask)
        } else {
            self.attend_expanded(&operands.with_keys(joined, &self.sizes)?, mask)
        }
    }

    /// Of the queries of the last tokens of `x`.
    fn operands(&self, x: &Tensor, query: &Tensor, rotation: &Rotation) -> Result<Operands> {
        let (b, queries, _) = query.dims3()?;
        let LatentConfig {
            num_heads,
            kv_lora_rank: rank,
            qk_nope_head_dim: nope,
            qk_rope_head_dim: rotated,
            ..
        } = self.sizes;
        let layout = if self.sizes.rope_interleave { RopeLayout::Interleaved } else { RopeLayout::HalfSplit };
        let rotate = |x: &Tensor, rotation: &Rotation| rope(x, &rotation.cos, &rotation.sin, layout);
        let query = query.reshape((b, queries, num_heads, nope + rotated))?;
        let compressed = self.kv_a_proj.forward(x)?;
        let latent = self.kv_a_norm.forward(&compressed.narrow(2, 0, rank)?.contiguous()?)?;
        let k_rope = rotate(&compressed.narrow(2, rank, rotated)?.contiguous()?.unsqueeze(2)?, rotation)?;
        Ok(Operands {
            q_nope: query.narrow(3, 0, nope)?,
            q_rope: rotate(&query.narrow(3, nope, rotated)?.contiguous()?, &rotation.last(queries)?)?,
            latent,
            k_rope,
        })
    }

    /// Whether a pass with a cache takes the absorbed form.
    fn absorbs(&self, pass: &Pass) -> bool {
        pass.past > 0 && self.absorbed_is_cheaper(pass.q_len, pass.kv_len())
    }

    /// Multiplications of both forms for `q_len` queries and `kv_len` keys, per head.
    fn absorbed_is_cheaper(&self, q_len: usize, kv_len: usize) -> bool {
        let LatentConfig { kv_lora_rank: rank, qk_nope_head_dim: nope, v_head_dim, .. } = self.sizes;
        let width = nope + v_head_dim;
        q_len * rank * width + q_len * kv_len * 2 * rank < kv_len * rank * width + q_len * kv_len * width
    }

    /// Per head: `k = [W_UK c ; k^R]`, `v = W_UV c`. The result is `(batch, tokens, heads · v)`.
    fn attend_expanded(&self, operands: &Operands, mask: Mask) -> Result<Tensor> {
        let LatentConfig { num_heads, qk_nope_head_dim: nope, qk_rope_head_dim: rotated, v_head_dim, .. } =
            self.sizes;
        let (b, s, _) = operands.latent.dims3()?;
        let expanded =
            self.kv_b_proj.forward(&operands.latent)?.reshape((b, s, num_heads, nope + v_head_dim))?;
        let k_rope = operands.k_rope.expand((b, s, num_heads, rotated))?;
        let k = Tensor::cat(&[expanded.narrow(3, 0, nope)?, k_rope], D::Minus1)?;
        let v = expanded.narrow(3, nope, v_head_dim)?.contiguous()?;
        let q = Tensor::cat(&[&operands.q_nope, &operands.q_rope], D::Minus1)?;
        let output = attention_in(self.precision, &q, &k, &v, mask, self.sizes.softmax_scale)?;
        let (b, t, _, _) = output.dims4()?;
        Ok(output.reshape((b, t, num_heads * v_head_dim))?)
    }

    /// One key head `[c ; k^R]` and value `c`; the query is `[W_UKᵀ q ; q^R]`, and `W_UV` acts on the result.
    ///
    /// `joined (batch, kv_len, 1, kv_lora_rank + rope)`.
    fn attend_absorbed(&self, operands: &Operands, joined: &Tensor, mask: Mask) -> Result<Tensor> {
        let (rank, scale) = (self.sizes.kv_lora_rank, self.sizes.softmax_scale);
        self.absorbed(operands, |q| Ok(latent_attention(self.precision, q, joined, rank, mask, scale)?))
    }

    /// [`attend_absorbed`](Self::attend_absorbed) of one token a row, each with its own keys.
    fn attend_each(&self, operands: &Operands, joined: &[Tensor]) -> Result<Tensor> {
        let (rank, scale) = (self.sizes.kv_lora_rank, self.sizes.softmax_scale);
        self.absorbed(operands, |q| {
            if q.device().is_cpu() {
                let pair = |joined: &Tensor| Ok((joined.clone(), joined.narrow(3, 0, rank)?));
                return Ok(attention_each(q, &joined.iter().map(pair).collect::<Result<Vec<_>>>()?, scale)?);
            }
            let row = |(row, joined): (usize, &Tensor)| {
                latent_attention(self.precision, &q.narrow(0, row, 1)?, joined, rank, Mask::None, scale)
            };
            let rows = joined.iter().enumerate().map(row).collect::<candle_core::Result<Vec<_>>>()?;
            Ok(Tensor::cat(&rows, 0)?)
        })
    }

    /// The up-projections around `attend`, which sees latent queries and returns latent values.
    fn absorbed(
        &self,
        operands: &Operands,
        attend: impl FnOnce(&Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let fresh;
        let absorbed = if let Some(absorbed) = &self.absorbed {
            absorbed
        } else {
            fresh = Absorbed::new(&self.kv_b_proj.weight()?, &self.sizes, self.precision)?;
            &fresh
        };
        let q_latent = per_head(&operands.q_nope, &absorbed.key)?;
        let mixed = attend(&Tensor::cat(&[&q_latent, &operands.q_rope], D::Minus1)?)?;
        let output = per_head(&mixed, &absorbed.value)?;
        let (b, t, heads, v_dim) = output.dims4()?;
        Ok(output.reshape((b, t, heads * v_dim))?)
    }
}

/// `x (batch, tokens, heads, in)` through the weight of its head: `(batch, tokens, heads, out)`.
fn per_head(x: &Tensor, weight: &GroupedLinear) -> Result<Tensor> {
    let (b, t, heads, inner) = x.dims4()?;
    let out = weight.weight().dim(1)?;
    let offsets: Vec<usize> = (0..=heads).map(|head| head * b * t).collect();
    // With one token, rows by head is the order they already stand in.
    let rows = if b * t == 1 { x.clone() } else { x.permute((2, 0, 1, 3))? };
    let y = weight.forward(&rows.contiguous()?.reshape((heads * b * t, inner))?, &offsets)?;
    if b * t == 1 {
        return Ok(y.reshape((b, t, heads, out))?);
    }
    Ok(y.reshape((heads, b, t, out))?.permute((1, 2, 0, 3))?.contiguous()?)
}

impl Absorbed {
    fn new(kv_b: &Tensor, sizes: &LatentConfig, precision: Precision) -> Result<Self> {
        let LatentConfig { num_heads, kv_lora_rank, qk_nope_head_dim: nope, v_head_dim, .. } = *sizes;
        let heads = kv_b.reshape((num_heads, nope + v_head_dim, kv_lora_rank))?;
        Ok(Self {
            key: GroupedLinear::from_parts(
                heads.narrow(1, 0, nope)?.transpose(1, 2)?.contiguous()?,
                precision,
            )?,
            value: GroupedLinear::from_parts(heads.narrow(1, nope, v_head_dim)?.contiguous()?, precision)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use candle_core::{Device, Tensor};
    use serde_json::json;
    use swinseek_kernels::{Init, Precision, Result, TensorSource, Weights, ops::attention::Mask};

    use super::{LatentAttention, Operands};
    use crate::config::{AttentionConfig, LanguageConfig};

    struct Random;

    impl TensorSource for Random {
        fn tensor(&self, _name: &str, shape: &[usize], _init: Init) -> Result<Tensor> {
            Ok(Tensor::randn(0f32, 0.3, shape, &Device::Cpu)?)
        }

        fn shape(&self, _name: &str) -> Option<Vec<usize>> {
            None
        }
    }

    #[test]
    fn expanded_and_absorbed_forms_agree() {
        let config = LanguageConfig::from_json(&json!({
            "model_type": "deepseek_v3", "vocab_size": 8, "hidden_size": 24, "intermediate_size": 8,
            "num_hidden_layers": 1, "num_attention_heads": 3, "kv_lora_rank": 12, "qk_nope_head_dim": 6,
            "qk_rope_head_dim": 4, "v_head_dim": 5, "n_routed_experts": null
        }))
        .unwrap();
        let AttentionConfig::Latent(sizes) = &config.attention else { panic!("latent attention expected") };
        let weights = Weights::new(Arc::new(Random), Precision::F32);
        let attention = LatentAttention::new(&config, sizes, 0, &weights).unwrap();
        let random = |shape: &[usize]| Tensor::randn(0f32, 1.0, shape, &Device::Cpu).unwrap();
        for (batch, q_len) in [(1, 1), (1, 3), (2, 1), (2, 3)] {
            let operands = Operands {
                q_nope: random(&[batch, q_len, 3, 6]),
                q_rope: random(&[batch, q_len, 3, 4]),
                latent: random(&[batch, 7, 12]),
                k_rope: random(&[batch, 7, 1, 4]),
            };
            let joined = operands.joined().unwrap();
            let mask = Mask::Causal { offset: 7 - q_len };
            let expanded = attention.attend_expanded(&operands, mask).unwrap();
            let absorbed = attention.attend_absorbed(&operands, &joined, mask).unwrap();
            assert_eq!(expanded.dims(), [batch, q_len, 15]);
            let gap =
                (expanded - absorbed).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
            // Sums of 12 products of order 1 in another order.
            assert!(gap < 1e-5, "forms differ by {gap:e}");
        }
    }
}
