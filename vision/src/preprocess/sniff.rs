//! Which format the bytes are, told by content and never by a file name.

use super::dicom;

/// A picture format that is read here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// Portable Network Graphics.
    Png,
    /// JPEG (baseline and progressive, 8 bit).
    Jpeg,
    /// GIF; the first frame is read.
    Gif,
    /// WebP, lossy and lossless.
    WebP,
    /// Windows bitmap.
    Bmp,
    /// TIFF; the first page is read.
    Tiff,
    /// DICOM, PS3.10 files and bare data sets.
    Dicom,
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Png => "PNG",
            Self::Jpeg => "JPEG",
            Self::Gif => "GIF",
            Self::WebP => "WebP",
            Self::Bmp => "BMP",
            Self::Tiff => "TIFF",
            Self::Dicom => "DICOM",
        })
    }
}

/// The format of `bytes`, or `None`.
pub fn sniff(bytes: &[u8]) -> Option<Format> {
    let starts = |magic: &[u8]| bytes.starts_with(magic);
    let at = |offset: usize, magic: &[u8]| bytes.get(offset..).is_some_and(|rest| rest.starts_with(magic));
    // The DICOM preamble is free: it may hold the magic of another format (dual-personality TIFF).
    if at(128, b"DICM") {
        return Some(Format::Dicom);
    }
    if starts(b"\x89PNG\r\n\x1a\n") {
        Some(Format::Png)
    } else if starts(b"\xff\xd8\xff") {
        Some(Format::Jpeg)
    } else if starts(b"GIF87a") || starts(b"GIF89a") {
        Some(Format::Gif)
    } else if starts(b"RIFF") && at(8, b"WEBP") {
        Some(Format::WebP)
    } else if starts(b"II*\0") || starts(b"MM\0*") {
        Some(Format::Tiff)
    } else if starts(b"BM") && bmp_header_size(bytes) {
        Some(Format::Bmp)
    } else if starts(b"DICM") || dicom::looks_like_data_set(bytes) {
        Some(Format::Dicom)
    } else {
        None
    }
}

/// "BM" alone also starts many English words: the header must state one of its known sizes.
fn bmp_header_size(bytes: &[u8]) -> bool {
    let size = bytes.get(14..18).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes);
    matches!(size, Some(12 | 16 | 40 | 52 | 56 | 64 | 108 | 124))
}

/// What unrecognised bytes look like, for the error message.
pub(super) fn describe(bytes: &[u8]) -> String {
    const HEAD: usize = 512;
    let head = &bytes[..bytes.len().min(HEAD)];
    let known: [(&[u8], &str); 7] = [
        (b"%PDF", "a PDF document"),
        (b"PK\x03\x04", "a zip archive"),
        (b"\x1f\x8b", "gzip data"),
        (b"\x00\x00\x00\x0cjP  ", "a JPEG 2000 file outside DICOM"),
        (b"\xff\x4f\xff\x51", "a JPEG 2000 codestream outside DICOM"),
        (b"BM", "something that starts like BMP but has no BMP header"),
        (b"RIFF", "a RIFF file that is not WebP"),
    ];
    if bytes.is_empty() {
        return "an empty file".into();
    }
    for (magic, name) in known {
        if head.starts_with(magic) {
            return name.into();
        }
    }
    let text = |b: &u8| matches!(b, b'\t' | b'\n' | b'\r' | 0x20..=0x7e | 0x80..=0xff);
    if head.iter().all(text) {
        return "text".into();
    }
    let first: Vec<String> = head.iter().take(4).map(|b| format!("{b:02x}")).collect();
    format!("unknown bytes {}", first.join(" "))
}
