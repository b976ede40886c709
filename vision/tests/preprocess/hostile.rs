//! Damaged, truncated and random input: an error of one line, never a panic.

use proptest::prelude::*;
use swinseek_vision::preprocess::{DecodeError, DecodeOptions, Image, Limits, decode};

use super::{bytes, files, try_decode};

/// Small limits, so that a decoder that ignores them is slow enough to be noticed.
const LIMITS: Limits = Limits { max_bytes: 4 << 20, max_pixels: 4 << 20, max_frames: 64 };

fn try_bytes(bytes: &[u8]) -> Result<Image, DecodeError> {
    decode(bytes, &DecodeOptions { limits: LIMITS, frame: 0 })
}

/// Whatever comes out keeps its promises.
fn check(result: Result<Image, DecodeError>) {
    match result {
        Ok(image) => {
            let pixels = image.width() * image.height();
            assert!(pixels as u64 <= LIMITS.max_pixels);
            assert_eq!(image.samples().len(), pixels * image.channels().count());
        }
        Err(error) => assert!(!error.to_string().contains('\n'), "{error}"),
    }
}

/// Fixtures small enough to be damaged thousands of times.
fn seeds() -> Vec<Vec<u8>> {
    let names = files("raster").into_iter().chain(files("dicom"));
    names.map(|name| bytes(&name)).filter(|bytes| bytes.len() < 8 << 10).collect()
}

#[test]
fn a_header_of_65535_squared_is_refused() {
    for kind in ["png", "jpg", "gif", "bmp", "tiff", "webp"] {
        let error = try_decode(&format!("raster/huge.{kind}"), 0).unwrap_err();
        let pixels = if kind == "webp" { 16000u64 } else { 65535 }.pow(2);
        let expected = format!("number of pixels is {pixels}, the limit is 67108864");
        assert!(error.to_string().ends_with(&expected), "{kind}: {error}");
    }
}

#[test]
fn dicom_sizes_are_limited() {
    let mut file = bytes("dicom/MR_small.dcm");
    // Rows (0028,0010) and Columns (0028,0011), explicit VR US of 2 bytes.
    for element in [0x10, 0x11] {
        let header = [0x28, 0, element, 0, b'U', b'S', 2, 0];
        let at = file.windows(8).position(|window| window == header).unwrap();
        file[at + 8..at + 10].copy_from_slice(&[0xFF, 0xFF]);
    }
    let error = decode(&file, &DecodeOptions::default()).unwrap_err();
    assert_eq!(error.to_string(), "DICOM: number of pixels is 4294836225, the limit is 67108864");

    let options = |limits| DecodeOptions { limits, frame: 0 };
    let few = options(Limits { max_frames: 9, ..Limits::default() });
    let error = decode(&bytes("dicom/emri_small_jpeg_ls_lossless.dcm"), &few).unwrap_err();
    assert_eq!(error.to_string(), "DICOM: number of frames is 10, the limit is 9");

    // A deflated data set is held to the limit while it inflates.
    let small = options(Limits { max_bytes: 100_000, ..Limits::default() });
    let error = decode(&bytes("dicom/image_dfl.dcm"), &small).unwrap_err();
    assert_eq!(error.to_string(), "DICOM: inflated size in bytes is 100001, the limit is 100000");

    let tiny = options(Limits { max_bytes: 10, ..Limits::default() });
    let error = decode(&bytes("raster/rgb.png"), &tiny).unwrap_err();
    assert!(error.to_string().starts_with("image: size in bytes is "), "{error}");
}

#[test]
fn lengths_beyond_the_file_are_refused() {
    // A private element that claims 4 GiB less 16 bytes, ahead of everything else.
    let mut file = bytes("dicom/MR_small.dcm");
    let start = file.windows(4).position(|window| window == [8, 0, 5, 0] || window == [8, 0, 8, 0]);
    let element = [8, 0, 1, 0, b'O', b'B', 0, 0, 0xF0, 0xFF, 0xFF, 0xFF];
    let start = start.unwrap();
    file.splice(start..start, element);
    let error = decode(&file, &DecodeOptions::default()).unwrap_err().to_string();
    assert!(error.starts_with("DICOM: truncated: element (0008,0001) needs 4294967280 bytes"), "{error}");

    // Sequences nested 100,000 deep, which would exhaust the stack of a recursive reader.
    let mut deep = vec![0; 128];
    deep.extend(b"DICM");
    let nest = [
        8, 0, 0x15, 0x11, b'S', b'Q', 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0xFE, 0xFF, 0, 0xE0, 0xFF, 0xFF, 0xFF,
        0xFF,
    ];
    deep.extend(nest.iter().cycle().take(100_000 * nest.len()));
    let error = decode(&deep, &DecodeOptions::default()).unwrap_err().to_string();
    assert_eq!(error, "DICOM: damaged: sequences are nested more than 64 deep");
}

/// Every file, cut at half and at nine tenths: an error, except where all pixels come first.
#[test]
fn truncated_files_of_every_format_are_refused() {
    // Two frames: the cut falls into the second. TIFF keeps its directory after the pixels or
    // before them, and the last strip may be complete.
    let complete = |name: &str| name.contains("animated") || name.contains("made_bilevel_2frames");
    for name in files("raster").into_iter().chain(files("dicom")) {
        let whole = bytes(&name);
        if try_bytes(&whole).is_err() || complete(&name) {
            continue;
        }
        for length in [whole.len() / 2, whole.len() * 9 / 10] {
            let result = try_bytes(&whole[..length]);
            let error = result.err().unwrap_or_else(|| panic!("{name} cut at {length} was read"));
            assert!(!error.to_string().contains('\n'), "{name}: {error}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_never_panic(tail in prop::collection::vec(any::<u8>(), 0..600), magic in 0usize..9) {
        let magics: [&[u8]; 9] = [
            b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"GIF89a", b"RIFF\x20\0\0\0WEBPVP8 ",
            b"BM\0\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0", b"II*\0\x08\0\0\0", b"DICM", b"\x08\0\x05\0CS",
        ];
        let mut file = magics[magic].to_vec();
        file.extend(tail);
        check(try_bytes(&file));
    }

    #[test]
    fn damaged_files_never_panic(
        seed in any::<prop::sample::Index>(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        thread_local!(static SEEDS: Vec<Vec<u8>> = seeds());
        let mut file = SEEDS.with(|seeds| seed.get(seeds).clone());
        for (at, value) in edits {
            let at = at.index(file.len());
            file[at] = value;
        }
        if let Some(cut) = cut {
            file.truncate(cut.index(file.len()));
        }
        check(try_bytes(&file));
    }
}

/// Found by the fuzzer.
#[test]
fn a_palette_of_broken_colours_is_refused() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/images/palette_of_49_bytes.png");
    let error = try_bytes(&std::fs::read(path).unwrap()).unwrap_err().to_string();
    assert_eq!(error, "PNG: damaged: the palette has 49 bytes, expected 3 for each of at most 256 colours");
}
