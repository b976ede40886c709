//! What the metrics of a corpus have in common: a row of numbers for each segment, rows that add up, and a score of any
//! sum. A corpus, a shard, a resample and a sentence are sums of different rows.

use std::fmt;

use rayon::iter::{IndexedParallelIterator, IntoParallelRefIterator, ParallelIterator};
use rayon::slice::ParallelSliceMut;

use crate::error::{Error, Result};

/// One hypothesis and its references. References that are absent are left out; an empty text is a real reference.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    /// What the system wrote.
    pub hypothesis: &'a str,
    /// What it should have written, in one or more versions.
    pub references: &'a [&'a str],
}

/// Fills the row of a segment, in buffers of its own.
pub type Count<'a> = Box<dyn FnMut(Segment<'_>, &mut [f64]) + 'a>;

/// A metric with its settings.
pub trait Metric: Sync {
    /// Its name with its variant, as sacreBLEU prints it: `BLEU`, `chrF2++`, `TER`.
    fn name(&self) -> String;

    /// Checks the settings.
    ///
    /// # Errors
    /// [`Error::Setting`] for one that is out of range.
    fn validate(&self) -> Result<()>;

    /// How many numbers a row has.
    fn width(&self) -> usize;

    /// A new counter; every thread has one.
    fn counter(&self) -> Count<'_>;

    /// Score of a sum of rows, on the scale of 0 to 100 (TER may pass it).
    fn score_sum(&self, sum: &[f64]) -> f64;

    /// What stands behind the score on a line: sacreBLEU's `verbose_score`.
    fn detail(&self, _sum: &[f64]) -> Option<String> {
        None
    }

    /// The settings for the signature: key, short key, value.
    fn settings(&self) -> Vec<(&'static str, &'static str, String)>;
}

/// The rows of all segments one after the other, each of [`Metric::width`] numbers; computed in parallel, the same on any
/// number of threads.
///
/// # Errors
/// As [`Metric::validate`]; [`Error::Input`] when a segment has no reference.
pub fn rows(metric: &dyn Metric, segments: &[Segment<'_>]) -> Result<Vec<f64>> {
    metric.validate()?;
    if let Some(index) = segments.iter().position(|segment| segment.references.is_empty()) {
        return Err(Error::Input(format!("segment {} has no reference", index + 1)));
    }
    let mut rows = vec![0.0; segments.len() * metric.width()];
    rows.par_chunks_exact_mut(metric.width())
        .zip(segments.par_iter())
        // A counter's buffers are worth a few segments.
        .with_min_len(16)
        .for_each_init(|| metric.counter(), |count, (row, segment)| count(*segment, row));
    Ok(rows)
}

/// Adds `rows` to a sum of the same width, in order.
pub fn add_rows(sum: &mut [f64], rows: &[f64]) {
    for row in rows.chunks_exact(sum.len()) {
        add_row(sum, row);
    }
}

pub(crate) fn add_row(sum: &mut [f64], row: &[f64]) {
    for (sum, value) in sum.iter_mut().zip(row) {
        *sum += value;
    }
}

/// References of every segment, `None` when that varies.
pub fn references_per_segment(segments: &[Segment<'_>]) -> Option<usize> {
    let mut counts = segments.iter().map(|segment| segment.references.len());
    let first = counts.next();
    first.filter(|first| counts.all(|count| count == *first))
}

/// How scores of pseudo-corpora were made, for the signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resampling {
    /// What was done.
    pub kind: ResamplingKind,
    /// Resamples or trials.
    pub count: usize,
    /// Of the generator.
    pub seed: u64,
    /// How many groups were drawn from, where whole groups were (patients with several studies).
    pub groups: Option<usize>,
}

/// Ways of making pseudo-corpora.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResamplingKind {
    /// Drawing with replacement.
    Bootstrap,
    /// Swapping between two systems.
    Randomization,
}

/// The settings behind a score in sacreBLEU's notation, under our own name and version. [`fmt::Display`] is the long form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature(Vec<(&'static str, &'static str, String)>);

impl Signature {
    /// `references` is the number of references of every segment, `None` when it varies.
    pub fn new(metric: &dyn Metric, references: Option<usize>, resampling: Option<Resampling>) -> Self {
        let references = references.map_or("var".into(), |count| count.to_string());
        let mut entries = vec![("nrefs", "#", references)];
        if let Some(Resampling { kind, count, seed, groups }) = resampling {
            let kind = if kind == ResamplingKind::Bootstrap { "bs" } else { "ar" };
            entries.push((kind, kind, count.to_string()));
            entries.push(("seed", "rs", seed.to_string()));
            entries.extend(groups.map(|groups| ("groups", "g", groups.to_string())));
        }
        entries.extend(metric.settings());
        entries.push(("version", "v", concat!("swinseek-", env!("CARGO_PKG_VERSION")).to_owned()));
        Self(entries)
    }

    /// Keys and values in order.
    pub fn entries(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.iter().map(|(key, _, value)| (*key, value.as_str()))
    }

    /// The form with short keys.
    pub fn short(&self) -> String {
        join(self.0.iter().map(|(_, key, value)| (*key, value.as_str())))
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&join(self.0.iter().map(|(key, _, value)| (*key, value.as_str()))))
    }
}

fn join<'a>(entries: impl Iterator<Item = (&'static str, &'a str)>) -> String {
    entries.map(|(key, value)| format!("{key}:{value}")).collect::<Vec<String>>().join("|")
}

/// `yes` or `no`.
pub(crate) fn yes_no(value: bool) -> String {
    if value { "yes" } else { "no" }.to_owned()
}

/// The value of the key `case`.
pub(crate) fn case(lowercase: bool) -> String {
    if lowercase { "lc" } else { "mixed" }.to_owned()
}
