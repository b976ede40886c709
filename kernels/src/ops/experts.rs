//! The routed experts of a mixture in one pass: `y_n = [z_n +] Σ_c w_nc E_e(x_n)` over the choices `c` of a row, `e = e_nc`, with
//! SwiGLU experts `E_e(x) = W_down,e (SiLU(W_gate,e x) ⊙ W_up,e x)` (DeepSeekMoE, arXiv 2401.06066); constant weights.
//!
//! The rows of an expert go through its MLP together, read where they are in `x`; its results wait in the order of rows and
//! choices, to be added in that order. A row of the result depends on its own row of `x` and its own choices alone, bit for bit.
//!
//! Plain reference: [`experts_reference`]. Error: that of [`feed_forward`] or
//! [`quant_feed_forward`](super::quant_feed_forward). Not differentiable.
#![allow(clippy::inline_always)]

use candle_core::{Result, Tensor, bail};

use super::activation::Activation;
use super::feed_forward::{self, FeedForward, feed_forward_reference};
use super::projection::{Source, Store};
use super::quant_feed_forward::LockedWeights;
use super::quant_linear::QuantWeight;
use super::support::{Elements, Out, for_chunks, tensor, written};
use crate::gemm::{self, PackedWeight};
use crate::simd::{Kernel, LANES, Simd, dispatch};

/// The weights of an expert: of the gate `(hidden, dim)`, of what it lets through `(hidden, dim)`, and `(dim, hidden)` back.
#[derive(Debug, Clone, Copy)]
pub enum Expert<'a> {
    /// In `bf16`.
    Bf16([&'a PackedWeight; 3]),
    /// In few bits.
    Quantised([QuantWeight<'a>; 3]),
}

impl<'a> Expert<'a> {
    /// `(out, in)` of each.
    fn shapes(&self) -> [(usize, usize); 3] {
        match self {
            Self::Bf16(weights) => weights.map(|weight| (weight.out_features(), weight.in_features())),
            Self::Quantised(weights) => weights.map(|weight| weight.shape()),
        }
    }

    fn mlp(&self) -> Mlp<'a> {
        let activation = Activation::Silu;
        match *self {
            Self::Bf16([gate, up, down]) => Mlp::Bf16(FeedForward {
                norm: None,
                gate: Some(gate),
                up,
                activation,
                down,
                post_norm: None,
                residual: false,
            }),
            Self::Quantised([gate, up, down]) => Mlp::Quantised(LockedWeights {
                gate: Some((gate, None)),
                up: (up, None),
                activation,
                down: (down, None),
                post_norm: None,
            }),
        }
    }
}

/// An expert as the operations for dense MLPs take it.
enum Mlp<'a> {
    Bf16(FeedForward<'a>),
    Quantised(LockedWeights<'a>),
}

impl Mlp<'_> {
    fn threads_for(&self, rows: usize) -> usize {
        match self {
            Self::Bf16(weights) => feed_forward::threads_for(weights, rows),
            Self::Quantised(weights) => weights.threads_for(rows),
        }
    }

    fn run(&self, source: Source<'_>, store: Store<'_>, rows: usize, threads: usize) {
        match self {
            Self::Bf16(weights) => feed_forward::run(weights, source, None, store, rows, threads),
            Self::Quantised(weights) => weights.run(&source, &store, rows, threads),
        }
    }
}

/// The pairs of a row and one of its choices, in the order of the chosen experts.
pub(crate) struct Grouped {
    /// The pair at each place, as row · choices + choice.
    pub(crate) pairs: Vec<usize>,
    /// First place of each expert, and the number of pairs.
    pub(crate) offsets: Vec<usize>,
}

impl Grouped {
    /// `chosen (rows · choices)`, each below `experts`.
    pub(crate) fn new(chosen: &[u32], experts: usize) -> Result<Self> {
        let mut offsets = vec![0; experts + 1];
        for &expert in chosen {
            match offsets.get_mut(expert as usize + 1) {
                Some(count) => *count += 1,
                None => bail!("expert {expert} of {experts}"),
            }
        }
        for expert in 0..experts {
            offsets[expert + 1] += offsets[expert];
        }
        let mut next = offsets.clone();
        let mut pairs = vec![0; chosen.len()];
        for (pair, &expert) in chosen.iter().enumerate() {
            pairs[next[expert as usize]] = pair;
            next[expert as usize] += 1;
        }
        Ok(Self { pairs, offsets })
    }
}

/// Rows of `x (rows, dim)` through the experts `chosen (rows · choices)`, each below `count`, with `weights (rows, choices)`,
/// added to `plus (rows, dim)` if given. `expert` is asked for the experts that have rows.
pub fn experts<'a>(
    x: &Tensor,
    (chosen, weights): (&[u32], &Tensor),
    (count, expert): (usize, impl Fn(usize) -> Expert<'a> + Sync),
    plus: Option<&Tensor>,
) -> Result<Tensor> {
    let ((rows, dim), (weighted, choices)) = (x.dims2()?, weights.dims2()?);
    if weighted != rows || chosen.len() != rows * choices || plus.is_some_and(|plus| plus.dims() != x.dims())
    {
        let (chosen, weights, plus) = (chosen.len(), weights.dims(), plus.map(Tensor::dims));
        bail!(
            "experts: {chosen} choices, weights {weights:?} and {plus:?} to add do not fit x {:?}",
            x.dims()
        );
    }
    let Grouped { pairs, offsets } = Grouped::new(chosen, count)?;
    let groups: Vec<usize> = (0..count).filter(|&e| offsets[e + 1] > offsets[e]).collect();
    for &group in &groups {
        let [gate @ (hidden, _), up, down] = expert(group).shapes();
        if [gate, up, down] != [(hidden, dim), (hidden, dim), (dim, hidden)] {
            bail!("experts: weights {gate:?}, {up:?} and {down:?} of expert {group} for rows of {dim}");
        }
    }
    let (x, weights) = (x.contiguous()?, weights.contiguous()?);
    let plus = plus.map(Tensor::contiguous).transpose()?;
    let (elements, weights) = (Elements::of(&x)?, Elements::of(&weights)?);
    let plus = plus.as_ref().map(Elements::of).transpose()?;
    let from: Vec<usize> = pairs.iter().map(|pair| pair / choices).collect();
    let fill = |out: Out| {
        let run = |group: usize, threads: usize| {
            let places = offsets[group]..offsets[group + 1];
            let source = Source { norm: None, x: &elements, dim, map: Some(&from[places.clone()]) };
            let map = Some(&pairs[places.clone()]);
            let store = Store { map, ..Store::new(out, dim) };
            expert(group).mlp().run(source, store, places.len(), threads);
        };
        let threads = groups.first().map_or(1, |&e| expert(e).mlp().threads_for(pairs.len()));
        // Each thread takes as many experts, and all share those that are left.
        let alone = groups.len() / threads * threads;
        gemm::run_chunks(threads, alone, |index| run(groups[index], 1));
        groups[alone..].iter().for_each(|&group| run(group, threads));
    };
    // SAFETY: every pair belongs to one expert, which computes all its columns.
    let results = unsafe { written(pairs.len() * dim, fill) };
    let sum = |out: Out| {
        // Rows of a task: some ten thousand additions.
        let chunk = (8192 / (dim * choices).max(1)).max(1);
        for_chunks(rows, chunk, pairs.len() * dim, |_, rows| {
            for row in rows {
                let at = row * dim..(row + 1) * dim;
                let (weights, plus) = (&weights[row * choices..][..choices], plus.as_ref());
                let results = &results[at.start * choices..at.end * choices];
                // SAFETY: the row is this task's.
                let to = unsafe { out.part(at.start, dim) };
                dispatch(Sum { results, weights, plus: plus.map(|plus| &plus[at]), dim, to });
            }
        });
    };
    // SAFETY: all rows are computed.
    let y = unsafe { written(rows * dim, sum) };
    tensor(y, (rows, dim), &x)
}

/// One row: `to = [plus +] Σ_c weights[c] results[c]`, in the order of choices.
struct Sum<'a> {
    /// `(choices, dim)`
    results: &'a [f32],
    weights: &'a [f32],
    plus: Option<&'a [f32]>,
    dim: usize,
    to: *mut f32,
}

impl Kernel for Sum<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { results, weights, plus, dim, to } = self;
        assert!(results.len() == weights.len() * dim && plus.is_none_or(|plus| plus.len() == dim));
        for at in (0..dim).step_by(LANES) {
            let n = dim - at;
            // SAFETY: rows have `dim` elements (asserted, and the caller's promise for `to`); lanes beyond are not touched.
            unsafe {
                let mut y = match plus {
                    Some(plus) => s.load(plus.as_ptr().add(at), n),
                    None => s.splat(0.0),
                };
                for (choice, &weight) in weights.iter().enumerate() {
                    let result = s.load(results.as_ptr().add(choice * dim + at), n);
                    y = s.fma(result, s.splat(weight), y);
                }
                s.store(to.add(at), y, n);
            }
        }
    }
}

/// [`experts`] of candle primitives, row by row; `expert` gives the weights `(hidden, dim)`, `(hidden, dim)`, `(dim, hidden)`.
pub fn experts_reference(
    x: &Tensor,
    (chosen, weights): (&[u32], &Tensor),
    expert: impl Fn(usize) -> [Tensor; 3],
    plus: Option<&Tensor>,
) -> Result<Tensor> {
    let (rows, choices) = weights.dims2()?;
    let mut y = plus.map_or_else(|| x.zeros_like(), |plus| Ok(plus.clone()))?;
    for row in 0..rows {
        for choice in 0..choices {
            let [gate, up, down] = expert(chosen[row * choices + choice] as usize);
            let weights_of_mlp = (Some((&gate, None)), (&up, None), (&down, None));
            let x = x.narrow(0, row, 1)?;
            let result = feed_forward_reference(&x, (None, None), weights_of_mlp, Activation::Silu, false)?;
            let weight = weights.narrow(0, row, 1)?.narrow(1, choice, 1)?;
            let at = Tensor::new(&[row as u32], x.device())?;
            y = y.index_add(&at, &result.broadcast_mul(&weight.to_dtype(x.dtype())?)?, 0)?;
        }
    }
    Ok(y)
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;
    use crate::layers::Experts;
    use crate::ops::quant_linear::tests::random;
    use crate::ops::tests::{error, flat, same_on_threads};
    use crate::quant::{Int4Weight, Int8Weight};
    use crate::{Error, Precision};

    const PRECISIONS: [Precision; 4] = [Precision::F32, Precision::Bf16, Precision::Int8, Precision::Int4];

    struct Case {
        x: Tensor,
        plus: Tensor,
        chosen: Vec<u32>,
        weights: Tensor,
        gate_up: Tensor,
        down: Tensor,
    }

    impl Case {
        /// With choices that favour some experts and leave others out.
        fn new(rows: usize, choices: usize, (count, dim, hidden): (usize, usize, usize)) -> Result<Self> {
            let seed = rows + dim;
            let choice = |pair: usize| ((pair / choices * 7 + pair % choices * 3) % count / 2 * 2) as u32;
            let scale = |inner: usize| (inner as f64).sqrt().recip();
            Ok(Self {
                x: random(&[rows, dim], seed)?,
                plus: random(&[rows, dim], seed + 1)?,
                chosen: (0..rows * choices).map(choice).collect(),
                weights: random(&[rows, choices], seed + 2)?.abs()?,
                gate_up: (random(&[count, 2 * hidden, dim], seed + 3)? * scale(dim))?,
                down: (random(&[count, dim, hidden], seed + 4)? * scale(hidden))?,
            })
        }

        fn layer(&self, precision: Precision) -> crate::Result<Experts> {
            Experts::from_parts(self.gate_up.clone(), self.down.clone(), precision)
        }

        /// Rows `first..first + count`.
        fn run(&self, layer: &Experts, plus: bool, (first, count): (usize, usize)) -> crate::Result<Tensor> {
            let choices = self.weights.dim(1)?;
            let chosen = &self.chosen[first * choices..(first + count) * choices];
            let part = |x: &Tensor| x.narrow(0, first, count);
            let plus = plus.then(|| part(&self.plus)).transpose()?;
            layer.forward(&part(&self.x)?, (chosen, &part(&self.weights)?), plus.as_ref())
        }

        /// In `f64`, from weights as they are stored.
        fn expected(&self, precision: Precision, plus: bool) -> Result<Tensor> {
            let hidden = self.down.dim(2)?;
            let stored = |weight: Tensor| {
                let (out, inner) = weight.dims2()?;
                let values = weight.flatten_all()?.to_vec1::<f32>()?;
                let values = match precision {
                    Precision::Int8 => Int8Weight::new(&values, out, inner).dequantize(),
                    Precision::Int4 => Int4Weight::new(&values, out, inner).dequantize(),
                    Precision::F32 | Precision::Bf16 => values,
                };
                Tensor::from_vec(values, (out, inner), &Device::Cpu)?.to_dtype(DType::F64)
            };
            let expert = |index: usize| -> Result<[Tensor; 3]> {
                let gate_up = self.gate_up.get(index)?;
                let (gate, up) = (gate_up.narrow(0, 0, hidden)?, gate_up.narrow(0, hidden, hidden)?);
                Ok([stored(gate)?, stored(up)?, stored(self.down.get(index)?)?])
            };
            let plus = plus.then(|| self.plus.to_dtype(DType::F64)).transpose()?;
            let expert = |index| expert(index).expect("weights");
            let x = self.x.to_dtype(DType::F64)?;
            experts_reference(&x, (&self.chosen, &self.weights), expert, plus.as_ref())
        }
    }

    #[test]
    fn experts_match_their_reference() -> crate::Result<()> {
        for (rows, choices, sizes) in [
            (1, 1, (1, 24, 20)),
            (0, 2, (3, 16, 8)),
            (1, 3, (8, 64, 40)),
            (5, 2, (4, 33, 17)),
            (40, 6, (9, 96, 50)),
            (150, 2, (3, 40, 130)),
        ] {
            let case = Case::new(rows, choices, sizes)?;
            for (precision, plus) in PRECISIONS.into_iter().flat_map(|p| [(p, false), (p, true)]) {
                let found = case.run(&case.layer(precision)?, plus, (0, rows))?;
                let expected = case.expected(precision, plus)?;
                let error = error(&found, &expected, plus.then_some(&case.plus));
                // Rounding to 24 bits, to 8 bits of mantissa, and to 8 bits in all, twice in a row: see `ops::tests` and
                // `quant_feed_forward`.
                let most = match precision {
                    Precision::F32 => 1e-5,
                    Precision::Bf16 => 6e-3,
                    Precision::Int8 | Precision::Int4 => 0.03,
                };
                assert!(error < most, "{rows} rows, {choices} of {sizes:?}, {precision:?}: {error}");
            }
        }
        Ok(())
    }

    #[test]
    fn a_row_depends_on_itself_alone() -> crate::Result<()> {
        let case = Case::new(90, 3, (7, 96, 200))?;
        for precision in PRECISIONS {
            let layer = case.layer(precision)?;
            let all = case.run(&layer, true, (0, 90))?;
            for (first, count) in [(0, 1), (30, 60), (89, 1), (40, 7)] {
                let part = case.run(&layer, true, (first, count))?;
                assert!(flat(&part) == flat(&all.narrow(0, first, count)?), "{precision:?}: from {first}");
            }
            same_on_threads("experts", &|| case.run(&layer, true, (0, 90)).map_err(candle_core::Error::wrap));
        }
        Ok(())
    }

    #[test]
    fn misfits_are_errors() -> crate::Result<()> {
        let case = Case::new(2, 2, (3, 16, 8))?;
        for precision in [Precision::F32, Precision::Bf16] {
            let layer = case.layer(precision)?;
            let forward = |x: &Tensor, chosen: &[u32], plus: Option<&Tensor>| {
                layer.forward(x, (chosen, &case.weights), plus).map_err(|e: Error| e.to_string())
            };
            assert!(forward(&case.x, &[0, 1, 2, 0], None).is_ok());
            assert!(forward(&case.x, &[0, 1, 3, 0], None).is_err_and(|e| e.contains("expert 3 of 3")));
            assert!(forward(&case.x, &[0, 1, 2], None).is_err(), "a choice too few");
            assert!(forward(&random(&[2, 15], 0)?, &[0, 1, 2, 0], None).is_err(), "narrow rows");
            assert!(forward(&case.x, &[0, 1, 2, 0], Some(&random(&[2, 15], 0)?)).is_err(), "a narrow addend");
        }
        assert!(Experts::from_parts(case.gate_up, case.down.narrow(2, 0, 7)?, Precision::Bf16).is_err());
        Ok(())
    }
}
