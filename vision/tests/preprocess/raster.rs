//! PNG, JPEG, GIF, WebP, BMP, TIFF against what Pillow wrote and read.

use proptest::prelude::*;
use safetensors::SafeTensors;
use swinseek_vision::preprocess::{
    Channels, DecodeError, DecodeOptions, Format, Limits, Samples, decode, sniff,
};

use super::{bytes, difference, files, fixture, tensor, try_decode};

/// Largest and mean difference allowed, of 255. Lossless formats and baseline JPEG must agree exactly; progressive JPEG leaves
/// the inverse DCT and the chroma upsampling to a decoder that is not libjpeg-turbo.
fn tolerance(name: &str) -> (f32, f32) {
    if name == "progressive.jpg" { (4.0, 0.5) } else { (0.0, 0.0) }
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

/// The bytes of a file and its pixels, of every case in `jpeg.safetensors`.
fn jpegs() -> Vec<(String, Vec<u8>, Vec<u8>)> {
    let file = std::fs::read(fixture("jpeg.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&file).unwrap();
    let names = tensors.names().into_iter().filter_map(|name| name.strip_suffix(".file"));
    let data = |name: String| tensors.tensor(&name).unwrap().data().to_vec();
    names
        .map(|name| (name.to_owned(), data(format!("{name}.file")), data(format!("{name}.pixels"))))
        .collect()
}

#[test]
fn baseline_jpeg_has_the_pixels_of_libjpeg_turbo() {
    let cases = jpegs();
    assert_eq!(cases.len(), 54, "fixtures are missing");
    for (name, bytes, expected) in cases {
        let image = decode(&bytes, &DecodeOptions::default()).unwrap_or_else(|e| panic!("{name}: {e}"));
        let Samples::U8(samples) = image.samples() else { panic!("{name} is not of 8 bits") };
        // Chroma of one or two columns is left to the general decoder, which smooths it.
        let narrow = image.width() <= 4 && matches!(name.rsplit('.').next(), Some("1" | "2" | "3" | "4"));
        let differ = samples.iter().zip(&expected).filter(|(a, b)| a != b).count();
        assert!(
            samples.len() == expected.len() && (narrow || differ == 0),
            "{name}: {differ} samples differ"
        );
    }
}

#[test]
fn large_jpegs_are_the_same_on_any_number_of_threads() {
    let wave = |x: u32, y: u32| ((x * x + 3 * y) % 251) as u8;
    let picture =
        image::RgbImage::from_fn(701, 523, |x, y| image::Rgb([wave(x, y), wave(y, x), (x ^ y) as u8]));
    let mut file = Vec::new();
    picture.write_with_encoder(image::codecs::jpeg::JpegEncoder::new_with_quality(&mut file, 60)).unwrap();
    let on = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| decode(&file, &DecodeOptions::default()).unwrap())
    };
    assert!(on(1) == on(2), "pixels depend on the number of threads");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Damage must end in an error or a picture of the size in the header, never in a panic.
    #[test]
    fn damaged_jpegs_do_no_harm(case in 0usize..54, at in 0.0f64..1.0, change in any::<[u8; 3]>(), cut in 0.0f64..1.0) {
        let (_, mut bytes, _) = jpegs().swap_remove(case);
        let at = ((bytes.len() - 3) as f64 * at) as usize;
        bytes[at..at + 3].copy_from_slice(&change);
        let _ = decode(&bytes, &DecodeOptions { limits: Limits { max_pixels: 1 << 20, ..Limits::default() }, frame: 0 });
        bytes.truncate((bytes.len() as f64 * cut) as usize);
        let _ = decode(&bytes, &DecodeOptions { limits: Limits { max_pixels: 1 << 20, ..Limits::default() }, frame: 0 });
    }
}
