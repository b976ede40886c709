//! The lightning indexer of DeepSeek-V3.2: a small scorer that decides which keys a query attends to.
//!
//! `I_ts = Σ_j w_tj · H^−½ · ReLU(q_tj · k_s · d^−½)` over its heads j; the `top_k` best visible keys are kept.

use candle_core::{D, Tensor};
use swinseek_kernels::{
    Precision, Result, Trace, Weights,
    layers::{LayerNorm, Linear},
    ops::{
        linear::linear,
        rope::{RopeLayout, rope},
    },
};

use crate::{
    cache::Buffer,
    config::{IndexerConfig, LatentConfig},
    context::{MASKED, Pass},
    mlp::projection,
    top_k::top_k,
};

const K_NORM_EPS: f64 = 1e-6;

#[derive(Debug)]
pub(crate) struct Indexer {
    wq_b: Linear,
    wk: Linear,
    k_norm: LayerNorm,
    weights_proj: Linear,
    rotated: usize,
    sizes: IndexerConfig,
    /// Names in the trace: `indexer.N.scores`, `indexer.N.selected`.
    trace_names: [String; 2],
}

impl Indexer {
    pub(crate) fn new(
        dim: usize,
        attention: &LatentConfig,
        sizes: &IndexerConfig,
        index: usize,
        w: &Weights,
    ) -> Result<Self> {
        let query_dim = attention.q_lora_rank.unwrap_or(dim);
        Ok(Self {
            wq_b: projection(query_dim, sizes.num_heads * sizes.head_dim, false, &w.pp("wq_b"))?,
            wk: projection(dim, sizes.head_dim, false, &w.pp("wk"))?,
            k_norm: LayerNorm::new(sizes.head_dim, K_NORM_EPS, &w.pp("k_norm"))?,
            weights_proj: projection(dim, sizes.num_heads, false, &w.pp("weights_proj"))?,
            rotated: attention.qk_rope_head_dim,
            sizes: sizes.clone(),
            trace_names: ["scores", "selected"].map(|leaf| format!("indexer.{index}.{leaf}")),
        })
    }

    /// The additive mask `(batch, tokens, kv_len)` of the keys kept, or `None` where all visible ones are.
    ///
    /// `x (batch, tokens, dim)` and what the queries come from. Both are detached: the language-model loss does
    /// not reach the indexer, which is trained by a loss of its own on the scores in the trace.
    pub(crate) fn forward(
        &self,
        x: &Tensor,
        query_source: &Tensor,
        pass: &Pass,
        cache: Option<&mut Buffer>,
        trace: &mut Trace,
    ) -> Result<Option<Tensor>> {
        let (x, query_source) = (x.detach(), query_source.detach());
        let (b, t, s) = (pass.batch, pass.q_len, pass.kv_len());
        let keys = self.k_norm.forward(&self.wk.forward(&x)?)?.reshape((b, t, 1, self.sizes.head_dim))?;
        let mut keys = self.rotate(&keys, pass)?;
        if let Some(cache) = cache {
            keys = cache.append(&keys, pass.past)?;
        }
        let traced = self.trace_names.iter().any(|name| trace.wants(name));
        if s <= self.sizes.top_k && !traced {
            return Ok(None);
        }
        let scores = self.scores(&x, &query_source, &keys, pass)?;
        let kept = self.select(&scores, pass)?;
        if traced {
            self.record(&scores, &kept, pass, trace)?;
        }
        if s <= self.sizes.top_k {
            return Ok(None);
        }
        let mask: Vec<f32> = kept.iter().map(|&kept| if kept { 0.0 } else { MASKED }).collect();
        Ok(Some(Tensor::from_vec(mask, (b, t, s), x.device())?))
    }

    /// Rotates the first dimensions in half-split pairs, unlike the attention around it.
    fn rotate(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        let rest = self.sizes.head_dim - self.rotated;
        let first = x.narrow(3, 0, self.rotated)?.contiguous()?;
        let first = rope(&first, &pass.rotation.cos, &pass.rotation.sin, RopeLayout::HalfSplit)?;
        if rest == 0 {
            return Ok(first);
        }
        Ok(Tensor::cat(&[first, x.narrow(3, self.rotated, rest)?], D::Minus1)?)
    }

    /// `(batch, tokens, kv_len)`, of every key whether visible or not.
    fn scores(&self, x: &Tensor, query_source: &Tensor, keys: &Tensor, pass: &Pass) -> Result<Tensor> {
        let IndexerConfig { num_heads, head_dim, .. } = self.sizes;
        let (b, t, s) = (pass.batch, pass.q_len, pass.kv_len());
        let queries = self.wq_b.forward(query_source)?.reshape((b, t, num_heads, head_dim))?;
        let queries = self.rotate(&queries, pass)?.reshape((b, t * num_heads, head_dim))?;
        let weights = (self.weights_proj.forward(x)? * (num_heads as f64).powf(-0.5))?;
        let scale = (head_dim as f64).powf(-0.5);
        let row = |i: usize| -> Result<Tensor> {
            let keys = keys.get(i)?.reshape((s, head_dim))?;
            let products = (linear(&queries.get(i)?, &keys, None, Precision::F32)? * scale)?.relu()?;
            let weights = weights.get(i)?.unsqueeze(2)?;
            Ok(products.reshape((t, num_heads, s))?.broadcast_mul(&weights)?.sum(1)?)
        };
        let rows: Vec<Tensor> = (0..b).map(row).collect::<Result<_>>()?;
        Ok(Tensor::stack(&rows, 0)?)
    }

    /// For each `(batch, token, key)`, whether the key is visible and among the best.
    fn select(&self, scores: &Tensor, pass: &Pass) -> Result<Vec<bool>> {
        let s = pass.kv_len();
        let scores: Vec<f32> = scores.detach().flatten_all()?.to_vec1()?;
        let mut kept = vec![false; scores.len()];
        for (query, (scores, kept)) in scores.chunks(s).zip(kept.chunks_mut(s)).enumerate() {
            let (row, i) = (query / pass.q_len, query % pass.q_len);
            let visible: Vec<usize> = (0..s).filter(|&j| pass.sees(row, i, j)).collect();
            let candidates: Vec<f32> = visible.iter().map(|&j| scores[j]).collect();
            for best in top_k(&candidates, self.sizes.top_k) {
                kept[visible[best as usize]] = true;
            }
        }
        Ok(kept)
    }

    fn record(&self, scores: &Tensor, kept: &[bool], pass: &Pass, trace: &mut Trace) -> Result<()> {
        let (b, t, s) = (pass.batch, pass.q_len, pass.kv_len());
        let visible = |n: usize| f32::from(pass.sees(n / (t * s), n / s % t, n % s));
        let visible: Vec<f32> = (0..b * t * s).map(visible).collect();
        let visible = Tensor::from_vec(visible, (b, t, s), scores.device())?;
        let kept: Vec<u8> = kept.iter().map(|&kept| u8::from(kept)).collect();
        trace.record(&self.trace_names[0], &(scores * visible)?);
        trace.record(&self.trace_names[1], &Tensor::from_vec(kept, (b, t, s), scores.device())?);
        Ok(())
    }
}
