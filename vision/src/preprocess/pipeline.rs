//! Pictures to model input, as `preprocessor_config.json` asks.

use candle_core::{Device, Tensor};
use serde_json::Value;
use swinseek_kernels::{Error, Result};

use super::config::{PreprocessConfig, Size, Step};
use super::geometry::Geometry;
use super::image::Image;
use super::resize::Raster;

/// Pixel height over width beyond which a file is taken for wrong rather than stretched.
const MAX_PIXEL_ASPECT: f64 = 8.0;
/// Pixels this close to square are left alone.
const SQUARE_WITHIN: f64 = 0.01;

/// Model input of one picture.
#[derive(Debug, Clone, PartialEq)]
pub struct PixelValues {
    /// Normalised samples, `(3, height, width)`.
    pub data: Vec<f32>,
    /// Height in pixels.
    pub height: usize,
    /// Width in pixels.
    pub width: usize,
    /// Where the pixels come from.
    pub geometry: Geometry,
}

impl PixelValues {
    /// The samples as a tensor `(1, 3, height, width)`.
    pub fn to_tensor(&self, device: &Device) -> Result<Tensor> {
        Ok(Tensor::from_slice(&self.data, (1, 3, self.height, self.width), device)?)
    }
}

/// Turns decoded pictures into model input.
#[derive(Debug, Clone, PartialEq)]
pub struct Preprocessor {
    config: PreprocessConfig,
}

impl Preprocessor {
    /// A preprocessor that does what `config` says.
    pub fn new(config: PreprocessConfig) -> Self {
        Self { config }
    }

    /// Reads a `preprocessor_config.json` value.
    pub fn from_json(value: &Value) -> Result<Self> {
        Ok(Self::new(PreprocessConfig::from_json(value)?))
    }

    /// The configuration.
    pub fn config(&self) -> &PreprocessConfig {
        &self.config
    }

    /// Squares the pixels, runs the steps, rescales and normalises. Gray becomes three equal
    /// channels.
    pub fn apply(&self, image: &Image) -> Result<PixelValues> {
        let mut work = Work {
            raster: Raster::new(image),
            geometry: Geometry::new(image.width(), image.height()),
            config: &self.config,
        };
        work.square_pixels(image.source().pixel_aspect)?;
        for step in &self.config.steps {
            work.step(*step)?;
        }
        let Work { raster, geometry, .. } = work;
        let PreprocessConfig { rescale_factor, image_mean, image_std, .. } = &self.config;
        let data = raster
            .planes(|colour, sample| (sample * rescale_factor - image_mean[colour]) / image_std[colour]);
        let Raster { width, height, .. } = raster;
        Ok(PixelValues { data, height, width, geometry })
    }
}

/// A picture between steps.
struct Work<'a> {
    raster: Raster<'a>,
    geometry: Geometry,
    config: &'a PreprocessConfig,
}

impl Work<'_> {
    fn size(&self) -> (usize, usize) {
        (self.raster.height, self.raster.width)
    }

    /// Stretches the longer side of non-square pixels.
    fn square_pixels(&mut self, aspect: f64) -> Result<()> {
        if (aspect - 1.0).abs() <= SQUARE_WITHIN {
            return Ok(());
        }
        if !(1.0 / MAX_PIXEL_ASPECT..=MAX_PIXEL_ASPECT).contains(&aspect) {
            let message = format!(
                "pixels are {aspect:.3} times as high as wide, at most {MAX_PIXEL_ASPECT} is stretched"
            );
            return Err(Error::Input(message));
        }
        let (height, width) = self.size();
        if aspect > 1.0 {
            self.resize((height as f64 * aspect).round() as usize, width)
        } else {
            self.resize(height, (width as f64 / aspect).round() as usize)
        }
    }

    fn step(&mut self, step: Step) -> Result<()> {
        let (height, width) = self.size();
        match step {
            Step::PadSquare => {
                let side = height.max(width);
                self.center(side, side)
            }
            Step::AlignLongAxis { height: h, width: w } => {
                if (w < h && width > height) || (w > h && width < height) {
                    self.raster = self.raster.rotate_clockwise();
                    self.geometry.rotate_clockwise();
                }
                Ok(())
            }
            Step::Resize(size) => {
                let (height, width) = resized(size, height, width);
                self.resize(height, width)
            }
            Step::Thumbnail { height: h, width: w } => {
                let (height, width) = thumbnail(h, w, height, width);
                self.resize(height, width)
            }
            Step::Pad { height: h, width: w } if h < height || w < width => {
                let message = format!("picture of {width} x {height} is padded to {w} x {h}");
                Err(Error::Input(message))
            }
            Step::Pad { height: h, width: w } | Step::CenterCrop { height: h, width: w } => self.center(h, w),
        }
    }

    fn resize(&mut self, height: usize, width: usize) -> Result<()> {
        self.raster = self.raster.resize(width, height, self.config.filter)?;
        self.geometry.resize(width, height);
        Ok(())
    }

    /// Puts the picture in the middle of a canvas: a side that is too long is cropped, one that is
    /// too short padded with black, the odd pixel at the right and below.
    fn center(&mut self, height: usize, width: usize) -> Result<()> {
        let offset = |from: usize, to: usize| {
            if from > to { -(((from - to) / 2) as i64) } else { ((to - from) / 2) as i64 }
        };
        let left = offset(self.raster.width, width);
        let top = offset(self.raster.height, height);
        self.raster.place(left, top, width, height)?;
        self.geometry.place(left, top, width, height);
        Ok(())
    }
}

/// `value * numerator / denominator`, rounded down as Python's `int` does, at least 1.
fn scaled(value: usize, numerator: usize, denominator: usize) -> usize {
    (value * numerator / denominator).max(1)
}

/// Height and width after a resize of a picture of `height` by `width`.
fn resized(size: Size, height: usize, width: usize) -> (usize, usize) {
    let (short, long) = (height.min(width), height.max(width));
    let (short, long) = match size {
        Size::Exact { height, width } => return (height, width),
        Size::ShortestEdge { shortest, longest } => {
            let other = scaled(shortest, long, short);
            match longest {
                Some(longest) if other > longest => (scaled(longest, short, long), longest),
                _ => (shortest, other),
            }
        }
        Size::LongestEdge { longest } => (scaled(longest, short, long), longest),
    };
    if height <= width { (short, long) } else { (long, short) }
}

/// Height and width of Donut's thumbnail: no side longer than before or than asked for.
fn thumbnail(h: usize, w: usize, height: usize, width: usize) -> (usize, usize) {
    let (new_height, new_width) = (height.min(h), width.min(w));
    if (new_height, new_width) == (height, width) {
        return (height, width);
    }
    match height.cmp(&width) {
        std::cmp::Ordering::Greater => (new_height, scaled(width, new_height, height)),
        std::cmp::Ordering::Less => (scaled(height, new_width, width), new_width),
        std::cmp::Ordering::Equal => (new_height, new_width),
    }
}
