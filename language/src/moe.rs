//! A mixture of experts (DeepSeekMoE, arXiv 2401.06066): `y = Σ w_e E_e(x) + shared(x)` with SwiGLU experts.

use candle_core::{DType, Tensor};
use swinseek_kernels::{
    Init, Parameter, Result, Trace, Weights,
    layers::{Experts, FeedForward},
};

use crate::{
    config::{LanguageConfig, MoeConfig},
    mlp::mlp,
    router::{Router, Routing},
};

#[derive(Debug)]
pub(crate) struct MixtureOfExperts {
    router: Router,
    experts: Experts,
    shared: Option<FeedForward>,
    /// Names in the trace: `router.N.experts`, `.weights`, `.scores`.
    trace_names: [String; 3],
}

impl MixtureOfExperts {
    /// Reads `gate.*`, `experts.*` (stacked, or one tensor per expert) and `shared_experts.*` of layer `index`.
    pub(crate) fn new(config: &LanguageConfig, moe: &MoeConfig, index: usize, w: &Weights) -> Result<Self> {
        let dim = config.hidden_size;
        let [gate_up_proj, down_proj] = read_experts(config, moe, &w.pp("experts"))?;
        let shared = match moe.shared_intermediate_size {
            Some(width) => Some(mlp(config, width, None, &w.pp("shared_experts"))?),
            None => None,
        };
        Ok(Self {
            router: Router::new(dim, moe, &w.pp("gate"))?,
            experts: Experts::from_parts(gate_up_proj, down_proj, w.precision())?,
            shared,
            trace_names: ["experts", "weights", "scores"].map(|leaf| format!("router.{index}.{leaf}")),
        })
    }

    /// `x (batch, tokens, dim)` to the same shape.
    pub(crate) fn forward(&self, x: &Tensor, trace: &mut Trace) -> Result<Tensor> {
        let (b, t, dim) = x.dims3()?;
        let rows = x.reshape((b * t, dim))?;
        let routing = self.router.route(&rows)?;
        self.record(&routing, trace)?;
        let shared = self.shared.as_ref().map(|shared| shared.forward(&rows)).transpose()?;
        let y = self.experts.forward(&rows, (&routing.experts, &routing.weights), shared.as_ref())?;
        Ok(y.reshape((b, t, dim))?)
    }

    fn record(&self, routing: &Routing, trace: &mut Trace) -> Result<()> {
        let [experts, weights, scores] = &self.trace_names;
        if trace.wants(experts) {
            let shape = routing.weights.dims2()?;
            let chosen = Tensor::from_slice(&routing.experts, shape, routing.weights.device())?;
            trace.record(experts, &chosen.to_dtype(DType::I64)?);
        }
        trace.record(weights, &routing.weights);
        trace.record(scores, &routing.scores);
        Ok(())
    }
}

/// `gate_up_proj` and `down_proj`; experts that stand alone on disk are stacked.
fn read_experts(config: &LanguageConfig, moe: &MoeConfig, w: &Weights) -> Result<[Parameter; 2]> {
    let (dim, width, count) = (config.hidden_size, moe.intermediate_size, moe.num_experts);
    if !w.contains("0.gate_proj.weight") {
        let [gate_up, down] = [0.02, config.residual_std()].map(|std| Init::Normal { std });
        let gate_up = w.parameter(&[count, 2 * width, dim], "gate_up_proj", gate_up)?;
        return Ok([gate_up, w.parameter(&[count, dim, width], "down_proj", down)?]);
    }
    // They exist: nothing is filled.
    let stored = |shape: &[usize; 2], name: &str, w: &Weights| w.parameter(shape, name, Init::Const(0.0));
    let mut gate_up = Vec::with_capacity(2 * count);
    let mut down = Vec::with_capacity(count);
    for expert in 0..count {
        let w = w.pp(expert);
        gate_up.push(stored(&[width, dim], "gate_proj.weight", &w)?);
        gate_up.push(stored(&[width, dim], "up_proj.weight", &w)?);
        down.push(stored(&[dim, width], "down_proj.weight", &w)?);
    }
    Ok([
        Parameter::joined(gate_up, &[count, 2 * width, dim])?,
        Parameter::joined(down, &[count, dim, width])?,
    ])
}
