//! R2Gen's `annotation.json` (Chen et al. 2020; IU X-Ray, MIMIC-CXR), and our extension of it by several references and
//! findings.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::collect::Collector;
use super::find::image_root;
use super::json::{self, Checked, Place, Raw};
use super::layout::Source;
use super::{Item, Task};
use crate::error::{Error, Result};

/// Part of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// Seen in training.
    Train,
    /// For choices during training.
    Val,
    /// Never looked at before the end.
    Test,
}

impl Split {
    /// What files call it; our own name first.
    pub(super) fn names(self) -> &'static [&'static str] {
        match self {
            Self::Train => &["train"],
            Self::Val => &["val", "valid", "validation", "validate", "dev"],
            Self::Test => &["test"],
        }
    }

    /// Its key in the file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Val => "val",
            Self::Test => "test",
        }
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Split {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let all = [Self::Train, Self::Val, Self::Test];
        all.into_iter().find(|split| split.names().contains(&name)).ok_or_else(|| Error::Setting {
            name: "split",
            message: format!("`{name}`, expected one of train, val, test"),
        })
    }
}

/// One study.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Study id; numbers are read as text.
    #[serde(deserialize_with = "text_or_number")]
    pub id: String,
    /// The report.
    #[serde(deserialize_with = "report")]
    pub report: String,
    /// Its images, relative to the image folder; a single path is read as a list of one.
    #[serde(deserialize_with = "one_or_many")]
    pub image_path: Vec<String>,
    /// The split once more, as R2Gen writes it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub split: String,
    /// All references where there are several; `report` is one of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub references: Vec<String>,
    /// What is to be seen, in the words of the data set.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Value>,
    /// Fields that we do not know, kept for writing.
    #[serde(flatten)]
    pub other: serde_json::Map<String, Value>,
}

impl Entry {
    /// What a hypothesis is compared with: the references, or the report when there are none.
    pub fn targets(&self) -> Vec<&str> {
        if self.references.is_empty() {
            return vec![&self.report];
        }
        self.references.iter().map(String::as_str).collect()
    }
}

/// A whole file.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Annotations {
    /// Training studies.
    pub train: Vec<Entry>,
    /// Validation studies.
    pub val: Vec<Entry>,
    /// Test studies.
    pub test: Vec<Entry>,
}

impl Annotations {
    /// Reads the file; `origin` names it in errors.
    ///
    /// # Errors
    /// [`Error::Data`] with line, column and field.
    pub fn from_json(bytes: &[u8], origin: &str) -> Result<Self> {
        let fail = |message: String| Error::Data { origin: origin.to_owned(), message };
        let keys = serde_json::from_slice(bytes).map_err(|error| fail(error.to_string()))?;
        let [train, val, test] = by_split(keys).map_err(fail)?;
        Ok(Self { train, val, test })
    }

    /// The studies of a split.
    pub fn split(&self, split: Split) -> &[Entry] {
        match split {
            Split::Train => &self.train,
            Split::Val => &self.val,
            Split::Test => &self.test,
        }
    }
}

/// Reads the studies of a split. Pictures are relative to `images/` where that folder is, as R2Gen has it.
pub(super) fn read(source: &Source, collector: &mut Collector<'_>) -> Result<Task> {
    each(source, collector, |collector, file, place, found| collector.take(file, place, found.map(Some)))?;
    Ok(Task::Report)
}

/// Hands each study of the split to `take`, with its file and its place there.
pub(super) fn each<'a>(
    source: &Source,
    collector: &mut Collector<'a>,
    take: impl Fn(&mut Collector<'a>, &Path, &Place<'_>, Checked<Item>) -> Result<()>,
) -> Result<()> {
    for file in &source.files {
        let bytes = collector.file(file)?;
        let root = image_root(file, 0, &["images"]);
        let fail = |message: String| Error::Data { origin: file.display().to_string(), message };
        let split = collector.split();
        let splits = by_split::<Raw<'_>>(json::parse(&bytes, file)?).map_err(fail)?;
        for (index, raw) in splits[split as usize].iter().enumerate() {
            if collector.is_full() {
                break;
            }
            let found = json::record(raw).and_then(|record| item(record.into(), &root));
            let pointer = format_args!("/{split}/{index}");
            take(collector, file, &Place { file: &bytes, raw, pointer }, found)?;
        }
    }
    Ok(())
}

fn item(value: Value, root: &Path) -> Checked<Item> {
    let mut entry = Entry::deserialize(value).map_err(|error| json::without_place(&error))?;
    let references = if entry.references.is_empty() { vec![entry.report] } else { entry.references };
    if !entry.findings.is_empty() {
        entry.other.insert("findings".into(), Value::Array(entry.findings));
    }
    let group = json::optional(&mut entry.other, &["subject_id", "patient_id", "patient", "group"])?;
    Ok(Item {
        id: entry.id,
        images: entry.image_path.iter().map(|path| root.join(path)).collect(),
        question: None,
        references,
        group,
        closed: None,
        extra: entry.other,
    })
}

/// Train, validation and test by their keys. A key of blanks is the test split: a published copy of IU X-Ray spells it
/// so.
fn by_split<T>(mut keys: BTreeMap<String, Vec<T>>) -> Checked<[Vec<T>; 3]> {
    let mut splits = [Split::Train, Split::Val, Split::Test]
        .map(|split| split.names().iter().find_map(|name| keys.remove(*name)).unwrap_or_default());
    for (name, entries) in keys {
        if !name.trim().is_empty() || !splits[2].is_empty() {
            return Err(format!("`{name}`: unknown split, expected train, val and test"));
        }
        splits[2] = entries;
    }
    Ok(splits)
}

fn report<'de, D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<String, D::Error> {
    String::deserialize(deserializer)
        .map_err(|error| serde::de::Error::custom(format!("field `report`: {error}")))
}

fn text_or_number<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<String, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "field `id` must be text or a number")]
    enum Id {
        Text(String),
        Number(serde_json::Number),
    }
    Ok(match Id::deserialize(deserializer)? {
        Id::Text(text) => text,
        Id::Number(number) => number.to_string(),
    })
}

fn one_or_many<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "field `image_path` must be a path or a list of paths")]
    enum Paths {
        One(String),
        Many(Vec<String>),
    }
    Ok(match Paths::deserialize(deserializer)? {
        Paths::One(path) => vec![path],
        Paths::Many(paths) => paths,
    })
}
