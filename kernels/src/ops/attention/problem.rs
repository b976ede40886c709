//! Sizes, strided arguments and scratch memory of an attention, and the probabilities of a panel of query rows.
#![allow(clippy::inline_always)]

use std::cell::RefCell;
use std::ops::Range;

use candle_core::{Layout, Result, Tensor, bail};

use super::{Mask, OwnedMask, backward};
use crate::ops::activation::{exp_row, scale_row};
use crate::ops::support::{Elements, cpu_elements, tensor};
use crate::simd::product::{Matrix, Product, TileMut, Transpose};
use crate::simd::{Kernel, LANES, Simd, Tile, dispatch};

/// Query rows (tokens × the heads that share keys) whose scores are held at once.
pub(super) const PANEL: usize = 96;

/// Keys that are transposed at once.
pub(super) const KEYS: usize = 64;

/// Rows of a panel that share one range of visible keys under a causal mask.
const STEP: usize = 16;

/// The sizes in the contract of [`super::attention`].
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    pub(super) batch: usize,
    pub(super) q_len: usize,
    pub(super) kv_len: usize,
    pub(super) heads: usize,
    pub(super) kv_heads: usize,
    pub(super) dim: usize,
    pub(super) v_dim: usize,
}

impl Sizes {
    /// Of arguments that agree with one another.
    pub(super) fn new(q: &Tensor, k: &Tensor, v: &Tensor, bias: Option<&Tensor>, mask: &Mask) -> Result<Self> {
        let (batch, q_len, heads, dim) = q.dims4()?;
        let (_, kv_len, kv_heads, v_dim) = v.dims4()?;
        if k.dims() != [batch, kv_len, kv_heads, dim] || v.dim(0)? != batch {
            bail!("attention: q {:?}, k {:?}, v {:?} do not fit together", q.shape(), k.shape(), v.shape());
        }
        if kv_heads == 0 || heads % kv_heads != 0 || kv_len == 0 {
            bail!("attention: {heads} query heads on {kv_heads} key heads, {kv_len} keys");
        }
        if let Some(bias) = bias
            && bias.dims() != [heads, q_len, kv_len]
        {
            bail!("attention: bias is {:?}, expected {:?}", bias.shape(), [heads, q_len, kv_len]);
        }
        if let Mask::Additive(mask) = mask {
            let (rows, mask_q, mask_kv) = mask.dims3()?;
            if (mask_q, mask_kv) != (q_len, kv_len) || rows == 0 || batch % rows != 0 {
                bail!("attention: mask is {:?}, expected (a divisor of {batch}, {q_len}, {kv_len})", mask.shape());
            }
        }
        Ok(Self { batch, q_len, kv_len, heads, kv_heads, dim, v_dim })
    }

    /// Query heads that share keys and values.
    pub(super) fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// Query rows of a unit (a batch row and a key head).
    pub(super) fn rows(&self) -> usize {
        self.q_len * self.group()
    }

    /// Multiply-adds, for deciding on threads.
    pub(super) fn work(&self) -> usize {
        self.batch * self.heads * self.q_len * self.kv_len * (self.dim + self.v_dim)
    }
}

/// All arguments but the queries, which candle hands over itself.
pub(super) struct Arguments {
    pub(super) sizes: Sizes,
    pub(super) k: Tensor,
    pub(super) v: Tensor,
    pub(super) bias: Option<Tensor>,
    pub(super) mask: OwnedMask,
    pub(super) scale: f32,
}

impl Arguments {
    /// Calls `body` with all arguments readable.
    pub(super) fn with<T>(&self, q: &[f32], layout: &Layout, body: impl FnOnce(&Problem) -> T) -> Result<T> {
        let (k, k_layout) = self.k.storage_and_layout();
        let (v, v_layout) = self.v.storage_and_layout();
        let bias = self.bias.as_ref().map(Elements::of).transpose()?;
        let additive = match &self.mask {
            OwnedMask::Additive(mask) => Some(Elements::of(mask)?),
            _ => None,
        };
        let offset = match self.mask {
            OwnedMask::Causal { offset } => Some(offset),
            _ => None,
        };
        Ok(body(&Problem {
            sizes: self.sizes,
            q: Heads::new(q, layout)?,
            k: Heads::new(cpu_elements(&k)?, k_layout)?,
            v: Heads::new(cpu_elements(&v)?, v_layout)?,
            bias: bias.as_deref(),
            additive: additive.as_deref(),
            offset,
            scale: self.scale,
        }))
    }

    /// Gradients of `q`, `k`, `v` and the bias (empty when there is none).
    pub(super) fn gradients(&self, q: &Tensor, grad: &Tensor) -> Result<[Tensor; 4]> {
        let grad = grad.contiguous()?;
        let grad = Elements::of(&grad)?;
        let (storage, layout) = q.storage_and_layout();
        let results = self.with(cpu_elements(&storage)?, layout, |problem| backward::backward(problem, &grad))?;
        let bias_shape = self.bias.as_ref().map_or(vec![0], |bias| bias.dims().to_vec());
        Ok([
            tensor(results.q, q.shape(), q)?,
            tensor(results.k, self.k.shape(), q)?,
            tensor(results.v, self.v.shape(), q)?,
            tensor(results.bias, bias_shape, q)?,
        ])
    }
}

/// A `(batch, tokens, heads, dim)` argument in memory, rows dense.
#[derive(Clone, Copy)]
pub(super) struct Heads<'a> {
    elements: &'a [f32],
    start: usize,
    strides: [usize; 3],
}

impl<'a> Heads<'a> {
    /// Checks that all of it is inside `elements`.
    fn new(elements: &'a [f32], layout: &Layout) -> Result<Self> {
        let (dims, strides) = (layout.dims(), layout.stride());
        let &[b, t, h, d] = strides else { bail!("attention: {dims:?} has not four dimensions") };
        let reach: usize = dims.iter().zip(strides).map(|(&dim, &stride)| dim.saturating_sub(1) * stride).sum();
        if (dims[3] > 1 && d != 1) || (layout.shape().elem_count() > 0 && layout.start_offset() + reach >= elements.len()) {
            bail!("attention: rows of {dims:?} with strides {strides:?} cannot be read");
        }
        Ok(Self { elements, start: layout.start_offset(), strides: [b, t, h] })
    }

    /// The rows of a head over tokens.
    pub(super) fn head(&self, batch: usize, head: usize) -> Tile {
        let first = self.start + batch * self.strides[0] + head * self.strides[2];
        // Not `add`: an argument without elements has no allocation to stay in.
        Tile { at: self.elements.as_ptr().wrapping_add(first), stride: self.strides[1] }
    }

    /// The `dim` elements of one row.
    fn row(&self, batch: usize, token: usize, head: usize, dim: usize) -> &'a [f32] {
        let [b, t, h] = self.strides;
        &self.elements[self.start + batch * b + token * t + head * h..][..dim]
    }
}

/// Everything that the kernels read.
pub(super) struct Problem<'a> {
    pub(super) sizes: Sizes,
    pub(super) q: Heads<'a>,
    pub(super) k: Heads<'a>,
    pub(super) v: Heads<'a>,
    pub(super) bias: Option<&'a [f32]>,
    additive: Option<&'a [f32]>,
    offset: Option<usize>,
    pub(super) scale: f32,
}

/// Consecutive query rows of a unit. Row `r` is token `r / group` and head `r % group` of those that share keys.
#[derive(Clone)]
pub(super) struct Panel {
    pub(super) batch: usize,
    pub(super) kv_head: usize,
    pub(super) rows: Range<usize>,
}

/// A matrix in scratch memory: rows of `stride` elements, each on cache line bounds.
#[derive(Clone, Copy)]
pub(super) struct Block {
    pub(super) at: *mut f32,
    pub(super) stride: usize,
}

impl Block {
    pub(super) fn row(self, row: usize) -> *mut f32 {
        self.at.wrapping_add(row * self.stride)
    }

    pub(super) fn tile(self) -> Tile {
        Tile { at: self.at, stride: self.stride }
    }

    pub(super) fn from_row(self, row: usize) -> Self {
        Self { at: self.row(row), ..self }
    }

    pub(super) fn matrix(self) -> Matrix {
        Matrix { at: self.at, row_stride: self.stride, column_stride: 1 }
    }

    pub(super) fn transposed(self) -> Matrix {
        Matrix { at: self.at, row_stride: 1, column_stride: self.stride }
    }

    pub(super) fn out(self) -> TileMut {
        TileMut { at: self.at, stride: self.stride }
    }
}

/// Scratch memory of one panel.
pub(super) struct Scratch {
    /// `scale · q`, `(PANEL, dim)`.
    pub(super) q: Block,
    /// Gradient of the output, `(PANEL, v_dim)`.
    pub(super) grad: Block,
    /// Scores, then their exponentials, `(PANEL, kv_len)`.
    pub(super) scores: Block,
    /// Gradient of the probabilities, then of the scores, `(PANEL, kv_len)`.
    pub(super) slopes: Block,
    /// Transposed keys or values, `(dim or v_dim, KEYS)`.
    pub(super) tile: Block,
    /// Rows to be written out, `(PANEL, dim or v_dim)`.
    pub(super) rows: Block,
    /// One over the sum of each row's exponentials.
    pub(super) inverse: [f32; PANEL],
}

#[repr(align(64))]
#[derive(Clone, Copy)]
struct Line(#[allow(dead_code)] [f32; LANES]);

thread_local! { static SCRATCH: RefCell<Vec<Line>> = const { RefCell::new(Vec::new()) }; }

impl Scratch {
    /// Calls `body` with this thread's scratch memory, enough for panels of `problem`.
    pub(super) fn with<T>(problem: &Problem, backward: bool, body: impl FnOnce(&mut Scratch) -> T) -> T {
        let Sizes { dim, v_dim, kv_len, .. } = problem.sizes;
        let lines = |n: usize| n.div_ceil(LANES);
        // An odd number of lines to a row spreads a column of scores over all sets of the cache.
        let (q, v, keys) = (lines(dim), lines(v_dim), lines(kv_len) | 1);
        let panel = PANEL.min(problem.sizes.rows());
        let both = |lines: usize| if backward { lines } else { 0 };
        let sizes = [
            (panel, q),
            (both(panel), v),
            (panel, keys),
            (both(panel), keys),
            (dim.max(v_dim), KEYS / LANES),
            (panel, q.max(v)),
        ];
        let needed = sizes.iter().map(|(rows, width)| rows * width).sum();
        let mut memory = SCRATCH.take();
        if memory.len() < needed {
            memory.resize(needed, Line([0.0; LANES]));
        }
        let mut at: *mut f32 = memory.as_mut_ptr().cast();
        let [q, grad, scores, slopes, tile, rows] = sizes.map(|(rows, width)| {
            let block = Block { at, stride: width * LANES };
            at = at.wrapping_add(rows * width * LANES);
            block
        });
        let mut scratch = Scratch { q, grad, scores, slopes, tile, rows, inverse: [0.0; PANEL] };
        let result = body(&mut scratch);
        SCRATCH.set(memory);
        result
    }
}

impl Problem<'_> {
    /// Token and query head of a row of a panel.
    pub(super) fn place(&self, panel: &Panel, row: usize) -> (usize, usize) {
        let (row, group) = (panel.rows.start + row, self.sizes.group());
        (row / group, panel.kv_head * group + row % group)
    }

    /// Keys that are visible to row `row` of a panel.
    pub(super) fn visible(&self, panel: &Panel, row: usize) -> usize {
        let Some(offset) = self.offset else { return self.sizes.kv_len };
        self.sizes.kv_len.min(self.place(panel, row).0.saturating_add(offset).saturating_add(1))
    }

    /// Keys that some row of the panel sees.
    pub(super) fn visible_to_any(&self, panel: &Panel) -> usize {
        self.visible(panel, panel.rows.len() - 1)
    }

    /// The first row of a panel that sees key `key`.
    pub(super) fn first_to_see(&self, panel: &Panel, key: usize) -> usize {
        let Some(offset) = self.offset else { return 0 };
        (key.saturating_sub(offset) * self.sizes.group()).saturating_sub(panel.rows.start)
    }

    /// Ranges of a panel's rows that are worth one product each, with the keys visible to them.
    pub(super) fn steps(&self, panel: &Panel) -> impl Iterator<Item = (Range<usize>, usize)> {
        let rows = panel.rows.len();
        let step = if self.offset.is_some() { STEP } else { rows };
        (0..rows).step_by(step).map(move |start| {
            let end = rows.min(start + step);
            (start..end, self.visible(panel, end - 1))
        })
    }

    /// Copies the panel's rows of `from` to `to`, times `factor`.
    pub(super) unsafe fn pack(&self, panel: &Panel, from: &Heads, dim: usize, factor: f32, to: Block) {
        for row in 0..panel.rows.len() {
            let (token, head) = self.place(panel, row);
            let from = from.row(panel.batch, token, head, dim);
            // SAFETY: the block has a row of `dim` elements for each row of a panel.
            let to = unsafe { std::slice::from_raw_parts_mut(to.row(row), dim) };
            to.iter_mut().zip(from).for_each(|(to, x)| *to = x * factor);
        }
    }

    /// `to (rows, keys) = a (rows, depth) · keysᵀ`, `keys` being rows over tokens, for all visible keys.
    pub(super) unsafe fn score(&self, panel: &Panel, a: Block, keys: Tile, depth: usize, tile: Block, to: Block) {
        let end = self.visible_to_any(panel);
        for key in (0..end).step_by(KEYS) {
            let columns = KEYS.min(end - key);
            let first = self.first_to_see(panel, key);
            // SAFETY: keys `key..key + columns` and rows `first..` exist; scratch rows are padded to whole vectors.
            unsafe {
                let from = Tile { at: keys.at.add(key * keys.stride), ..keys };
                Transpose { from, rows: columns, columns: depth, to: tile.out() }.compute();
                Product {
                    rows: panel.rows.len() - first,
                    depth,
                    columns: columns.next_multiple_of(LANES),
                    a: a.from_row(first).matrix(),
                    b: tile.tile(),
                    c: TileMut { at: to.row(first).add(key), stride: to.stride },
                    accumulate: false,
                }
                .compute();
            }
        }
    }

    /// Leaves `exp(score − greatest)` of a panel in `scratch.scores`, zeros where a key is hidden, and one over the sums in
    /// `scratch.inverse`. With `normalize`, the probabilities themselves. `scratch.q` is packed on the way.
    pub(super) unsafe fn probabilities(&self, panel: &Panel, scratch: &mut Scratch, normalize: bool) {
        let keys = self.k.head(panel.batch, panel.kv_head);
        let end = self.visible_to_any(panel);
        // SAFETY: the scratch memory fits the problem, of which the panel is a part.
        unsafe {
            self.pack(panel, &self.q, self.sizes.dim, self.scale, scratch.q);
            self.score(panel, scratch.q, keys, self.sizes.dim, scratch.tile, scratch.scores);
        }
        for row in 0..panel.rows.len() {
            let (token, head) = self.place(panel, row);
            let added = [self.bias_row(head, token), self.additive_row(panel.batch, token)];
            let (scores, len) = (scratch.scores.row(row), self.visible(panel, row));
            scratch.inverse[row] = dispatch(SoftmaxRow { scores, len, end, added, normalize });
        }
    }

    fn bias_row(&self, head: usize, token: usize) -> Option<*const f32> {
        let Sizes { q_len, kv_len, .. } = self.sizes;
        self.bias.map(|bias| bias[(head * q_len + token) * kv_len..][..kv_len].as_ptr())
    }

    fn additive_row(&self, batch: usize, token: usize) -> Option<*const f32> {
        let Sizes { q_len, kv_len, .. } = self.sizes;
        self.additive.map(|mask| {
            let item = batch % (mask.len() / (q_len * kv_len));
            mask[(item * q_len + token) * kv_len..][..kv_len].as_ptr()
        })
    }
}

/// Adds to `len` scores, replaces them by their exponentials, and clears those up to `end`.
struct SoftmaxRow {
    scores: *mut f32,
    len: usize,
    end: usize,
    added: [Option<*const f32>; 2],
    normalize: bool,
}

impl Kernel for SoftmaxRow {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let Self { scores, len, .. } = self;
        // SAFETY: the row has `end >= len` elements, and what is added to it at least `len`.
        unsafe {
            for added in self.added.into_iter().flatten() {
                for at in (0..len).step_by(LANES) {
                    let n = len - at;
                    s.store(scores.add(at), s.add(s.load(scores.add(at), n), s.load(added.add(at), n)), n);
                }
            }
            let inverse = 1.0 / exp_row(s, scores, scores, len);
            if self.normalize {
                scale_row(s, scores, len, inverse);
            }
            std::ptr::write_bytes(scores.add(len), 0, self.end - len);
            inverse
        }
    }
}

/// `to = factor · from`.
pub(super) struct ScaledRow {
    pub(super) from: *const f32,
    pub(super) to: *mut f32,
    pub(super) len: usize,
    pub(super) factor: f32,
}

impl Kernel for ScaledRow {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for at in (0..self.len).step_by(LANES) {
            let n = self.len - at;
            // SAFETY: both rows have `len` elements.
            unsafe { s.store(self.to.add(at), s.mul(s.load(self.from.add(at), n), s.splat(self.factor)), n) };
        }
    }
}
