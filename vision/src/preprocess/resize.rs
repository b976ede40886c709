//! Resizing and moving pixels, with the results of Pillow.

use fast_image_resize::images::{Image as FirImage, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer, pixels};
use swinseek_kernels::{Error, Result};

use super::image::{Image, Samples};

/// A resampling filter, with Pillow's meaning: all but nearest are antialiased when shrinking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    /// Pillow code 0.
    Nearest,
    /// Pillow code 1.
    Lanczos,
    /// Pillow code 2.
    Bilinear,
    /// Pillow code 3; Catmull-Rom (a = -0.5).
    Bicubic,
    /// Pillow code 4.
    Box,
    /// Pillow code 5.
    Hamming,
}

impl Filter {
    /// The filter of a Pillow code, as `preprocessor_config.json` writes it.
    pub fn from_pillow(code: u64) -> Option<Self> {
        let filters = [
            Self::Nearest,
            Self::Lanczos,
            Self::Bilinear,
            Self::Bicubic,
            Self::Box,
            Self::Hamming,
        ];
        filters.get(usize::try_from(code).ok()?).copied()
    }

    fn algorithm(self) -> ResizeAlg {
        ResizeAlg::Convolution(match self {
            Self::Nearest => return ResizeAlg::Nearest,
            Self::Lanczos => FilterType::Lanczos3,
            Self::Bilinear => FilterType::Bilinear,
            Self::Bicubic => FilterType::CatmullRom,
            Self::Box => FilterType::Box,
            Self::Hamming => FilterType::Hamming,
        })
    }
}

/// Most pixels of a picture on its way to the model: a long thin picture must not explode.
const MAX_PIXELS: usize = 64 << 20;

/// Samples on the scale 0 to 255: 8-bit pictures stay 8 bit, as in Pillow, others are `f32`.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Scale {
    U8(Vec<u8>),
    F32(Vec<f32>),
}

/// A picture on its way to the model: `(height, width, channels)`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Raster {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) channels: usize,
    pub(super) data: Scale,
}

impl Raster {
    pub(super) fn new(image: &Image) -> Self {
        let data = match image.samples() {
            Samples::U8(samples) => Scale::U8(samples.clone()),
            deeper => Scale::F32(deeper.to_f32_255()),
        };
        let (width, height) = (image.width(), image.height());
        Self { width, height, channels: image.channels().count(), data }
    }

    /// Resized to `width` by `height`.
    pub(super) fn resize(&self, width: usize, height: usize, filter: Filter) -> Result<Self> {
        if (width, height) == (self.width, self.height) {
            return Ok(self.clone());
        }
        check_size(width, height)?;
        let options = ResizeOptions::new().resize_alg(filter.algorithm()).use_alpha(false);
        let (from, to) = ((self.width as u32, self.height as u32), (width as u32, height as u32));
        let data = match (&self.data, self.channels) {
            (Scale::U8(samples), channels) => {
                let kind = if channels == 1 { PixelType::U8 } else { PixelType::U8x3 };
                let source = ImageRef::new(from.0, from.1, samples, kind).map_err(refused)?;
                Scale::U8(run(&source, to, kind, &options)?)
            }
            (Scale::F32(samples), 1) => {
                let typed: Vec<_> = samples.iter().map(|&s| pixels::F32::new(s)).collect();
                let source = ImageRef::from_pixels(from.0, from.1, &typed).map_err(refused)?;
                Scale::F32(floats(&run(&source, to, PixelType::F32, &options)?))
            }
            (Scale::F32(samples), _) => {
                let (triples, _) = samples.as_chunks::<3>();
                let typed: Vec<_> = triples.iter().map(|&rgb| pixels::F32x3::new(rgb)).collect();
                let source = ImageRef::from_pixels(from.0, from.1, &typed).map_err(refused)?;
                Scale::F32(floats(&run(&source, to, PixelType::F32x3, &options)?))
            }
        };
        Ok(Self { width, height, channels: self.channels, data })
    }

    /// Put at `(left, top)` of a black canvas of `width` by `height`; negative offsets crop.
    pub(super) fn place(&self, left: i64, top: i64, width: usize, height: usize) -> Result<Self> {
        check_size(width, height)?;
        let data = match &self.data {
            Scale::U8(samples) => Scale::U8(self.moved(samples, left, top, width, height)),
            Scale::F32(samples) => Scale::F32(self.moved(samples, left, top, width, height)),
        };
        Ok(Self { width, height, channels: self.channels, data })
    }

    fn moved<T: Copy + Default>(
        &self,
        samples: &[T],
        left: i64,
        top: i64,
        width: usize,
        height: usize,
    ) -> Vec<T> {
        let channels = self.channels;
        let mut canvas = vec![T::default(); width * height * channels];
        // First column and row of either side, and how much they share.
        let overlap = |offset: i64, from: usize, to: usize| {
            let source = (-offset).max(0) as usize;
            let target = offset.max(0) as usize;
            (source, target, from.saturating_sub(source).min(to.saturating_sub(target)))
        };
        let (x, target_x, columns) = overlap(left, self.width, width);
        let (y, target_y, rows) = overlap(top, self.height, height);
        for row in 0..rows {
            let source = ((y + row) * self.width + x) * channels;
            let target = ((target_y + row) * width + target_x) * channels;
            canvas[target..][..columns * channels]
                .copy_from_slice(&samples[source..][..columns * channels]);
        }
        canvas
    }

    /// Turned by 90 degrees clockwise.
    pub(super) fn rotate_clockwise(&self) -> Self {
        let data = match &self.data {
            Scale::U8(samples) => Scale::U8(self.turned(samples)),
            Scale::F32(samples) => Scale::F32(self.turned(samples)),
        };
        Self { width: self.height, height: self.width, channels: self.channels, data }
    }

    fn turned<T: Copy>(&self, samples: &[T]) -> Vec<T> {
        let pixel = |x: usize, y: usize| &samples[(y * self.width + x) * self.channels..];
        (0..self.width)
            .flat_map(|x| (0..self.height).rev().map(move |y| (x, y)))
            .flat_map(|(x, y)| &pixel(x, y)[..self.channels])
            .copied()
            .collect()
    }

    /// Samples as `f32` between 0 and 255.
    pub(super) fn into_f32(self) -> Vec<f32> {
        match self.data {
            Scale::U8(samples) => samples.iter().map(|&s| f32::from(s)).collect(),
            Scale::F32(samples) => samples,
        }
    }
}

fn check_size(width: usize, height: usize) -> Result<()> {
    if width == 0 || height == 0 || width.saturating_mul(height) > MAX_PIXELS {
        let message = format!("image resized to {width} x {height}, the limit is {MAX_PIXELS} pixels");
        return Err(Error::Input(message));
    }
    Ok(())
}

fn run(source: &ImageRef, to: (u32, u32), kind: PixelType, options: &ResizeOptions) -> Result<Vec<u8>> {
    let mut target = FirImage::new(to.0, to.1, kind);
    Resizer::new().resize(source, &mut target, options).map_err(refused)?;
    Ok(target.into_vec())
}

/// Floats of a resized picture; overshoot of the filter is cut as 8-bit pictures cut it.
fn floats(bytes: &[u8]) -> Vec<f32> {
    let (words, _) = bytes.as_chunks::<4>();
    words.iter().map(|&word| f32::from_ne_bytes(word).clamp(0.0, 255.0)).collect()
}

fn refused(error: impl std::fmt::Display) -> Error {
    Error::Input(format!("image cannot be resized: {error}"))
}
