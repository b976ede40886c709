//! 'Is there a nodule?' on the LUNA16 crops: real CT, held-out scans.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result};
use rayon::prelude::*;
use swinseek_evals::detection::{Confusion, Ranking};
use swinseek_evals::resample::Bootstrap;
use swinseek_fusion::pipeline::Pipeline;
use swinseek_vision::preprocess::{DecodeOptions, decode};

use super::Table;
use super::reports::push_proportion;

const QUESTION: &str = "Is there a nodule?";
/// A ridge regression on each crop's radial mean and deviation, chosen on the validation split, on the same test crops.
const FLOOR: &str = "floor: linear on radial profile";
/// The specificity at which sensitivity is read.
const SPECIFICITY: f64 = 0.915;

pub(super) fn run(
    pipeline: &Pipeline,
    dir: &Path,
    progress: &(dyn Fn(&str, usize, usize) + Sync),
    table: &mut Table,
) -> Result<()> {
    let cases = cases(dir)?;
    let done = AtomicUsize::new(0);
    let scores: Vec<f64> = cases
        .par_iter()
        .map(|(path, _)| {
            let bytes = std::fs::read(path).with_context(|| format!("{}: cannot be read", path.display()))?;
            let image =
                decode(&bytes, &DecodeOptions::default()).with_context(|| path.display().to_string())?;
            progress("LUNA16 crops", done.fetch_add(1, Ordering::Relaxed) + 1, cases.len());
            Ok(pipeline.preference(&[image], QUESTION, "yes", "no")?)
        })
        .collect::<Result<_>>()?;
    let truth: Vec<bool> = cases.iter().map(|(_, nodule)| *nodule).collect();
    rows(&scores, &truth, table)
}

fn rows(scores: &[f64], truth: &[bool], table: &mut Table) -> Result<()> {
    let nodules = truth.iter().filter(|nodule| **nodule).count();
    let set = format!("LUNA16 crops, test, n = {}, {nodules} nodules", truth.len());
    let ranking = Ranking::new(scores, truth)?;
    let interval = ranking.auc_interval(Bootstrap::default())?;
    table.push(&set, FLOOR, "AUC", 0.882, Some([0.846, 0.914]));
    table.push(&set, "model", "AUC", ranking.auc(), Some([interval.low, interval.high]));
    table.push(&set, FLOOR, "sensitivity at specificity .915", 0.538, None);
    let (_, at) = ranking.sensitivity_at(SPECIFICITY);
    push_proportion(table, &set, "sensitivity at specificity .915", at.sensitivity(), 0.962);
    let answered = scores.iter().zip(truth).map(|(score, truth)| (*score >= 0.5, *truth));
    let answered = Confusion::from_pairs(answered);
    push_proportion(table, &set, "sensitivity of the answer", answered.sensitivity(), 0.962);
    push_proportion(table, &set, "specificity of the answer", answered.specificity(), 0.915);
    let note = "The LUNA16 floor rows are stored figures of a ridge regression on the same test crops; this command does not run it.";
    table.notes.push(note.to_owned());
    Ok(())
}

/// Test crops with whether each shows a nodule.
fn cases(dir: &Path) -> Result<Vec<(PathBuf, bool)>> {
    let path = dir.join("labels.csv");
    let mut reader =
        csv::Reader::from_path(&path).with_context(|| format!("{}: cannot be read", path.display()))?;
    let mut cases = Vec::new();
    for row in reader.deserialize() {
        let (file, split, nodule, _): (String, String, u8, u64) = row.with_context(|| {
            format!("{}: expected the columns file, split, nodule, candidate_index", path.display())
        })?;
        if split == "test" {
            cases.push((dir.join("images").join(file), nodule == 1));
        }
    }
    Ok(cases)
}
