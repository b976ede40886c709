//! Yes/no findings and closed questions: rates with their intervals.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::resample::{Bootstrap, Interval};

/// A share of a count with its 95 % Wilson interval (1927), which stays sensible near 0 and 1 and for few cases.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Proportion {
    /// How many hits.
    pub hits: u64,
    /// Of how many.
    pub count: u64,
    /// `hits / count`.
    pub value: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Proportion {
    /// `None` when there is nothing to count.
    pub fn new(hits: u64, count: u64) -> Option<Self> {
        /// 97.5th percentile of the normal distribution.
        const Z: f64 = 1.959_963_984_540_054;
        if count == 0 || hits > count {
            return None;
        }
        let n = count as f64;
        let value = hits as f64 / n;
        let scale = 1.0 + Z * Z / n;
        let centre = (value + Z * Z / (2.0 * n)) / scale;
        let half = Z / scale * (value * (1.0 - value) / n + Z * Z / (4.0 * n * n)).sqrt();
        // At the ends the formula gives exactly 0 and 1, but for rounding.
        let low = if hits == 0 { 0.0 } else { centre - half };
        let high = if hits == count { 1.0 } else { centre + half };
        Some(Self { hits, count, value, low, high })
    }
}

/// Yes/no answers against the truth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confusion {
    /// Present and found.
    pub true_positive: u64,
    /// Absent but claimed.
    pub false_positive: u64,
    /// Absent and not claimed.
    pub true_negative: u64,
    /// Present but missed.
    pub false_negative: u64,
}

impl Confusion {
    /// Counts pairs of prediction and truth.
    pub fn from_pairs(pairs: impl IntoIterator<Item = (bool, bool)>) -> Self {
        let mut confusion = Self::default();
        for (predicted, truth) in pairs {
            *match (predicted, truth) {
                (true, true) => &mut confusion.true_positive,
                (true, false) => &mut confusion.false_positive,
                (false, false) => &mut confusion.true_negative,
                (false, true) => &mut confusion.false_negative,
            } += 1;
        }
        confusion
    }

    /// Share of the present findings that were found; `None` when none was present.
    pub fn sensitivity(&self) -> Option<Proportion> {
        Proportion::new(self.true_positive, self.true_positive + self.false_negative)
    }

    /// Share of the absent findings that were not claimed; `None` when none was absent.
    pub fn specificity(&self) -> Option<Proportion> {
        Proportion::new(self.true_negative, self.true_negative + self.false_positive)
    }

    /// Share of right answers; `None` without answers.
    pub fn accuracy(&self) -> Option<Proportion> {
        let right = self.true_positive + self.true_negative;
        Proportion::new(right, right + self.false_positive + self.false_negative)
    }
}

/// Scores of cases, higher for "present", with the truth; sorted once for all curves.
#[derive(Clone, Debug)]
pub struct Ranking {
    /// Scores with the truth, in rising order of scores.
    cases: Vec<(f64, bool)>,
    /// For each case in the caller's order its place in `cases`.
    places: Vec<usize>,
}

impl Ranking {
    /// # Errors
    /// [`Error::Input`] when the lengths differ, a score is NaN, or one of the classes is missing.
    pub fn new(scores: &[f64], truth: &[bool]) -> Result<Self> {
        if scores.len() != truth.len() {
            return Err(Error::Input(format!("{} scores, but {} truth values", scores.len(), truth.len())));
        }
        if let Some(index) = scores.iter().position(|score| score.is_nan()) {
            return Err(Error::Input(format!("score {} is NaN", index + 1)));
        }
        let positives = truth.iter().filter(|&&present| present).count();
        if positives == 0 || positives == truth.len() {
            let missing = if positives == 0 { "positive" } else { "negative" };
            return Err(Error::Input(format!("there is no {missing} case among {}", truth.len())));
        }
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|&a, &b| scores[a].total_cmp(&scores[b]));
        let mut places = vec![0; order.len()];
        for (place, &case) in order.iter().enumerate() {
            places[case] = place;
        }
        Ok(Self { cases: order.iter().map(|&case| (scores[case], truth[case])).collect(), places })
    }

    /// Area under the ROC curve: the chance that a present case scores higher than an absent one, ties counting half.
    pub fn auc(&self) -> f64 {
        let once = vec![1; self.cases.len()];
        self.weighted_auc(&once).unwrap_or(f64::NAN)
    }

    /// 95 % bootstrap interval of [`Ranking::auc`] over cases.
    ///
    /// # Errors
    /// As [`Bootstrap::interval`].
    pub fn auc_interval(&self, bootstrap: Bootstrap) -> Result<Interval> {
        bootstrap.interval(self.cases.len(), |indices| {
            let mut weights = vec![0_u32; self.cases.len()];
            for &case in indices {
                weights[self.places[case]] += 1;
            }
            self.weighted_auc(&weights)
        })
    }

    /// Best sensitivity among thresholds whose specificity is at least `specificity`, with that threshold
    /// ("present" from it upwards).
    pub fn sensitivity_at(&self, specificity: f64) -> (f64, Confusion) {
        let positives = self.cases.iter().filter(|case| case.1).count() as u64;
        let negatives = self.cases.len() as u64 - positives;
        let mut confusion =
            Confusion { true_positive: positives, false_positive: negatives, ..Confusion::default() };
        let mut at = 0;
        while at < self.cases.len() && (confusion.true_negative as f64) < specificity * negatives as f64 {
            let score = self.cases[at].0;
            while at < self.cases.len() && self.cases[at].0 == score {
                if self.cases[at].1 {
                    confusion.true_positive -= 1;
                    confusion.false_negative += 1;
                } else {
                    confusion.false_positive -= 1;
                    confusion.true_negative += 1;
                }
                at += 1;
            }
        }
        (self.cases.get(at).map_or(f64::INFINITY, |case| case.0), confusion)
    }

    /// AUC when case `i` counts `weights[i]` times; `None` when a class has no weight.
    fn weighted_auc(&self, weights: &[u32]) -> Option<f64> {
        let (mut below, mut wins, mut positives) = (0.0, 0.0, 0.0);
        let mut at = 0;
        while at < self.cases.len() {
            let score = self.cases[at].0;
            let (mut present, mut absent) = (0.0, 0.0);
            while at < self.cases.len() && self.cases[at].0 == score {
                *if self.cases[at].1 { &mut present } else { &mut absent } += f64::from(weights[at]);
                at += 1;
            }
            wins += present * (below + 0.5 * absent);
            below += absent;
            positives += present;
        }
        (positives > 0.0 && below > 0.0).then(|| wins / (positives * below))
    }
}

/// An answer as closed questions compare it: lower case, without punctuation at the ends and articles in front,
/// single spaces.
pub fn normalize_answer(answer: &str) -> String {
    let lower = answer.to_lowercase();
    let words: Vec<&str> = lower
        .split_whitespace()
        .map(|word| word.trim_matches(|c: char| c.is_ascii_punctuation() && c != '-' && c != '%'))
        .filter(|word| !word.is_empty())
        .collect();
    let words = match words.as_slice() {
        ["a" | "an" | "the", rest @ ..] if !rest.is_empty() => rest,
        all => all,
    };
    words.join(" ")
}

/// Share of answers equal to the expected ones after [`normalize_answer`].
///
/// # Errors
/// [`Error::Input`] when the lengths differ or there are no answers.
pub fn closed_accuracy(answers: &[impl AsRef<str>], expected: &[impl AsRef<str>]) -> Result<Proportion> {
    if answers.len() != expected.len() {
        return Err(Error::Input(format!("{} answers, but {} expected ones", answers.len(), expected.len())));
    }
    let right = answers.iter().zip(expected);
    let right = right.filter(|(a, e)| normalize_answer(a.as_ref()) == normalize_answer(e.as_ref())).count();
    Proportion::new(right as u64, answers.len() as u64)
        .ok_or_else(|| Error::Input("there are no answers".into()))
}
