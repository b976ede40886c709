//! `bf16` products of whole matrices: what is packed when, and how threads share the work.

use super::Path;
use super::kernel::{Session, Share, compute};
use super::matrix::{BLOCK, DEPTH, LINES, Matrix, Output, PackedRight, packed_len, padded_bias};
use super::pack::{self, Side};
use super::parallel::{self, Scratch, Shared};

/// Bytes of packed operands that stay in the second-level cache.
const CHUNK_BYTES: usize = 512 << 10;
/// Rows that one pass over a large right operand serves.
pub(super) const ROWS_PER_PASS: usize = 256;

/// `out = left · rightᵀ` (both as lines by depth), plus `bias` per column; `left` is in rows.
pub(crate) fn product(
    path: Path,
    left: Matrix<'_>,
    right: Matrix<'_>,
    bias: Option<&[f32]>,
    out: Output<'_>,
) {
    if out.rows == 0 || out.columns == 0 {
        return;
    }
    let mut tiles = Scratch::take(packed_len(right.lines, right.steps()));
    pack::right(path, right, &mut tiles);
    let right = PackedRight { tiles: &tiles, columns: right.lines, depth: right.depth };
    packed_product(path, left, right, bias, out);
}

/// [`product`] with a packed right operand.
pub(super) fn packed_product(
    path: Path,
    left: Matrix<'_>,
    right: PackedRight<'_>,
    bias: Option<&[f32]>,
    out: Output<'_>,
) {
    assert!(left.depth == right.depth && out.rows == left.lines && out.columns == right.columns);
    let (m, n, k) = (left.lines, right.columns, left.depth);
    let start = padded_bias(bias, n);
    let flops = 2.0 * m as f64 * n as f64 * k as f64;
    let bytes = (2 * n * k + 4 * m * (n + k)) as f64;
    // Ten bytes a nanosecond: one thread's share of memory bandwidth.
    let threads = parallel::threads_for(flops / path.flops_per_ns() + bytes / 10.0);
    let ptr = Shared::new(out.into_ptr());
    let row_blocks = m.div_ceil(BLOCK);
    if row_blocks >= 2 * threads {
        parallel::run(threads, |index| {
            let blocks = parallel::part(row_blocks, threads, index);
            let rows = blocks.start * BLOCK..(blocks.end * BLOCK).min(m);
            // SAFETY: each task writes the rows of its own part.
            unsafe { row_product(path, left, right, &start, rows, ptr.get()) };
        });
        return;
    }
    let steps = right.steps();
    let panels = m.div_ceil(LINES);
    let mut packed = Scratch::take(panels * steps * LINES);
    pack::panels_of(path, Side::Left, left, 0..panels, &mut packed);
    let packed = &packed[..];
    parallel::run(threads.min(right.pairs()), |index| {
        let share = Share {
            left: packed,
            rows: m,
            right: right.tiles,
            pairs: parallel::part(right.pairs(), threads.min(right.pairs()), index),
            steps,
            bias: Some(&start),
            out: ptr.get(),
            columns: n,
        };
        // SAFETY: the result has `m * n` elements; each task writes the columns of its own part.
        unsafe { compute(&Session::new(path), &share) };
    });
}

/// The rows `rows` of a product, in chunks that fit the cache.
///
/// # Safety
/// `out` is valid for the whole result, and nobody else uses those rows.
unsafe fn row_product(
    path: Path,
    left: Matrix<'_>,
    right: PackedRight<'_>,
    start: &[f32],
    rows: std::ops::Range<usize>,
    out: *mut f32,
) {
    let steps = right.steps();
    // A right operand that stays in the second-level cache may be read for every block of rows; a larger one
    // should serve many rows each time.
    let small = right.pairs() * BLOCK * steps * DEPTH * 2 <= CHUNK_BYTES;
    let chunk = if small { BLOCK } else { ROWS_PER_PASS };
    let session = Session::new(path);
    let mut packed = Scratch::take(chunk.min(rows.len()).next_multiple_of(LINES) * steps);
    for first in rows.clone().step_by(chunk) {
        let count = chunk.min(rows.end - first);
        let panels = count.div_ceil(LINES);
        pack::panels_of(path, Side::Left, left.line_range(first, count), 0..panels, &mut packed);
        let share = Share {
            left: &packed,
            rows: count,
            right: right.tiles,
            pairs: 0..right.pairs(),
            steps,
            bias: Some(start),
            // SAFETY: `first` is a row of the result.
            out: unsafe { out.add(first * right.columns) },
            columns: right.columns,
        };
        // SAFETY: the caller's promise.
        unsafe { compute(&session, &share) };
    }
}
