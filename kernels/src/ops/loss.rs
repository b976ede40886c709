//! Training losses.
#![allow(clippy::inline_always)]

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, D, Layout, Result, Shape, Tensor, bail};

use super::activation::{exp_row, scale_row};
use super::support::{Elements, Out, elements, for_each, output, tensor, written};
use crate::simd::math::exp;
use crate::simd::{Kernel, LANES, Simd, dispatch};

/// A target that does not count.
pub const IGNORE: u32 = u32::MAX;

/// Mean over the counted rows of `−log softmax(logits)[target]`; `logits (rows, vocab)`, `targets` one id a row or
/// [`IGNORE`]. A scalar, 0 when nothing counts. Differentiable in `logits`.
pub fn cross_entropy(logits: &Tensor, targets: &[u32]) -> Result<Tensor> {
    let (rows, vocab) = logits.dims2()?;
    if targets.len() != rows {
        bail!("cross_entropy: {} targets for {rows} rows of logits", targets.len());
    }
    if let Some(target) = targets.iter().find(|&&t| t != IGNORE && t as usize >= vocab) {
        bail!("cross_entropy: target {target} in a vocabulary of {vocab}");
    }
    logits.contiguous()?.apply_op1(CrossEntropy { targets: targets.into() })
}

/// [`cross_entropy`] of candle primitives.
pub fn cross_entropy_reference(logits: &Tensor, targets: &[u32]) -> Result<Tensor> {
    let max = logits.max_keepdim(D::Minus1)?.detach();
    let shifted = logits.broadcast_sub(&max)?;
    let log_sum = shifted.exp()?.sum_keepdim(D::Minus1)?.log()?;
    let ids: Vec<u32> = targets.iter().map(|&t| if t == IGNORE { 0 } else { t }).collect();
    let counted: Vec<f32> = targets.iter().map(|&t| if t == IGNORE { 0.0 } else { 1.0 }).collect();
    let count = counted.iter().sum::<f32>().max(1.0);
    let ids = Tensor::from_vec(ids, (targets.len(), 1), logits.device())?;
    let log_probability = (shifted.gather(&ids, 1)? - log_sum)?;
    let counted = Tensor::from_vec(counted, (targets.len(), 1), logits.device())?.to_dtype(logits.dtype())?;
    (log_probability * counted)?.sum_all()? * (-1.0 / f64::from(count))
}

struct CrossEntropy {
    targets: Arc<[u32]>,
}

/// `(greatest, Σ exp(x − greatest))` of a row.
struct LogSumExp<'a>(&'a [f32]);

impl Kernel for LogSumExp<'_> {
    type Output = (f32, f32);

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> (f32, f32) {
        let (x, len) = (self.0.as_ptr(), self.0.len());
        let lowest = s.splat(f32::NEG_INFINITY);
        let mut greatest = lowest;
        for at in (0..len).step_by(LANES) {
            // SAFETY: `at < len`.
            let row = unsafe { s.load(x.add(at), len - at) };
            greatest = s.max(greatest, s.keep(row, len - at, lowest));
        }
        let greatest = s.greatest(greatest);
        let mut total = s.splat(0.0);
        for at in (0..len).step_by(LANES) {
            // SAFETY: `at < len`.
            let shifted = unsafe { s.sub(s.load(x.add(at), len - at), s.splat(greatest)) };
            total = s.add(total, s.keep(exp(s, shifted), len - at, s.splat(0.0)));
        }
        (greatest, s.sum(total))
    }
}

/// `dx = factor · softmax(x)`.
struct ScaledSoftmax<'a> {
    x: &'a [f32],
    dx: *mut f32,
    factor: f32,
}

impl Kernel for ScaledSoftmax<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        // SAFETY: both rows have the length of `x`.
        unsafe {
            let total = exp_row(s, self.x.as_ptr(), self.dx, self.x.len());
            scale_row(s, self.dx, self.x.len(), self.factor / total);
        }
    }
}

impl CrossEntropy {
    /// Rows that count, at least one.
    fn count(&self) -> f64 {
        self.targets.iter().filter(|&&t| t != IGNORE).count().max(1) as f64
    }

    /// The mean loss, summed in `f64` in the order of rows.
    fn loss(&self, logits: &[f32], vocab: usize) -> f64 {
        let rows = self.targets.len();
        let fill = |out: Out| {
            for_each(rows, logits.len() * 8, |row| {
                let (greatest, total) = match self.targets[row] {
                    IGNORE => (0.0, 1.0),
                    _ => dispatch(LogSumExp(&logits[row * vocab..(row + 1) * vocab])),
                };
                // SAFETY: a row has its own two elements.
                unsafe {
                    let to = out.part(row * 2, 2);
                    *to = greatest;
                    *to.add(1) = total;
                }
            });
        };
        // SAFETY: every row's two elements are written.
        let statistics = unsafe { written(rows * 2, fill) };
        let losses = self.targets.iter().zip(statistics.chunks_exact(2)).enumerate();
        let losses =
            losses.filter(|(_, (target, _))| **target != IGNORE).map(|(row, (&target, statistics))| {
                let logit = f64::from(logits[row * vocab + target as usize]);
                f64::from(statistics[1]).ln() + f64::from(statistics[0]) - logit
            });
        losses.sum::<f64>() / self.count()
    }

    /// `grad / count · (softmax − one-hot)` of each counted row, zeros in the others.
    fn gradient(&self, logits: &[f32], vocab: usize, grad: f32) -> Vec<f32> {
        let factor = (f64::from(grad) / self.count()) as f32;
        let fill = |out: Out| {
            for_each(self.targets.len(), logits.len() * 8, |row| {
                // SAFETY: a row belongs to one task.
                unsafe {
                    let dx = out.part(row * vocab, vocab);
                    if self.targets[row] == IGNORE {
                        std::ptr::write_bytes(dx, 0, vocab);
                    } else {
                        dispatch(ScaledSoftmax { x: &logits[row * vocab..(row + 1) * vocab], dx, factor });
                        *dx.add(self.targets[row] as usize) -= factor;
                    }
                }
            });
        };
        // SAFETY: the rows cover the gradient.
        unsafe { written(logits.len(), fill) }
    }
}

impl CustomOp1 for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross_entropy"
    }

    fn cpu_fwd(&self, logits: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let loss = self.loss(elements(logits, layout)?, layout.dims()[1]);
        Ok(output(vec![loss as f32], ()))
    }

    fn bwd(&self, logits: &Tensor, _loss: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let grad = grad.to_scalar::<f32>()?;
        let dx = self.gradient(&Elements::of(logits)?, logits.dim(1)?, grad);
        tensor(dx, logits.shape(), logits).map(Some)
    }
}
