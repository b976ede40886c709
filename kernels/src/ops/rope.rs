//! Rotary position embedding (Su et al. 2021), applied to both pair layouts in use.

use candle_core::{D, Result, Tensor};

/// Which elements of a head form a rotated pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RopeLayout {
    /// `(x_i, x_{i + d/2})`: llama, DeepSeekMoE, the V3.2 indexer.
    HalfSplit,
    /// `(x_2i, x_{2i+1})`: DeepSeek MLA.
    Interleaved,
}

/// Rotates `x (batch, tokens, heads, dim)` by `cos`, `sin` `(batch or 1, tokens, dim / 2)`. Differentiable in `x`.
pub fn rope(x: &Tensor, cos: &Tensor, sin: &Tensor, layout: RopeLayout) -> Result<Tensor> {
    let (b, t, h, d) = x.dims4()?;
    let (cos, sin) = (cos.unsqueeze(2)?, sin.unsqueeze(2)?);
    let (first, second) = match layout {
        RopeLayout::HalfSplit => (x.narrow(3, 0, d / 2)?, x.narrow(3, d / 2, d / 2)?),
        RopeLayout::Interleaved => {
            let pairs = x.reshape((b, t, h, d / 2, 2))?;
            (pairs.narrow(4, 0, 1)?.squeeze(4)?, pairs.narrow(4, 1, 1)?.squeeze(4)?)
        }
    };
    let rotated_first = (first.broadcast_mul(&cos)? - second.broadcast_mul(&sin)?)?;
    let rotated_second = (second.broadcast_mul(&cos)? + first.broadcast_mul(&sin)?)?;
    match layout {
        RopeLayout::HalfSplit => Tensor::cat(&[rotated_first, rotated_second], D::Minus1),
        RopeLayout::Interleaved => Tensor::stack(&[rotated_first, rotated_second], D::Minus1)?.reshape((b, t, h, d)),
    }
}
