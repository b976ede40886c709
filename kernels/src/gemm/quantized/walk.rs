//! Walks the rows and columns of a product, and hands finished rows to an epilogue.
#![allow(clippy::inline_always)]

use std::ops::Range;

use super::super::kernel::Between;
use super::super::matrix::{LINES, Line};
use super::super::parallel::{self, Scratch};
use super::int4::Unit;
use super::kernel::{BLOCK, Groups, Kind, STRIP, Session, Strip, Sums, fetch};
use super::rows::QuantizedRows;
use super::{amx, unpack};
use crate::simd::Simd;

/// 32 columns of a row of a result.
pub(crate) type Row = [f32; BLOCK];

/// Up to 32 rows of a result.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
struct Block([Row; BLOCK]);

/// Where some [`Row`]s lie in their result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) row: usize,
    /// A multiple of 32.
    pub(crate) column: usize,
    /// 1 to 32.
    pub(crate) rows: usize,
    /// How many of the columns lie inside the result, 1 to 32.
    pub(crate) columns: usize,
}

/// What happens to the rows of a product.
pub(crate) trait Finish {
    /// Rows `lines` of those at `place` are being computed: what they will need may be fetched.
    #[inline(always)]
    fn expect(&self, _place: Place, _lines: Range<usize>) {}

    /// Rows that are done. `#[inline(always)]`.
    fn finish<S: Simd>(&mut self, s: S, place: Place, rows: &mut [Row]);
}

/// Computes the columns of `pairs`, a few rows at a time over the whole depth, for `then`.
///
/// # Safety
/// `right(pair)` is what `kernel` takes, which needs nothing but a [`Strip`].
#[inline(always)]
pub(super) unsafe fn strips<S: Simd>(
    s: S,
    columns: usize,
    x: &QuantizedRows,
    pairs: Range<usize>,
    right: impl Fn(usize) -> *const Line,
    kernel: unsafe fn(&Strip),
    mut then: impl Finish,
) {
    let mut block = Block([[0.0; BLOCK]; BLOCK]);
    for pair in pairs {
        let column = pair * BLOCK;
        let mut row = 0;
        while row < x.rows() {
            let rows = (1 << (x.rows() - row).ilog2()).min(STRIP);
            // SAFETY: the strip lies in the rows, a block has room for it, and the rest is the caller's promise.
            unsafe { kernel(&x.strip(row, rows, (right(pair), row > 0), block.0.as_mut_ptr().cast())) };
            let place = Place { row, column, rows, columns: (columns - column).min(BLOCK) };
            then.finish(s, place, &mut block.0[..rows]);
            row += rows;
        }
    }
}

/// Steps after which the next block of rows is due: the right tiles of so many stay in the first-level cache.
const STEPS: usize = 14;
/// Lines between what is multiplied and what is fetched from memory when there is one block of rows.
const FETCH_AHEAD: usize = 256;

/// A computed block, some rows of which are finished.
#[derive(Clone, Copy)]
struct Pending {
    place: Place,
    block: *mut Block,
    done: usize,
}

/// What happens beside the tiles' work on a block: the one before is finished, a few rows a step.
struct Meanwhile<'a, S, T> {
    s: S,
    then: &'a mut T,
    pending: Option<Pending>,
    /// The block, if it will be complete.
    expected: Option<Place>,
    at_a_time: usize,
    /// Rows whose step has come.
    line: usize,
}

impl<S: Simd, T: Finish> Meanwhile<'_, S, T> {
    #[inline(always)]
    fn run(&mut self, count: usize) {
        let Some(Pending { place, block, done }) = self.pending else { return };
        let end = place.rows.min(done + count);
        if done < end {
            self.pending = Some(Pending { place, block, done: end });
            let place = Place { row: place.row + done, rows: end - done, ..place };
            // SAFETY: whoever made this vouches that no kernel uses the block.
            self.then.finish(self.s, place, unsafe { &mut (&mut *block).0[done..end] });
        }
    }
}

impl<S: Simd, T: Finish> Between for Meanwhile<'_, S, T> {
    #[inline(always)]
    fn step(&mut self) {
        if let Some(place) = self.expected {
            let end = (self.line + self.at_a_time).min(place.rows);
            self.then.expect(place, self.line.min(end)..end);
            self.line = end;
        }
        self.run(self.at_a_time);
    }
}

/// Computes the columns of `pairs` of 8-bit tiles `right` with AMX; `then` gets rows of integer sums.
/// It must not wait for other threads; see [`Session`].
#[inline(always)]
pub(super) fn int8_tiles<S: Simd>(
    s: S,
    columns: usize,
    x: &QuantizedRows,
    pairs: Range<usize>,
    right: &[Line],
    mut then: impl Finish,
) {
    let (rows, steps) = (x.rows(), x.panel() / x.height());
    let lines = steps * BLOCK;
    assert!(right.len() >= pairs.end * lines && steps > 0);
    // SAFETY: the path was found to be available.
    let _session = unsafe { Session::new(Kind::Int8, rows) };
    let (blocks, parts) = (rows.div_ceil(BLOCK), steps.div_ceil(STEPS));
    // A block is finished beside the next one. With one part, sums are soon done with, and two blocks of them take turns.
    let kept = if parts == 1 { 2 } else { blocks };
    let mut sums = Scratch::take(kept * size_of::<Block>() / size_of::<Line>());
    let sums = sums.as_mut_ptr().cast::<Block>();
    let ahead = if blocks == 1 { FETCH_AHEAD } else { lines };
    let mut pending: Option<Pending> = None;
    let mut turn = 0;
    for pair in pairs {
        for part in 0..parts {
            let part = parallel::part(steps, parts, part);
            let from = right[pair * lines + part.start * BLOCK..].as_ptr();
            for index in 0..blocks {
                let row = index * BLOCK;
                turn += 1;
                // SAFETY: there are so many blocks.
                let to = unsafe { sums.add(if parts == 1 { turn % 2 } else { index }) };
                let block = Sums {
                    left: x.panel_of(row).wrapping_add(part.start * x.height()),
                    height: x.height(),
                    left_stride: x.panel(),
                    rows: (rows - row).min(BLOCK),
                    right: from,
                    steps: part.len(),
                    fresh: part.start == 0,
                    out: to.cast(),
                    next: from.wrapping_add(ahead + part.len() * BLOCK * index / blocks),
                    fetch: BLOCK.div_ceil(blocks),
                };
                let column = pair * BLOCK;
                let (height, width) = ((rows - row).min(BLOCK), (columns - column).min(BLOCK));
                let place = Place { row, column, rows: height, columns: width };
                let completes = part.end == steps;
                let mut meanwhile = Meanwhile {
                    s,
                    then: &mut then,
                    pending: pending.take(),
                    expected: completes.then_some(place),
                    at_a_time: BLOCK.div_ceil(part.len()),
                    line: 0,
                };
                // SAFETY: the panels of these rows are there, and so are the tiles (asserted); a block of sums has 32 rows
                // of 32 words. The block before, which no kernel uses, is finished beside this one.
                unsafe { amx::int8(&block, &mut meanwhile) };
                meanwhile.run(BLOCK);
                if completes {
                    pending = Some(Pending { place, block: to, done: 0 });
                }
            }
        }
        // The next pair would start in the same block.
        if parts > 1 && blocks == 1 {
            finish_all(s, pending.take(), &mut then);
        }
    }
    finish_all(s, pending, &mut then);
}

/// Finishes a block that no kernel uses.
#[inline(always)]
fn finish_all<S: Simd, T: Finish>(s: S, pending: Option<Pending>, then: &mut T) {
    Meanwhile { s, then, pending, expected: None, at_a_time: BLOCK, line: 0 }.run(BLOCK);
}

/// Groups after which the next panel of rows is due: those of 16 rows and 32 columns stay in the first-level cache.
const GROUPS: usize = 20;

/// Computes the columns of `pairs` of 4-bit units `right` with AMX; `then` gets rows of sums.
/// It must not wait for other threads; see [`Session`].
#[inline(always)]
pub(super) fn int4_tiles<S: Simd>(
    s: S,
    columns: usize,
    (x, groups): (&QuantizedRows, usize),
    pairs: Range<usize>,
    right: &[Unit],
    mut then: impl Finish,
) {
    /// Lines of a group in one panel, and of its scales.
    const HALF_TILE: usize = LINES / 2;
    let rows = x.rows();
    assert!(right.len() >= pairs.end * groups && groups > 0);
    // SAFETY: the path was found to be available.
    let _session = unsafe { Session::new(Kind::Int4, rows) };
    let blocks = rows.div_ceil(BLOCK);
    let mut memory =
        Scratch::take(2 * groups * (HALF_TILE + 1) + blocks * size_of::<Block>() / size_of::<Line>());
    let (unpacked, sums) = memory.split_at_mut(2 * groups * (HALF_TILE + 1));
    let (tiles, scales) = unpacked.split_at_mut(2 * groups * HALF_TILE);
    let (tiles, scales) = (tiles.as_mut_ptr(), scales.as_mut_ptr());
    let sums = sums.as_mut_ptr().cast::<Block>();
    let (parts, panels) = (groups.div_ceil(GROUPS), rows.div_ceil(LINES));
    let turns = parts * panels;
    for pair in pairs {
        let units = &right[pair * groups..(pair + 1) * groups];
        for (group, unit) in units.iter().enumerate() {
            let at = |panel: usize| panel * groups + group;
            // SAFETY: there is room for so many groups of both panels.
            unsafe {
                let to = [0, 1].map(|panel| tiles.add(at(panel) * HALF_TILE));
                unpack(unit, to, [0, 1].map(|panel| scales.add(at(panel)).cast()));
            }
        }
        let next = units.as_ptr_range().end.cast::<Line>();
        let lines = size_of_val(units) / size_of::<Line>();
        for part in 0..parts {
            // Parts begin with a whole tile.
            let first = part * GROUPS;
            for panel in 0..panels {
                let share = parallel::part(lines, turns, part * panels + panel);
                fetch(next.wrapping_add(share.start), share.len());
                for side in 0..2 {
                    let at = side * groups + first;
                    // SAFETY: the panels of these rows are there, and so are the unpacked groups; a block has 32 rows.
                    unsafe {
                        amx::int4(&Groups {
                            left: x.panel_of(panel * LINES).add(first / 2 * x.height()),
                            height: x.height(),
                            right: tiles.add(at * HALF_TILE),
                            scales: scales.add(at).cast(),
                            count: GROUPS.min(groups - first),
                            fresh: part == 0,
                            out: sums.cast::<f32>().add((panel * BLOCK + side) * LINES),
                        });
                    }
                }
            }
        }
        for index in 0..blocks {
            let (row, column) = (index * BLOCK, pair * BLOCK);
            let (height, width) = ((rows - row).min(BLOCK), (columns - column).min(BLOCK));
            // SAFETY: a finished block; rows past the last may be stale numbers.
            let block = unsafe { &mut *sums.add(index) };
            then.finish(s, Place { row, column, rows: height, columns: width }, &mut block.0[..height]);
        }
    }
}
