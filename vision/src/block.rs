//! One Swin block: window attention and MLP, each around a residual.

use std::sync::OnceLock;

use candle_core::{DType, Tensor};
use swinseek_kernels::layers::{FeedForward, LayerNorm, Linear};
use swinseek_kernels::ops::attention::{Mask, attention};
use swinseek_kernels::ops::window_attention::{
    NORMALIZE_EPS, WindowWeights, Windows, map_attention, window_attention,
};
use swinseek_kernels::ops::{gather, norm};
use swinseek_kernels::{Init, Precision, Result, Weights};

use crate::config::{Dialect, Version, VisionConfig};
use crate::window::{Partition, relative_coordinates, relative_index};

/// Hidden width of the position-bias MLP of Swin v2, fixed in both references.
const BIAS_MLP_DIM: usize = 512;

/// A block of either version.
#[derive(Debug)]
pub(crate) struct Block {
    version: Version,
    attention: WindowAttention,
    attention_norm: LayerNorm,
    mlp: FeedForward,
}

impl Block {
    /// Reads `layers.S.blocks.B.*` below `w`.
    pub(crate) fn new(config: &VisionConfig, stage: usize, w: &Weights) -> Result<Self> {
        let (attention_norm, mlp_norm) = match config.dialect {
            Dialect::HuggingFace => ("layernorm_before", "layernorm_after"),
            Dialect::Timm => ("norm1", "norm2"),
        };
        let norm = |name: &str| {
            let (dim, w) = (config.dim(stage), w.pp(name));
            // Fresh Swin v2 blocks change nothing, as in the authors' code (`_init_respostnorm`).
            let gain = f64::from(u8::from(config.version == Version::V1));
            let weight = w.get_init(&[dim], "weight", Init::Const(gain))?;
            let bias = w.get_init(&[dim], "bias", Init::Const(0.0))?;
            swinseek_kernels::Result::Ok(LayerNorm::from_parts(weight, bias, config.layer_norm_eps))
        };
        Ok(Self {
            version: config.version,
            attention: WindowAttention::new(config, stage, w)?,
            attention_norm: norm(attention_norm)?,
            mlp: mlp(config, stage, norm(mlp_norm)?, w)?,
        })
    }

    /// `(batch, tokens, dim)` to the same shape; `partition` cuts this map.
    pub(crate) fn forward(&self, x: &Tensor, partition: &Partition) -> Result<Tensor> {
        let x = match self.attention.fused(x, &self.attention_norm, partition)? {
            Some(x) => x,
            None => match self.version {
                Version::V1 => (x + self.attention.forward(&self.attention_norm.forward(x)?, partition)?)?,
                Version::V2 => (x + self.attention_norm.forward(&self.attention.forward(x, partition)?)?)?,
            },
        };
        self.mlp.forward_residual(&x)
    }
}

/// Multi-head attention inside each window.
#[derive(Debug)]
struct WindowAttention {
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    bias: PositionBias,
    /// Swin v2: cosines are multiplied by `exp(min(logit_scale, ln 100))`; `(heads, 1)`.
    logit_scale: Option<Tensor>,
    heads: usize,
    head_dim: usize,
    /// The projections as the fused pass reads them, made at its first use.
    packed: OnceLock<WindowWeights>,
    /// The projections side by side, for a GPU; made at their first use.
    joined: OnceLock<Linear>,
}

impl WindowAttention {
    fn new(config: &VisionConfig, stage: usize, block: &Weights) -> Result<Self> {
        let (heads, head_dim) = (config.num_heads[stage], config.head_dims[stage]);
        let (w, output) = match config.dialect {
            Dialect::HuggingFace => (block.pp("attention.self"), block.pp("attention.output.dense")),
            Dialect::Timm => (block.pp("attn"), block.pp("attn.proj")),
        };
        let [query, key, value] = projections(config, config.dim(stage), heads * head_dim, &w)?;
        let logit_scale = match config.version {
            Version::V1 => None,
            Version::V2 => {
                let scale = w.get_init(&[heads, 1, 1], "logit_scale", Init::Const(10f64.ln()))?;
                Some(scale.reshape((heads, 1))?)
            }
        };
        let output = Linear::new(heads * head_dim, config.dim(stage), &output)?;
        let bias = PositionBias::new(config, stage, &w)?;
        let (packed, joined) = (OnceLock::new(), OnceLock::new());
        Ok(Self { query, key, value, output, bias, logit_scale, heads, head_dim, packed, joined })
    }

    /// The attention half of a block in one pass, `(batch, tokens, dim)` to the same shape; `None` where something is trained
    /// or computed in `f32`.
    fn fused(&self, x: &Tensor, norm: &LayerNorm, partition: &Partition) -> Result<Option<Tensor>> {
        let linears = [&self.query, &self.key, &self.value, &self.output];
        let PositionBias::Fixed { bias, .. } = &self.bias else { return Ok(None) };
        if x.track_op() || norm.is_trained() || !linears.into_iter().all(Linear::is_packable) {
            return Ok(None);
        }
        if self.packed.get().is_none() {
            let [query, key, value, output] = linears.map(Linear::weight);
            let weights = [query?, key?, value?, output?];
            let matrix = |index: usize| (&weights[index], linears[index].bias());
            let precision = self.query.precision();
            let joined = WindowWeights::new([0, 1, 2].map(matrix), matrix(3), bias, precision)?;
            let _ = self.packed.set(joined);
        }
        let Some(weights) = self.packed.get() else { return Ok(None) };
        let sharpness = self.sharpness()?.map(|s| s.flatten_all()?.to_vec1::<f32>()).transpose()?;
        let norm = Some(norm.parameters());
        // Cosines come with post-norms: both are what makes Swin v2.
        let norms = if sharpness.is_some() { (None, norm) } else { (norm, None) };
        let windows =
            Windows { index: &partition.index, area: partition.area, mask: partition.mask.as_ref() };
        Ok(Some(window_attention(x, norms, weights, windows, sharpness.as_deref())?))
    }

    /// What Swin v2 multiplies cosines by, `(heads, 1)`.
    fn sharpness(&self) -> Result<Option<Tensor>> {
        let exp = |scale: &Tensor| scale.minimum(100f64.ln())?.exp();
        Ok(self.logit_scale.as_ref().map(exp).transpose()?)
    }

    /// What the heads mix, `(batch, tokens, width)`, by a kernel that reads the map as it is; `None` where there is none.
    fn mixed_on_map(&self, x: &Tensor, partition: &Partition) -> Result<Option<Tensor>> {
        let PositionBias::Fixed { table, .. } = &self.bias else { return Ok(None) };
        if x.device().is_cpu() || x.track_op() {
            return Ok(None);
        }
        if self.joined.get().is_none() {
            let Some(joined) = Linear::joined(&[&self.query, &self.key, &self.value])? else {
                return Ok(None);
            };
            let _ = self.joined.set(joined);
        }
        let Some(joined) = self.joined.get() else { return Ok(None) };
        let (batch, tokens, _) = x.dims3()?;
        let qkv = joined.forward(x)?.reshape((batch, tokens, 3, self.heads, self.head_dim))?;
        // Padding is projected like any token: to the biases alone.
        let pad = match joined.bias() {
            Some(bias) => bias.clone(),
            None => Tensor::zeros(3 * self.heads * self.head_dim, DType::F32, x.device())?,
        };
        let sharpness = self.sharpness()?.map(|sharpness| sharpness.flatten_all()).transpose()?;
        Ok(map_attention(&qkv, &pad, table, sharpness.as_ref(), &partition.on_map())?)
    }

    /// `(batch, tokens, dim)` to the same shape.
    fn forward(&self, x: &Tensor, partition: &Partition) -> Result<Tensor> {
        if let Some(mixed) = self.mixed_on_map(x, partition)? {
            return self.output.forward(&mixed);
        }
        let (batch, _, dim) = x.dims3()?;
        let rows = batch * partition.windows;
        // Padding is projected like any token: the reference lets it take part with the biases alone.
        let windows = gather::gather_rows(x, &partition.index)?.reshape((rows, partition.area, dim))?;
        let split = |linear: &Linear| -> Result<Tensor> {
            Ok(linear.forward(&windows)?.reshape((rows, partition.area, self.heads, self.head_dim))?)
        };
        let (mut query, mut key, value) = (split(&self.query)?, split(&self.key)?, split(&self.value)?);
        let mut scale = (self.head_dim as f64).powf(-0.5);
        if let Some(sharpness) = self.sharpness()? {
            query = norm::l2_normalize(&query, NORMALIZE_EPS)?.broadcast_mul(&sharpness)?;
            key = norm::l2_normalize(&key, NORMALIZE_EPS)?;
            scale = 1.0;
        }
        let mask = partition.mask.as_ref().map_or(Mask::None, Mask::Additive);
        let mixed = attention(&query, &key, &value, Some(&self.bias.get()?), mask, scale)?;
        let mixed = mixed.reshape((batch, partition.windows * partition.area, self.heads * self.head_dim))?;
        self.output.forward(&gather::gather_rows(&mixed, &partition.inverse)?)
    }
}

/// Query, key and value, each `(width, dim)`, from separate or (timm) stacked tensors. Swin v2's key has no bias.
fn projections(config: &VisionConfig, dim: usize, width: usize, w: &Weights) -> Result<[Linear; 3]> {
    let key_bias = config.qkv_bias && config.version == Version::V1;
    if config.dialect == Dialect::HuggingFace {
        let separate = |name: &str, bias: bool| {
            let w = w.pp(name);
            if bias { Linear::new(dim, width, &w) } else { Linear::no_bias(dim, width, &w) }
        };
        return Ok([
            separate("query", config.qkv_bias)?,
            separate("key", key_bias)?,
            separate("value", config.qkv_bias)?,
        ]);
    }
    let zero = Init::Const(0.0);
    let stacked = w.pp("qkv").get(&[3 * width, dim], "weight")?;
    let biases = match (config.version, config.qkv_bias) {
        (_, false) => [None, None, None],
        (Version::V1, true) => {
            let bias = w.pp("qkv").get_init(&[3 * width], "bias", zero)?;
            let part = |i: usize| bias.narrow(0, i * width, width);
            [Some(part(0)?), Some(part(1)?), Some(part(2)?)]
        }
        (Version::V2, true) => {
            [Some(w.get_init(&[width], "q_bias", zero)?), None, Some(w.get_init(&[width], "v_bias", zero)?)]
        }
    };
    let [query, key, value] = biases;
    let part = |i: usize, bias: Option<Tensor>| -> Result<Linear> {
        Ok(Linear::from_parts(stacked.narrow(0, i * width, width)?, bias, w.precision()))
    };
    Ok([part(0, query)?, part(1, key)?, part(2, value)?])
}

/// What is added to the score of each (query, key) pair of a window, `(heads, area, area)`.
#[derive(Debug)]
enum PositionBias {
    /// Computed once: the parameters are constants.
    Fixed { bias: Tensor, table: Tensor },
    /// Computed at each forward: the parameters are being trained.
    Trained { table: BiasTable, index: Vec<u32> },
}

/// One row of heads per relative offset, `((2·rows − 1)(2·columns − 1), heads)`.
#[derive(Debug)]
enum BiasTable {
    /// Swin v1: a parameter.
    Learned(Tensor),
    /// Swin v2: `16 σ(MLP(coordinates))`.
    Continuous { coordinates: Tensor, hidden: Linear, heads: Linear },
}

impl PositionBias {
    fn new(config: &VisionConfig, stage: usize, w: &Weights) -> Result<Self> {
        let table = BiasTable::new(config, stage, w)?;
        let index = relative_index(config.window(stage));
        if table.is_trained() {
            return Ok(Self::Trained { table, index });
        }
        Ok(Self::Fixed { bias: table.spread(&index)?, table: table.rows()? })
    }

    fn get(&self) -> Result<Tensor> {
        match self {
            Self::Fixed { bias, .. } => Ok(bias.clone()),
            Self::Trained { table, index } => table.spread(index),
        }
    }
}

impl BiasTable {
    fn new(config: &VisionConfig, stage: usize, w: &Weights) -> Result<Self> {
        let (window, heads) = (config.window(stage), config.num_heads[stage]);
        let offsets = (2 * window.0 - 1) * (2 * window.1 - 1);
        if config.version == Version::V1 {
            let init = match config.dialect {
                Dialect::HuggingFace => Init::Const(0.0),
                Dialect::Timm => Init::Normal { std: 0.02 },
            };
            return Ok(Self::Learned(w.get_init(&[offsets, heads], "relative_position_bias_table", init)?));
        }
        let w = w.pp(match config.dialect {
            Dialect::HuggingFace => "continuous_position_bias_mlp",
            Dialect::Timm => "cpb_mlp",
        });
        // In f32 whatever the model's precision: the MLP is tiny and 16 σ amplifies its rounding.
        let linear = |w: &Weights, rows: usize, columns: usize, bias: Option<Tensor>| -> Result<Linear> {
            Ok(Linear::from_parts(w.get(&[rows, columns], "weight")?, bias, Precision::F32))
        };
        let bias = w.pp(0).get_init(&[BIAS_MLP_DIM], "bias", Init::Const(0.0))?;
        let hidden = linear(&w.pp(0), BIAS_MLP_DIM, 2, Some(bias))?;
        let heads = linear(&w.pp(2), heads, BIAS_MLP_DIM, None)?;
        let coordinates = relative_coordinates(window, config.pretrained_window_sizes[stage]);
        let coordinates = Tensor::from_vec(coordinates, (offsets, 2), w.device())?;
        Ok(Self::Continuous { coordinates, hidden, heads })
    }

    fn is_trained(&self) -> bool {
        match self {
            Self::Learned(table) => table.track_op(),
            Self::Continuous { hidden, heads, .. } => hidden.is_trained() || heads.is_trained(),
        }
    }

    /// One row of heads per relative offset.
    fn rows(&self) -> Result<Tensor> {
        Ok(match self {
            Self::Learned(table) => table.clone(),
            Self::Continuous { coordinates, hidden, heads } => {
                let logits = heads.forward(&hidden.forward(coordinates)?.relu()?)?;
                (sigmoid(&logits)? * 16.0)?
            }
        })
    }

    /// The rows of `index` as `(heads, area, area)`.
    fn spread(&self, index: &[u32]) -> Result<Tensor> {
        let table = self.rows()?;
        let area = index.len().isqrt();
        let heads = table.dim(1)?;
        let pairs = gather::gather_rows(&table.unsqueeze(0)?, index)?.reshape((area, area, heads))?;
        Ok(pairs.permute((2, 0, 1))?.contiguous()?)
    }
}

/// Linear, activation, linear, with the norm before (v1) or after (v2) them.
fn mlp(config: &VisionConfig, stage: usize, norm: LayerNorm, w: &Weights) -> Result<FeedForward> {
    let (up, down) = match config.dialect {
        Dialect::HuggingFace => ("intermediate.dense", "output.dense"),
        Dialect::Timm => ("mlp.fc1", "mlp.fc2"),
    };
    let (dim, hidden) = (config.dim(stage), config.mlp_dim(stage));
    let (norm, post_norm) = match config.version {
        Version::V1 => (Some(norm.into()), None),
        Version::V2 => (None, Some(norm.into())),
    };
    Ok(FeedForward {
        norm,
        gate: None,
        up: Linear::new(dim, hidden, &w.pp(up))?,
        activation: config.hidden_act,
        down: Linear::new(hidden, dim, &w.pp(down))?,
        post_norm,
    })
}

/// `σ(x) = (1 + tanh(x / 2)) / 2`, which neither overflows nor divides by infinity in its gradient.
fn sigmoid(x: &Tensor) -> Result<Tensor> {
    Ok((((x * 0.5)?.tanh()? + 1.0)? * 0.5)?)
}
