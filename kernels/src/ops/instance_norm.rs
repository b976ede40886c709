//! Instance normalisation (Ulyanov et al. 2016): each channel of each image over its positions. Differentiable in all
//! tensor arguments.
//!
//! It takes the mean brightness of a picture away in every channel, which a norm over channels cannot: what is left is
//! local contrast. No image sees another, so a result does not depend on its batch.
#![allow(clippy::inline_always)]

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};

use super::support::{Elements, Out, elements, for_each, output, tensor, written};
use crate::simd::{Kernel, LANES, Simd, dispatch};

/// Positions whose sum is taken in `f32` before it is added in `f64`.
const POSITIONS: usize = 128;

/// `(x − mean) / √(var + eps) · weight + bias` with the mean and the biased variance of each channel over the positions
/// of its image; `x (images, positions, channels)`, `weight` and `bias` `(channels)`.
pub fn instance_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    let (_, positions, channels) = x.dims3()?;
    if weight.dims() != [channels] || bias.dims() != [channels] {
        let (weight, bias) = (weight.shape(), bias.shape());
        bail!("instance_norm: weight {weight:?} and bias {bias:?}, expected [{channels}]");
    }
    if !x.device().is_cpu() {
        return instance_norm_reference(x, weight, bias, eps);
    }
    x.contiguous()?.apply_op3(
        &weight.contiguous()?,
        &bias.contiguous()?,
        InstanceNorm { positions, channels, eps },
    )
}

/// [`instance_norm`] of candle primitives.
pub fn instance_norm_reference(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    let centred = x.broadcast_sub(&x.mean_keepdim(1)?)?;
    let variance = centred.sqr()?.mean_keepdim(1)?;
    centred.broadcast_div(&(variance + eps)?.sqrt()?)?.broadcast_mul(weight)?.broadcast_add(bias)
}

#[derive(Clone, Copy)]
struct InstanceNorm {
    positions: usize,
    channels: usize,
    eps: f64,
}

/// What sixteen channels of an image are summed over positions for; lanes past the last channel stay 0.
#[derive(Clone, Copy)]
enum Sum {
    /// `x`.
    Values,
    /// `(x − mean)²`.
    Squares,
    /// `∂y`.
    Gradients,
    /// `∂y (x − mean) r`.
    Products,
}

/// Some channels of one image.
struct Block<'a> {
    norm: InstanceNorm,
    x: &'a [f32],
    /// The first channel.
    at: usize,
}

impl Block<'_> {
    fn width(&self) -> usize {
        (self.norm.channels - self.at).min(LANES)
    }

    /// Sum over the positions of this image.
    #[inline(always)]
    fn sum<S: Simd>(&self, s: S, of: Sum, grad: &[f32], mean: S::V, scale: S::V) -> [f64; LANES] {
        let (channels, width) = (self.norm.channels, self.width());
        let mut total = [0.0f64; LANES];
        for first in (0..self.norm.positions).step_by(POSITIONS) {
            let mut part = s.splat(0.0);
            for position in first..(first + POSITIONS).min(self.norm.positions) {
                let at = position * channels + self.at;
                // SAFETY: `x` and, where it is read, `grad` hold `positions × channels` elements.
                unsafe {
                    let x = || s.load(self.x.as_ptr().add(at), width);
                    let dy = || s.load(grad.as_ptr().add(at), width);
                    part = match of {
                        Sum::Values => s.add(part, x()),
                        Sum::Squares => {
                            let centred = s.sub(x(), mean);
                            s.fma(centred, centred, part)
                        }
                        Sum::Gradients => s.add(part, dy()),
                        Sum::Products => s.fma(dy(), s.mul(s.sub(x(), mean), scale), part),
                    };
                }
            }
            let part = s.to_array(part);
            for (total, part) in total.iter_mut().zip(part) {
                *total += f64::from(part);
            }
        }
        total
    }

    /// Mean and `1 / √(var + eps)` of each channel.
    #[inline(always)]
    fn statistics<S: Simd>(&self, s: S) -> (S::V, S::V) {
        let count = self.norm.positions as f64;
        let none = s.splat(0.0);
        let mean = s.with_lanes(self.sum(s, Sum::Values, &[], none, none).map(|sum| (sum / count) as f32));
        let squares = self.sum(s, Sum::Squares, &[], mean, none);
        let scale = squares.map(|sum| (1.0 / (sum / count + self.norm.eps).sqrt()) as f32);
        (mean, s.with_lanes(scale))
    }
}

/// Writes the output of one image.
struct Forward<'a> {
    norm: InstanceNorm,
    x: &'a [f32],
    weight: &'a [f32],
    bias: &'a [f32],
    y: *mut f32,
}

impl Kernel for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let channels = self.norm.channels;
        for at in (0..channels).step_by(LANES) {
            let block = Block { norm: self.norm, x: self.x, at };
            let width = block.width();
            let (mean, scale) = block.statistics(s);
            // SAFETY: parameters have `channels` elements; the image and its output `positions × channels`.
            unsafe {
                let scale = s.mul(scale, s.load(self.weight.as_ptr().add(at), width));
                let bias = s.load(self.bias.as_ptr().add(at), width);
                for position in 0..self.norm.positions {
                    let at = position * channels + at;
                    let centred = s.sub(s.load(self.x.as_ptr().add(at), width), mean);
                    s.store(self.y.add(at), s.fma(centred, scale, bias), width);
                }
            }
        }
    }
}

/// Writes `∂x = r w (∂y − mean(∂y) − n mean(∂y n))` of one image, `n = (x − mean) r`, and its parts of the parameters'
/// gradients, `Σ ∂y n` and `Σ ∂y`.
struct Backward<'a> {
    norm: InstanceNorm,
    x: &'a [f32],
    weight: &'a [f32],
    grad: &'a [f32],
    dx: *mut f32,
    /// `(weight, bias)` of this image alone.
    sums: &'a mut [f32],
}

impl Kernel for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (channels, count) = (self.norm.channels, self.norm.positions as f64);
        let (dw, db) = self.sums.split_at_mut(channels);
        for at in (0..channels).step_by(LANES) {
            let block = Block { norm: self.norm, x: self.x, at };
            let width = block.width();
            let (mean, scale) = block.statistics(s);
            let gradients = block.sum(s, Sum::Gradients, self.grad, mean, scale);
            let products = block.sum(s, Sum::Products, self.grad, mean, scale);
            for lane in 0..width {
                dw[at + lane] = products[lane] as f32;
                db[at + lane] = gradients[lane] as f32;
            }
            let shift = s.with_lanes(gradients.map(|sum| (sum / count) as f32));
            let pull = s.with_lanes(products.map(|sum| (sum / count) as f32));
            // SAFETY: as in the forward pass.
            unsafe {
                let gain = s.mul(scale, s.load(self.weight.as_ptr().add(at), width));
                for position in 0..self.norm.positions {
                    let at = position * channels + at;
                    let normal = s.mul(s.sub(s.load(self.x.as_ptr().add(at), width), mean), scale);
                    let dy = s.sub(s.load(self.grad.as_ptr().add(at), width), shift);
                    s.store(self.dx.add(at), s.mul(gain, s.sub(dy, s.mul(normal, pull))), width);
                }
            }
        }
    }
}

impl InstanceNorm {
    fn size(self) -> usize {
        self.positions * self.channels
    }

    fn images(self, x: &[f32]) -> usize {
        x.len() / self.size().max(1)
    }
}

impl CustomOp3 for InstanceNorm {
    fn name(&self) -> &'static str {
        "instance_norm"
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
        let (x, weight, bias) = (elements(x, lx)?, elements(weight, lw)?, elements(bias, lb)?);
        let (norm, size) = (*self, self.size());
        let fill = |y: Out| {
            for_each(norm.images(x), x.len() * 4, |image| {
                // SAFETY: each image has its own part.
                let y = unsafe { y.part(image * size, size) };
                dispatch(Forward { norm, x: &x[image * size..][..size], weight, bias, y });
            });
        };
        // SAFETY: the images cover the output.
        Ok(output(unsafe { written(x.len(), fill) }, lx.shape()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _bias: &Tensor,
        _y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let (values, w, grad) = (Elements::of(x)?, Elements::of(weight)?, Elements::of(&grad)?);
        let (values, w, grad): (&[f32], &[f32], &[f32]) = (&values, &w, &grad);
        let (norm, size, width) = (*self, self.size(), 2 * self.channels);
        let images = norm.images(values);
        let mut sums = vec![0.0; images.max(1) * width];
        let parts = Out::new(&mut sums);
        let fill = |dx: Out| {
            for_each(images, values.len() * 8, |image| {
                // SAFETY: each image has its own part of the gradient and its own sums.
                let (dx, sums) = unsafe {
                    let sums = std::slice::from_raw_parts_mut(parts.part(image * width, width), width);
                    (dx.part(image * size, size), sums)
                };
                let (x, grad) = (&values[image * size..][..size], &grad[image * size..][..size]);
                dispatch(Backward { norm, x, weight: w, grad, dx, sums });
            });
        };
        // SAFETY: the images cover the output.
        let dx = unsafe { written(values.len(), fill) };
        let (first, rest) = sums.split_at_mut(width);
        for part in rest.chunks_exact(width.max(1)) {
            first.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
        }
        let (dw, db) = first.split_at(self.channels);
        let parameter = |gradient: &[f32]| tensor(gradient.to_vec(), self.channels, weight).map(Some);
        Ok((Some(tensor(dx, x.shape(), x)?), parameter(dw)?, parameter(db)?))
    }
}
