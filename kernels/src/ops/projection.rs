//! A projection with what surrounds it in one pass: `y = [x +] activation(norm(x) Wᵀ + b)`, for constant weights in `bf16`.
//!
//! Rows are normalised straight into the tiles of the product, and each block of results gets its activation and residual
//! while it is in the first-level cache. A row of the result depends on its own row of `x` alone, bit for bit.
//!
//! Plain reference: [`projection_reference`]. Error: that of rounding the normalised rows and the weight to `bf16`.
#![allow(clippy::inline_always)]

use std::ops::Range;

use candle_core::{Result, Tensor, bail};

use super::activation::Activation;
use super::linear::linear_reference;
use super::norm::{RowNorm, layer_norm_reference, rms_norm_reference};
use super::support::{Elements, Out, tensor, written};
use crate::gemm::{
    self, Depth, Epilogue, PackedWeight, Path, Results, Right, RowTiles, Scratch, Session, for_blocks,
};
use crate::simd::{Kernel, LANES, Simd, dispatch};

/// Bytes of packed rows that stay in the second-level cache beside the weights that stream through it.
const ROW_BYTES: usize = 1 << 20;

/// Most rows of a chunk: enough for the products to hide the reading of weights.
const MAX_ROWS: usize = 288;

/// Rows for each thread from which on threads take chunks of rows, each reading all weights; fewer rows are shared by columns.
pub(super) const ROWS_PER_THREAD: usize = 192;

/// Rows are blocks of so many.
const BLOCK: usize = 32;

/// Parameters of a layer norm (with `bias`) or an RMS norm over rows of `dim`.
#[derive(Debug, Clone, Copy)]
pub struct NormParameters<'a> {
    /// `(dim)`
    pub weight: &'a Tensor,
    /// `(dim)`; present in a layer norm.
    pub bias: Option<&'a Tensor>,
    /// Added to the variance or mean square.
    pub eps: f64,
}

impl NormParameters<'_> {
    /// The norm by candle's primitives.
    pub(crate) fn reference(&self, x: &Tensor) -> Result<Tensor> {
        match self.bias {
            Some(bias) => layer_norm_reference(x, self.weight, bias, self.eps),
            None => rms_norm_reference(x, self.weight, self.eps),
        }
    }
}

/// The elements of a norm's parameters, locked.
pub(super) struct LockedNorm<'a>(Elements<'a>, Option<Elements<'a>>, f64);

impl<'a> LockedNorm<'a> {
    pub(super) fn of(norm: &NormParameters<'a>, dim: usize) -> Result<Self> {
        let (weight, bias) = (Elements::of(norm.weight)?, norm.bias.map(Elements::of).transpose()?);
        if weight.len() != dim || bias.as_ref().is_some_and(|bias| bias.len() != dim) {
            bail!("a norm of {} elements before a projection of {dim}", weight.len());
        }
        Ok(Self(weight, bias, norm.eps))
    }

    pub(super) fn rows(&self) -> RowNorm<'_> {
        RowNorm::new(&self.0, self.1.as_deref(), self.2)
    }
}

/// Rows of a product, normalised where there is a norm.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) norm: Option<RowNorm<'a>>,
    pub(super) x: &'a [f32],
    pub(super) dim: usize,
    /// Row of `x` that each row of the product comes from; without it they are the same.
    pub(super) map: Option<&'a [usize]>,
}

impl Source<'_> {
    /// What row `row` of the product comes from.
    #[inline(always)]
    pub(super) fn row(&self, row: usize) -> &[f32] {
        let row = self.map.map_or(row, |map| map[row]);
        &self.x[row * self.dim..(row + 1) * self.dim]
    }

    /// Rows `rows` of the product become rows 0, 1, .. of `tiles`.
    ///
    /// # Safety
    /// The rows of `tiles` belong to the caller.
    #[inline(always)]
    pub(super) unsafe fn write<S: Simd>(&self, s: S, rows: Range<usize>, tiles: RowTiles) {
        for (to, row) in rows.enumerate() {
            let x = self.row(row).as_ptr();
            // SAFETY: the row has `dim` elements.
            unsafe {
                match &self.norm {
                    Some(norm) => norm.write(s, x, tiles, to),
                    None => tiles.write(s, to, x, self.dim),
                }
            }
        }
    }
}

/// In a [`Store::map`]: no row.
pub(super) const NO_ROW: usize = usize::MAX;

/// Writes results to rows of a matrix, with an activation, or added to a residual of the same shape.
#[derive(Clone, Copy)]
pub(super) struct Store<'a> {
    pub(super) out: Out,
    pub(super) first_row: usize,
    pub(super) columns: usize,
    pub(super) activation: Option<Activation>,
    pub(super) residual: Option<&'a [f32]>,
    /// Row of the matrix that each row of the product goes to; without it they follow `first_row`.
    pub(super) map: Option<&'a [usize]>,
    /// Whether the matrix is so large that the caches would lose it before it is read: it is written past them.
    pub(super) streamed: bool,
}

/// Bytes of a result from which on it is streamed: about the second-level caches of the threads that write it.
const STREAMED_BYTES: usize = 2 << 20;

impl Store<'_> {
    /// To all rows of a matrix of so many columns, as they come.
    pub(super) fn new(out: Out, columns: usize) -> Self {
        let streamed = out.len() * size_of::<f32>() >= STREAMED_BYTES;
        Self { out, first_row: 0, columns, activation: None, residual: None, map: None, streamed }
    }

    /// The row of the matrix that row `row` of the product goes to.
    #[inline(always)]
    fn to(&self, row: usize) -> usize {
        self.map.map_or(self.first_row + row, |map| map[row])
    }

    /// For the rows of the product from `rows` on.
    pub(super) fn below(self, rows: usize) -> Self {
        Self { first_row: self.first_row + rows, map: self.map.map(|map| &map[rows..]), ..self }
    }

    /// Stores 32 columns of row `row` of the product from `column` on.
    ///
    /// # Safety
    /// Nobody else uses them.
    #[inline(always)]
    pub(super) unsafe fn row<S: Simd>(&self, s: S, row: usize, column: usize, results: [S::V; 2]) {
        let to = self.to(row);
        if to == NO_ROW {
            return;
        }
        let at = to * self.columns + column;
        for (half, mut y) in results.into_iter().enumerate() {
            let Some(n) = (self.columns - column).checked_sub(half * LANES).filter(|&n| n > 0) else {
                break;
            };
            if let Some(activation) = self.activation {
                [y] = activation.lanes(s, [y]);
            }
            let at = at + half * LANES;
            if let Some(residual) = self.residual {
                let residual = &residual[at..at + n.min(LANES)];
                // SAFETY: the slice has as many elements.
                y = s.add(unsafe { s.load(residual.as_ptr(), n) }, y);
            }
            // SAFETY: the caller's promise.
            unsafe {
                let to = self.out.part(at, n.min(LANES));
                if self.streamed { s.stream(to, y, n) } else { s.store(to, y, n) }
            }
        }
    }
}

impl Epilogue for Store<'_> {
    const ROWS_TOGETHER: usize = 2;

    #[inline(always)]
    fn expect(&self, row: usize, lines: Range<usize>, column: usize) {
        for line in lines {
            let to = self.to(row + line);
            if to == NO_ROW {
                continue;
            }
            let at = to * self.columns + column;
            if !self.streamed {
                let results = self.out.address(at);
                gemm::fetch_to_write(results);
                gemm::fetch_to_write(results.wrapping_add(LANES));
            }
            if let Some(residual) = self.residual {
                let residual = residual.as_ptr().wrapping_add(at);
                gemm::fetch(residual);
                gemm::fetch(residual.wrapping_add(LANES));
            }
        }
    }

    /// # Safety
    /// Nobody else uses these rows and columns of the output.
    #[inline(always)]
    unsafe fn block<S: Simd>(
        &mut self,
        s: S,
        row: usize,
        lines: Range<usize>,
        column: usize,
        results: &Results,
    ) {
        for i in lines {
            // SAFETY: the caller's promise.
            unsafe { self.row(s, row + i, column, [results.lanes(s, i, 0), results.lanes(s, i, 1)]) };
        }
    }
}

/// How rows are shared by threads.
#[derive(Debug, Clone, Copy)]
pub(super) struct Schedule {
    threads: usize,
    /// Threads take chunks of rows; otherwise they share the columns of each chunk.
    by_rows: bool,
    rows: usize,
    chunks: usize,
}

impl Schedule {
    /// For `rows` rows that take `row_bytes` each when they are packed.
    pub(super) fn new(threads: usize, rows: usize, row_bytes: usize) -> Self {
        let by_rows = threads == 1 || rows >= ROWS_PER_THREAD * threads;
        let fitting = (ROW_BYTES / row_bytes.max(1) / BLOCK * BLOCK).clamp(BLOCK, MAX_ROWS);
        // All threads take as many chunks.
        let at_once = if by_rows { threads } else { 1 };
        let chunks = rows.div_ceil(at_once * fitting) * at_once;
        Self { threads, by_rows, rows, chunks: chunks.clamp(1, rows.div_ceil(BLOCK).max(1)) }
    }

    /// Most rows of a chunk.
    pub(super) fn most_rows(&self) -> usize {
        self.rows.div_ceil(BLOCK).div_ceil(self.chunks) * BLOCK
    }

    /// Calls `task` with each chunk of rows, and the number of threads that share its columns.
    pub(super) fn run(&self, task: impl Fn(Range<usize>, usize) + Sync) {
        let rows = |index: usize| {
            let blocks = gemm::part(self.rows.div_ceil(BLOCK), self.chunks, index);
            blocks.start * BLOCK..self.rows.min(blocks.end * BLOCK)
        };
        if self.by_rows {
            gemm::run_chunks(self.threads, self.chunks, |index| task(rows(index), 1));
        } else {
            (0..self.chunks).for_each(|index| task(rows(index), self.threads));
        }
    }
}

/// Runs `body` on parts of the rows `0..rows` of a chunk, from multiples of 32 on, on so many threads if that pays.
pub(super) fn share_rows(threads: usize, rows: usize, body: impl Fn(Range<usize>) + Sync) {
    let threads = if rows < 2 * BLOCK { 1 } else { threads };
    gemm::run(threads, |thread| {
        let part = gemm::part(rows.div_ceil(BLOCK), threads, thread);
        body(part.start * BLOCK..rows.min(part.end * BLOCK));
    });
}

/// A chunk of rows.
#[derive(Clone, Copy)]
struct Chunk<'a> {
    source: Source<'a>,
    first_row: usize,
    rows: usize,
    tiles: RowTiles,
    weight: &'a PackedWeight,
    store: Store<'a>,
}

/// One thread's part of a chunk.
enum Part<'a> {
    /// Writes the tiles of these rows (counted from the chunk's first, from a multiple of 16 on).
    Rows(Chunk<'a>, Range<usize>),
    /// Computes these blocks of columns.
    Columns(Chunk<'a>, Range<usize>),
}

impl Kernel for Part<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        // SAFETY: the rows of the tiles, or the columns of the output, are this part's own.
        unsafe {
            match self {
                Self::Rows(chunk, rows) => {
                    let from = chunk.first_row + rows.start..chunk.first_row + rows.end;
                    chunk.source.write(s, from, chunk.tiles.below(rows.start));
                }
                Self::Columns(chunk, blocks) => {
                    let mut store = chunk.store.below(chunk.first_row);
                    let session = Session::new(Path::best());
                    let (left, right) = ((chunk.tiles, chunk.rows), Right::One(chunk.weight));
                    for_blocks(s, &session, left, right, blocks, Depth::WHOLE, &mut store);
                }
            }
        }
    }
}

/// `[x +] activation(norm(x) Wᵀ + b)` of `x (.., in)`, `W (out, in)`: `(.., out)`. With a residual `in` must be `out`.
///
/// The residual, where there is one, has the shape of the result. Not differentiable.
pub fn projection(
    x: &Tensor,
    norm: Option<NormParameters>,
    weight: &PackedWeight,
    activation: Option<Activation>,
    residual: Option<&Tensor>,
) -> Result<Tensor> {
    let (dim, columns) = (weight.in_features(), weight.out_features());
    let mut dims = x.dims().to_vec();
    if dims.pop() != Some(dim) {
        bail!("projection: x {:?} does not fit a weight ({columns}, {dim})", x.dims());
    }
    let rows: usize = dims.iter().product();
    dims.push(columns);
    if residual.is_some_and(|residual| residual.dims() != dims) {
        bail!("projection: a residual {:?} for a result {dims:?}", residual.map(Tensor::dims));
    }
    let (x, residual) = (x.contiguous()?, residual.map(Tensor::contiguous).transpose()?);
    let norm = norm.as_ref().map(|norm| LockedNorm::of(norm, dim)).transpose()?;
    let (elements, residual) = (Elements::of(&x)?, residual.as_ref().map(Elements::of).transpose()?);
    let source = Source { norm: norm.as_ref().map(LockedNorm::rows), x: &elements, dim, map: None };
    let fill = |out: Out| {
        let store = Store { activation, residual: residual.as_deref(), ..Store::new(out, columns) };
        run(source, rows, weight, store);
    };
    // SAFETY: all rows and columns are computed.
    let y = unsafe { written(rows * columns, fill) };
    tensor(y, dims, &x)
}

/// One [`projection`] a group: rows `offsets[g]..offsets[g + 1]` of `x (rows, in)` times `weights(g) (out, in)`, `(rows, out)`.
/// `weights` is asked for groups that have rows. `offsets` has one entry more than there are groups. Not differentiable.
pub fn grouped_projection<'a>(
    x: &Tensor,
    offsets: &[usize],
    columns: usize,
    weights: impl Fn(usize) -> &'a PackedWeight + Sync,
) -> Result<Tensor> {
    let (rows, dim) = x.dims2()?;
    let groups: Vec<usize> = (0..offsets.len() - 1).filter(|&g| offsets[g + 1] > offsets[g]).collect();
    if !offsets.is_sorted() || offsets.first() != Some(&0) || offsets.last() != Some(&rows) {
        bail!("grouped_projection: {rows} rows need ascending offsets from 0 to {rows}, found {offsets:?}");
    }
    let x = x.contiguous()?;
    let elements = Elements::of(&x)?;
    let fill = |out: Out| {
        let group = |g: usize| (&elements[offsets[g] * dim..offsets[g + 1] * dim], offsets[g], weights(g));
        let store = |first_row: usize| Store { first_row, ..Store::new(out, columns) };
        if let [only] = groups[..] {
            let (x, first_row, weight) = group(only);
            return run(Source { norm: None, x, dim, map: None }, rows, weight, store(first_row));
        }
        let bytes = groups.len() * columns * dim * 2;
        gemm::run_chunks(gemm::threads_for(rows * columns * dim, bytes), groups.len(), |index| {
            let (x, first_row, weight) = group(groups[index]);
            let schedule = Schedule::new(1, x.len() / dim, 2 * dim);
            run_scheduled(schedule, Source { norm: None, x, dim, map: None }, weight, store(first_row));
        });
    };
    // SAFETY: the groups cover all rows.
    let y = unsafe { written(rows * columns, fill) };
    tensor(y, (rows, columns), &x)
}

fn run(source: Source<'_>, rows: usize, weight: &PackedWeight, store: Store<'_>) {
    let multiplications = rows * source.dim * weight.out_features();
    let threads = gemm::threads_for(multiplications, weight.bytes());
    let schedule = Schedule::new(threads, rows, 2 * source.dim);
    run_scheduled(schedule, source, weight, store);
}

fn run_scheduled(schedule: Schedule, source: Source<'_>, weight: &PackedWeight, store: Store<'_>) {
    let (dim, pairs, most) = (source.dim, weight.pairs(), schedule.most_rows());
    schedule.run(|rows, threads| {
        let mut memory = Scratch::take(RowTiles::lines(most, dim));
        let tiles = RowTiles::new(&mut memory, most, dim);
        let chunk = Chunk { source, first_row: rows.start, rows: rows.len(), tiles, weight, store };
        share_rows(threads, chunk.rows, |rows| dispatch(Part::Rows(chunk, rows)));
        gemm::run(threads, |thread| {
            dispatch(Part::Columns(chunk, gemm::part(pairs, threads, thread)));
        });
    });
}

/// [`projection`] of candle primitives in `f32`; `weight (out, in)`, `bias (out)`.
pub fn projection_reference(
    x: &Tensor,
    norm: Option<NormParameters>,
    (weight, bias): (&Tensor, Option<&Tensor>),
    activation: Option<Activation>,
    residual: Option<&Tensor>,
) -> Result<Tensor> {
    let normed = norm.map_or_else(|| Ok(x.clone()), |norm| norm.reference(x))?;
    let mut y = linear_reference(&normed, weight, bias)?;
    if let Some(activation) = activation {
        y = activation.reference(&y)?;
    }
    match residual {
        Some(residual) => residual + y,
        None => Ok(y),
    }
}
