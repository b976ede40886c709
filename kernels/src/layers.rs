//! Operations bound to their parameters, under the names checkpoints use (`weight`, `bias`).

mod experts;

use std::sync::{Arc, OnceLock};

use candle_core::{DType, Device, Tensor};

use crate::gemm::PackedWeight;
use crate::ops::activation::Activation;
use crate::ops::projection::NormParameters;
use crate::ops::quant_feed_forward::QuantFeedForward;
use crate::ops::quant_linear::QuantWeight;
use crate::quant::{Int4Weight, Int8Weight};
use crate::{Error, Init, Parameter, Precision, Result, Weights, ops};

pub use experts::Experts;

/// `y = x Wᵀ + b`, `x` of shape `(.., in_features)`.
#[derive(Debug, Clone)]
pub struct Linear {
    weight: Parameter,
    bias: Option<Tensor>,
    precision: Precision,
    packed: Arc<OnceLock<Packed>>,
}

/// A constant weight as the fused operations read it.
#[derive(Debug)]
enum Packed {
    /// With its bias.
    Bf16(PackedWeight),
    Int8(Int8Weight),
    Int4(Int4Weight),
    /// In the memory of a GPU.
    #[cfg(feature = "cuda")]
    Cuda(crate::cuda::Weight),
}

impl Packed {
    /// Of `weight (out, in)`, and of a bias if it is not in few bits.
    fn new(weight: &Parameter, bias: Option<&Tensor>, precision: Precision) -> Result<Self> {
        let values = weight.on_host()?;
        #[cfg(feature = "cuda")]
        if weight.device().is_cuda() {
            return Ok(Self::Cuda(crate::cuda::Weight::new(&values, precision, weight.device())?));
        }
        Self::on_host(&values, bias, precision)
    }

    /// For the processor.
    fn on_host(weight: &Tensor, bias: Option<&Tensor>, precision: Precision) -> Result<Self> {
        let (out, inner) = weight.dims2()?;
        let values = || weight.flatten_all()?.to_vec1::<f32>();
        Ok(match precision {
            Precision::Int8 => Self::Int8(Int8Weight::new(&values()?, out, inner)),
            Precision::Int4 => Self::Int4(Int4Weight::new(&values()?, out, inner)),
            Precision::F32 | Precision::Bf16 => Self::Bf16(ops::linear::pack(weight, bias)?),
        })
    }

    /// In `bf16`, or in few bits, for the processor.
    fn weight(&self) -> std::result::Result<&PackedWeight, QuantWeight<'_>> {
        match self {
            #[cfg(feature = "cuda")]
            Self::Cuda(_) => {
                unreachable!("operations in main memory are asked for tensors in main memory alone")
            }
            Self::Bf16(weight) => Ok(weight),
            Self::Int8(weight) => Err(weight.into()),
            Self::Int4(weight) => Err(weight.into()),
        }
    }
}

impl Linear {
    /// Reads `weight` `(out, in)` and `bias` `(out)`.
    pub fn new(in_features: usize, out_features: usize, w: &Weights) -> Result<Self> {
        let bias = w.get_init(&[out_features], "bias", Init::Const(0.0))?;
        Ok(Self::no_bias(in_features, out_features, w)?.with_bias(bias))
    }

    /// Reads `weight` `(out, in)` only.
    pub fn no_bias(in_features: usize, out_features: usize, w: &Weights) -> Result<Self> {
        Self::fresh_as(0.02, (in_features, out_features), w)
    }

    /// As [`Linear::no_bias`]; a fresh weight keeps the scale of its input (standard deviation `1 / √in`).
    pub fn unit_gain(in_features: usize, out_features: usize, w: &Weights) -> Result<Self> {
        Self::fresh_as((in_features as f64).sqrt().recip(), (in_features, out_features), w)
    }

    /// As [`Linear::no_bias`]; a fresh weight is normal with that standard deviation.
    pub fn fresh_as(std: f64, (in_features, out_features): (usize, usize), w: &Weights) -> Result<Self> {
        let weight = w.parameter(&[out_features, in_features], "weight", Init::Normal { std })?;
        Ok(Self::from_parts(weight, None, w.precision()))
    }

    /// From parameters that the caller has, for fused or tied ones.
    pub fn from_parts(weight: impl Into<Parameter>, bias: Option<Tensor>, precision: Precision) -> Self {
        Self { weight: weight.into(), bias, precision, packed: Arc::default() }
    }

    /// The same weight with a bias `(out)`.
    #[must_use]
    pub fn with_bias(self, bias: Tensor) -> Self {
        Self { bias: Some(bias), packed: Arc::default(), ..self }
    }

    /// `(.., in)` to `(.., out)`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.forward_with(x, None, None, None)
    }

    /// `[residual +] activation(norm(x) Wᵀ + b)`: in one pass where the weight is constant and not multiplied in `f32`.
    pub fn forward_with(
        &self,
        x: &Tensor,
        norm: Option<&Norm>,
        activation: Option<Activation>,
        residual: Option<&Tensor>,
    ) -> Result<Tensor> {
        let (bias, tracked) = (self.bias.as_ref(), x.track_op() || residual.is_some_and(Tensor::track_op));
        if let Some(packed) = self.packed()?.filter(|_| !tracked) {
            let norm = norm.map(Norm::parameters);
            #[cfg(feature = "cuda")]
            if let Packed::Cuda(weight) = packed {
                return Ok(weight.project(x, norm, bias, activation, residual)?);
            }
            return Ok(match packed.weight() {
                Ok(weight) => ops::projection::projection(x, norm, weight, activation, residual)?,
                Err(weight) => {
                    ops::quant_linear::quant_projection(x, norm, weight, bias, activation, residual)?
                }
            });
        }
        let x = norm.map_or_else(|| Ok(x.clone()), |norm| norm.forward(x))?;
        let mut y = ops::linear::linear(&x, &self.weight.tensor()?, bias, self.precision)?;
        if let Some(activation) = activation {
            y = activation.apply(&y)?;
        }
        Ok(match residual {
            Some(residual) => (residual + y)?,
            None => y,
        })
    }

    /// One projection that gives the results of several, of the same input, side by side: `(.., Σ out)`. `None` where they
    /// are trained or multiplied in `f32`: only the fused operations gain by it.
    pub fn joined(parts: &[&Self]) -> Result<Option<Self>> {
        let joinable = |part: &&Self| part.precision != Precision::F32 && !part.is_trained();
        let Some(first) = parts.first().filter(|_| parts.iter().all(joinable)) else {
            return Ok(None);
        };
        let rows = |part: &Self| part.weight.dims()[0];
        let shape = [parts.iter().map(|part| rows(part)).sum(), first.weight.dims()[1]];
        let weight = Parameter::joined(parts.iter().map(|part| part.weight.clone()).collect(), &shape)?;
        let bias = |part: &&Self| match &part.bias {
            Some(bias) => Ok(bias.clone()),
            None => Tensor::zeros(rows(part), DType::F32, part.weight.device()),
        };
        let biases = parts.iter().map(bias).collect::<candle_core::Result<Vec<_>>>()?;
        let bias =
            parts.iter().any(|part| part.bias.is_some()).then(|| Tensor::cat(&biases, 0)).transpose()?;
        Ok(Some(Self::from_parts(weight, bias, first.precision)))
    }

    /// How it multiplies.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Whether the fused operations can read it: a constant in main memory, not multiplied in `f32`.
    pub fn is_packable(&self) -> bool {
        self.precision != Precision::F32 && !self.is_trained() && self.device().is_cpu()
    }

    /// Where it computes.
    pub fn device(&self) -> &Device {
        self.weight.device()
    }

    /// Whether gradients of its parameters are wanted.
    pub fn is_trained(&self) -> bool {
        self.weight.is_trained() || self.bias.as_ref().is_some_and(Tensor::track_op)
    }

    /// The layout for the fused operations, made at the first use.
    fn packed(&self) -> Result<Option<&Packed>> {
        if self.precision == Precision::F32 || self.is_trained() {
            return Ok(None);
        }
        if self.packed.get().is_none() {
            // Another thread may have been faster with the same content.
            let _ = self.packed.set(Packed::new(&self.weight, self.bias.as_ref(), self.precision)?);
        }
        Ok(self.packed.get())
    }

    /// The weight, `(out, in)`, as `f32`: read anew where layers keep none.
    pub fn weight(&self) -> Result<Tensor> {
        self.weight.tensor()
    }

    /// The bias, `(out)`.
    pub fn bias(&self) -> Option<&Tensor> {
        self.bias.as_ref()
    }
}

/// One weight per group of rows, without biases.
#[derive(Debug, Clone)]
pub struct GroupedLinear {
    weight: Tensor,
    precision: Precision,
    /// Each made when its group first has rows.
    packed: Arc<[OnceLock<PackedWeight>]>,
}

impl GroupedLinear {
    /// From a weight `(groups, out, in)`. It is not quantised.
    pub fn from_parts(weight: Tensor, precision: Precision) -> Result<Self> {
        let (groups, _, _) = weight.dims3()?;
        let packed = (0..groups).map(|_| OnceLock::new()).collect();
        let elsewhere = !weight.device().is_cpu() && !weight.track_op() && precision != Precision::F32;
        let weight = if elsewhere { weight.to_dtype(DType::BF16)? } else { weight };
        Ok(Self { weight, precision, packed })
    }

    /// Rows `offsets[g]..offsets[g + 1]` of `x (rows, in)` go through weight `g`: `(rows, out)`.
    pub fn forward(&self, x: &Tensor, offsets: &[usize]) -> Result<Tensor> {
        let constant = !self.weight.track_op() && self.weight.device().is_cpu();
        if self.precision == Precision::F32 || !constant || x.track_op() {
            return Ok(ops::linear::grouped_linear(x, &self.weight, offsets, self.precision)?);
        }
        let (groups, out, inner) = self.weight.dims3()?;
        if x.dims2()?.1 != inner || offsets.len() != groups + 1 {
            let (x, w) = (x.dims(), self.weight.dims());
            return Err(Error::Input(format!("x {x:?}, {} offsets do not fit experts {w:?}", offsets.len())));
        }
        for group in (0..groups).filter(|&g| offsets[g + 1] > offsets[g] && self.packed[g].get().is_none()) {
            let _ = self.packed[group].set(ops::linear::pack(&self.weight.get(group)?, None)?);
        }
        let weight = |group: usize| self.packed[group].get().unwrap_or_else(|| unreachable!("packed above"));
        Ok(ops::projection::grouped_projection(x, offsets, out, weight)?)
    }

    /// The weight, `(groups, out, in)`.
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }
}

/// Layer normalisation over the last dimension (Ba et al. 2016).
#[derive(Debug, Clone)]
pub struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

impl LayerNorm {
    /// Reads `weight` and `bias`, both `(dim)`.
    pub fn new(dim: usize, eps: f64, w: &Weights) -> Result<Self> {
        let weight = w.get_init(&[dim], "weight", Init::Const(1.0))?;
        let bias = w.get_init(&[dim], "bias", Init::Const(0.0))?;
        Ok(Self::from_parts(weight, bias, eps))
    }

    /// From `weight` and `bias`, both `(dim)`, that the caller has.
    pub fn from_parts(weight: Tensor, bias: Tensor, eps: f64) -> Self {
        Self { weight, bias, eps }
    }

    /// The weights as the fused operations take them.
    pub fn parameters(&self) -> NormParameters<'_> {
        NormParameters { weight: &self.weight, bias: Some(&self.bias), eps: self.eps }
    }

    /// Whether gradients of its parameters are wanted.
    pub fn is_trained(&self) -> bool {
        self.weight.track_op() || self.bias.track_op()
    }

    /// `(.., dim)` to `(.., dim)`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(ops::norm::layer_norm(x, &self.weight, &self.bias, self.eps)?)
    }
}

/// Instance normalisation over the positions of each image (Ulyanov et al. 2016).
#[derive(Debug, Clone)]
pub struct InstanceNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

impl InstanceNorm {
    /// Reads `weight` and `bias`, both `(channels)`.
    pub fn new(channels: usize, eps: f64, w: &Weights) -> Result<Self> {
        let weight = w.get_init(&[channels], "weight", Init::Const(1.0))?;
        let bias = w.get_init(&[channels], "bias", Init::Const(0.0))?;
        Ok(Self { weight, bias, eps })
    }

    /// `(images, positions, channels)` to the same shape.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(ops::instance_norm::instance_norm(x, &self.weight, &self.bias, self.eps)?)
    }
}

/// Root-mean-square normalisation over the last dimension (Zhang & Sennrich 2019).
#[derive(Debug, Clone)]
pub struct RmsNorm {
    weight: Tensor,
    eps: f64,
}

impl RmsNorm {
    /// Reads `weight` `(dim)`.
    pub fn new(dim: usize, eps: f64, w: &Weights) -> Result<Self> {
        Ok(Self { weight: w.get_init(&[dim], "weight", Init::Const(1.0))?, eps })
    }

    /// `(.., dim)` to `(.., dim)`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(ops::norm::rms_norm(x, &self.weight, self.eps)?)
    }
}

/// Either norm over the last dimension.
#[derive(Debug, Clone)]
pub enum Norm {
    /// With centre and bias.
    Layer(LayerNorm),
    /// Without.
    Rms(RmsNorm),
}

impl Norm {
    /// `(.., dim)` to `(.., dim)`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Layer(norm) => norm.forward(x),
            Self::Rms(norm) => norm.forward(x),
        }
    }

    /// The weights as the fused operations take them.
    fn parameters(&self) -> NormParameters<'_> {
        match self {
            Self::Layer(norm) => norm.parameters(),
            Self::Rms(RmsNorm { weight, eps }) => NormParameters { weight, bias: None, eps: *eps },
        }
    }

    fn is_trained(&self) -> bool {
        let NormParameters { weight, bias, .. } = self.parameters();
        weight.track_op() || bias.is_some_and(Tensor::track_op)
    }
}

impl From<LayerNorm> for Norm {
    fn from(norm: LayerNorm) -> Self {
        Self::Layer(norm)
    }
}

impl From<RmsNorm> for Norm {
    fn from(norm: RmsNorm) -> Self {
        Self::Rms(norm)
    }
}

/// The MLP of a transformer block with its norms and its residual, see [`ops::feed_forward`].
#[derive(Debug)]
pub struct FeedForward {
    /// Before the projections.
    pub norm: Option<Norm>,
    /// `(hidden, dim)`; its product gets the activation.
    pub gate: Option<Linear>,
    /// `(hidden, dim)`; its product gets the activation where there is no gate.
    pub up: Linear,
    /// Of the gate, or of the up projection where there is none.
    pub activation: Activation,
    /// `(dim, hidden)`
    pub down: Linear,
    /// After the projections, before the residual is added.
    pub post_norm: Option<Norm>,
}

impl FeedForward {
    /// Reads `gate_proj`, `up_proj` `(intermediate, dim)` and `down_proj` `(dim, intermediate)` of a SwiGLU
    /// (Shazeer 2020), the MLP of llama and DeepSeek blocks, without biases.
    pub fn swiglu(dim: usize, intermediate: usize, norm: Option<Norm>, w: &Weights) -> Result<Self> {
        Ok(Self {
            norm,
            gate: Some(Linear::no_bias(dim, intermediate, &w.pp("gate_proj"))?),
            up: Linear::no_bias(dim, intermediate, &w.pp("up_proj"))?,
            activation: Activation::Silu,
            down: Linear::no_bias(intermediate, dim, &w.pp("down_proj"))?,
            post_norm: None,
        })
    }

    /// `post_norm(MLP(norm(x)))`, `(.., dim)` to the same shape.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.run(x, false)
    }

    /// `x + post_norm(MLP(norm(x)))`, `(.., dim)` to the same shape.
    pub fn forward_residual(&self, x: &Tensor) -> Result<Tensor> {
        self.run(x, true)
    }

    fn run(&self, x: &Tensor, residual: bool) -> Result<Tensor> {
        if let Some(y) = self.fused(x, residual)? {
            return Ok(y);
        }
        let normed = self.norm.as_ref().map_or_else(|| Ok(x.clone()), |norm| norm.forward(x))?;
        let up = self.up.forward(&normed)?;
        let hidden = match (&self.gate, self.activation) {
            (Some(gate), Activation::Silu) => ops::activation::silu_mul(&gate.forward(&normed)?, &up)?,
            (Some(gate), activation) => (activation.apply(&gate.forward(&normed)?)? * up)?,
            (None, activation) => activation.apply(&up)?,
        };
        let y = self.down.forward(&hidden)?;
        let y = self.post_norm.as_ref().map_or_else(|| Ok(y.clone()), |norm| norm.forward(&y))?;
        if residual { Ok((x + y)?) } else { Ok(y) }
    }

    /// In one pass, where all weights are constant, multiplied alike and not in `f32`.
    fn fused(&self, x: &Tensor, residual: bool) -> Result<Option<Tensor>> {
        let Self { norm, gate, up, activation, down, post_norm } = self;
        let (norms, activation) = ([norm, post_norm], *activation);
        if x.track_op() || !x.device().is_cpu() || norms.into_iter().flatten().any(Norm::is_trained) {
            return Ok(None);
        }
        let (Some(up_weight), Some(down_weight)) = (up.packed()?, down.packed()?) else { return Ok(None) };
        let gate_weight = match gate {
            Some(gate) => match gate.packed()? {
                Some(weight) => Some((gate, weight.weight())),
                None => return Ok(None),
            },
            None => None,
        };
        let norm = norm.as_ref().map(Norm::parameters);
        Ok(match (gate_weight, up_weight.weight(), down_weight.weight()) {
            (None | Some((_, Ok(_))), Ok(up), Ok(down)) => {
                let weights = ops::feed_forward::FeedForward {
                    norm,
                    gate: gate_weight.and_then(|(_, weight)| weight.ok()),
                    up,
                    activation,
                    down,
                    post_norm: post_norm.as_ref().map(Norm::parameters),
                    residual,
                };
                Some(ops::feed_forward::feed_forward(x, &weights)?)
            }
            (None | Some((_, Err(_))), Err(up_weight), Err(down_weight)) => {
                let weights = QuantFeedForward {
                    norm,
                    gate: gate_weight.and_then(|(gate, weight)| Some((weight.err()?, gate.bias()))),
                    up: (up_weight, up.bias()),
                    activation,
                    down: (down_weight, down.bias()),
                    post_norm: post_norm.as_ref().map(Norm::parameters),
                    residual,
                };
                Some(ops::quant_feed_forward::quant_feed_forward(x, &weights)?)
            }
            _ => None,
        })
    }
}
