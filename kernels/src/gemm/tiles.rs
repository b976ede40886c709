//! Operands that are written on the way, as tiles: rows by a norm, an activation or a plain copy, columns by an attention.
#![allow(clippy::inline_always)]

use super::blocks::Results;
use super::kernel::{Block, Session};
use super::matrix::{BLOCK, DEPTH, LINES, Line};
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

    /// Tiles along the depth.
    pub(super) fn steps(self) -> usize {
        self.steps
    }

    /// The same memory for fewer steps.
    pub(crate) fn of_steps(self, steps: usize) -> Self {
        assert!(steps <= self.steps);
        Self { steps, ..self }
    }

    /// The tile of the first 16 rows at `step`.
    #[inline(always)]
    pub(super) fn step(self, step: usize) -> *const Line {
        self.at.wrapping_add(step * LINES)
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
        right: [right.words(column, 0).cast(), right.words(column + LINES, 0).cast()],
        right_again: true,
        steps,
        init: init.0,
        init_ld: init.1,
        out: out.0,
        out_ld: out.1,
    };
    // SAFETY: the caller's promise.
    unsafe { session.block(&block) };
}

/// Steps of the depth of a block of [`ceiling_blocks`]: the right operand stays in the first-level cache, the left one in the second.
const CEILING_STEPS: usize = 16;

/// Operations of one block of [`ceiling_blocks`].
pub(crate) const CEILING_BLOCK_FLOPS: f64 = (2 * BLOCK * BLOCK * DEPTH * CEILING_STEPS) as f64;

/// Multiplies a block that many times: as fast as this path can.
pub(crate) fn ceiling_blocks(count: usize) {
    let panel_len = CEILING_STEPS * LINES;
    // Numbers as models have them: zeros would take less power, and so multiply a fifth faster than anything real can.
    let mut operands = Scratch::take(4 * panel_len);
    let mut bits = 1u32;
    for line in &mut *operands {
        *line = Line::of(std::array::from_fn(|_| {
            bits = bits.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            // ± 0.5 to 2, all bits of the mantissa in use.
            0x3f00 | (bits >> 16 & 0x80ff) as u16
        }));
    }
    let mut results = Results::ZERO;
    let (out, out_ld) = results.as_mut_ptr();
    let session = Session::new(super::Path::best());
    let panel = |index: usize| operands[index * panel_len..].as_ptr();
    let block = Block {
        left: panel(0),
        left_stride: panel_len,
        rows: BLOCK,
        right: [panel(2), panel(3)],
        right_again: true,
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
