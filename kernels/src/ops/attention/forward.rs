//! The forward pass.

use super::problem::{PANEL, Panel, Problem, Sizes};
use super::rows::WriteRows;
use super::scratch::Scratch;
use crate::ops::support::{Out, for_each, written};
use crate::simd::dispatch;
use crate::simd::product::Product;

/// The result, `(batch, q_len, heads, v_dim)`.
pub(super) fn forward(problem: &Problem) -> Vec<f32> {
    let Sizes { batch, q_len, heads, kv_heads, v_dim, .. } = problem.sizes;
    let rows = problem.sizes.rows();
    let panels = rows.div_ceil(PANEL);
    let fill = |out: Out| {
        for_each(batch * kv_heads * panels, problem.sizes.work(), |task| {
            let (unit, start) = (task / panels, task % panels * PANEL);
            let panel = Panel {
                batch: unit / kv_heads,
                kv_head: unit % kv_heads,
                rows: start..rows.min(start + PANEL),
            };
            // SAFETY: the scratch memory is made for the problem, and a panel's rows are no other task's.
            Scratch::with(problem, false, |scratch| unsafe {
                attend(problem, &panel, scratch, out);
            });
        });
    };
    // SAFETY: the panels cover all tokens and heads.
    unsafe { written(batch * q_len * heads * v_dim, fill) }
}

/// The result of batch row `i` of `problems[i]`, all of one query and equal but for their keys: `(rows, 1, heads, v_dim)`.
pub(super) fn forward_each(problems: &[Problem]) -> Vec<f32> {
    let Some(Sizes { heads, kv_heads, v_dim, .. }) = problems.first().map(|problem| problem.sizes) else {
        return Vec::new();
    };
    let rows = heads / kv_heads;
    let panels = rows.div_ceil(PANEL);
    let work = problems.iter().map(|problem| problem.sizes.work()).sum();
    let fill = |out: Out| {
        for_each(problems.len() * kv_heads * panels, work, |task| {
            let (unit, start) = (task / panels, task % panels * PANEL);
            let (batch, kv_head) = (unit / kv_heads, unit % kv_heads);
            let panel = Panel { batch, kv_head, rows: start..rows.min(start + PANEL) };
            let problem = &problems[batch];
            // SAFETY: as in `forward`.
            Scratch::with(problem, false, |scratch| unsafe {
                attend(problem, &panel, scratch, out);
            });
        });
    };
    // SAFETY: the panels cover all rows and heads.
    unsafe { written(problems.len() * heads * v_dim, fill) }
}

/// Writes the output rows of a panel.
unsafe fn attend(problem: &Problem, panel: &Panel, scratch: &mut Scratch, out: Out) {
    let v_dim = problem.sizes.v_dim;
    let values = problem.v.head(panel.batch, panel.kv_head);
    // SAFETY: the scratch memory fits, and output rows belong to the panel.
    unsafe {
        problem.probabilities(panel, scratch, false);
        for (rows, keys) in problem.steps(panel) {
            Product {
                rows: rows.len(),
                depth: keys,
                columns: v_dim,
                a: scratch.scores.starting_at(rows.start).matrix(),
                b: values,
                c: scratch.rows.starting_at(rows.start).out(),
                accumulate: false,
            }
            .compute();
        }
        let (from, factors) = (scratch.rows, &scratch.inverse);
        dispatch(WriteRows { problem, panel, from, factors, out, dim: v_dim });
    }
}
