//! `hypotheses.jsonl`: answers are appended as they come and survive a kill.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// One item and what was written about it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// Position of the item in its split, from 0.
    pub index: usize,
    /// Its name in the data set.
    pub id: String,
    /// The question, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub question: Option<String>,
    /// What was written; absent when `error` is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hypothesis: Option<String>,
    /// Why nothing was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What it is compared with.
    pub references: Vec<String>,
    /// The pictures, relative to the data folder where they lie in it.
    pub images: Vec<PathBuf>,
}

impl Line {
    /// What is scored: an item without an answer counts as an empty one, so that no system gains by failing.
    pub fn text(&self) -> &str {
        self.hypothesis.as_deref().unwrap_or_default()
    }
}

/// The file, open for writing, with what it already holds.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    file: File,
    lines: HashMap<usize, Line>,
    /// Item of the last line of the file.
    last: Option<usize>,
    /// The file holds exactly `lines`, in item order.
    tidy: bool,
}

impl Log {
    /// Opens or makes the file. A torn last line (the process was killed while it wrote) is cut off; lines of failed items
    /// are forgotten, so that they are asked for again.
    ///
    /// # Errors
    /// [`Error::Data`] when the file cannot be opened, another process is writing it, or a whole line of it is not a
    /// [`Line`].
    pub fn open(path: &Path) -> Result<Self> {
        let fail = |message: String| Error::Data { origin: path.display().to_string(), message };
        let cannot = |error: std::io::Error| fail(format!("cannot be opened: {error}"));
        let mut options = OpenOptions::new();
        let mut file =
            options.read(true).write(true).create(true).truncate(false).open(path).map_err(cannot)?;
        // A file system without locks is no reason to refuse.
        if let Err(std::fs::TryLockError::WouldBlock) = file.try_lock() {
            return Err(fail("another run is writing here".into()));
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(cannot)?;
        let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        file.set_len(whole as u64).and_then(|()| file.seek(SeekFrom::End(0))).map_err(cannot)?;
        let (mut lines, mut last, mut tidy) = (HashMap::new(), None, true);
        for (number, text) in bytes[..whole].split_inclusive(|&byte| byte == b'\n').enumerate() {
            let line: Line = serde_json::from_slice(text)
                .map_err(|error| fail(format!("line {}: {error}", number + 1)))?;
            let failed = line.hypothesis.is_none();
            tidy &= last < Some(line.index) && !failed;
            last = Some(line.index);
            if !failed {
                lines.insert(line.index, line);
            }
        }
        Ok(Self { path: path.to_owned(), file, lines, last, tidy })
    }

    /// The line of an item, if it is there.
    pub fn get(&self, index: usize) -> Option<&Line> {
        self.lines.get(&index)
    }

    /// Writes a line at once.
    ///
    /// # Errors
    /// [`Error::Data`] when it cannot be written.
    pub fn push(&mut self, line: Line) -> Result<()> {
        let bytes = encode(&line);
        self.file.write_all(&bytes).map_err(|error| self.unwritable(&error))?;
        self.tidy &= self.last < Some(line.index);
        self.last = Some(line.index);
        self.lines.insert(line.index, line);
        Ok(())
    }

    /// The lines in item order; the file is put in that order if it is not.
    ///
    /// # Errors
    /// [`Error::Data`] when the file cannot be written.
    pub fn finish(self) -> Result<Vec<Line>> {
        let error = |error: std::io::Error| self.unwritable(&error);
        let mut lines: Vec<Line> = self.lines.values().cloned().collect();
        lines.sort_unstable_by_key(|line| line.index);
        if !self.tidy {
            replace(&self.path, &encode_all(&lines)).map_err(error)?;
        }
        Ok(lines)
    }

    fn unwritable(&self, error: &std::io::Error) -> Error {
        unwritable(&self.path, error)
    }
}

fn encode(line: &Line) -> Vec<u8> {
    // A line is texts and numbers: it always has a JSON form.
    let mut bytes = serde_json::to_vec(line).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

/// The file that holds `lines`.
pub fn encode_all(lines: &[Line]) -> Vec<u8> {
    lines.iter().flat_map(encode).collect()
}

fn unwritable(path: &Path, error: &std::io::Error) -> Error {
    Error::Data { origin: path.display().to_string(), message: format!("cannot be written: {error}") }
}

fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    std::fs::write(&part, bytes).and_then(|()| std::fs::rename(&part, path))
}

/// Puts `bytes` in place of `path` at once: a reader sees the old file or the new one.
///
/// # Errors
/// [`Error::Data`] when the file cannot be written.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    replace(path, bytes).map_err(|error| unwritable(path, &error))
}

/// Reads a finished file of lines.
///
/// # Errors
/// [`Error::Data`] with file and line.
pub(super) fn read(path: &Path) -> Result<Vec<Line>> {
    let fail = |message: String| Error::Data { origin: path.display().to_string(), message };
    let text = std::fs::read_to_string(path).map_err(|error| fail(format!("cannot be read: {error}")))?;
    let line = |(number, line): (usize, &str)| {
        serde_json::from_str(line).map_err(|error| fail(format!("line {}: {error}", number + 1)))
    };
    text.lines().enumerate().map(line).collect()
}
