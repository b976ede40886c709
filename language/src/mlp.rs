//! Projections with the initial values of a decoder, and the dense SwiGLU made of them.

use candle_core::Tensor;
use swinseek_kernels::{Init, Result, Weights, layers::Linear, ops::activation::silu_mul};

use crate::config::LanguageConfig;

/// A projection `(out, in)`, fresh ones normal with standard deviation 0.02.
pub(crate) fn projection(in_features: usize, out_features: usize, bias: bool, w: &Weights) -> Result<Linear> {
    if bias {
        Linear::new(in_features, out_features, w)
    } else {
        Linear::no_bias(in_features, out_features, w)
    }
}

/// A projection that writes to the residual stream; fresh ones are smaller the deeper the decoder.
pub(crate) fn output_projection(
    config: &LanguageConfig,
    (in_features, out_features): (usize, usize),
    bias: bool,
    w: &Weights,
) -> Result<Linear> {
    let init = Init::Normal { std: config.residual_std() };
    let weight = w.get_init(&[out_features, in_features], "weight", init)?;
    let bias = if bias { Some(w.get_init(&[out_features], "bias", Init::Const(0.0))?) } else { None };
    Ok(Linear::from_parts(weight, bias, w.precision()))
}

/// `W_down(SiLU(W_gate x) ⊙ W_up x)`, with biases where the configuration has them.
#[derive(Debug)]
pub(crate) struct Mlp {
    gate: Linear,
    up: Linear,
    down: Linear,
}

impl Mlp {
    pub(crate) fn new(config: &LanguageConfig, intermediate_size: usize, w: &Weights) -> Result<Self> {
        let (dim, bias) = (config.hidden_size, config.mlp_bias);
        Ok(Self {
            gate: projection(dim, intermediate_size, bias, &w.pp("gate_proj"))?,
            up: projection(dim, intermediate_size, bias, &w.pp("up_proj"))?,
            down: output_projection(config, (intermediate_size, dim), bias, &w.pp("down_proj"))?,
        })
    }

    /// `(.., dim)` to `(.., dim)`.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let inner = silu_mul(&self.gate.forward(x)?, &self.up.forward(x)?)?;
        self.down.forward(&inner)
    }
}
