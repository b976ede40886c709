//! Resizing and moving pixels, with the results of Pillow.

use std::borrow::Cow;
use std::thread;

use fast_image_resize::images::{Image as FirImage, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer, pixels};
use swinseek_kernels::{Error, Result};

use super::image::{Image, Samples};
use super::shared;

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

/// Samples between 0 and 255, `(height, width, channels)`. 8-bit pictures stay whole numbers, and are rounded after every pass
/// of a resize, as in Pillow; they are borrowed until a step changes them.
#[derive(Debug, Clone, PartialEq)]
enum Values<'a> {
    Whole(Cow<'a, [u8]>),
    Real(Vec<f32>),
}

/// A picture on its way to the model.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Raster<'a> {
    pub(super) width: usize,
    pub(super) height: usize,
    channels: usize,
    values: Values<'a>,
}

impl<'a> Raster<'a> {
    pub(super) fn new(image: &'a Image) -> Self {
        let values = match image.samples() {
            Samples::U8(samples) => Values::Whole(samples.into()),
            deep => Values::Real(deep.to_f32_255()),
        };
        Self { width: image.width(), height: image.height(), channels: image.channels().count(), values }
    }

    /// `(3, height, width)` with a map of its own for each colour; gray fills all three.
    pub(super) fn planes(&self, map: impl Fn(usize, f32) -> f32) -> Vec<f32> {
        let mut planes = Vec::with_capacity(3 * self.width * self.height);
        for colour in 0..3 {
            let channel = colour % self.channels;
            match &self.values {
                Values::Whole(samples) => {
                    let map: [f32; 256] = std::array::from_fn(|sample| map(colour, sample as f32));
                    let plane = samples.iter().skip(channel).step_by(self.channels);
                    planes.extend(plane.map(|&sample| map[usize::from(sample)]));
                }
                Values::Real(samples) => {
                    let plane = samples.iter().skip(channel).step_by(self.channels);
                    planes.extend(plane.map(|&sample| map(colour, sample)));
                }
            }
        }
        planes
    }

    /// Resized to `width` by `height`, in two passes in Pillow's order: filters overshoot, and what
    /// is cut off between the passes depends on the order.
    pub(super) fn resize(&self, width: usize, height: usize, filter: Filter) -> Result<Self> {
        check_size(width, height)?;
        let Some(algorithm) = filter.convolution() else {
            return Ok(self.nearest(width, height));
        };
        let (across, between) = ((width, self.height), (self.width, height));
        let middle = if self.columns_first(width, height) { between } else { across };
        check_size(middle.0, middle.1)?;
        let mut resized = self.pass(middle.0, middle.1, algorithm)?.pass(width, height, algorithm)?;
        if let Values::Real(samples) = &mut resized.values {
            for sample in samples {
                *sample = sample.clamp(0.0, 255.0);
            }
        }
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
        let gray = self.channels == 1;
        let values = match &self.values {
            Values::Whole(samples) if self.shrinks_well(width, height) => {
                let kind = if gray { PixelType::U8 } else { PixelType::U8x3 };
                let resize = |samples: &[u8], (from, to): (u32, u32)| {
                    let source = ImageRef::new(self.width as u32, from, samples, kind).map_err(refused)?;
                    run(&source, (width as u32, to), kind, algorithm)
                };
                if self.height == height && shared(self.width * self.height) {
                    Values::Whole(in_halves(samples, height, |half, rows| resize(half, (rows, rows)))?.into())
                } else {
                    Values::Whole(resize(samples, (from.1, to.1))?.into())
                }
            }
            Values::Whole(samples) => {
                let real = real_pass(samples.iter().map(|&s| f32::from(s)), gray, from, to, algorithm)?;
                let whole = real.into_iter().map(|value| (value + 0.5).floor().clamp(0.0, 255.0) as u8);
                Values::Whole(whole.collect())
            }
            Values::Real(samples) => {
                Values::Real(real_pass(samples.iter().copied(), gray, from, to, algorithm)?)
            }
        };
        Ok(Self { width, height, channels: self.channels, values })
    }

    /// Weights of 16 bits are exact enough for whole numbers when many pixels share them: they are small then, and what
    /// one pass rounds the other way is averaged by the next.
    fn shrinks_well(&self, width: usize, height: usize) -> bool {
        (self.width == width || self.width >= 2 * width)
            && (self.height == height || self.height >= 2 * height)
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
        self.moved(width, height, |x, y| Some((xs[x], ys[y])))
    }

    /// Put at `(left, top)` of a black canvas of `width` by `height`; negative offsets crop.
    pub(super) fn place(&mut self, left: i64, top: i64, width: usize, height: usize) -> Result<()> {
        check_size(width, height)?;
        if (left, top, width, height) == (0, 0, self.width, self.height) {
            return Ok(());
        }
        self.values = match &self.values {
            Values::Whole(samples) => Values::Whole(self.placed(samples, left, top, width, height).into()),
            Values::Real(samples) => Values::Real(self.placed(samples, left, top, width, height)),
        };
        (self.width, self.height) = (width, height);
        Ok(())
    }

    fn placed<T: Copy + Default>(
        &self,
        samples: &[T],
        left: i64,
        top: i64,
        width: usize,
        height: usize,
    ) -> Vec<T> {
        // Where `from` pixels begin and end on a side of `to`.
        let span = |offset: i64, from: usize, to: usize| {
            let end = (offset + from as i64).clamp(0, to as i64);
            offset.clamp(0, end) as usize..end as usize
        };
        let (columns, rows) = (span(left, self.width, width), span(top, self.height, height));
        let channels = self.channels;
        let mut canvas = vec![T::default(); width * height * channels];
        for y in rows.filter(|_| !columns.is_empty()) {
            let from = (y as i64 - top) as usize * self.width + (columns.start as i64 - left) as usize;
            let (from, to) = (from * channels, (y * width + columns.start) * channels);
            let count = columns.len() * channels;
            canvas[to..to + count].copy_from_slice(&samples[from..from + count]);
        }
        canvas
    }

    /// Turned by 90 degrees clockwise.
    pub(super) fn rotate_clockwise(&self) -> Self {
        self.moved(self.height, self.width, |x, y| Some((y, self.height - 1 - x)))
    }

    /// A picture of `width` by `height` whose pixel at `(x, y)` is the one at `from(x, y)`, or black.
    fn moved(
        &self,
        width: usize,
        height: usize,
        from: impl Fn(usize, usize) -> Option<(usize, usize)>,
    ) -> Self {
        let values = match &self.values {
            Values::Whole(samples) => Values::Whole(self.gather(samples, width, height, from).into()),
            Values::Real(samples) => Values::Real(self.gather(samples, width, height, from)),
        };
        Self { width, height, values, channels: self.channels }
    }

    fn gather<T: Copy + Default>(
        &self,
        samples: &[T],
        width: usize,
        height: usize,
        from: impl Fn(usize, usize) -> Option<(usize, usize)>,
    ) -> Vec<T> {
        let channels = self.channels;
        let mut gathered = vec![T::default(); width * height * channels];
        for (row, y) in gathered.chunks_exact_mut(width * channels).zip(0..) {
            for (pixel, x) in row.chunks_exact_mut(channels).zip(0..) {
                if let Some((x, y)) = from(x, y) {
                    pixel.copy_from_slice(&samples[(y * self.width + x) * channels..][..channels]);
                }
            }
        }
        gathered
    }
}

/// What `work` makes of the upper and of the lower rows of a picture, one after the other; a second thread takes the lower ones.
fn in_halves(
    samples: &[u8],
    height: usize,
    work: impl Fn(&[u8], u32) -> Result<Vec<u8>> + Sync,
) -> Result<Vec<u8>> {
    let upper = height / 2;
    let (above, below) = samples.split_at(samples.len() / height * upper);
    thread::scope(|scope| {
        let lower = || work(below, (height - upper) as u32);
        let second = thread::Builder::new().name("resize".into()).spawn_scoped(scope, lower);
        let mut all = work(above, upper as u32)?;
        all.extend(match second {
            Ok(second) => second.join().map_err(|_| refused("a thread has panicked"))??,
            Err(_) => lower()?,
        });
        Ok(all)
    })
}

fn check_size(width: usize, height: usize) -> Result<()> {
    if width == 0 || height == 0 || width.saturating_mul(height) > MAX_PIXELS {
        let message = format!("image resized to {width} x {height}, the limit is {MAX_PIXELS} pixels");
        return Err(Error::Input(message));
    }
    Ok(())
}

/// One pass in floating point.
fn real_pass(
    samples: impl ExactSizeIterator<Item = f32>,
    gray: bool,
    from: (u32, u32),
    to: (u32, u32),
    algorithm: ResizeAlg,
) -> Result<Vec<f32>> {
    let bytes = if gray {
        let typed: Vec<_> = samples.map(pixels::F32::new).collect();
        let source = ImageRef::from_pixels(from.0, from.1, &typed).map_err(refused)?;
        run(&source, to, PixelType::F32, algorithm)?
    } else {
        let samples: Vec<f32> = samples.collect();
        let (triples, _) = samples.as_chunks::<3>();
        let typed: Vec<_> = triples.iter().map(|&rgb| pixels::F32x3::new(rgb)).collect();
        let source = ImageRef::from_pixels(from.0, from.1, &typed).map_err(refused)?;
        run(&source, to, PixelType::F32x3, algorithm)?
    };
    let (words, _) = bytes.as_chunks::<4>();
    Ok(words.iter().map(|&word| f32::from_ne_bytes(word)).collect())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preprocess::image::Channels;

    /// Every pixel of a canvas is the one that an offset moves there, or black.
    #[test]
    fn pictures_are_placed_pixel_by_pixel() -> Result<()> {
        for (width, height, channels) in
            [(5, 3, Channels::Rgb), (4, 4, Channels::Luma), (1, 6, Channels::Rgb)]
        {
            let count = channels.count();
            let samples: Vec<u8> = (1..=(width * height * count) as u8).collect();
            let deep = samples.iter().map(|&s| u16::from(s) * 257).collect();
            for samples in [Samples::U8(samples), Samples::U16(deep)] {
                let image = Image::new(width, height, channels, samples).expect("as many samples");
                let picture = Raster::new(&image);
                for (left, top, w, h) in [
                    (0, 0, width, height),
                    (2, 1, 9, 8),
                    (-2, -1, 2, 1),
                    (-3, 2, 4, 9),
                    (40, 0, 3, 3),
                    (-9, -9, 2, 2),
                ] {
                    let mut placed = picture.clone();
                    placed.place(left, top, w, h)?;
                    let expected = picture.moved(w, h, |x, y| {
                        let x = usize::try_from(x as i64 - left).ok().filter(|&x| x < width)?;
                        Some((x, usize::try_from(y as i64 - top).ok().filter(|&y| y < height)?))
                    });
                    assert_eq!(placed, expected, "{width} x {height} at {left}, {top} of {w} x {h}");
                }
            }
        }
        Ok(())
    }
}
