//! Captions in CSV: Kaggle's copies of Flickr8k and Flickr30k, and the one with Karpathy's split as a column.

use std::path::Path;

use super::Split;
use super::collect::Collector;
use super::json::Checked;
use crate::error::{Error, Result};

/// Which columns hold what.
struct Columns {
    image: usize,
    caption: usize,
    split: Option<usize>,
    /// The captions are a JSON list in one field.
    list: bool,
}

/// Hands each caption of the collector's split to `push`.
pub(super) fn captions(
    file: &Path,
    bytes: &[u8],
    collector: &mut Collector<'_>,
    mut push: impl FnMut(String, String),
) -> Result<()> {
    let first = bytes.split(|&byte| byte == b'\n').next().unwrap_or_default();
    // `image_name| comment_number| comment`: captions hold commas and quotes, which mean nothing there.
    let bars = first.contains(&b'|');
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(if bars { b'|' } else { b',' })
        .quoting(!bars)
        .trim(if bars { csv::Trim::All } else { csv::Trim::Headers })
        .flexible(true)
        .from_reader(bytes);
    let fail = |message: String| Error::Data { origin: file.display().to_string(), message };
    let headers = reader.headers().map_err(|error| fail(error.to_string()))?.clone();
    let columns = Columns::of(&headers).map_err(|message| fail(format!("line 1: {message}")))?;
    for record in reader.records() {
        let line = match &record {
            Ok(record) => record.position().map_or(0, csv::Position::line),
            Err(error) => error.position().map_or(0, csv::Position::line),
        };
        let found = record.map_err(|error| error.to_string());
        let found = found.and_then(|record| columns.captions(&record, headers.len(), collector.split()));
        match found {
            Ok((image, captions)) => captions.into_iter().for_each(|caption| push(image.clone(), caption)),
            Err(message) => collector.bad(file, &format_args!("line {line}"), &message)?,
        }
    }
    Ok(())
}

impl Columns {
    fn of(headers: &csv::StringRecord) -> Checked<Self> {
        let find = |names: &[&str]| headers.iter().position(|header| names.contains(&header));
        let need = |names: &[&str]| {
            find(names).ok_or_else(|| {
                let found: Vec<&str> = headers.iter().collect();
                format!("column `{}` is missing, found `{}`", names.join("` or `"), found.join("`, `"))
            })
        };
        let list = find(&["raw"]);
        Ok(Self {
            image: need(&["image", "image_name", "filename"])?,
            caption: list.map_or_else(|| need(&["caption", "comment"]), Ok)?,
            split: find(&["split"]),
            list: list.is_some(),
        })
    }

    fn captions(
        &self,
        record: &csv::StringRecord,
        width: usize,
        split: Split,
    ) -> Checked<(String, Vec<String>)> {
        if record.len() != width {
            return Err(format!("found {} fields, expected {width}", record.len()));
        }
        let image = record[self.image].to_owned();
        if let Some(column) = self.split
            && record[column].parse::<Split>().map_err(|error| error.to_string())? != split
        {
            return Ok((image, Vec::new()));
        }
        let caption = &record[self.caption];
        if !self.list {
            return Ok((image, vec![caption.to_owned()]));
        }
        let captions = serde_json::from_str(caption)
            .map_err(|error| format!("column `raw`: {error}, expected a JSON list of texts"))?;
        Ok((image, captions))
    }
}
