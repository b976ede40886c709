//! BLEU with the arithmetic of the COCO caption evaluation (`pycocoevalcap` 1.2; Chen et al. 2015): the counts of
//! [`crate::bleu`] over words between white space, no smoothing but two tiny constants against divisions by zero.
//!
//! The constants show when there is nothing to count: without a match of the highest order a corpus gets about 1e-8, and
//! when no hypothesis is as long as the order, the fraction is 1e-6.
//!
//! METEOR, the other old metric of that evaluation, is not here: it needs WordNet and a table of paraphrases.

use crate::bleu::{Bleu, BleuStats, Smoothing};
use crate::metric::{Count, Metric};
use crate::tokenize::Tokenizer;

const TINY: f64 = 1e-15;
const SMALL: f64 = 1e-9;

/// BLEU-1 to BLEU-n of any sum of counts, 0 to 1.
pub fn bleu(stats: &BleuStats) -> Vec<f64> {
    let ratio = (stats.hyp_len as f64 + TINY) / (stats.ref_len as f64 + SMALL);
    let penalty = if ratio < 1.0 { (1.0 - 1.0 / ratio).exp() } else { 1.0 };
    let mut product = 1.0;
    let orders = stats.correct.iter().zip(&stats.total).enumerate();
    orders
        .map(|(order, (&correct, &total))| {
            product *= (correct as f64 + TINY) / (total as f64 + SMALL);
            f64::powf(product, 1.0 / (order as f64 + 1.0)) * penalty
        })
        .collect()
}

/// The metric: BLEU of the highest order. Texts are tokenised already.
#[derive(Clone, Debug, PartialEq)]
pub struct CocoBleu(Bleu);

impl CocoBleu {
    /// With n-grams up to `max_order`; 4 in every publication.
    pub fn new(max_order: usize) -> Self {
        Self(Bleu { tokenizer: Tokenizer::None, smoothing: Smoothing::None, max_order, ..Bleu::default() })
    }
}

impl Metric for CocoBleu {
    fn name(&self) -> String {
        format!("BLEU-{}", self.0.max_order)
    }

    fn validate(&self) -> crate::Result<()> {
        self.0.validate()
    }

    fn width(&self) -> usize {
        self.0.width()
    }

    fn counter(&self) -> Count<'_> {
        self.0.counter()
    }

    fn score_sum(&self, sum: &[f64]) -> f64 {
        100.0 * bleu(&BleuStats::from_row(sum)).last().copied().unwrap_or(0.0)
    }

    fn settings(&self) -> Vec<(&'static str, &'static str, String)> {
        vec![("arith", "a", "pycocoevalcap".to_owned())]
    }
}
