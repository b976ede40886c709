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

mod score;
mod stats;

use std::borrow::Cow;

use crate::error::{Error, Result};
pub use crate::metric::Segment;
use crate::metric::{self, Count, Metric, Resampling, ResamplingKind, Signature};
use crate::ngrams::Matcher;
use crate::resample::{Bootstrap, Interval};
use crate::tokenize::{Tokenizer, strip_end};
pub use score::{BleuScore, Smoothing};
pub use stats::{BleuStats, SegmentStats};

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

    /// Counts of every segment, in order; computed in parallel, the same on any number of threads.
    ///
    /// # Errors
    /// [`Error::Setting`] as [`Metric::validate`]; [`Error::Input`] when a segment has no reference.
    pub fn corpus_stats(&self, segments: &[Segment<'_>]) -> Result<SegmentStats> {
        // Counts are whole numbers below 2^32.
        let rows = metric::rows(self, segments)?.into_iter().map(|count| count as u32).collect();
        Ok(SegmentStats::new(self.max_order, rows, metric::references_per_segment(segments)))
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
        let bootstrap = bootstrap.map(|Bootstrap { resamples, seed }| Resampling {
            kind: ResamplingKind::Bootstrap,
            count: resamples,
            seed,
            groups: None,
        });
        Signature::new(self, references, bootstrap).to_string()
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

impl Metric for Bleu {
    fn name(&self) -> String {
        "BLEU".to_owned()
    }

    fn validate(&self) -> Result<()> {
        if !(1..=Self::MAX_ORDER).contains(&self.max_order) {
            let message = format!("{}, expected 1 to {}", self.max_order, Self::MAX_ORDER);
            return Err(Error::Setting { name: "max_order", message });
        }
        self.smoothing.validate()
    }

    /// Hypothesis length, reference length, matches per order, totals per order.
    fn width(&self) -> usize {
        2 + 2 * self.max_order
    }

    fn counter(&self) -> Count<'_> {
        let mut matcher = Matcher::new(self.max_order);
        Box::new(move |segment, row| {
            matcher.hypothesis(|tokens| tokens.set(self.tokenizer, &self.cased(segment.hypothesis)));
            let hypothesis = matcher.hypothesis_len();
            let mut nearest = None;
            for reference in segment.references {
                matcher.reference(|tokens| tokens.set(self.tokenizer, &self.cased(reference)));
                matcher.keep_most();
                nearest = Some(closest(hypothesis, matcher.reference_len(), nearest));
            }
            row[0] = hypothesis as f64;
            row[1] = nearest.unwrap_or(0) as f64;
            let (correct, total) = row[2..].split_at_mut(self.max_order);
            for (order, matches) in matcher.matches_with_all().enumerate() {
                correct[order] = f64::from(matches);
                total[order] = hypothesis.saturating_sub(order) as f64;
            }
        })
    }

    fn score_sum(&self, sum: &[f64]) -> f64 {
        self.score(&BleuStats::from_row(sum)).score
    }

    fn detail(&self, sum: &[f64]) -> Option<String> {
        Some(self.score(&BleuStats::from_row(sum)).detail())
    }

    fn settings(&self) -> Vec<(&'static str, &'static str, String)> {
        let mut settings = vec![
            ("case", "c", metric::case(self.lowercase)),
            ("eff", "e", metric::yes_no(self.effective_order)),
            ("tok", "tok", self.tokenizer.name().to_owned()),
            ("smooth", "s", self.smoothing.to_string()),
        ];
        // sacreBLEU does not say it.
        if self.max_order != Self::default().max_order {
            settings.push(("order", "o", self.max_order.to_string()));
        }
        settings
    }
}

/// The reference length nearest to the hypothesis; of equally near ones the shorter.
fn closest(hypothesis: usize, new: usize, best: Option<usize>) -> usize {
    match best {
        Some(best) if (best.abs_diff(hypothesis), best) <= (new.abs_diff(hypothesis), new) => best,
        _ => new,
    }
}
