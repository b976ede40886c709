//! BLEU with the arithmetic of NLTK 3.10 (`nltk.translate.bleu_score`), over words between white space.
//!
//! Counts are those of [`crate::bleu`] with one difference: a hypothesis shorter than the order still counts as one n-gram, so
//! that corpora of short texts get less than elsewhere.

use crate::bleu::{Bleu, BleuStats, Smoothing};
use crate::error::{Error, Result};
use crate::metric::{Count, Metric};
use crate::tokenize::Tokenizer;

/// What happens to orders without a match: NLTK's methods (Chen and Cherry 2014).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Method {
    /// The smallest positive number instead of 0: the score is next to 0.
    #[default]
    Zero,
    /// This value instead of 0 matches; 0.1 in NLTK.
    One(f64),
    /// One added to matches and totals of every order above 1.
    Two,
    /// Half a match, then a quarter, and so on.
    Three,
}

/// Score with the orders that `stats` holds and equal weights, 0 to 1. The statistics are sums of [`NltkBleu`]'s rows.
pub fn bleu(stats: &BleuStats, method: Method) -> f64 {
    if stats.correct.first().is_none_or(|&correct| correct == 0) {
        return 0.0;
    }
    let (hyp_len, ref_len) = (stats.hyp_len as f64, stats.ref_len as f64);
    let penalty = if hyp_len > ref_len { 1.0 } else { (1.0 - ref_len / hyp_len).exp() };
    let orders = stats.correct.len() as f64;
    let mut halving = 1.0;
    let mut logs = 0.0;
    for (order, (&correct, &total)) in stats.correct.iter().zip(&stats.total).enumerate() {
        let (correct, total) = (correct as f64, total as f64);
        let precision = match method {
            Method::Two if order > 0 => (correct + 1.0) / (total + 1.0),
            _ if correct > 0.0 => correct / total,
            Method::Zero => f64::MIN_POSITIVE,
            Method::One(value) => value / total,
            Method::Two => 0.0,
            Method::Three => {
                halving *= 2.0;
                1.0 / (halving * total)
            }
        };
        if precision > 0.0 {
            logs += precision.ln() / orders;
        }
    }
    penalty * logs.exp()
}

/// The metric: BLEU of the highest order. Texts are tokenised already.
#[derive(Clone, Debug, PartialEq)]
pub struct NltkBleu {
    counts: Bleu,
    method: Method,
}

impl NltkBleu {
    /// With n-grams up to `max_order`; NLTK has 4.
    pub fn new(max_order: usize, method: Method) -> Self {
        let counts =
            Bleu { tokenizer: Tokenizer::None, smoothing: Smoothing::None, max_order, ..Bleu::default() };
        Self { counts, method }
    }
}

impl Metric for NltkBleu {
    fn name(&self) -> String {
        format!("BLEU-{}", self.counts.max_order)
    }

    fn validate(&self) -> Result<()> {
        match self.method {
            Method::One(value) if !(value.is_finite() && value > 0.0) => {
                let message = format!("{value}, expected a positive number");
                Err(Error::Setting { name: "smoothing value", message })
            }
            _ => self.counts.validate(),
        }
    }

    fn width(&self) -> usize {
        self.counts.width()
    }

    fn counter(&self) -> Count<'_> {
        let mut count = self.counts.counter();
        Box::new(move |segment, row| {
            count(segment, row);
            for total in &mut row[2 + self.counts.max_order..] {
                *total = total.max(1.0);
            }
        })
    }

    fn score_sum(&self, sum: &[f64]) -> f64 {
        100.0 * bleu(&BleuStats::from_row(sum), self.method)
    }

    fn settings(&self) -> Vec<(&'static str, &'static str, String)> {
        let smooth = match self.method {
            Method::Zero => "none".to_owned(),
            Method::One(value) => format!("method1[{value:.2}]"),
            Method::Two => "method2".to_owned(),
            Method::Three => "method3".to_owned(),
        };
        vec![("arith", "a", "nltk".to_owned()), ("smooth", "s", smooth)]
    }
}
