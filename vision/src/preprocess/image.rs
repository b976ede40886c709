//! A decoded picture and where it came from.

use super::dicom::DicomFacts;
use super::error::DecodeError;
use super::sniff::Format;

/// Channels of a decoded picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channels {
    /// One gray value per pixel, 0 is black.
    Luma,
    /// Red, green, blue.
    Rgb,
}

impl Channels {
    /// Samples per pixel: 1 or 3.
    pub fn count(self) -> usize {
        match self {
            Self::Luma => 1,
            Self::Rgb => 3,
        }
    }
}

/// Sample values in row-major order, channels interleaved: `(height, width, channels)`.
#[derive(Debug, Clone, PartialEq)]
pub enum Samples {
    /// 0 is black, 255 white.
    U8(Vec<u8>),
    /// 0 is black, 65535 white.
    U16(Vec<u16>),
    /// 0.0 is black, 1.0 white.
    F32(Vec<f32>),
}

impl Samples {
    /// Number of samples.
    pub fn len(&self) -> usize {
        match self {
            Self::U8(v) => v.len(),
            Self::U16(v) => v.len(),
            Self::F32(v) => v.len(),
        }
    }

    /// True when there is no sample.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The samples on the scale of 8-bit pictures, 0.0 to 255.0, without rounding.
    pub fn to_f32_255(&self) -> Vec<f32> {
        // 65535 = 255 * 257: 8-bit values widened to 16 bits come back exactly.
        match self {
            Self::U8(v) => v.iter().map(|&s| f32::from(s)).collect(),
            Self::U16(v) => v.iter().map(|&s| f32::from(s) / 257.0).collect(),
            Self::F32(v) => v.iter().map(|&s| s * 255.0).collect(),
        }
    }
}

/// Where a picture came from.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Source {
    /// Format of the file, `None` for pictures made in memory.
    pub format: Option<Format>,
    /// Frame that was read, counted from 0.
    pub frame: usize,
    /// Frames in the file; 1 for raster formats, of which only the first frame is read.
    pub frames: usize,
    /// Height of a pixel divided by its width; 1.0 for square pixels.
    pub pixel_aspect: f64,
    /// Facts that only DICOM files state.
    pub dicom: Option<Box<DicomFacts>>,
}

impl Default for Source {
    fn default() -> Self {
        Self { format: None, frame: 0, frames: 1, pixel_aspect: 1.0, dicom: None }
    }
}

impl Source {
    pub(super) fn of(format: Format) -> Self {
        Self { format: Some(format), ..Self::default() }
    }
}

/// A decoded picture of at least one pixel.
#[derive(Debug, Clone, PartialEq)]
pub struct Image {
    width: usize,
    height: usize,
    channels: Channels,
    samples: Samples,
    source: Source,
}

impl Image {
    /// A picture made in memory; `samples` is `(height, width, channels)`.
    pub fn new(
        width: usize,
        height: usize,
        channels: Channels,
        samples: Samples,
    ) -> Result<Self, DecodeError> {
        let expected = width.saturating_mul(height).saturating_mul(channels.count());
        if expected == 0 || expected != samples.len() {
            let (channels, found) = (channels.count(), samples.len());
            return Err(DecodeError::Samples { width, height, channels, expected, found });
        }
        Ok(Self { width, height, channels, samples, source: Source::default() })
    }

    pub(super) fn with_source(mut self, source: Source) -> Self {
        self.source = source;
        self
    }

    /// Width in pixels.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Height in pixels.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Channels per pixel.
    pub fn channels(&self) -> Channels {
        self.channels
    }

    /// Sample values, `(height, width, channels)`.
    pub fn samples(&self) -> &Samples {
        &self.samples
    }

    /// Where the picture came from.
    pub fn source(&self) -> &Source {
        &self.source
    }
}
