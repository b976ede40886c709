//! Training losses.

use candle_core::{D, DType, Result, Tensor};

/// A target that does not count.
pub const IGNORE: u32 = u32::MAX;

/// Mean over the counted rows of `−log softmax(logits)[target]`; `logits (rows, vocab)`, `targets` one id a row or
/// [`IGNORE`]. A scalar, 0 when nothing counts. Differentiable in `logits`.
pub fn cross_entropy(logits: &Tensor, targets: &[u32]) -> Result<Tensor> {
    let max = logits.max_keepdim(D::Minus1)?.detach();
    let shifted = logits.broadcast_sub(&max)?;
    let log_sum = shifted.exp()?.sum_keepdim(D::Minus1)?.log()?;
    let ids: Vec<u32> = targets.iter().map(|&t| if t == IGNORE { 0 } else { t }).collect();
    let counted: Vec<f32> = targets.iter().map(|&t| if t == IGNORE { 0.0 } else { 1.0 }).collect();
    let count = counted.iter().sum::<f32>().max(1.0);
    let ids = Tensor::from_vec(ids, (targets.len(), 1), logits.device())?;
    let log_probability = (shifted.gather(&ids, 1)? - log_sum)?;
    let counted = Tensor::from_vec(counted, (targets.len(), 1), logits.device())?.to_dtype(DType::F32)?;
    (log_probability * counted)?.sum_all()? * (-1.0 / f64::from(count))
}
