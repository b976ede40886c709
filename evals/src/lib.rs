//! Offline evaluation: strings in, scores with their evidence out.
//!
//! Nothing here loads a model. Statistics are kept apart from scores: a segment gives integer counts, counts add up,
//! and any sum of counts (a corpus, a shard, a bootstrap resample, one sentence) has a score.
//!
//! | module | holds |
//! |---|---|
//! | [`tokenize`] | the tokenisers that scores are defined with, and Python's idea of white space |
//! | [`metric`] | what the metrics of a corpus have in common, their signature |
//! | [`bleu`], [`chrf`], [`ter`] | BLEU, chrF and chrF++, TER, with sacreBLEU's arithmetic |
//! | [`profile`] | protocols by name: preparation and arithmetic together |
//! | [`coco`], [`rouge`], [`cider`], [`nltk`] | BLEU, ROUGE-L, CIDEr-D of the caption evaluation, BLEU of NLTK |
//! | [`r2gen_clean`] | report cleaners |
//! | [`diversity`] | variety of outputs |
//! | [`resample`] | bootstrap intervals |
//! | [`significance`] | intervals and paired tests for any metric, by segment or by group |
//! | [`lines`] | text files as lines, compressed or not |
//! | [`detection`] | sensitivity, specificity, ROC AUC, closed accuracy, with intervals |
//! | [`floors`] | what a system must beat: a constant text, a random one, the majority answer |
//! | [`runner`] | a candidate over a data set: answers, statistics of shards, results |
//! | [`radiology`] | labels of chest reports by rule, contradictions, sections, lexicon |
//! | [`vqa`] | answers to questions, beside their floors |
//! | [`dataset`] | data sets as published, one list whatever the layout |
//! | [`report`] | `report.html`: the page that shows a run |

pub mod bleu;
pub mod chrf;
pub mod cider;
pub mod coco;
pub mod dataset;
pub mod detection;
pub mod diversity;
mod error;
pub mod floors;
pub mod lines;
pub mod metric;
mod ngrams;
pub mod nltk;
mod pcg64;
pub mod profile;
pub mod r2gen_clean;
pub mod radiology;
pub mod report;
pub mod resample;
pub mod rouge;
pub mod runner;
pub mod significance;
pub mod ter;
pub mod tokenize;
pub mod vqa;

pub use error::{Error, Result};
