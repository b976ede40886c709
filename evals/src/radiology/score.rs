//! Counts of labels over reports, and the rates they give.

use std::iter::Sum;
use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

use super::label::label;
use super::observation::{Label, Labels, Observation};
use crate::detection::{Confusion, Proportion};
use crate::error::{Error, Result};
use crate::resample::{Bootstrap, Interval};

/// What an uncertain label counts as, in hypothesis and reference alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UncertainAs {
    /// As positive (the `U-Ones` of CheXpert).
    Positive,
    /// As negative (`U-Zeros`).
    Negative,
}

impl UncertainAs {
    fn is_positive(self, label: Label) -> bool {
        label == Label::Positive || (label == Label::Uncertain && self == Self::Positive)
    }
}

/// What pairs of reports count; sums of counts are the counts of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RadiologyStats {
    /// Pairs.
    pub reports: u64,
    /// Counts of each of [`Observation::ALL`], uncertain labels being positive.
    pub uncertain_positive: [Confusion; 14],
    /// The same, uncertain labels being negative.
    pub uncertain_negative: [Confusion; 14],
    /// Observations that both reports mention.
    pub both_mention: u64,
    /// Of these, those that one affirms and the other denies.
    pub flipped: u64,
    /// References with an abnormality: a positive label that is neither no finding nor support devices.
    pub abnormal: u64,
    /// Of these, those whose hypothesis has [`Observation::NoFinding`].
    pub false_normal: u64,
}

impl RadiologyStats {
    /// The counts of one pair.
    pub fn new(hypothesis: &Labels, reference: &Labels) -> Self {
        let mut stats = Self { reports: 1, ..Self::default() };
        for observation in Observation::ALL {
            let (found, truth) = (hypothesis[observation], reference[observation]);
            let place = observation as usize;
            for (rule, counts) in [
                (UncertainAs::Positive, &mut stats.uncertain_positive[place]),
                (UncertainAs::Negative, &mut stats.uncertain_negative[place]),
            ] {
                *counts = Confusion::from_pairs([(rule.is_positive(found), rule.is_positive(truth))]);
            }
            if observation != Observation::NoFinding && found != Label::Absent && truth != Label::Absent {
                stats.both_mention += 1;
                let opposite = matches!(
                    (found, truth),
                    (Label::Positive, Label::Negative) | (Label::Negative, Label::Positive)
                );
                stats.flipped += u64::from(opposite);
            }
        }
        if reference.with(Label::Positive).any(Observation::is_abnormality) {
            stats.abnormal = 1;
            stats.false_normal = u64::from(hypothesis[Observation::NoFinding] == Label::Positive);
        }
        stats
    }

    /// Counts under a rule for uncertain labels, one for each of [`Observation::ALL`].
    pub fn confusions(&self, rule: UncertainAs) -> &[Confusion; 14] {
        match rule {
            UncertainAs::Positive => &self.uncertain_positive,
            UncertainAs::Negative => &self.uncertain_negative,
        }
    }

    /// Rates over the summed counts of `observations`.
    pub fn micro(&self, rule: UncertainAs, observations: &[Observation]) -> Rates {
        let mut sum = Confusion::default();
        for &observation in observations {
            add(&mut sum, self.confusions(rule)[observation as usize]);
        }
        Rates::of(&sum)
    }

    /// Unweighted mean of the rates of `observations`. One without any positive counts as 0, as in scikit-learn.
    pub fn macro_average(&self, rule: UncertainAs, observations: &[Observation]) -> Rates {
        let mut mean = Rates::default();
        let share = 1.0 / observations.len().max(1) as f64;
        for &observation in observations {
            let rates = Rates::of(&self.confusions(rule)[observation as usize]);
            mean.precision += share * rates.precision;
            mean.recall += share * rates.recall;
            mean.f1 += share * rates.f1;
        }
        mean
    }

    /// Share of the observations that both mention which one affirms and the other denies; `None` without any.
    pub fn flip_rate(&self) -> Option<Proportion> {
        Proportion::new(self.flipped, self.both_mention)
    }

    /// Share of the abnormal references whose hypothesis finds nothing; `None` when none is abnormal.
    pub fn false_normal_rate(&self) -> Option<Proportion> {
        Proportion::new(self.false_normal, self.abnormal)
    }
}

fn add(sum: &mut Confusion, other: Confusion) {
    sum.true_positive += other.true_positive;
    sum.false_positive += other.false_positive;
    sum.true_negative += other.true_negative;
    sum.false_negative += other.false_negative;
}

impl AddAssign for RadiologyStats {
    fn add_assign(&mut self, other: Self) {
        self.reports += other.reports;
        for place in 0..Observation::ALL.len() {
            add(&mut self.uncertain_positive[place], other.uncertain_positive[place]);
            add(&mut self.uncertain_negative[place], other.uncertain_negative[place]);
        }
        self.both_mention += other.both_mention;
        self.flipped += other.flipped;
        self.abnormal += other.abnormal;
        self.false_normal += other.false_normal;
    }
}

impl Sum for RadiologyStats {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::default(), |mut sum, stats| {
            sum += stats;
            sum
        })
    }
}

/// Precision, recall and their harmonic mean, 0 to 1; 0 where nothing is to be divided by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rates {
    /// Share of the positives of the hypothesis that are right.
    pub precision: f64,
    /// Share of the positives of the reference that are found.
    pub recall: f64,
    /// Harmonic mean.
    pub f1: f64,
}

impl Rates {
    fn of(counts: &Confusion) -> Self {
        let share = |of: u64| if of == 0 { 0.0 } else { counts.true_positive as f64 / of as f64 };
        let precision = share(counts.true_positive + counts.false_positive);
        let recall = share(counts.true_positive + counts.false_negative);
        let both = 2 * counts.true_positive + counts.false_positive + counts.false_negative;
        Self { precision, recall, f1: 2.0 * share(both) }
    }
}

/// Averages under one rule for uncertain labels.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LabelScore {
    /// The rule.
    pub uncertain_as: UncertainAs,
    /// Over the summed counts of all fourteen observations.
    pub micro_14: Rates,
    /// Mean over all fourteen.
    pub macro_14: Rates,
    /// Over the summed counts of [`Observation::FIVE`].
    pub micro_5: Rates,
    /// Mean over the five.
    pub macro_5: Rates,
    /// 95 % bootstrap interval of the F1 of `micro_14`; `None` where no resample has one.
    pub micro_14_f1: Option<Interval>,
}

/// The scores of a set of reports.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RadiologyScore {
    /// The counts of all pairs.
    pub stats: RadiologyStats,
    /// Under both rules, uncertain as positive first.
    pub labels: [LabelScore; 2],
    /// [`RadiologyStats::flip_rate`].
    pub negation_flip: Option<Proportion>,
    /// [`RadiologyStats::false_normal_rate`].
    pub false_normal: Option<Proportion>,
}

/// Scores hypotheses against one reference each, with bootstrap intervals over `stats` (one for each report).
///
/// # Errors
/// [`Error::Input`] without reports; as [`Bootstrap::interval`].
pub fn score(stats: &[RadiologyStats], bootstrap: Bootstrap) -> Result<RadiologyScore> {
    if stats.is_empty() {
        return Err(Error::Input("there are no reports".into()));
    }
    let sum: RadiologyStats = stats.iter().copied().sum();
    let labels = [UncertainAs::Positive, UncertainAs::Negative].map(|rule| {
        let f1 = |stats: &RadiologyStats| stats.micro(rule, &Observation::ALL).f1;
        let interval = bootstrap
            .interval(stats.len(), |indices| Some(f1(&indices.iter().map(|&index| stats[index]).sum())));
        LabelScore {
            uncertain_as: rule,
            micro_14: sum.micro(rule, &Observation::ALL),
            macro_14: sum.macro_average(rule, &Observation::ALL),
            micro_5: sum.micro(rule, &Observation::FIVE),
            macro_5: sum.macro_average(rule, &Observation::FIVE),
            micro_14_f1: interval.ok(),
        }
    });
    Ok(RadiologyScore {
        labels,
        negation_flip: sum.flip_rate(),
        false_normal: sum.false_normal_rate(),
        stats: sum,
    })
}

impl RadiologyStats {
    /// The counts of a pair of texts.
    pub fn of_texts(hypothesis: &str, reference: &str) -> Self {
        Self::new(&label(hypothesis), &label(reference))
    }
}
