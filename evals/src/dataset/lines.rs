//! Plain JSON lines, and the fields that they share with Parquet columns.

use std::path::Path;

use serde_json::{Map, Value};

use super::collect::{Collector, Found};
use super::json;
use super::layout::Source;
use super::{Item, Split, Task};
use crate::error::Result;

pub(super) fn read(source: &Source, collector: &mut Collector<'_>) -> Result<Task> {
    let mut shape = Shape::new(collector.split(), &source.root);
    for file in &source.files {
        let bytes = collector.file(file)?;
        let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&bytes);
        for (number, line) in (1..).zip(bytes.split(|&byte| byte == b'\n')) {
            if collector.is_full() {
                break;
            }
            if line.trim_ascii().is_empty() {
                continue;
            }
            let found = match serde_json::from_slice::<Value>(line) {
                Ok(value) => json::object(value).and_then(|record| shape.item(record, || number.to_string())),
                Err(error) => Err(format!("column {}: {}", error.column(), json::without_place(&error))),
            };
            collector.take(file, &format_args!("line {number}"), found)?;
        }
    }
    Ok(shape.task())
}

/// Names of the references, and with them of the task.
const REFERENCES: [&str; 7] =
    ["references", "reference", "report", "captions", "caption", "answers", "answer"];

/// Names of the pictures.
pub(super) const IMAGES: [&str; 3] = ["images", "image", "image_path"];

/// Reads records; the first one says what the rest must be.
pub(super) struct Shape<'a> {
    split: Split,
    root: &'a Path,
    task: Option<Task>,
}

impl<'a> Shape<'a> {
    pub(super) fn new(split: Split, root: &'a Path) -> Self {
        Self { split, root, task: None }
    }

    pub(super) fn task(&self) -> Task {
        self.task.unwrap_or(Task::Report)
    }

    /// The item of a record: `id` (else what `id` says), [`IMAGES`], `question`, [`REFERENCES`], `split`, `group` (or `patient_id`, `subject_id`, `patient`), `closed`. Other fields are kept.
    pub(super) fn item(&mut self, mut record: Map<String, Value>, id: impl Fn() -> String) -> Found {
        if let Some(name) = json::optional(&mut record, &["split"])?
            && name.parse::<Split>().map_err(|error| error.to_string())? != self.split
        {
            return Ok(None);
        }
        let question = json::optional(&mut record, &["question"])?;
        let (name, value) = json::need(&mut record, &REFERENCES)?;
        let references = json::as_texts(name, value)?;
        if references.is_empty() {
            return Err(format!("field `{name}`: the list is empty"));
        }
        self.check_task(name, question.is_some())?;
        let images = match json::take(&mut record, &IMAGES) {
            Some((name, value)) => json::as_texts(name, value)?,
            None => Vec::new(),
        };
        let closed = match json::take(&mut record, &["closed"]) {
            None => None,
            Some((_, Value::Bool(closed))) => Some(closed),
            Some((_, other)) => {
                return Err(format!("field `closed`: found {}, expected true or false", json::kind(&other)));
            }
        };
        let group = json::optional(&mut record, &["group", "patient_id", "subject_id", "patient"])?;
        Ok(Some(Item {
            id: json::optional(&mut record, &["id"])?.unwrap_or_else(id),
            group: group.or_else(|| question.is_some().then(|| images.first().cloned()).flatten()),
            images: images.iter().map(|image| self.root.join(image)).collect(),
            question,
            references,
            closed,
            extra: record,
        }))
    }

    fn check_task(&mut self, references: &str, has_question: bool) -> json::Checked<()> {
        let task = match references {
            _ if has_question => Task::Question,
            "captions" | "caption" => Task::Caption,
            _ => Task::Report,
        };
        let first = *self.task.get_or_insert(task);
        if (task == Task::Question) == (first == Task::Question) {
            return Ok(());
        }
        let has = if has_question { "a" } else { "no" };
        Err(format!("field `question`: this record has {has} question, unlike the first one"))
    }
}
