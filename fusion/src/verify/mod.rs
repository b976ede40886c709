//! `verify`: run a checkpoint on stored inputs and compare every stored output, tensor by tensor.
//!
//! A golden file holds inputs and outputs of another implementation under fixed names (`input_ids`, `hidden.2`,
//! `logits`...); a prefix names a run (`left.`, `greedy.`...). Whatever runs a file holds are repeated. Decoders
//! run twice, in one pass and token by token with a cache, and both must agree.

mod golden;
mod report;
mod run;

use std::path::Path;

use swinseek_kernels::Compute;

use crate::{Result, checkpoint::Checkpoint, inspect, load};

pub use report::{Report, Row};

/// Opens the model in `dir`, repeats every run in the golden file and compares: floats within `tolerance`,
/// integers exactly. A stored output that the model does not produce is a failed row.
pub fn verify(dir: &Path, golden: &Path, tolerance: f64, compute: impl Into<Compute>) -> Result<Report> {
    let golden = golden::Golden::open(golden)?;
    let checkpoint = Checkpoint::open(dir)?;
    let model = load::build(&checkpoint, &compute.into())?;
    let mut report =
        Report { architecture: inspect::class(checkpoint.config()), tolerance, rows: Vec::new() };
    let runs = golden.runs();
    if runs.is_empty() {
        return Err(golden.error("holds no output to compare"));
    }
    for run in &runs {
        run::repeat(&model, run, &mut report)?;
    }
    Ok(report)
}
