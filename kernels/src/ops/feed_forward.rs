//! The MLP of a transformer block in one pass: `y = [x +] post(W_down h + b)` with `h = activation(W_up n + b)` or, gated,
//! `h = activation(W_gate n + b) ⊙ (W_up n + b)` (Shazeer 2020), and `n = norm(x)`; constant weights in `bf16`.
//!
//! A chunk of rows is normalised into tiles, its hidden activations are written as tiles from the blocks of the first
//! product, and the second product adds the residual: nothing between `x` and `y` goes through memory.
//! A row of the result depends on its own row of `x` alone, bit for bit.
//!
//! Plain reference: [`feed_forward_reference`]. Error: that of rounding normalised rows, hidden activations and weights to `bf16`.
#![allow(clippy::inline_always)]

use std::ops::Range;

use candle_core::{Result, Tensor, bail};

use super::activation::Activation;
use super::linear::linear_reference;
use super::norm::RowNorm;
use super::projection::{LockedNorm, NormParameters, Schedule, Store, WriteRows};
use super::support::{Elements, Out, tensor, written};
use crate::gemm::{self, Epilogue, PackedWeight, Path, Results, RowTiles, Scratch, Session, for_blocks};
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

/// Writes hidden activations as the tiles of the next product.
struct Activate {
    hidden: RowTiles,
    activation: Activation,
}

impl Epilogue<1> for Activate {
    /// # Safety
    /// Nobody else uses these rows and columns of the hidden tiles.
    #[inline(always)]
    unsafe fn block<S: Simd>(
        &mut self,
        s: S,
        row: usize,
        lines: Range<usize>,
        column: usize,
        [up]: &[Results; 1],
    ) {
        for i in lines {
            for half in 0..2 {
                let h = self.activation.lanes(s, up.lanes(s, i, half));
                // SAFETY: the caller's promise; columns beyond the last are zero, as activations of 0 are 0.
                unsafe { s.store_bf16(self.hidden.element(row + i, column + half * LANES), h, LANES) };
            }
        }
    }
}

impl Epilogue<2> for Activate {
    /// # Safety
    /// As above.
    #[inline(always)]
    unsafe fn block<S: Simd>(
        &mut self,
        s: S,
        row: usize,
        lines: Range<usize>,
        column: usize,
        [gate, up]: &[Results; 2],
    ) {
        for i in lines {
            for half in 0..2 {
                let h = s.mul(self.activation.lanes(s, gate.lanes(s, i, half)), up.lanes(s, i, half));
                // SAFETY: as above.
                unsafe { s.store_bf16(self.hidden.element(row + i, column + half * LANES), h, LANES) };
            }
        }
    }
}

/// What a part computes of a chunk of rows.
#[derive(Clone)]
enum Stage {
    /// Normalised rows, as tiles.
    Rows,
    /// Pairs of hidden columns.
    Hidden(Range<usize>),
    /// Pairs of columns of the result.
    Down(Range<usize>),
    /// The norm after the projections.
    Finish,
}

#[derive(Clone, Copy)]
struct Chunk<'a> {
    weights: FeedForward<'a>,
    source: WriteRows<'a>,
    post_norm: Option<RowNorm<'a>>,
    first_row: usize,
    rows: usize,
    tiles: RowTiles,
    hidden: RowTiles,
    out: Out,
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
                Stage::Rows => {
                    chunk.source.write(s, chunk.first_row..chunk.first_row + chunk.rows, chunk.tiles);
                }
                Stage::Hidden(pairs) => chunk.hidden_columns(s, pairs),
                Stage::Down(pairs) => chunk.down_columns(s, pairs),
                Stage::Finish => chunk.finish(s),
            }
        }
    }
}

impl Chunk<'_> {
    #[inline(always)]
    unsafe fn hidden_columns<S: Simd>(&self, s: S, pairs: Range<usize>) {
        let FeedForward { gate, up, activation, .. } = self.weights;
        let mut activate = Activate { hidden: self.hidden, activation };
        let session = Session::new(Path::best());
        // SAFETY: the tiles are written; the hidden columns are this part's own.
        unsafe {
            match gate {
                Some(gate) => {
                    for_blocks(s, &session, (self.tiles, self.rows), [gate, up], pairs, &mut activate);
                }
                None => for_blocks(s, &session, (self.tiles, self.rows), [up], pairs, &mut activate),
            }
        }
    }

    #[inline(always)]
    unsafe fn down_columns<S: Simd>(&self, s: S, pairs: Range<usize>) {
        let residual = (self.weights.residual && self.post_norm.is_none()).then_some(self.source.x);
        let mut store = Store {
            out: self.out,
            first_row: self.first_row,
            columns: self.source.dim,
            activation: None,
            residual,
            map: None,
        };
        let session = Session::new(Path::best());
        // SAFETY: the hidden tiles are written; the columns of the result are this part's own.
        unsafe { for_blocks(s, &session, (self.hidden, self.rows), [self.weights.down], pairs, &mut store) };
    }

    /// `y = [x +] norm(y)`.
    #[inline(always)]
    unsafe fn finish<S: Simd>(&self, s: S) {
        let Some(norm) = &self.post_norm else { return };
        let dim = self.source.dim;
        for row in self.first_row..self.first_row + self.rows {
            let x = self.weights.residual.then(|| &self.source.x[row * dim..(row + 1) * dim]);
            // SAFETY: the rows of the result are this part's own.
            unsafe { norm_in_place(s, norm, x, self.out.part(row * dim, dim)) };
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
    let source = WriteRows { norm: norm.as_ref().map(LockedNorm::rows), x: &elements, dim };
    let post_norm = post_norm.as_ref().map(LockedNorm::rows);
    // SAFETY: all rows and columns are computed.
    let y = unsafe { written(rows * dim, |out| run(weights, source, post_norm, rows, out)) };
    tensor(y, x.shape(), &x)
}

fn run(weights: &FeedForward, source: WriteRows<'_>, post_norm: Option<RowNorm<'_>>, rows: usize, out: Out) {
    if rows == 0 {
        return;
    }
    let (dim, hidden) = (source.dim, weights.up.out_features());
    let matrices = if weights.gate.is_some() { 3 } else { 2 };
    let bytes = weights.gate.map_or(0, PackedWeight::bytes) + weights.up.bytes() + weights.down.bytes();
    let schedule = Schedule::new(rows, dim.max(hidden), rows * dim * hidden * matrices, bytes);
    let (up_pairs, down_pairs) = (weights.up.pairs(), weights.down.pairs());
    let with_chunk = |index: usize, body: &dyn Fn(Chunk)| {
        let (mut tiles, mut inner) = (
            Scratch::take(RowTiles::lines(schedule.chunk, dim)),
            Scratch::take(RowTiles::lines(schedule.chunk, hidden)),
        );
        let rows = schedule.rows(rows, index);
        body(Chunk {
            weights: *weights,
            source,
            post_norm,
            first_row: rows.start,
            rows: rows.len(),
            tiles: RowTiles::new(&mut tiles, schedule.chunk, dim),
            hidden: RowTiles::new(&mut inner, schedule.chunk, hidden),
            out,
        });
    };
    if schedule.by_rows {
        return gemm::run_chunks(schedule.threads, schedule.chunks(rows), |index| {
            with_chunk(index, &|chunk| {
                for stage in
                    [Stage::Rows, Stage::Hidden(0..up_pairs), Stage::Down(0..down_pairs), Stage::Finish]
                {
                    dispatch(Part(chunk, stage));
                }
            });
        });
    }
    let part = |pairs: usize, thread: usize| gemm::part(pairs, schedule.threads, thread);
    for index in 0..schedule.chunks(rows) {
        with_chunk(index, &|chunk| {
            dispatch(Part(chunk, Stage::Rows));
            gemm::run(schedule.threads, |t| dispatch(Part(chunk, Stage::Hidden(part(up_pairs, t)))));
            gemm::run(schedule.threads, |t| dispatch(Part(chunk, Stage::Down(part(down_pairs, t)))));
            dispatch(Part(chunk, Stage::Finish));
        });
    }
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
