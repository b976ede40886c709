//! Compressed frames to samples, by transfer syntax (PS3.5 annex A.4).
//!
//! JPEG and JPEG 2000 run through dicom-rs after their headers were held against Rows and Columns;
//! RLE and JPEG-LS are decoded here.

use std::borrow::Cow;
use std::ops::Range;

use dicom_dictionary_std::uids;
use dicom_transfer_syntax_registry::{TransferSyntaxIndex, TransferSyntaxRegistry};

use super::super::error::DecodeError;
use super::super::{jpeg_ls, jpeg_marker};
use super::attributes::{Attributes, Photometric};
use super::file::Data;
use super::frames::{Frame, Words};
use super::structure::PixelKind;
use super::{adapter, j2k, malformed, rle, unsupported};

/// Order of samples in a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// All samples of a pixel together.
    Pixels,
    /// All pixels of a sample together.
    Planes,
    /// Y, Y, Cb, Cr for two pixels.
    Chroma422,
}

/// Samples of one frame, as they are stored.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Decoded<'a> {
    pub(super) bytes: Cow<'a, [u8]>,
    /// Bits of the first byte that belong to the frame before; only with 1-bit samples.
    pub(super) first_bit: usize,
    pub(super) bits_allocated: u32,
    pub(super) bits_stored: u32,
    pub(super) high_bit: u32,
    pub(super) kind: PixelKind,
    pub(super) big_endian: bool,
    pub(super) order: Order,
    /// The samples are YCbCr and still have to become RGB.
    pub(super) ybr: bool,
}

/// Decodes a frame with the codec of the file's transfer syntax.
pub(super) fn decode<'a>(
    frame: &Frame,
    attributes: &Attributes,
    data: &'a Data,
) -> Result<Decoded<'a>, DecodeError> {
    let fragments = match frame {
        Frame::Native { bytes, first_bit, kind, words } => {
            let bytes = unswapped(bytes, *words, attributes, data);
            return Ok(native(bytes, *first_bit, *kind, attributes, data));
        }
        Frame::Compressed { fragments } => fragments,
    };
    let codestream = join(&data.bytes, fragments);
    match data.transfer_syntax.as_str() {
        uids::RLE_LOSSLESS => run_length(&codestream, attributes),
        uids::JPEG_BASELINE8_BIT
        | uids::JPEG_EXTENDED12_BIT
        | uids::JPEG_LOSSLESS
        | uids::JPEG_LOSSLESS_SV1 => jpeg(codestream, attributes, &data.transfer_syntax),
        uids::JPEG2000_LOSSLESS | uids::JPEG2000 => jpeg_2000(&codestream, attributes, &data.transfer_syntax),
        uids::JPEGLS_LOSSLESS | uids::JPEGLS_NEAR_LOSSLESS => jpeg_lossless_ls(&codestream, attributes),
        other => {
            let name = TransferSyntaxRegistry.get(other).map_or("unknown", |syntax| syntax.name());
            let other: String = other.chars().take(64).collect();
            Err(unsupported(format!("transfer syntax {other} ({name})")))
        }
    }
}

/// Bytes of a native frame; samples of at most 8 bits in big-endian words are put in order.
fn unswapped<'a>(
    range: &Range<usize>,
    words: Words,
    attributes: &Attributes,
    data: &'a Data,
) -> Cow<'a, [u8]> {
    let bytes = &data.bytes;
    match words.start {
        Some(start) if data.encoding.big_endian && attributes.bits_allocated <= 8 => {
            let partner = |at: usize| start + ((at - start) ^ 1);
            // The last byte of an odd value has no partner.
            range.clone().map(|at| *bytes.get(partner(at)).unwrap_or(&bytes[at])).collect()
        }
        _ => Cow::Borrowed(&bytes[range.clone()]),
    }
}

fn native<'a>(
    bytes: Cow<'a, [u8]>,
    first_bit: usize,
    kind: PixelKind,
    attributes: &Attributes,
    data: &Data,
) -> Decoded<'a> {
    let order = match attributes.photometric {
        Photometric::Ybr { subsampled: true, .. } => Order::Chroma422,
        _ if attributes.planar && attributes.samples > 1 => Order::Planes,
        _ => Order::Pixels,
    };
    Decoded {
        bytes,
        first_bit,
        bits_allocated: attributes.bits_allocated,
        bits_stored: attributes.bits_stored,
        high_bit: attributes.high_bit,
        kind,
        big_endian: data.encoding.big_endian,
        order,
        ybr: matches!(attributes.photometric, Photometric::Ybr { .. }),
    }
}

/// A frame that a codec turned into little-endian samples of `precision` bits.
fn unpacked(bytes: Vec<u8>, allocated: u32, precision: u32, order: Order, ybr: bool) -> Decoded<'static> {
    Decoded {
        bytes: Cow::Owned(bytes),
        first_bit: 0,
        bits_allocated: allocated,
        bits_stored: precision,
        high_bit: precision - 1,
        kind: PixelKind::Integer,
        big_endian: false,
        order,
        ybr,
    }
}

fn join<'a>(bytes: &'a [u8], fragments: &[Range<usize>]) -> Cow<'a, [u8]> {
    match fragments {
        [only] => Cow::Borrowed(&bytes[only.clone()]),
        many => Cow::Owned(many.iter().flat_map(|range| &bytes[range.clone()]).copied().collect()),
    }
}

fn run_length(bytes: &[u8], attributes: &Attributes) -> Result<Decoded<'static>, DecodeError> {
    let allocated = attributes.bits_allocated;
    if !matches!(allocated, 8 | 16 | 32) {
        return Err(unsupported(format!("RLE with BitsAllocated {allocated}")));
    }
    let pixels = attributes.rows * attributes.columns;
    let samples =
        rle::decode(bytes, pixels, attributes.samples, allocated as usize / 8).map_err(malformed)?;
    let ybr = matches!(attributes.photometric, Photometric::Ybr { .. });
    Ok(Decoded {
        bits_stored: attributes.bits_stored,
        high_bit: attributes.high_bit,
        ..unpacked(samples, allocated, allocated, Order::Planes, ybr)
    })
}

fn jpeg(
    codestream: Cow<[u8]>,
    attributes: &Attributes,
    syntax: &str,
) -> Result<Decoded<'static>, DecodeError> {
    let header = jpeg_marker::parse(&codestream).map_err(|m| malformed(format!("JPEG: {m}")))?;
    let precision = u32::from(header.precision);
    let lossless = header.process == 0xC3;
    if !lossless && (precision != 8 || header.process > 0xC2) {
        let process = header.process_name();
        let message = format!("{precision}-bit {process} JPEG, expected 8 bits or lossless");
        return Err(unsupported(message));
    }
    if !(2..=16).contains(&precision) {
        return Err(malformed(format!("JPEG of {precision} bits per sample")));
    }
    check_size("JPEG", attributes, header.width, header.height, header.components.len())?;
    if !header.complete {
        return Err(super::truncated("the JPEG codestream has no end-of-image marker"));
    }
    let stored_ybr = jpeg_is_ybr(&header, attributes);
    // dicom-rs converts to RGB by the component identifiers, and never for lossless frames.
    let codestream = match header.components.len() {
        3 if !lossless => relabel(codestream.into_owned(), &header, stored_ybr),
        _ => codestream.into_owned(),
    };
    let allocated = if precision == 8 { 8 } else { 16 };
    let samples = adapter::decode(codestream, attributes, allocated, syntax)?;
    Ok(unpacked(samples, allocated, precision, Order::Pixels, lossless && stored_ybr))
}

/// Whether three components are YCbCr: the codestream's own word counts before the attribute's.
fn jpeg_is_ybr(header: &jpeg_marker::JpegHeader, attributes: &Attributes) -> bool {
    match (&header.components[..], header.adobe_transform) {
        (b"RGB" | b"rgb", _) => false,
        _ if header.jfif => true,
        (_, Some(transform)) => transform != 0,
        _ => matches!(attributes.photometric, Photometric::Ybr { .. }),
    }
}

/// Rewrites component identifiers to those that dicom-rs takes for YCbCr (1, 2, 3) or for RGB.
fn relabel(mut bytes: Vec<u8>, header: &jpeg_marker::JpegHeader, ybr: bool) -> Vec<u8> {
    let labels = if ybr { [1, 2, 3] } else { *b"RGB" };
    for &offset in &header.identifier_offsets {
        let Some(byte) = bytes.get_mut(offset) else {
            continue;
        };
        if let Some(index) = header.components.iter().position(|id| id == byte) {
            *byte = labels[index];
        }
    }
    bytes
}

fn jpeg_2000(
    fragment: &[u8],
    attributes: &Attributes,
    syntax: &str,
) -> Result<Decoded<'static>, DecodeError> {
    let codestream = j2k::check(fragment).map_err(|m| malformed(format!("JPEG 2000: {m}")))?;
    let j2k::Codestream { bytes, width, height, components, precision } = codestream;
    check_size("JPEG 2000", attributes, width, height, components)?;
    if precision > 16 {
        return Err(unsupported(format!("JPEG 2000 of {precision} bits, expected at most 16")));
    }
    let allocated = if precision <= 8 { 8 } else { 16 };
    let samples = adapter::decode(bytes.to_vec(), attributes, allocated, syntax)?;
    // OpenJPEG undoes the ICT and RCT; YBR_FULL is not part of the codestream.
    let ybr = matches!(attributes.photometric, Photometric::Ybr { inside_jpeg_2000: false, .. });
    Ok(unpacked(samples, allocated, precision, Order::Pixels, ybr))
}

fn jpeg_lossless_ls(bytes: &[u8], attributes: &Attributes) -> Result<Decoded<'static>, DecodeError> {
    let expected = jpeg_ls::Expected {
        width: attributes.columns,
        height: attributes.rows,
        components: attributes.samples,
    };
    let picture = jpeg_ls::decode(bytes, expected).map_err(|m| malformed(format!("JPEG-LS: {m}")))?;
    let samples = picture.samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
    let ybr = matches!(attributes.photometric, Photometric::Ybr { .. });
    Ok(unpacked(samples, 16, u32::from(picture.precision), Order::Pixels, ybr))
}

fn check_size(
    codec: &str,
    attributes: &Attributes,
    width: usize,
    height: usize,
    components: usize,
) -> Result<(), DecodeError> {
    let Attributes { columns, rows, samples, .. } = *attributes;
    if (width, height, components) == (columns, rows, samples) {
        return Ok(());
    }
    Err(malformed(format!(
        "{codec} codestream of {width} x {height} x {components}, expected {columns} x {rows} x \
         {samples}"
    )))
}
