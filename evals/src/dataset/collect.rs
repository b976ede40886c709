//! Gathers the items of a split, and what was wrong with the rest.

use std::collections::{HashMap, HashSet};
use std::fmt::Display;
use std::path::Path;

use serde_json::{Map, Value};

use super::layout::Source;
use super::{Dataset, Item, OpenOptions, Split, Task, read_file};
use crate::error::{Error, Result};

/// One record: an item, nothing (of another split), or what is wrong with it.
pub(super) type Found = std::result::Result<Option<Item>, String>;

pub(super) struct Collector<'a> {
    options: &'a OpenOptions,
    items: Vec<Item>,
    ids: HashSet<String>,
    repeats: HashMap<String, usize>,
    skipped: Vec<String>,
    hasher: blake3::Hasher,
}

impl<'a> Collector<'a> {
    pub(super) fn new(options: &'a OpenOptions) -> Self {
        Self {
            options,
            items: Vec::new(),
            ids: HashSet::new(),
            repeats: HashMap::new(),
            skipped: Vec::new(),
            hasher: blake3::Hasher::new(),
        }
    }

    pub(super) fn split(&self) -> Split {
        self.options.split
    }

    /// Reads an annotation file, which then counts in the hash.
    pub(super) fn file(&mut self, path: &Path) -> Result<Vec<u8>> {
        let bytes = read_file(path)?;
        self.hasher.update(&bytes);
        Ok(bytes)
    }

    /// As many items as were asked for are there.
    pub(super) fn is_full(&self) -> bool {
        self.options.limit.is_some_and(|limit| self.items.len() >= limit)
    }

    /// Takes one record of `file`; `place` is where it stands there.
    pub(super) fn take(&mut self, file: &Path, place: &dyn Display, found: Found) -> Result<()> {
        match found {
            Ok(Some(_)) if self.is_full() => {}
            Ok(Some(item)) => {
                let item = self.named(item);
                self.items.push(item);
            }
            Ok(None) => {}
            Err(message) => {
                let error = Error::Data {
                    origin: file.display().to_string(),
                    message: format!("{place}: {message}"),
                };
                if !self.options.skip_bad {
                    return Err(error);
                }
                self.skipped.push(error.to_string());
            }
        }
        Ok(())
    }

    /// Results are kept by id, so that no two items may share one.
    fn named(&mut self, mut item: Item) -> Item {
        while !self.ids.insert(item.id.clone()) {
            let stem = item.id.rsplit_once('#').map_or(item.id.as_str(), |(stem, _)| stem).to_owned();
            let number = self.repeats.entry(stem.clone()).or_insert(1);
            *number += 1;
            item.id = format!("{stem}#{number}");
        }
        item
    }

    pub(super) fn finish(self, source: &Source, task: Task) -> Result<Dataset> {
        if self.items.is_empty() {
            let skipped = match self.skipped.first() {
                Some(first) => format!("; {} bad records, the first: {first}", self.skipped.len()),
                None => String::new(),
            };
            let message =
                format!("no item of split `{}` in layout {}{skipped}", self.options.split, source.layout);
            return Err(Error::Data { origin: source.named.display().to_string(), message });
        }
        Ok(Dataset {
            layout: source.layout,
            task,
            split: self.options.split,
            items: self.items,
            skipped: self.skipped,
            hash: self.hasher.finalize().to_hex().to_string(),
        })
    }
}

/// What a JSON value is, for messages.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// Takes the first of `names` that is there and not null out of a record.
pub(super) fn take_any(record: &mut Map<String, Value>, names: &[&str]) -> Option<(String, Value)> {
    names.iter().find_map(|name| {
        record.get(*name).filter(|value| !value.is_null())?;
        record.shift_remove(*name).map(|value| ((*name).to_owned(), value))
    })
}

/// Text; a number counts as its digits.
pub(super) fn as_text(name: &str, value: Value) -> std::result::Result<String, String> {
    match value {
        Value::String(text) => Ok(text),
        Value::Number(number) => Ok(number.to_string()),
        other => Err(format!("field `{name}`: found {}, expected text", kind(&other))),
    }
}

/// A text, or a list of them.
pub(super) fn as_texts(name: &str, value: Value) -> std::result::Result<Vec<String>, String> {
    match value {
        Value::Array(values) => values.into_iter().map(|value| as_text(name, value)).collect(),
        other => Ok(vec![as_text(name, other)?]),
    }
}

/// A text that must be there, under the first of `names` that is.
pub(super) fn text(record: &mut Map<String, Value>, names: &[&str]) -> std::result::Result<String, String> {
    let (name, value) =
        take_any(record, names).ok_or_else(|| format!("field `{}` is missing", names.join("` or `")))?;
    as_text(&name, value)
}

/// A text that may be left out.
pub(super) fn optional(
    record: &mut Map<String, Value>,
    names: &[&str],
) -> std::result::Result<Option<String>, String> {
    take_any(record, names).map(|(name, value)| as_text(&name, value)).transpose()
}

/// A record must be an object.
pub(super) fn object(value: Value) -> std::result::Result<Map<String, Value>, String> {
    match value {
        Value::Object(record) => Ok(record),
        other => Err(format!("found {}, expected an object", kind(&other))),
    }
}
