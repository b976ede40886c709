//! Text files as lines: UTF-8, ended by `\n`, plain or compressed with gzip or Zstandard (told by the first bytes).

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use crate::error::{Error, Result};
use crate::tokenize::strip_end;

/// A file that is read from front to back.
pub struct Lines {
    name: String,
    reader: Box<dyn BufRead + Send>,
    /// Lines read so far.
    count: u64,
}

/// Consecutive lines in one buffer.
#[derive(Debug, Default)]
pub struct Chunk {
    text: String,
    /// End of each line in `text`.
    ends: Vec<usize>,
}

impl Chunk {
    /// How many lines there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no line.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The lines without white space at their ends, as Python's `rstrip` sees it.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        let begins = std::iter::once(0).chain(self.ends.iter().copied());
        begins.zip(&self.ends).map(|(begin, &end)| strip_end(&self.text[begin..end]))
    }
}

impl Lines {
    /// Opens a file; `-` is standard input.
    ///
    /// # Errors
    /// [`Error::Data`] when there is no such file.
    pub fn open(path: &Path) -> Result<Self> {
        if path.as_os_str() == "-" {
            return Self::new("standard input", io::stdin());
        }
        let name = path.display().to_string();
        match File::open(path) {
            Ok(file) => Self::new(&name, file),
            Err(error) => Err(data(&name, format!("cannot be opened: {error}"))),
        }
    }

    /// Reads from `source`, which errors call `name`.
    ///
    /// # Errors
    /// [`Error::Data`] when the first bytes cannot be read.
    pub fn new(name: &str, source: impl Read + Send + 'static) -> Result<Self> {
        const BUFFER: usize = 1 << 18;
        let unreadable = |error: io::Error| data(name, format!("cannot be read: {error}"));
        let mut source = source;
        let mut magic = Vec::with_capacity(4);
        source.by_ref().take(4).read_to_end(&mut magic).map_err(unreadable)?;
        let kind = magic.clone();
        let whole = BufReader::with_capacity(BUFFER, io::Cursor::new(magic).chain(source));
        let reader: Box<dyn BufRead + Send> = match kind.as_slice() {
            [0x1f, 0x8b, ..] => {
                Box::new(BufReader::with_capacity(BUFFER, flate2::bufread::MultiGzDecoder::new(whole)))
            }
            [0x28, 0xb5, 0x2f, 0xfd] => {
                let decoder = zstd::Decoder::with_buffer(whole).map_err(unreadable)?;
                Box::new(BufReader::with_capacity(BUFFER, decoder))
            }
            _ => Box::new(whole),
        };
        Ok(Self { name: name.to_owned(), reader, count: 0 })
    }

    /// The name that errors use.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Lines read so far.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Replaces `chunk` by the next lines, at most `most`; none at the end. A last line need not be ended.
    ///
    /// # Errors
    /// [`Error::Data`] when the file cannot be read or a line is not UTF-8; it names line and byte.
    pub fn read(&mut self, chunk: &mut Chunk, most: usize) -> Result<()> {
        let mut bytes = std::mem::take(&mut chunk.text).into_bytes();
        bytes.clear();
        chunk.ends.clear();
        while chunk.ends.len() < most {
            let read = self.reader.read_until(b'\n', &mut bytes);
            match read.map_err(|error| data(&self.name, format!("cannot be read: {error}")))? {
                0 => break,
                _ => chunk.ends.push(bytes.len()),
            }
        }
        chunk.text = String::from_utf8(bytes).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            let line = chunk.ends.iter().take_while(|&&end| end <= at).count();
            let begin = if line == 0 { 0 } else { chunk.ends[line - 1] };
            let (line, column, byte) = (self.count + line as u64 + 1, at - begin + 1, error.as_bytes()[at]);
            data(&format!("{}:{line}", self.name), format!("byte {column} is {byte:#04x}, expected UTF-8"))
        })?;
        self.count += chunk.ends.len() as u64;
        Ok(())
    }

    /// Reads to the end and returns the number of all lines.
    ///
    /// # Errors
    /// [`Error::Data`] when the file cannot be read.
    pub fn count_all(&mut self) -> Result<u64> {
        let mut bytes = Vec::new();
        loop {
            bytes.clear();
            let read = self.reader.read_until(b'\n', &mut bytes);
            match read.map_err(|error| data(&self.name, format!("cannot be read: {error}")))? {
                0 => return Ok(self.count),
                _ => self.count += 1,
            }
        }
    }
}

fn data(origin: &str, message: String) -> Error {
    Error::Data { origin: origin.to_owned(), message }
}
