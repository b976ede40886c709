//! The overlapping convolution stem: the CNN half of a CNN + Transformer hybrid (Xiao et al. 2021, "Early convolutions
//! help transformers see better").

use candle_core::Tensor;
use swinseek_kernels::layers::{InstanceNorm, Linear};
use swinseek_kernels::ops::{activation, unfold};
use swinseek_kernels::{Init, Result, Weights};

use crate::patch_embed::DEFAULT_EPS;

/// Side of every kernel.
const KERNEL: usize = 3;

/// One 3×3 convolution of the stem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Convolution {
    /// Width of its output.
    pub channels: usize,
    /// 1 keeps the map, 2 halves it, rounding up.
    pub stride: usize,
}

/// Convolutions, each followed by an instance norm and GELU. The norm matters: a radiograph's findings are small local
/// contrasts on a large brightness, which a norm over channels keeps and a norm over positions takes away.
#[derive(Debug)]
pub(crate) struct ConvStem {
    layers: Vec<Layer>,
}

#[derive(Debug)]
struct Layer {
    linear: Linear,
    stride: usize,
    norm: InstanceNorm,
}

impl ConvStem {
    /// Reads `I.weight` `(out, 9 · in)`, ordered kernel row, kernel column, channel, and `I.norm.*`; `I` counts from 0.
    pub(crate) fn new(channels: usize, convolutions: &[Convolution], w: &Weights) -> Result<Self> {
        let inputs = std::iter::once(channels).chain(convolutions.iter().map(|layer| layer.channels));
        let layers = inputs.zip(convolutions).enumerate();
        let layers = layers.map(|(index, (input, layer))| {
            let (w, fan_in) = (w.pp(index), KERNEL * KERNEL * input);
            // He et al. 2015; the norm behind it makes a bias useless.
            let init = Init::Normal { std: (2.0 / fan_in as f64).sqrt() };
            let weight = w.get_init(&[layer.channels, fan_in], "weight", init)?;
            Ok(Layer {
                linear: Linear::from_parts(weight, None, w.precision()),
                stride: layer.stride,
                norm: InstanceNorm::new(layer.channels, DEFAULT_EPS, &w.pp("norm"))?,
            })
        });
        Ok(Self { layers: layers.collect::<Result<_>>()? })
    }

    /// `(batch, channels, height, width)` to tokens `(batch, rows · columns, dim)` and their `(rows, columns)`.
    pub(crate) fn forward(&self, pixels: &Tensor) -> Result<(Tensor, (usize, usize))> {
        let (batch, _, height, width) = pixels.dims4()?;
        let mut map = (height, width);
        let mut hidden = pixels.permute((0, 2, 3, 1))?.contiguous()?;
        for layer in &self.layers {
            let channels = hidden.dim(candle_core::D::Minus1)?;
            let x = hidden.reshape((batch, map.0, map.1, channels))?;
            let neighbours = unfold::unfold(&x, KERNEL, layer.stride, KERNEL / 2)?;
            hidden = activation::gelu(&layer.norm.forward(&layer.linear.forward(&neighbours)?)?)?;
            map = (map.0.div_ceil(layer.stride), map.1.div_ceil(layer.stride));
        }
        Ok((hidden, map))
    }
}
