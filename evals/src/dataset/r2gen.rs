//! R2Gen's `annotation.json` (Chen et al. 2020; IU X-Ray, MIMIC-CXR), and our extension of it by several references and
//! findings.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::collect::{Collector, Found};
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
        match name {
            "train" => Ok(Self::Train),
            "val" | "valid" | "validation" => Ok(Self::Val),
            "test" => Ok(Self::Test),
            _ => Err(Error::Setting {
                name: "split",
                message: format!("`{name}`, expected one of train, val, test"),
            }),
        }
    }
}

/// One study.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Study id; numbers are read as text.
    #[serde(deserialize_with = "text_or_number")]
    pub id: String,
    /// The report.
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
    /// Reads the file; `origin` names it in errors. A key of blanks is the test split: a published copy of IU X-Ray
    /// spells it so.
    ///
    /// # Errors
    /// [`Error::Data`] with line, column and field.
    pub fn from_json(bytes: &[u8], origin: &str) -> Result<Self> {
        let fail = |message: String| Error::Data { origin: origin.to_owned(), message };
        let mut splits: BTreeMap<String, Vec<Entry>> =
            serde_json::from_slice(bytes).map_err(|error| fail(error.to_string()))?;
        let mut take =
            |names: &[&str]| names.iter().find_map(|name| splits.remove(*name)).unwrap_or_default();
        let mut annotations = Self { train: take(&["train"]), val: take(&["val"]), test: take(&["test"]) };
        for (name, entries) in splits {
            if !name.trim().is_empty() || !annotations.test.is_empty() {
                return Err(fail(format!("`{name}`: unknown split, expected train, val and test")));
            }
            annotations.test = entries;
        }
        Ok(annotations)
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
    let images = source.root.join("images");
    let root = if images.is_dir() { images } else { source.root.clone() };
    let split = collector.split();
    for file in &source.files {
        let bytes = collector.file(file)?;
        let annotations = Annotations::from_json(&bytes, &file.display().to_string())?;
        for (index, entry) in annotations.split(split).iter().enumerate() {
            collector.take(file, &format_args!("/{split}/{index}"), item(entry.clone(), &root))?;
        }
    }
    Ok(Task::Report)
}

fn item(mut entry: Entry, root: &std::path::Path) -> Found {
    let references = if entry.references.is_empty() { vec![entry.report] } else { entry.references };
    if !entry.findings.is_empty() {
        entry.other.insert("findings".into(), Value::Array(entry.findings));
    }
    let group = ["subject_id", "patient_id", "patient", "group"]
        .iter()
        .find_map(|name| entry.other.get(*name))
        .map(|id| id.as_str().map_or_else(|| id.to_string(), str::to_owned));
    Ok(Some(Item {
        id: entry.id,
        images: entry.image_path.iter().map(|path| root.join(path)).collect(),
        question: None,
        references,
        group,
        closed: None,
        extra: entry.other,
    }))
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
