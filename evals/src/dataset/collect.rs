//! Gathers the items of a split, and what was wrong with the rest.

use std::collections::{HashMap, HashSet};
use std::fmt::Display;
use std::path::Path;

use super::json::Checked;
use super::layout::Source;
use super::{Dataset, Item, OpenOptions, Split, Task, read_file};
use crate::error::{Error, Result};

/// One record: an item, nothing (of another split), or what is wrong with it.
pub(super) type Found = Checked<Option<Item>>;

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

    /// Counts a file in the hash that is too large to be held.
    pub(super) fn digest(&mut self, path: &Path) -> Result<()> {
        let read = std::fs::File::open(path).and_then(|file| self.hasher.update_reader(file).map(drop));
        read.map_err(|error| super::unreadable(path, &error))
    }

    /// As many items as were asked for are there.
    pub(super) fn is_full(&self) -> bool {
        self.options.limit.is_some_and(|limit| self.items.len() >= limit)
    }

    /// Takes one record of `file`; `place` is where it stands there.
    pub(super) fn take(&mut self, file: &Path, place: &dyn Display, found: Found) -> Result<()> {
        match found {
            Ok(Some(item)) => self.push(item),
            Ok(None) => {}
            Err(message) => self.bad(file, place, &message)?,
        }
        Ok(())
    }

    /// A bad record: an error, or one line more in the list of those left out.
    pub(super) fn bad(&mut self, file: &Path, place: &dyn Display, message: &str) -> Result<()> {
        let message = super::one_line(&format!("{place}: {message}"));
        let error = Error::Data { origin: file.display().to_string(), message };
        if self.options.skip_bad {
            self.skipped.push(error.to_string());
            return Ok(());
        }
        Err(error)
    }

    /// Results are kept by id, so that no two items may share one.
    fn push(&mut self, mut item: Item) {
        if self.is_full() {
            return;
        }
        let stem = item.id.clone();
        while !self.ids.insert(item.id.clone()) {
            let number = self.repeats.entry(stem.clone()).or_insert(1);
            *number += 1;
            item.id = format!("{stem}#{number}");
        }
        self.items.push(item);
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
