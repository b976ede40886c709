//! chrF (Popović 2015) and chrF++ (Popović 2017) with the arithmetic of sacreBLEU 2.6.0.
//!
//! ```
//! use swinseek_evals::chrf::Chrf;
//! use swinseek_evals::metric::{Metric, Segment, rows};
//!
//! let references = ["the lungs are clear . no pleural effusion ."];
//! let segment = Segment { hypothesis: "the lungs are clear . no effusion .", references: &references };
//! let chrf = Chrf::default();
//! let score = chrf.score_sum(&rows(&chrf, &[segment]).unwrap());
//! assert_eq!(format!("{score:.2}"), "73.57");
//! ```

use std::borrow::Cow;

use crate::error::{Error, Result};
use crate::metric::{self, Count, Metric};
use crate::ngrams::Matcher;

/// The settings of chrF; all of them are part of the signature or the name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chrf {
    /// Longest character n-gram.
    pub char_order: usize,
    /// Longest word n-gram; 2 makes it chrF++, 0 leaves words out.
    pub word_order: usize,
    /// How many times as much recall counts as precision.
    pub beta: u32,
    /// Compare in lower case.
    pub lowercase: bool,
    /// Blanks are characters too.
    pub whitespace: bool,
    /// Orders without n-grams count as 1e-16 (chrF++.py, NLTK, Moses) instead of being left out.
    pub eps_smoothing: bool,
}

impl Default for Chrf {
    fn default() -> Self {
        Self {
            char_order: 6,
            word_order: 0,
            beta: 2,
            lowercase: false,
            whitespace: false,
            eps_smoothing: false,
        }
    }
}

impl Chrf {
    /// Longest n-gram that may be asked for.
    pub const MAX_ORDER: usize = 64;

    fn cased<'a>(&self, line: &'a str) -> Cow<'a, str> {
        if self.lowercase { Cow::Owned(line.to_lowercase()) } else { Cow::Borrowed(line) }
    }

    /// F-score of counts, 0 to 100: `[hypothesis, reference, matches]` of every order.
    fn f_score(&self, counts: &[f64]) -> f64 {
        const EPS: f64 = 1e-16;
        let factor = f64::from(self.beta).powi(2);
        let (mut score, mut precision_sum, mut recall_sum, mut orders) = (0.0, 0.0, 0.0, 0.0);
        for order in counts.chunks_exact(3) {
            let [hypothesis, reference, matches] = [order[0], order[1], order[2]];
            let precision = if hypothesis > 0.0 { matches / hypothesis } else { EPS };
            let recall = if reference > 0.0 { matches / reference } else { EPS };
            let divisor = factor * precision + recall;
            score += if divisor > 0.0 { (1.0 + factor) * precision * recall / divisor } else { EPS };
            if hypothesis > 0.0 && reference > 0.0 {
                precision_sum += precision;
                recall_sum += recall;
                orders += 1.0;
            }
        }
        if self.eps_smoothing {
            return 100.0 * score / (self.char_order + self.word_order) as f64;
        }
        if orders == 0.0 || precision_sum + recall_sum == 0.0 {
            return 0.0;
        }
        let (precision, recall) = (precision_sum / orders, recall_sum / orders);
        100.0 * ((1.0 + factor) * precision * recall / (factor * precision + recall))
    }
}

impl Metric for Chrf {
    fn name(&self) -> String {
        format!("chrF{}{}", self.beta, "+".repeat(self.word_order))
    }

    fn validate(&self) -> Result<()> {
        for (name, order) in [("char_order", self.char_order), ("word_order", self.word_order)] {
            if order > Self::MAX_ORDER {
                let message = format!("{order}, expected at most {}", Self::MAX_ORDER);
                return Err(Error::Setting { name, message });
            }
        }
        if self.char_order + self.word_order == 0 {
            let message = "0 beside word_order 0, expected one above 0".to_owned();
            return Err(Error::Setting { name: "char_order", message });
        }
        Ok(())
    }

    /// N-grams of the hypothesis, of the reference, and matches: for each order of characters, then of words.
    fn width(&self) -> usize {
        3 * (self.char_order + self.word_order)
    }

    fn counter(&self) -> Count<'_> {
        let mut characters = Matcher::new(self.char_order);
        let mut words = Matcher::new(self.word_order);
        let mut trial = vec![0.0; self.width()];
        Box::new(move |segment, row| {
            let hypothesis = self.cased(segment.hypothesis);
            characters.hypothesis(|tokens| tokens.set_characters(&hypothesis, self.whitespace));
            words.hypothesis(|tokens| tokens.set_punctuated_words(&hypothesis));
            let mut best = -1.0;
            for reference in segment.references {
                let reference = self.cased(reference);
                characters.reference(|tokens| tokens.set_characters(&reference, self.whitespace));
                words.reference(|tokens| tokens.set_punctuated_words(&reference));
                let (of_characters, of_words) = trial.split_at_mut(3 * self.char_order);
                fill(of_characters, &characters);
                fill(of_words, &words);
                // Of several references the one that fits best counts.
                let score = self.f_score(&trial);
                if score > best {
                    best = score;
                    row.copy_from_slice(&trial);
                }
            }
        })
    }

    fn score_sum(&self, sum: &[f64]) -> f64 {
        self.f_score(sum)
    }

    fn settings(&self) -> Vec<(&'static str, &'static str, String)> {
        vec![
            ("case", "c", metric::case(self.lowercase)),
            ("eff", "e", metric::yes_no(!self.eps_smoothing)),
            ("nc", "nc", self.char_order.to_string()),
            ("nw", "nw", self.word_order.to_string()),
            ("space", "s", metric::yes_no(self.whitespace)),
        ]
    }
}

/// `[hypothesis, reference, matches]` of every order; a hypothesis is not blamed for n-grams of an order that the
/// reference does not have.
fn fill(row: &mut [f64], matcher: &Matcher) {
    for ((order, counts), matches) in row.chunks_exact_mut(3).enumerate().zip(matcher.matches()) {
        let reference = matcher.reference_len().saturating_sub(order);
        let hypothesis = if reference > 0 { matcher.hypothesis_len().saturating_sub(order) } else { 0 };
        counts.copy_from_slice(&[hypothesis as f64, reference as f64, f64::from(matches)]);
    }
}
