//! From pixels to the first tokens: patch projection or convolution stem, norm, absolute positions.

use candle_core::Tensor;
use swinseek_kernels::layers::{LayerNorm, Linear};
use swinseek_kernels::ops::unfold::patches;
use swinseek_kernels::{Init, Precision, Result, Weights};

use crate::config::{Dialect, Stem, VisionConfig};
use crate::stem::ConvStem;

/// Epsilon of the norms that the reference builds with PyTorch's default, whatever the configuration says.
pub(crate) const DEFAULT_EPS: f64 = 1e-5;

/// Embeds an image.
#[derive(Debug)]
pub(crate) struct PatchEmbed {
    projection: Projection,
    norm: LayerNorm,
    positions: Option<Positions>,
}

#[derive(Debug)]
enum Projection {
    Patch { linear: Linear, patch: (usize, usize) },
    Conv(ConvStem),
}

/// Learned absolute positions `(1, rows · columns, dim)` of the image size that the model was built for.
#[derive(Debug)]
struct Positions {
    table: Tensor,
    grid: (usize, usize),
}

impl PatchEmbed {
    /// Reads `embeddings.*` (transformers) or `patch_embed.*` (timm) below `w`.
    ///
    /// A convolution stem reads `stem.*`, see [`ConvStem::new`].
    pub(crate) fn new(config: &VisionConfig, w: &Weights) -> Result<Self> {
        let (w, projection) = match config.dialect {
            Dialect::HuggingFace => (w.pp("embeddings"), "patch_embeddings.projection"),
            Dialect::Timm => (w.pp("patch_embed"), "proj"),
        };
        let positions = if config.absolute_positions {
            let grid = config.built_grid();
            let shape = [1, grid.0 * grid.1, config.embed_dim];
            let table = w.get_init(&shape, "position_embeddings", Init::Const(0.0))?;
            Some(Positions { table, grid })
        } else {
            None
        };
        Ok(Self {
            projection: Projection::new(config, &w, projection)?,
            norm: LayerNorm::new(config.embed_dim, DEFAULT_EPS, &w.pp("norm"))?,
            positions,
        })
    }

    /// `(batch, channels, height, width)` to tokens `(batch, rows · columns, dim)` and their `(rows, columns)`.
    pub(crate) fn forward(&self, pixels: &Tensor) -> Result<(Tensor, (usize, usize))> {
        let (tokens, grid) = match &self.projection {
            Projection::Patch { linear, patch } => project_patches(pixels, linear, *patch)?,
            Projection::Conv(stem) => stem.forward(pixels)?,
        };
        let mut tokens = self.norm.forward(&tokens)?;
        if let Some(positions) = &self.positions {
            tokens = tokens.broadcast_add(&positions.resized(grid)?)?;
        }
        Ok((tokens, grid))
    }
}

impl Projection {
    fn new(config: &VisionConfig, w: &Weights, name: &str) -> Result<Self> {
        let (channels, dim, patch) = (config.num_channels, config.embed_dim, config.patch_size);
        match &config.stem {
            Stem::Patch => {
                let w = w.pp(name);
                let weight = w.get(&[dim, channels, patch.0, patch.1], "weight")?;
                let weight = weight.reshape((dim, channels * patch.0 * patch.1))?;
                let bias = w.get_init(&[dim], "bias", Init::Const(0.0))?;
                Ok(Self::Patch { linear: Linear::from_parts(weight, Some(bias), w.precision()), patch })
            }
            Stem::Conv(convolutions) => Ok(Self::Conv(ConvStem::new(channels, convolutions, &w.pp("stem"))?)),
        }
    }
}

/// A convolution whose stride is its kernel, as one matrix product; edges are filled with zeros.
fn project_patches(
    pixels: &Tensor,
    linear: &Linear,
    patch: (usize, usize),
) -> Result<(Tensor, (usize, usize))> {
    let (_, _, height, width) = pixels.dims4()?;
    let grid = (height.div_ceil(patch.0), width.div_ceil(patch.1));
    Ok((linear.forward(&patches(pixels, patch)?)?, grid))
}

impl Positions {
    /// The table for a map of `grid` tokens, `(1, rows · columns, dim)`: bicubic, as transformers does with
    /// `interpolate_pos_encoding`.
    fn resized(&self, grid: (usize, usize)) -> Result<Tensor> {
        if grid == self.grid {
            return Ok(self.table.clone());
        }
        let dim = self.table.dim(2)?;
        let resize = |from: usize, to: usize| -> Result<Linear> {
            let weight = Tensor::from_vec(cubic_weights(from, to), (to, from), self.table.device())?;
            Ok(Linear::from_parts(weight, None, Precision::F32))
        };
        let table = self.table.reshape((self.grid.0, self.grid.1, dim))?;
        // (columns, dim, rows) -> (.., new rows) -> (new rows, dim, columns) -> (.., new columns)
        let table = resize(self.grid.0, grid.0)?.forward(&table.permute((1, 2, 0))?.contiguous()?)?;
        let table = resize(self.grid.1, grid.1)?.forward(&table.permute((2, 1, 0))?.contiguous()?)?;
        Ok(table.transpose(1, 2)?.contiguous()?.reshape((1, grid.0 * grid.1, dim))?)
    }
}

/// `(to, from)`: PyTorch's bicubic interpolation (Keys, a = −0.75) along one axis, `align_corners` false, edges repeated.
fn cubic_weights(from: usize, to: usize) -> Vec<f32> {
    const A: f32 = -0.75;
    let near = |x: f32| ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0;
    let far = |x: f32| ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A;
    let scale = from as f32 / to as f32;
    let mut weights = vec![0.0; to * from];
    for (row, weights) in weights.chunks_mut(from).enumerate() {
        let at = (row as f32 + 0.5) * scale - 0.5;
        let left = at.floor();
        let t = at - left;
        let taps = [far(t + 1.0), near(t), near(1.0 - t), far(2.0 - t)];
        for (tap, weight) in taps.into_iter().enumerate() {
            let source = (left as isize + tap as isize - 1).clamp(0, from as isize - 1);
            weights[source as usize] += weight;
        }
    }
    weights
}
