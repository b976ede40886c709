//! Projections with the initial values of a decoder, and the dense SwiGLU made of them.

use swinseek_kernels::{
    Init, Result, Weights,
    layers::{FeedForward, Linear, Norm},
    ops::activation::Activation,
};

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
    let linear = Linear::fresh_as(config.residual_std(), (in_features, out_features), w)?;
    Ok(if bias { linear.with_bias(w.get_init(&[out_features], "bias", Init::Const(0.0))?) } else { linear })
}

/// `W_down(SiLU(W_gate n) ⊙ W_up n)` with `n = norm(x)`, and biases where the configuration has them.
pub(crate) fn mlp(
    config: &LanguageConfig,
    intermediate_size: usize,
    norm: Option<Norm>,
    w: &Weights,
) -> Result<FeedForward> {
    let (dim, bias) = (config.hidden_size, config.mlp_bias);
    Ok(FeedForward {
        norm,
        gate: Some(projection(dim, intermediate_size, bias, &w.pp("gate_proj"))?),
        up: projection(dim, intermediate_size, bias, &w.pp("up_proj"))?,
        activation: Activation::Silu,
        down: output_projection(config, (intermediate_size, dim), bias, &w.pp("down_proj"))?,
        post_norm: None,
    })
}
