//! Memory that one thread works in.

use std::cell::RefCell;

use super::problem::{KEYS, PANEL, Problem, Sizes};
use crate::simd::product::{Matrix, TileMut};
use crate::simd::{LANES, Tile};

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

    pub(super) fn starting_at(self, row: usize) -> Self {
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
