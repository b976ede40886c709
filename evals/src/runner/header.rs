//! `run.json`: what the answers of a run depend on.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use rayon::iter::{IntoParallelRefIterator, ParallelIterator};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{RUN, Shard};
use crate::dataset::{Dataset, Item, Task, image_bytes};
use crate::error::{Error, Result};

/// Which data the run is over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DataFacts {
    /// Name of its folder or file.
    pub name: String,
    /// Where it was; may change between the parts of a run.
    pub path: PathBuf,
    /// How its files are laid out.
    pub layout: String,
    /// What is to be written.
    pub task: Task,
    /// The split.
    pub split: String,
    /// Items of the split, those of other shards included.
    pub n: usize,
    /// Bad records that were left out.
    pub skipped: usize,
    /// Digest of the annotation files, hexadecimal.
    pub hash: String,
    /// [`images_digest`] of the pictures.
    pub images: String,
}

impl DataFacts {
    /// Of a data set that was read from `path`.
    pub fn new(path: &Path, dataset: &Dataset) -> Self {
        let full = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let name = full.file_name().unwrap_or(full.as_os_str()).to_string_lossy().into_owned();
        Self {
            name,
            path: full,
            layout: dataset.layout.to_string(),
            task: dataset.task,
            split: dataset.split.to_string(),
            n: dataset.items.len(),
            skipped: dataset.skipped.len(),
            hash: dataset.hash.clone(),
            images: images_digest(&dataset.items),
        }
    }
}

/// BLAKE3 over the digests of all pictures of `items`, each file once, in the order in which they first appear. A file
/// that cannot be read counts as that; the run names it.
pub fn images_digest(items: &[Item]) -> String {
    let mut seen = HashSet::new();
    let paths: Vec<&PathBuf> =
        items.iter().flat_map(|item| &item.images).filter(|&path| seen.insert(path)).collect();
    let digests: Vec<Option<blake3::Hash>> =
        paths.par_iter().map(|path| image_bytes(path).ok().map(|bytes| blake3::hash(&bytes))).collect();
    let mut hasher = blake3::Hasher::new();
    for digest in digests {
        hasher.update(digest.as_ref().map_or(b"missing", |digest| digest.as_bytes().as_slice()));
    }
    hasher.finalize().to_hex().to_string()
}

/// Everything that the answers of a run depend on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// Version of this program.
    pub swinseek: String,
    /// The data.
    pub data: DataFacts,
    /// The candidate's description of itself.
    pub model: Value,
    /// What is asked about every item that has no question of its own.
    pub prompt: String,
    /// Seed of noise and sampling.
    pub seed: u64,
    /// Most tokens an answer.
    pub max_tokens: usize,
    /// Which part of the data set.
    pub shard: Shard,
}

impl Header {
    /// Reads the header in `dir`; `None` when there is none.
    ///
    /// # Errors
    /// [`Error::Data`] when it cannot be read or is not one.
    pub fn read(dir: &Path) -> Result<Option<Self>> {
        let path = dir.join(RUN);
        let fail = |message: String| Error::Data { origin: path.display().to_string(), message };
        match std::fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(fail(format!("cannot be read: {error}"))),
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| fail(error.to_string())),
        }
    }

    /// The first field in which `other` differs: its name, our value, its value. The place of the data may differ, and the
    /// shard when `any_shard`.
    pub fn difference(&self, other: &Self, any_shard: bool) -> Option<(String, String, String)> {
        let comparable = |header: &Self| {
            let mut header = header.clone();
            header.data.path = PathBuf::new();
            if any_shard {
                header.shard = Shard::WHOLE;
            }
            serde_json::to_value(header).unwrap_or_default()
        };
        first_difference("", &comparable(self), &comparable(other))
    }

    /// A digest of everything that counts in [`Header::difference`], for names.
    pub fn digest(&self) -> String {
        let mut header = self.clone();
        header.data.path = PathBuf::new();
        let text = serde_json::to_string(&header).unwrap_or_default();
        blake3::hash(text.as_bytes()).to_hex().to_string()
    }
}

fn first_difference(name: &str, ours: &Value, theirs: &Value) -> Option<(String, String, String)> {
    if let (Value::Object(ours), Value::Object(theirs)) = (ours, theirs) {
        let mut keys = ours.keys().chain(theirs.keys().filter(|key| !ours.contains_key(*key)));
        return keys.find_map(|key| {
            let name = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
            let null = Value::Null;
            first_difference(&name, ours.get(key).unwrap_or(&null), theirs.get(key).unwrap_or(&null))
        });
    }
    (ours != theirs).then(|| (name.to_owned(), ours.to_string(), theirs.to_string()))
}
