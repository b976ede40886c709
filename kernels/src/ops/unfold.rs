//! Convolution windows as rows, so that a convolution is one matrix product (im2col).

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};

use super::gather::{ZERO_ROW, gather_rows};
use super::support::{Out, elements, for_each, output, written};

/// Every `kernel × kernel` window of `x (batch, height, width, channels)`, taken each `stride` pixels after `padding`
/// zeros were put around: `(batch, out_height · out_width, kernel · kernel · channels)`, the last dimension ordered
/// (row, column, channel), `out = (size + 2 · padding − kernel) / stride + 1`. Differentiable in `x`.
///
/// # Errors
/// When `kernel` or `stride` is 0, or a window does not fit in the padded image.
pub fn unfold(x: &Tensor, kernel: usize, stride: usize, padding: usize) -> Result<Tensor> {
    let (batch, height, width, channels) = x.dims4()?;
    if kernel == 0 || stride == 0 || height.min(width) + 2 * padding < kernel {
        bail!(
            "unfold: window {kernel}, stride {stride}, padding {padding} does not fit {height} × {width} pixels"
        );
    }
    let index = window_index((height, width), kernel, stride, padding);
    let windows = index.len() / (kernel * kernel);
    let rows = gather_rows(&x.reshape((batch, height * width, channels))?, &index)?;
    rows.reshape((batch, windows, kernel * kernel * channels))
}

/// The pixel under each place of each window, in order; [`ZERO_ROW`] in the padding.
fn window_index((height, width): (usize, usize), kernel: usize, stride: usize, padding: usize) -> Vec<u32> {
    let steps = |size: usize| (size + 2 * padding - kernel) / stride + 1;
    let mut index = Vec::with_capacity(steps(height) * steps(width) * kernel * kernel);
    for top in (0..steps(height)).map(|step| step * stride) {
        for left in (0..steps(width)).map(|step| step * stride) {
            for (row, column) in (0..kernel).flat_map(|row| (0..kernel).map(move |column| (row, column))) {
                let (y, x) = ((top + row).wrapping_sub(padding), (left + column).wrapping_sub(padding));
                index.push(if y < height && x < width { (y * width + x) as u32 } else { ZERO_ROW });
            }
        }
    }
    index
}

/// The windows of a convolution whose stride is its kernel: `pixels (batch, channels, height, width)` to
/// `(batch, ⌈height / rows⌉ · ⌈width / columns⌉, channels · rows · columns)` for patches of `(rows, columns)`, the last dimension
/// ordered (channel, row, column); zeros stand past the edges. Differentiable.
///
/// # Errors
/// When a side of the patch is 0.
pub fn patches(pixels: &Tensor, patch: (usize, usize)) -> Result<Tensor> {
    if patch.0 == 0 || patch.1 == 0 {
        bail!("patches: {patch:?} pixels are none");
    }
    pixels.dims4()?;
    if !pixels.device().is_cpu() {
        return patches_reference(pixels, patch);
    }
    pixels.contiguous()?.apply_op1(Patches(patch))
}

/// [`patches`] of candle primitives.
pub fn patches_reference(pixels: &Tensor, patch: (usize, usize)) -> Result<Tensor> {
    let (batch, channels, height, width) = pixels.dims4()?;
    let (rows, columns) = (height.div_ceil(patch.0), width.div_ceil(patch.1));
    pixels
        .pad_with_zeros(2, 0, rows * patch.0 - height)?
        .pad_with_zeros(3, 0, columns * patch.1 - width)?
        .reshape(&[batch, channels, rows, patch.0, columns, patch.1])?
        .permute(vec![0, 2, 4, 1, 3, 5])?
        .reshape((batch, rows * columns, channels * patch.0 * patch.1))
}

/// Rows and columns of a patch.
struct Patches((usize, usize));

impl CustomOp1 for Patches {
    fn name(&self) -> &'static str {
        "patches"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (batch, channels, height, width) = layout.shape().dims4()?;
        let patch = self.0;
        let (rows, columns) = (height.div_ceil(patch.0), width.div_ceil(patch.1));
        let dim = channels * patch.0 * patch.1;
        let x = elements(x, layout)?;
        let band = columns * dim;
        let fill = |out: Out| {
            for_each(batch * rows, batch * rows * band, |task| {
                let (item, row) = (task / rows, task % rows);
                for (channel, y) in (0..channels).flat_map(|c| (0..patch.0).map(move |y| (c, y))) {
                    let (line, place) = (row * patch.0 + y, (channel * patch.0 + y) * patch.1);
                    let start = ((item * channels + channel) * height + line) * width;
                    let pixels = if line < height { &x[start..start + width] } else { &[] };
                    // SAFETY: a task writes the patches of its own row, each line to the places of its own.
                    unsafe { cut(pixels, columns, patch.1, out.part(task * band, band).add(place), dim) };
                }
            });
        };
        // SAFETY: every line of every patch is written.
        Ok(output(unsafe { written(batch * rows * band, fill) }, (batch, rows * columns, dim)))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let (batch, channels, height, width) = x.dims4()?;
        let patch = self.0;
        let (rows, columns) = (height.div_ceil(patch.0), width.div_ceil(patch.1));
        let grad = grad.reshape(&[batch, rows, columns, channels, patch.0, patch.1])?;
        let grad = grad.permute(vec![0, 3, 1, 4, 2, 5])?;
        let grad = grad.reshape((batch, channels, rows * patch.0, columns * patch.1))?;
        Ok(Some(grad.narrow(2, 0, height)?.narrow(3, 0, width)?))
    }
}

/// Cuts a line into `count` pieces of `len` pixels, `stride` apart from `to` on; what is missing is zeros.
///
/// # Safety
/// The pieces are writable.
unsafe fn cut(line: &[f32], count: usize, len: usize, to: *mut f32, stride: usize) {
    // The patches of most models: a piece is one load and one store.
    const USUAL: usize = 4;
    let whole = if len == USUAL { line.as_chunks::<USUAL>().0 } else { &[] };
    // SAFETY: the caller's promise.
    unsafe {
        for (i, piece) in whole.iter().enumerate() {
            to.add(i * stride).cast::<[f32; USUAL]>().write_unaligned(*piece);
        }
        for i in whole.len()..count {
            let rest = line.get(i * len..).unwrap_or_default();
            let (to, n) = (to.add(i * stride), rest.len().min(len));
            std::ptr::copy_nonoverlapping(rest.as_ptr(), to, n);
            std::ptr::write_bytes(to.add(n), 0, len - n);
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn equals_convolution() -> Result<()> {
        // candle's conv2d is the independent reference; 1e-5 covers f32 sums of at most 75 products of O(1).
        let device = Device::Cpu;
        for (h, w, c, out, kernel, stride, padding) in
            [(7, 5, 3, 4, 3, 2, 1), (1, 1, 1, 1, 1, 1, 0), (9, 8, 2, 3, 5, 3, 2)]
        {
            let x = Tensor::randn(0f32, 1.0, (2, h, w, c), &device)?;
            let weight = Tensor::randn(0f32, 1.0, (out, c, kernel, kernel), &device)?;
            let expected = x.permute((0, 3, 1, 2))?.contiguous()?.conv2d(&weight, padding, stride, 1, 1)?;
            let expected = expected.flatten_from(2)?.transpose(1, 2)?;
            let flat = weight.permute((0, 2, 3, 1))?.reshape((out, ()))?;
            let windows = unfold(&x, kernel, stride, padding)?;
            let y =
                windows.reshape(((), kernel * kernel * c))?.matmul(&flat.t()?)?.reshape(expected.shape())?;
            let difference = (y - expected)?.abs()?.max_all()?.to_scalar::<f32>()?;
            assert!(difference < 1e-5, "{difference}");
        }
        Ok(())
    }

    #[test]
    fn refuses_a_window_that_does_not_fit() -> Result<()> {
        let x = Tensor::zeros((1, 2, 2, 1), candle_core::DType::F32, &Device::Cpu)?;
        assert!(unfold(&x, 4, 1, 0).is_err());
        assert!(unfold(&x, 0, 1, 0).is_err());
        assert!(unfold(&x, 1, 0, 0).is_err());
        Ok(())
    }
}
