//! Hostile headers take no memory. Alone in its process, because it reads the process's peak.

#![cfg(target_os = "linux")]

use swinseek_vision::preprocess::{DecodeOptions, decode};

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/images");

/// Peak virtual memory of this process in KiB; it counts memory asked for, touched or not, and
/// that of C libraries.
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmPeak:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Files whose headers ask for gigabytes.
fn hostile() -> Vec<(String, Vec<u8>)> {
    let read = |name: &str| std::fs::read(format!("{FIXTURES}/{name}")).unwrap();
    let mut files: Vec<_> = ["png", "jpg", "gif", "bmp", "tiff", "webp"]
        .map(|kind| (format!("huge.{kind}"), read(&format!("raster/huge.{kind}"))))
        .into();
    // A DICOM element of 4 GiB in front of the data set.
    let mut element = read("dicom/MR_small.dcm");
    let start = element.windows(4).position(|w| w == [8, 0, 5, 0] || w == [8, 0, 8, 0]).unwrap();
    element.splice(start..start, [8, 0, 1, 0, b'O', b'B', 0, 0, 0xF0, 0xFF, 0xFF, 0xFF]);
    files.push(("DICOM element".into(), element));
    // A JPEG 2000 codestream of 4 Gi pixels inside a DICOM file of 64 x 64.
    let mut codestream = read("dicom/MR_small_jp2klossless.dcm");
    let size = codestream.windows(4).position(|w| w == [0xFF, 0x4F, 0xFF, 0x51]).unwrap();
    codestream[size + 8..size + 16].copy_from_slice(&[0, 0, 0xFF, 0xFF, 0, 0, 0xFF, 0xFF]);
    files.push(("JPEG 2000 codestream".into(), codestream));
    // A JPEG frame header of 65500 x 65500 inside a DICOM file of 100 x 100.
    let mut frame = read("dicom/SC_rgb_dcmtk_+eb+cr.dcm");
    let size = frame.windows(2).position(|w| w == [0xFF, 0xC0]).unwrap();
    frame[size + 5..size + 9].copy_from_slice(&[0xFF, 0xDC, 0xFF, 0xDC]);
    files.push(("JPEG frame".into(), frame));
    // A TIFF tag (StripOffsets) of 4 Mi values, for which 32 bytes each would be taken.
    let mut tag = read("raster/gray16.tiff");
    let entry = tag.windows(3).position(|w| w == [0x11, 0x01, 0x04]).unwrap();
    tag[entry + 4..entry + 8].copy_from_slice(&[0, 0, 0x40, 0]);
    files.push(("TIFF tag".into(), tag));
    files
}

#[test]
fn hostile_headers_take_no_memory() {
    let files = hostile();
    let before = peak_kib();
    for (name, bytes) in &files {
        let error = decode(bytes, &DecodeOptions::default()).expect_err(name);
        let grown = peak_kib() - before;
        // Decoders keep small tables; the smallest picture among these would take 768 MiB.
        assert!(grown < 64 << 10, "{name} took {grown} KiB: {error}");
    }
}
