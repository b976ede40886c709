//! Normalisations over the last dimension. Differentiable in all tensor arguments.

use candle_core::{D, Result, Tensor};

/// `(x − mean) / √(var + eps) · weight + bias`, biased variance; `x (.., dim)`.
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
    centred.broadcast_div(&(variance + eps)?.sqrt()?)?.broadcast_mul(weight)?.broadcast_add(bias)
}

/// `x / √(mean(x²) + eps) · weight`; `x (.., dim)`.
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    let mean_square = x.sqr()?.mean_keepdim(D::Minus1)?;
    x.broadcast_div(&(mean_square + eps)?.sqrt()?)?.broadcast_mul(weight)
}

/// `x / max(‖x‖₂, eps)` as `torch.nn.functional.normalize`; `x (.., dim)`.
pub fn l2_normalize(x: &Tensor, eps: f64) -> Result<Tensor> {
    x.broadcast_div(&x.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?.clamp(eps, f64::INFINITY)?)
}
