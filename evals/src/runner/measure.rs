//! The metrics of a run: a row of numbers for each item, rows that add up, a score of any sum.

use std::fmt;
use std::str::FromStr;

use rayon::iter::{IntoParallelRefIterator, ParallelIterator};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::bleu::{Bleu, BleuStats};
use crate::chrf::Chrf;
use crate::cider::{Cider, Frequencies};
use crate::coco::CocoBleu;
use crate::dataset::{Item, Task};
use crate::error::{Error, Result};
use crate::metric::{self, Count, Metric, Resampling, ResamplingKind, Segment, Signature};
use crate::nltk::{Method, NltkBleu};
use crate::profile::Profile;
use crate::resample::Bootstrap;
use crate::rouge::RougeL;
use crate::significance::Sample;
use crate::ter::Ter;
use crate::vqa::{VqaScore, VqaStats, is_closed};

/// Longest n-gram of BLEU.
const ORDERS: usize = 4;

/// A metric by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MetricName {
    /// BLEU, 0 to 100.
    Bleu,
    /// chrF2, 0 to 100; of the texts as they are, under every profile.
    Chrf,
    /// TER, from 0; less is better; of the texts as they are, under every profile.
    Ter,
    /// ROUGE-L of the caption evaluation, 0 to 100.
    RougeL,
    /// CIDEr-D of the caption evaluation, in hundredths, 0 to 1000.
    Cider,
    /// Share of answers that equal a reference, 0 to 1.
    Accuracy,
}

impl MetricName {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Bleu, Self::Chrf, Self::Ter, Self::RougeL, Self::Cider, Self::Accuracy];

    /// Its key in `result.json`, and how it is typed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bleu => "bleu",
            Self::Chrf => "chrf",
            Self::Ter => "ter",
            Self::RougeL => "rouge_l",
            Self::Cider => "cider",
            Self::Accuracy => "accuracy",
        }
    }

    /// What is computed when nothing is asked for.
    pub fn defaults(task: Task, profile: Profile) -> Vec<Self> {
        let mut metrics = vec![Self::Bleu];
        if is_coco(profile) {
            metrics.extend([Self::RougeL, Self::Cider]);
        }
        if task == Task::Question {
            metrics.push(Self::Accuracy);
        }
        metrics
    }
}

/// ROUGE-L and CIDEr-D are defined on the words of the caption evaluation and its descendants.
fn is_coco(profile: Profile) -> bool {
    !matches!(profile, Profile::Sacrebleu | Profile::Nltk)
}

impl fmt::Display for MetricName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for MetricName {
    type Err = Error;

    /// `rouge-l` is `rouge_l` too.
    fn from_str(name: &str) -> Result<Self> {
        let typed = name.to_lowercase().replace('-', "_");
        Self::ALL.into_iter().find(|metric| metric.name() == typed).ok_or_else(|| {
            let message = format!("`{name}`, expected one of {}", Self::ALL.map(Self::name).join(", "));
            Error::Setting { name: "metric", message }
        })
    }
}

/// A metric under a profile.
pub struct Measure {
    name: MetricName,
    /// None for the answers to questions.
    metric: Option<Under>,
}

/// A metric that names its profile in the signature.
struct Under {
    profile: Profile,
    metric: Box<dyn Metric>,
}

impl Metric for Under {
    fn name(&self) -> String {
        self.metric.name()
    }

    fn validate(&self) -> Result<()> {
        self.metric.validate()
    }

    fn width(&self) -> usize {
        self.metric.width()
    }

    fn counter(&self) -> Count<'_> {
        self.metric.counter()
    }

    fn score_sum(&self, sum: &[f64]) -> f64 {
        self.metric.score_sum(sum)
    }

    fn detail(&self, sum: &[f64]) -> Option<String> {
        self.metric.detail(sum)
    }

    fn settings(&self) -> Vec<(&'static str, &'static str, String)> {
        let profile = is_coco(self.profile).then(|| ("profile", "p", self.profile.name().to_owned()));
        profile.into_iter().chain(self.metric.settings()).collect()
    }
}

/// Mean of the CIDEr-D of each item, whose frequencies are only needed to count.
struct CiderMean;

impl Metric for CiderMean {
    fn name(&self) -> String {
        "CIDEr-D".to_owned()
    }

    fn validate(&self) -> Result<()> {
        Ok(())
    }

    fn width(&self) -> usize {
        2
    }

    /// Rows are made by [`Texts::rows`], which knows the frequencies.
    fn counter(&self) -> Count<'_> {
        Box::new(|_, _| {})
    }

    fn score_sum(&self, sum: &[f64]) -> f64 {
        100.0 * sum[0] / sum[1]
    }

    fn settings(&self) -> Vec<(&'static str, &'static str, String)> {
        vec![("arith", "a", "pycocoevalcap".to_owned())]
    }
}

impl Measure {
    /// The metric under a profile.
    ///
    /// # Errors
    /// [`Error::Setting`] when the profile does not define it.
    pub fn new(name: MetricName, profile: Profile) -> Result<Self> {
        let metric: Option<Box<dyn Metric>> = match (name, profile) {
            (MetricName::RougeL | MetricName::Cider, Profile::Sacrebleu | Profile::Nltk) => {
                let message = format!(
                    "`{name}` has no meaning under {profile}, expected --profile coco or another of its words"
                );
                return Err(Error::Setting { name: "metric", message });
            }
            (MetricName::Bleu, Profile::Sacrebleu) => Some(Box::new(Bleu::default())),
            (MetricName::Bleu, Profile::Nltk) => Some(Box::new(NltkBleu::new(ORDERS, Method::Zero))),
            (MetricName::Bleu, _) => Some(Box::new(CocoBleu::new(ORDERS))),
            (MetricName::Chrf, _) => Some(Box::new(Chrf::default())),
            (MetricName::Ter, _) => Some(Box::new(Ter::default())),
            (MetricName::RougeL, _) => Some(Box::new(RougeL)),
            (MetricName::Cider, _) => Some(Box::new(CiderMean)),
            (MetricName::Accuracy, _) => None,
        };
        Ok(Self { name, metric: metric.map(|metric| Under { profile, metric }) })
    }

    /// Which metric it is.
    pub fn name(&self) -> MetricName {
        self.name
    }

    /// Whether it reads texts as its profile prepares them.
    fn prepared(&self) -> bool {
        matches!(self.name, MetricName::Bleu | MetricName::RougeL | MetricName::Cider)
    }

    fn width(&self) -> usize {
        self.metric.as_ref().map_or(VQA_WIDTH, Metric::width)
    }

    /// The rows as something that can be resampled, whole groups at a time where there are some.
    ///
    /// # Errors
    /// [`Error::Input`] without rows, or when they do not have the metric's width.
    pub fn sample(&self, rows: &[Vec<f64>], groups: Option<&[String]>) -> Result<Sample<'_>> {
        let width = self.width();
        if let Some(odd) = rows.iter().position(|row| row.len() != width) {
            let found = rows[odd].len();
            let message = format!("{}: item {odd} has {found} numbers, expected {width}", self.name);
            return Err(Error::Input(message));
        }
        let sample = Sample::new(width, rows.concat(), |sum| match &self.metric {
            Some(metric) => metric.score_sum(sum),
            None => sum[1] / sum[0],
        })?;
        match groups {
            Some(groups) => sample.grouped(groups),
            None => Ok(sample),
        }
    }

    /// Its entry in `result.json`: score, interval, signature, and what it is made of. `references` is the number of
    /// references of every item, `None` when it varies.
    ///
    /// # Errors
    /// As [`Measure::sample`] and [`Sample::interval`].
    pub fn entry(
        &self,
        rows: &[Vec<f64>],
        groups: Option<&[String]>,
        references: Option<usize>,
        bootstrap: Bootstrap,
    ) -> Result<Value> {
        let sample = self.sample(rows, groups)?;
        let interval = sample.interval(bootstrap)?;
        let (sum, units) = (sample.sum(), sample.len());
        let mut entry = Map::new();
        entry.insert("score".into(), json!(sample.score()));
        if let Some(metric) = &self.metric {
            let (kind, groups) = (ResamplingKind::Bootstrap, groups.map(|_| units));
            let resampling = Resampling { kind, count: bootstrap.resamples, seed: bootstrap.seed, groups };
            entry.insert(
                "signature".into(),
                json!(Signature::new(metric, references, Some(resampling)).to_string()),
            );
        }
        let unit = if groups.is_some() { "group" } else { "item" };
        entry.insert(
            "interval".into(),
            json!({ "low": interval.low, "high": interval.high, "mean": interval.mean,
                    "resamples": bootstrap.resamples, "seed": bootstrap.seed, "unit": unit, "units": units }),
        );
        match self.name {
            MetricName::Bleu => bleu_parts(&sum, sample.score(), &mut entry),
            MetricName::Accuracy => vqa_parts(rows, groups, bootstrap, &mut entry)?,
            _ => {}
        }
        Ok(Value::Object(entry))
    }
}

/// Precisions and lengths behind a BLEU; the arithmetics differ in the zeros only.
fn bleu_parts(sum: &[f64], score: f64, entry: &mut Map<String, Value>) {
    let parts = Bleu::default().score(&BleuStats::from_row(sum));
    let plain = |(&correct, &total): (&u64, &u64)| {
        if total == 0 { 0.0 } else { 100.0 * correct as f64 / total as f64 }
    };
    // sacreBLEU shows the smoothed precisions that its score is made of.
    let precisions = if parts.score == score {
        parts.precisions.clone()
    } else {
        parts.stats.correct.iter().zip(&parts.stats.total).map(plain).collect()
    };
    entry.insert("precisions".into(), json!(precisions));
    entry.insert("bp".into(), json!(parts.brevity_penalty));
    entry.insert("ratio".into(), json!(parts.length_ratio()));
    entry.insert("hyp_len".into(), json!(parts.stats.hyp_len));
    entry.insert("ref_len".into(), json!(parts.stats.ref_len));
    entry.insert("correct".into(), json!(parts.stats.correct));
    entry.insert("total".into(), json!(parts.stats.total));
}

const VQA_WIDTH: usize = 6;

fn vqa_row(stats: VqaStats) -> Vec<f64> {
    let VqaStats { questions, right, closed, closed_right, open_recall, open_f1 } = stats;
    // Below 2^53 for two million questions, so exact.
    [questions, right, closed, closed_right, open_recall, open_f1].map(|count| count as f64).to_vec()
}

fn vqa_stats(row: &[f64]) -> VqaStats {
    let count = |place: usize| row.get(place).map_or(0, |&count| count as u64);
    VqaStats {
        questions: count(0),
        right: count(1),
        closed: count(2),
        closed_right: count(3),
        open_recall: count(4),
        open_f1: count(5),
    }
}

/// Closed and open questions apart.
fn vqa_parts(
    rows: &[Vec<f64>],
    groups: Option<&[String]>,
    bootstrap: Bootstrap,
    entry: &mut Map<String, Value>,
) -> Result<()> {
    let mut places = std::collections::HashMap::new();
    let mut units: Vec<VqaStats> = Vec::new();
    for (item, row) in rows.iter().enumerate() {
        let next = units.len();
        let place = groups.map_or(next, |groups| *places.entry(&groups[item]).or_insert(next));
        match units.get_mut(place) {
            Some(unit) => *unit += vqa_stats(row),
            None => units.push(vqa_stats(row)),
        }
    }
    let score = VqaScore::new(&units, bootstrap)?;
    entry.insert("closed".into(), json!(score.closed));
    entry.insert("open".into(), json!(score.open));
    entry.insert("open_recall".into(), json!(score.open_recall));
    entry.insert("open_f1".into(), json!(score.open_f1));
    Ok(())
}

/// The references of a split, as the metrics of a run read them.
pub(super) struct Texts<'a> {
    items: &'a [Item],
    profile: Profile,
    prepared: Vec<Vec<String>>,
    frequencies: Option<Frequencies>,
}

impl<'a> Texts<'a> {
    /// Prepares the references of all items, also those of other shards: CIDEr-D weighs words by how rare they are in them.
    pub(super) fn new(items: &'a [Item], profile: Profile, measures: &[Measure]) -> Self {
        let flat: Vec<&str> = items.iter().flat_map(|item| &item.references).map(String::as_str).collect();
        let mut prepared = profile.prepare_all(&flat).into_iter();
        let prepared: Vec<Vec<String>> =
            items.iter().map(|item| prepared.by_ref().take(item.references.len()).collect()).collect();
        let cider = measures.iter().any(|measure| measure.name == MetricName::Cider);
        let frequencies = cider.then(|| Frequencies::new(&prepared));
        Self { items, profile, prepared, frequencies }
    }

    /// The row of every item at `positions`. A hypothesis is prepared by itself, whatever stands next to it, so that shards
    /// give the rows of the whole.
    ///
    /// # Errors
    /// As [`metric::rows`].
    pub(super) fn rows(
        &self,
        measure: &Measure,
        positions: &[usize],
        hypotheses: &[&str],
    ) -> Result<Vec<Vec<f64>>> {
        let Some(metric) = &measure.metric else {
            let row = |(&position, hypothesis): (&usize, &&str)| {
                let item = &self.items[position];
                vqa_row(VqaStats::new(hypothesis, &item.references, is_closed(item)))
            };
            return Ok(positions.iter().zip(hypotheses).map(row).collect());
        };
        let ready: Vec<String> = if measure.prepared() {
            hypotheses.par_iter().map(|hypothesis| self.profile.prepare(hypothesis)).collect()
        } else {
            hypotheses.iter().map(|&hypothesis| hypothesis.to_owned()).collect()
        };
        let references: Vec<Vec<&str>> = positions
            .iter()
            .map(|&position| {
                let raw = &self.items[position].references;
                let list = if measure.prepared() { &self.prepared[position] } else { raw };
                list.iter().map(String::as_str).collect()
            })
            .collect();
        let segments: Vec<Segment<'_>> = ready
            .iter()
            .zip(&references)
            .map(|(hypothesis, references)| Segment { hypothesis, references })
            .collect();
        let rows = match &self.frequencies {
            Some(frequencies) if measure.name == MetricName::Cider => {
                metric::rows(&Cider { frequencies }, &segments)?
            }
            _ => metric::rows(metric, &segments)?,
        };
        Ok(rows.chunks_exact(metric.width()).map(<[f64]>::to_vec).collect())
    }
}
