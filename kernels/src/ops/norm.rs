//! Normalisations over the last dimension. Differentiable in all tensor arguments.
//!
//! One pass each way: a row stays in the first-level cache while its statistics are taken and used. The backward pass
//! takes them again instead of keeping them. Gradients of weights are summed over fixed chunks of rows, then over chunks
//! in order, so that they do not depend on the number of threads.
#![allow(clippy::inline_always)]

use std::ops::Range;

use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, D, Layout, Result, Shape, Tensor, bail};

use super::support::{Elements, Out, elements, for_chunks, output, tensor, written};
use crate::gemm::RowTiles;
use crate::simd::{Kernel, LANES, Simd, dispatch};

/// Rows whose weight gradients are summed before the sums are.
const ROWS: usize = 128;

/// `(x − mean) / √(var + eps) · weight + bias`, biased variance; `x (.., dim)`.
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    check("layer_norm", x, &[weight, bias])?;
    let norm = Norm { centre: true, eps: eps as f32 };
    x.contiguous()?.apply_op3(&weight.contiguous()?, &bias.contiguous()?, norm)
}

/// `x / √(mean(x²) + eps) · weight`; `x (.., dim)`.
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    check("rms_norm", x, &[weight])?;
    x.contiguous()?.apply_op2(&weight.contiguous()?, Norm { centre: false, eps: eps as f32 })
}

/// `x / max(‖x‖₂, eps)` as `torch.nn.functional.normalize`; `x (.., dim)`.
pub fn l2_normalize(x: &Tensor, eps: f64) -> Result<Tensor> {
    check("l2_normalize", x, &[])?;
    if !x.device().is_cpu() {
        return l2_normalize_reference(x, eps);
    }
    x.contiguous()?.apply_op1(L2Normalize { eps: eps as f32 })
}

/// [`layer_norm`] of candle primitives.
pub fn layer_norm_reference(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
    centred.broadcast_div(&(variance + eps)?.sqrt()?)?.broadcast_mul(weight)?.broadcast_add(bias)
}

/// [`rms_norm`] of candle primitives.
pub fn rms_norm_reference(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    let mean_square = x.sqr()?.mean_keepdim(D::Minus1)?;
    x.broadcast_div(&(mean_square + eps)?.sqrt()?)?.broadcast_mul(weight)
}

/// [`l2_normalize`] of candle primitives.
pub fn l2_normalize_reference(x: &Tensor, eps: f64) -> Result<Tensor> {
    x.broadcast_div(&x.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?.clamp(eps, f64::INFINITY)?)
}

fn check(name: &str, x: &Tensor, parameters: &[&Tensor]) -> Result<()> {
    let dim = x.dim(D::Minus1)?;
    for parameter in parameters {
        if parameter.dims() != [dim] {
            bail!(
                "{name}: a parameter has shape {:?}, the rows of {:?} need [{dim}]",
                parameter.shape(),
                x.shape()
            );
        }
    }
    Ok(())
}

/// Layer norm (`centre`) and RMS norm: `(x − c) · r · weight + bias`, `c` the mean or 0, `r = 1 / √(mean((x − c)²) + eps)`.
struct Norm {
    centre: bool,
    eps: f32,
}

/// `(c, r)` of a row.
#[inline(always)]
unsafe fn statistics<S: Simd>(s: S, norm: &Norm, x: *const f32, dim: usize) -> (f32, f32) {
    let mut centre = 0.0;
    if norm.centre {
        let mut total = s.splat(0.0);
        for at in (0..dim).step_by(LANES) {
            // SAFETY: a row has `dim` elements.
            total = s.add(total, unsafe { s.load(x.add(at), dim - at) });
        }
        centre = s.sum(total) / dim as f32;
    }
    let mut squares = s.splat(0.0);
    for at in (0..dim).step_by(LANES) {
        // SAFETY: as above.
        let centred = unsafe { s.sub(s.load(x.add(at), dim - at), s.splat(centre)) };
        let centred = s.keep(centred, dim - at, s.splat(0.0));
        squares = s.fma(centred, centred, squares);
    }
    (centre, 1.0 / (s.sum(squares) / dim as f32 + norm.eps).sqrt())
}

/// A norm whose rows become the tiles of the next product.
#[derive(Clone, Copy)]
pub(crate) struct RowNorm<'a> {
    centre: bool,
    eps: f32,
    weight: &'a [f32],
    bias: Option<&'a [f32]>,
}

impl<'a> RowNorm<'a> {
    /// A layer norm where there is a `bias`, else an RMS norm.
    pub(crate) fn new(weight: &'a [f32], bias: Option<&'a [f32]>, eps: f64) -> Self {
        assert!(bias.is_none_or(|bias| bias.len() == weight.len()));
        Self { centre: bias.is_some(), eps: eps as f32, weight, bias }
    }

    /// Elements of a row.
    pub(crate) fn dim(&self) -> usize {
        self.weight.len()
    }

    /// `(c, r)` of a row, see [`Norm`].
    ///
    /// # Safety
    /// `x` has `dim` elements.
    #[inline(always)]
    pub(crate) unsafe fn statistics<S: Simd>(&self, s: S, x: *const f32) -> (f32, f32) {
        let norm = Norm { centre: self.centre, eps: self.eps };
        // SAFETY: the caller's promise.
        unsafe { statistics(s, &norm, x, self.dim()) }
    }

    /// Sixteen elements of the normalised row, zeros beyond its end.
    ///
    /// # Safety
    /// `x` has `dim` elements and `at < dim`.
    #[inline(always)]
    pub(crate) unsafe fn lanes<S: Simd>(
        &self,
        s: S,
        x: *const f32,
        at: usize,
        (centre, scale): (f32, f32),
    ) -> S::V {
        let n = self.dim() - at;
        // SAFETY: the caller's promise.
        unsafe {
            let normal = s.mul(s.sub(s.load(x.add(at), n), s.splat(centre)), s.splat(scale));
            let weight = s.load(self.weight.as_ptr().add(at), n);
            match self.bias {
                Some(bias) => s.fma(normal, weight, s.load(bias.as_ptr().add(at), n)),
                None => s.mul(normal, weight),
            }
        }
    }

    /// The row `x`, normalised, to `to`.
    #[inline(always)]
    pub(crate) fn write_row<S: Simd>(&self, s: S, x: &[f32], to: &mut [f32]) {
        let dim = self.dim();
        assert!(x.len() == dim && to.len() == dim);
        // SAFETY: both rows have so many elements.
        unsafe {
            let statistics = self.statistics(s, x.as_ptr());
            for at in (0..dim).step_by(LANES) {
                let lanes = self.lanes(s, x.as_ptr(), at, statistics);
                s.store(to.as_mut_ptr().add(at), lanes, dim - at);
            }
        }
    }

    /// Writes row `row` of `tiles`: the row at `x`, normalised and rounded, zeros up to the whole step.
    ///
    /// # Safety
    /// `x` has `dim` elements; the row belongs to the caller.
    #[inline(always)]
    pub(crate) unsafe fn write<S: Simd>(&self, s: S, x: *const f32, tiles: RowTiles, row: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            let statistics = self.statistics(s, x);
            for at in (0..self.dim().next_multiple_of(2 * LANES)).step_by(LANES) {
                let lanes = if at < self.dim() { self.lanes(s, x, at, statistics) } else { s.splat(0.0) };
                s.store_bf16(tiles.element(row, at), lanes, LANES);
            }
        }
    }
}

/// Rows of the output.
struct Forward<'a> {
    norm: &'a Norm,
    x: &'a [f32],
    weight: &'a [f32],
    bias: Option<&'a [f32]>,
    y: Out,
    rows: Range<usize>,
}

impl Kernel for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let dim = self.weight.len();
        let x = &self.x[self.rows.start * dim..self.rows.end * dim];
        // SAFETY: a row belongs to one task; all rows and parameters have `dim` elements.
        unsafe {
            let y = self.y.part(self.rows.start * dim, x.len());
            for row in 0..self.rows.len() {
                let (x, y) = (x.as_ptr().add(row * dim), y.add(row * dim));
                let (centre, scale) = statistics(s, self.norm, x, dim);
                for at in (0..dim).step_by(LANES) {
                    let n = dim - at;
                    let normal = s.mul(s.sub(s.load(x.add(at), n), s.splat(centre)), s.splat(scale));
                    let weight = s.load(self.weight.as_ptr().add(at), n);
                    let result = match self.bias {
                        Some(bias) => s.fma(normal, weight, s.load(bias.as_ptr().add(at), n)),
                        None => s.mul(normal, weight),
                    };
                    s.store(y.add(at), result, n);
                }
            }
        }
    }
}

/// `∂x = r (g − mean(g) − n mean(g n))` with `g = ∂y weight` and `n = (x − c) r`; mean(g) only where there is a centre.
/// Adds `∂y n` to the weight's gradient and, where there is a centre, `∂y` to the bias's.
struct Backward<'a> {
    norm: &'a Norm,
    x: &'a [f32],
    weight: &'a [f32],
    grad: &'a [f32],
    dx: Out,
    /// `(weight, bias)`, of this chunk of rows alone.
    sums: &'a mut [f32],
    rows: Range<usize>,
}

impl Kernel for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let dim = self.weight.len();
        let range = self.rows.start * dim..self.rows.end * dim;
        let (x, grad) = (&self.x[range.clone()], &self.grad[range.clone()]);
        let (weight, (dw, db)) = (self.weight.as_ptr(), self.sums.split_at_mut(dim));
        assert!(!self.norm.centre || db.len() == dim);
        // SAFETY: a row belongs to one task; all rows and parameters have `dim` elements.
        unsafe {
            let dx = self.dx.part(range.start, range.len());
            for row in 0..self.rows.len() {
                let (x, grad, dx) =
                    (x.as_ptr().add(row * dim), grad.as_ptr().add(row * dim), dx.add(row * dim));
                let (centre, scale) = statistics(s, self.norm, x, dim);
                let (mut total, mut dot) = (s.splat(0.0), s.splat(0.0));
                for at in (0..dim).step_by(LANES) {
                    let n = dim - at;
                    let dy = s.load(grad.add(at), n);
                    let normal = s.mul(s.sub(s.load(x.add(at), n), s.splat(centre)), s.splat(scale));
                    let g = s.mul(dy, s.load(weight.add(at), n));
                    dot = s.fma(g, normal, dot);
                    s.store(dw.as_mut_ptr().add(at), s.fma(dy, normal, s.load(dw.as_ptr().add(at), n)), n);
                    if self.norm.centre {
                        total = s.add(total, g);
                        s.store(db.as_mut_ptr().add(at), s.add(dy, s.load(db.as_ptr().add(at), n)), n);
                    }
                }
                let (total, dot) = (s.splat(s.sum(total) / dim as f32), s.splat(s.sum(dot) / dim as f32));
                for at in (0..dim).step_by(LANES) {
                    let n = dim - at;
                    let normal = s.mul(s.sub(s.load(x.add(at), n), s.splat(centre)), s.splat(scale));
                    let g = s.sub(s.mul(s.load(grad.add(at), n), s.load(weight.add(at), n)), total);
                    s.store(dx.add(at), s.mul(s.splat(scale), s.sub(g, s.mul(normal, dot))), n);
                }
            }
        }
    }
}

impl Norm {
    fn forward(&self, x: &[f32], weight: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
        let rows = x.len() / weight.len().max(1);
        let fill = |y: Out| {
            for_chunks(rows, ROWS, x.len() * 4, |_, rows| {
                dispatch(Forward { norm: self, x, weight, bias, y, rows });
            });
        };
        // SAFETY: the rows cover the output.
        unsafe { written(x.len(), fill) }
    }

    /// Gradients of `x`, the weight and the bias (zeros where there is no centre).
    fn backward(&self, x: &Tensor, weight: &Tensor, grad: &Tensor) -> Result<[Tensor; 3]> {
        let grad = grad.contiguous()?;
        let (elements, w, grad) = (Elements::of(x)?, Elements::of(weight)?, Elements::of(&grad)?);
        let (values, w, grad): (&[f32], &[f32], &[f32]) = (&elements, &w, &grad);
        let dim = w.len();
        let rows = values.len() / dim.max(1);
        let width = if self.centre { 2 * dim } else { dim };
        let mut sums = vec![0.0; rows.div_ceil(ROWS).max(1) * width];
        let parts = Out::new(&mut sums);
        let fill = |dx: Out| {
            for_chunks(rows, ROWS, values.len() * 8, |chunk, rows| {
                // SAFETY: each chunk has its own sums.
                let sums = unsafe { std::slice::from_raw_parts_mut(parts.part(chunk * width, width), width) };
                dispatch(Backward { norm: self, x: values, weight: w, grad, dx, sums, rows });
            });
        };
        // SAFETY: the rows cover the output.
        let dx = unsafe { written(values.len(), fill) };
        let (first, rest) = sums.split_at_mut(width);
        for part in rest.chunks_exact(width.max(1)) {
            first.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
        }
        let (dw, db) = first.split_at(dim);
        let db = if self.centre { db.to_vec() } else { Vec::new() };
        let db_len = db.len();
        Ok([tensor(dx, x.shape(), x)?, tensor(dw.to_vec(), dim, weight)?, tensor(db, db_len, weight)?])
    }
}

impl CustomOp3 for Norm {
    fn name(&self) -> &'static str {
        "layer_norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        weight: &CpuStorage,
        lw: &Layout,
        bias: &CpuStorage,
        lb: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let y = self.forward(elements(x, lx)?, elements(weight, lw)?, Some(elements(bias, lb)?));
        Ok(output(y, lx.shape()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        x: &candle_core::CudaStorage,
        lx: &Layout,
        weight: &candle_core::CudaStorage,
        lw: &Layout,
        bias: &candle_core::CudaStorage,
        lb: &Layout,
    ) -> Result<(candle_core::CudaStorage, Shape)> {
        crate::cuda::launch_norm((x, lx), (weight, lw), Some((bias, lb)), self.eps)
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _bias: &Tensor,
        _y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [dx, dw, db] = self.backward(x, weight, grad)?;
        Ok((Some(dx), Some(dw), Some(db)))
    }
}

impl CustomOp2 for Norm {
    fn name(&self) -> &'static str {
        "rms_norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        weight: &CpuStorage,
        lw: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        Ok(output(self.forward(elements(x, lx)?, elements(weight, lw)?, None), lx.shape()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        x: &candle_core::CudaStorage,
        lx: &Layout,
        weight: &candle_core::CudaStorage,
        lw: &Layout,
    ) -> Result<(candle_core::CudaStorage, Shape)> {
        crate::cuda::launch_norm((x, lx), (weight, lw), None, self.eps)
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let [dx, dw, _] = self.backward(x, weight, grad)?;
        Ok((Some(dx), Some(dw)))
    }
}

struct L2Normalize {
    eps: f32,
}

/// Rows of the output, or, with `grad`, of the gradient `(g − y (y · g)) / ‖x‖` (`g / eps` where `‖x‖ < eps`).
struct L2Rows<'a> {
    eps: f32,
    dim: usize,
    x: &'a [f32],
    grad: Option<&'a [f32]>,
    result: Out,
    rows: Range<usize>,
}

impl Kernel for L2Rows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (dim, first) = (self.dim, self.rows.start * self.dim);
        let x = &self.x[first..self.rows.end * dim];
        let grad = self.grad.map(|grad| &grad[first..self.rows.end * dim]);
        // SAFETY: a row belongs to one task and has `dim` elements.
        unsafe {
            let result = self.result.part(first, x.len());
            for row in 0..self.rows.len() {
                let (x, result) = (x.as_ptr().add(row * dim), result.add(row * dim));
                // With the gradient of the output as `g`, all is `g · scale − x · shift`.
                let norm = row_dot(s, x, x, dim).sqrt();
                let scale = 1.0 / norm.max(self.eps);
                let g = grad.map_or(x, |grad| grad.as_ptr().add(row * dim));
                let pulls = grad.is_some() && norm > self.eps;
                let shift = if pulls { row_dot(s, x, g, dim) * scale * scale * scale } else { 0.0 };
                for at in (0..dim).step_by(LANES) {
                    let n = dim - at;
                    let scaled = s.mul(s.load(g.add(at), n), s.splat(scale));
                    s.store(result.add(at), s.fma(s.load(x.add(at), n), s.splat(-shift), scaled), n);
                }
            }
        }
    }
}

/// The dot product of two rows.
#[inline(always)]
unsafe fn row_dot<S: Simd>(s: S, a: *const f32, b: *const f32, dim: usize) -> f32 {
    let mut dot = s.splat(0.0);
    for at in (0..dim).step_by(LANES) {
        // SAFETY: both have `dim` elements.
        dot = unsafe { s.fma(s.load(a.add(at), dim - at), s.load(b.add(at), dim - at), dot) };
    }
    s.sum(dot)
}

impl L2Normalize {
    fn rows(&self, x: &[f32], grad: Option<&[f32]>, dim: usize) -> Vec<f32> {
        let eps = self.eps;
        let fill = |result: Out| {
            for_chunks(x.len() / dim.max(1), ROWS, x.len() * 4, |_, rows| {
                dispatch(L2Rows { eps, dim, x, grad, result, rows });
            });
        };
        // SAFETY: the rows cover the output.
        unsafe { written(x.len(), fill) }
    }
}

impl CustomOp1 for L2Normalize {
    fn name(&self) -> &'static str {
        "l2_normalize"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let dim = layout.dims().last().copied().unwrap_or(1);
        Ok(output(self.rows(elements(x, layout)?, None, dim), layout.shape()))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let grad = grad.contiguous()?;
        let dx = self.rows(&Elements::of(x)?, Some(&Elements::of(&grad)?), x.dim(D::Minus1)?);
        tensor(dx, x.shape(), x).map(Some)
    }
}
