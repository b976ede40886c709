//! A finished report in the forms in which it leaves: JSON, text, FHIR, DICOM, a picture.
//!
//! Every form carries the digests of model and images, the seed and the draft notice. None of them reads a clock or
//! draws a number: the same [`Report`] gives the same bytes, so that sending it twice files it once.

mod calendar;
pub mod fhir;
pub mod overlay;
pub mod sr;
mod sr_content;
mod study;
pub mod text;

use serde::Serialize;
use swinseek_fusion::evidence;

pub use study::{Instance, Study};

/// Stands on every report.
pub const NOTICE: &str = "Draft by a demonstration model. A physician must verify it.";

/// A report with its evidence and its origin. Its JSON is what `/v1/reports` answers; identities of the patient and of
/// the study leave only in the medical forms.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// What is seen.
    pub findings: String,
    /// What it means.
    pub impression: String,
    /// The sentences of both, in order.
    pub sentences: Vec<Sentence>,
    /// BLAKE3 of configuration and weights, hexadecimal.
    pub model: String,
    /// The pictures, in the order the regions refer to them.
    pub images: Vec<ReportImage>,
    /// Seed of the generator.
    pub seed: u64,
    /// Says that a physician must verify the text.
    pub notice: String,
    /// Seconds since 1970, UTC.
    pub created: u64,
    /// The study, when the pictures came from DICOM files.
    #[serde(skip)]
    pub study: Option<Study>,
}

/// The part of a report that a sentence stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Section {
    /// What is seen.
    Findings,
    /// What it means.
    Impression,
}

/// A sentence with its evidence.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sentence {
    /// Its words, without a heading.
    pub text: String,
    /// Where it stands.
    pub section: Section,
    /// Mean probability of its tokens, 0 to 1: how sure the model was of the wording, not how likely it is true.
    pub confidence: f64,
    /// Where it looked.
    pub region: Option<SentenceRegion>,
}

/// A rectangle of one of the report's pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct SentenceRegion {
    /// Index of the picture.
    pub image: usize,
    /// Left, top, right, bottom in pixels of the original.
    pub bbox: [i64; 4],
}

/// A picture of a report.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReportImage {
    /// BLAKE3 of its bytes, hexadecimal.
    pub digest: String,
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// The picture as a browser can show it, a `data:` URI of a PNG; on request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preview: Option<String>,
    /// The picture with the regions of the sentences, a `data:` URI of a PNG; on request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overlay: Option<String>,
    /// The DICOM instance that it came from.
    #[serde(skip)]
    pub instance: Option<Instance>,
}

/// Findings and impression of an answer in the form `FINDINGS: .. IMPRESSION: ..`; an answer without headings is all
/// findings.
pub fn sections(answer: &str) -> (&str, &str) {
    let (findings, impression) = answer.split_once("IMPRESSION:").unwrap_or((answer, ""));
    (findings.trim().trim_start_matches("FINDINGS:").trim(), impression.trim())
}

/// The sentences of an answer without their headings, each with its section.
pub fn sentences(answered: &[evidence::Sentence]) -> Vec<Sentence> {
    let mut section = Section::Findings;
    let mut sentences = Vec::new();
    for sentence in answered {
        let (text, here) = without_heading(&sentence.text, section);
        section = here;
        if text.is_empty() {
            continue;
        }
        let region = sentence.region.map(|seen| {
            let edges = [seen.region.left, seen.region.top, seen.region.right, seen.region.bottom];
            SentenceRegion { image: seen.image, bbox: edges.map(|edge| edge.round() as i64) }
        });
        sentences.push(Sentence { text: text.to_owned(), section, confidence: sentence.confidence, region });
    }
    sentences
}

fn without_heading(text: &str, before: Section) -> (&str, Section) {
    let text = text.trim();
    let heading = [("FINDINGS:", Section::Findings), ("IMPRESSION:", Section::Impression)];
    let found = heading.iter().find_map(|(name, section)| Some((text.strip_prefix(name)?.trim(), *section)));
    found.unwrap_or((text, before))
}

impl Report {
    /// Sentences of one section.
    pub fn section(&self, section: Section) -> impl Iterator<Item = &Sentence> {
        self.sentences.iter().filter(move |sentence| sentence.section == section)
    }

    /// A UID that belongs to this report alone (a UUID made from its content, PS3.5 B.2); `role` tells apart the UIDs
    /// that one report needs.
    fn uid(&self, role: &str) -> String {
        let numbers = [self.seed.to_le_bytes(), self.created.to_le_bytes()];
        let mut parts = vec![role, &self.model, &self.findings, &self.impression]
            .into_iter()
            .map(str::as_bytes)
            .collect::<Vec<_>>();
        parts.extend(self.images.iter().map(|image| image.digest.as_bytes()));
        parts.extend(numbers.iter().map(<[u8; 8]>::as_slice));
        uid_of(&parts)
    }

    /// A UID that belongs to the model.
    fn model_uid(&self) -> String {
        uid_of(&[b"model", self.model.as_bytes()])
    }
}

/// Version 8, variant 10: a UUID of the application's own making (RFC 9562).
fn uid_of(parts: &[&[u8]]) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    let mut bits = [0; 16];
    bits.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    let bits = u128::from_be_bytes(bits) & !(0xf << 76) & !(0x3 << 62) | (0x8 << 76) | (0x2 << 62);
    format!("2.25.{bits}")
}
