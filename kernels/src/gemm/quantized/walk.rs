//! Walks the blocks of a product, hands them to the kernel and each finished one to an epilogue.

use std::ops::Range;

use super::super::avx512;
use super::super::matrix::{LINES, Line};
use super::super::parallel::{self, Scratch, Shared};
use super::Path;
use super::kernel::{BLOCK, Kind, Session, Sums};

/// Rows that one pass over the weight serves: their sums stay in the first-level cache.
const ROWS_PER_PASS: usize = 256;
/// Steps after which the next block of rows is due: the right tiles of so many stay in the first-level cache.
const STEPS: usize = 8;
/// Steps at a time when there is one block of rows, and the weight comes from memory at full speed.
const STEPS_OF_ONE_BLOCK: usize = 4;
/// Lines between what is multiplied and what is fetched from memory.
const FETCH_AHEAD: usize = 64;

/// 32 x 32 elements of a result.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Block([[f32; BLOCK]; BLOCK]);

impl Block {
    const ZERO: Self = Self([[0.0; BLOCK]; BLOCK]);

    /// The rows, of which only the first `rows` of the [`Place`] mean something.
    pub(crate) fn rows(&self) -> &[[f32; BLOCK]; BLOCK] {
        &self.0
    }

    pub(super) fn rows_mut(&mut self) -> &mut [[f32; BLOCK]; BLOCK] {
        &mut self.0
    }
}

/// Where a [`Block`] lies in its result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) row: usize,
    pub(crate) column: usize,
    /// How many of its rows lie inside the result, 1 to 32.
    pub(crate) rows: usize,
    /// How many of its columns lie inside the result, 1 to 32.
    pub(crate) columns: usize,
}

/// A weight laid out for the products, as the walk sees it.
pub(super) trait Weight: Sync {
    /// What its tiles hold.
    const KIND: Kind;
    /// Lines stored for one step of a pair of column panels.
    const LINES_PER_STEP: usize;
    /// All lines: pairs of column panels, each step by step.
    fn lines(&self) -> &[Line];
    /// Columns of the result, and tiles along the depth.
    fn size(&self) -> (usize, usize);
    /// Right tiles, two a step, from stored lines; `scratch` has room for them.
    fn tiles<'a>(path: Path, stored: &'a [Line], scratch: &'a mut [Line]) -> &'a [Line];
}

/// Computes the columns of `pairs` for row panels `left`, and calls `finish` on each block of sums (words of `i32` for
/// [`Kind::Int8`]).
///
/// `finish` must not wait for other threads; see [`Session`].
pub(super) fn walk<W: Weight>(
    path: Path,
    weight: &W,
    (left, rows): (&[Line], usize),
    pairs: Range<usize>,
    mut finish: impl FnMut(Place, &mut Block),
) {
    let (columns, steps) = weight.size();
    let panel = steps * LINES;
    assert!(left.len() >= rows.div_ceil(LINES) * panel && pairs.end * BLOCK < columns + BLOCK);
    let session = Session::new(path, W::KIND, rows);
    let at_a_time = if rows <= BLOCK { STEPS_OF_ONE_BLOCK } else { STEPS };
    let mut sums = vec![Block::ZERO; rows.min(ROWS_PER_PASS).div_ceil(BLOCK)];
    // A single block is short of time: what comes next is unpacked first, so that the kernel need not wait for writes.
    let (ahead, room) = (usize::from(rows <= BLOCK), at_a_time * 2 * LINES);
    let mut scratch = Scratch::take((ahead + 1) * room);
    let unpacked = scratch.as_mut_ptr();
    let mut right = [std::ptr::null(); 2];
    // Without depth there is one part, of no steps.
    let parts = steps.div_ceil(at_a_time).max(1);
    let of = |turn: usize| {
        let (pair, first) = (pairs.start + turn / parts, turn % parts * at_a_time);
        let at = |step: usize| (pair * steps + step) * W::LINES_PER_STEP;
        let part = first..steps.min(first + at_a_time);
        (pair, part.clone(), &weight.lines()[at(part.start)..at(part.end)])
    };
    for first_row in (0..rows).step_by(ROWS_PER_PASS) {
        let count = (rows - first_row).min(ROWS_PER_PASS);
        let blocks = count.div_ceil(BLOCK);
        for turn in 0..parts * pairs.len() + ahead {
            if turn < parts * pairs.len() {
                let at = turn % (ahead + 1);
                // SAFETY: the scratch has two such parts, and what was unpacked into this one has been multiplied.
                let to = unsafe { std::slice::from_raw_parts_mut(unpacked.add(at * room), room) };
                let (_, part, stored) = of(turn);
                let tiles = W::tiles(path, stored, to);
                assert!(tiles.len() >= part.len() * 2 * LINES);
                right[at] = tiles.as_ptr();
            }
            let Some(turn) = turn.checked_sub(ahead) else {
                continue;
            };
            let (pair, part, stored) = of(turn);
            if part.is_empty() {
                sums.fill(Block::ZERO);
            }
            for (index, sums) in sums[..blocks].iter_mut().enumerate().filter(|_| !part.is_empty()) {
                if W::KIND == Kind::Int8 {
                    fetch(stored, parallel::part(stored.len(), blocks, index));
                }
                let row = first_row + index * BLOCK;
                let sums = Sums {
                    left: left[row / LINES * panel + part.start * LINES..].as_ptr(),
                    left_stride: panel,
                    rows: (rows - row).min(BLOCK),
                    right: right[turn % (ahead + 1)],
                    steps: part.len(),
                    fresh: part.start == 0,
                    out: std::ptr::from_mut(sums).cast(),
                };
                // SAFETY: the panels of these rows are in `left` and the tiles at `right` (both asserted); a block of
                // sums has 32 rows of 32 words.
                unsafe { session.add(&sums) };
            }
            if part.end == steps {
                for (index, sums) in sums[..blocks].iter_mut().enumerate() {
                    let (row, column) = (first_row + index * BLOCK, pair * BLOCK);
                    let height = (rows - row).min(BLOCK);
                    finish(Place { row, column, rows: height, columns: (columns - column).min(BLOCK) }, sums);
                }
            }
        }
    }
}

/// Asks for the lines `range` of those that follow `stored` at some distance.
#[inline]
fn fetch(stored: &[Line], range: Range<usize>) {
    #[cfg(target_arch = "x86_64")]
    for line in range {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let address = stored.as_ptr().wrapping_add(line + FETCH_AHEAD);
        // SAFETY: prefetching has no effect but on the cache, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (stored, range);
}

/// Runs `columns` for parts of the column pairs that cover all of a result `(rows, columns)`, on the threads of the
/// current pool if the work is worth it, each with a function that writes a block to `out`.
pub(super) fn share_columns<W: Weight>(
    path: Path,
    weight: &W,
    rows: usize,
    out: &mut [f32],
    columns: impl Fn(Range<usize>, &dyn Fn(Place, &Block)) + Sync,
) {
    let (width, steps) = weight.size();
    assert_eq!(out.len(), rows * width, "result of {rows} x {width}");
    if out.is_empty() {
        return;
    }
    let pairs = width.div_ceil(BLOCK);
    let threads = threads(path, rows, steps * pairs, W::LINES_PER_STEP).min(pairs);
    let to = Shared::new(out.as_mut_ptr());
    parallel::run(threads, |index| {
        let write = |place: Place, block: &Block| {
            // Rows of the result are often far away: fetch those of the next block in time.
            let next = (place.row + BLOCK) * width + place.column;
            avx512::prefetch_rows(to.get().wrapping_add(next), width);
            for (row, values) in block.rows()[..place.rows].iter().enumerate() {
                // SAFETY: the place lies inside the result, and no other task writes its columns.
                unsafe {
                    let to = to.get().add((place.row + row) * width + place.column);
                    if place.columns == BLOCK {
                        to.cast::<[f32; BLOCK]>().write_unaligned(*values);
                    } else {
                        std::ptr::copy_nonoverlapping(values.as_ptr(), to, place.columns);
                    }
                }
            }
        };
        columns(parallel::part(pairs, threads, index), &write);
    });
}

/// Threads worth using for `tiles` pairs of right tiles, stored in so many lines each.
fn threads(path: Path, rows: usize, tiles: usize, lines: usize) -> usize {
    let operations = (2 * rows * tiles * BLOCK * 64) as f64;
    let bytes = (tiles * lines * size_of::<Line>()) as f64;
    // Ten bytes a nanosecond: one thread's share of memory bandwidth.
    parallel::threads_for(operations / path.ops_per_ns() + bytes / 10.0)
}
