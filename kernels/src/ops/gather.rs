//! Moving rows: window partition, cyclic shift, padding, patch merging and unfolding are all one gather.

use candle_core::{Result, Tensor};

/// In an index, stands for a row of zeros (padding).
pub const ZERO_ROW: u32 = u32::MAX;

/// Row `m` of the result is row `index[m]` of each batch item, or zeros for [`ZERO_ROW`]:
/// `x (batch, rows, dim)` to `(batch, index.len(), dim)`. Rows may repeat or be left out. Differentiable in `x`.
pub fn gather_rows(x: &Tensor, index: &[u32]) -> Result<Tensor> {
    let (batch, rows, dim) = x.dims3()?;
    let padded = Tensor::cat(&[x, &Tensor::zeros((batch, 1, dim), x.dtype(), x.device())?], 1)?;
    let index: Vec<u32> = index.iter().map(|&i| if i == ZERO_ROW { rows as u32 } else { i }).collect();
    padded.index_select(&Tensor::new(index, x.device())?, 1)
}
