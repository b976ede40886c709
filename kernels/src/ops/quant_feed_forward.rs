//! The MLP of a transformer block with quantised weights in one pass: `y = [x +] W_down h + b` with
//! `h = activation(W_up n + b)` or, gated, `h = activation(W_gate n + b) ⊙ (W_up n + b)` (Shazeer 2020), and `n = norm(x)`;
//! or `y = [x +] norm(W_down h + b)` (Swin v2).
//!
//! Normalised rows and hidden rows are quantised to 8 bits, each over its whole length, so that hidden activations wait
//! for their row in `bf16`. A row of the result depends on its own row of `x` alone, bit for bit. For inference: not
//! differentiable.
//!
//! Plain reference: [`quant_feed_forward_reference`]. Error: that of rounding normalised and hidden rows to 8 bits.
#![allow(clippy::inline_always)]

use std::ops::Range;

use candle_core::{Result, Tensor, bail};

use super::activation::Activation;
use super::feed_forward::{PostNorm, feed_forward_reference};
use super::norm::RowNorm;
use super::projection::{LockedNorm, NormParameters, Schedule, Source, Store, share_rows};
use super::quant_linear::{COLUMNS, QuantWeight};
use super::support::{Elements, Out, tensor, written};
use crate::gemm::quantized::{self, Finish, Path, Place, QuantizedRows, Row, RowSource, as_floats_mut};
use crate::gemm::{self, Scratch};
use crate::simd::{LANES, Simd, dispatch};

/// A weight `(out, in)` and its bias `(out)`.
pub type Projection<'a> = (QuantWeight<'a>, Option<&'a Tensor>);

/// The weights of an MLP and what surrounds them.
#[derive(Debug, Clone, Copy)]
pub struct QuantFeedForward<'a> {
    /// Before the projections, over the rows of `x`.
    pub norm: Option<NormParameters<'a>>,
    /// `(hidden, dim)`; its product gets the activation.
    pub gate: Option<Projection<'a>>,
    /// `(hidden, dim)`; its product gets the activation where there is no gate.
    pub up: Projection<'a>,
    /// Of the gate, or of the up projection where there is none.
    pub activation: Activation,
    /// `(dim, hidden)`
    pub down: Projection<'a>,
    /// After the projections, before the residual is added.
    pub post_norm: Option<NormParameters<'a>>,
    /// Whether `x` is added.
    pub residual: bool,
}

/// Hidden activations in `bf16`, two to an element: 32 columns of all rows one after the other, then the next.
#[derive(Clone, Copy)]
struct Hidden {
    memory: Out,
    rows: usize,
    features: usize,
}

impl Hidden {
    /// # Safety
    /// The 16 columns from `column` on, a multiple of 16, belong to the caller.
    #[inline(always)]
    unsafe fn at(self, row: usize, column: usize) -> *mut u16 {
        let at = (column / COLUMNS * self.rows + row) * COLUMNS + column % COLUMNS;
        // SAFETY: the caller's promise.
        unsafe { self.memory.part(at / 2, LANES / 2).cast() }
    }
}

impl RowSource for Hidden {
    #[inline(always)]
    fn row<'a, S: Simd>(&'a self, s: S, row: usize, to: &'a mut [f32]) -> &'a [f32] {
        let to = &mut to[..self.features];
        for column in (0..self.features).step_by(LANES) {
            let n = self.features - column;
            // SAFETY: all columns were written, and nobody writes them now.
            unsafe { s.store(to.as_mut_ptr().add(column), s.load_bf16(self.at(row, column), n), n) };
        }
        to
    }
}

/// Activates 32 columns of each row.
#[inline(always)]
fn activate<S: Simd>(s: S, activation: Activation, rows: &mut [Row]) {
    // Four vectors at a time, so that the units need not wait for each step.
    let (twos, last) = rows.as_chunks_mut::<2>();
    // SAFETY: a row has 32 elements.
    unsafe {
        for rows in twos {
            let at = rows.as_mut_ptr().cast::<f32>();
            let lanes: [S::V; 4] = [
                s.load(at, LANES),
                s.load(at.add(LANES), LANES),
                s.load(at.add(2 * LANES), LANES),
                s.load(at.add(3 * LANES), LANES),
            ];
            for (i, lanes) in activation.lanes(s, lanes).into_iter().enumerate() {
                s.store(at.add(i * LANES), lanes, LANES);
            }
        }
        for row in last {
            let at = row.as_mut_ptr();
            let lanes = activation.lanes(s, [s.load(at, LANES), s.load(at.add(LANES), LANES)]);
            s.store(at, lanes[0], LANES);
            s.store(at.add(LANES), lanes[1], LANES);
        }
    }
}

/// Blocks of columns of a gate whose results wait for those of the up projection.
const PAIRS: usize = 4;

/// Where rows of gates wait: 32 columns of all rows one after the other, then the next.
#[derive(Clone, Copy)]
struct Gates {
    /// The first column.
    first: usize,
    rows: usize,
}

impl Gates {
    #[inline(always)]
    fn at(self, row: usize, column: usize) -> usize {
        (column - self.first) / COLUMNS * self.rows + row
    }
}

/// Activated results of a gate wait for those of the up projection.
struct Gate<'a> {
    gates: &'a mut [Row],
    place: Gates,
    activation: Activation,
}

impl Finish for Gate<'_> {
    #[inline(always)]
    fn finish<S: Simd>(&mut self, s: S, place: Place, rows: &mut [Row]) {
        activate(s, self.activation, rows);
        let at = self.place.at(place.row, place.column);
        self.gates[at..at + rows.len()].copy_from_slice(rows);
    }
}

/// Writes hidden activations: results of the up projection times those of the gate, or activated where there is none.
struct Activate<'a> {
    gates: Option<(&'a [Row], Gates)>,
    activation: Activation,
    hidden: Hidden,
}

impl Finish for Activate<'_> {
    #[inline(always)]
    fn finish<S: Simd>(&mut self, s: S, place: Place, rows: &mut [Row]) {
        if self.gates.is_none() {
            activate(s, self.activation, rows);
        }
        for (i, values) in rows.iter().enumerate() {
            let row = place.row + i;
            for half in (0..COLUMNS).step_by(LANES) {
                // SAFETY: a row of a block has 32 elements, and so have those of the gates and the hidden memory. The
                // caller gives each block of columns to one task.
                unsafe {
                    let mut h = s.load(values.as_ptr().add(half), LANES);
                    if let Some((gates, at)) = self.gates {
                        h = s.mul(s.load(gates[at.at(row, place.column)].as_ptr().add(half), LANES), h);
                    }
                    s.store_bf16(self.hidden.at(row, place.column + half), h, LANES);
                }
            }
        }
    }
}

/// A weight and the elements of its bias.
pub(super) type Locked<'a> = (QuantWeight<'a>, Option<&'a [f32]>);

/// The weights of an MLP.
#[derive(Clone, Copy)]
pub(super) struct LockedWeights<'a> {
    pub(super) gate: Option<Locked<'a>>,
    pub(super) up: Locked<'a>,
    pub(super) activation: Activation,
    pub(super) down: Locked<'a>,
    /// With `x` where that is added to it.
    pub(super) post_norm: Option<(RowNorm<'a>, Option<&'a [f32]>)>,
}

impl LockedWeights<'_> {
    /// Threads worth using for so many rows.
    pub(super) fn threads_for(&self, rows: usize) -> usize {
        let Self { gate, up, down, .. } = self;
        let ((hidden, dim), matrices) = (up.0.shape(), if gate.is_some() { 3 } else { 2 });
        let bytes = gate.map_or(0, |gate| gate.0.bytes()) + up.0.bytes() + down.0.bytes();
        quantized::threads_for(Path::best(), rows * dim * hidden * matrices, bytes)
    }

    /// Rows `0..rows` of `source`, to `store`.
    pub(super) fn run(&self, source: &Source<'_>, store: &Store<'_>, rows: usize, threads: usize) {
        Schedule::new(threads, rows, source.dim).run(|rows, threads| {
            let store = store.below(rows.start);
            self.chunk(source, rows, threads, &store);
        });
    }

    /// Hidden columns of `pairs`.
    fn hidden_columns(&self, x: &QuantizedRows, rows: usize, pairs: Range<usize>, hidden: Hidden) {
        let activation = self.activation;
        let (up, bias) = self.up;
        let Some((gate, gate_bias)) = self.gate else {
            return up.columns(x, pairs, bias, Activate { gates: None, activation, hidden });
        };
        let mut gates = vec![[0.0; COLUMNS]; rows * PAIRS];
        for first in pairs.clone().step_by(PAIRS) {
            let (pairs, place) =
                (first..pairs.end.min(first + PAIRS), Gates { first: first * COLUMNS, rows });
            gate.columns(x, pairs.clone(), gate_bias, Gate { gates: &mut gates, place, activation });
            up.columns(x, pairs, bias, Activate { gates: Some((&gates, place)), activation, hidden });
        }
    }

    /// Rows `rows` of `x` through all of it.
    fn chunk(&self, source: &Source<'_>, rows: Range<usize>, threads: usize, store: &Store<'_>) {
        let (features, _) = self.up.0.shape();
        let mut memory = Scratch::take((rows.len() * features.next_multiple_of(COLUMNS) / 2).div_ceil(LANES));
        let hidden = Hidden { memory: Out::new(as_floats_mut(&mut memory)), rows: rows.len(), features };
        let gate_needs = self.gate.filter(|gate| gate.0.needs_sums());
        let x = source.quantized(rows.clone(), threads > 1, gate_needs.unwrap_or(self.up).0);
        let pairs = self.up.0.pairs();
        gemm::run(threads, |thread| {
            self.hidden_columns(&x, rows.len(), gemm::part(pairs, threads, thread), hidden);
        });
        drop(x);
        let needs = (threads > 1, self.down.0.needs_sums());
        let hidden = QuantizedRows::build(rows.len(), features, needs, &hidden);
        let (down, bias) = self.down;
        gemm::run(threads, |thread| {
            let pairs = gemm::part(down.pairs(), threads, thread);
            down.columns(&hidden, pairs, bias, *store);
        });
        if let Some((norm, x)) = self.post_norm {
            share_rows(threads, rows.len(), |part| {
                let rows = rows.start + part.start..rows.start + part.end;
                dispatch(PostNorm { norm, x, y: store.out, rows });
            });
        }
    }
}

/// `x (.., dim)` to the same shape. Not differentiable.
pub fn quant_feed_forward(x: &Tensor, weights: &QuantFeedForward) -> Result<Tensor> {
    let QuantFeedForward { norm, gate, up, activation, down, post_norm, residual } = *weights;
    let (hidden, dim) = up.0.shape();
    let fits = |(weight, bias): Projection, shape: (usize, usize)| {
        weight.shape() == shape && bias.is_none_or(|bias| bias.dims() == [shape.0])
    };
    let gate_fits = gate.is_none_or(|gate| fits(gate, (hidden, dim)));
    if x.dims().last() != Some(&dim) || !gate_fits || !fits(up, (hidden, dim)) || !fits(down, (dim, hidden)) {
        bail!("quant_feed_forward: x {:?} does not fit weights ({hidden}, {dim}) and their like", x.dims());
    }
    let x = x.contiguous()?;
    let norm = norm.as_ref().map(|norm| LockedNorm::of(norm, dim)).transpose()?;
    let post_norm = post_norm.as_ref().map(|norm| LockedNorm::of(norm, dim)).transpose()?;
    let bias = |bias: Option<&Tensor>| bias.map(Tensor::contiguous).transpose();
    let biases = [bias(gate.and_then(|gate| gate.1))?, bias(up.1)?, bias(down.1)?];
    let [gate_bias, up_bias, down_bias] =
        biases.each_ref().map(|bias| bias.as_ref().map(Elements::of).transpose());
    let (gate_bias, up_bias, down_bias) = (gate_bias?, up_bias?, down_bias?);
    let elements = Elements::of(&x)?;
    let rows = elements.len() / dim.max(1);
    let source = Source { norm: norm.as_ref().map(LockedNorm::rows), x: &elements, dim, map: None };
    let locked = LockedWeights {
        gate: gate.map(|(gate, _)| (gate, gate_bias.as_deref())),
        up: (up.0, up_bias.as_deref()),
        activation,
        down: (down.0, down_bias.as_deref()),
        post_norm: post_norm.as_ref().map(|norm| (norm.rows(), residual.then_some(source.x))),
    };
    let fill = |out: Out| {
        let (whole, normed) = (Store::new(out, dim), post_norm.is_some());
        let residual = (residual && !normed).then_some(source.x);
        let store = Store { residual, streamed: whole.streamed && !normed, ..whole };
        locked.run(&source, &store, rows, locked.threads_for(rows));
    };
    // SAFETY: all rows and columns are computed.
    let y = unsafe { written(rows * dim, fill) };
    tensor(y, x.shape(), &x)
}

/// [`quant_feed_forward`] but for the rounding of activations, from candle's primitives.
pub fn quant_feed_forward_reference(x: &Tensor, weights: &QuantFeedForward) -> Result<Tensor> {
    let dense = |(weight, bias): Projection| -> Result<(Tensor, Option<Tensor>)> {
        let bias = bias.map(|bias| bias.to_dtype(x.dtype())).transpose()?;
        Ok((weight.dequantize()?.to_dtype(x.dtype())?, bias))
    };
    let (gate, up, down) = (weights.gate.map(dense).transpose()?, dense(weights.up)?, dense(weights.down)?);
    let gate = gate.as_ref().map(|(weight, bias)| (weight, bias.as_ref()));
    let (up, down) = ((&up.0, up.1.as_ref()), (&down.0, down.1.as_ref()));
    let norms = (weights.norm, weights.post_norm);
    feed_forward_reference(x, norms, (gate, up, down), weights.activation, weights.residual)
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;
    use crate::ops::quant_linear::tests::random;
    use crate::ops::tests::{error, flat, same_on_threads};
    use crate::quant::{Int4Weight, Int8Weight};

    struct Owned {
        int8: Int8Weight,
        int4: Int4Weight,
        bias: Tensor,
    }

    impl Owned {
        fn new(out: usize, inner: usize, seed: usize) -> Result<Self> {
            let weight = (random(&[out, inner], seed)? * (inner as f64).sqrt().recip())?;
            let weight = weight.flatten_all()?.to_vec1::<f32>()?;
            let (int8, int4) = (Int8Weight::new(&weight, out, inner), Int4Weight::new(&weight, out, inner));
            Ok(Self { int8, int4, bias: random(&[out], seed + 1)? })
        }

        fn projection(&self, four_bits: bool, bias: bool) -> Projection<'_> {
            let weight = if four_bits { (&self.int4).into() } else { (&self.int8).into() };
            (weight, bias.then_some(&self.bias))
        }
    }

    #[test]
    fn feed_forwards_are_near_their_reference() -> Result<()> {
        let activations = [Activation::Silu, Activation::Gelu, Activation::Relu];
        for (case, (rows, dim, hidden)) in
            [(1, 64, 96), (3, 70, 33), (0, 40, 50), (17, 130, 300), (70, 96, 65), (300, 33, 40)]
                .into_iter()
                .enumerate()
        {
            let x = random(&[rows, dim], case)?;
            let gate = Owned::new(hidden, dim, 10 + case)?;
            let (up, down) = (Owned::new(hidden, dim, 20 + case)?, Owned::new(dim, hidden, 30 + case)?);
            let (weight, bias) = ((random(&[dim], 40)? + 1.0)?, random(&[dim], 41)?);
            let doubled = [&x, &weight, &bias].map(|x| x.to_dtype(DType::F64));
            let [x2, weight2, bias2] = doubled;
            let (x2, weight2, bias2) = (x2?, weight2?, bias2?);
            for options in 0..64 {
                let [four, gated, normed, biased, residual, post] =
                    [1, 2, 4, 8, 16, 32].map(|bit| options & bit != 0);
                let norm_if = |there: bool, weight, bias| {
                    there.then_some(NormParameters { weight, bias: biased.then_some(bias), eps: 1e-5 })
                };
                let with_norms = |weights, weight, bias| QuantFeedForward {
                    norm: norm_if(normed, weight, bias),
                    post_norm: norm_if(post, weight, bias),
                    ..weights
                };
                let weights = QuantFeedForward {
                    norm: None,
                    gate: gated.then(|| gate.projection(four, biased)),
                    up: up.projection(four, biased),
                    activation: activations[case % 3],
                    down: down.projection(four, false),
                    post_norm: None,
                    residual,
                };
                let found = quant_feed_forward(&x, &with_norms(weights, &weight, &bias))?;
                let expected = quant_feed_forward_reference(&x2, &with_norms(weights, &weight2, &bias2))?;
                // Two roundings to 8 bits, each of 0.5 % to 1 % of a typical value, see below `quant_linear`.
                let error = error(&found, &expected, residual.then_some(&x));
                assert!(error < 0.03, "{rows} x {dim} x {hidden}, options {options}: {error}");
            }
        }
        Ok(())
    }

    #[test]
    fn a_row_depends_on_itself_alone() -> Result<()> {
        let (dim, hidden) = (96, 200);
        let (gate, up) = (Owned::new(hidden, dim, 1)?, Owned::new(hidden, dim, 3)?);
        let (down, weight) = (Owned::new(dim, hidden, 5)?, (random(&[dim], 7)? + 1.0)?);
        for four in [false, true] {
            let weights = QuantFeedForward {
                norm: Some(NormParameters { weight: &weight, bias: None, eps: 1e-5 }),
                gate: Some(gate.projection(four, false)),
                up: up.projection(four, true),
                activation: Activation::Silu,
                down: down.projection(four, true),
                post_norm: None,
                residual: true,
            };
            for rows in [1, 5, 40, 600] {
                let x = random(&[rows, dim], rows)?;
                let all = quant_feed_forward(&x, &weights)?;
                for (first, count) in [(0, 1), (rows / 3, rows - rows / 3), (rows - 1, 1)] {
                    let part = quant_feed_forward(&x.narrow(0, first, count)?, &weights)?;
                    assert!(
                        flat(&part) == flat(&all.narrow(0, first, count)?),
                        "{count} of {rows} rows from {first}"
                    );
                }
                same_on_threads("quant_feed_forward", &|| quant_feed_forward(&x, &weights));
            }
        }
        Ok(())
    }

    #[test]
    fn shapes_are_checked() -> Result<()> {
        let (up, down) = (Owned::new(5, 4, 1)?, Owned::new(4, 5, 2)?);
        let x = Tensor::zeros((2, 4), DType::F32, &Device::Cpu)?;
        let weights = QuantFeedForward {
            norm: None,
            gate: None,
            up: up.projection(true, true),
            activation: Activation::Relu,
            down: down.projection(false, true),
            post_norm: None,
            residual: false,
        };
        assert!(quant_feed_forward(&x, &weights).is_ok());
        assert!(quant_feed_forward(&x.t()?, &weights).is_err());
        assert!(
            quant_feed_forward(&x, &QuantFeedForward { gate: Some(down.projection(true, true)), ..weights })
                .is_err()
        );
        assert!(
            quant_feed_forward(&x, &QuantFeedForward { down: up.projection(true, true), ..weights }).is_err()
        );
        let bias = (weights.up.0, Some(&down.bias));
        assert!(quant_feed_forward(&x, &QuantFeedForward { up: bias, ..weights }).is_err());
        Ok(())
    }
}
