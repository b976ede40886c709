//! Configuration of a Swin encoder, read from the dialects in which checkpoints are published.

use serde_json::Value;
use swinseek_kernels::ops::activation::Activation;
use swinseek_kernels::{Error, Result};

use crate::fields::Fields;
use crate::stem::Convolution;
use crate::{timm, transformers};

/// Largest window side: `window⁴` numbers of position bias per head must stay a reasonable allocation.
const MAX_WINDOW: usize = 64;
/// Most stages: the map halves and the width doubles at each.
const MAX_STAGES: usize = 8;

/// Which block equations hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// Pre-norm, scaled dot products, learned bias table (arXiv 2103.14030).
    V1,
    /// Residual post-norm, cosine attention, continuous position bias (arXiv 2111.09883).
    V2,
}

/// Whose conventions a checkpoint follows where the two reference implementations differ: tensor names,
/// pad-before-roll or roll-before-pad, which axis shrinks a window, and where patch merging is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// `transformers`: pads to a multiple of the window, then rolls.
    HuggingFace,
    /// `timm`: rolls, then pads.
    Timm,
}

/// By the name that `transformers` and `timm` use.
fn activation_by_name(name: &str) -> Option<Activation> {
    Some(match name {
        "gelu" | "gelu_python" => Activation::Gelu,
        "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" | "gelu_tanh" => Activation::GeluTanh,
        "quick_gelu" => Activation::QuickGelu,
        "relu" => Activation::Relu,
        "silu" | "swish" => Activation::Silu,
        _ => return None,
    })
}

/// How pixels become the first tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stem {
    /// One linear map per non-overlapping patch: the published form.
    Patch,
    /// Overlapping 3×3 convolutions, whose strides multiply to the patch size (our extension).
    Conv(Vec<Convolution>),
}

/// Everything that the shape and the equations of an encoder depend on.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the published configurations")]
pub struct VisionConfig {
    /// Block equations.
    pub version: Version,
    /// Conventions of the checkpoint.
    pub dialect: Dialect,
    /// Whether a `LayerNorm` follows the last stage (Donut's Swin has none).
    pub final_norm: bool,
    /// Image size that windows and absolute positions were built for, `(height, width)` in pixels.
    pub image_size: (usize, usize),
    /// Patch size, `(height, width)` in pixels.
    pub patch_size: (usize, usize),
    /// Channels of an image.
    pub num_channels: usize,
    /// Width of the first stage; each later stage is twice as wide.
    pub embed_dim: usize,
    /// Blocks per stage.
    pub depths: Vec<usize>,
    /// Attention heads per stage.
    pub num_heads: Vec<usize>,
    /// Width of a head per stage; heads · width is the stage's width except in timm models that set `head_dim`.
    pub head_dims: Vec<usize>,
    /// Configured window per stage, `(height, width)` in tokens; [`VisionConfig::window`] is the one in use.
    pub window_sizes: Vec<(usize, usize)>,
    /// Window of the pre-training per stage (v2's coordinates are relative to it); 0 means the window in use.
    pub pretrained_window_sizes: Vec<(usize, usize)>,
    /// Hidden width of the MLP over the stage's width, per stage.
    pub mlp_ratios: Vec<f64>,
    /// Whether query, (v1: key,) and value have a bias.
    pub qkv_bias: bool,
    /// Activation of the MLP.
    pub hidden_act: Activation,
    /// Epsilon of the block norms and the final norm.
    pub layer_norm_eps: f64,
    /// Whether learned absolute positions are added to the patch embeddings.
    pub absolute_positions: bool,
    /// Windows never shrink and always shift, as in `SwinBackbone`. Without it a transformers v1 model does the same
    /// whenever a map is smaller than its window, a case in which the reference has no other answer.
    pub always_partition: bool,
    /// For a backbone, the feature maps to return: 0 is the stem, `s + 1` is stage `s`.
    pub out_features: Option<Vec<usize>>,
    /// Number of classes when the configuration promises a classifier.
    pub num_labels: Option<usize>,
    /// How pixels become tokens.
    pub stem: Stem,
}

impl VisionConfig {
    /// Reads `config.json` of a Swin (`model_type` `swin`, `swinv2`, `donut-swin`) or of a timm model (`architecture`
    /// with `model_args`). Errors name the field, what was found and what was expected.
    pub fn from_json(value: &Value) -> Result<Self> {
        let fields = Fields::new(value)?;
        let config = if let Some(name) = fields.text("architecture")? {
            timm::read(&fields, name)?
        } else {
            transformers::read(&fields)?
        };
        config.check()?;
        Ok(config)
    }

    /// Number of stages.
    pub fn stages(&self) -> usize {
        self.depths.len()
    }

    /// Token width of stage `stage`.
    pub fn dim(&self, stage: usize) -> usize {
        self.embed_dim << stage
    }

    /// Token width of the last stage.
    pub fn hidden_size(&self) -> usize {
        self.dim(self.stages() - 1)
    }

    /// Hidden width of the MLP in stage `stage`.
    pub(crate) fn mlp_dim(&self, stage: usize) -> usize {
        (self.mlp_ratios[stage] * self.dim(stage) as f64) as usize
    }

    /// Tokens after the stem for an image of `height` × `width` pixels, `(rows, columns)`.
    pub fn grid(&self, height: usize, width: usize) -> (usize, usize) {
        (height.div_ceil(self.patch_size.0), width.div_ceil(self.patch_size.1))
    }

    /// Map of stage `stage` for a stem of `grid` tokens; odd maps round up when they merge.
    pub(crate) fn map(grid: (usize, usize), stage: usize) -> (usize, usize) {
        (grid.0.div_ceil(1 << stage), grid.1.div_ceil(1 << stage))
    }

    /// Window of stage `stage` in use, `(height, width)`: fixed when the model is built.
    pub fn window(&self, stage: usize) -> (usize, usize) {
        let configured = self.window_sizes[stage];
        if self.always_partition || self.sizes_windows_at_run_time() {
            return configured;
        }
        if self.dialect == Dialect::HuggingFace {
            let side = self.built_rows(stage).min(configured.0);
            return (side, side);
        }
        let map = Self::map(self.built_grid(), stage);
        (map.0.min(configured.0), map.1.min(configured.1))
    }

    /// Whether blocks look at the map they get (transformers' v1 classes) and not at the configured image size.
    fn sizes_windows_at_run_time(&self) -> bool {
        self.dialect == Dialect::HuggingFace && self.version == Version::V1
    }

    /// Cyclic shift of the odd blocks of stage `stage`, `(rows, columns)`, for a map of `map` tokens.
    /// `partition` says that windows keep their shift however small the map is.
    pub(crate) fn shift(&self, stage: usize, map: (usize, usize), partition: bool) -> (usize, usize) {
        let (window, configured) = (self.window(stage), self.window_sizes[stage]);
        let half = (configured.0 / 2, configured.1 / 2);
        if partition {
            return half;
        }
        // Rows and columns that are compared with the window; a window that covers them does not shift.
        let seen = if self.sizes_windows_at_run_time() {
            let least = map.0.min(map.1);
            (least, least)
        } else if self.dialect == Dialect::HuggingFace {
            (self.built_rows(stage), self.built_rows(stage))
        } else {
            Self::map(self.built_grid(), stage)
        };
        let axis = |seen: usize, window: usize, half: usize| if seen <= window { 0 } else { half };
        (axis(seen.0, window.0, half.0), axis(seen.1, window.1, half.1))
    }

    /// Whether all windows keep their shift for a stem of `grid` tokens.
    pub(crate) fn partitions(&self, grid: (usize, usize)) -> bool {
        let too_small = |stage: usize| {
            let (rows, columns) = Self::map(grid, stage);
            rows.min(columns) < self.window_sizes[stage].0
        };
        self.always_partition || (self.sizes_windows_at_run_time() && (0..self.stages()).any(too_small))
    }

    /// Tokens of the image size that the model was built for; the reference rounds down here.
    pub(crate) fn built_grid(&self) -> (usize, usize) {
        (self.image_size.0 / self.patch_size.0, self.image_size.1 / self.patch_size.1)
    }

    /// Rows of stage `stage` as transformers' Swin v2 counts them when it fixes its windows: rounded down.
    fn built_rows(&self, stage: usize) -> usize {
        (self.built_grid().0 >> stage).max(1)
    }

    fn check(&self) -> Result<()> {
        let stages = self.stages();
        if stages == 0 || stages > MAX_STAGES {
            return Err(Error::config(
                "depths",
                format!("found {stages} stages, expected 1 to {MAX_STAGES}"),
            ));
        }
        if self.num_heads.len() != stages {
            let message = format!("found {} entries, expected {stages} as in `depths`", self.num_heads.len());
            return Err(Error::config("num_heads", message));
        }
        let (grid, patch) = (self.built_grid(), self.patch_size);
        if grid.0 == 0 || grid.1 == 0 {
            let message =
                format!("found {:?}, expected at least one patch of {patch:?} pixels", self.image_size);
            return Err(Error::config("image_size", message));
        }
        self.check_stem()?;
        (0..stages).try_for_each(|stage| self.check_stage(stage))
    }

    fn check_stem(&self) -> Result<()> {
        let Stem::Conv(layers) = &self.stem else {
            return Ok(());
        };
        let stride: usize = layers.iter().map(|layer| layer.stride).product();
        if self.patch_size != (stride, stride) {
            let message = format!("multiply to {stride}, expected the patch size {:?}", self.patch_size);
            return Err(Error::config("stem.strides", message));
        }
        let last = layers.last().map_or(0, |layer| layer.channels);
        if last != self.embed_dim {
            let message = format!("end with {last}, expected embed_dim = {}", self.embed_dim);
            return Err(Error::config("stem.channels", message));
        }
        Ok(())
    }

    fn check_stage(&self, stage: usize) -> Result<()> {
        let (rows, columns) = self.window(stage);
        if rows == 0 || columns == 0 || rows.max(columns) > MAX_WINDOW {
            let message = format!("found {rows} x {columns} in stage {stage}, expected 1 to {MAX_WINDOW}");
            return Err(Error::config("window_size", message));
        }
        if self.mlp_dim(stage) == 0 {
            return Err(Error::config("mlp_ratio", format!("found {}, too small", self.mlp_ratios[stage])));
        }
        Ok(())
    }
}

/// Width of a head per stage when heads split the stage's width evenly.
pub(crate) fn even_heads(embed_dim: usize, num_heads: &[usize]) -> Result<Vec<usize>> {
    let split = |(stage, heads): (usize, &usize)| {
        let dim = embed_dim << stage.min(MAX_STAGES);
        if dim.is_multiple_of(*heads) {
            return Ok(dim / heads);
        }
        let message = format!("found {heads} heads in stage {stage}, expected a divisor of its width {dim}");
        Err(Error::config("num_heads", message))
    };
    num_heads.iter().enumerate().map(split).collect()
}

/// The activation that field `name` names.
pub(crate) fn activation(fields: &Fields, name: &str) -> Result<Activation> {
    let found = fields.text(name)?.unwrap_or("gelu");
    activation_by_name(found).ok_or_else(|| {
        let expected = "`gelu`, `gelu_new`, `gelu_pytorch_tanh`, `quick_gelu`, `relu` or `silu`";
        fields.error(name, format!("found `{found}`, expected {expected}"))
    })
}

/// One pre-training window per stage; absent means none.
pub(crate) fn pretrained_windows(fields: &Fields, stages: usize) -> Result<Vec<(usize, usize)>> {
    let Some(mut windows) = fields.stage_pairs("pretrained_window_sizes")? else {
        return Ok(vec![(0, 0); stages]);
    };
    if windows.len() < stages {
        let message = format!("found {} entries, expected one for each of {stages} stages", windows.len());
        return Err(fields.error("pretrained_window_sizes", message));
    }
    windows.truncate(stages);
    Ok(windows)
}
