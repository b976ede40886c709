//! The metrics of a run: a row of numbers for each item, rows that add up, a score of any sum.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::bleu::{Bleu, BleuStats};
use crate::chrf::Chrf;
use crate::dataset::Task;
use crate::detection::normalize_answer;
use crate::error::{Error, Result};
use crate::metric::{self, Metric, Resampling, ResamplingKind, Segment, Signature};
use crate::resample::Bootstrap;
use crate::significance::Sample;
use crate::ter::Ter;

/// A metric by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MetricName {
    /// BLEU, 0 to 100.
    Bleu,
    /// chrF2, 0 to 100.
    Chrf,
    /// TER, from 0; less is better.
    Ter,
    /// Share of answers that equal a reference, 0 to 1.
    Accuracy,
}

impl MetricName {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Bleu, Self::Chrf, Self::Ter, Self::Accuracy];

    /// Its key in `result.json`, and how it is typed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bleu => "bleu",
            Self::Chrf => "chrf",
            Self::Ter => "ter",
            Self::Accuracy => "accuracy",
        }
    }

    /// What is computed when nothing is asked for.
    pub fn defaults(task: Task) -> Vec<Self> {
        match task {
            Task::Report | Task::Caption => vec![Self::Bleu],
            Task::Question => vec![Self::Bleu, Self::Accuracy],
        }
    }
}

impl fmt::Display for MetricName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for MetricName {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|metric| metric.name() == name).ok_or_else(|| {
            let message = format!("`{name}`, expected one of {}", Self::ALL.map(Self::name).join(", "));
            Error::Setting { name: "metric", message }
        })
    }
}

/// A protocol: tokenisation and arithmetic under which a field publishes its scores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// sacreBLEU's defaults.
    #[default]
    Sacrebleu,
}

impl Profile {
    /// All of them.
    pub const ALL: [Self; 1] = [Self::Sacrebleu];

    /// As it is typed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sacrebleu => "sacrebleu",
        }
    }
}

impl FromStr for Profile {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|profile| profile.name() == name).ok_or_else(|| {
            let message = format!("`{name}`, expected one of {}", Self::ALL.map(Self::name).join(", "));
            Error::Setting { name: "profile", message }
        })
    }
}

/// What a metric is given of an item.
#[derive(Clone, Copy, Debug)]
pub struct Answered<'a> {
    /// What was written.
    pub hypothesis: &'a str,
    /// What is right.
    pub references: &'a [&'a str],
}

/// A metric with its settings.
pub struct Measure {
    name: MetricName,
    arithmetic: Arithmetic,
}

enum Arithmetic {
    Bleu(Bleu),
    Corpus(Box<dyn Metric>),
    /// The mean of one value an item.
    Mean(fn(&Answered<'_>) -> f64),
}

impl Measure {
    /// The metric under a profile.
    pub fn new(name: MetricName, profile: Profile) -> Self {
        let arithmetic = match (name, profile) {
            (MetricName::Bleu, Profile::Sacrebleu) => Arithmetic::Bleu(Bleu::default()),
            (MetricName::Chrf, _) => Arithmetic::Corpus(Box::new(Chrf::default())),
            (MetricName::Ter, _) => Arithmetic::Corpus(Box::new(Ter::default())),
            (MetricName::Accuracy, _) => Arithmetic::Mean(exact),
        };
        Self { name, arithmetic }
    }

    /// Which metric it is.
    pub fn name(&self) -> MetricName {
        self.name
    }

    fn metric(&self) -> Option<&dyn Metric> {
        match &self.arithmetic {
            Arithmetic::Bleu(bleu) => Some(bleu),
            Arithmetic::Corpus(metric) => Some(metric.as_ref()),
            Arithmetic::Mean(_) => None,
        }
    }

    /// The row of every item.
    ///
    /// # Errors
    /// As [`metric::rows`].
    pub fn rows(&self, answers: &[Answered<'_>]) -> Result<Vec<Vec<f64>>> {
        let Some(metric) = self.metric() else {
            let Arithmetic::Mean(value) = &self.arithmetic else { return Ok(Vec::new()) };
            return Ok(answers.iter().map(|answer| vec![value(answer), 1.0]).collect());
        };
        let segments: Vec<Segment<'_>> = answers
            .iter()
            .map(|answer| Segment { hypothesis: answer.hypothesis, references: answer.references })
            .collect();
        let rows = metric::rows(metric, &segments)?;
        Ok(rows.chunks_exact(metric.width()).map(<[f64]>::to_vec).collect())
    }

    /// The rows as something that can be resampled, whole groups at a time where there are some.
    ///
    /// # Errors
    /// [`Error::Input`] without rows, or when they do not have the metric's width.
    pub fn sample(&self, rows: &[Vec<f64>], groups: Option<&[String]>) -> Result<Sample<'_>> {
        let width = self.metric().map_or(2, Metric::width);
        if let Some(odd) = rows.iter().position(|row| row.len() != width) {
            let found = rows[odd].len();
            let message = format!("{}: item {odd} has {found} numbers, expected {width}", self.name);
            return Err(Error::Input(message));
        }
        let sample = Sample::new(width, rows.concat(), |sum| self.score(sum))?;
        match groups {
            Some(groups) => sample.grouped(groups),
            None => Ok(sample),
        }
    }

    /// Score of a sum of rows.
    pub fn score(&self, sum: &[f64]) -> f64 {
        match self.metric() {
            Some(metric) => metric.score_sum(sum),
            None => sum[0] / sum[1],
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
        let mut entry = Map::new();
        entry.insert("score".into(), json!(sample.score()));
        if let Some(metric) = self.metric() {
            let resampling = Resampling {
                kind: ResamplingKind::Bootstrap,
                count: bootstrap.resamples,
                seed: bootstrap.seed,
                groups: groups.map(|_| sample.len()),
            };
            let signature = Signature::new(metric, references, Some(resampling)).to_string();
            entry.insert("signature".into(), json!(signature));
        }
        entry.insert(
            "interval".into(),
            json!({ "low": interval.low, "high": interval.high, "mean": interval.mean,
                    "resamples": bootstrap.resamples, "seed": bootstrap.seed,
                    "unit": if groups.is_some() { "group" } else { "item" }, "units": sample.len() }),
        );
        if let Arithmetic::Bleu(bleu) = &self.arithmetic {
            bleu_parts(bleu, &sample.sum(), &mut entry);
        }
        Ok(Value::Object(entry))
    }
}

fn bleu_parts(bleu: &Bleu, sum: &[f64], entry: &mut Map<String, Value>) {
    let whole: Vec<u64> = sum.iter().map(|&count| count as u64).collect();
    let (correct, total) = whole[2..].split_at(bleu.max_order);
    let stats =
        BleuStats { hyp_len: whole[0], ref_len: whole[1], correct: correct.to_vec(), total: total.to_vec() };
    let score = bleu.score(&stats);
    entry.insert("precisions".into(), json!(score.precisions));
    entry.insert("bp".into(), json!(score.brevity_penalty));
    entry.insert("ratio".into(), json!(score.length_ratio()));
    entry.insert("hyp_len".into(), json!(stats.hyp_len));
    entry.insert("ref_len".into(), json!(stats.ref_len));
    entry.insert("correct".into(), json!(stats.correct));
    entry.insert("total".into(), json!(stats.total));
}

/// 1 when the answer is one of the right ones, after [`normalize_answer`].
fn exact(answer: &Answered<'_>) -> f64 {
    let found = normalize_answer(answer.hypothesis);
    let right = answer.references.iter().any(|reference| normalize_answer(reference) == found);
    f64::from(u8::from(right))
}
