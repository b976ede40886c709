//! Packed rows times constant weights, block by block: an [`Epilogue`] does what comes next to each block of 32 × 32 results
//! while it is in the first-level cache (bias, activation, residual, or the tiles of the next product).
//!
//! The walk follows the caches, as in Goto and van de Geijn (2008): a chunk of rows stays in the second level, two right panels
//! of some depth in the first, and the panels of the next columns are fetched while these are multiplied.
#![allow(clippy::inline_always)]

use std::ops::Range;

use super::kernel::{Between, Block, CACHED_STEPS, Session};
use super::matrix::{BLOCK, LINES, Line, PackedWeight};
use super::parallel::{Scratch, part};
use super::tiles::RowTiles;
use crate::simd::{LANES, Simd};

/// 32 × 32 results, row by row.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Results([f32; BLOCK * BLOCK]);

impl Results {
    pub(crate) const ZERO: Self = Self([0.0; BLOCK * BLOCK]);
    /// Cache lines of a block.
    const LINES: usize = size_of::<Self>() / size_of::<Line>();

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
pub(crate) trait Epilogue {
    /// Rows that are best done together: few, so that their stores do not queue, or as many as fill vectors.
    const ROWS_TOGETHER: usize;

    /// Rows `lines` of the block that begins at `row` and `column`. `#[inline(always)]`.
    ///
    /// # Safety
    /// As the implementation says.
    unsafe fn block<S: Simd>(
        &mut self,
        s: S,
        row: usize,
        lines: Range<usize>,
        column: usize,
        results: &Results,
    );

    /// Rows `lines` of such a block are being computed: what they will need may be fetched.
    #[inline(always)]
    fn expect(&self, _row: usize, _lines: Range<usize>, _column: usize) {}
}

/// What 32 columns start from: whole cache lines, for a tile reads each sixteen times.
#[repr(C, align(64))]
struct Bias([f32; BLOCK]);

/// The columns that rows are multiplied with.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Right<'a> {
    /// 32 columns a block.
    One(&'a PackedWeight),
    /// 16 columns of each of two weights a block, side by side: of a gate, and of what it lets through.
    Gated(&'a PackedWeight, &'a PackedWeight),
}

impl Right<'_> {
    /// Steps along the depth.
    fn steps(&self) -> usize {
        let (Self::One(weight) | Self::Gated(weight, _)) = self;
        weight.steps()
    }

    /// Blocks of columns, padding included.
    fn blocks(&self) -> usize {
        match self {
            Self::One(weight) => weight.pairs(),
            Self::Gated(gate, up) => 2 * gate.pairs().min(up.pairs()),
        }
    }

    /// The first column of a block.
    fn column(&self, block: usize) -> usize {
        match self {
            Self::One(_) => block * BLOCK,
            Self::Gated(..) => block * LINES,
        }
    }

    /// The two panels of a block, with their biases.
    fn panels(&self, block: usize) -> [(*const Line, &[f32]); 2] {
        match self {
            Self::One(weight) => [weight.panel(2 * block), weight.panel(2 * block + 1)],
            Self::Gated(gate, up) => [gate.panel(block), up.panel(block)],
        }
    }
}

/// Sums of a product whose depth comes in parts: a block for each block of columns and of rows, in memory that is borrowed elsewhere.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sums {
    at: *mut Results,
    row_blocks: usize,
}

// SAFETY: whoever shares sums between threads gives each its own blocks of columns.
unsafe impl Send for Sums {}
// SAFETY: as above.
unsafe impl Sync for Sums {}

impl Sums {
    /// Cache lines for so many blocks of columns of so many rows.
    pub(crate) fn lines(blocks: usize, rows: usize) -> usize {
        blocks * rows.div_ceil(BLOCK) * Results::LINES
    }

    /// Sums in `memory`, which has [`Self::lines`] lines.
    pub(crate) fn new(memory: &mut Scratch, rows: usize) -> Self {
        Self { at: memory.as_mut_ptr().cast(), row_blocks: rows.div_ceil(BLOCK) }
    }

    #[inline(always)]
    fn of(self, block: usize, row_block: usize) -> *mut f32 {
        self.at.wrapping_add(block * self.row_blocks + row_block).cast()
    }
}

/// Which part of the depth of the right operand the rows hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Depth {
    /// The step of the right operand that the first step of the rows meets.
    pub(crate) first: usize,
    /// Where sums wait for the other parts; needed unless the rows have the whole depth.
    pub(crate) sums: Option<Sums>,
}

impl Depth {
    pub(crate) const WHOLE: Self = Self { first: 0, sums: None };
}

/// A computed block whose epilogue is run between the steps of the next one, a few rows at a time, while the panels of the
/// next columns are fetched.
struct Meanwhile<'a, S, E> {
    s: S,
    epilogue: &'a mut E,
    results: &'a Results,
    /// The computed block, and the one that is being computed.
    computed: Place,
    expected: Place,
    /// Rows that are done.
    done: usize,
    /// Rows that are due after each step, and those that are due now. They are done a few together.
    at_a_time: usize,
    due: usize,
    next: Next,
}

/// Where a block begins, and how many rows it has.
#[derive(Clone, Copy)]
struct Place {
    row: usize,
    rows: usize,
    column: usize,
}

impl Place {
    const NOWHERE: Self = Self { row: 0, rows: 0, column: 0 };

    /// Those of the rows `lines` that there are.
    #[inline(always)]
    fn lines(&self, lines: &Range<usize>) -> Range<usize> {
        lines.start.min(self.rows)..lines.end.min(self.rows)
    }
}

/// Lines of the next columns' panels to fetch meanwhile, one after the other: the processor then fetches ahead of us.
struct Next {
    at: *const Line,
    /// Where the first panel's lines end, and the second one's begin.
    turn: [*const Line; 2],
    /// Lines a step.
    lines: usize,
}

impl Next {
    /// Of the tiles of `steps` steps at each of `panels`, the share of a row block.
    #[inline(always)]
    fn new(panels: [*const Line; 2], steps: usize, row_block: usize, row_blocks: usize) -> Self {
        let lines = steps * LINES;
        let share = part(2 * lines, row_blocks, row_block);
        let at = match share.start.checked_sub(lines) {
            Some(second) => panels[1].wrapping_add(second),
            None => panels[0].wrapping_add(share.start),
        };
        let turn = [panels[0].wrapping_add(lines), panels[1]];
        Self { at, turn, lines: share.len().div_ceil(steps.max(1)) }
    }

    #[inline(always)]
    fn fetch(&mut self) {
        for _ in 0..self.lines {
            if self.at == self.turn[0] {
                self.at = self.turn[1];
            }
            fetch(self.at);
            self.at = self.at.wrapping_add(1);
        }
    }
}

impl<S: Simd, E: Epilogue> Meanwhile<'_, S, E> {
    #[inline(always)]
    fn run(&mut self, count: usize) {
        let lines = self.done..BLOCK.min(self.done + count);
        self.done = lines.end;
        let Self { computed, expected, .. } = *self;
        self.epilogue.expect(expected.row, expected.lines(&lines), expected.column);
        let lines = computed.lines(&lines);
        if !lines.is_empty() {
            // SAFETY: what `for_blocks` was promised.
            unsafe { self.epilogue.block(self.s, computed.row, lines, computed.column, self.results) };
        }
    }
}

impl<S: Simd, E: Epilogue> Between for Meanwhile<'_, S, E> {
    #[inline(always)]
    fn step(&mut self) {
        self.next.fetch();
        self.due += self.at_a_time;
        if self.due >= E::ROWS_TOGETHER && self.done < BLOCK {
            self.run(self.due);
            self.due = 0;
        }
    }
}

/// Asks for the line of an address, into the second-level cache.
#[inline(always)]
pub(crate) fn fetch<T>(address: *const T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: prefetching has no effect but on the cache, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(address.cast()) };
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above.
    unsafe {
        std::arch::asm!("prfm pldl2keep, [{}]", in(reg) address, options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = address;
}

/// Asks for the line of an address that is to be written.
#[inline(always)]
pub(crate) fn fetch_to_write<T>(address: *const T) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: prefetching has no effect but on the cache, whatever the address; processors without the instruction ignore it.
    unsafe {
        std::arch::asm!("prefetchw [{}]", in(reg) address, options(nostack, readonly, preserves_flags));
    }
    #[cfg(any(not(target_arch = "x86_64"), miri))]
    fetch(address);
}

/// The greatest number of steps up to `most` that makes whole passes over the depth, at least 1.
pub(crate) fn whole_passes(most: usize) -> usize {
    if most < CACHED_STEPS { most.max(1) } else { most / CACHED_STEPS * CACHED_STEPS }
}

/// Multiplies `rows` rows of `left` with the blocks of columns `blocks` of `right`, adds their biases, and hands every block
/// whose depth is complete to `epilogue`. A result is summed over the depth in order, whatever the rows, parts and threads.
///
/// # Safety
/// `left` has been written; the sums are this thread's for these blocks; the epilogue's own conditions hold for these rows and columns.
#[inline(always)]
pub(crate) unsafe fn for_blocks<S: Simd>(
    s: S,
    session: &Session,
    (left, rows): (RowTiles, usize),
    right: Right<'_>,
    blocks: Range<usize>,
    depth: Depth,
    epilogue: &mut impl Epilogue,
) {
    let steps = left.steps();
    let (begins, ends) = (depth.first == 0, depth.first + steps == right.steps());
    assert!(depth.first + steps <= right.steps() && blocks.end <= right.blocks());
    assert!((begins && ends) || depth.sums.is_some());
    let row_blocks = rows.div_ceil(BLOCK);
    let passes = if row_blocks > 1 { steps.div_ceil(CACHED_STEPS).max(1) } else { 1 };
    let mut own = (passes > 1 && depth.sums.is_none()).then(|| Scratch::take(Sums::lines(1, rows)));
    let own = own.as_mut().map(|memory| Sums::new(memory, rows));
    let mut results = [const { Results::ZERO }; 2];
    let mut computed = Place::NOWHERE;
    let mut bias = Bias([0.0; BLOCK]);
    let mut turn = 0;
    for block in blocks {
        let panels = right.panels(block);
        bias.0[..LINES].copy_from_slice(panels[0].1);
        bias.0[LINES..].copy_from_slice(panels[1].1);
        let next = right.panels((block + 1).min(right.blocks() - 1));
        for pass in 0..passes {
            let now = part(steps, passes, pass);
            let from =
                |(panel, _): (*const Line, &[f32])| panel.wrapping_add((depth.first + now.start) * LINES);
            let (begun, completes) = (!begins || pass > 0, ends && pass + 1 == passes);
            let (panels, next) = (panels.map(from), next.map(from));
            let at_a_time = BLOCK.div_ceil(now.len().max(1));
            for row_block in 0..row_blocks {
                let row = row_block * BLOCK;
                let sums = depth.sums.map(|sums| sums.of(block, row_block));
                let sums = sums.or(own.map(|sums| sums.of(0, row_block))).unwrap_or(std::ptr::null_mut());
                // Two sets of results take turns.
                let [first, second] = &mut results;
                let (fresh, last) = if turn % 2 == 0 { (first, second) } else { (second, first) };
                let place = Place { row, rows: (rows - row).min(BLOCK), column: right.column(block) };
                let mut meanwhile = Meanwhile {
                    s,
                    epilogue: &mut *epilogue,
                    results: last,
                    computed,
                    expected: if completes { place } else { Place::NOWHERE },
                    done: 0,
                    at_a_time,
                    due: 0,
                    next: Next::new(next, now.len(), row_block, row_blocks),
                };
                let (init, init_ld) = if begun { (sums.cast_const(), BLOCK) } else { (bias.0.as_ptr(), 0) };
                let multiplied = Block {
                    left: left.below(row).step(now.start),
                    left_stride: steps * LINES,
                    rows: place.rows,
                    right: panels,
                    right_again: row_blocks > 1,
                    steps: now.len(),
                    init,
                    init_ld,
                    out: if completes { fresh.0.as_mut_ptr() } else { sums },
                    out_ld: BLOCK,
                };
                // SAFETY: the operands are as large as the block says (asserted); results and sums are whole blocks.
                unsafe { session.block_between(&multiplied, &mut meanwhile) };
                meanwhile.run(BLOCK);
                computed = meanwhile.expected;
                turn += usize::from(completes);
            }
        }
    }
    if computed.rows > 0 {
        // SAFETY: the caller's promise.
        unsafe {
            epilogue.block(s, computed.row, 0..computed.rows, computed.column, &results[(turn + 1) % 2]);
        };
    }
}
