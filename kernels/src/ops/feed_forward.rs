//! The MLP of a transformer block in one pass: `y = [x +] post(W_down h + b)` with `h = activation(W_up n + b)` or, gated,
//! `h = activation(W_gate n + b) ⊙ (W_up n + b)` (Shazeer 2020), and `n = norm(x)`; constant weights in `bf16`.
//!
//! A chunk of rows is normalised into tiles; a part of its hidden activations, as many as the second-level cache holds, is written
//! as tiles from the blocks of the first product, and added to the sums of the second one, part after part.
//! A row of the result depends on its own row of `x` alone, bit for bit.
//!
//! Plain reference: [`feed_forward_reference`]. Error: that of rounding normalised rows, hidden activations and weights to `bf16`.
#![allow(clippy::inline_always)]

use std::ops::Range;

use candle_core::{Result, Tensor, bail};

use super::activation::Activation;
use super::linear::linear_reference;
use super::norm::RowNorm;
use super::projection::{LockedNorm, NormParameters, Schedule, Source, Store, share_rows};
use super::support::{Elements, Out, tensor, written};
use crate::gemm::{
    self, Depth, Epilogue, PackedWeight, Path, Results, Right, RowTiles, Scratch, Session, Sums, for_blocks,
};
use crate::simd::{Kernel, LANES, Simd, dispatch};

/// The weights of an MLP and what surrounds them.
#[derive(Debug, Clone, Copy)]
pub struct FeedForward<'a> {
    /// Before the projections, over the rows of `x`.
    pub norm: Option<NormParameters<'a>>,
    /// `(hidden, dim)`; its product gets the activation.
    pub gate: Option<&'a PackedWeight>,
    /// `(hidden, dim)`; its product gets the activation where there is no gate.
    pub up: &'a PackedWeight,
    /// Of the gate, or of the up projection where there is none.
    pub activation: Activation,
    /// `(dim, hidden)`
    pub down: &'a PackedWeight,
    /// After the projections, before the residual is added (Swin v2).
    pub post_norm: Option<NormParameters<'a>>,
    /// Whether `x` is added.
    pub residual: bool,
}

/// Bytes of hidden activations that stay in the second-level cache beside the rows and the weights that stream through it.
const HIDDEN_BYTES: usize = 5 << 18;

/// Hidden columns to a step of the second product.
const STEP: usize = 32;

/// Writes hidden activations as the tiles of the next product.
struct Activate {
    hidden: RowTiles,
    /// The hidden column that is the first of the tiles.
    first: usize,
    activation: Activation,
    /// Whether the blocks are those of [`Right::Gated`].
    gated: bool,
}

impl Epilogue for Activate {
    const ROWS_TOGETHER: usize = 4;

    /// # Safety
    /// Nobody else uses these rows and columns of the hidden tiles.
    #[inline(always)]
    unsafe fn block<S: Simd>(
        &mut self,
        s: S,
        row: usize,
        lines: Range<usize>,
        column: usize,
        results: &Results,
    ) {
        let column = column.wrapping_sub(self.first);
        // Four vectors at a time; the last rows may be done twice.
        for i in lines.clone().step_by(if self.gated { 4 } else { 2 }) {
            let line = |k: usize| (i + k).min(lines.end - 1);
            let to = |k: usize| self.hidden.element(row + line(k), column);
            // SAFETY: the caller's promise; columns beyond the last are zero, as activations of 0 are 0.
            unsafe {
                if self.gated {
                    let gates = [
                        results.lanes(s, line(0), 0),
                        results.lanes(s, line(1), 0),
                        results.lanes(s, line(2), 0),
                        results.lanes(s, line(3), 0),
                    ];
                    let gates = self.activation.lanes(s, gates);
                    for k in 0..4 {
                        s.store_bf16(to(k), s.mul(gates[k], results.lanes(s, line(k), 1)), LANES);
                    }
                } else {
                    let hidden = [
                        results.lanes(s, line(0), 0),
                        results.lanes(s, line(0), 1),
                        results.lanes(s, line(1), 0),
                        results.lanes(s, line(1), 1),
                    ];
                    let hidden = self.activation.lanes(s, hidden);
                    for k in 0..2 {
                        s.store_bf16(to(k), hidden[2 * k], LANES);
                        s.store_bf16(to(k).add(LANES), hidden[2 * k + 1], LANES);
                    }
                }
            }
        }
    }
}

/// What a part computes of a chunk of rows.
#[derive(Clone)]
enum Stage {
    /// Normalised rows, as tiles: these, from a multiple of 16 on.
    Rows(Range<usize>),
    /// Hidden columns, as steps of the second product of which the tiles hold those from the first number on.
    Hidden(usize, Range<usize>),
    /// Pairs of columns of the result, over these steps.
    Down(Range<usize>, Range<usize>),
}

#[derive(Clone, Copy)]
struct Chunk<'a> {
    weights: FeedForward<'a>,
    source: Source<'a>,
    first_row: usize,
    rows: usize,
    tiles: RowTiles,
    /// Room for the tiles of one part.
    hidden: RowTiles,
    /// Where there is more than one part.
    sums: Option<Sums>,
    store: Store<'a>,
}

struct Part<'a>(Chunk<'a>, Stage);

impl Kernel for Part<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self(chunk, stage) = self;
        // SAFETY: the caller runs the stages in order, and gives each row or column to one part.
        unsafe {
            match stage {
                Stage::Rows(rows) => {
                    let from = chunk.first_row + rows.start..chunk.first_row + rows.end;
                    chunk.source.write(s, from, chunk.tiles.below(rows.start));
                }
                Stage::Hidden(first, steps) => chunk.hidden_columns(s, first, steps),
                Stage::Down(pairs, steps) => chunk.down_columns(s, pairs, steps),
            }
        }
    }
}

impl Chunk<'_> {
    /// With tiles for so many steps of the second product.
    fn with_hidden(self, steps: usize) -> Self {
        Self { hidden: self.hidden.of_steps(steps), ..self }
    }

    #[inline(always)]
    unsafe fn hidden_columns<S: Simd>(&self, s: S, first: usize, steps: Range<usize>) {
        let FeedForward { gate, up, activation, .. } = self.weights;
        let mut activate =
            Activate { hidden: self.hidden, first: first * STEP, activation, gated: gate.is_some() };
        let (right, blocks) = match gate {
            Some(gate) => (Right::Gated(gate, up), 2 * steps.start..2 * steps.end),
            None => (Right::One(up), steps),
        };
        let session = Session::new(Path::best());
        let left = (self.tiles, self.rows);
        // SAFETY: the tiles are written; the hidden columns are this part's own.
        unsafe { for_blocks(s, &session, left, right, blocks, Depth::WHOLE, &mut activate) };
    }

    #[inline(always)]
    unsafe fn down_columns<S: Simd>(&self, s: S, pairs: Range<usize>, steps: Range<usize>) {
        let mut store = self.store.below(self.first_row);
        let session = Session::new(Path::best());
        let depth = Depth { first: steps.start, sums: self.sums };
        let (left, right) = ((self.hidden, self.rows), Right::One(self.weights.down));
        // SAFETY: the hidden tiles are written; the columns of the result are this part's own.
        unsafe { for_blocks(s, &session, left, right, pairs, depth, &mut store) };
    }
}

/// `y = [x +] norm(y)` of some rows, which are the caller's own.
pub(super) struct PostNorm<'a> {
    pub(super) norm: RowNorm<'a>,
    /// All of `x`, where it is added.
    pub(super) x: Option<&'a [f32]>,
    pub(super) y: Out,
    pub(super) rows: Range<usize>,
}

impl Kernel for PostNorm<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let dim = self.norm.dim();
        for row in self.rows {
            let x = self.x.map(|x| &x[row * dim..(row + 1) * dim]);
            // SAFETY: the rows of the result are the caller's own.
            unsafe { norm_in_place(s, &self.norm, x, self.y.part(row * dim, dim)) };
        }
    }
}

/// `y = [x +] norm(y)` of one row.
///
/// # Safety
/// `y` has as many elements as the norm.
#[inline(always)]
pub(super) unsafe fn norm_in_place<S: Simd>(s: S, norm: &RowNorm<'_>, x: Option<&[f32]>, y: *mut f32) {
    let dim = norm.dim();
    assert!(x.is_none_or(|x| x.len() == dim));
    // SAFETY: the caller's promise.
    unsafe {
        let statistics = norm.statistics(s, y);
        for at in (0..dim).step_by(LANES) {
            let mut normal = norm.lanes(s, y, at, statistics);
            if let Some(x) = x {
                normal = s.add(s.load(x.as_ptr().add(at), dim - at), normal);
            }
            s.store(y.add(at), normal, dim - at);
        }
    }
}

/// `x (.., dim)` to the same shape. Not differentiable.
pub fn feed_forward(x: &Tensor, weights: &FeedForward) -> Result<Tensor> {
    let FeedForward { norm, gate, up, down, post_norm, .. } = weights;
    let (dim, hidden) = (up.in_features(), up.out_features());
    let gate_fits = gate.is_none_or(|gate| (gate.in_features(), gate.out_features()) == (dim, hidden));
    if x.dims().last() != Some(&dim)
        || (down.in_features(), down.out_features()) != (hidden, dim)
        || !gate_fits
    {
        bail!("feed_forward: x {:?} does not fit weights ({hidden}, {dim}) and their like", x.dims());
    }
    let x = x.contiguous()?;
    let norm = norm.as_ref().map(|norm| LockedNorm::of(norm, dim)).transpose()?;
    let post_norm = post_norm.as_ref().map(|norm| LockedNorm::of(norm, dim)).transpose()?;
    let elements = Elements::of(&x)?;
    let rows = elements.len() / dim.max(1);
    let source = Source { norm: norm.as_ref().map(LockedNorm::rows), x: &elements, dim, map: None };
    let post_norm = post_norm.as_ref().map(LockedNorm::rows);
    // SAFETY: all rows and columns are computed.
    let y = unsafe {
        written(rows * dim, |out| {
            let residual = (weights.residual && post_norm.is_none()).then_some(source.x);
            let whole = Store::new(out, dim);
            let store = Store { residual, streamed: whole.streamed && post_norm.is_none(), ..whole };
            run(weights, source, post_norm, store, rows, threads_for(weights, rows));
        })
    };
    tensor(y, x.shape(), &x)
}

/// Threads worth using for so many rows.
pub(super) fn threads_for(weights: &FeedForward, rows: usize) -> usize {
    let FeedForward { gate, up, down, .. } = weights;
    let matrices = if gate.is_some() { 3 } else { 2 };
    let bytes = gate.map_or(0, PackedWeight::bytes) + up.bytes() + down.bytes();
    gemm::threads_for(rows * up.in_features() * up.out_features() * matrices, bytes)
}

/// Rows `0..rows` of `source`, to `store`.
pub(super) fn run(
    weights: &FeedForward,
    source: Source<'_>,
    post_norm: Option<RowNorm<'_>>,
    store: Store<'_>,
    rows: usize,
    threads: usize,
) {
    if rows == 0 {
        return;
    }
    let dim = source.dim;
    let schedule = Schedule::new(threads, rows, 2 * dim);
    let (steps, pairs, most) = (weights.up.pairs(), weights.down.pairs(), schedule.most_rows());
    let parts = steps.div_ceil(gemm::whole_passes(HIDDEN_BYTES / (2 * STEP * most))).max(1);
    schedule.run(|rows, threads| {
        let depth = steps.div_ceil(parts) * STEP;
        let mut memory = [
            Scratch::take(RowTiles::lines(most, dim)),
            Scratch::take(RowTiles::lines(most, depth)),
            Scratch::take(if parts > 1 { Sums::lines(pairs, most) } else { 0 }),
        ];
        let [tiles, inner, sums] = &mut memory;
        let chunk = Chunk {
            weights: *weights,
            source,
            first_row: rows.start,
            rows: rows.len(),
            tiles: RowTiles::new(tiles, most, dim),
            hidden: RowTiles::new(inner, most, depth),
            sums: (parts > 1).then(|| Sums::new(sums, rows.len())),
            store,
        };
        let share = |range: &Range<usize>, thread: usize| {
            let part = gemm::part(range.len(), threads, thread);
            range.start + part.start..range.start + part.end
        };
        share_rows(threads, chunk.rows, |rows| dispatch(Part(chunk, Stage::Rows(rows))));
        for steps in (0..parts).map(|part| gemm::part(steps, parts, part)) {
            let chunk = chunk.with_hidden(steps.len());
            gemm::run(threads, |thread| {
                dispatch(Part(chunk, Stage::Hidden(steps.start, share(&steps, thread))));
            });
            gemm::run(threads, |thread| {
                dispatch(Part(chunk, Stage::Down(share(&(0..pairs), thread), steps.clone())));
            });
        }
        if let Some(norm) = post_norm {
            let x = weights.residual.then_some(source.x);
            share_rows(threads, rows.len(), |part| {
                let rows = rows.start + part.start..rows.start + part.end;
                dispatch(PostNorm { norm, x, y: store.out, rows });
            });
        }
    });
}

/// A weight `(out, in)` and its bias `(out)`.
pub type Matrix<'a> = (&'a Tensor, Option<&'a Tensor>);

/// [`feed_forward`] of candle primitives in `f32`.
pub fn feed_forward_reference(
    x: &Tensor,
    (norm, post_norm): (Option<NormParameters>, Option<NormParameters>),
    (gate, up, down): (Option<Matrix>, Matrix, Matrix),
    activation: Activation,
    residual: bool,
) -> Result<Tensor> {
    let linear = |x: &Tensor, (weight, bias): Matrix| linear_reference(x, weight, bias);
    let normed = norm.map_or_else(|| Ok(x.clone()), |norm| norm.reference(x))?;
    let hidden = match gate {
        Some(gate) => (activation.reference(&linear(&normed, gate)?)? * linear(&normed, up)?)?,
        None => activation.reference(&linear(&normed, up)?)?,
    };
    let y = linear(&hidden, down)?;
    let y = post_norm.map_or_else(|| Ok(y.clone()), |norm| norm.reference(&y))?;
    if residual { x + y } else { Ok(y) }
}
