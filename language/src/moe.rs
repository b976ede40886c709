//! A mixture of experts (DeepSeekMoE, arXiv 2401.06066): `y = Σ w_e E_e(x) + shared(x)` with SwiGLU experts.

use candle_core::{DType, Tensor};
use swinseek_kernels::{
    Init, Result, Trace, Weights,
    layers::{FeedForward, GroupedLinear},
    ops::{activation::swiglu, gather::gather_rows},
};

use crate::{
    config::{LanguageConfig, MoeConfig},
    mlp::mlp,
    router::{Router, Routing},
};

#[derive(Debug)]
pub(crate) struct MixtureOfExperts {
    router: Router,
    /// `(experts, 2 · intermediate, dim)`, gate first.
    gate_up_proj: GroupedLinear,
    /// `(experts, dim, intermediate)`
    down_proj: GroupedLinear,
    shared: Option<FeedForward>,
    top_k: usize,
    num_experts: usize,
    /// Names in the trace: `router.N.experts`, `.weights`, `.scores`.
    trace_names: [String; 3],
}

/// The token-expert pairs of a batch in the order of their experts.
struct Dispatch {
    /// Pair at each place, as token · top_k + choice.
    order: Vec<u32>,
    /// Place of each pair.
    place: Vec<u32>,
    /// First place of each expert, and the number of pairs.
    offsets: Vec<usize>,
}

impl Dispatch {
    fn new(experts: &[u32], num_experts: usize) -> Self {
        let mut offsets = vec![0; num_experts + 1];
        for &e in experts {
            offsets[e as usize + 1] += 1;
        }
        for e in 0..num_experts {
            offsets[e + 1] += offsets[e];
        }
        let mut next = offsets.clone();
        let (mut order, mut place) = (vec![0; experts.len()], vec![0; experts.len()]);
        for (pair, &e) in experts.iter().enumerate() {
            let at = &mut next[e as usize];
            order[*at] = pair as u32;
            place[pair] = *at as u32;
            *at += 1;
        }
        Self { order, place, offsets }
    }
}

impl MixtureOfExperts {
    /// Reads `gate.*`, `experts.*` (stacked, or one tensor per expert) and `shared_experts.*` of layer `index`.
    pub(crate) fn new(config: &LanguageConfig, moe: &MoeConfig, index: usize, w: &Weights) -> Result<Self> {
        let dim = config.hidden_size;
        let (gate_up_proj, down_proj) = read_experts(config, moe, &w.pp("experts"))?;
        let shared = match moe.shared_intermediate_size {
            Some(width) => Some(mlp(config, width, None, &w.pp("shared_experts"))?),
            None => None,
        };
        Ok(Self {
            router: Router::new(dim, moe, &w.pp("gate"))?,
            gate_up_proj: GroupedLinear::from_parts(gate_up_proj, w.precision())?,
            down_proj: GroupedLinear::from_parts(down_proj, w.precision())?,
            shared,
            top_k: moe.top_k,
            num_experts: moe.num_experts,
            trace_names: ["experts", "weights", "scores"].map(|leaf| format!("router.{index}.{leaf}")),
        })
    }

    /// `x (batch, tokens, dim)` to the same shape.
    pub(crate) fn forward(&self, x: &Tensor, trace: &mut Trace) -> Result<Tensor> {
        let (b, t, dim) = x.dims3()?;
        let rows = x.reshape((b * t, dim))?;
        let routing = self.router.route(&rows)?;
        self.record(&routing, trace)?;
        let mut y = self.experts(&rows, &routing)?;
        if let Some(shared) = &self.shared {
            y = (y + shared.forward(&rows)?)?;
        }
        Ok(y.reshape((b, t, dim))?)
    }

    /// `Σ_e w_e W_down,e(SwiGLU_e(x))` for `x (N, dim)`, each expert's rows in one product.
    fn experts(&self, x: &Tensor, routing: &Routing) -> Result<Tensor> {
        let (n, dim) = x.dims2()?;
        let pairs = n * self.top_k;
        let dispatch = Dispatch::new(&routing.experts, self.num_experts);
        let tokens: Vec<u32> = dispatch.order.iter().map(|&pair| pair / self.top_k as u32).collect();
        let x = gather_rows(&x.unsqueeze(0)?, &tokens)?.squeeze(0)?;
        let inner = swiglu(&self.gate_up_proj.forward(&x, &dispatch.offsets)?)?;
        // W_down is linear: its narrow input is cheaper to weight than its output.
        let weights = gather_rows(&routing.weights.reshape((1, pairs, 1))?, &dispatch.order)?.squeeze(0)?;
        let inner = inner.broadcast_mul(&weights)?;
        let y = self.down_proj.forward(&inner, &dispatch.offsets)?;
        if n == 1 {
            return Ok(y.sum_keepdim(0)?);
        }
        // Choice by choice, the sum over choices is a product with a row of ones: many times faster than candle's
        // sum over a leading dimension, and the same additions.
        let place: Vec<u32> = (0..pairs).map(|i| dispatch.place[i % n * self.top_k + i / n]).collect();
        let y = gather_rows(&y.unsqueeze(0)?, &place)?.reshape((self.top_k, n * dim))?;
        let ones = Tensor::ones((1, self.top_k), y.dtype(), y.device())?;
        Ok(ones.matmul(&y)?.reshape((n, dim))?)
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
fn read_experts(config: &LanguageConfig, moe: &MoeConfig, w: &Weights) -> Result<(Tensor, Tensor)> {
    let (dim, width, count) = (config.hidden_size, moe.intermediate_size, moe.num_experts);
    if !w.contains("0.gate_proj.weight") {
        let gate_up = w.get(&[count, 2 * width, dim], "gate_up_proj")?;
        let init = Init::Normal { std: config.residual_std() };
        return Ok((gate_up, w.get_init(&[count, dim, width], "down_proj", init)?));
    }
    let mut gate_up = Vec::with_capacity(count);
    let mut down = Vec::with_capacity(count);
    for expert in 0..count {
        let w = w.pp(expert);
        let gate = w.get(&[width, dim], "gate_proj.weight")?;
        gate_up.push(Tensor::cat(&[gate, w.get(&[width, dim], "up_proj.weight")?], 0)?);
        down.push(w.get(&[dim, width], "down_proj.weight")?);
    }
    Ok((Tensor::stack(&gate_up, 0)?, Tensor::stack(&down, 0)?))
}
