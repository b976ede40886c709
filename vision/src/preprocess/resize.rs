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
        let filters = [Self::Nearest, Self::Lanczos, Self::Bilinear, Self::Bicubic, Self::Box, Self::Hamming];
        filters.get(usize::try_from(code).ok()?).copied()
    }

    /// The antialiased convolution, `None` for nearest.
    fn convolution(self) -> Option<ResizeAlg> {
        let filter = match self {
            Self::Nearest => return None,
            Self::Lanczos => FilterType::Lanczos3,
            Self::Bilinear => FilterType::Bilinear,
            Self::Bicubic => FilterType::CatmullRom,
            Self::Box => FilterType::Box,
            Self::Hamming => FilterType::Hamming,
        };
        Some(ResizeAlg::Convolution(filter))
    }
}

/// Most pixels of a picture on its way to the model: a long thin picture must not explode.
const MAX_PIXELS: usize = 64 << 20;

/// A picture on its way to the model: `(height, width, channels)`, samples between 0 and 255.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Raster {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) channels: usize,
    pub(super) samples: Vec<f32>,
    /// 8-bit pictures hold whole numbers, and do so after every pass of a resize, as in Pillow.
    whole: bool,
}

impl Raster {
    pub(super) fn new(image: &Image) -> Self {
        Self {
            width: image.width(),
            height: image.height(),
            channels: image.channels().count(),
            samples: image.samples().to_f32_255(),
            whole: matches!(image.samples(), Samples::U8(_)),
        }
    }

    /// Resized to `width` by `height`, in two passes in Pillow's order: filters overshoot, and what
    /// is cut off between the passes depends on the order.
    pub(super) fn resize(&self, width: usize, height: usize, filter: Filter) -> Result<Self> {
        let Some(algorithm) = filter.convolution() else {
            check_size(width, height)?;
            return Ok(self.nearest(width, height));
        };
        let (across, between) = ((width, self.height), (self.width, height));
        let middle = if self.columns_first(width, height) { between } else { across };
        check_size(width, height)?;
        check_size(middle.0, middle.1)?;
        let once = self.pass(middle.0, middle.1, algorithm)?;
        let mut resized = once.pass(width, height, algorithm)?;
        resized.samples.iter_mut().for_each(|sample| *sample = sample.clamp(0.0, 255.0));
        Ok(resized)
    }

    /// Pillow 13 (found by experiment, exact on 6,000 random sizes) starts with the columns when it
    /// removes more than twice as many rows as columns; before, it always started with the rows.
    fn columns_first(&self, width: usize, height: usize) -> bool {
        let rows = self.height as i64 - height as i64;
        let columns = self.width as i64 - width as i64;
        rows > 0 && rows > 2 * columns
    }

    fn pass(&self, width: usize, height: usize, algorithm: ResizeAlg) -> Result<Self> {
        if (width, height) == (self.width, self.height) {
            return Ok(self.clone());
        }
        let from = (self.width as u32, self.height as u32);
        let to = (width as u32, height as u32);
        let samples = if self.channels == 1 {
            let typed: Vec<_> = self.samples.iter().map(|&s| pixels::F32::new(s)).collect();
            let source = ImageRef::from_pixels(from.0, from.1, &typed).map_err(refused)?;
            run(&source, to, PixelType::F32, algorithm)?
        } else {
            let (triples, _) = self.samples.as_chunks::<3>();
            let typed: Vec<_> = triples.iter().map(|&rgb| pixels::F32x3::new(rgb)).collect();
            let source = ImageRef::from_pixels(from.0, from.1, &typed).map_err(refused)?;
            run(&source, to, PixelType::F32x3, algorithm)?
        };
        let (words, _) = samples.as_chunks::<4>();
        let values = words.iter().map(|&word| f32::from_ne_bytes(word));
        let samples = if self.whole {
            values.map(|value| (value + 0.5).floor().clamp(0.0, 255.0)).collect()
        } else {
            values.collect()
        };
        Ok(Self { width, height, samples, ..*self })
    }

    /// Nearest neighbour with Pillow's positions: centres, added up in double precision, which
    /// decides where a centre falls on the border of two pixels.
    fn nearest(&self, width: usize, height: usize) -> Self {
        let positions = |from: usize, to: usize| {
            let step = from as f64 / to as f64;
            let mut at = step * 0.5;
            let mut positions = Vec::with_capacity(to);
            for _ in 0..to {
                positions.push((at as usize).min(from - 1));
                at += step;
            }
            positions
        };
        let (xs, ys) = (positions(self.width, width), positions(self.height, height));
        let mut samples = Vec::with_capacity(width * height * self.channels);
        for y in ys {
            for &x in &xs {
                samples.extend_from_slice(self.pixel(x, y));
            }
        }
        Self { width, height, samples, ..*self }
    }

    fn pixel(&self, x: usize, y: usize) -> &[f32] {
        &self.samples[(y * self.width + x) * self.channels..][..self.channels]
    }

    /// Put at `(left, top)` of a black canvas of `width` by `height`; negative offsets crop.
    pub(super) fn place(&self, left: i64, top: i64, width: usize, height: usize) -> Result<Self> {
        check_size(width, height)?;
        let channels = self.channels;
        let mut samples = vec![0.0; width * height * channels];
        // First column or row of both sides, and how many they share.
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
            samples[target..][..columns * channels]
                .copy_from_slice(&self.samples[source..][..columns * channels]);
        }
        Ok(Self { width, height, samples, ..*self })
    }

    /// Turned by 90 degrees clockwise.
    pub(super) fn rotate_clockwise(&self) -> Self {
        let samples = (0..self.width)
            .flat_map(|x| (0..self.height).rev().map(move |y| (x, y)))
            .flat_map(|(x, y)| self.pixel(x, y))
            .copied()
            .collect();
        Self { width: self.height, height: self.width, samples, ..*self }
    }
}

fn check_size(width: usize, height: usize) -> Result<()> {
    if width == 0 || height == 0 || width.saturating_mul(height) > MAX_PIXELS {
        let message = format!("image resized to {width} x {height}, the limit is {MAX_PIXELS} pixels");
        return Err(Error::Input(message));
    }
    Ok(())
}

fn run(source: &ImageRef, to: (u32, u32), kind: PixelType, algorithm: ResizeAlg) -> Result<Vec<u8>> {
    let options = ResizeOptions::new().resize_alg(algorithm).use_alpha(false);
    let mut target = FirImage::new(to.0, to.1, kind);
    Resizer::new().resize(source, &mut target, &options).map_err(refused)?;
    Ok(target.into_vec())
}

fn refused(error: impl std::fmt::Display) -> Error {
    Error::Input(format!("image cannot be resized: {error}"))
}
