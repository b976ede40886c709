//! Scores of chest reports by what they say: labels, contradictions, missed abnormalities, sections, words.
//!
//! No model is needed: the labeller is rules ([`label`]). Its labels are no diagnosis and not those of CheXpert's or
//! CheXbert's programs; numbers compare only with numbers of the same labeller.

mod cues;
mod label;
mod lexicon;
mod observation;
mod phrases;
mod score;
mod sections;
mod words;

pub use label::{Mention, label, mentions};
pub use lexicon::{Lexicon, LexiconCounts};
pub use observation::{Label, Labels, Observation};
pub use score::{LabelScore, RadiologyScore, RadiologyStats, Rates, UncertainAs, score};
pub use sections::{Section, section, sections};
