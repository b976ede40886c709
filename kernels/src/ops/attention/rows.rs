//! What is done to the rows of a panel, one after the other.
#![allow(clippy::inline_always)]

use super::problem::{PANEL, Panel, Problem, Sizes};
use super::scratch::Block;
use crate::ops::activation::exp_row;
use crate::ops::support::Out;
use crate::simd::{Kernel, LANES, Simd};

/// Copies the panel's queries to rows of `to`, times `factor`.
pub(super) struct Pack<'a> {
    pub(super) problem: &'a Problem<'a>,
    pub(super) panel: &'a Panel,
    pub(super) factor: f32,
    pub(super) to: Block,
}

impl Kernel for Pack<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for row in 0..self.panel.rows.len() {
            let (token, head) = self.problem.place(self.panel, row);
            let from = self.problem.q.row(self.panel.batch, token, head, self.problem.sizes.dim);
            // SAFETY: the block has a row of `dim` elements for each row of a panel.
            unsafe { scale_into(s, from.as_ptr(), self.to.row(row), from.len(), self.factor) };
        }
    }
}

/// Turns the scores of a panel into what [`Problem::probabilities`] says.
pub(super) struct SoftmaxRows<'a> {
    pub(super) problem: &'a Problem<'a>,
    pub(super) panel: &'a Panel,
    pub(super) scores: Block,
    /// Keys that some row sees.
    pub(super) end: usize,
    pub(super) normalize: bool,
    pub(super) inverse: &'a mut [f32; PANEL],
}

impl Kernel for SoftmaxRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { problem, panel, .. } = self;
        for row in 0..panel.rows.len() {
            let (token, head) = problem.place(panel, row);
            let (scores, len) = (self.scores.row(row), problem.visible(panel, row));
            let added = [problem.bias_row(head, token), problem.additive_row(panel.batch, token)];
            // SAFETY: the row has `end >= len` elements, and what is added to it at least `len`.
            unsafe {
                for added in added.into_iter().flatten() {
                    for at in (0..len).step_by(LANES) {
                        let n = len - at;
                        s.store(
                            scores.add(at),
                            s.add(s.load(scores.add(at), n), s.load(added.add(at), n)),
                            n,
                        );
                    }
                }
                let inverse = 1.0 / exp_row(s, scores, scores, len);
                if self.normalize {
                    scale_into(s, scores, scores, len, inverse);
                }
                clear(s, scores, len, self.end);
                self.inverse[row] = inverse;
            }
        }
    }
}

/// Zeros elements `start..end` of a row.
#[inline(always)]
unsafe fn clear<S: Simd>(s: S, row: *mut f32, start: usize, end: usize) {
    for at in (start..end).step_by(LANES) {
        // SAFETY: `at < end`.
        unsafe { s.store(row.add(at), s.splat(0.0), end - at) };
    }
}

/// `to = factor · from`, `len` elements.
#[inline(always)]
unsafe fn scale_into<S: Simd>(s: S, from: *const f32, to: *mut f32, len: usize, factor: f32) {
    for at in (0..len).step_by(LANES) {
        // SAFETY: `at < len`.
        unsafe {
            s.store(to.add(at), s.mul(s.load(from.add(at), len - at), s.splat(factor)), len - at);
        }
    }
}

/// Writes a panel's rows of `dim` elements, row by row times its factor, to `out (batch, q_len, heads, dim)`.
pub(super) struct WriteRows<'a> {
    pub(super) problem: &'a Problem<'a>,
    pub(super) panel: &'a Panel,
    pub(super) from: Block,
    pub(super) factors: &'a [f32; PANEL],
    pub(super) out: Out,
    pub(super) dim: usize,
}

impl Kernel for WriteRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (Self { problem, panel, dim, .. }, Sizes { q_len, heads, .. }) = (&self, self.problem.sizes);
        for row in 0..panel.rows.len() {
            let (token, head) = problem.place(panel, row);
            // SAFETY: the row of the output belongs to the panel, and the block has `dim` elements in each.
            unsafe {
                let to = self.out.part(((panel.batch * q_len + token) * heads + head) * dim, *dim);
                scale_into(s, self.from.row(row), to, *dim, self.factors[row]);
            }
        }
    }
}

/// Turns gradients of a panel's probabilities into those of the scores, zeros where a key is hidden.
pub(super) struct SlopeRows<'a> {
    pub(super) problem: &'a Problem<'a>,
    pub(super) panel: &'a Panel,
    pub(super) probabilities: Block,
    pub(super) slopes: Block,
    pub(super) bias_at: usize,
    pub(super) bias: Out,
}

impl Kernel for SlopeRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (Self { problem, panel, .. }, Sizes { q_len, kv_len, .. }) = (&self, self.problem.sizes);
        let end = problem.visible_to_any(panel);
        for row in 0..panel.rows.len() {
            let (token, head) = problem.place(panel, row);
            let (probabilities, slopes) = (self.probabilities.row(row), self.slopes.row(row));
            let len = problem.visible(panel, row);
            let mut dot = s.splat(0.0);
            // SAFETY: the rows have `end >= len` elements; the row of the bias is this task's own.
            unsafe {
                let bias = self.problem.bias.map(|_| (head * q_len + token) * kv_len + self.bias_at);
                let bias = bias.map(|at| self.bias.part(at, kv_len));
                for at in (0..len).step_by(LANES) {
                    let n = len - at;
                    dot = s.fma(s.load(probabilities.add(at), n), s.load(slopes.add(at), n), dot);
                }
                let dot = s.splat(s.sum(dot));
                for at in (0..len).step_by(LANES) {
                    let n = len - at;
                    let slope =
                        s.mul(s.load(probabilities.add(at), n), s.sub(s.load(slopes.add(at), n), dot));
                    s.store(slopes.add(at), slope, n);
                    if let Some(bias) = bias {
                        s.store(bias.add(at), s.add(s.load(bias.add(at), n), slope), n);
                    }
                }
                clear(s, slopes, len, end);
            }
        }
    }
}
