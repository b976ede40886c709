//! Products whose rows are packed, multiplied and finished while they are in one thread's cache.
//!
//! The left operand is written as tiles row by row (by a norm, an activation or a plain copy), each block of 32 × 32 results
//! is computed into scratch memory, and an [`Epilogue`] does with it what comes next: bias, activation, residual,
//! or the tiles of the next product. No intermediate result goes through memory.
#![allow(clippy::inline_always)]

use std::ops::Range;

use super::kernel::{Between, Block, Session};
use super::matrix::{BLOCK, DEPTH, LINES, Line, PackedWeight};
use super::parallel::Scratch;
use crate::simd::{LANES, Simd};

/// Rows of `bf16` in the layout of left operands, in memory that is borrowed elsewhere.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowTiles {
    at: *mut Line,
    steps: usize,
}

// SAFETY: whoever shares tiles between threads writes disjoint rows or steps, and reads after all are written.
unsafe impl Send for RowTiles {}
// SAFETY: as above.
unsafe impl Sync for RowTiles {}

impl RowTiles {
    /// Cache lines that `rows` rows of `depth` elements take.
    pub(crate) fn lines(rows: usize, depth: usize) -> usize {
        rows.next_multiple_of(LINES) * depth.div_ceil(DEPTH)
    }

    /// Tiles in `memory`, which has [`Self::lines`] lines.
    pub(crate) fn new(memory: &mut Scratch, rows: usize, depth: usize) -> Self {
        assert!(memory.len() >= Self::lines(rows, depth));
        Self { at: memory.as_mut_ptr(), steps: depth.div_ceil(DEPTH) }
    }

    /// Where elements `32 · step ..` of row `row` are.
    #[inline(always)]
    pub(crate) fn part(self, row: usize, step: usize) -> *mut u16 {
        self.at.wrapping_add((row / LINES * self.steps + step) * LINES + row % LINES).cast()
    }

    /// Where element `column` of row `row` is; sixteen elements from a multiple of sixteen on are contiguous.
    #[inline(always)]
    pub(crate) fn element(self, row: usize, column: usize) -> *mut u16 {
        self.part(row, column / DEPTH).wrapping_add(column % DEPTH)
    }

    /// Rows from `row` on, which is a multiple of 16.
    pub(crate) fn below(self, row: usize) -> Self {
        Self { at: self.at.wrapping_add(row * self.steps), ..self }
    }

    /// Writes row `row`: `depth` elements at `x` rounded, zeros up to the whole step.
    ///
    /// # Safety
    /// `x` is readable; the row belongs to the caller.
    #[inline(always)]
    pub(crate) unsafe fn write<S: Simd>(self, s: S, row: usize, x: *const f32, depth: usize) {
        for at in (0..self.steps * DEPTH).step_by(LANES) {
            // SAFETY: elements at and beyond `depth` are not read: their lanes are zero.
            unsafe {
                let lanes = if at < depth { s.load(x.add(at), depth - at) } else { s.splat(0.0) };
                s.store_bf16(self.element(row, at), lanes, LANES);
            }
        }
    }
}

/// A right operand that is computed on the way, such as the keys of an attention, in memory that is borrowed elsewhere.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ColumnTiles {
    at: *mut Line,
    steps: usize,
}

// SAFETY: as for `RowTiles`.
unsafe impl Send for ColumnTiles {}
// SAFETY: as for `RowTiles`.
unsafe impl Sync for ColumnTiles {}

impl ColumnTiles {
    /// Cache lines that `columns` columns of `depth` elements take.
    pub(crate) fn lines(columns: usize, depth: usize) -> usize {
        columns.next_multiple_of(BLOCK) * depth.div_ceil(DEPTH)
    }

    /// Tiles in `memory`, which has [`Self::lines`] lines.
    pub(crate) fn new(memory: &mut Scratch, columns: usize, depth: usize) -> Self {
        assert!(memory.len() >= Self::lines(columns, depth));
        Self { at: memory.as_mut_ptr(), steps: depth.div_ceil(DEPTH) }
    }

    /// The words (of two neighbouring depths each) of sixteen columns from `column` on, at depths `2 · pair` and `2 · pair + 1`.
    #[inline(always)]
    pub(crate) fn words(self, column: usize, pair: usize) -> *mut f32 {
        let (step, pair) = (pair / LINES, pair % LINES);
        self.at.wrapping_add((column / LINES * self.steps + step) * LINES + pair).cast()
    }
}

/// Multiplies up to 32 rows of `left` from `row` on (a multiple of 16) with 32 columns of `right` from `column` on, over the
/// first `steps` steps of the depth, starting from rows at `init`. Pointers come with leading dimensions.
///
/// # Safety
/// Both operands are written as far as they are read; 32 rows of 32 results are writable at `out` (16 where `rows <= 16`),
/// and as many are readable at `init`.
#[inline(always)]
pub(crate) unsafe fn multiply(
    session: &Session,
    (left, row, rows): (RowTiles, usize, usize),
    (right, column): (ColumnTiles, usize),
    steps: usize,
    init: (*const f32, usize),
    out: (*mut f32, usize),
) {
    debug_assert!(steps <= left.steps && steps <= right.steps && row.is_multiple_of(LINES));
    let block = Block {
        left: left.below(row).at,
        left_stride: left.steps * LINES,
        rows: rows.min(BLOCK),
        right: right.words(column, 0).cast(),
        right_stride: right.steps * LINES,
        steps,
        init: init.0,
        init_ld: init.1,
        out: out.0,
        out_ld: out.1,
    };
    // SAFETY: the caller's promise.
    unsafe { session.block(&block) };
}

/// 32 × 32 results, row by row.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Results([f32; BLOCK * BLOCK]);

impl Results {
    pub(crate) const ZERO: Self = Self([0.0; BLOCK * BLOCK]);

    /// The first result and the distance between rows.
    pub(crate) fn as_mut_ptr(&mut self) -> (*mut f32, usize) {
        (self.0.as_mut_ptr(), BLOCK)
    }

    /// Sixteen results of `row` from column `16 · half` on.
    #[inline(always)]
    pub(crate) fn lanes<S: Simd>(&self, s: S, row: usize, half: usize) -> S::V {
        debug_assert!(row < BLOCK && half < 2);
        // SAFETY: inside the block.
        unsafe { s.load(self.0.as_ptr().add(row * BLOCK + half * LANES), LANES) }
    }
}

/// What happens to each block of results.
pub(crate) trait Epilogue<const N: usize> {
    /// Rows `lines` of the block that begins at `row` and `column`, of each of the products. `#[inline(always)]`.
    ///
    /// # Safety
    /// As the implementation says.
    unsafe fn block<S: Simd>(
        &mut self,
        s: S,
        row: usize,
        lines: Range<usize>,
        column: usize,
        results: &[Results; N],
    );
}

/// A computed block whose epilogue is run between the steps of the next one, a few rows at a time.
struct Pending<'a, S, E, const N: usize> {
    s: S,
    epilogue: &'a mut E,
    results: &'a [Results; N],
    row: usize,
    column: usize,
    /// Rows of the block, and those that are done.
    rows: usize,
    done: usize,
    /// Rows between two steps.
    at_a_time: usize,
}

impl<S: Simd, E: Epilogue<N>, const N: usize> Pending<'_, S, E, N> {
    #[inline(always)]
    fn run(&mut self, count: usize) {
        let lines = self.done..self.rows.min(self.done + count);
        self.done = lines.end;
        // SAFETY: what `for_blocks` was promised.
        unsafe { self.epilogue.block(self.s, self.row, lines, self.column, self.results) };
    }
}

impl<S: Simd, E: Epilogue<N>, const N: usize> Between for Pending<'_, S, E, N> {
    #[inline(always)]
    fn step(&mut self) {
        if self.done < self.rows {
            self.run(self.at_a_time);
        }
    }
}

/// Multiplies `rows` rows of `left` with the column pairs `pairs` of each of `rights`, adds their biases, and hands every
/// block to `epilogue`. A result is summed over the depth in order, whatever the rows and threads.
///
/// # Safety
/// `left` has been written; the epilogue's own conditions hold for these rows and columns.
#[inline(always)]
pub(crate) unsafe fn for_blocks<S: Simd, const N: usize>(
    s: S,
    session: &Session,
    (left, rows): (RowTiles, usize),
    rights: [&PackedWeight; N],
    pairs: Range<usize>,
    epilogue: &mut impl Epilogue<N>,
) {
    let stride = left.steps * LINES;
    for right in rights {
        assert!(right.steps() == left.steps && pairs.end <= right.pairs());
    }
    let mut results: [[Results; N]; 2] = [const { [const { Results::ZERO }; N] }; 2];
    let at_a_time = BLOCK.div_ceil((N * left.steps).max(1));
    // The block before, of which nothing is left to do at the start.
    let mut before = (0, 0, 0);
    let mut turn = 0;
    for pair in pairs {
        for row in (0..rows).step_by(BLOCK) {
            let count = (rows - row).min(BLOCK);
            // Two sets of results take turns.
            let [first, second] = &mut results;
            let (now, last) = if turn % 2 == 0 { (first, second) } else { (second, first) };
            turn += 1;
            let (row_before, column, rows_before) = before;
            let mut pending = Pending {
                s,
                epilogue: &mut *epilogue,
                results: last,
                row: row_before,
                column,
                rows: rows_before,
                done: 0,
                at_a_time,
            };
            for (right, results) in rights.iter().zip(now) {
                let block = Block {
                    left: left.below(row).at,
                    left_stride: stride,
                    rows: count,
                    right: right.panels(pair),
                    right_stride: stride,
                    steps: left.steps,
                    init: right.bias(pair),
                    init_ld: 0,
                    out: results.0.as_mut_ptr(),
                    out_ld: BLOCK,
                };
                // SAFETY: the operands are as large as the block says (asserted), the results are a whole block.
                unsafe { session.block_between(&block, &mut pending) };
            }
            pending.run(BLOCK);
            before = (row, pair * BLOCK, count);
        }
    }
    let (row, column, count) = before;
    // SAFETY: the caller's promise.
    unsafe { epilogue.block(s, row, 0..count, column, &results[(turn + 1) % 2]) };
}

/// Steps of the depth of a block of [`ceiling_blocks`]: the right operand stays in the first-level cache, the left one in the second.
const CEILING_STEPS: usize = 16;

/// Operations of one block of [`ceiling_blocks`].
pub(crate) const CEILING_BLOCK_FLOPS: f64 = (2 * BLOCK * BLOCK * DEPTH * CEILING_STEPS) as f64;

/// Multiplies a block that many times: as fast as this path can.
pub(crate) fn ceiling_blocks(count: usize) {
    let panel_len = CEILING_STEPS * LINES;
    let operands = Scratch::take(4 * panel_len);
    let mut results = Results::ZERO;
    let (out, out_ld) = results.as_mut_ptr();
    let session = Session::new(super::Path::best());
    let panel = |index: usize| operands[index * panel_len..].as_ptr();
    let block = Block {
        left: panel(0),
        left_stride: panel_len,
        rows: BLOCK,
        right: panel(2),
        right_stride: panel_len,
        steps: CEILING_STEPS,
        init: out.cast_const(),
        init_ld: out_ld,
        out,
        out_ld,
    };
    for _ in 0..count {
        // SAFETY: four panels of `CEILING_STEPS` tiles and a block of results.
        unsafe { session.block(&block) };
    }
}
