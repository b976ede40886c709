//! Attention of blocks of 32 query rows on tiles of `bf16`: scores, softmax and values in one thread's cache.
//!
//! A row keeps all its scores (no online softmax), so its result depends on its own query and keys alone, bit for bit,
//! whatever rows share its block.
#![allow(clippy::inline_always)]

use crate::gemm::{ColumnTiles, Results, RowTiles, Scratch, Session, multiply};
use crate::simd::math::exp;
use crate::simd::{LANES, Simd, Tile};

/// Query rows, and keys or columns of values, of a block.
pub(crate) const ROWS: usize = 32;

/// Row of zeros from which sums start.
static ZEROS: [f32; ROWS] = [0.0; ROWS];

/// Keys and values of one head, and room for the scores of 32 rows.
pub(crate) struct Head {
    keys: ColumnTiles,
    values: ColumnTiles,
    /// Depth of the scores, in steps.
    dim_steps: usize,
    v_dim: usize,
    /// Keys, rounded up to whole blocks; the distance between rows of scores.
    kv_pad: usize,
    scores: *mut f32,
    probabilities: RowTiles,
}

/// Memory of a [`Head`], one buffer a part.
pub(crate) struct HeadMemory([Scratch; 4]);

impl HeadMemory {
    pub(crate) fn new(kv_len: usize, dim: usize, v_dim: usize) -> Self {
        let kv_pad = kv_len.next_multiple_of(ROWS);
        Self([
            Scratch::take(ColumnTiles::lines(kv_pad, dim)),
            Scratch::take(ColumnTiles::lines(v_dim, kv_pad)),
            // Sixteen `f32` to a line.
            Scratch::take(ROWS * kv_pad / LANES),
            Scratch::take(RowTiles::lines(ROWS, kv_pad)),
        ])
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
        let kv_pad = kv_len.next_multiple_of(ROWS);
        let [keys, values, scores, probabilities] = &mut memory.0;
        Self {
            keys: ColumnTiles::new(keys, kv_pad, dim),
            values: ColumnTiles::new(values, v_dim, kv_pad),
            dim_steps: dim.div_ceil(2 * LANES),
            v_dim,
            kv_pad,
            scores: scores.as_mut_ptr().cast(),
            probabilities: RowTiles::new(probabilities, ROWS, kv_pad),
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
    pub(crate) unsafe fn set_values<S: Simd>(&self, s: S, key: usize, rows: [Option<*const f32>; 2]) {
        for column in (0..self.v_dim.next_multiple_of(ROWS)).step_by(LANES) {
            let lanes = |row: Option<*const f32>| match row.filter(|_| column < self.v_dim) {
                // SAFETY: the caller's promise.
                Some(row) => unsafe { s.load(row.add(column), self.v_dim - column) },
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
            unsafe { self.set_values(s, key, [None, None]) };
        }
    }

    /// Attends with up to 32 query rows, `rows` rows of `queries` from `row` on (a multiple of 16), whose scores are numbered
    /// from `first` on. Blocks of the result go to `epilogue` with that number and with `1 / Σ exp` of each row.
    ///
    /// # Safety
    /// Queries, keys and values are written; the conditions of `scores` and `epilogue` hold.
    #[inline(always)]
    pub(crate) unsafe fn attend<S: Simd>(
        &self,
        s: S,
        session: &Session,
        (queries, row, rows): (RowTiles, usize, usize),
        (scores, first): (&impl Scores, usize),
        epilogue: &mut impl Mixed,
    ) {
        let mut end = 0;
        for i in 0..rows {
            end = end.max(scores.visible(first + i));
        }
        let end = end.next_multiple_of(ROWS);
        debug_assert!(end <= self.kv_pad && rows <= ROWS);
        // SAFETY: `end` keys are within the tiles and within the rows of scores; the rest is the caller's promise.
        unsafe {
            for key in (0..end).step_by(ROWS) {
                let init = scores.bias(first, key).unwrap_or((ZEROS.as_ptr(), 0));
                let out = (self.scores.add(key), self.kv_pad);
                multiply(session, (queries, row, rows), (self.keys, key), self.dim_steps, init, out);
            }
            let mut scales = [0.0; ROWS];
            for (i, scale) in scales.iter_mut().enumerate().take(rows) {
                let len = scores.visible(first + i);
                *scale = 1.0 / self.softmax(s, i, len, end, scores.mask(first + i));
            }
            let mut results = Results::ZERO;
            for column in (0..self.v_dim).step_by(ROWS) {
                let left = (self.probabilities, 0, rows);
                let init = (ZEROS.as_ptr(), 0);
                multiply(session, left, (self.values, column), end / ROWS, init, results.as_mut_ptr());
                epilogue.block(s, (first, rows), column, &results, &scales);
            }
        }
    }

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
            let greatest = s.splat(s.greatest(greatest));
            let mut total = s.splat(0.0);
            for at in (0..whole).step_by(LANES) {
                let power = exp(s, s.sub(s.load(row.add(at), LANES), greatest));
                total = s.add(total, power);
                s.store_bf16(self.probabilities.element(i, at), power, LANES);
            }
            let mut rest = whole;
            if whole < len {
                let power = s.keep(exp(s, s.sub(last, greatest)), len - whole, s.splat(0.0));
                total = s.add(total, power);
                s.store_bf16(self.probabilities.element(i, whole), power, LANES);
                rest += LANES;
            }
            for at in (rest..end).step_by(LANES) {
                s.store_bf16(self.probabilities.element(i, at), s.splat(0.0), LANES);
            }
            s.sum(total)
        }
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
        scales: &[f32; ROWS],
    );
}
