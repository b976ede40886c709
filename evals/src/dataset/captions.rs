//! Captions: COCO, Karpathy's splits, the text files of Flickr8k and Flickr30k.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::collect::{Collector, Found};
use super::find::image_root;
use super::json::{self, Checked, Place, Raw};
use super::layout::Source;
use super::{Item, Split, Task};
use crate::error::Result;

fn item(id: String, image: PathBuf, references: Vec<String>, extra: Map<String, Value>) -> Item {
    Item { id, images: vec![image], question: None, references, group: None, closed: None, extra }
}

#[derive(Deserialize)]
struct Coco<'a> {
    #[serde(borrow)]
    images: Vec<Raw<'a>>,
    #[serde(borrow)]
    annotations: Vec<Raw<'a>>,
}

/// COCO: a list of images and a list of captions that point to them (Chen et al. 2015). Pictures are in the folder
/// named as the end of the file's name (`val2017`), or `images`.
pub(super) fn read_coco(source: &Source, collector: &mut Collector<'_>) -> Result<Task> {
    for file in &source.files {
        let bytes = collector.file(file)?;
        let coco: Coco<'_> = json::parse(&bytes, file)?;
        let mut captions: HashMap<String, Vec<String>> = HashMap::new();
        for (index, raw) in coco.annotations.iter().enumerate() {
            match coco_caption(raw) {
                Ok((image, caption)) => captions.entry(image).or_default().push(caption),
                Err(message) => {
                    let pointer = format_args!("/annotations/{index}");
                    collector.bad(file, &Place { file: &bytes, raw, pointer }, &message)?;
                }
            }
        }
        let stem = file.file_stem().unwrap_or_default().to_string_lossy();
        let folder = stem.rsplit('_').next().unwrap_or_default();
        let root = image_root(file, 1, &[folder, "images"]);
        for (index, raw) in coco.images.iter().enumerate() {
            if collector.is_full() {
                break;
            }
            let found = coco_item(raw, &mut captions, &root);
            let pointer = format_args!("/images/{index}");
            collector.take(file, &Place { file: &bytes, raw, pointer }, found)?;
        }
    }
    Ok(Task::Caption)
}

fn coco_caption(raw: Raw<'_>) -> Checked<(String, String)> {
    let mut record = json::record(raw)?;
    Ok((json::text(&mut record, &["image_id"])?, json::text(&mut record, &["caption"])?))
}

fn coco_item(raw: Raw<'_>, captions: &mut HashMap<String, Vec<String>>, root: &Path) -> Found {
    let mut record = json::record(raw)?;
    let id = json::text(&mut record, &["id"])?;
    let image = root.join(json::text(&mut record, &["file_name"])?);
    let references = captions.remove(&id).ok_or_else(|| format!("image {id} has no captions"))?;
    Ok(Some(item(id, image, references, record)))
}

#[derive(Deserialize)]
struct Karpathy<'a> {
    #[serde(borrow)]
    images: Vec<Raw<'a>>,
}

/// The splits of Karpathy and Fei-Fei (2015): each image with its sentences; `restval` counts as train.
pub(super) fn read_karpathy(source: &Source, collector: &mut Collector<'_>) -> Result<Task> {
    for file in &source.files {
        let bytes = collector.file(file)?;
        let list: Karpathy<'_> = json::parse(&bytes, file)?;
        let root = image_root(file, 0, &["images", "Images"]);
        for (index, raw) in list.images.iter().enumerate() {
            if collector.is_full() {
                break;
            }
            let found = karpathy_item(raw, collector.split(), &root);
            let pointer = format_args!("/images/{index}");
            collector.take(file, &Place { file: &bytes, raw, pointer }, found)?;
        }
    }
    Ok(Task::Caption)
}

fn karpathy_item(raw: Raw<'_>, split: Split, root: &Path) -> Found {
    let mut record = json::record(raw)?;
    if karpathy_split(&json::text(&mut record, &["split"])?)? != split {
        return Ok(None);
    }
    let name = json::text(&mut record, &["filename"])?;
    let folder = json::optional(&mut record, &["filepath"])?.unwrap_or_default();
    let (field, sentences) = json::need(&mut record, &["sentences"])?;
    let references = json::as_list(field, sentences)?
        .into_iter()
        .map(|sentence| json::text(&mut json::object(sentence)?, &["raw"]))
        .collect::<Checked<Vec<_>>>()?;
    let image = root.join(folder).join(&name);
    Ok(Some(item(name, image, references, record)))
}

fn karpathy_split(name: &str) -> Checked<Split> {
    match name {
        "restval" => Ok(Split::Train),
        other => other.parse().map_err(|error: crate::Error| format!("{error}, restval")),
    }
}

/// Captions of images in the order in which these first appear.
#[derive(Default)]
struct Captions {
    places: HashMap<String, usize>,
    images: Vec<(String, Vec<String>)>,
}

impl Captions {
    fn push(&mut self, image: String, caption: String) {
        let place = *self.places.entry(image.clone()).or_insert_with(|| {
            self.images.push((image, Vec::new()));
            self.images.len() - 1
        });
        self.images[place].1.push(caption);
    }
}

/// Flickr8k and Flickr30k: `name.jpg#0<TAB>caption` a line, or CSV. The split is that of the lists of image names beside
/// the file (`*testImages.txt`), or of a column; without either the file is the split.
pub(super) fn read_flickr(source: &Source, collector: &mut Collector<'_>) -> Result<Task> {
    for file in &source.files {
        let bytes = collector.file(file)?;
        let mut captions = Captions::default();
        let first = bytes.split(|&byte| byte == b'\n').next().unwrap_or_default();
        if first.contains(&b'\t') {
            token_lines(file, &bytes, collector, &mut captions)?;
        } else {
            super::table::captions(file, &bytes, collector, |image, caption| captions.push(image, caption))?;
        }
        let root = image_root(file, 1, &IMAGE_FOLDERS);
        let list = match source.list.as_deref() {
            None => captions.images,
            Some(list) => listed(list, captions, collector)?,
        };
        for (name, references) in list {
            let image = root.join(&name);
            collector.take(file, &"", Ok(Some(item(name, image, references, Map::new()))))?;
        }
    }
    Ok(Task::Caption)
}

/// As the archives and their mirrors name them.
const IMAGE_FOLDERS: [&str; 7] = [
    "Flicker8k_Dataset",
    "Flickr8k_Dataset",
    "flickr30k-images",
    "flickr30k_images",
    "Images",
    "images",
    "flickr30k_images/flickr30k_images",
];

fn token_lines(
    file: &Path,
    bytes: &[u8],
    collector: &mut Collector<'_>,
    captions: &mut Captions,
) -> Result<()> {
    for (number, line) in (1..).zip(bytes.split(|&byte| byte == b'\n')) {
        if line.trim_ascii().is_empty() {
            continue;
        }
        match token_line(line) {
            Ok((image, caption)) => captions.push(image, caption),
            Err(message) => collector.bad(file, &format_args!("line {number}"), &message)?,
        }
    }
    Ok(())
}

fn token_line(line: &[u8]) -> Checked<(String, String)> {
    let line = utf8(line)?;
    let expected = "expected `name#number`, a tab and a caption";
    let (key, caption) = line.split_once('\t').ok_or_else(|| format!("no tab, {expected}"))?;
    let (image, number) = key.rsplit_once('#').ok_or_else(|| format!("no `#` in `{key}`, {expected}"))?;
    if image.is_empty() || number.parse::<u32>().is_err() {
        return Err(format!("`{key}`, {expected}"));
    }
    Ok((image.to_owned(), caption.trim_end().to_owned()))
}

fn utf8(line: &[u8]) -> Checked<&str> {
    std::str::from_utf8(line)
        .map_err(|error| format!("invalid UTF-8 at byte {} of the line", error.valid_up_to() + 1))
}

/// The images of a list, in its order.
fn listed(
    list: &Path,
    mut captions: Captions,
    collector: &mut Collector<'_>,
) -> Result<Vec<(String, Vec<String>)>> {
    let bytes = collector.file(list)?;
    let mut found = Vec::new();
    for (number, line) in (1..).zip(bytes.split(|&byte| byte == b'\n')) {
        let taken = match utf8(line.trim_ascii()) {
            Ok("") => continue,
            Ok(name) => captions
                .places
                .remove(name)
                .map(|place| std::mem::take(&mut captions.images[place]))
                .ok_or_else(|| format!("`{name}` has no captions, or is listed twice")),
            Err(message) => Err(message),
        };
        match taken {
            Ok(image) => found.push(image),
            Err(message) => collector.bad(list, &format_args!("line {number}"), &message)?,
        }
    }
    Ok(found)
}
