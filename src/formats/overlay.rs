//! Pictures for people: a preview that a browser can show, and the picture with the region of each sentence drawn.

use anyhow::{Context, Result};
use embedded_graphics::Pixel;
use embedded_graphics::mono_font::MonoTextStyle;
use embedded_graphics::mono_font::iso_8859_1::FONT_9X15 as SMALL;
use embedded_graphics::mono_font::iso_8859_1::FONT_9X15_BOLD as BOLD;
use embedded_graphics::pixelcolor::{Rgb888, RgbColor};
use embedded_graphics::prelude::{DrawTarget, Drawable, OriginDimensions, Point, Primitive, Size};
use embedded_graphics::primitives::{PrimitiveStyle, PrimitiveStyleBuilder, Rectangle, StrokeAlignment};
use embedded_graphics::text::{Baseline, Text};
use image::imageops::FilterType;
use image::{ImageFormat, Rgb, RgbImage};
use swinseek_vision::preprocess::{Channels, Image, Samples};

use super::Report;

/// Longer side of a preview and of an overlay, in pixels.
pub const MAX_SIDE: u32 = 1024;
/// Smaller pictures are enlarged, so that the letters beside them can be read.
const MIN_SIDE: u32 = 512;
/// Light colours that remain apart for colour-blind eyes (Okabe and Ito), told apart by number as well.
const COLOURS: [Rgb888; 7] = [
    Rgb888::new(0xE6, 0x9F, 0x00),
    Rgb888::new(0x56, 0xB4, 0xE9),
    Rgb888::new(0x00, 0xC0, 0x8A),
    Rgb888::new(0xF0, 0xE4, 0x42),
    Rgb888::new(0xFF, 0x7A, 0x3D),
    Rgb888::new(0xE0, 0x90, 0xC0),
    Rgb888::new(0x8F, 0xA8, 0xFF),
];
const PANEL: Rgb888 = Rgb888::new(0x14, 0x16, 0x1A);
const QUIET: Rgb888 = Rgb888::new(0xB4, 0xB8, 0xC0);
const CHARACTER: u32 = 9;
const LINE: i32 = 20;
const MARGIN: i32 = 12;

/// `image` as a PNG, its longer side at most [`MAX_SIDE`], gray values as the model's preprocessing shows them.
pub fn preview(image: &Image) -> Result<Vec<u8>> {
    let picture = to_rgb(image)?;
    let (width, height) = fitted(&picture, 1);
    png(&resized(picture, width, height))
}

/// Picture `index` of `report` as a PNG: the region of every sentence that looked at it, numbered, and below the
/// sentences with their confidence and the notice.
pub fn overlay(report: &Report, index: usize, image: &Image) -> Result<Vec<u8>> {
    let original = to_rgb(image)?;
    let scale_from = f64::from(original.width());
    let (width, height) = fitted(&original, MIN_SIDE);
    let picture = resized(original, width, height);
    // A narrow picture still gets lines of a readable length.
    let across = width.max(MIN_SIDE);
    let legend = legend(report, index, across);
    let panel = legend.len() as u32 * LINE as u32 + 2 * MARGIN as u32;
    let mut canvas = Canvas(RgbImage::new(across, height + panel));
    image::imageops::replace(&mut canvas.0, &picture, 0, 0);
    let scale = f64::from(width) / scale_from;
    for (number, sentence) in report.sentences.iter().enumerate() {
        if let Some(region) = sentence.region.filter(|region| region.image == index) {
            frame(&mut canvas, number, region.bbox.map(|edge| (edge as f64 * scale) as i32), (width, height));
        }
    }
    fill(&mut canvas, Point::new(0, height as i32), Size::new(across, panel), PANEL);
    for (line, (text, colour)) in legend.iter().enumerate() {
        let at = Point::new(MARGIN, height as i32 + MARGIN + line as i32 * LINE);
        let font = if *colour == QUIET { &SMALL } else { &BOLD };
        draw(&mut canvas, &Text::with_baseline(text, at, MonoTextStyle::new(font, *colour), Baseline::Top));
    }
    png(&canvas.0)
}

fn colour(number: usize) -> Rgb888 {
    COLOURS[number % COLOURS.len()]
}

/// A frame with a dark rim on both sides, readable on black and on white, and its number in a corner.
fn frame(
    canvas: &mut Canvas,
    number: usize,
    [left, top, right, bottom]: [i32; 4],
    (width, height): (u32, u32),
) {
    let (left, top) = (left.clamp(0, width as i32 - 1), top.clamp(0, height as i32 - 1));
    let size = Size::new(
        (right.min(width as i32) - left).max(1) as u32,
        (bottom.min(height as i32) - top).max(1) as u32,
    );
    let rectangle = Rectangle::new(Point::new(left, top), size);
    for (stroke, colour) in [(5, Rgb888::BLACK), (3, colour(number))] {
        let style = PrimitiveStyleBuilder::new()
            .stroke_color(colour)
            .stroke_width(stroke)
            .stroke_alignment(StrokeAlignment::Inside)
            .build();
        draw(canvas, &rectangle.into_styled(style));
    }
    let label = (number + 1).to_string();
    let size = Size::new(label.len() as u32 * CHARACTER + 8, 19);
    // Labels of regions that begin at one corner stand side by side.
    let shift = (number % COLOURS.len()) as i32 * 26;
    let at = Point::new((left + shift).min(width as i32 - size.width as i32).max(0), top);
    fill(canvas, at, size, colour(number));
    let style = MonoTextStyle::new(&BOLD, Rgb888::BLACK);
    draw(canvas, &Text::with_baseline(&label, at + Point::new(4, 2), style, Baseline::Top));
}

/// Lines of the panel with their colours.
fn legend(report: &Report, index: usize, width: u32) -> Vec<(String, Rgb888)> {
    let columns = (width.saturating_sub(2 * MARGIN as u32) / CHARACTER).max(16) as usize;
    let mut lines = Vec::new();
    for (number, sentence) in report.sentences.iter().enumerate() {
        let seen = sentence.region.is_some_and(|region| region.image == index);
        let percent = sentence.confidence.clamp(0.0, 1.0) * 100.0;
        let words = format!("{} {} ({percent:.0} %)", number + 1, sentence.text);
        let tint = if seen { colour(number) } else { QUIET };
        lines.extend(wrapped(&words, columns).into_iter().map(|line| (line, tint)));
    }
    lines.extend(wrapped(&report.notice, columns).into_iter().map(|line| (line, QUIET)));
    lines
}

/// Lines of at most `columns` characters, broken at spaces where there are any; characters that the font lacks become
/// question marks.
fn wrapped(text: &str, columns: usize) -> Vec<String> {
    let known = |c: char| if matches!(c, ' '..='~' | '\u{A0}'..='\u{FF}') { c } else { '?' };
    let mut lines: Vec<String> = vec![String::new()];
    for word in text.split_whitespace() {
        let characters: Vec<char> = word.chars().map(known).collect();
        for part in characters.chunks(columns) {
            let line = lines.last_mut().filter(|line| line.chars().count() + 1 + part.len() <= columns);
            match line {
                Some(line) => {
                    if !line.is_empty() {
                        line.push(' ');
                    }
                    line.extend(part);
                }
                None => lines.push(part.iter().collect()),
            }
        }
    }
    lines.retain(|line| !line.is_empty());
    lines
}

/// Width and height with the longer side between `least` and [`MAX_SIDE`], in the same proportion.
fn fitted(picture: &RgbImage, least: u32) -> (u32, u32) {
    let (width, height) = picture.dimensions();
    let longer = width.max(height);
    let scale = f64::from(longer.clamp(least, MAX_SIDE)) / f64::from(longer);
    let side = |side: u32| ((f64::from(side) * scale).round() as u32).max(1);
    (side(width), side(height))
}

fn resized(picture: RgbImage, width: u32, height: u32) -> RgbImage {
    if picture.dimensions() == (width, height) {
        return picture;
    }
    image::imageops::resize(&picture, width, height, FilterType::Triangle)
}

fn to_rgb(image: &Image) -> Result<RgbImage> {
    // Straight to bytes: a mammogram as f32 would take 80 MB more.
    let bytes: Vec<u8> = match image.samples() {
        Samples::U8(samples) => samples.clone(),
        Samples::U16(samples) => samples.iter().map(|&sample| (sample / 257) as u8).collect(),
        Samples::F32(samples) => {
            samples.iter().map(|&s| (s * 255.0).round().clamp(0.0, 255.0) as u8).collect()
        }
    };
    let bytes = match image.channels() {
        Channels::Luma => bytes.iter().flat_map(|&gray| [gray; 3]).collect(),
        Channels::Rgb => bytes,
    };
    RgbImage::from_raw(image.width() as u32, image.height() as u32, bytes).context("picture of a wrong size")
}

fn png(picture: &RgbImage) -> Result<Vec<u8>> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut bytes, ImageFormat::Png).context("PNG")?;
    Ok(bytes.into_inner())
}

/// The picture that the drawing library writes to; what lies outside is left out.
struct Canvas(RgbImage);

impl OriginDimensions for Canvas {
    fn size(&self) -> Size {
        Size::new(self.0.width(), self.0.height())
    }
}

impl DrawTarget for Canvas {
    type Color = Rgb888;
    type Error = std::convert::Infallible;

    fn draw_iter<I: IntoIterator<Item = Pixel<Rgb888>>>(&mut self, pixels: I) -> Result<(), Self::Error> {
        for Pixel(at, colour) in pixels {
            let place = u32::try_from(at.x).ok().zip(u32::try_from(at.y).ok());
            if let Some(pixel) = place.and_then(|(x, y)| self.0.get_pixel_mut_checked(x, y)) {
                *pixel = Rgb([colour.r(), colour.g(), colour.b()]);
            }
        }
        Ok(())
    }
}

fn fill(canvas: &mut Canvas, at: Point, size: Size, colour: Rgb888) {
    draw(canvas, &Rectangle::new(at, size).into_styled(PrimitiveStyle::with_fill(colour)));
}

fn draw<O>(canvas: &mut Canvas, item: &impl Drawable<Color = Rgb888, Output = O>) {
    match item.draw(canvas) {
        Ok(_) => {}
        Err(never) => match never {},
    }
}
