//! Training records: an image, a prompt, the answer to learn, and where the findings are.
//!
//! A data set is sampled, not walked: record `i` of a micro-batch is a function of (seed, step, micro-batch, i) alone,
//! so a resumed run sees what the uninterrupted one would have seen, on any number of threads.

mod annotated;
mod augment;
mod easy_vqa;
mod labels;
pub mod phantom;

use anyhow::Result;
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use swinseek_vision::preprocess::{DecodeOptions, Image, Region};

use super::recipe::{DataTable, SourceTable};

pub use augment::{augment, jitter};

/// Where a finding is.
#[derive(Debug, Clone, PartialEq)]
pub struct FindingBox {
    /// Name of the finding's class, as in `fusion.findings_head.classes`.
    pub class: String,
    /// In pixels of the picture.
    pub region: Region,
}

/// One record before tokenisation.
#[derive(Debug, Clone)]
pub struct Record {
    /// The decoded picture.
    pub image: Image,
    /// The question or instruction.
    pub prompt: String,
    /// What the model should say.
    pub answer: String,
    /// Its findings; `None` when the data set has no boxes.
    pub findings: Option<Vec<FindingBox>>,
}

/// A data set that can be sampled.
pub trait Source: Send + Sync {
    /// A record drawn with `rng`.
    fn draw(&self, rng: &mut ChaCha8Rng) -> Result<Record>;
    /// A prompt and an answer, without the cost of the picture; feeds the tokenizer's training.
    fn text(&self, rng: &mut ChaCha8Rng) -> Result<(String, String)>;
}

/// One entry of the mixture.
pub struct DataSet {
    /// Name in metrics.
    pub name: String,
    /// The recipe's table.
    pub table: DataTable,
    source: Box<dyn Source>,
}

/// All data sets of a recipe.
pub struct Mixture {
    sets: Vec<DataSet>,
    seed: u64,
}

/// A generator for one purpose, independent of every other: hashes the seed, a purpose and two counters.
pub fn stream(seed: u64, purpose: &str, a: u64, b: u64) -> ChaCha8Rng {
    let mut hasher = blake3::Hasher::new();
    hasher.update(purpose.as_bytes());
    for number in [seed, a, b] {
        hasher.update(&number.to_le_bytes());
    }
    ChaCha8Rng::from_seed(*hasher.finalize().as_bytes())
}

impl Mixture {
    /// Opens every data set of the recipe.
    pub fn open(tables: &[DataTable], seed: u64) -> Result<Self> {
        let open = |table: &DataTable| -> Result<DataSet> {
            let (name, source): (&str, Box<dyn Source>) = match &table.source {
                SourceTable::Phantom { seed, task, size } => {
                    (phantom::name(*task), Box::new(phantom::Phantom::new(*seed, *task, *size)))
                }
                SourceTable::Annotations { dir, split } => {
                    ("annotations", Box::new(annotated::Annotated::open(dir, split)?))
                }
                SourceTable::EasyVqa { dir, split } => {
                    ("easy_vqa", Box::new(easy_vqa::EasyVqa::open(dir, split)?))
                }
                SourceTable::Labels { dir, column, split, questions, answers } => {
                    (column, Box::new(labels::Labels::open(dir, column, split, questions, answers)?))
                }
            };
            Ok(DataSet { name: name.to_owned(), table: table.clone(), source })
        };
        Ok(Self { sets: tables.iter().map(open).collect::<Result<_>>()?, seed })
    }

    /// The data set that micro-batch `micro` of `step` draws from.
    pub fn choose(&self, step: u64, micro: u64) -> &DataSet {
        let total: f64 = self.sets.iter().map(|set| set.table.weight).sum();
        let mut point = stream(self.seed, "mixture", step, micro).random::<f64>() * total;
        for set in &self.sets {
            point -= set.table.weight;
            if point < 0.0 {
                return set;
            }
        }
        &self.sets[self.sets.len() - 1]
    }

    /// The records of that micro-batch.
    pub fn records(&self, step: u64, micro: u64) -> Result<(&DataSet, Vec<Record>)> {
        let set = self.choose(step, micro);
        let mut rng = stream(self.seed, "records", step, micro);
        let records = (0..set.table.rows).map(|_| {
            let record = set.source.draw(&mut rng)?;
            let record = if set.table.augment { augment(record, &mut rng)? } else { record };
            if set.table.jitter > 0.0 { jitter(record, set.table.jitter, &mut rng) } else { Ok(record) }
        });
        Ok((set, records.collect::<Result<_>>()?))
    }

    /// `count` prompts and answers, in the proportions of the mixture.
    pub fn texts(&self, count: usize) -> Result<Vec<String>> {
        let mut texts = Vec::with_capacity(2 * count);
        for index in 0..count as u64 {
            let set = self.choose(index, u64::MAX);
            let (prompt, answer) = set.source.text(&mut stream(self.seed, "texts", index, 0))?;
            texts.extend([prompt, answer]);
        }
        Ok(texts)
    }
}

/// Reads a picture file of a data set.
fn read_image(path: &std::path::Path) -> Result<Image> {
    use anyhow::Context;
    let bytes = std::fs::read(path).with_context(|| format!("{}: cannot be read", path.display()))?;
    swinseek_vision::preprocess::decode(&bytes, &DecodeOptions::default())
        .with_context(|| path.display().to_string())
}
