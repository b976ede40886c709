//! `shard.json`: all that the scores of a run, or of a part of it, are made of.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::measure::Texts;
use super::{Header, Line, Measure, MetricName};
use crate::bleu::Bleu;
use crate::dataset::{Dataset, Item, Task};
use crate::error::{Error, Result};
use crate::floors::{constant_text, random_texts};
use crate::profile::Profile;
use crate::resample::Bootstrap;
use crate::vqa;

/// Sentence scores that the choice of a constant text may cost: a second or two.
const CONSTANT_COST: usize = 200_000;

/// Rows of one metric over the items of a shard.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rows {
    /// The metric.
    pub metric: MetricName,
    /// A row an item, in item order; whole numbers are written as such.
    #[serde(serialize_with = "write_rows", deserialize_with = "read_rows")]
    pub rows: Vec<Vec<f64>>,
}

/// The model or a floor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct System {
    /// `model`, `constant`, `random`, `majority`, `majority_by_kind`, `question_only` or `blind`.
    pub name: String,
    /// The text that answers everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Why it has no rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unavailable: Option<String>,
    /// Its rows by metric.
    pub measures: Vec<Rows>,
}

/// The file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Statistics {
    /// The run that it is of.
    pub run: Header,
    /// Settings of the metrics.
    pub profile: Profile,
    /// How intervals are made.
    pub bootstrap: Bootstrap,
    /// Groups that are resampled as a whole (patients), by item.
    pub groups: Option<Vec<String>>,
    /// Fewest and most references of an item; none without items.
    pub references: Option<(usize, usize)>,
    /// Items without an answer; they count as empty ones.
    pub errors: usize,
    /// Whether each answer stands word for word in the train split; none without one.
    pub verbatim: Option<Vec<u8>>,
    /// The model, then the floors.
    pub systems: Vec<System>,
}

/// The texts of a floor, one for every item of the split.
#[derive(Clone, Debug, PartialEq)]
pub struct Floor {
    /// Its name in `result.json`.
    pub name: String,
    /// The texts, or why there are none.
    pub texts: std::result::Result<Vec<String>, String>,
    /// Whether all texts are the same one, to be shown.
    pub constant: bool,
}

/// What every system must beat, and what it may have learnt by heart.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Floors {
    /// The floors.
    pub floors: Vec<Floor>,
    /// Texts of the train split.
    pub train: Option<Vec<String>>,
}

/// The floors of `dataset` that need no model: a constant text and a random one of the train split; for questions the
/// majority answer and the most frequent answer to the same question. The constant is the one with the best BLEU on
/// `validation`, or on the train split when there is none. `train` may be the reason why there is none.
///
/// # Errors
/// As [`constant_text`] and [`random_texts`].
pub fn floors(
    dataset: &Dataset,
    train: std::result::Result<&Dataset, String>,
    validation: Option<&Dataset>,
    seed: u64,
) -> Result<Floors> {
    let names: &[&str] = match dataset.task {
        Task::Question => &["majority", "majority_by_kind", "question_only", "random"],
        Task::Report | Task::Caption => &["constant", "random"],
    };
    let train = match train {
        Ok(train) => train,
        Err(reason) => {
            let floor = |name: &str| {
                let texts = Err(reason.clone());
                Floor { name: name.to_owned(), texts, constant: false }
            };
            return Ok(Floors { floors: names.iter().map(|name| floor(name)).collect(), train: None });
        }
    };
    let texts: Vec<&str> = train.items.iter().flat_map(|item| &item.references).map(String::as_str).collect();
    let n = dataset.items.len();
    let owned = |texts: Vec<&str>| texts.into_iter().map(str::to_owned).collect::<Vec<String>>();
    let mut texts_of: Vec<(&str, Vec<String>)> = if dataset.task == Task::Question {
        vqa::floor_answers(&dataset.items, &train.items)?
    } else {
        vec![("constant", owned(vec![constant(&texts, validation.unwrap_or(train), seed)?; n]))]
    };
    texts_of.push(("random", owned(random_texts(&texts, n, seed)?)));
    let floor = |(name, texts): (&str, Vec<String>)| {
        let constant = matches!(name, "constant" | "majority");
        Floor { name: name.replace('-', "_"), texts: Ok(texts), constant }
    };
    let floors = texts_of.into_iter().map(floor).collect();
    Ok(Floors { floors, train: Some(owned(texts)) })
}

fn constant<'a>(texts: &[&'a str], validation: &Dataset, seed: u64) -> Result<&'a str> {
    let references: Vec<Vec<&str>> = validation.items.iter().map(references).collect();
    let references: Vec<&[&str]> = references.iter().map(Vec::as_slice).collect();
    let tries = (CONSTANT_COST / references.len().max(1)).max(1);
    constant_text(&Bleu::default(), texts, &references, tries, seed)
}

fn references(item: &Item) -> Vec<&str> {
    item.references.iter().map(String::as_str).collect()
}

impl Statistics {
    /// Counts the lines of a run (all items of its shard, in order), those of the blind run if there was one, and the floors.
    ///
    /// # Errors
    /// [`Error::Input`] when a line is missing; [`Error::Setting`] for a metric that the profile does not define.
    pub fn new(
        run: Header,
        (metrics, profile, bootstrap): (&[MetricName], Profile, Bootstrap),
        items: &[Item],
        lines: &[Line],
        blind: Option<&[Line]>,
        floors: &Floors,
    ) -> Result<Self> {
        let positions = run.shard.positions(items.len());
        let measures: Vec<Measure> =
            metrics.iter().map(|&name| Measure::new(name, profile)).collect::<Result<_>>()?;
        let prepared = Texts::new(items, profile, &measures);
        let system = |name: &str, texts: Vec<&str>| -> Result<System> {
            let rows = |measure: &Measure| {
                Ok(Rows { metric: measure.name(), rows: prepared.rows(measure, &positions, &texts)? })
            };
            let measures = measures.iter().map(rows).collect::<Result<_>>()?;
            Ok(System { name: name.to_owned(), text: None, unavailable: None, measures })
        };
        let mut systems = vec![system("model", texts_of(lines, &positions)?)?];
        for floor in &floors.floors {
            systems.push(match &floor.texts {
                Ok(texts) => {
                    let own = positions.iter().map(|&position| texts[position].as_str()).collect();
                    let text = texts.first().filter(|_| floor.constant).cloned();
                    System { text, ..system(&floor.name, own)? }
                }
                Err(reason) => System {
                    name: floor.name.clone(),
                    text: None,
                    unavailable: Some(reason.clone()),
                    measures: Vec::new(),
                },
            });
        }
        if let Some(blind) = blind {
            systems.push(system("blind", texts_of(blind, &positions)?)?);
        }
        let counts = positions.iter().map(|&position| items[position].references.len());
        Ok(Self {
            groups: groups(items, &positions),
            references: counts.clone().min().zip(counts.max()),
            errors: lines.iter().filter(|line| line.hypothesis.is_none()).count(),
            verbatim: floors.train.as_ref().map(|train| verbatim(lines, train)),
            run,
            profile,
            bootstrap,
            systems,
        })
    }

    /// References of every item, `None` when that varies.
    pub fn references_per_item(&self) -> Option<usize> {
        self.references.filter(|(fewest, most)| fewest == most).map(|(count, _)| count)
    }
}

fn texts_of<'a>(lines: &'a [Line], positions: &[usize]) -> Result<Vec<&'a str>> {
    if !lines.iter().map(|line| line.index).eq(positions.iter().copied()) {
        let message = format!("{} answers to {} items, expected one each", lines.len(), positions.len());
        return Err(Error::Input(message));
    }
    Ok(lines.iter().map(Line::text).collect())
}

/// Only where a group has several items: else items are drawn, and a signature need not speak of groups.
fn groups(items: &[Item], positions: &[usize]) -> Option<Vec<String>> {
    let mut seen = std::collections::HashSet::new();
    let several = items.iter().filter_map(|item| item.group.as_deref()).any(|group| !seen.insert(group));
    several.then(|| {
        let own = |&position: &usize| {
            let item: &Item = &items[position];
            item.group.clone().unwrap_or_else(|| item.id.clone())
        };
        positions.iter().map(own).collect()
    })
}

fn verbatim(lines: &[Line], train: &[String]) -> Vec<u8> {
    let known: std::collections::HashSet<&str> = train.iter().map(String::as_str).collect();
    lines.iter().map(|line| u8::from(known.contains(line.text()))).collect()
}

/// Counts are whole numbers in `f64`; as whole numbers they take half the room.
fn write_rows<S: Serializer>(rows: &[Vec<f64>], serializer: S) -> std::result::Result<S::Ok, S::Error> {
    let number = |&value: &f64| {
        let whole = value as i64;
        if whole as f64 == value { serde_json::Value::from(whole) } else { serde_json::Value::from(value) }
    };
    serializer.collect_seq(rows.iter().map(|row| row.iter().map(number).collect::<Vec<_>>()))
}

fn read_rows<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Vec<Vec<f64>>, D::Error> {
    Vec::deserialize(deserializer)
}
