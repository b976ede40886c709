//! The pass: which windows are worked on together, by whom, and its steps.
#![allow(clippy::inline_always)]

use std::ops::Range;

use super::{NORMALIZE_EPS, Packed, WindowWeights};
use crate::gemm::quantized::{self, Finish, Place, QuantizedRows, Row, RowSource, Weight};
use crate::gemm::{
    self, Depth, Epilogue, PackedWeight, Path, Results, Right, RowTiles, Scratch, Session, for_blocks,
};
use crate::ops::attention::blocks::{BLOCK, Head, HeadMemory, Mixed, ROWS, Room, RoomMemory, Scores};
use crate::ops::feed_forward::norm_in_place;
use crate::ops::gather::ZERO_ROW;
use crate::ops::norm::RowNorm;
use crate::ops::projection::{NO_ROW, ROWS_PER_THREAD, Store};
use crate::ops::support::Out;
use crate::quant::Int8Weight;
use crate::simd::{Kernel, LANES, Simd, dispatch};

/// Rows of a group of windows at most, unless one window has more: enough for the projections to pay for reading their weights.
const GROUP_ROWS: usize = 294;

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
    let pad = area.next_multiple_of(BLOCK);
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
        let WindowWeights { projections, output, .. } = self.weights;
        let total = self.batch * self.windows();
        if total == 0 {
            return;
        }
        let elements = |weight: &Packed| weight.shape().0 * weight.shape().1;
        let multiplications = total * self.area * (elements(projections) + elements(output));
        let threads = gemm::threads_for(multiplications, projections.bytes() + output.bytes());
        // Threads take groups of windows, each reading all weights; of few windows, each thread takes some heads.
        let by_windows = threads == 1 || total * self.area >= ROWS_PER_THREAD * threads;
        // All threads take as many groups, as far as there are so many windows.
        let at_once = if by_windows { threads } else { 1 };
        let groups = total.div_ceil(at_once * (GROUP_ROWS / self.area).max(1)) * at_once;
        let groups = groups.clamp(1, total);
        if by_windows {
            gemm::run_chunks(threads, groups, |index| self.group(gemm::part(total, groups, index), 1, out));
        } else {
            (0..groups).for_each(|index| self.group(gemm::part(total, groups, index), threads, out));
        }
    }

    /// Those windows of the batch, on so many threads.
    fn group(&self, windows: Range<usize>, threads: usize, out: Out) {
        let WindowWeights { projections, output, heads, padded, .. } = self.weights;
        let (map, width) = (self.map_rows(windows.clone()), heads * padded);
        let rows = map.len();
        // Bytes need no tiles of rows.
        let tile_rows = if matches!(projections, Packed::Bf16(_)) { rows } else { 0 };
        let mut memory = [
            Scratch::take(RowTiles::lines(tile_rows, self.dim)),
            Scratch::take(RowTiles::lines(rows, width)),
        ];
        let [tiles, mixed] = &mut memory;
        let tiles = RowTiles::new(tiles, tile_rows, self.dim);
        let group = Group {
            problem: self,
            windows: (windows.start, windows.len()),
            map: &map,
            mixed: RowTiles::new(mixed, rows, width),
            out,
        };
        let split = (threads > 1, false);
        let mut bytes = None;
        let left = match projections {
            Packed::Bf16(weight) => {
                group.share(threads, rows.div_ceil(LANES), |part| {
                    Stage::Rows(tiles, part.start * LANES..rows.min(part.end * LANES))
                });
                Product::Bf16(tiles, weight)
            }
            Packed::Int8(weight, bias) => {
                let x = bytes.insert(QuantizedRows::build(rows, self.dim, split, &Normed(self, &map)));
                Product::Int8(x, weight, bias)
            }
        };
        group.share(threads, *heads, |heads| Stage::Heads(left, heads));
        let left = match output {
            Packed::Bf16(weight) => Product::Bf16(group.mixed, weight),
            Packed::Int8(weight, bias) => {
                let x = QuantizedRows::build(rows, width, split, &Rounded(group.mixed, width));
                Product::Int8(bytes.insert(x), weight, bias)
            }
        };
        group.share(threads, output.shape().0.div_ceil(BLOCK), |pairs| Stage::Output(left, pairs));
        dispatch(Part(group, Stage::Finish));
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

/// Rows and the weight that they meet.
#[derive(Clone, Copy)]
enum Product<'a> {
    Bf16(RowTiles, &'a PackedWeight),
    /// With the bias.
    Int8(&'a QuantizedRows, &'a Int8Weight, &'a [f32]),
}

impl Product<'_> {
    /// The columns of `pairs` of all `rows`, for `then`.
    ///
    /// # Safety
    /// The rows are written; see what comes then.
    #[inline(always)]
    unsafe fn columns<S: Simd>(
        self,
        s: S,
        rows: usize,
        pairs: Range<usize>,
        mut then: impl Epilogue + Finish,
    ) {
        match self {
            Self::Bf16(tiles, weight) => {
                let (left, session) = ((tiles, rows), Session::new(Path::best()));
                // SAFETY: the caller's promise.
                unsafe { for_blocks(s, &session, left, Right::One(weight), pairs, Depth::WHOLE, &mut then) };
            }
            Self::Int8(x, weight, bias) => {
                weight.columns(quantized::Path::best(), x, pairs, Some(bias), then);
            }
        }
    }
}

/// The rows of a map, see [`Problem::map_rows`].
struct Normed<'a>(&'a Problem<'a>, &'a [usize]);

impl RowSource for Normed<'_> {
    #[inline(always)]
    fn row<'a, S: Simd>(&'a self, s: S, row: usize, to: &'a mut [f32]) -> &'a [f32] {
        let Self(Problem { x, dim, norm, .. }, map) = *self;
        if map[row] == NO_ROW {
            to.fill(0.0);
            return to;
        }
        let x = &x[map[row] * dim..(map[row] + 1) * dim];
        match norm {
            Some(norm) => norm.write_row(s, x, to),
            None => return x,
        }
        to
    }
}

/// Rows of so many elements that were rounded to tiles.
struct Rounded(RowTiles, usize);

impl RowSource for Rounded {
    #[inline(always)]
    fn row<'a, S: Simd>(&'a self, s: S, row: usize, to: &'a mut [f32]) -> &'a [f32] {
        let Self(tiles, width) = *self;
        assert_eq!(to.len(), width);
        for at in (0..width).step_by(LANES) {
            let n = width - at;
            // SAFETY: all elements are written, and nobody writes them now.
            unsafe { s.store(to.as_mut_ptr().add(at), s.load_bf16(tiles.element(row, at), n), n) };
        }
        to
    }
}

/// Some windows of the batch.
#[derive(Clone, Copy)]
struct Group<'a> {
    problem: &'a Problem<'a>,
    /// The first, and how many.
    windows: (usize, usize),
    /// See [`Problem::map_rows`].
    map: &'a [usize],
    mixed: RowTiles,
    out: Out,
}

/// What a part computes of a group.
enum Stage<'a> {
    /// Normalised rows, as tiles: these, from a multiple of 16 on.
    Rows(RowTiles, Range<usize>),
    /// The mixed values of these heads.
    Heads(Product<'a>, Range<usize>),
    /// These pairs of columns of the output projection.
    Output(Product<'a>, Range<usize>),
    /// The norm after it.
    Finish,
}

struct Part<'a>(Group<'a>, Stage<'a>);

impl Kernel for Part<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self(group, stage) = self;
        let Group { problem, map, out, .. } = group;
        let dim = problem.dim;
        // SAFETY: the stages come in order, and each row, head or column is one part's own.
        unsafe {
            match stage {
                Stage::Rows(tiles, rows) => {
                    problem.write_rows(s, &map[rows.clone()], tiles.below(rows.start));
                }
                Stage::Heads(product, heads) => group.heads(s, product, heads),
                Stage::Output(product, pairs) => {
                    let whole = Store::new(out, dim);
                    let store = Store {
                        residual: problem.post_norm.is_none().then_some(problem.x),
                        map: Some(map),
                        streamed: whole.streamed && problem.post_norm.is_none(),
                        ..whole
                    };
                    product.columns(s, map.len(), pairs, store);
                }
                Stage::Finish => {
                    let Some(norm) = &problem.post_norm else { return };
                    for &row in map.iter().filter(|&&row| row != NO_ROW) {
                        let x = &problem.x[row * dim..(row + 1) * dim];
                        norm_in_place(s, norm, Some(x), out.part(row * dim, dim));
                    }
                }
            }
        }
    }
}

impl Group<'_> {
    /// Gives each of so many threads its part of `len` things.
    fn share<'b>(&self, threads: usize, len: usize, stage: impl Fn(Range<usize>) -> Stage<'b> + Sync) {
        gemm::run(threads, |thread| {
            dispatch(Part(*self, stage(gemm::part(len, threads, thread))));
        });
    }

    /// # Safety
    /// The rows are written, and the columns of these heads are the caller's.
    #[inline(always)]
    unsafe fn heads<S: Simd>(&self, s: S, product: Product<'_>, range: Range<usize>) {
        let Self { problem, windows: (first, count), map, mixed, .. } = *self;
        let WindowWeights { head_dim, padded, .. } = problem.weights;
        let (area, rows) = (problem.area, map.len());
        let row_lines = RowTiles::lines(area.next_multiple_of(BLOCK), *padded);
        let mut memory = Scratch::take(rows.next_multiple_of(BLOCK) * 3 * padded / LANES);
        let projected: *mut f32 = memory.as_mut_ptr().cast();
        // Of the window that is attended to, and of the next one.
        let mut query_memory = [Scratch::take(row_lines), Scratch::take(row_lines)];
        let queries = query_memory.each_mut().map(|memory| RowTiles::new(memory, area, *padded));
        let mut head_memory = [(); 2].map(|()| HeadMemory::new(area, *padded, *padded));
        let head_tiles = head_memory.each_mut().map(|memory| Head::new(memory, area, *padded, *padded));
        let mut key_memory = Scratch::take(row_lines);
        let keys = RowTiles::new(&mut key_memory, area, *padded);
        let mut room_memory = RoomMemory::new(area);
        let room = Room::new(&mut room_memory, area);
        // SAFETY: all memory is this task's own and as large as the sizes above say; what is read was written before.
        unsafe {
            for head in &head_tiles {
                head.clear_values(s, area.next_multiple_of(2));
            }
            let pairs = 3 * padded / BLOCK;
            for head in range {
                let keep = Keep { to: projected, padded: *padded, first: head * 3 * padded };
                product.columns(s, rows, head * pairs..(head + 1) * pairs, keep);
                let session = Session::new(Path::best());
                let cosine = problem.cosine_scale.map(|scale| scale[head]);
                for window in 0..=count {
                    if window < count {
                        let rows = projected.add(window * area * 3 * padded);
                        let part = HeadRows { rows, area, padded: *padded, head_dim: *head_dim, cosine };
                        part.write(s, queries[window % 2], keys, &head_tiles[window % 2]);
                    }
                    let Some(window) = window.checked_sub(1) else { continue };
                    let scores = WindowScores { problem, head, window: (first + window) % problem.windows() };
                    let mut mix = Mix { mixed, first_row: window * area, first_column: head * padded };
                    for row in (0..area).step_by(ROWS) {
                        let block = (queries[window % 2], row, (area - row).min(ROWS));
                        head_tiles[window % 2].attend(s, (&session, &room), block, (&scores, row), &mut mix);
                    }
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

/// Keeps the projections of one head: rows of `[query ; key ; value]`. `to` has `3 · padded` elements for each row, up to whole
/// blocks.
struct Keep {
    to: *mut f32,
    padded: usize,
    first: usize,
}

impl Keep {
    /// Where 32 columns of a row go.
    #[inline(always)]
    fn at(&self, row: usize, column: usize) -> *mut f32 {
        self.to.wrapping_add(row * 3 * self.padded + column.wrapping_sub(self.first))
    }
}

impl Finish for Keep {
    #[inline(always)]
    fn finish<S: Simd>(&mut self, s: S, place: Place, rows: &mut [Row]) {
        for (i, values) in rows.iter().enumerate() {
            let to = self.at(place.row + i, place.column);
            for half in (0..BLOCK).step_by(LANES) {
                // SAFETY: a row of a block has 32 elements, and so many go to this place.
                unsafe { s.store(to.add(half), s.load(values.as_ptr().add(half), LANES), LANES) };
            }
        }
    }
}

impl Epilogue for Keep {
    const ROWS_TOGETHER: usize = 2;

    /// # Safety
    /// The rows and columns are the caller's.
    #[inline(always)]
    unsafe fn block<S: Simd>(
        &mut self,
        s: S,
        row: usize,
        lines: Range<usize>,
        column: usize,
        results: &Results,
    ) {
        for i in lines {
            for half in 0..2 {
                // SAFETY: the caller's promise.
                unsafe {
                    let to = self.at(row + i, column).add(half * LANES);
                    s.store(to, results.lanes(s, i, half), LANES);
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
                    for step in 0..padded / BLOCK {
                        let (from, to) = (row.add(step * BLOCK), tiles.part(i, step));
                        s.store_bf16(to, s.mul(s.load(from, LANES), factor), LANES);
                        s.store_bf16(to.add(LANES), s.mul(s.load(from.add(LANES), LANES), factor), LANES);
                    }
                }
            }
            // Keys beyond the window get no weight, but must be numbers.
            for i in area..area.next_multiple_of(BLOCK) {
                keys.write(s, i, self.rows, 0);
            }
            for key in (0..area.next_multiple_of(BLOCK)).step_by(LANES) {
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
        let pad = self.problem.area.next_multiple_of(BLOCK);
        let rows = &self.problem.weights.bias[(self.head * pad + row) * pad + key..];
        debug_assert!(rows.len() >= (BLOCK - 1) * pad + BLOCK);
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
        scales: &[f32; BLOCK],
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
