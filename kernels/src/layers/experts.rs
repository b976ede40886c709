//! The routed experts of a mixture, bound to their weights.

use std::sync::{Arc, OnceLock};

use candle_core::Tensor;

use super::Packed;
use crate::ops::experts::{Expert, Grouped, experts};
use crate::ops::{
    activation::swiglu,
    gather::{gather_rows, gather_sums},
    linear::grouped_linear,
};
use crate::{Error, Precision, Result};

/// SwiGLU experts: `E_e(x) = W_down,e (SiLU(W_gate,e x) ⊙ W_up,e x)`, without biases.
#[derive(Debug, Clone)]
pub struct Experts {
    gate_up: Tensor,
    down: Tensor,
    precision: Precision,
    /// Gate, up and down projections, made when an expert first has rows.
    packed: Arc<[OnceLock<[Packed; 3]>]>,
}

impl Experts {
    /// From weights `(experts, 2 · hidden, dim)`, gate first, and `(experts, dim, hidden)`.
    pub fn from_parts(gate_up: Tensor, down: Tensor, precision: Precision) -> Result<Self> {
        let ((count, twice, dim), (downs, out, hidden)) = (gate_up.dims3()?, down.dims3()?);
        if (downs, out, 2 * hidden) != (count, dim, twice) {
            let (gate_up, down) = (gate_up.dims(), down.dims());
            return Err(Error::Input(format!("experts: weights {gate_up:?} and {down:?} do not fit")));
        }
        let packed = (0..count).map(|_| OnceLock::new()).collect();
        Ok(Self { gate_up, down, precision, packed })
    }

    /// How many there are.
    fn count(&self) -> usize {
        self.packed.len()
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
        let tracked = [&self.gate_up, &self.down, x, weights].into_iter().chain(plus).any(Tensor::track_op);
        if self.precision == Precision::F32 || tracked || !self.gate_up.device().is_cpu() {
            return self.differentiable(x, (chosen, weights), plus);
        }
        for &expert in chosen {
            let expert = expert as usize;
            if self.packed.get(expert).is_some_and(|packed| packed.get().is_none()) {
                // Another thread may have been faster with the same content.
                let _ = self.packed[expert].set(self.pack(expert)?);
            }
        }
        let expert = |index: usize| {
            let packed = self.packed[index].get().unwrap_or_else(|| unreachable!("packed above"));
            match packed.each_ref().map(Packed::weight) {
                [Ok(gate), Ok(up), Ok(down)] => Expert::Bf16([gate, up, down]),
                [Err(gate), Err(up), Err(down)] => Expert::Quantised([gate, up, down]),
                _ => unreachable!("packed alike"),
            }
        };
        Ok(experts(x, (chosen, weights), (self.count(), expert), plus)?)
    }

    fn pack(&self, expert: usize) -> Result<[Packed; 3]> {
        let (gate_up, down) = (self.gate_up.get(expert)?, self.down.get(expert)?);
        let hidden = down.dim(1)?;
        let pack = |weight: &Tensor| Packed::new(weight, None, self.precision);
        Ok([pack(&gate_up.narrow(0, 0, hidden)?)?, pack(&gate_up.narrow(0, hidden, hidden)?)?, pack(&down)?])
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
        let inner = swiglu(&grouped_linear(&x, &self.gate_up, &offsets, self.precision)?)?;
        // W_down is linear: its narrow input is cheaper to weight than its output.
        let order: Vec<u32> = pairs.iter().map(|&pair| pair as u32).collect();
        let weights = gather_rows(&weights.reshape((count, 1))?, &order)?;
        let inner = inner.broadcast_mul(&weights)?;
        let y = grouped_linear(&inner, &self.down, &offsets, self.precision)?;
        let mut places = vec![0; count];
        for (place, &pair) in pairs.iter().enumerate() {
            places[pair] = place as u32;
        }
        let y = gather_sums(&y, &places, choices)?;
        plus.map_or_else(|| Ok(y.clone()), |plus| Ok((plus + &y)?))
    }
}
