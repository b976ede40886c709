//! A study: a picture with its findings and its words.

use crate::error::{Error, Result};
use crate::exposure::{self, noise_seed};
use crate::facts::Facts;
use crate::finding::Finding;
use crate::grammar::{self, Question, Report};
use crate::projection::attenuation;
use crate::rng::{Rng, mix};
use crate::scene::Scene;

/// References of a study; a report of the same facts that is none of them measures the ceiling.
pub const REFERENCES: usize = 4;
/// Centre and width of the window that shows the stored numbers as meant (DICOM PS3.3 C.11.2.1.2).
pub const WINDOW: (f32, f32) = (2048.0, 3600.0);

/// Sizes that can be rendered.
const SIZES: std::ops::RangeInclusive<usize> = 32..=4096;

/// What a study is rendered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StudyOptions {
    /// Width and height of the picture in pixels, 32 to 4096.
    pub size: usize,
}

impl Default for StudyOptions {
    fn default() -> Self {
        Self { size: 256 }
    }
}

impl StudyOptions {
    /// Checks the options.
    ///
    /// # Errors
    /// A size out of range.
    pub fn validate(&self) -> Result<()> {
        if SIZES.contains(&self.size) {
            return Ok(());
        }
        Err(Error::Option { field: "size", found: self.size.to_string(), expected: "32 to 4096 pixels" })
    }
}

/// All words of a study and its findings; cheap, for nothing is rendered.
#[derive(Debug, Clone, PartialEq)]
pub struct Description {
    /// What is in the picture.
    pub facts: Facts,
    /// The findings and their boxes at the size asked for.
    pub findings: Vec<Finding>,
    /// The report.
    pub report: Report,
    /// Four more reports of the same facts.
    pub references: Vec<Report>,
    /// Questions and answers.
    pub questions: Vec<Question>,
    /// One sentence.
    pub caption: String,
    /// Labels of the CheXpert set that hold.
    pub labels: Vec<&'static str>,
    /// Millimetres of the detector per pixel.
    pub mm_per_pixel: f32,
    /// Width of the heart over that of the chest, from the geometry.
    pub cardiothoracic_ratio: f32,
}

/// A rendered study.
#[derive(Debug, Clone, PartialEq)]
pub struct Study {
    /// The stored numbers, row by row, 0 to 4095; denser is brighter.
    pub pixels: Vec<u16>,
    /// Pixels in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Everything else.
    pub description: Description,
}

impl Study {
    /// Study `index` of the set of `seed`: the same bytes for the same arguments, whatever ran before or beside it.
    ///
    /// # Panics
    /// Like all functions here, on options that [`StudyOptions::validate`] refuses.
    pub fn generate(seed: u64, index: u64, options: &StudyOptions) -> Self {
        let scene = Scene::new(seed, index);
        let pixels = render(&scene, seed, index, options.size);
        let description = describe(&scene, seed, index, options.size);
        Self { pixels, width: options.size, height: options.size, description }
    }

    /// The words and findings of a study without its picture.
    pub fn describe(seed: u64, index: u64, options: &StudyOptions) -> Description {
        describe(&Scene::new(seed, index), seed, index, options.size)
    }

    /// The picture of a study through its window, 0 to 255.
    pub fn windowed(seed: u64, index: u64, options: &StudyOptions) -> Vec<u8> {
        window(&render(&Scene::new(seed, index), seed, index, options.size))
    }

    /// [`Study::windowed`] and [`Study::describe`] of one study, for training on the fly.
    pub fn example(seed: u64, index: u64, options: &StudyOptions) -> (Vec<u8>, Description) {
        let scene = Scene::new(seed, index);
        let pixels = window(&render(&scene, seed, index, options.size));
        (pixels, describe(&scene, seed, index, options.size))
    }

    /// This picture through its window, 0 to 255.
    pub fn window(&self) -> Vec<u8> {
        window(&self.pixels)
    }
}

/// A fresh report of a study's facts; `variant` 0 is [`Description::report`], 1 to 4 are the references (unless two
/// happened to be equal), any other number is a report that nobody has seen: 5 is the one that measures the ceiling.
pub fn report_variant(facts: &Facts, seed: u64, index: u64, variant: u64) -> Report {
    grammar::report(facts, words_seed(seed, index) ^ mix(variant))
}

fn words_seed(seed: u64, index: u64) -> u64 {
    Rng::new(seed, index, 8).next_u64()
}

fn render(scene: &Scene, seed: u64, index: u64, size: usize) -> Vec<u16> {
    assert!(SIZES.contains(&size), "size {size} out of range");
    let plane = attenuation(scene, &scene.backdrop(seed, index), size);
    exposure::expose(plane, &scene.technique, noise_seed(seed, index))
}

/// The linear window of DICOM PS3.3 C.11.2.1.2 onto 0 to 255.
pub(crate) fn window(pixels: &[u16]) -> Vec<u8> {
    let (centre, width) = WINDOW;
    let (low, scale) = (centre - 0.5 - 0.5 * (width - 1.0), 255.0 / (width - 1.0));
    pixels.iter().map(|v| ((f32::from(*v) - low) * scale + 0.5).clamp(0.0, 255.0) as u8).collect()
}

fn describe(scene: &Scene, seed: u64, index: u64, size: usize) -> Description {
    assert!(SIZES.contains(&size), "size {size} out of range");
    let facts = scene.facts.clone();
    let words = words_seed(seed, index);
    let references =
        (1..=REFERENCES as u64).map(|variant| report_variant(&facts, seed, index, variant)).collect();
    Description {
        findings: scene.findings(size),
        report: report_variant(&facts, seed, index, 0),
        references,
        questions: grammar::questions(&facts, words),
        caption: grammar::caption(&facts, words),
        labels: facts.labels(),
        mm_per_pixel: scene.technique.field / size as f32,
        cardiothoracic_ratio: scene.organs.cardiothoracic_ratio(&scene.anatomy, &scene.camera),
        facts,
    }
}
