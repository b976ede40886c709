//! The audit file: one JSON object a line, each holding the hash of the line before it.
//!
//! A record is on disk before the engine sees the request: what cannot be recorded is not answered. The chain shows
//! changed, removed, inserted and re-ordered lines. That lines are missing at the end shows only against a head that was
//! noted elsewhere; the server logs its head when it starts and stops.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use serde_json::Value;

/// The `prev` of the first record.
const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";
/// No line is longer: a record has a few names and at most as many digests as a request has images.
const MAX_LINE: u64 = 1 << 20;
const HASH_FIELD: &str = ",\"hash\":\"";

/// What is recorded of a request: no content.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Record {
    /// `x-request-id` of the response.
    pub(super) request_id: String,
    /// Name of the API key, if there are keys.
    pub(super) caller: Option<String>,
    /// BLAKE3 of the `user` parameter, if given.
    pub(super) user: Option<String>,
    /// Path of the request.
    pub(super) endpoint: &'static str,
    /// Digest of the model.
    pub(super) model: String,
    /// BLAKE3 of each image file.
    pub(super) images: Vec<String>,
}

#[derive(Serialize)]
struct Line<'a> {
    seq: u64,
    /// Milliseconds since 1970, by the system's clock.
    time_ms: u64,
    #[serde(flatten)]
    record: &'a Record,
    prev: &'a str,
}

/// An open audit file.
#[derive(Debug)]
pub(super) struct Audit {
    path: PathBuf,
    tail: Mutex<Tail>,
}

#[derive(Debug)]
struct Tail {
    file: File,
    /// Length of the file up to the last whole record.
    length: u64,
    seq: u64,
    head: String,
}

impl Audit {
    /// Opens or creates a file and goes on with its chain. The file is locked: two servers would break the chain.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let name = path.display();
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .with_context(|| format!("{name}: cannot be opened"))?;
        file.try_lock().with_context(|| format!("{name}: is in use by another server"))?;
        let end = last_record(&mut file).with_context(|| name.to_string())?;
        let total = file.metadata()?.len();
        if total > end.length {
            // A record that was cut off by a crash was never answered.
            tracing::warn!(bytes = total - end.length, "the audit file ended in a part of a record: removed");
            file.set_len(end.length)?;
        }
        tracing::info!(records = end.seq, head = end.head, "audit file");
        let tail = Tail { file, length: end.length, seq: end.seq, head: end.head };
        Ok(Self { path: path.to_owned(), tail: Mutex::new(tail) })
    }

    /// Appends a record and waits until it is on disk.
    ///
    /// # Errors
    /// The disk is full or gone; the file is left at its last whole record.
    pub(super) fn append(&self, record: &Record) -> Result<()> {
        let mut tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        let time_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_millis() as u64);
        let seq = tail.seq + 1;
        let body = serde_json::to_string(&Line { seq, time_ms, record, prev: &tail.head })?;
        let hash = blake3::hash(body.as_bytes()).to_hex().to_string();
        let line = format!("{}{HASH_FIELD}{hash}\"}}\n", body.strip_suffix('}').unwrap_or(&body));
        let length = tail.length;
        let written = tail.file.seek(SeekFrom::Start(length)).and_then(|_| {
            tail.file.write_all(line.as_bytes())?;
            tail.file.sync_data()
        });
        if let Err(error) = written {
            // A partial line must not stay in front of the next record.
            let _ = tail.file.set_len(length);
            return Err(error).with_context(|| self.path.display().to_string());
        }
        tail.length += line.len() as u64;
        tail.seq = seq;
        tail.head = hash;
        Ok(())
    }

    /// Number of records and the last one's hash.
    pub(super) fn head(&self) -> (u64, String) {
        let tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        (tail.seq, tail.head.clone())
    }
}

/// Where a chain ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainEnd {
    /// Records.
    pub seq: u64,
    /// Hash of the last record.
    pub head: String,
    /// Bytes up to the end of the last record.
    length: u64,
}

impl ChainEnd {
    fn empty() -> Self {
        Self { seq: 0, head: GENESIS.to_owned(), length: 0 }
    }
}

/// Reads the last whole line only: a server must start quickly, whatever the file's length.
fn last_record(file: &mut File) -> Result<ChainEnd> {
    let total = file.metadata()?.len();
    let from = total.saturating_sub(2 * MAX_LINE);
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(2 * MAX_LINE).read_to_end(&mut bytes)?;
    let Some(end) = bytes.iter().rposition(|&b| b == b'\n') else {
        ensure!(from == 0 && total <= MAX_LINE, "is no audit file: it has no lines");
        return Ok(ChainEnd::empty());
    };
    let start = bytes[..end].iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1);
    let line = std::str::from_utf8(&bytes[start..end]).context("the last record is not UTF-8")?;
    let (seq, _, head) = check_line(line).context("the last record")?;
    Ok(ChainEnd { seq, head, length: from + end as u64 + 1 })
}

/// Number, `prev` and hash of a line whose own hash is right.
fn check_line(line: &str) -> Result<(u64, String, String)> {
    let (body, rest) = line.rsplit_once(HASH_FIELD).context("has no hash")?;
    let stated = rest.strip_suffix("\"}").context("does not end in its hash")?;
    let body = format!("{body}}}");
    let found = blake3::hash(body.as_bytes()).to_hex();
    ensure!(found.as_str() == stated, "was changed: its hash is {found}, the line says {stated}");
    let value: Value = serde_json::from_str(&body).context("is no JSON object")?;
    let seq = value["seq"].as_u64().context("has no seq")?;
    let prev = value["prev"].as_str().context("has no prev")?;
    Ok((seq, prev.to_owned(), stated.to_owned()))
}

/// Checks every record of a file.
///
/// # Errors
/// Names the first line that was changed, removed, inserted or moved.
pub fn verify(path: &Path) -> Result<ChainEnd> {
    let name = path.display();
    let file = File::open(path).with_context(|| format!("{name}: cannot be opened"))?;
    let mut reader = BufReader::new(file);
    let mut end = ChainEnd::empty();
    let mut line = String::new();
    loop {
        let number = end.seq + 1;
        line.clear();
        let read = (&mut reader).take(MAX_LINE).read_line(&mut line);
        if read.with_context(|| format!("{name}: line {number}"))? == 0 {
            return Ok(end);
        }
        let Some(text) = line.strip_suffix('\n') else {
            bail!("{name}: line {number}: is cut off");
        };
        let (seq, prev, hash) = check_line(text).with_context(|| format!("{name}: line {number}"))?;
        ensure!(
            seq == number && prev == end.head,
            "{name}: line {number}: does not follow the line before it (seq {seq}): lines were removed, added or moved"
        );
        end = ChainEnd { seq, head: hash, length: end.length + line.len() as u64 };
    }
}
