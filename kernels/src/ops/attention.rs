//! Scaled dot-product attention with the masks that the models need (Vaswani et al. 2017).

use candle_core::{D, DType, Result, Tensor};

use super::activation::softmax;

/// Which keys a query may see.
#[derive(Debug, Clone, Copy)]
pub enum Mask<'a> {
    /// All of them.
    None,
    /// Key `j` when `j <= i + offset`; `offset` is the number of cached keys.
    Causal {
        /// Keys before the first query.
        offset: usize,
    },
    /// Added to the scores: `(m, q_len, kv_len)`, batch row `b` uses `b % m` (m = windows of an image, batch, or 1).
    Additive(&'a Tensor),
}

/// `softmax(scale · q kᵀ + bias + mask) v`.
///
/// `q (batch, q_len, heads, dim)`, `k (batch, kv_len, kv_heads, dim)`, `v (batch, kv_len, kv_heads, v_dim)`,
/// `bias (heads, q_len, kv_len)`; `kv_heads` divides `heads`. The result is `(batch, q_len, heads, v_dim)`.
/// Differentiable in `q`, `k`, `v` and `bias`. A row that no key is visible to must not occur.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, bias: Option<&Tensor>, mask: Mask, scale: f64) -> Result<Tensor> {
    let probabilities = attention_probabilities(q, k, bias, mask, scale)?;
    let v = repeat_heads(v, q.dim(2)?)?.transpose(1, 2)?.contiguous()?;
    probabilities.matmul(&v)?.transpose(1, 2)?.contiguous()
}

/// The softmax itself, `(batch, heads, q_len, kv_len)`, for evidence and for tests. Differentiable.
pub fn attention_probabilities(q: &Tensor, k: &Tensor, bias: Option<&Tensor>, mask: Mask, scale: f64) -> Result<Tensor> {
    let k = repeat_heads(k, q.dim(2)?)?.transpose(1, 2)?.contiguous()?;
    let q = (q.transpose(1, 2)?.contiguous()? * scale)?;
    let mut scores = q.matmul(&k.transpose(D::Minus1, D::Minus2)?.contiguous()?)?;
    if let Some(bias) = bias {
        scores = scores.broadcast_add(&bias.unsqueeze(0)?)?;
    }
    let (batch, heads, q_len, kv_len) = scores.dims4()?;
    match mask {
        Mask::None => {}
        Mask::Causal { offset } => {
            let hidden = |i: usize| (0..kv_len).map(move |j| if j > i + offset { f32::NEG_INFINITY } else { 0.0 });
            let mask: Vec<f32> = (0..q_len).flat_map(hidden).collect();
            scores = scores.broadcast_add(&Tensor::from_vec(mask, (q_len, kv_len), q.device())?)?;
        }
        Mask::Additive(mask) => {
            let rows = mask.dim(0)?;
            let mask = mask.to_dtype(DType::F32)?.reshape((1, rows, 1, q_len, kv_len))?;
            scores = scores.reshape((batch / rows, rows, heads, q_len, kv_len))?.broadcast_add(&mask)?;
            scores = scores.reshape((batch, heads, q_len, kv_len))?;
        }
    }
    softmax(&scores)
}

fn repeat_heads(x: &Tensor, heads: usize) -> Result<Tensor> {
    let (b, t, kv_heads, d) = x.dims4()?;
    if kv_heads == heads {
        return Ok(x.clone());
    }
    x.unsqueeze(3)?.expand((b, t, kv_heads, heads / kv_heads, d))?.reshape((b, t, heads, d))
}
