//! BLEU (Papineni et al. 2002) with the arithmetic of sacreBLEU 2.6.0 (Post 2018).
//!
//! ```
//! use swinseek_evals::bleu::{Bleu, Segment};
//!
//! let references = ["the lungs are clear . no pleural effusion ."];
//! let segment = Segment { hypothesis: "the lungs are clear . no effusion .", references: &references };
//! let bleu = Bleu::default();
//! let score = bleu.score(&bleu.corpus_stats(&[segment]).unwrap().sum());
//! assert_eq!(format!("{:.2}", score.score), "67.53");
//! ```

mod count;
mod score;
mod stats;

use std::borrow::Cow;

use rayon::iter::{IntoParallelRefIterator, ParallelIterator};

use crate::error::{Error, Result};
use crate::resample::{Bootstrap, Interval};
use crate::tokenize::{Tokenizer, strip_end};
use count::Counter;
pub use score::{BleuScore, Smoothing};
pub use stats::{BleuStats, SegmentStats};

/// One hypothesis and its references. References that are absent are left out; an empty text is a real reference.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    /// What the system wrote.
    pub hypothesis: &'a str,
    /// What it should have written, in one or more versions.
    pub references: &'a [&'a str],
}

/// The settings of BLEU; all of them are part of the signature.
#[derive(Clone, Debug, PartialEq)]
pub struct Bleu {
    /// How lines become tokens.
    pub tokenizer: Tokenizer,
    /// Compare in lower case.
    pub lowercase: bool,
    /// What happens to orders without a match.
    pub smoothing: Smoothing,
    /// Longest n-gram, from 1 to [`Bleu::MAX_ORDER`].
    pub max_order: usize,
    /// Leave out the orders for which the hypothesis is too short. For single sentences.
    pub effective_order: bool,
}

impl Default for Bleu {
    fn default() -> Self {
        Self {
            tokenizer: Tokenizer::V13a,
            lowercase: false,
            smoothing: Smoothing::Exp,
            max_order: 4,
            effective_order: false,
        }
    }
}

impl Bleu {
    /// Longest n-gram that may be asked for; every segment stores two counts per order.
    pub const MAX_ORDER: usize = 64;

    /// Checks the settings.
    ///
    /// # Errors
    /// [`Error::Setting`] for an order out of range or a smoothing value that is not a positive number.
    pub fn validate(&self) -> Result<()> {
        if !(1..=Self::MAX_ORDER).contains(&self.max_order) {
            let message = format!("{}, expected 1 to {}", self.max_order, Self::MAX_ORDER);
            return Err(Error::Setting { name: "max_order", message });
        }
        self.smoothing.validate()
    }

    /// Counts of every segment, in order; computed in parallel, the same on any number of threads.
    ///
    /// # Errors
    /// [`Error::Setting`] as [`Bleu::validate`]; [`Error::Input`] when a segment has no reference.
    pub fn corpus_stats(&self, segments: &[Segment<'_>]) -> Result<SegmentStats> {
        self.validate()?;
        if let Some(index) = segments.iter().position(|segment| segment.references.is_empty()) {
            return Err(Error::Input(format!("segment {} has no reference", index + 1)));
        }
        let rows: Vec<u32> = segments
            .par_iter()
            .map_init(
                || (Counter::new(self.max_order), Vec::new()),
                |(counter, row), segment| {
                    self.count(counter, *segment, row);
                    row.clone()
                },
            )
            .flatten_iter()
            .collect();
        let mut reference_counts = segments.iter().map(|segment| segment.references.len());
        let first = reference_counts.next();
        let references = first.filter(|first| reference_counts.all(|count| count == *first));
        Ok(SegmentStats::new(self.max_order, rows, references))
    }

    /// Score of any sum of counts.
    pub fn score(&self, stats: &BleuStats) -> BleuScore {
        score::score(self, stats)
    }

    /// Corpus score.
    ///
    /// # Errors
    /// As [`Bleu::corpus_stats`].
    pub fn corpus(&self, segments: &[Segment<'_>]) -> Result<BleuScore> {
        Ok(self.score(&self.corpus_stats(segments)?.sum()))
    }

    /// Score of one sentence, with the settings as they are; [`Bleu::effective_order`] is advised.
    ///
    /// # Errors
    /// As [`Bleu::corpus_stats`].
    pub fn sentence(&self, hypothesis: &str, references: &[&str]) -> Result<BleuScore> {
        self.corpus(&[Segment { hypothesis, references }])
    }

    /// 95 % bootstrap interval of the corpus score over segments.
    ///
    /// # Errors
    /// As [`Bootstrap::interval`].
    pub fn interval(&self, stats: &SegmentStats, bootstrap: Bootstrap) -> Result<Interval> {
        bootstrap.interval(stats.len(), |segments| Some(self.score(&stats.sum_of(segments)).score))
    }

    /// The settings in sacreBLEU's notation, under our own name and version. `references` is the number of references
    /// of every segment ([`SegmentStats::references`]), `None` when it varies.
    pub fn signature(&self, references: Option<usize>, bootstrap: Option<Bootstrap>) -> String {
        let references = references.map_or("var".into(), |count| count.to_string());
        let bootstrap = bootstrap.map_or(String::new(), |b| format!("|bs:{}|seed:{}", b.resamples, b.seed));
        format!(
            "nrefs:{references}{bootstrap}|case:{}|eff:{}|tok:{}|smooth:{}|version:swinseek-{}",
            if self.lowercase { "lc" } else { "mixed" },
            if self.effective_order { "yes" } else { "no" },
            self.tokenizer.name(),
            self.smoothing,
            env!("CARGO_PKG_VERSION"),
        )
    }

    /// Fills `row` with hypothesis length, reference length, matches and totals per order.
    fn count(&self, counter: &mut Counter, segment: Segment<'_>, row: &mut Vec<u32>) {
        counter.hypothesis(self.tokenizer, &self.cased(segment.hypothesis));
        for reference in segment.references {
            counter.reference(self.tokenizer, &self.cased(reference));
        }
        counter.finish(row);
    }

    /// Lower case comes before the end of the line is stripped, as in sacreBLEU.
    pub(crate) fn cased<'a>(&self, line: &'a str) -> Cow<'a, str> {
        if !self.lowercase {
            return Cow::Borrowed(strip_end(line));
        }
        let mut lower = line.to_lowercase();
        lower.truncate(strip_end(&lower).len());
        Cow::Owned(lower)
    }
}
