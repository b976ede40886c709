//! Phantom studies, rendered while training.

use anyhow::Result;
use rand::RngExt;
use rand::rngs::ChaCha8Rng;
use swinseek_fusion::pipeline::{CAPTION_PROMPT, REPORT_PROMPT};
use swinseek_phantom::{Description, Finding, Study, StudyOptions};
use swinseek_vision::preprocess::{Channels, Image, Region, Samples};

use super::super::recipe::PhantomTask;
use super::{FindingBox, Record, Source};

/// An endless stream of studies.
pub struct Phantom {
    seed: u64,
    task: PhantomTask,
    options: StudyOptions,
}

/// Name of a task in metrics.
pub fn name(task: PhantomTask) -> &'static str {
    match task {
        PhantomTask::Report => "phantom_report",
        PhantomTask::Question => "phantom_question",
        PhantomTask::Caption => "phantom_caption",
    }
}

impl Phantom {
    /// Studies of `seed` rendered at `size` pixels.
    pub fn new(seed: u64, task: PhantomTask, size: usize) -> Self {
        Self { seed, task, options: StudyOptions { size } }
    }

    /// What is asked of a study, and the answer.
    fn exchange(&self, description: &Description, rng: &mut ChaCha8Rng) -> (String, String) {
        match self.task {
            PhantomTask::Report => (REPORT_PROMPT.to_owned(), description.report.text()),
            PhantomTask::Caption => (CAPTION_PROMPT.to_owned(), description.caption.clone()),
            PhantomTask::Question => {
                let question = &description.questions[rng.random_range(0..description.questions.len())];
                (question.question.clone(), question.answer.clone())
            }
        }
    }
}

impl Source for Phantom {
    fn draw(&self, rng: &mut ChaCha8Rng) -> Result<Record> {
        let (pixels, description) = Study::example(self.seed, rng.random(), &self.options);
        let (prompt, answer) = self.exchange(&description, rng);
        let findings = description.findings.iter().map(finding_box).collect();
        Ok(Record { image: gray(pixels, self.options.size)?, prompt, answer, findings: Some(findings) })
    }

    fn text(&self, rng: &mut ChaCha8Rng) -> Result<(String, String)> {
        let description = Study::describe(self.seed, rng.random(), &self.options);
        Ok(self.exchange(&description, rng))
    }
}

/// A square 8-bit picture.
pub fn gray(pixels: Vec<u8>, size: usize) -> Result<Image> {
    Ok(Image::new(size, size, Channels::Luma, Samples::U8(pixels))?)
}

/// A device is named by what it is, every other finding by its kind.
fn finding_box(finding: &Finding) -> FindingBox {
    let name = |value: Result<serde_json::Value, serde_json::Error>| match value {
        Ok(serde_json::Value::String(name)) => name,
        _ => String::new(), // kinds and devices are plain names; an unknown class is not learnt
    };
    let class = match &finding.device {
        Some(device) => name(serde_json::to_value(device)),
        None => name(serde_json::to_value(finding.kind)),
    };
    let [left, top, right, bottom] = finding.bbox.map(f64::from);
    FindingBox { class, region: Region { left, top, right, bottom } }
}
