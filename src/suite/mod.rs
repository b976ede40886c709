//! The table of scores that belongs to a model: every figure of it comes from one call of [`run`].
//!
//! Phantom reports against their floors and their ceiling; nodules read from the reports; the same question on real CT
//! crops (LUNA16); easy-VQA beside what can be answered without looking.

mod labelled;
mod nodules;
mod reports;
mod table;
mod vqa;

use std::path::PathBuf;

use anyhow::Result;
use swinseek_fusion::pipeline::Pipeline;

pub use nodules::reports_nodule;
pub use table::{Row, Table};

/// What is run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Phantom studies.
    pub studies: usize,
    /// Seed of the studies; the recipe's seeds must not be among them.
    pub seed: u64,
    /// Beams of the search for a report; 1 is greedy.
    pub beams: usize,
    /// Folder of the LUNA16 crops (`labels.csv`, `images/`), if it is here.
    pub luna16: Option<PathBuf>,
    /// Folder `easy_vqa/data`, if it is here.
    pub easy_vqa: Option<PathBuf>,
    /// Most questions of easy-VQA, evenly spaced; 0 for all.
    pub questions: usize,
}

/// Runs everything that is asked for; `progress` is told the part, and how much of it is done.
pub fn run(
    pipeline: &Pipeline,
    options: &Options,
    progress: &(dyn Fn(&str, usize, usize) + Sync),
) -> Result<Table> {
    let mut table = Table::default();
    if options.studies > 0 {
        reports::run(pipeline, options, progress, &mut table)?;
    }
    if let Some(dir) = &options.luna16 {
        labelled::run(pipeline, dir, progress, &mut table)?;
    }
    if let Some(dir) = &options.easy_vqa {
        vqa::run(pipeline, dir, options.questions, progress, &mut table)?;
    }
    Ok(table)
}
