//! Plain JSON lines, and the fields that they share with Parquet columns.

use std::path::Path;

use serde_json::{Map, Value};

use super::collect::{self, Collector, Found};
use super::layout::Source;
use super::{Item, Task};
use crate::error::Result;

pub(super) fn read(source: &Source, collector: &mut Collector<'_>) -> Result<Task> {
    let mut shape = Shape::default();
    for file in &source.files {
        let bytes = collector.file(file)?;
        for (number, line) in (1..).zip(bytes.split(|&byte| byte == b'\n')) {
            if collector.is_full() {
                break;
            }
            if line.trim_ascii().is_empty() {
                continue;
            }
            let found = match serde_json::from_slice::<Value>(line) {
                Ok(value) => collect::object(value).and_then(|record| {
                    shape.item(record, collector.split(), &source.root, || format!("{number}"))
                }),
                Err(error) => Err(error.to_string().replace(" at line 1 column", ", column")),
            };
            collector.take(file, &format_args!("line {number}"), found)?;
        }
    }
    Ok(shape.task.unwrap_or(Task::Report))
}

/// What the first record says about the rest.
#[derive(Default)]
pub(super) struct Shape {
    pub(super) task: Option<Task>,
}

impl Shape {
    /// The item of a record: `id`, `image` (or `images`, `image_path`), `question`, `references` (or `reference`,
    /// `report`, `caption`, `captions`, `answer`, `answers`), `split`, `group` (or `patient_id`, `subject_id`),
    /// `closed`. Unknown fields are kept.
    pub(super) fn item(
        &mut self,
        mut record: Map<String, Value>,
        split: super::Split,
        root: &Path,
        id: impl Fn() -> String,
    ) -> Found {
        if let Some(name) = collect::optional(&mut record, &["split"])?
            && name.parse::<super::Split>().map_err(|error| error.to_string())? != split
        {
            return Ok(None);
        }
        let question = collect::optional(&mut record, &["question"])?;
        let names = ["references", "reference", "report", "captions", "caption", "answers", "answer"];
        let (name, value) = collect::take_any(&mut record, &names)
            .ok_or_else(|| format!("field `{}` is missing", names.join("` or `")))?;
        let references = collect::as_texts(&name, value)?;
        if references.is_empty() {
            return Err(format!("field `{name}`: the list is empty"));
        }
        let task = match name.as_str() {
            _ if question.is_some() => Task::Question,
            "captions" | "caption" => Task::Caption,
            _ => Task::Report,
        };
        let expected = *self.task.get_or_insert(task);
        if (task == Task::Question) != (expected == Task::Question) {
            let has = if task == Task::Question { "has a" } else { "has no" };
            return Err(format!("field `question`: this record {has} question, unlike the first one"));
        }
        let images = match collect::take_any(&mut record, &["images", "image", "image_path"]) {
            Some((name, value)) => collect::as_texts(&name, value)?,
            None => Vec::new(),
        };
        let closed = match collect::take_any(&mut record, &["closed"]) {
            None => None,
            Some((_, Value::Bool(closed))) => Some(closed),
            Some((_, other)) => {
                return Err(format!(
                    "field `closed`: found {}, expected true or false",
                    collect::kind(&other)
                ));
            }
        };
        Ok(Some(Item {
            id: collect::optional(&mut record, &["id"])?.unwrap_or_else(id),
            images: images.iter().map(|image| root.join(image)).collect(),
            question,
            references,
            group: collect::optional(&mut record, &["group", "patient_id", "subject_id", "patient"])?,
            closed,
            extra: record,
        }))
    }
}
