//! Matrix products with a weight: `y = x Wᵀ + b`, alone or per group of rows (mixture of experts).

use candle_core::{Result, Tensor};

use crate::Precision;

/// `x (.., in)`, `weight (out, in)`, `bias (out)` to `(.., out)`. Differentiable in all three.
///
/// A row of the result depends on its row of `x` alone, bit for bit: batch size and thread count do not matter.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, _precision: Precision) -> Result<Tensor> {
    let mut dims = x.dims().to_vec();
    let inner = dims.pop().unwrap_or(1);
    let y = x.reshape(((), inner))?.matmul(&weight.t()?)?;
    dims.push(weight.dim(0)?);
    let y = y.reshape(dims)?;
    match bias {
        Some(bias) => y.broadcast_add(bias),
        None => Ok(y),
    }
}

/// Rows `offsets[g]..offsets[g + 1]` of `x (rows, in)` times `weight[g]` of `weight (groups, out, in)`: `(rows, out)`.
/// `offsets` has `groups + 1` ascending entries from 0 to `rows`. Differentiable in `x` and `weight`.
pub fn grouped_linear(x: &Tensor, weight: &Tensor, offsets: &[usize], precision: Precision) -> Result<Tensor> {
    let mut parts = Vec::new();
    for (group, rows) in offsets.windows(2).enumerate() {
        if rows[1] > rows[0] {
            let part = x.narrow(0, rows[0], rows[1] - rows[0])?;
            parts.push(linear(&part, &weight.get(group)?, None, precision)?);
        }
    }
    if parts.is_empty() {
        return Tensor::zeros((0, weight.dim(1)?), x.dtype(), x.device());
    }
    Tensor::cat(&parts, 0)
}
