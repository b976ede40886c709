//! Data sets on disk: pictures and one `annotations.json`.

mod annotations;
mod dicom;

pub use annotations::{Entry, Split};

use crate::error::{Error, Result};
use crate::study::{Study, StudyOptions};
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder};
use rayon::prelude::*;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The most studies of one set.
const MOST: usize = 1_000_000;

/// How pictures are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// Eight-bit grey PNG through the study's window: what vision encoders take, half the size, and shown alike by every
    /// viewer, for a PNG cannot say how twelve bits are meant to be shown. The twelve bits are in the DICOM files.
    #[default]
    Png,
    /// Sixteen-bit grey PNG of the stored numbers, times sixteen.
    Png16,
    /// DICOM, Digital X-Ray Image Storage for presentation, 12 bits; even indices are MONOCHROME2, odd ones MONOCHROME1.
    Dicom,
}

impl Format {
    const fn extension(self) -> &'static str {
        match self {
            Self::Png | Self::Png16 => "png",
            Self::Dicom => "dcm",
        }
    }
}

/// How a set is written.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Options {
    /// How pictures are stored.
    pub format: Format,
    /// How they are rendered.
    pub study: StudyOptions,
    /// Which part of the set each study belongs to.
    pub split: Split,
}

/// Writes studies `0..count` of `seed` below `dir`: `images/NNNNNN.png` (or `.dcm`) and, last and atomically,
/// `annotations.json` in the layout of R2Gen. `progress` is called with the number of studies done, from any thread.
///
/// The files are the same bytes for the same arguments, whatever the number of threads.
///
/// # Errors
/// An option out of range, or a folder or file that cannot be written; `annotations.json` is then not touched.
pub fn write_dataset(
    dir: &Path,
    count: usize,
    seed: u64,
    options: &Options,
    progress: &(dyn Fn(usize) + Sync),
) -> Result<()> {
    options.study.validate()?;
    if count == 0 || count > MOST {
        return Err(Error::Option { field: "count", found: count.to_string(), expected: "1 to 1000000" });
    }
    let images = dir.join("images");
    fs::create_dir_all(&images).map_err(Error::io(&images))?;
    let done = AtomicUsize::new(0);
    let entries = (0..count)
        .into_par_iter()
        .map(|index| {
            let study = Study::generate(seed, index as u64, &options.study);
            let name = format!("{index:06}.{}", options.format.extension());
            let path = images.join(&name);
            let bytes =
                encode(&study, seed, index as u64, options.format).map_err(|e| Error::encode(&path, e))?;
            fs::write(&path, bytes).map_err(Error::io(&path))?;
            progress(done.fetch_add(1, Ordering::Relaxed) + 1);
            Ok(Entry::new(&study, seed, index, name, options.split.of(index, count)))
        })
        .collect::<Result<Vec<Entry>>>()?;
    let path = dir.join("annotations.json");
    let bytes = annotations::to_json(entries).map_err(|e| Error::encode(&path, e))?;
    replace(&path, &bytes)
}

/// One picture as the bytes of a file.
///
/// # Errors
/// The encoder's reason, as text.
pub fn encode(study: &Study, seed: u64, index: u64, format: Format) -> std::result::Result<Vec<u8>, String> {
    let text = |error: image::ImageError| error.to_string();
    let (width, height) = (study.width as u32, study.height as u32);
    let mut bytes = Vec::new();
    let png = PngEncoder::new_with_quality(&mut bytes, CompressionType::Fast, FilterType::Adaptive);
    match format {
        Format::Png => {
            png.write_image(&study.window(), width, height, ExtendedColorType::L8).map_err(text)?;
        }
        Format::Png16 => {
            // The encoder takes native order and stores big-endian.
            let raw: Vec<u8> = study.pixels.iter().flat_map(|v| (v << 4).to_ne_bytes()).collect();
            png.write_image(&raw, width, height, ExtendedColorType::L16).map_err(text)?;
        }
        Format::Dicom => return dicom::encode(study, seed, index),
    }
    Ok(bytes)
}

/// Puts `bytes` in place of `path` at once: a reader sees the old file or the new one.
fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let part = path.with_extension("json.part");
    let mut file = fs::File::create(&part).map_err(Error::io(&part))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(Error::io(&part))?;
    fs::rename(&part, path).map_err(Error::io(path))
}
