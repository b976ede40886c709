//! Intervals and paired tests as sacreBLEU's `significance.py` defines them (paired bootstrap: Koehn 2004; approximate
//! randomisation: Riezler and Maxwell 2005), for any statistics that add up.
//!
//! Resamples and trials are those of sacreBLEU for the same seed. It computes their scores in `f32`, we in `f64`:
//! intervals agree to about 1e-5.

use std::collections::HashMap;
use std::hash::Hash;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::metric::{self, Metric, Segment};
use crate::pcg64::Pcg64;
use crate::resample::{Bootstrap, Interval, in_blocks};

/// Trials of the approximate randomisation, unless said otherwise.
pub const TRIALS: usize = 10_000;

/// From a sum of rows to a score.
type Score<'a> = Box<dyn Fn(&[f64]) -> f64 + Sync + 'a>;

/// A system's statistics: a row of numbers for each unit that is drawn (a segment, or a group of them), rows that add up,
/// and the score of any sum.
pub struct Sample<'a> {
    width: usize,
    rows: Vec<f64>,
    score: Score<'a>,
}

impl<'a> Sample<'a> {
    /// `rows` holds `width` numbers for each unit.
    ///
    /// # Errors
    /// [`Error::Input`] when there are no rows or the last is not whole.
    pub fn new(width: usize, rows: Vec<f64>, score: impl Fn(&[f64]) -> f64 + Sync + 'a) -> Result<Self> {
        if width == 0 || rows.is_empty() || !rows.len().is_multiple_of(width) {
            return Err(Error::Input(format!("{} statistics, expected rows of {width}", rows.len())));
        }
        Ok(Self { width, rows, score: Box::new(score) })
    }

    /// The statistics of `metric` over segments.
    ///
    /// # Errors
    /// As [`metric::rows`]; [`Error::Input`] without segments.
    pub fn of_metric(metric: &'a dyn Metric, segments: &[Segment<'_>]) -> Result<Self> {
        Self::new(metric.width(), metric::rows(metric, segments)?, |sum| metric.score_sum(sum))
    }

    /// A score that is the mean of one value a unit (ROUGE-L, CIDEr-D, accuracy).
    ///
    /// # Errors
    /// [`Error::Input`] without values.
    pub fn of_means(values: &[f64]) -> Result<Self> {
        let rows = values.iter().flat_map(|&value| [value, 1.0]).collect();
        Self::new(2, rows, |sum| sum[0] / sum[1])
    }

    /// The same statistics with all units of a group as one: from then on whole groups are drawn, such as the studies of a
    /// patient, which are not independent. Groups keep the order in which they first appear.
    ///
    /// # Errors
    /// [`Error::Input`] when there is not one group for each unit.
    pub fn grouped<G: Eq + Hash>(self, groups: &[G]) -> Result<Self> {
        if groups.len() != self.len() {
            return Err(Error::Input(format!("{} groups, but {} segments", groups.len(), self.len())));
        }
        let mut places = HashMap::new();
        let mut rows = Vec::new();
        for (group, row) in groups.iter().zip(self.rows.chunks_exact(self.width)) {
            let next = places.len() * self.width;
            let place = *places.entry(group).or_insert(next);
            if place == next {
                rows.resize(next + self.width, 0.0);
            }
            metric::add_row(&mut rows[place..place + self.width], row);
        }
        Ok(Self { rows, ..self })
    }

    /// How many units there are.
    pub fn len(&self) -> usize {
        self.rows.len() / self.width
    }

    /// Never: a sample has a unit.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The sum of all rows.
    pub fn sum(&self) -> Vec<f64> {
        let mut sum = vec![0.0; self.width];
        metric::add_rows(&mut sum, &self.rows);
        sum
    }

    /// Score of the whole.
    pub fn score(&self) -> f64 {
        (self.score)(&self.sum())
    }

    /// Score of some units, which may repeat.
    ///
    /// # Panics
    /// When there is no such unit.
    pub fn score_of(&self, units: &[usize]) -> f64 {
        let mut sum = Vec::with_capacity(self.width);
        // Most of the time of a bootstrap is spent here: ten columns (BLEU has ten) are summed in registers.
        while sum.len() < self.width {
            match self.width - sum.len() {
                10.. => self.sum_columns::<10>(units, &mut sum),
                2.. => self.sum_columns::<2>(units, &mut sum),
                _ => self.sum_columns::<1>(units, &mut sum),
            }
        }
        (self.score)(&sum)
    }

    /// Adds the sums of the next `N` columns to `sum`.
    fn sum_columns<const N: usize>(&self, units: &[usize], sum: &mut Vec<f64>) {
        let mut columns = [0.0; N];
        for &unit in units {
            let row = &self.rows[unit * self.width + sum.len()..][..N];
            for (column, value) in columns.iter_mut().zip(row) {
                *column += value;
            }
        }
        sum.extend(columns);
    }

    /// 95 % bootstrap interval of the score.
    ///
    /// # Errors
    /// As [`Bootstrap::interval`].
    pub fn interval(&self, bootstrap: Bootstrap) -> Result<Interval> {
        bootstrap.interval(self.len(), |units| Some(self.score_of(units)))
    }

    fn row(&self, unit: usize) -> &[f64] {
        &self.rows[unit * self.width..][..self.width]
    }

    fn same_units(&self, other: &Self) -> Result<()> {
        if self.len() != other.len() || self.width != other.width {
            let sizes = (self.len(), self.width, other.len(), other.width);
            return Err(Error::Input(format!(
                "systems of {} units of {} numbers and {} of {} cannot be paired",
                sizes.0, sizes.1, sizes.2, sizes.3
            )));
        }
        Ok(())
    }
}

/// A system beside a baseline.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Paired {
    /// Score of the system.
    pub score: f64,
    /// Chance of a difference at least as large as the one seen if both systems came from the same process; two-sided.
    pub p_value: f64,
    /// 95 % interval of the system's score, where the test gives one.
    pub interval: Option<Interval>,
}

/// Paired bootstrap: both systems on the same resamples. A resample speaks for chance when its absolute difference exceeds
/// their mean by more than the real one; `p = (those + 1) / (resamples + 1)`.
///
/// # Errors
/// As [`Bootstrap::map`]; [`Error::Input`] when the systems differ in units; [`Error::Setting`] without resamples.
pub fn paired_bootstrap(baseline: &Sample, system: &Sample, bootstrap: Bootstrap) -> Result<Paired> {
    baseline.same_units(system)?;
    require("resamples", bootstrap.resamples)?;
    let scores = |units: &[usize]| (baseline.score_of(units), system.score_of(units));
    let scores = bootstrap.map(system.len(), scores)?;
    let score = system.score();
    let differences: Vec<f64> = scores.iter().map(|(baseline, system)| (system - baseline).abs()).collect();
    let mean = differences.iter().sum::<f64>() / differences.len() as f64;
    let p_value =
        p_value(differences.iter().map(|difference| difference - mean), (baseline.score() - score).abs());
    let interval = Interval::of(scores.iter().map(|scores| scores.1).collect());
    Ok(Paired { score, p_value, interval: Some(interval) })
}

/// Paired approximate randomisation: in each trial every unit changes sides or not. A trial speaks for chance when the
/// absolute difference of the two mixed systems exceeds the real one; `p = (those + 1) / (trials + 1)`.
///
/// # Errors
/// [`Error::Input`] when the systems differ in units; [`Error::Setting`] without trials.
pub fn paired_randomization(baseline: &Sample, system: &Sample, trials: usize, seed: u64) -> Result<Paired> {
    baseline.same_units(system)?;
    require("trials", trials)?;
    let difference = |stay: &[bool]| {
        let mut sums = (vec![0.0; baseline.width], vec![0.0; baseline.width]);
        for (unit, &stay) in stay.iter().enumerate() {
            let rows = (baseline.row(unit), system.row(unit));
            let (first, second) = if stay { rows } else { (rows.1, rows.0) };
            metric::add_row(&mut sums.0, first);
            metric::add_row(&mut sums.1, second);
        }
        ((baseline.score)(&sums.0) - (system.score)(&sums.1)).abs()
    };
    let mut generator = Pcg64::new(seed);
    let differences = in_blocks(trials, system.len(), || generator.flag(), difference);
    let score = system.score();
    let p_value = p_value(differences.into_iter(), (baseline.score() - score).abs());
    Ok(Paired { score, p_value, interval: None })
}

/// MultEval's p-value (Clark et al. 2011): a difference of 0 is never chance, and no p-value is 0.
fn p_value(differences: impl ExactSizeIterator<Item = f64>, real: f64) -> f64 {
    let count = differences.len();
    (differences.filter(|&difference| difference > real).count() + 1) as f64 / (count + 1) as f64
}

fn require(name: &'static str, count: usize) -> Result<()> {
    if count == 0 {
        return Err(Error::Setting { name, message: "0, expected at least 1".to_owned() });
    }
    Ok(())
}
