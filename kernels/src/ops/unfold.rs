//! Convolution windows as rows, so that an overlapping convolution is one matrix product (im2col).

use candle_core::{Result, Tensor, bail};

use super::gather::{ZERO_ROW, gather_rows};

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
