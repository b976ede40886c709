//! Reading inputs and writing results.

use std::io::{Read, Write};
use std::path::Path;

use anyhow::{Context, Result};
use swinseek_vision::preprocess::{DecodeOptions, Image, Limits, decode};

/// A picture, and the BLAKE3 digest of the bytes it came from.
pub(super) struct Picture {
    pub(super) image: Image,
    pub(super) digest: String,
}

/// Reads and decodes an image or DICOM file (`-` is standard input); the error names the file.
pub(super) fn read_picture(path: &Path, frame: usize) -> Result<Picture> {
    let name = path.display();
    let limits = Limits::default();
    let mut bytes = Vec::new();
    // One byte past the limit is enough to see that the limit is passed.
    let cap = limits.max_bytes + 1;
    if path.as_os_str() == "-" {
        std::io::stdin().take(cap).read_to_end(&mut bytes).context("standard input")?;
    } else {
        let file = std::fs::File::open(path).with_context(|| format!("{name}: cannot be opened"))?;
        file.take(cap).read_to_end(&mut bytes).with_context(|| format!("{name}: cannot be read"))?;
    }
    let options = DecodeOptions { limits, frame };
    let image = decode(&bytes, &options).with_context(|| name.to_string())?;
    Ok(Picture { image, digest: blake3::hash(&bytes).to_hex().to_string() })
}

/// Prints `value` as one line of JSON.
pub(super) fn print_json(value: &impl serde::Serialize) -> Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, value)?;
    writeln!(out)?;
    Ok(())
}

/// Writes a piece of streamed text at once.
pub(super) fn print_now(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}
