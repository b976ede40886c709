//! Random changes that leave a picture's answer as it is: flips and quarter turns, small shifts, grey values.

use anyhow::Result;
use rand::RngExt;
use rand::rngs::ChaCha8Rng;
use swinseek_vision::preprocess::{Image, Samples};

use super::Record;

/// One of the eight symmetries of a square, applied to the picture. Records with boxes are left as they are.
pub fn augment(mut record: Record, rng: &mut ChaCha8Rng) -> Result<Record> {
    let symmetry = rng.random_range(0..8u8);
    if record.findings.is_none() {
        record.image = turned(&record.image, symmetry)?;
    }
    Ok(record)
}

/// A small shift (the border is repeated), another contrast and another brightness, each drawn evenly: the shift from
/// `amount / 2` of a side, the contrast from `1 ± amount`, the brightness from `amount` standard deviations of the
/// picture's own grey values. Records with boxes are left as they are.
pub fn jitter(mut record: Record, amount: f32, rng: &mut ChaCha8Rng) -> Result<Record> {
    let mut even = || amount * rng.random_range(-1.0..=1.0f32);
    let (right, down, contrast, brightness) = (even() / 2.0, even() / 2.0, 1.0 + even(), even());
    if record.findings.is_none() {
        record.image = regraded(&shifted(&record.image, right, down)?, contrast, brightness)?;
    }
    Ok(record)
}

/// The picture moved by shares of its sides.
fn shifted(image: &Image, right: f32, down: f32) -> Result<Image> {
    let (width, height) = (image.width(), image.height());
    let source = |place: usize, share: f32, size: usize| {
        let moved = place as f32 - (share * size as f32).round();
        moved.clamp(0.0, (size - 1) as f32) as usize
    };
    rearranged(image, width, height, |x, y| (source(x, right, width), source(y, down, height)))
}

/// Every sample `v` becomes `mean + contrast (v - mean) + brightness * deviation`, within the range of its type.
fn regraded(image: &Image, contrast: f32, brightness: f32) -> Result<Image> {
    let regrade = |values: &[f32]| -> Vec<f32> {
        let count = values.len().max(1) as f32;
        let mean = values.iter().sum::<f32>() / count;
        let deviation = (values.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / count).sqrt();
        values.iter().map(|v| mean + contrast * (v - mean) + brightness * deviation).collect()
    };
    let samples = match image.samples() {
        Samples::U8(values) => {
            let values: Vec<f32> = values.iter().map(|&v| f32::from(v)).collect();
            Samples::U8(regrade(&values).into_iter().map(|v| v.round() as u8).collect())
        }
        Samples::U16(values) => {
            let values: Vec<f32> = values.iter().map(|&v| f32::from(v)).collect();
            Samples::U16(regrade(&values).into_iter().map(|v| v.round() as u16).collect())
        }
        Samples::F32(values) => Samples::F32(regrade(values)),
    };
    Ok(Image::new(image.width(), image.height(), image.channels(), samples)?)
}

/// Bit 0 mirrors left and right, bit 1 top and bottom, bit 2 swaps rows and columns first.
fn turned(image: &Image, symmetry: u8) -> Result<Image> {
    let transposed = symmetry & 4 != 0;
    let (width, height) =
        if transposed { (image.height(), image.width()) } else { (image.width(), image.height()) };
    rearranged(image, width, height, |x, y| {
        let x = if symmetry & 1 != 0 { width - 1 - x } else { x };
        let y = if symmetry & 2 != 0 { height - 1 - y } else { y };
        if transposed { (y, x) } else { (x, y) }
    })
}

/// A picture of `width` by `height` whose pixel `(x, y)` is the given one's pixel `source(x, y)`.
fn rearranged(
    image: &Image,
    width: usize,
    height: usize,
    source: impl Fn(usize, usize) -> (usize, usize),
) -> Result<Image> {
    let channels = image.channels().count();
    let mut order = Vec::with_capacity(width * height * channels);
    for y in 0..height {
        for x in 0..width {
            let (x, y) = source(x, y);
            order.extend((0..channels).map(|channel| (y * image.width() + x) * channels + channel));
        }
    }
    let samples = match image.samples() {
        Samples::U8(values) => Samples::U8(order.iter().map(|&i| values[i]).collect()),
        Samples::U16(values) => Samples::U16(order.iter().map(|&i| values[i]).collect()),
        Samples::F32(values) => Samples::F32(order.iter().map(|&i| values[i]).collect()),
    };
    Ok(Image::new(width, height, image.channels(), samples)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use swinseek_vision::preprocess::Channels;

    #[test]
    fn the_eight_symmetries_are_distinct_and_keep_every_pixel() -> Result<()> {
        let image = Image::new(3, 2, Channels::Luma, Samples::U8(vec![1, 2, 3, 4, 5, 6]))?;
        let mut seen = std::collections::HashSet::new();
        for symmetry in 0..8 {
            let turned = turned(&image, symmetry)?;
            let Samples::U8(values) = turned.samples() else { panic!("8 bit stays 8 bit") };
            let mut sorted = values.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, [1, 2, 3, 4, 5, 6]);
            seen.insert((turned.width(), values.clone()));
        }
        assert_eq!(seen.len(), 8);
        let Samples::U8(mirrored) = turned(&image, 1)?.samples().clone() else { panic!("8 bit") };
        assert_eq!(mirrored, [3, 2, 1, 6, 5, 4]);
        Ok(())
    }

    #[test]
    fn a_shift_repeats_the_border_and_grey_values_move_about_their_mean() -> Result<()> {
        let image = Image::new(4, 1, Channels::Luma, Samples::U8(vec![10, 20, 30, 240]))?;
        let values = |image: &Image| match image.samples() {
            Samples::U8(values) => values.clone(),
            other => panic!("8 bit stays 8 bit, found {} samples of another type", other.len()),
        };
        assert_eq!(values(&shifted(&image, 0.25, 0.0)?), [10, 10, 20, 30]);
        assert_eq!(values(&shifted(&image, -0.5, 0.0)?), [30, 240, 240, 240]);
        // Mean 75, deviation 95.5: twice the contrast leaves the range at both ends.
        assert_eq!(values(&regraded(&image, 2.0, 0.0)?), [0, 0, 0, 255]);
        assert_eq!(values(&regraded(&image, 0.5, 0.1)?), [52, 57, 62, 167]);
        assert_eq!(values(&regraded(&image, 1.0, 0.0)?), [10, 20, 30, 240]);
        Ok(())
    }
}
