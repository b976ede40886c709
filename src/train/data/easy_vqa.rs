//! The layout of the easy-VQA package: `{train,test}/questions.json` = `[[question, answer, image_id], …]`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rand::RngExt;
use rand::rngs::ChaCha8Rng;

use super::{Record, Source, read_image};

/// Questions about one coloured shape a picture.
pub(super) struct EasyVqa {
    images: PathBuf,
    questions: Vec<(String, String, u64)>,
}

impl EasyVqa {
    /// Reads `dir/split/questions.json`.
    pub(super) fn open(dir: &Path, split: &str) -> Result<Self> {
        let path = dir.join(split).join("questions.json");
        let bytes = std::fs::read(&path).with_context(|| format!("{}: cannot be read", path.display()))?;
        let questions: Vec<(String, String, u64)> = serde_json::from_slice(&bytes)
            .with_context(|| format!("{}: expected [[question, answer, image_id], …]", path.display()))?;
        ensure!(!questions.is_empty(), "{}: no questions", path.display());
        Ok(Self { images: dir.join(split).join("images"), questions })
    }

    fn pick(&self, rng: &mut ChaCha8Rng) -> &(String, String, u64) {
        &self.questions[rng.random_range(0..self.questions.len())]
    }
}

impl Source for EasyVqa {
    fn draw(&self, rng: &mut ChaCha8Rng) -> Result<Record> {
        let (question, answer, image) = self.pick(rng);
        let image = read_image(&self.images.join(format!("{image}.png")))?;
        Ok(Record { image, prompt: question.clone(), answer: answer.clone(), findings: None })
    }

    fn text(&self, rng: &mut ChaCha8Rng) -> Result<(String, String)> {
        let (question, answer, _) = self.pick(rng);
        Ok((question.clone(), answer.clone()))
    }
}
