//! Finds the annotation files of a data set, and tells their layout.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::json::{self, Raw};
use super::layout::{Layout, Source};
use super::{OpenOptions, Split, read_file};
use crate::error::{Error, Result};

/// Where the annotations of each layout lie in its folder: `{split}` is any name of the split, `*` anything.
const PLACES: [(Layout, &[&str]); 11] = [
    (Layout::R2gen, &["annotation.json", "annotations.json", "reports.json"]),
    (Layout::Karpathy, &["dataset_*.json", "dataset.json"]),
    (Layout::CocoCaptions, &["annotations/captions_{split}*.json", "captions_{split}*.json"]),
    (Layout::Flickr8k, &["Flickr8k.token.txt", "Flickr8k_text/Flickr8k.token.txt", "captions.txt"]),
    (Layout::Flickr30k, &["results_20130124.token", "results.csv", "flickr_annotations_30k.csv"]),
    (Layout::EasyVqa, &["{split}/questions.json"]),
    (Layout::VqaMed, &["questions.json"]),
    (Layout::VqaRad, &["VQA_RAD*.json", "{split}set.json"]),
    (Layout::PathVqa, &["{split}_qa.json", "qas/{split}/{split}_qa.json", "qas/{split}_qa.json"]),
    (Layout::Slake, &["{split}.json"]),
    (Layout::Jsonl, &["{split}.jsonl", "data.jsonl", "dataset.jsonl", "annotations.jsonl"]),
];
/// Parts of one table, all of which are read.
const PARQUET: [&str; 3] = ["{split}*.parquet", "data/{split}*.parquet", "{split}/*.parquet"];
/// The list of the images of a split, beside the captions or above.
const LIST: &str = "*{split}Images.txt";

fn fail(path: &Path, message: String) -> Error {
    Error::Data { origin: path.display().to_string(), message }
}

/// The annotation files at `path`, a folder or a file.
pub(super) fn find(path: &Path, options: &OpenOptions) -> Result<Source> {
    let files = if path.is_dir() { in_folder(path, options)? } else { vec![path.to_owned()] };
    let file = files[0].as_path();
    let layout = match options.layout {
        Some(layout) => layout,
        None => tell(file)?,
    };
    let list = match layout {
        Layout::Flickr8k | Layout::Flickr30k => image_list(file, options.split)?,
        _ => None,
    };
    let folder = if path.is_dir() { path } else { path.parent().unwrap_or(Path::new("")) };
    Ok(Source { layout, named: path.to_owned(), root: folder.to_owned(), files, list })
}

/// Patterns of a layout; those of a variant are its original's.
fn patterns(layout: Option<Layout>) -> Vec<&'static str> {
    let layout = layout.map(|layout| match layout {
        Layout::R2genQuestions => Layout::R2gen,
        Layout::SlakeZh => Layout::Slake,
        other => other,
    });
    let single = PLACES.iter().filter(|(known, _)| layout.is_none_or(|layout| layout == *known));
    let single = single.flat_map(|(_, patterns)| patterns.iter().copied());
    let shards = layout.is_none_or(|layout| layout == Layout::Parquet);
    single.chain(PARQUET.into_iter().filter(|_| shards)).collect()
}

fn in_folder(folder: &Path, options: &OpenOptions) -> Result<Vec<PathBuf>> {
    let patterns = patterns(options.layout);
    for pattern in &patterns {
        let found = matches(folder, pattern, options.split);
        if found.len() > 1 && !pattern.ends_with(".parquet") {
            let names: Vec<String> = found.iter().map(|file| file.display().to_string()).collect();
            return Err(fail(folder, format!("several annotation files, name one: {}", names.join(", "))));
        }
        if !found.is_empty() {
            return Ok(found);
        }
    }
    let others: Vec<&str> = [Split::Train, Split::Val, Split::Test]
        .into_iter()
        .filter(|&split| patterns.iter().any(|pattern| !matches(folder, pattern, split).is_empty()))
        .map(Split::name)
        .collect();
    let split = options.split;
    Err(fail(
        folder,
        if !folder.is_dir() {
            "there is no such folder".into()
        } else if others.is_empty() {
            format!("no annotation file of split `{split}`, looked for {}", patterns.join(", "))
        } else {
            format!("no annotation file of split `{split}`, but of {}", others.join(", "))
        },
    ))
}

/// Files below `folder` that fit a pattern, in order of their names; the first name of the split that is used.
fn matches(folder: &Path, pattern: &str, split: Split) -> Vec<PathBuf> {
    let names: &[&str] = if pattern.contains("{split}") { split.names() } else { &[""] };
    let found = names.iter().map(|name| glob(folder, &pattern.replace("{split}", name)));
    found.into_iter().find(|files| !files.is_empty()).unwrap_or_default()
}

fn glob(folder: &Path, pattern: &str) -> Vec<PathBuf> {
    let path = folder.join(pattern);
    let Some((before, after)) = path.file_name().and_then(|name| name.to_str()?.split_once('*')) else {
        return if path.is_file() { vec![path] } else { Vec::new() };
    };
    let fits = |name: &str| {
        name.strip_prefix(before).is_some_and(|rest| rest.len() >= after.len() && rest.ends_with(after))
    };
    let entries = path.parent().and_then(|parent| std::fs::read_dir(parent).ok());
    let mut files: Vec<PathBuf> = entries
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_name().to_str().is_some_and(fits))
        .map(|entry| entry.path())
        .filter(|path| path.is_file())
        .collect();
    files.sort();
    files
}

/// The list of a split's images. Without a list of any split the captions are not divided.
fn image_list(file: &Path, split: Split) -> Result<Option<PathBuf>> {
    let folders = file.ancestors().skip(1).take(2);
    for folder in folders {
        let find = |split| matches(folder, LIST, split).into_iter().next();
        if let Some(list) = find(split) {
            return Ok(Some(list));
        }
        if [Split::Train, Split::Val, Split::Test].into_iter().any(|split| find(split).is_some()) {
            return Err(fail(folder, format!("there are lists of images, but none of split `{split}`")));
        }
    }
    Ok(None)
}

/// The layout of a file, from its name and, for JSON, from its first record.
fn tell(file: &Path) -> Result<Layout> {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let extension = file.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    match extension.as_str() {
        "jsonl" | "ndjson" => return Ok(Layout::Jsonl),
        "parquet" => return Ok(Layout::Parquet),
        "token" | "csv" | "txt" => {
            let larger = ["results", "30k", "20130124"].iter().any(|part| name.contains(part));
            return Ok(if larger { Layout::Flickr30k } else { Layout::Flickr8k });
        }
        "pkl" | "pickle" | "p" => {
            let message = "pickles run code when they are read; write the records as JSON lines";
            return Err(fail(file, message.into()));
        }
        _ => {}
    }
    let bytes = read_file(file)?;
    let list: Value = json::parse::<First<'_>>(&bytes, file)?.record();
    layout_of(&list).ok_or_else(|| {
        let known: Vec<&str> = Layout::ALL.iter().map(|layout| layout.name()).collect();
        fail(file, format!("the layout cannot be told, name one of {}", known.join(", ")))
    })
}

/// The outermost level of a JSON file.
#[derive(serde::Deserialize)]
#[serde(transparent)]
struct First<'a> {
    #[serde(borrow)]
    raw: Raw<'a>,
}

impl First<'_> {
    /// The file with only the first element of each list, so that a large one need not be held.
    fn record(&self) -> Value {
        fn first(raw: Raw<'_>) -> Value {
            match serde_json::from_str::<Vec<Raw<'_>>>(raw.get()) {
                Ok(list) => list.first().and_then(|raw| json::value(raw).ok()).into_iter().collect(),
                Err(_) => Value::Null,
            }
        }
        match serde_json::from_str::<BTreeMap<String, Raw<'_>>>(self.raw.get()) {
            Ok(keys) => keys.into_iter().map(|(key, raw)| (key, first(raw))).collect(),
            Err(_) => first(self.raw),
        }
    }
}

fn layout_of(file: &Value) -> Option<Layout> {
    let has = |record: &Value, key: &str| record.get(key).is_some();
    if let Some(record) = file.get(0) {
        return match record {
            Value::Array(_) => Some(Layout::EasyVqa),
            record if has(record, "img_name") => Some(Layout::Slake),
            record if has(record, "image_name") => Some(Layout::VqaRad),
            record if has(record, "image") && has(record, "question") => Some(Layout::PathVqa),
            _ => None,
        };
    }
    if let Some(image) = file.get("images").and_then(|images| images.get(0)) {
        return match image {
            image if has(image, "sentences") => Some(Layout::Karpathy),
            image if has(image, "questions") => Some(Layout::VqaMed),
            _ if has(file, "annotations") => Some(Layout::CocoCaptions),
            _ => None,
        };
    }
    let splits = [Split::Train, Split::Val, Split::Test];
    splits.iter().any(|split| split.names().iter().any(|name| has(file, name))).then_some(Layout::R2gen)
}

/// The folder of the pictures: the first of `folders` beside the file, or up to `climb` folders above; else the folder
/// of the file itself.
pub(super) fn image_root(file: &Path, climb: usize, folders: &[&str]) -> PathBuf {
    let above = file.ancestors().skip(1).take(climb + 1);
    let found = above.flat_map(|folder| folders.iter().map(|name| folder.join(name)));
    let own = file.parent().unwrap_or(Path::new(""));
    found.into_iter().find(|folder| folder.is_dir()).unwrap_or_else(|| own.to_owned())
}
