//! Random flips and quarter turns for pictures whose answer does not depend on orientation.

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

/// Bit 0 mirrors left and right, bit 1 top and bottom, bit 2 swaps rows and columns first.
fn turned(image: &Image, symmetry: u8) -> Result<Image> {
    let (width, height, channels) = (image.width(), image.height(), image.channels().count());
    let transposed = symmetry & 4 != 0;
    let (new_width, new_height) = if transposed { (height, width) } else { (width, height) };
    let mut order = Vec::with_capacity(width * height * channels);
    for y in 0..new_height {
        for x in 0..new_width {
            let x = if symmetry & 1 != 0 { new_width - 1 - x } else { x };
            let y = if symmetry & 2 != 0 { new_height - 1 - y } else { y };
            let pixel = if transposed { x * width + y } else { y * width + x };
            order.extend((0..channels).map(|channel| pixel * channels + channel));
        }
    }
    let samples = match image.samples() {
        Samples::U8(values) => Samples::U8(order.iter().map(|&i| values[i]).collect()),
        Samples::U16(values) => Samples::U16(order.iter().map(|&i| values[i]).collect()),
        Samples::F32(values) => Samples::F32(order.iter().map(|&i| values[i]).collect()),
    };
    Ok(Image::new(new_width, new_height, image.channels(), samples)?)
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
}
