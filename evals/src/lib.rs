//! Offline evaluation: strings in, scores with their evidence out.
//!
//! Nothing here loads a model. Statistics are kept apart from scores: a segment gives integer counts, counts add up,
//! and any sum of counts (a corpus, a shard, a bootstrap resample, one sentence) has a score.
//!
//! | module | holds |
//! |---|---|
//! | [`tokenize`] | the tokenisers that scores are defined with, and Python's idea of white space |
//! | [`bleu`] | BLEU: statistics, score, signature |
//! | [`resample`] | bootstrap intervals |
//! | [`detection`] | sensitivity, specificity, ROC AUC, closed accuracy, with intervals |
//! | [`floors`] | what a system must beat: a constant text, a random one, the majority answer |
//! | [`dataset`] | annotation files |
//! | [`report`] | `report.html`: the page that shows a run |

pub mod bleu;
pub mod dataset;
pub mod detection;
mod error;
pub mod floors;
pub mod report;
pub mod resample;
pub mod tokenize;

pub use error::{Error, Result};
