//! Bytes to pixels: files of any supported format become an [`Image`], an [`Image`] becomes the
//! `(1, 3, height, width)` tensor that an encoder wants.
//!
//! ```text
//! bytes --sniff--> raster (image crate, jpeg) -> Image --Preprocessor--> PixelValues (3, H, W)
//!             \--> dicom (structure, codec, pixel pipeline) --^
//! ```
//!
//! Everything here treats its input as hostile: sizes are checked against [`Limits`] before memory
//! is taken, and no input may cause a panic.

mod config;
pub mod dicom;
mod error;
mod geometry;
mod image;
mod jpeg;
mod jpeg_ls;
mod jpeg_marker;
mod pipeline;
mod raster;
mod resize;
mod sniff;
mod tiff_directory;

pub use config::{PreprocessConfig, Size, Step};
pub use error::{DecodeError, FormatName};
pub use geometry::{Geometry, Region};
pub use image::{Channels, Image, Samples, Source};
pub use pipeline::{PixelValues, Preprocessor};
pub use resize::Filter;
pub use sniff::{Format, sniff};

/// Sizes above which a file is refused before memory is taken for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Largest file, and largest inflated data set, in bytes.
    pub max_bytes: u64,
    /// Most pixels in one frame.
    pub max_pixels: u64,
    /// Most frames in a file.
    pub max_frames: u64,
}

impl Default for Limits {
    /// 512 MiB, 64 Mi pixels (a mammogram has about 20), 16,384 frames.
    fn default() -> Self {
        Self { max_bytes: 512 << 20, max_pixels: 64 << 20, max_frames: 16_384 }
    }
}

impl Limits {
    fn check_pixels(&self, format: Format, width: u64, height: u64) -> Result<(), DecodeError> {
        if width == 0 || height == 0 {
            let message = format!("the picture is {width} x {height} pixels");
            return Err(DecodeError::malformed(format, message));
        }
        let pixels = width.saturating_mul(height);
        if pixels > self.max_pixels {
            return Err(DecodeError::limit(format, "number of pixels", pixels, self.max_pixels));
        }
        Ok(())
    }
}

/// Whether a second thread makes a picture of so many pixels ready sooner. It is not one of the pool, whose threads would take up
/// a picture while a model waits for them.
fn shared(pixels: usize) -> bool {
    pixels >= 1 << 18 && swinseek_kernels::threads::count() > 1
}

/// How to decode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DecodeOptions {
    /// Sizes above which a file is refused.
    pub limits: Limits,
    /// Frame to read, counted from 0. Raster formats have frame 0 only.
    pub frame: usize,
}

/// Decodes one frame of an image file. The format is told by content.
pub fn decode(bytes: &[u8], options: &DecodeOptions) -> Result<Image, DecodeError> {
    let length = bytes.len() as u64;
    if length > options.limits.max_bytes {
        let limit = options.limits.max_bytes;
        let format = FormatName(None);
        return Err(DecodeError::Limit { format, what: "size in bytes", found: length, limit });
    }
    match sniff(bytes) {
        Some(Format::Dicom) => dicom::decode(bytes, options),
        Some(format) => raster::decode(bytes, format, options),
        None => Err(DecodeError::Unrecognized { found: sniff::describe(bytes) }),
    }
}
