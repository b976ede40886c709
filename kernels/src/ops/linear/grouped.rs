//! One weight per group of rows: the experts of a mixture.

use candle_core::{CpuStorage, CustomOp2, DType, Layout, Result, Shape, Tensor, bail};
use rayon::iter::{IntoParallelIterator, ParallelIterator};

use super::{backward, linear_reference, multiply, slice, values, written};
use crate::Precision;
use crate::gemm::{self, Fresh, Matrix, Operands, Output, Wanted};
use crate::ops::linear;

/// Rows `offsets[g]..offsets[g + 1]` of `x (rows, in)` times `weight[g]` of `weight (groups, out, in)`: `(rows, out)`.
/// `offsets` has `groups + 1` ascending entries from 0 to `rows`. Differentiable in `x` and `weight`.
pub fn grouped_linear(
    x: &Tensor,
    weight: &Tensor,
    offsets: &[usize],
    precision: Precision,
) -> Result<Tensor> {
    let ((rows, inner), (groups, _, weight_in)) = (x.dims2()?, weight.dims3()?);
    if inner != weight_in {
        bail!("grouped_linear: x {:?} does not fit weight {:?}", x.dims(), weight.dims());
    }
    let ascending = offsets.is_sorted() && offsets.first() == Some(&0) && offsets.last() == Some(&rows);
    if !ascending || offsets.len() != groups + 1 {
        bail!(
            "grouped_linear: {groups} groups of {rows} rows need ascending offsets from 0 to {rows}, found {offsets:?}"
        );
    }
    if !x.device().is_cpu() {
        return elsewhere(x, weight, offsets, precision);
    }
    let op = GroupedOp { precision, offsets: offsets.to_vec() };
    x.contiguous()?.apply_op2(&weight.contiguous()?, op)
}

/// [`grouped_linear`] by the device's own library: groups of one size are one product.
fn elsewhere(x: &Tensor, weight: &Tensor, offsets: &[usize], precision: Precision) -> Result<Tensor> {
    let ((rows, inner), (groups, out, _)) = (x.dims2()?, weight.dims3()?);
    let each = rows.checked_div(groups).unwrap_or(0);
    if rows > 0 && offsets.windows(2).all(|group| group[1] - group[0] == each) {
        #[cfg(feature = "cuda")]
        if precision != Precision::F32 && x.device().is_cuda() {
            return crate::cuda::grouped_product(&x.to_dtype(DType::BF16)?, &weight.to_dtype(DType::BF16)?);
        }
        let dtype = if precision == Precision::F32 { DType::F32 } else { DType::BF16 };
        let x = x.to_dtype(dtype)?.reshape((groups, each, inner))?;
        let y = x.matmul(&weight.to_dtype(dtype)?.transpose(1, 2)?)?;
        return y.to_dtype(DType::F32)?.reshape((rows, out));
    }
    let mut parts = Vec::new();
    for (group, rows) in offsets.windows(2).enumerate().filter(|(_, rows)| rows[1] > rows[0]) {
        let part = x.narrow(0, rows[0], rows[1] - rows[0])?;
        parts.push(linear::elsewhere(&part, &weight.get(group)?, None, precision)?);
    }
    if parts.is_empty() { Tensor::zeros((0, out), DType::F32, x.device()) } else { Tensor::cat(&parts, 0) }
}

/// What [`grouped_linear`] computes, from candle's primitives and in `f32`.
pub fn grouped_linear_reference(x: &Tensor, weight: &Tensor, offsets: &[usize]) -> Result<Tensor> {
    let mut parts = Vec::new();
    for (group, rows) in offsets.windows(2).enumerate() {
        if rows[1] > rows[0] {
            let part = x.narrow(0, rows[0], rows[1] - rows[0])?;
            parts.push(linear_reference(&part, &weight.get(group)?, None)?);
        }
    }
    if parts.is_empty() {
        return Tensor::zeros((0, weight.dim(1)?), x.dtype(), x.device());
    }
    Tensor::cat(&parts, 0)
}

struct GroupedOp {
    precision: Precision,
    offsets: Vec<usize>,
}

impl GroupedOp {
    fn forward(&self, x: &[f32], weight: &[f32], (groups, out, inner): (usize, usize, usize)) -> Vec<f32> {
        let rows = self.offsets[groups];
        Output::build(rows, out, |y| {
            let mut rest = Some(y);
            let parts = self
                .offsets
                .windows(2)
                .enumerate()
                .map(|(group, rows)| (group, rows[0]..rows[1], split(&mut rest, rows[1] - rows[0])));
            run_parts(parts.collect(), rows * out * inner, |(group, rows, y)| {
                let left = Matrix::rows(&x[rows.start * inner..rows.end * inner], rows.len(), inner);
                let weight = &weight[group * out * inner..(group + 1) * out * inner];
                let Some(y) = y.filter(|_| !rows.is_empty()) else {
                    return;
                };
                multiply(self.precision, left, Matrix::rows(weight, out, inner), None, y);
            });
        })
    }

    fn backward(
        &self,
        (grad, x, weight): (&[f32], &[f32], &[f32]),
        dims: (usize, usize, usize),
        wanted: Wanted<'_>,
    ) {
        let (groups, out, inner) = dims;
        let (mut dx, mut dw) = (wanted.x, wanted.weight);
        let parts = self.offsets.windows(2).enumerate().map(|(group, rows)| {
            (group, rows[0]..rows[1], split(&mut dx, rows[1] - rows[0]), split(&mut dw, out))
        });
        run_parts(parts.collect(), 2 * self.offsets[groups] * out * inner, |(group, rows, dx, dw)| {
            let operands = Operands {
                grad: &grad[rows.start * out..rows.end * out],
                x: &x[rows.start * inner..rows.end * inner],
                weight: &weight[group * out * inner..(group + 1) * out * inner],
                rows: rows.len(),
                out_features: out,
                in_features: inner,
            };
            match (rows.is_empty(), dw) {
                (true, Some(dw)) => dw.fill_zero(),
                (true, None) => {}
                (false, weight) => backward(self.precision, operands, Wanted { x: dx, weight, bias: None }),
            }
        });
    }
}

/// Takes the first `rows` rows off a result, if there is one.
fn split<'a>(rest: &mut Option<Output<'a>>, rows: usize) -> Option<Output<'a>> {
    let (first, after) = rest.take()?.split_rows(rows);
    *rest = Some(after);
    Some(first)
}

/// Runs the groups of a product one by one, or in parallel if there is much to do.
fn run_parts<T: Send>(parts: Vec<T>, multiplications: usize, run: impl Fn(T) + Sync + Send) {
    if gemm::worth_splitting(multiplications) {
        parts.into_par_iter().for_each(run);
    } else {
        parts.into_iter().for_each(run);
    }
}

impl CustomOp2 for GroupedOp {
    fn name(&self) -> &'static str {
        "grouped_linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        w: &CpuStorage,
        wl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let dims = wl.shape().dims3()?;
        let y = self.forward(slice(x, xl)?, slice(w, wl)?, dims);
        Ok((CpuStorage::F32(y), (xl.dims()[0], dims.1).into()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let dims = weight.dims3()?;
        let grad = grad.contiguous()?;
        let (grad, xs, ws) = (values(&grad)?, values(x)?, values(weight)?);
        let mut dx = x.track_op().then(|| Fresh::new(self.offsets[dims.0], dims.2));
        let mut dw = weight.track_op().then(|| Fresh::new(dims.0 * dims.1, dims.2));
        let wanted =
            Wanted { x: dx.as_mut().map(Fresh::output), weight: dw.as_mut().map(Fresh::output), bias: None };
        self.backward((&grad, &xs, &ws), dims, wanted);
        Ok((written(dx, x)?, written(dw, weight)?))
    }
}
