//! Attention of up to 64 query rows on tiles of `bf16`: scores, softmax and values in one thread's cache.
//!
//! A row keeps all its scores (no online softmax), so its result depends on its own query and keys alone, bit for bit,
//! whatever rows share its block. What is stored by one unit and loaded by the other rests a while in between: neither tiles
//! nor vectors can be taken over from a store that has just been made.
#![allow(clippy::inline_always)]

use super::element::Element;
use crate::gemm::{ColumnTiles, Results, RowTiles, Scratch, Session, ZEROS, multiply};
use crate::simd::math::fast_exp_below;
use crate::simd::{LANES, Simd, Tile};

/// Rows, and keys or columns of values, of a block.
pub(crate) const BLOCK: usize = 32;

/// Query rows that are attended with together.
pub(crate) const ROWS: usize = 2 * BLOCK;

/// Keys and values of one head.
pub(crate) struct Head {
    keys: ColumnTiles,
    values: ColumnTiles,
    /// Depth of the scores, in steps.
    dim_steps: usize,
    v_dim: usize,
    /// Keys, rounded up to whole blocks.
    kv_pad: usize,
}

/// Memory of a [`Head`], one buffer a part.
pub(crate) struct HeadMemory([Scratch; 2]);

impl HeadMemory {
    pub(crate) fn new(kv_len: usize, dim: usize, v_dim: usize) -> Self {
        let kv_pad = kv_len.next_multiple_of(BLOCK);
        Self([
            Scratch::take(ColumnTiles::lines(kv_pad, dim)),
            Scratch::take(ColumnTiles::lines(v_dim, kv_pad)),
        ])
    }
}

/// Room for the scores and probabilities of [`ROWS`] rows.
pub(crate) struct Room {
    scores: *mut f32,
    probabilities: RowTiles,
    /// Distance between rows of scores.
    kv_pad: usize,
}

/// Memory of a [`Room`], one buffer a part.
pub(crate) struct RoomMemory([Scratch; 2]);

impl RoomMemory {
    pub(crate) fn new(kv_len: usize) -> Self {
        let kv_pad = kv_len.next_multiple_of(BLOCK);
        // Sixteen `f32` to a line.
        Self([Scratch::take(ROWS * kv_pad / LANES), Scratch::take(RowTiles::lines(ROWS, kv_pad))])
    }
}

impl Room {
    pub(crate) fn new(memory: &mut RoomMemory, kv_len: usize) -> Self {
        let kv_pad = kv_len.next_multiple_of(BLOCK);
        let [scores, probabilities] = &mut memory.0;
        let probabilities = RowTiles::new(probabilities, ROWS, kv_pad);
        Self { scores: scores.as_mut_ptr().cast(), probabilities, kv_pad }
    }
}

/// A score row's additions and its visible keys.
pub(crate) trait Scores {
    /// Keys that row `row` sees: the first so many, at least one.
    fn visible(&self, row: usize) -> usize;
    /// Where the scores of a block start from: rows of 32 from key `key` on for rows from `row` on, with the distance between
    /// rows. `None` starts from zero.
    fn bias(&self, row: usize, key: usize) -> Option<(*const f32, usize)>;
    /// What is added to the scores of `row`, as many as it sees keys.
    fn mask(&self, row: usize) -> Option<*const f32>;
}

impl Head {
    pub(crate) fn new(memory: &mut HeadMemory, kv_len: usize, dim: usize, v_dim: usize) -> Self {
        let kv_pad = kv_len.next_multiple_of(BLOCK);
        let [keys, values] = &mut memory.0;
        Self {
            keys: ColumnTiles::new(keys, kv_pad, dim),
            values: ColumnTiles::new(values, v_dim, kv_pad),
            dim_steps: dim.div_ceil(2 * LANES),
            v_dim,
            kv_pad,
        }
    }

    /// Takes over keys `key .. key + 16` from rows of tiles, of which those from `row` on hold them. Rows that do not exist
    /// must be finite.
    ///
    /// # Safety
    /// The rows are written.
    #[inline(always)]
    pub(crate) unsafe fn set_keys<S: Simd>(&self, s: S, rows: RowTiles, row: usize, key: usize) {
        for step in 0..self.dim_steps {
            let from = Tile { at: rows.part(row, step).cast_const().cast(), stride: LANES };
            // SAFETY: a tile of words on either side; one is the transpose of the other.
            unsafe { s.transpose(from, LANES, LANES, self.keys.words(key, step * LANES), LANES) };
        }
    }

    /// Takes over the values of keys `key` and `key + 1` (even `key`) from rows of `v_dim` elements; a missing row is zero.
    ///
    /// # Safety
    /// The rows are readable.
    #[inline(always)]
    pub(crate) unsafe fn set_values<S: Simd, T: Element>(
        &self,
        s: S,
        key: usize,
        rows: [Option<*const T>; 2],
    ) {
        for column in (0..self.v_dim.next_multiple_of(BLOCK)).step_by(LANES) {
            let lanes = |row: Option<*const T>| match row.filter(|_| column < self.v_dim) {
                // SAFETY: the caller's promise.
                Some(row) => unsafe { T::load(s, row.add(column), self.v_dim - column) },
                None => s.splat(0.0),
            };
            // SAFETY: inside the tiles.
            unsafe { s.store_bf16_pairs(self.values.words(column, key / 2), lanes(rows[0]), lanes(rows[1])) };
        }
    }

    /// Sets values `from..` up to the padding to zero.
    ///
    /// # Safety
    /// `from` is even. Values below it are set elsewhere.
    #[inline(always)]
    pub(crate) unsafe fn clear_values<S: Simd>(&self, s: S, from: usize) {
        for key in (from..self.kv_pad).step_by(2) {
            // SAFETY: nothing is read.
            unsafe { self.set_values::<S, f32>(s, key, [None, None]) };
        }
    }

    /// Attends with up to [`ROWS`] query rows, `rows` rows of `queries` from `row` on (a multiple of 16), whose scores are
    /// numbered from `first` on. Blocks of the result go to `epilogue` with that number and with `1 / Σ exp` of each row.
    ///
    /// # Safety
    /// Queries, keys and values are written; the conditions of `scores` and `epilogue` hold; the room is for as many keys.
    #[inline(always)]
    pub(crate) unsafe fn attend<S: Simd>(
        &self,
        s: S,
        (session, room): (&Session, &Room),
        (queries, row, rows): (RowTiles, usize, usize),
        (scores, first): (&impl Scores, usize),
        epilogue: &mut impl Mixed,
    ) {
        debug_assert!(rows <= ROWS && room.kv_pad == self.kv_pad);
        let count = |block: usize| rows.saturating_sub(block).min(BLOCK);
        let mut ends = [0; 2];
        for (end, block) in ends.iter_mut().zip([0, BLOCK]) {
            for i in block..block + count(block) {
                *end = (*end).max(scores.visible(first + i));
            }
            *end = end.next_multiple_of(BLOCK);
            debug_assert!(*end <= self.kv_pad);
        }
        // SAFETY: `end` keys are within the tiles and within the rows of scores; the rest is the caller's promise.
        unsafe {
            for (end, block) in ends.into_iter().zip([0, BLOCK]) {
                for key in (0..end).step_by(BLOCK) {
                    let init = scores.bias(first + block, key).unwrap_or((ZEROS.0.as_ptr(), 0));
                    let out = (room.scores.add(block * room.kv_pad + key), room.kv_pad);
                    let left = (queries, row + block, count(block));
                    multiply(session, left, (self.keys, key), self.dim_steps, init, out);
                }
            }
            let mut scales = [[0.0; BLOCK]; 2];
            for (i, scale) in scales.as_flattened_mut().iter_mut().enumerate().take(rows) {
                let len = scores.visible(first + i);
                *scale = 1.0 / room.softmax(s, i, len, ends[i / BLOCK], scores.mask(first + i));
            }
            let mut results = [const { Results::ZERO }; 2];
            for column in (0..self.v_dim).step_by(BLOCK) {
                for (index, block) in [0, BLOCK].into_iter().enumerate().filter(|&(_, block)| block < rows) {
                    let left = (room.probabilities, block, count(block));
                    let (init, out) = ((ZEROS.0.as_ptr(), 0), results[index].as_mut_ptr());
                    multiply(session, left, (self.values, column), ends[index] / BLOCK, init, out);
                }
                for (index, block) in [0, BLOCK].into_iter().enumerate().filter(|&(_, block)| block < rows) {
                    epilogue.block(s, (first + block, count(block)), column, &results[index], &scales[index]);
                }
            }
        }
    }
}

impl Room {
    /// Turns the scores of row `i` into `exp(score − max)` in the tiles of probabilities, zeros from `len` to `end`, and returns
    /// their sum. The sum takes lanes in order, whatever `end`.
    #[inline(always)]
    unsafe fn softmax<S: Simd>(
        &self,
        s: S,
        i: usize,
        len: usize,
        end: usize,
        mask: Option<*const f32>,
    ) -> f32 {
        let row = self.scores.wrapping_add(i * self.kv_pad);
        let lowest = s.splat(f32::NEG_INFINITY);
        // Whole vectors first: their loads need no masks.
        let whole = len / LANES * LANES;
        // SAFETY: the row has `end` elements, the mask `len`.
        unsafe {
            if let Some(mask) = mask {
                for at in (0..len).step_by(LANES) {
                    let n = len - at;
                    s.store(row.add(at), s.add(s.load(row.add(at), n), s.load(mask.add(at), n)), n);
                }
            }
            let mut greatest = lowest;
            for at in (0..whole).step_by(LANES) {
                greatest = s.max(greatest, s.load(row.add(at), LANES));
            }
            // Scores beyond `len` are readable: they are those of padding, or of keys that other rows see.
            let last = s.keep(s.load(row.add(whole.min(end - LANES)), LANES), len - whole, lowest);
            greatest = if whole < len { s.max(greatest, last) } else { greatest };
            let minus = s.splat(-s.greatest(greatest) * std::f32::consts::LOG2_E);
            let mut total = s.splat(0.0);
            // Four vectors at a time; blocks have two.
            let mut at = 0;
            while at < end {
                let group = (i, at, len, minus);
                if end - at >= 4 * LANES {
                    total = self.powers::<S, 4>(s, group, total);
                    at += 4 * LANES;
                } else {
                    total = self.powers::<S, 2>(s, group, total);
                    at += 2 * LANES;
                }
            }
            s.sum(total)
        }
    }

    /// `exp(score − greatest)` of `N` vectors of row `i` from score `at` on, zeros from `len` on: to the probabilities, and added
    /// to `total`. `minus` as [`fast_exp_below`] has it.
    ///
    /// # Safety
    /// The row has as many scores.
    #[inline(always)]
    unsafe fn powers<S: Simd, const N: usize>(
        &self,
        s: S,
        (i, at, len, minus): (usize, usize, usize, S::V),
        mut total: S::V,
    ) -> S::V {
        let row = self.scores.wrapping_add(i * self.kv_pad + at);
        let mut x = [minus; N];
        for (k, x) in x.iter_mut().enumerate() {
            // SAFETY: the caller's promise.
            *x = unsafe { s.load(row.add(k * LANES), LANES) };
        }
        for (k, mut power) in fast_exp_below(s, x, minus).into_iter().enumerate() {
            let at = at + k * LANES;
            // Rarely, and then in the same place of each row: a branch costs less than a mask.
            if at + LANES > len {
                power = s.keep(power, len.saturating_sub(at), s.splat(0.0));
            }
            total = s.add(total, power);
            // SAFETY: the tiles are as wide as the scores.
            unsafe { s.store_bf16(self.probabilities.element(i, at), power, LANES) };
        }
        total
    }
}

/// What happens to mixed values.
pub(crate) trait Mixed {
    /// Rows `first .. first + rows`, 32 columns of the values from `column` on: `scales[i]` times row `i` of the results.
    /// `#[inline(always)]`.
    ///
    /// # Safety
    /// As the implementation says.
    unsafe fn block<S: Simd>(
        &mut self,
        s: S,
        rows: (usize, usize),
        column: usize,
        results: &Results,
        scales: &[f32; BLOCK],
    );
}
