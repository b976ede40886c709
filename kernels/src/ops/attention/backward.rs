//! The backward pass.

use super::problem::{KEYS, PANEL, Panel, Problem, Sizes};
use super::rows::{SlopeRows, WriteRows};
use super::scratch::{Block, Scratch};
use crate::ops::support::{Out, for_each, written};
use crate::simd::dispatch;
use crate::simd::product::{Matrix, Product, TileMut};

/// Parts of the batch that sum the gradient of the bias on their own: a number that does not depend on the threads, so
/// that the sum does not either.
const BIAS_PARTS: usize = 8;

/// Gradients, each in the (dense) shape of its argument.
pub(super) struct Gradients {
    pub(super) q: Vec<f32>,
    pub(super) k: Vec<f32>,
    pub(super) v: Vec<f32>,
    pub(super) bias: Vec<f32>,
}

/// Where the kernels write.
#[derive(Clone, Copy)]
struct Outputs {
    q: Out,
    k: Out,
    v: Out,
    bias: Out,
}

/// The gradients, given that of the output, `(batch, q_len, heads, v_dim)`.
pub(super) fn backward(problem: &Problem, grad: &[f32]) -> Gradients {
    let Sizes { batch, q_len, kv_len, heads, kv_heads, dim, v_dim } = problem.sizes;
    let has_bias = problem.bias.is_some();
    let chunk = if has_bias { batch.div_ceil(BIAS_PARTS).max(1) } else { 1 };
    let parts = batch.div_ceil(chunk);
    let map = if has_bias { heads * q_len * kv_len } else { 0 };
    let mut k = vec![0.0; batch * kv_len * kv_heads * dim];
    let mut v = vec![0.0; batch * kv_len * kv_heads * v_dim];
    let mut sums = vec![0.0; parts.max(1) * map];
    let (out_k, out_v, out_bias) = (Out::new(&mut k), Out::new(&mut v), Out::new(&mut sums));
    let fill = |q: Out| {
        let out = Outputs { q, k: out_k, v: out_v, bias: out_bias };
        for_each(parts * kv_heads, problem.sizes.work() * 2, |task| {
            let (part, kv_head) = (task / kv_heads, task % kv_heads);
            Scratch::with(problem, true, |scratch| {
                for batch in part * chunk..batch.min((part + 1) * chunk) {
                    // SAFETY: a batch row's key head, and a part's sum of its query heads, are no other task's.
                    unsafe { unit(problem, (batch, kv_head), part * map, grad, scratch, out) };
                }
            });
        });
    };
    // SAFETY: the units cover all query rows.
    let q = unsafe { written(batch * q_len * heads * dim, fill) };
    for part in 1..parts {
        let (total, part) = sums.split_at_mut(part * map);
        total[..map].iter_mut().zip(part).for_each(|(total, x)| *total += *x);
    }
    sums.truncate(map);
    Gradients { q, k, v, bias: sums }
}

/// All query rows of a batch row that share a key head; `bias_at` is where the sums of this part begin.
unsafe fn unit(
    problem: &Problem,
    (batch, kv_head): (usize, usize),
    bias_at: usize,
    grad: &[f32],
    scratch: &mut Scratch,
    out: Outputs,
) {
    let rows = problem.sizes.rows();
    for start in (0..rows).step_by(PANEL) {
        let panel = Panel { batch, kv_head, rows: start..rows.min(start + PANEL) };
        // SAFETY: as the caller vouches.
        unsafe {
            problem.probabilities(&panel, scratch, true);
            slopes(problem, &panel, bias_at, grad, scratch, out.bias);
            query_gradient(problem, &panel, scratch, out.q);
            key_gradients(problem, &panel, scratch, out);
        }
    }
}

/// Leaves the gradient of the scores in `scratch.slopes`: `p ⊙ (∂p − Σ p ∂p)`, `∂p = ∂out vᵀ`; adds it to the bias's.
unsafe fn slopes(
    problem: &Problem,
    panel: &Panel,
    bias_at: usize,
    grad: &[f32],
    scratch: &mut Scratch,
    bias: Out,
) {
    let Sizes { q_len, heads, v_dim, .. } = problem.sizes;
    let values = problem.v.head(panel.batch, panel.kv_head);
    // SAFETY: the scratch memory fits the panel; the bias rows are this part's own.
    unsafe {
        for row in 0..panel.rows.len() {
            let (token, head) = problem.place(panel, row);
            let from = &grad[((panel.batch * q_len + token) * heads + head) * v_dim..][..v_dim];
            std::ptr::copy_nonoverlapping(from.as_ptr(), scratch.grad.row(row), v_dim);
        }
        problem.score(panel, scratch.grad, values, v_dim, scratch.tile, scratch.slopes);
        dispatch(SlopeRows {
            problem,
            panel,
            probabilities: scratch.scores,
            slopes: scratch.slopes,
            bias_at,
            bias,
        });
    }
}

/// `∂q = scale · ∂scores k`.
unsafe fn query_gradient(problem: &Problem, panel: &Panel, scratch: &mut Scratch, out: Out) {
    let dim = problem.sizes.dim;
    let keys = problem.k.head(panel.batch, panel.kv_head);
    // SAFETY: the scratch memory fits the panel; the rows of the output are the panel's own.
    unsafe {
        for (rows, visible) in problem.steps(panel) {
            Product {
                rows: rows.len(),
                depth: visible,
                columns: dim,
                a: scratch.slopes.starting_at(rows.start).matrix(),
                b: keys,
                c: scratch.rows.starting_at(rows.start).out(),
                accumulate: false,
            }
            .compute();
        }
        let (from, factors) = (scratch.rows, &[problem.scale; PANEL]);
        dispatch(WriteRows { problem, panel, from, factors, out, dim });
    }
}

/// `∂k += ∂scoresᵀ (scale · q)` and `∂v += pᵀ ∂out`, over the panel's rows.
unsafe fn key_gradients(problem: &Problem, panel: &Panel, scratch: &mut Scratch, out: Outputs) {
    let Sizes { dim, v_dim, .. } = problem.sizes;
    // SAFETY: the keys of the unit are this task's own.
    unsafe {
        add_to_keys(problem, panel, scratch.slopes, scratch.q, (out.k, dim));
        add_to_keys(problem, panel, scratch.scores, scratch.grad, (out.v, v_dim));
    }
}

/// Adds `weightsᵀ (keys, rows) · rows (rows, dim)` to the keys' rows of `out`.
unsafe fn add_to_keys(
    problem: &Problem,
    panel: &Panel,
    weights: Block,
    rows: Block,
    (out, dim): (Out, usize),
) {
    let Sizes { kv_len, kv_heads, .. } = problem.sizes;
    let end = problem.visible_to_any(panel);
    for key in (0..end).step_by(KEYS) {
        let (keys, first) = (KEYS.min(end - key), problem.first_to_see(panel, key));
        let start = ((panel.batch * kv_len + key) * kv_heads + panel.kv_head) * dim;
        // SAFETY: the last row that is written begins `keys − 1` strides after the first.
        unsafe {
            let at = out.part(start, (keys - 1) * kv_heads * dim + dim);
            let weights = weights.starting_at(first).transposed();
            Product {
                rows: keys,
                depth: panel.rows.len() - first,
                columns: dim,
                a: Matrix { at: weights.at.add(key), ..weights },
                b: rows.starting_at(first).tile(),
                c: TileMut { at, stride: kv_heads * dim },
                accumulate: true,
            }
            .compute();
        }
    }
}
