//! The pass: which windows a task takes, and its steps.
#![allow(clippy::inline_always)]

use std::ops::Range;

use super::{NORMALIZE_EPS, WindowWeights};
use crate::gemm::{self, Epilogue, Path, Results, RowTiles, Scratch, Session, for_blocks};
use crate::ops::attention::blocks::{Head, HeadMemory, Mixed, ROWS, Scores};
use crate::ops::feed_forward::norm_in_place;
use crate::ops::gather::ZERO_ROW;
use crate::ops::norm::RowNorm;
use crate::ops::projection::{NO_ROW, Store};
use crate::ops::support::Out;
use crate::simd::{Kernel, LANES, Simd, dispatch};

/// Rows that a task takes at most, unless one window has more: enough for the projections to pay for reading their weights.
const TASK_ROWS: usize = 256;

pub(super) struct Problem<'a> {
    pub(super) x: &'a [f32],
    pub(super) batch: usize,
    pub(super) tokens: usize,
    pub(super) dim: usize,
    pub(super) norm: Option<RowNorm<'a>>,
    pub(super) post_norm: Option<RowNorm<'a>>,
    pub(super) weights: &'a WindowWeights,
    pub(super) index: &'a [u32],
    pub(super) area: usize,
    pub(super) mask: Option<&'a [f32]>,
    pub(super) cosine_scale: Option<&'a [f32]>,
}

/// `(heads, area, area)` with rows and columns rounded up to whole blocks: products start from it.
pub(super) fn padded_bias(bias: &[f32], heads: usize, area: usize) -> Vec<f32> {
    let pad = area.next_multiple_of(ROWS);
    let mut padded = vec![0.0; heads * pad * pad];
    for (row, from) in bias.chunks_exact(area).enumerate() {
        let at = (row / area * pad + row % area) * pad;
        padded[at..at + area].copy_from_slice(from);
    }
    padded
}

impl Problem<'_> {
    fn windows(&self) -> usize {
        self.index.len() / self.area
    }

    pub(super) fn run(&self, out: Out) {
        let WindowWeights { query, key, value, output, .. } = self.weights;
        let total = self.batch * self.windows();
        if total == 0 {
            return;
        }
        let bytes = query.bytes() + key.bytes() + value.bytes() + output.bytes();
        let threads = gemm::threads_for(total * self.area * bytes / 2, bytes);
        // A whole number of equal turns for all threads, as far as there are so many windows.
        let most = (TASK_ROWS / self.area).max(1);
        let turns = total.div_ceil(threads * most);
        let share = total.div_ceil(threads * turns);
        gemm::run_chunks(threads, total.div_ceil(share), |task| {
            let windows = task * share..total.min((task + 1) * share);
            dispatch(Task { problem: self, windows, out });
        });
    }

    /// The rows of `x` and of the result that the rows of those windows of the batch are, [`NO_ROW`] where they are padding: a row of zeros after the norm.
    fn map_rows(&self, windows: Range<usize>) -> Vec<usize> {
        let mut map = Vec::with_capacity(windows.len() * self.area);
        for window in windows {
            let (image, window) = (window / self.windows(), window % self.windows());
            let row = |&token: &u32| match token {
                ZERO_ROW => NO_ROW,
                token => image * self.tokens + token as usize,
            };
            map.extend(self.index[window * self.area..(window + 1) * self.area].iter().map(row));
        }
        map
    }
}

/// Some windows of the batch.
struct Task<'a> {
    problem: &'a Problem<'a>,
    windows: Range<usize>,
    out: Out,
}

impl Kernel for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { problem, windows, out } = self;
        let WindowWeights { query, key, value, output, heads, head_dim, padded, .. } = problem.weights;
        let (area, dim) = (problem.area, problem.dim);
        let map = problem.map_rows(windows.clone());
        let rows = map.len();
        let depth = heads * padded;
        let mut memory = [
            Scratch::take(RowTiles::lines(rows, dim)),
            Scratch::take(rows.next_multiple_of(ROWS) * 3 * padded / LANES),
            Scratch::take(RowTiles::lines(area.next_multiple_of(ROWS), *padded)),
            Scratch::take(RowTiles::lines(area.next_multiple_of(ROWS), *padded)),
            Scratch::take(RowTiles::lines(rows, depth)),
        ];
        let mut head_memory = HeadMemory::new(area, *padded, *padded);
        let [tiles, projected, queries, keys, mixed] = &mut memory;
        let tiles = RowTiles::new(tiles, rows, dim);
        let projected: *mut f32 = projected.as_mut_ptr().cast();
        let queries = RowTiles::new(queries, area, *padded);
        let keys = RowTiles::new(keys, area, *padded);
        let mixed = RowTiles::new(mixed, rows, depth);
        let head_tiles = Head::new(&mut head_memory, area, *padded, *padded);
        let session = Session::new(Path::best());
        // SAFETY: all memory is this task's own and as large as the sizes above say; what is read was written before.
        unsafe {
            problem.write_rows(s, &map, tiles);
            head_tiles.clear_values(s, area.next_multiple_of(2));
            let pairs = padded / ROWS;
            for head in 0..*heads {
                let mut keep = Keep { to: projected, padded: *padded, first: head * padded };
                let weights = [query, key, value];
                for_blocks(s, &session, (tiles, rows), weights, head * pairs..(head + 1) * pairs, &mut keep);
                let cosine = problem.cosine_scale.map(|scale| scale[head]);
                for window in 0..windows.len() {
                    let rows = projected.add(window * area * 3 * padded);
                    let part = HeadRows { rows, area, padded: *padded, head_dim: *head_dim, cosine };
                    part.write(s, queries, keys, &head_tiles);
                    let scores =
                        WindowScores { problem, head, window: (windows.start + window) % problem.windows() };
                    let mut mix = Mix { mixed, first_row: window * area, first_column: head * padded };
                    for row in (0..area).step_by(ROWS) {
                        let block = (queries, row, (area - row).min(ROWS));
                        head_tiles.attend(s, &session, block, (&scores, row), &mut mix);
                    }
                }
            }
            let mut store = Store {
                out,
                first_row: 0,
                columns: dim,
                activation: None,
                residual: problem.post_norm.is_none().then_some(problem.x),
                map: Some(&map),
            };
            for_blocks(s, &session, (mixed, rows), [output], 0..output.pairs(), &mut store);
            if let Some(norm) = &problem.post_norm {
                for &row in map.iter().filter(|&&row| row != NO_ROW) {
                    let x = &problem.x[row * dim..(row + 1) * dim];
                    norm_in_place(s, norm, Some(x), out.part(row * dim, dim));
                }
            }
        }
    }
}

impl Problem<'_> {
    /// Writes the rows of `map` as tiles.
    ///
    /// # Safety
    /// The tiles are the caller's.
    #[inline(always)]
    unsafe fn write_rows<S: Simd>(&self, s: S, map: &[usize], tiles: RowTiles) {
        let dim = self.dim;
        for (i, &row) in map.iter().enumerate() {
            // SAFETY: a row has `dim` elements, and none is read of an empty one.
            unsafe {
                match &self.norm {
                    _ if row == NO_ROW => tiles.write(s, i, self.x.as_ptr(), 0),
                    None => tiles.write(s, i, self.x[row * dim..(row + 1) * dim].as_ptr(), dim),
                    Some(norm) => norm.write(s, self.x[row * dim..(row + 1) * dim].as_ptr(), tiles, i),
                }
            }
        }
    }
}

/// Keeps the projections of one head: rows of `[query ; key ; value]`.
struct Keep {
    to: *mut f32,
    padded: usize,
    first: usize,
}

impl Epilogue<3> for Keep {
    /// # Safety
    /// `to` has `3 · padded` elements for each row, up to whole blocks.
    #[inline(always)]
    unsafe fn block<S: Simd>(
        &mut self,
        s: S,
        row: usize,
        lines: Range<usize>,
        column: usize,
        results: &[Results; 3],
    ) {
        let column = column.wrapping_sub(self.first);
        for i in lines {
            for (part, results) in results.iter().enumerate() {
                for half in 0..2 {
                    let at = ((row + i) * 3 + part) * self.padded + column + half * LANES;
                    // SAFETY: the caller's promise.
                    unsafe { s.store(self.to.add(at), results.lanes(s, i, half), LANES) };
                }
            }
        }
    }
}

/// The projections of one head in one window.
struct HeadRows {
    rows: *const f32,
    area: usize,
    padded: usize,
    head_dim: usize,
    /// Of Swin v2.
    cosine: Option<f32>,
}

impl HeadRows {
    /// What a query (`part` 0) or key (1) row is multiplied by.
    #[inline(always)]
    unsafe fn factor<S: Simd>(&self, s: S, row: *const f32, part: usize) -> f32 {
        let Some(cosine) = self.cosine else {
            return if part == 0 { (self.head_dim as f32).sqrt().recip() } else { 1.0 };
        };
        let mut squares = s.splat(0.0);
        for at in (0..self.padded).step_by(LANES) {
            // SAFETY: the row has `padded` elements, zeros beyond the head.
            let lanes = unsafe { s.load(row.add(at), LANES) };
            squares = s.fma(lanes, lanes, squares);
        }
        let length = s.sum(squares).sqrt().max(NORMALIZE_EPS as f32);
        if part == 0 { cosine / length } else { 1.0 / length }
    }

    /// # Safety
    /// The rows are written, and the tiles are the caller's.
    #[inline(always)]
    unsafe fn write<S: Simd>(&self, s: S, queries: RowTiles, keys: RowTiles, head: &Head) {
        let Self { area, padded, .. } = *self;
        // SAFETY: a row has `3 · padded` elements.
        unsafe {
            for i in 0..area {
                let row = self.rows.add(i * 3 * padded);
                for (part, tiles) in [queries, keys].into_iter().enumerate() {
                    let row = row.add(part * padded);
                    let factor = s.splat(self.factor(s, row, part));
                    for step in 0..padded / ROWS {
                        let (from, to) = (row.add(step * ROWS), tiles.part(i, step));
                        s.store_bf16(to, s.mul(s.load(from, LANES), factor), LANES);
                        s.store_bf16(to.add(LANES), s.mul(s.load(from.add(LANES), LANES), factor), LANES);
                    }
                }
            }
            // Keys beyond the window get no weight, but must be numbers.
            for i in area..area.next_multiple_of(ROWS) {
                keys.write(s, i, self.rows, 0);
            }
            for key in (0..area.next_multiple_of(ROWS)).step_by(LANES) {
                head.set_keys(s, keys, key, key);
            }
            for key in (0..area).step_by(2) {
                let value = |key: usize| (key < area).then(|| self.rows.add((key * 3 + 2) * padded));
                head.set_values(s, key, [value(key), value(key + 1)]);
            }
        }
    }
}

/// Bias and mask of one head in one window.
struct WindowScores<'a> {
    problem: &'a Problem<'a>,
    head: usize,
    window: usize,
}

impl Scores for WindowScores<'_> {
    #[inline(always)]
    fn visible(&self, _: usize) -> usize {
        self.problem.area
    }

    #[inline(always)]
    fn bias(&self, row: usize, key: usize) -> Option<(*const f32, usize)> {
        let pad = self.problem.area.next_multiple_of(ROWS);
        let rows = &self.problem.weights.bias[(self.head * pad + row) * pad + key..];
        debug_assert!(rows.len() >= (ROWS - 1) * pad + ROWS);
        Some((rows.as_ptr(), pad))
    }

    #[inline(always)]
    fn mask(&self, row: usize) -> Option<*const f32> {
        let area = self.problem.area;
        let rows = self.problem.mask.map(|mask| &mask[(self.window * area + row) * area..][..area]);
        rows.map(<[f32]>::as_ptr)
    }
}

/// Writes mixed values as the tiles of the output projection.
struct Mix {
    mixed: RowTiles,
    first_row: usize,
    first_column: usize,
}

impl Mixed for Mix {
    /// # Safety
    /// The rows of the tiles are the caller's.
    #[inline(always)]
    unsafe fn block<S: Simd>(
        &mut self,
        s: S,
        (first, rows): (usize, usize),
        column: usize,
        results: &Results,
        scales: &[f32; ROWS],
    ) {
        for i in 0..rows {
            for half in 0..2 {
                let lanes = s.mul(results.lanes(s, i, half), s.splat(scales[i]));
                let at = self.first_column + column + half * LANES;
                // SAFETY: the caller's promise.
                unsafe { s.store_bf16(self.mixed.element(self.first_row + first + i, at), lanes, LANES) };
            }
        }
    }
}
