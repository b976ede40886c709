//! Colour frames to RGB: palettes, YCbCr, planes (PS3.3 C.7.6.3.1.2, C.7.6.3.1.5).

use dicom_core::Tag;
use dicom_dictionary_std::tags;

use super::super::error::DecodeError;
use super::super::image::Samples;
use super::attributes::Attributes;
use super::codec::{Decoded, Order};
use super::lut::Lut;
use super::stored::Stored;
use super::structure::PixelKind;
use super::unsupported;
use super::values::DataSet;

/// Descriptor and data of the three palettes.
const PALETTES: [(Tag, Tag); 3] = [
    (tags::RED_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR, tags::RED_PALETTE_COLOR_LOOKUP_TABLE_DATA),
    (tags::GREEN_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR, tags::GREEN_PALETTE_COLOR_LOOKUP_TABLE_DATA),
    (tags::BLUE_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR, tags::BLUE_PALETTE_COLOR_LOOKUP_TABLE_DATA),
];

/// Looks up PALETTE COLOR indices.
pub(super) fn palette(stored: &Stored, set: &DataSet) -> Result<Samples, DecodeError> {
    let root = set.root();
    let segmented = tags::SEGMENTED_RED_PALETTE_COLOR_LOOKUP_TABLE_DATA;
    if root.get(PALETTES[0].1).is_none() && root.get(segmented).is_some() {
        return Err(unsupported("segmented palettes"));
    }
    let mut luts = Vec::new();
    for (descriptor, data) in PALETTES {
        luts.push(Lut::read(root, descriptor, data, stored.signed())?);
    }
    let indices = (0..stored.count()).map(|index| stored.value(index));
    let colors = indices.flat_map(|index| luts.iter().map(move |lut| (lut.map(index), lut.bits)));
    if luts.iter().all(|lut| lut.bits <= 8) {
        return Ok(Samples::U8(colors.map(|(color, _)| color.min(255) as u8).collect()));
    }
    // 8-bit tables next to 16-bit ones are widened: 255 * 257 = 65535.
    let widen = |(color, bits): (u16, u32)| {
        if bits <= 8 { color.min(255) * 257 } else { color }
    };
    Ok(Samples::U16(colors.map(widen).collect()))
}

/// RGB of a frame of three samples per pixel. Windows do not apply to colour (C.11.2).
pub(super) fn render(
    decoded: &Decoded,
    stored: &Stored,
    attributes: &Attributes,
) -> Result<Samples, DecodeError> {
    if stored.signed() || decoded.kind != PixelKind::Integer {
        return Err(unsupported("colour of signed or floating-point samples"));
    }
    let pixels = attributes.rows * attributes.columns;
    if decoded.order == Order::Chroma422 && attributes.columns % 2 == 1 {
        return Err(unsupported("YBR_FULL_422 of odd width"));
    }
    let at = |pixel: usize| match decoded.order {
        Order::Pixels => [3 * pixel, 3 * pixel + 1, 3 * pixel + 2],
        Order::Planes => [pixel, pixels + pixel, 2 * pixels + pixel],
        Order::Chroma422 => {
            let pair = pixel / 2 * 4;
            [pair + pixel % 2, pair + 2, pair + 3]
        }
    };
    let white = ((1u64 << stored.bits()) - 1) as f64;
    let rgb = |pixel: usize| {
        let color = at(pixel).map(|index| stored.value(index));
        if decoded.ybr { ybr_to_rgb(color, white) } else { color }
    };
    let samples = (0..pixels).flat_map(rgb);
    Ok(match stored.bits() {
        8 => Samples::U8(samples.map(|v| v as u8).collect()),
        1..=16 => Samples::U16(samples.map(|v| (v * 65535.0 / white).round() as u16).collect()),
        _ => Samples::F32(samples.map(|v| (v / white) as f32).collect()),
    })
}

/// Full-range YCbCr to RGB, rounded to stored values (C.7.6.3.1.2).
fn ybr_to_rgb([y, cb, cr]: [f64; 3], white: f64) -> [f64; 3] {
    let middle = (white / 2.0).ceil();
    let (cb, cr) = (cb - middle, cr - middle);
    let rgb = [y + 1.402 * cr, y - (0.114 * 1.772 * cb + 0.299 * 1.402 * cr) / 0.587, y + 1.772 * cb];
    rgb.map(|v| v.round().clamp(0.0, white))
}
