//! PNG, JPEG, GIF, WebP, BMP, TIFF against what Pillow wrote and read.

use std::path::Path;

use safetensors::SafeTensors;
use swinseek_vision::preprocess::{Channels, DecodeError, Format, Samples, sniff};

use super::{bytes, difference, files, fixture, tensor, try_decode};

/// Largest and mean difference allowed, of 255. Lossless formats must agree exactly; JPEG leaves
/// the inverse DCT and the chroma upsampling to the decoder, and ours is not libjpeg-turbo.
fn tolerance(name: &str) -> (f32, f32) {
    let dct = Path::new(name).extension().is_some_and(|extension| extension == "jpg");
    if dct { (4.0, 0.5) } else { (0.0, 0.0) }
}

#[test]
fn every_raster_file_has_the_pixels_of_pillow() {
    let references = std::fs::read(fixture("raster.safetensors")).unwrap();
    let references = SafeTensors::deserialize(&references).unwrap();
    assert_eq!(references.len(), 35, "fixtures are missing");
    for name in references.names() {
        let image = try_decode(&format!("raster/{name}"), 0).unwrap_or_else(|e| panic!("{name}: {e}"));
        let (shape, expected) = tensor(&references, name);
        let found = [image.height(), image.width(), image.channels().count()];
        assert_eq!(found, shape[..], "{name}");
        let (largest, mean) = difference(&image.samples().to_f32_255(), &expected);
        let allowed = tolerance(name);
        assert!(
            largest <= allowed.0 && mean <= allowed.1,
            "{name}: differs by {largest} at most and {mean} on average"
        );
    }
}

#[test]
fn sixteen_bits_stay_sixteen_bits() {
    for (name, channels) in
        [("gray16.png", Channels::Luma), ("rgb16.png", Channels::Rgb), ("gray16.tiff", Channels::Luma)]
    {
        let image = try_decode(&format!("raster/{name}"), 0).unwrap();
        assert_eq!(image.channels(), channels, "{name}");
        let Samples::U16(samples) = image.samples() else { panic!("{name} lost its depth") };
        assert!(samples.iter().any(|s| s % 257 != 0), "{name} has more than 8 bits");
    }
}

#[test]
fn formats_are_told_by_content() {
    let expected = |name: &str| match name.rsplit('.').next().unwrap() {
        "png" => Format::Png,
        "jpg" => Format::Jpeg,
        "gif" => Format::Gif,
        "webp" => Format::WebP,
        "bmp" => Format::Bmp,
        "tiff" => Format::Tiff,
        other => panic!("{other}"),
    };
    for name in files("raster").iter().filter(|name| !name.ends_with("text.png")) {
        assert_eq!(sniff(&bytes(name)), Some(expected(name)), "{name}");
    }
}

#[test]
fn palettes_of_tiff_are_refused() {
    let error = try_decode("raster/palette.tiff", 0).unwrap_err();
    assert!(matches!(error, DecodeError::Unsupported { format: Format::Tiff, .. }), "{error}");
}

#[test]
fn text_named_png_is_refused_by_one_line() {
    let error = try_decode("raster/text.png", 0).unwrap_err().to_string();
    assert_eq!(error, "not an image: found text, expected PNG, JPEG, GIF, WebP, BMP, TIFF or DICOM");
}

#[test]
fn raster_files_have_one_frame() {
    let error = try_decode("raster/animated.gif", 1).unwrap_err();
    assert_eq!(error, DecodeError::Frame { format: Format::Gif, frame: 1, last: 0 });
    assert_eq!(error.to_string(), "GIF: frame 1 was asked for, frames 0 to 0 can be read");
}

#[test]
fn one_pixel_is_a_picture() {
    let image = try_decode("raster/one_pixel.png", 0).unwrap();
    assert_eq!((image.width(), image.height()), (1, 1));
    assert_eq!(image.samples(), &Samples::U8(vec![10, 20, 30]));
    assert_eq!(image.source().format, Some(Format::Png));
}
