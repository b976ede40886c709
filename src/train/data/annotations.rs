//! `annotations.json` in the R2Gen layout: a picture and its report.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rand::RngExt;
use rand::rngs::ChaCha8Rng;
use swinseek_evals::dataset::{Annotations, Entry, Split};
use swinseek_fusion::pipeline::REPORT_PROMPT;

use super::{Record, Source, read_image};

/// The reports of one split.
pub(super) struct Reports {
    dir: PathBuf,
    entries: Vec<Entry>,
}

impl Reports {
    /// Reads `dir/annotations.json`.
    pub(super) fn open(dir: &Path, split: &str) -> Result<Self> {
        let path = dir.join("annotations.json");
        let bytes = std::fs::read(&path).with_context(|| format!("{}: cannot be read", path.display()))?;
        let annotations = Annotations::from_json(&bytes, &path.display().to_string())?;
        let split: Split = split.parse()?;
        let entries: Vec<Entry> =
            annotations.split(split).iter().filter(|entry| !entry.image_path.is_empty()).cloned().collect();
        ensure!(
            !entries.is_empty(),
            "{}: split `{}` has no entries with a picture",
            path.display(),
            split.name()
        );
        Ok(Self { dir: dir.to_owned(), entries })
    }
}

impl Source for Reports {
    fn draw(&self, rng: &mut ChaCha8Rng) -> Result<Record> {
        let entry = &self.entries[rng.random_range(0..self.entries.len())];
        let image = read_image(&self.dir.join(&entry.image_path[0]))?;
        Ok(Record { image, prompt: REPORT_PROMPT.to_owned(), answer: entry.report.clone(), findings: None })
    }

    fn text(&self, rng: &mut ChaCha8Rng) -> Result<(String, String)> {
        let entry = &self.entries[rng.random_range(0..self.entries.len())];
        Ok((REPORT_PROMPT.to_owned(), entry.report.clone()))
    }
}
