//! The forward pass in `bf16`, for many queries: scores and mixed values are products of tiles.
#![allow(clippy::inline_always)]

use super::blocks::{BLOCK, Head, HeadMemory, Mixed, ROWS, Room, RoomMemory, Scores};
use super::element::Element;
use super::problem::{Panel, Problem, Sizes};
use crate::gemm::{Path, Results, RowTiles, Scratch, Session, fetch, run_chunks, threads_for};
use crate::ops::support::{Out, written};
use crate::simd::{Kernel, LANES, Simd, dispatch};

/// Keys up to which the scores of [`ROWS`] rows stay in the first-level cache; of more keys, those of a block may.
const NEAR_KEYS: usize = 128;

/// Query rows that pay for laying out their keys.
const ROWS_PER_TASK: usize = 128;

/// The result of a problem without a bias, `(batch, q_len, heads, v_dim)`.
pub(super) fn forward<Q: Element, K: Element>(problem: &Problem<Q, K>) -> Vec<f32> {
    let Sizes { batch, q_len, heads, kv_heads, v_dim, .. } = problem.sizes;
    let (units, rows) = (batch * kv_heads, problem.sizes.rows());
    let threads = threads_for(problem.sizes.work(), 0);
    // Few units are split, though each part lays out all keys.
    let parts = if units >= threads { 1 } else { threads.min(rows.div_ceil(ROWS_PER_TASK)).max(1) };
    let together = if problem.sizes.kv_len > NEAR_KEYS { BLOCK } else { ROWS };
    let blocks = rows.div_ceil(together);
    let fill = |out: Out| {
        run_chunks(threads, units * parts, |task| {
            let (unit, part) = (task / parts, task % parts);
            // Later rows see more keys: parts take blocks in turn.
            dispatch(Task { problem, unit, together, first: part, blocks, step: parts, out });
        });
    };
    // SAFETY: the parts cover all rows.
    unsafe { written(batch * q_len * heads * v_dim, fill) }
}

/// Every `step`-th block of `together` query rows of a unit (a batch row and a key head) from block `first` on.
struct Task<'a, Q, K> {
    problem: &'a Problem<'a, Q, K>,
    unit: usize,
    together: usize,
    first: usize,
    blocks: usize,
    step: usize,
    out: Out,
}

impl<Q: Element, K: Element> Kernel for Task<'_, Q, K> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { problem, unit, together, first, blocks, step, out } = self;
        let Sizes { kv_len, kv_heads, dim, v_dim, .. } = problem.sizes;
        let rows = problem.sizes.rows();
        let unit = Panel { batch: unit / kv_heads, kv_head: unit % kv_heads, rows: 0..rows };
        let mut head_memory = HeadMemory::new(kv_len, dim, v_dim);
        let head = Head::new(&mut head_memory, kv_len, dim, v_dim);
        let mut room_memory = RoomMemory::new(kv_len);
        let room = Room::new(&mut room_memory, kv_len);
        let mut memory = Scratch::take(RowTiles::lines(ROWS, dim));
        let tiles = RowTiles::new(&mut memory, ROWS, dim);
        let session = Session::new(Path::best());
        // SAFETY: tiles are as large as what is written to them; operands were checked against their sizes.
        unsafe {
            lay_out(s, problem, &unit, &head, tiles);
            let unit_rows = UnitRows { problem, unit: &unit };
            let mut store = Store { problem, unit: &unit, out };
            for block in (first..blocks).step_by(step) {
                let start = block * together;
                let count = (rows - start).min(together);
                for i in 0..count {
                    if start + i + AHEAD < rows {
                        let (token, q_head) = problem.place(&unit, start + i + AHEAD);
                        fetch_row(problem.q.row(unit.batch, token, q_head, dim));
                    }
                    let (token, q_head) = problem.place(&unit, start + i);
                    let row = problem.q.row(unit.batch, token, q_head, dim);
                    for at in (0..dim.next_multiple_of(2 * LANES)).step_by(LANES) {
                        let lanes =
                            if at < dim { Q::load(s, row.as_ptr().add(at), dim - at) } else { s.splat(0.0) };
                        s.store_bf16(tiles.element(i, at), s.mul(lanes, s.splat(problem.scale)), LANES);
                    }
                }
                head.attend(s, (&session, &room), (tiles, 0, count), (&unit_rows, start), &mut store);
            }
        }
    }
}

/// Rows between what is taken over and what is fetched: those of a head are far from one another.
const AHEAD: usize = 16;

/// Bytes of a cache line.
const LINE: usize = 64;

/// Asks for a row.
#[inline(always)]
fn fetch_row<T>(row: &[T]) {
    for at in (0..row.len()).step_by(LINE / size_of::<T>()) {
        fetch(row.as_ptr().wrapping_add(at));
    }
}

/// Keys and values of a unit as tiles; `tiles` is room for 16 rows.
#[inline(always)]
unsafe fn lay_out<S: Simd, Q, K: Element>(
    s: S,
    problem: &Problem<Q, K>,
    unit: &Panel,
    head: &Head,
    tiles: RowTiles,
) {
    let Sizes { kv_len, dim, v_dim, .. } = problem.sizes;
    // SAFETY: rows have `dim` or `v_dim` elements; the tiles are the caller's.
    unsafe {
        for key in (0..kv_len.next_multiple_of(BLOCK)).step_by(LANES) {
            for i in 0..LANES {
                if key + i + AHEAD < kv_len {
                    fetch_row(problem.k.row(unit.batch, key + i + AHEAD, unit.kv_head, dim));
                }
                let row = (key + i < kv_len).then(|| problem.k.row(unit.batch, key + i, unit.kv_head, dim));
                for at in (0..dim.next_multiple_of(2 * LANES)).step_by(LANES) {
                    let lanes = match row {
                        Some(row) if at < dim => K::load(s, row.as_ptr().add(at), dim - at),
                        _ => s.splat(0.0),
                    };
                    s.store_bf16(tiles.element(i, at), lanes, LANES);
                }
            }
            head.set_keys(s, tiles, 0, key);
        }
        let value = |key: usize| {
            let row = || problem.v.row(unit.batch, key, unit.kv_head, v_dim).as_ptr();
            (key < kv_len).then(row)
        };
        for key in (0..kv_len).step_by(2) {
            for ahead in [key + AHEAD, key + AHEAD + 1].into_iter().filter(|&ahead| ahead < kv_len) {
                fetch_row(problem.v.row(unit.batch, ahead, unit.kv_head, v_dim));
            }
            head.set_values(s, key, [value(key), value(key + 1)]);
        }
        head.clear_values(s, kv_len.next_multiple_of(2));
    }
}

struct UnitRows<'a, Q, K> {
    problem: &'a Problem<'a, Q, K>,
    unit: &'a Panel,
}

impl<Q, K> Scores for UnitRows<'_, Q, K> {
    #[inline(always)]
    fn visible(&self, row: usize) -> usize {
        self.problem.visible(self.unit, row)
    }

    #[inline(always)]
    fn bias(&self, _: usize, _: usize) -> Option<(*const f32, usize)> {
        None
    }

    #[inline(always)]
    fn mask(&self, row: usize) -> Option<*const f32> {
        self.problem.additive_row(self.unit.batch, self.problem.place(self.unit, row).0)
    }
}

struct Store<'a, Q, K> {
    problem: &'a Problem<'a, Q, K>,
    unit: &'a Panel,
    out: Out,
}

impl<Q, K> Mixed for Store<'_, Q, K> {
    /// # Safety
    /// The rows of the output are the caller's.
    #[inline(always)]
    unsafe fn block<S: Simd>(
        &mut self,
        s: S,
        (first, rows): (usize, usize),
        column: usize,
        results: &Results,
        scales: &[f32; BLOCK],
    ) {
        let Sizes { q_len, heads, v_dim, .. } = self.problem.sizes;
        for i in 0..rows {
            let (token, head) = self.problem.place(self.unit, first + i);
            let at = ((self.unit.batch * q_len + token) * heads + head) * v_dim;
            for half in 0..2 {
                let column = column + half * LANES;
                let Some(n) = v_dim.checked_sub(column).filter(|&n| n > 0) else {
                    break;
                };
                let lanes = s.mul(results.lanes(s, i, half), s.splat(scales[i]));
                // SAFETY: the caller's promise.
                unsafe { s.store(self.out.part(at + column, n.min(LANES)), lanes, n) };
            }
        }
    }
}
