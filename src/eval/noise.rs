//! Noise in place of a picture.

use anyhow::Result;
use rand::Rng;
use swinseek_vision::preprocess::{Channels, Image, Samples};

use crate::train::data::stream;

/// Gray noise of the size of `picture`; the same for the same seed, item and place in the item.
pub(super) fn like(picture: &Image, seed: u64, item: &str, place: usize) -> Result<Image> {
    let (width, height) = (picture.width(), picture.height());
    let mut bytes = vec![0; width * height];
    stream(seed, &format!("blind {item}"), place as u64, 0).fill_bytes(&mut bytes);
    Ok(Image::new(width, height, Channels::Luma, Samples::U8(bytes))?)
}

/// The noise as a PNG file.
pub(super) fn png_like(picture: &Image, seed: u64, item: &str, place: usize) -> Result<Vec<u8>> {
    let noise = like(picture, seed, item, place)?;
    let Samples::U8(pixels) = noise.samples() else {
        anyhow::bail!("noise has eight bits");
    };
    let mut bytes = Vec::new();
    let (width, height) = (noise.width() as u32, noise.height() as u32);
    let encoder = image::codecs::png::PngEncoder::new(&mut bytes);
    image::ImageEncoder::write_image(encoder, pixels, width, height, image::ExtendedColorType::L8)?;
    Ok(bytes)
}
