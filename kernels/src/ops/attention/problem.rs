//! Sizes and strided arguments of an attention, and the probabilities of a panel of query rows.
#![allow(clippy::inline_always)]

use std::ops::Range;

use candle_core::{Layout, Result, Tensor, bail};

use super::element::Element;
use super::rows::{Pack, SoftmaxRows};
use super::scratch::{Block, Scratch};
use super::{Mask, OwnedMask, backward};
use crate::ops::support::{Elements, cpu_elements, tensor};
use crate::simd::product::{Product, TileMut, Transpose};
use crate::simd::{LANES, Tile, dispatch};

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
    pub(super) fn new(
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        bias: Option<&Tensor>,
        mask: &Mask,
    ) -> Result<Self> {
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
                bail!(
                    "attention: mask is {:?}, expected (a divisor of {batch}, {q_len}, {kv_len})",
                    mask.shape()
                );
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
    /// Calls `body` with all arguments readable; keys and values are stored as `K`.
    pub(super) fn with<Q, K: Element, T>(
        &self,
        q: &[Q],
        layout: &Layout,
        body: impl FnOnce(&Problem<Q, K>) -> T,
    ) -> Result<T> {
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
            k: Heads::new(super::element::elements(&k)?, k_layout)?,
            v: Heads::new(super::element::elements(&v)?, v_layout)?,
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
        let results =
            self.with(cpu_elements(&storage)?, layout, |problem| backward::backward(problem, &grad))?;
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
pub(super) struct Heads<'a, T = f32> {
    elements: &'a [T],
    start: usize,
    strides: [usize; 3],
}

impl<'a, T> Heads<'a, T> {
    /// Checks that all of it is inside `elements`.
    pub(super) fn new(elements: &'a [T], layout: &Layout) -> Result<Self> {
        let (dims, strides) = (layout.dims(), layout.stride());
        let &[b, t, h, d] = strides else { bail!("attention: {dims:?} has not four dimensions") };
        let reach: usize =
            dims.iter().zip(strides).map(|(&dim, &stride)| dim.saturating_sub(1) * stride).sum();
        if (dims[3] > 1 && d != 1)
            || (layout.shape().elem_count() > 0 && layout.start_offset() + reach >= elements.len())
        {
            bail!("attention: rows of {dims:?} with strides {strides:?} cannot be read");
        }
        Ok(Self { elements, start: layout.start_offset(), strides: [b, t, h] })
    }

    /// The first batch row for every batch index.
    pub(super) fn repeated(self) -> Self {
        let [_, t, h] = self.strides;
        Self { strides: [0, t, h], ..self }
    }

    /// The `dim` elements of one row.
    #[inline(always)]
    pub(super) fn row(&self, batch: usize, token: usize, head: usize, dim: usize) -> &'a [T] {
        let [b, t, h] = self.strides;
        &self.elements[self.start + batch * b + token * t + head * h..][..dim]
    }
}

impl Heads<'_> {
    /// The rows of a head over tokens.
    pub(super) fn head(&self, batch: usize, head: usize) -> Tile {
        let first = self.start + batch * self.strides[0] + head * self.strides[2];
        // Not `add`: an argument without elements has no allocation to stay in.
        Tile { at: self.elements.as_ptr().wrapping_add(first), stride: self.strides[1] }
    }
}

/// Everything that the kernels read: queries of `Q`, keys and values of `K`.
pub(super) struct Problem<'a, Q = f32, K = f32> {
    pub(super) sizes: Sizes,
    pub(super) q: Heads<'a, Q>,
    pub(super) k: Heads<'a, K>,
    pub(super) v: Heads<'a, K>,
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

impl<Q, K> Problem<'_, Q, K> {
    /// Token and query head of a row of a panel.
    #[inline(always)]
    pub(super) fn place(&self, panel: &Panel, row: usize) -> (usize, usize) {
        let (row, group) = (panel.rows.start + row, self.sizes.group());
        // The usual case is spared its division.
        if group == 1 { (row, panel.kv_head) } else { (row / group, panel.kv_head * group + row % group) }
    }

    /// Keys that are visible to row `row` of a panel.
    #[inline(always)]
    pub(super) fn visible(&self, panel: &Panel, row: usize) -> usize {
        let Some(offset) = self.offset else {
            return self.sizes.kv_len;
        };
        self.sizes.kv_len.min(self.place(panel, row).0.saturating_add(offset).saturating_add(1))
    }

    #[inline(always)]
    pub(super) fn additive_row(&self, batch: usize, token: usize) -> Option<*const f32> {
        let Sizes { q_len, kv_len, .. } = self.sizes;
        self.additive.map(|mask| {
            let item = batch % (mask.len() / (q_len * kv_len));
            mask[(item * q_len + token) * kv_len..][..kv_len].as_ptr()
        })
    }
}

impl<'a> Problem<'a> {
    /// Every query sees every key.
    pub(super) fn unmasked(sizes: Sizes, [q, k, v]: [Heads<'a>; 3], scale: f32) -> Self {
        Self { sizes, q, k, v, bias: None, additive: None, offset: None, scale }
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

    /// `to (rows, keys) = a (rows, depth) · keysᵀ`, `keys` being rows over tokens, for all visible keys.
    pub(super) unsafe fn score(
        &self,
        panel: &Panel,
        a: Block,
        keys: Tile,
        depth: usize,
        tile: Block,
        to: Block,
    ) {
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
                    a: a.starting_at(first).matrix(),
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
            dispatch(Pack { problem: self, panel, factor: self.scale, to: scratch.q });
            self.score(panel, scratch.q, keys, self.sizes.dim, scratch.tile, scratch.scores);
        }
        dispatch(SoftmaxRows {
            problem: self,
            panel,
            scores: scratch.scores,
            end,
            normalize,
            inverse: &mut scratch.inverse,
        });
    }

    #[inline(always)]
    pub(super) fn bias_row(&self, head: usize, token: usize) -> Option<*const f32> {
        let Sizes { q_len, kv_len, .. } = self.sizes;
        self.bias.map(|bias| bias[(head * q_len + token) * kv_len..][..kv_len].as_ptr())
    }
}
