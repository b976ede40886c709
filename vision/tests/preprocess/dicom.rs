//! DICOM frames against pydicom (with libjpeg, OpenJPEG, CharLS) and PS3.3 written in numpy.

use serde_json::Value;
use swinseek_vision::preprocess::dicom::{BurnedInAnnotation, Contrast, WindowFunction};
use swinseek_vision::preprocess::{DecodeError, DecodeOptions, Image, decode};

use super::{bytes, difference, fixture, try_decode};

fn reference() -> Value {
    serde_json::from_slice(&std::fs::read(fixture("dicom.json")).unwrap()).unwrap()
}

fn frame(name: &str, index: usize) -> Image {
    try_decode(&format!("dicom/{name}"), index).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn mean(image: &Image) -> f64 {
    let samples = image.samples().to_f32_255();
    samples.iter().map(|&s| f64::from(s)).sum::<f64>() / samples.len() as f64
}

fn refusal(name: &str) -> String {
    try_decode(&format!("dicom/{name}"), 0).unwrap_err().to_string()
}

/// Frames through the lossy DCT differ by decoder; everything else must agree to rounding of f32.
fn tolerance(name: &str) -> f64 {
    let dct = ["SC_jpeg", "SC_rgb_jpeg.dcm", "SC_rgb_dcmtk", "SC_rgb_small_odd_jpeg"];
    if dct.iter().any(|prefix| name.starts_with(prefix)) { 2.0 } else { 1e-3 }
}

#[test]
fn every_frame_has_the_pixels_of_pydicom() {
    let reference = reference();
    let reference = reference.as_object().unwrap();
    assert_eq!(reference.len(), 52, "fixtures are missing");
    for (name, frames) in reference {
        for expected in frames.as_array().unwrap() {
            check_frame(name, expected);
        }
    }
}

fn check_frame(name: &str, expected: &Value) {
    let number = |key: &str| expected[key].as_f64().unwrap();
    let image = frame(name, number("frame") as usize);
    let size = [image.height(), image.width(), image.channels().count()];
    assert_eq!(size, ["height", "width", "channels"].map(|key| number(key) as usize), "{name}");
    let allowed = tolerance(name);
    let found = mean(&image);
    assert!((found - number("mean")).abs() <= allowed, "{name}: mean {found}");
    let samples = image.samples().to_f32_255();
    for pixel in expected["pixels"].as_array().unwrap() {
        let (y, x) = (pixel[0].as_u64().unwrap() as usize, pixel[1].as_u64().unwrap() as usize);
        for (channel, value) in pixel[2].as_array().unwrap().iter().enumerate() {
            let found = f64::from(samples[(y * size[1] + x) * size[2] + channel]);
            let expected = value.as_f64().unwrap();
            assert!(
                (found - expected).abs() <= allowed,
                "{name} at ({x}, {y}) channel {channel}: {found}, expected {expected}"
            );
        }
    }
}

/// The same picture in other transfer syntaxes must come out the same, pixel by pixel.
#[test]
fn lossless_syntaxes_agree_pixel_by_pixel() {
    let groups: [(&str, &[&str]); 3] = [
        (
            "MR_small.dcm",
            &[
                "MR_small_RLE.dcm",
                "MR_small_bigendian.dcm",
                "MR_small_implicit.dcm",
                "MR_small_jp2klossless.dcm",
                "MR_small_jpeg_ls_lossless.dcm",
            ],
        ),
        ("SC_rgb_rle.dcm", &["SC_rgb_jpeg_gdcm.dcm"]),
        ("SC_rgb_small_odd.dcm", &["SC_rgb_small_odd_big_endian.dcm"]),
    ];
    for (first, others) in groups {
        let expected = frame(first, 0).samples().to_f32_255();
        for other in others {
            let found = frame(other, 0).samples().to_f32_255();
            assert_eq!(difference(&found, &expected), (0.0, 0.0), "{other} and {first}");
        }
    }
}

/// What other readers get silently wrong, with the wrong answers named.
#[test]
fn tables_are_applied() {
    // 31.83 would be the palette indices shown as gray.
    assert!((mean(&frame("OBXXXX1A_rle.dcm", 0)) - 12.3949).abs() < 1e-3);
    // 1.34 would be the Modality LUT Sequence left out.
    let modality = frame("mlut_18.dcm", 0);
    assert!((mean(&modality) - 129.0940).abs() < 1e-3);
    assert!(modality.source().dicom.as_ref().unwrap().grayscale.unwrap().modality_lut);
    let voi = frame("vlut_04.dcm", 0);
    assert_eq!(voi.source().dicom.as_ref().unwrap().grayscale.unwrap().contrast, Contrast::Lut);
}

#[test]
fn monochrome1_is_inverted_once() {
    let radiograph = frame("RG3_J2KI.dcm", 0);
    let how = radiograph.source().dicom.as_ref().unwrap().grayscale.unwrap();
    assert!(how.inverted);
    let window = Contrast::Window { center: 550.0, width: 1024.0, function: WindowFunction::Linear };
    assert_eq!(how.contrast, window);
    // MONOCHROME1 together with PresentationLUTShape INVERSE is one inversion, as is either alone.
    let both = frame("made_monochrome1_and_inverse.dcm", 0);
    let shape = frame("made_inverse_shape.dcm", 0);
    assert_eq!(both.samples(), shape.samples());
}

#[test]
fn the_facts_are_kept_and_not_printed() {
    let image = frame("CT_small.dcm", 0);
    let facts = image.source().dicom.as_ref().unwrap();
    assert_eq!(facts.modality.as_deref(), Some("CT"));
    assert_eq!(facts.sop_class_uid.as_deref(), Some("1.2.840.10008.5.1.4.1.1.2"));
    let instance = facts.sop_instance_uid.as_deref().unwrap();
    assert!(instance.starts_with("1.3.6.1.4.1.5962."));
    assert!(facts.study_instance_uid.is_some() && facts.series_instance_uid.is_some());
    assert_eq!(facts.burned_in_annotation, BurnedInAnnotation::Unstated);
    let printed = format!("{:?} {:?}", facts, image.source());
    assert!(!printed.contains("1.3.6.1.4.1.5962"), "UIDs are not for logs: {printed}");
}

/// Twelve bits at the top of sixteen, and at the bottom under overlay bits, are the same picture.
#[test]
fn bits_outside_the_stored_ones_are_masked() {
    let (high, low) = (frame("made_high_bit_15.dcm", 0), frame("made_overlay_bits.dcm", 0));
    assert_eq!(high.samples(), low.samples());
}

#[test]
fn frames_are_chosen() {
    let first = frame("emri_small_jpeg_ls_lossless.dcm", 0);
    let last = frame("emri_small_jpeg_ls_lossless.dcm", 9);
    assert_eq!((last.source().frame, last.source().frames), (9, 10));
    assert_ne!(first.samples(), last.samples());
    let error = try_decode("dicom/emri_small_jpeg_ls_lossless.dcm", 10).unwrap_err();
    assert_eq!(error.to_string(), "DICOM: frame 10 was asked for, frames 0 to 9 can be read");
}

#[test]
fn pixel_spacing_is_kept() {
    // PixelSpacing 0.4 between rows, 0.2 between columns.
    assert_eq!(frame("made_spacing.dcm", 0).source().pixel_aspect, 2.0);
    assert_eq!(frame("MR_small.dcm", 0).source().pixel_aspect, 1.0);
}

#[test]
fn refusals_say_why() {
    let cases = [
        ("JPGExtended.dcm", "DICOM: not supported: 12-bit extended sequential JPEG"),
        ("JPEG2000-embedded-sequence-delimiter.dcm", "DICOM: damaged: JPEG 2000: "),
        ("MR_truncated.dcm", "DICOM: truncated: pixel data needs 8192 bytes, 8130 are left"),
        ("badVR.dcm", "DICOM: not supported: an RT dose (SOP class 1.2.840.10008.5.1.4.1.1.481.2)"),
        ("reportsi.dcm", "DICOM: not supported: a structured report"),
        ("rtdose_1frame.dcm", "DICOM: not supported: an RT dose"),
        ("rtplan.dcm", "DICOM: not supported: a radiotherapy object"),
        ("rtplan_truncated.dcm", "DICOM: truncated: element (300A,00B0) needs 976 bytes, 711 are left"),
        ("UN_sequence.dcm", "DICOM: not supported: no Pixel Data element"),
        ("no_meta_group_length.dcm", "DICOM: not supported: no Pixel Data element"),
    ];
    for (name, expected) in cases {
        let message = refusal(name);
        assert!(message.starts_with(expected), "{name}: {message}");
        assert!(!message.contains('\n'), "{name}: {message}");
    }
}

#[test]
fn unknown_transfer_syntaxes_are_named() {
    let mut file = bytes("dicom/MR_small_RLE.dcm");
    let uid = b"1.2.840.10008.1.2.5\0";
    let at = file.windows(uid.len()).position(|window| window == uid).unwrap();
    // High-throughput JPEG 2000, stated with the same length.
    file[at..at + uid.len()].copy_from_slice(b"1.2.840.10008.1.2.7\0");
    let error = decode(&file, &DecodeOptions::default()).unwrap_err();
    let expected = "DICOM: not supported: transfer syntax 1.2.840.10008.1.2.7 (unknown)";
    assert_eq!(error.to_string(), expected);
    assert!(matches!(error, DecodeError::Unsupported { .. }));
}
