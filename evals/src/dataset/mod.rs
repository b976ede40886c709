//! Data sets as published: pictures, questions and references, one list whatever the layout.
//!
//! [`open`] reads a folder or an annotation file. The pictures themselves are not opened; [`image_bytes`] reads one
//! when it is wanted.

mod captions;
mod collect;
mod columns;
mod find;
mod json;
mod layout;
mod lines;
mod questions;
mod r2gen;
mod table;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{Error, Result};
use collect::Collector;
pub use layout::Layout;
pub use r2gen::{Annotations, Entry, Split};

/// What is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// A report on the pictures of a study.
    Report,
    /// A sentence about a picture.
    Caption,
    /// The answer to a question about a picture.
    Question,
}

/// One thing to be written, with what it is compared with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Item {
    /// Its name in the set; a name used before gets `#2`, `#3`, …
    pub id: String,
    /// Its pictures, resolved against the data folder; they are not looked for.
    pub images: Vec<PathBuf>,
    /// The question, when the task is one.
    pub question: Option<String>,
    /// Texts that are right, at least one.
    pub references: Vec<String>,
    /// What resampling draws as a whole: the patient where it is known, else the picture where a picture has several
    /// questions.
    pub group: Option<String>,
    /// Whether the question is a closed one (yes or no, or a choice), where the set says so.
    pub closed: Option<bool>,
    /// The other fields of the record, such as `findings` and `labels`.
    pub extra: Map<String, Value>,
}

/// The items of one split.
#[derive(Clone, Debug, PartialEq)]
pub struct Dataset {
    /// How the files are laid out.
    pub layout: Layout,
    /// What is to be written.
    pub task: Task,
    /// The split that was asked for.
    pub split: Split,
    /// Its items, in the order of the file; at least one.
    pub items: Vec<Item>,
    /// One line for each bad record that was left out: file, line or record, what was wrong.
    pub skipped: Vec<String>,
    /// BLAKE3 of the annotation files that were read, one after the other, in hexadecimal digits.
    pub hash: String,
}

/// What to read and what to do with bad records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenOptions {
    /// The split. A file that knows no splits is the split asked for.
    pub split: Split,
    /// The layout; told from the files when `None`.
    pub layout: Option<Layout>,
    /// Leaves bad records out and names them in [`Dataset::skipped`]; else the first one is an error.
    pub skip_bad: bool,
    /// At most this many items, from the beginning.
    pub limit: Option<usize>,
}

impl Default for OpenOptions {
    /// The whole test split, without a bad record.
    fn default() -> Self {
        Self { split: Split::Test, layout: None, skip_bad: false, limit: None }
    }
}

/// Reads the items of a split.
///
/// # Errors
/// [`Error::Data`] when no annotation file is found at `path`, it cannot be read, it has no item of this split, or a
/// record is bad and bad ones are not to be skipped; it names the file and the line or record.
pub fn open(path: &Path, options: &OpenOptions) -> Result<Dataset> {
    read(path, options).map_err(|error| match error {
        Error::Data { origin, message } => Error::Data { origin, message: one_line(&message) },
        other => other,
    })
}

/// A message may quote the file: without its line ends, and not at any length.
fn one_line(message: &str) -> String {
    const MOST: usize = 1000;
    let shown = |c: char| if c.is_control() { c.escape_default().collect() } else { vec![c] };
    message.chars().take(MOST).flat_map(shown).collect()
}

fn read(path: &Path, options: &OpenOptions) -> Result<Dataset> {
    let source = find::find(path, options)?;
    let mut collector = Collector::new(options);
    let read = match source.layout {
        Layout::R2gen => r2gen::read,
        Layout::R2genQuestions => questions::read_r2gen,
        Layout::CocoCaptions => captions::read_coco,
        Layout::Karpathy => captions::read_karpathy,
        Layout::Flickr8k | Layout::Flickr30k => captions::read_flickr,
        Layout::VqaRad => questions::read_vqa_rad,
        Layout::Slake | Layout::SlakeZh => questions::read_slake,
        Layout::PathVqa => questions::read_path_vqa,
        Layout::EasyVqa => questions::read_easy_vqa,
        Layout::VqaMed => questions::read_vqa_med,
        Layout::Jsonl => lines::read,
        Layout::Parquet => columns::read,
    };
    let task = read(&source, &mut collector)?;
    collector.finish(&source, task)
}

/// The bytes of a picture of an [`Item`]: of a file, or of a row of a Parquet file that holds its pictures, whose path is
/// `FILE.parquet/ROW/COLUMN` with rows from 0.
///
/// # Errors
/// [`Error::Data`] when it cannot be read.
pub fn image_bytes(path: &Path) -> Result<Vec<u8>> {
    match columns::inside(path) {
        Some(place) => columns::image(&place),
        None => read_file(path),
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| unreadable(path, &error))
}

fn unreadable(path: &Path, error: &std::io::Error) -> Error {
    Error::Data { origin: path.display().to_string(), message: format!("cannot be read: {error}") }
}
