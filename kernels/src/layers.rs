//! Operations bound to their parameters, under the names checkpoints use (`weight`, `bias`).

use std::sync::{Arc, OnceLock};

use candle_core::Tensor;

use crate::gemm::PackedWeight;
use crate::ops::linear::PackedGroups;
use crate::{Init, Precision, Result, Weights, ops};

/// `y = x Wᵀ + b`, `x` of shape `(.., in_features)`.
#[derive(Debug, Clone)]
pub struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
    precision: Precision,
    packed: Arc<OnceLock<Arc<PackedWeight>>>,
}

impl Linear {
    /// Reads `weight` `(out, in)` and `bias` `(out)`.
    pub fn new(in_features: usize, out_features: usize, w: &Weights) -> Result<Self> {
        let bias = w.get_init(&[out_features], "bias", Init::Const(0.0))?;
        Ok(Self { bias: Some(bias), ..Self::no_bias(in_features, out_features, w)? })
    }

    /// Reads `weight` `(out, in)` only.
    pub fn no_bias(in_features: usize, out_features: usize, w: &Weights) -> Result<Self> {
        let weight = w.get(&[out_features, in_features], "weight")?;
        Ok(Self::from_parts(weight, None, w.precision()))
    }

    /// As [`Linear::no_bias`]; a fresh weight keeps the scale of its input (standard deviation `1 / √in`).
    pub fn unit_gain(in_features: usize, out_features: usize, w: &Weights) -> Result<Self> {
        let std = (in_features as f64).sqrt().recip();
        let weight = w.get_init(&[out_features, in_features], "weight", Init::Normal { std })?;
        Ok(Self::from_parts(weight, None, w.precision()))
    }

    /// From tensors that the caller has, for fused or tied parameters.
    pub fn from_parts(weight: Tensor, bias: Option<Tensor>, precision: Precision) -> Self {
        Self { weight, bias, precision, packed: Arc::default() }
    }

    /// `(.., in)` to `(.., out)`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (weight, bias) = (&self.weight, self.bias.as_ref());
        Ok(ops::linear::linear_packed(x, weight, bias, self.precision, self.packed()?)?)
    }

    /// The layout of a weight that does not change, made at the first use.
    fn packed(&self) -> Result<Option<&Arc<PackedWeight>>> {
        if self.precision == Precision::F32 || self.weight.track_op() {
            return Ok(None);
        }
        if self.packed.get().is_none() {
            let packed = Arc::new(ops::linear::pack(&self.weight)?);
            // Another thread may have been faster with the same content.
            let _ = self.packed.set(packed);
        }
        Ok(self.packed.get())
    }

    /// The weight, `(out, in)`.
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }
}

/// One weight per group of rows, without biases: the experts of a mixture.
#[derive(Debug, Clone)]
pub struct GroupedLinear {
    weight: Tensor,
    precision: Precision,
    packed: PackedGroups,
}

impl GroupedLinear {
    /// Reads `leaf` `(groups, out, in)`.
    pub fn new(
        groups: usize,
        in_features: usize,
        out_features: usize,
        w: &Weights,
        leaf: &str,
    ) -> Result<Self> {
        Self::from_parts(w.get(&[groups, out_features, in_features], leaf)?, w.precision())
    }

    /// From a weight `(groups, out, in)` that the caller has.
    pub fn from_parts(weight: Tensor, precision: Precision) -> Result<Self> {
        let (groups, _, _) = weight.dims3()?;
        let packed = (0..groups).map(|_| OnceLock::new()).collect();
        Ok(Self { weight, precision, packed })
    }

    /// Rows `offsets[g]..offsets[g + 1]` of `x (rows, in)` go through weight `g`: `(rows, out)`.
    pub fn forward(&self, x: &Tensor, offsets: &[usize]) -> Result<Tensor> {
        let packed = (!self.weight.track_op()).then_some(&self.packed);
        Ok(ops::linear::grouped_linear_packed(x, &self.weight, offsets, self.precision, packed)?)
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

/// `W_down(SiLU(W_gate x) ⊙ W_up x)` (Shazeer 2020), the MLP of llama and DeepSeek blocks.
#[derive(Debug, Clone)]
pub struct SwiGlu {
    gate: Linear,
    up: Linear,
    down: Linear,
}

impl SwiGlu {
    /// Reads `gate_proj`, `up_proj` `(intermediate, dim)` and `down_proj` `(dim, intermediate)`.
    pub fn new(dim: usize, intermediate: usize, w: &Weights) -> Result<Self> {
        Ok(Self {
            gate: Linear::no_bias(dim, intermediate, &w.pp("gate_proj"))?,
            up: Linear::no_bias(dim, intermediate, &w.pp("up_proj"))?,
            down: Linear::no_bias(intermediate, dim, &w.pp("down_proj"))?,
        })
    }

    /// `(.., dim)` to `(.., dim)`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let hidden = ops::activation::silu_mul(&self.gate.forward(x)?, &self.up.forward(x)?)?;
        self.down.forward(&hidden)
    }
}
