//! Backward of `y = x Wᵀ + b` in `bf16`: one walk over the rows for all gradients.

use super::Path;
use super::kernel::{Session, Share, compute};
use super::matrix::{BLOCK, DEPTH, LINES, Line, Matrix, Output, PackedRight, packed_len};
use super::pack::{self, Side};
use super::parallel::{self, Scratch, Shared};
use super::product::{ROWS_PER_PASS, packed_product};
use super::single::transpose;
use super::vector;

/// What a backward pass reads, all row-major.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Operands<'a> {
    /// Gradient of the result, `(rows, out)`.
    pub(crate) grad: &'a [f32],
    /// `(rows, in)`.
    pub(crate) x: &'a [f32],
    /// `(out, in)`.
    pub(crate) weight: &'a [f32],
    pub(crate) rows: usize,
    pub(crate) out_features: usize,
    pub(crate) in_features: usize,
}

/// The gradients to compute.
#[derive(Debug, Default)]
pub(crate) struct Wanted<'a> {
    pub(crate) x: Option<Output<'a>>,
    pub(crate) weight: Option<Output<'a>>,
    /// `(1, out)`.
    pub(crate) bias: Option<Output<'a>>,
}

/// Writes the wanted gradients.
pub(crate) fn backward(path: Path, operands: Operands<'_>, wanted: Wanted<'_>) {
    let Operands { grad, x, weight, rows, out_features, in_features } = operands;
    let step = chunk_rows(out_features, in_features);
    let mut dx = wanted.x;
    let weight = Matrix::columns(weight, out_features, in_features);
    let mut tiles = Scratch::take(packed_len(in_features, weight.steps()));
    if dx.is_some() {
        pack::right(path, weight, &mut tiles);
    }
    let right = PackedRight { tiles: &tiles, columns: in_features, depth: out_features };
    let mut dw = wanted.weight.map(|out| WeightGradient::new(path, out, rows, out_features, in_features));
    let mut sums = wanted.bias.as_ref().map(|_| vec![0.0; out_features]);
    for first in (0..rows).step_by(step) {
        let count = step.min(rows - first);
        let grad = &grad[first * out_features..(first + count) * out_features];
        if let Some(rest) = dx.take() {
            let (part, rest) = rest.split_rows(count);
            packed_product(path, Matrix::rows(grad, count, out_features), right, None, part);
            dx = Some(rest);
        }
        if let Some(dw) = &mut dw {
            dw.add(grad, &x[first * in_features..(first + count) * in_features], count);
        }
        if let Some(sums) = &mut sums {
            add_column_sums(grad, sums);
        }
    }
    if let Some(dw) = dw {
        dw.finish();
    }
    if let (Some(bias), Some(sums)) = (wanted.bias, sums) {
        bias.copy_from(&sums);
    }
}

/// Rows whose gradients are computed while they are in the cache. Few would read and write the gradient of
/// the weight too often.
fn chunk_rows(out_features: usize, in_features: usize) -> usize {
    const CACHE_BYTES: usize = 1 << 20;
    let width = (out_features + in_features).max(1);
    let cached = CACHE_BYTES / (6 * width);
    let amortised = 4 * out_features * in_features / width;
    cached.max(amortised).clamp(256, 2048).next_multiple_of(DEPTH)
}

/// `gradᵀ · x`, accumulated chunk by chunk over the rows. The rows are summed in order, whatever the chunks
/// and the threads.
struct WeightGradient<'a> {
    path: Path,
    out: Output<'a>,
    /// The transpose, `(in, out)`, while it is accumulated. The left operand is transposed when it is packed,
    /// so it is better the narrower of the two, if there are enough rows to pay for transposing the result.
    transposed: Option<Vec<f32>>,
    out_features: usize,
    in_features: usize,
    started: bool,
}

impl<'a> WeightGradient<'a> {
    fn new(path: Path, out: Output<'a>, rows: usize, out_features: usize, in_features: usize) -> Self {
        assert!(out.rows == out_features && out.columns == in_features);
        let size = out_features * in_features;
        let saved = rows * out_features.saturating_sub(in_features);
        let transposed = (saved > 4 * size).then(|| vec![0.0; size]);
        Self { path, out, transposed, out_features, in_features, started: false }
    }

    fn add(&mut self, grad: &[f32], x: &[f32], rows: usize) {
        let grad = Matrix::columns(grad, rows, self.out_features);
        let x = Matrix::columns(x, rows, self.in_features);
        let started = std::mem::replace(&mut self.started, true);
        match &mut self.transposed {
            Some(transposed) => add_product(self.path, x, grad, started, transposed.as_mut_ptr()),
            None => add_product(self.path, grad, x, started, self.out.ptr),
        }
    }

    fn finish(self) {
        match self.transposed {
            _ if !self.started => self.out.fill_zero(),
            Some(transposed) => {
                let (rows, columns) = (self.in_features, self.out_features);
                // SAFETY: both have `in * out` elements.
                let (from, to) = ((transposed.as_ptr(), columns), (self.out.ptr, rows));
                unsafe { transpose(from, to, rows, columns) };
            }
            None => {}
        }
    }
}

/// Adds `left · rightᵀ` of two matrices in columns to `out`, or writes it there if not `started`.
fn add_product(path: Path, left: Matrix<'_>, right: Matrix<'_>, started: bool, out: *mut f32) {
    let (m, n, k) = (left.lines, right.lines, left.depth);
    if m == 0 || n == 0 {
        return;
    }
    let start = vec![0.0; n.next_multiple_of(BLOCK)];
    let flops = 2.0 * m as f64 * n as f64 * k as f64;
    let row_blocks = m.div_ceil(BLOCK);
    let threads =
        parallel::threads_for(flops / path.flops_per_ns() + (4 * k * (m + n)) as f64 / 10.0).min(row_blocks);
    let steps = left.steps();
    let mut tiles = Scratch::take(packed_len(n, steps));
    pack::right(path, right, &mut tiles);
    let tiles: &[Line] = &tiles;
    let ptr = Shared::new(out);
    parallel::run(threads, |index| {
        let blocks = parallel::part(row_blocks, threads, index);
        let rows = blocks.start * BLOCK..(blocks.end * BLOCK).min(m);
        let mut packed = Scratch::take(ROWS_PER_PASS.min(rows.len()).div_ceil(LINES) * steps * LINES);
        let session = Session::new(path);
        for first in rows.clone().step_by(ROWS_PER_PASS) {
            let count = ROWS_PER_PASS.min(rows.end - first);
            let panels = first / LINES..(first + count).div_ceil(LINES);
            pack::panels_of(path, Side::Left, left, panels, &mut packed);
            let share = Share {
                left: &packed,
                rows: count,
                right: tiles,
                pairs: 0..n.div_ceil(BLOCK),
                steps,
                bias: (!started).then_some(&start),
                // SAFETY: each task writes the rows of its own part.
                out: unsafe { ptr.get().add(first * n) },
                columns: n,
            };
            // SAFETY: as above.
            unsafe { compute(&session, &share) };
        }
    });
}

/// Sums over the rows of a row-major `(rows, columns)`.
pub(crate) fn column_sums(data: &[f32], columns: usize) -> Vec<f32> {
    let mut sums = vec![0.0; columns];
    add_column_sums(data, &mut sums);
    sums
}

/// Adds the sum over the rows to `sums`, which is as long as a row. Blocks of rows are summed on their own, so
/// that long columns lose little.
fn add_column_sums(data: &[f32], sums: &mut [f32]) {
    const ROWS_PER_BLOCK: usize = 128;
    if sums.is_empty() {
        return;
    }
    for block in data.chunks(ROWS_PER_BLOCK * sums.len()) {
        vector::add_rows(block, sums);
    }
}

/// Adds the sum of rows as long as `sums`, 64 columns at a time.
#[inline]
pub(super) fn add_rows(rows: &[f32], sums: &mut [f32]) {
    const WIDTH: usize = 64;
    let columns = sums.len();
    for (index, sums) in sums.chunks_mut(WIDTH).enumerate() {
        let mut block = [0f32; WIDTH];
        for row in rows.chunks_exact(columns) {
            let row = &row[index * WIDTH..];
            if let Some(row) = row.first_chunk::<WIDTH>() {
                (0..WIDTH).for_each(|i| block[i] += row[i]);
            } else {
                block.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
            }
        }
        sums.iter_mut().zip(block).for_each(|(sum, value)| *sum += value);
    }
}
