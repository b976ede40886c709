//! The routed experts of a mixture, bound to their weights.

use std::sync::{Arc, OnceLock};

use candle_core::Tensor;
use rayon::prelude::*;

use super::Packed;
use crate::ops::experts::{Expert, Grouped, experts};
use crate::ops::{
    activation::swiglu,
    gather::{gather_rows, gather_sums},
    linear::grouped_linear,
};
use crate::{Error, Parameter, Precision, Result};

/// SwiGLU experts: `E_e(x) = W_down,e (SiLU(W_gate,e x) ⊙ W_up,e x)`, without biases.
#[derive(Debug, Clone)]
pub struct Experts {
    gate_up: Parameter,
    down: Parameter,
    precision: Precision,
    /// Gate, up and down projections of each, made at the first use.
    packed: Arc<OnceLock<Vec<[Packed; 3]>>>,
    #[cfg(feature = "cuda")]
    on_cuda: Arc<OnceLock<[crate::cuda::Weight; 2]>>,
}

impl Experts {
    /// From weights `(experts, 2 · hidden, dim)`, gate first, and `(experts, dim, hidden)`.
    pub fn from_parts(
        gate_up: impl Into<Parameter>,
        down: impl Into<Parameter>,
        precision: Precision,
    ) -> Result<Self> {
        let (gate_up, down) = (gate_up.into(), down.into());
        let fit = match (gate_up.dims(), down.dims()) {
            (&[count, twice, dim], &[downs, out, hidden]) => (downs, out, 2 * hidden) == (count, dim, twice),
            _ => false,
        };
        if !fit {
            let (gate_up, down) = (gate_up.dims(), down.dims());
            return Err(Error::Input(format!("experts: weights {gate_up:?} and {down:?} do not fit")));
        }
        Ok(Self {
            gate_up,
            down,
            precision,
            packed: Arc::default(),
            #[cfg(feature = "cuda")]
            on_cuda: Arc::default(),
        })
    }

    /// How many there are.
    fn count(&self) -> usize {
        self.gate_up.dims()[0]
    }

    /// `[plus_n +] Σ_c weights_nc E_e(x_n)` with `e = chosen[n · choices + c]`: `x (rows, dim)` to the same shape.
    ///
    /// In one pass where the weights are constant and not multiplied in `f32`.
    pub fn forward(
        &self,
        x: &Tensor,
        (chosen, weights): (&[u32], &Tensor),
        plus: Option<&Tensor>,
    ) -> Result<Tensor> {
        let tracked = [x, weights].into_iter().chain(plus).any(Tensor::track_op);
        let trained = self.gate_up.is_trained() || self.down.is_trained();
        if self.precision == Precision::F32 || tracked || trained {
            return self.differentiable(x, (chosen, weights), plus);
        }
        #[cfg(feature = "cuda")]
        if self.gate_up.device().is_cuda() {
            let [gate_up, down] = self.on_cuda()?;
            return Ok(crate::cuda::Weight::experts([gate_up, down], x, (chosen, weights), plus)?);
        }
        let packed = self.packed()?;
        let expert = |index: usize| match packed[index].each_ref().map(Packed::weight) {
            [Ok(gate), Ok(up), Ok(down)] => Expert::Bf16([gate, up, down]),
            [Err(gate), Err(up), Err(down)] => Expert::Quantised([gate, up, down]),
            _ => unreachable!("packed alike"),
        };
        Ok(experts(x, (chosen, weights), (self.count(), expert), plus)?)
    }

    fn packed(&self) -> Result<&[[Packed; 3]]> {
        if let Some(packed) = self.packed.get() {
            return Ok(packed);
        }
        let (gate_up, down) = (self.gate_up.tensor()?, self.down.tensor()?);
        let pack = |weight: &Tensor| Packed::on_host(weight, None, self.precision);
        let expert = |index: usize| {
            let (gate_up, down) = (gate_up.get(index)?, down.get(index)?);
            let hidden = down.dim(1)?;
            let [gate, up] = [0, hidden].map(|first| pack(&gate_up.narrow(0, first, hidden)?));
            Ok([gate?, up?, pack(&down)?])
        };
        let packed = (0..self.count()).into_par_iter().map(expert).collect::<Result<_>>()?;
        // Another thread may have been faster with the same content.
        Ok(self.packed.get_or_init(|| packed))
    }

    /// All of them below one another, in the memory of their GPU.
    #[cfg(feature = "cuda")]
    fn on_cuda(&self) -> Result<&[crate::cuda::Weight; 2]> {
        if self.on_cuda.get().is_none() {
            // Both have one format, so both must have rows of whole groups for 4 bits.
            let whole = [&self.gate_up, &self.down].iter().all(|w| w.dims()[2] % crate::quant::GROUP == 0);
            let few = if whole { Precision::Int4 } else { Precision::Int8 };
            let precision = if self.precision == Precision::Int4 { few } else { self.precision };
            let weight = |parameter: &Parameter| {
                Ok::<_, Error>(crate::cuda::Weight::new(
                    &parameter.on_host()?,
                    precision,
                    parameter.device(),
                )?)
            };
            let _ = self.on_cuda.set([weight(&self.gate_up)?, weight(&self.down)?]);
        }
        Ok(self.on_cuda.get().unwrap_or_else(|| unreachable!("set above")))
    }

    /// From operations that have gradients.
    fn differentiable(
        &self,
        x: &Tensor,
        (chosen, weights): (&[u32], &Tensor),
        plus: Option<&Tensor>,
    ) -> Result<Tensor> {
        let (_, choices) = weights.dims2()?;
        let Grouped { pairs, offsets } = Grouped::new(chosen, self.count())?;
        let count = pairs.len();
        let rows: Vec<u32> = pairs.iter().map(|pair| (pair / choices) as u32).collect();
        let x = gather_rows(x, &rows)?;
        let inner = swiglu(&grouped_linear(&x, &self.gate_up.tensor()?, &offsets, self.precision)?)?;
        // W_down is linear: its narrow input is cheaper to weight than its output.
        let order: Vec<u32> = pairs.iter().map(|&pair| pair as u32).collect();
        let weights = gather_rows(&weights.reshape((count, 1))?, &order)?;
        let inner = inner.broadcast_mul(&weights)?;
        let y = grouped_linear(&inner, &self.down.tensor()?, &offsets, self.precision)?;
        let mut places = vec![0; count];
        for (place, &pair) in pairs.iter().enumerate() {
            places[pair] = place as u32;
        }
        let y = gather_sums(&y, &places, choices)?;
        plus.map_or_else(|| Ok(y.clone()), |plus| Ok((plus + &y)?))
    }
}
