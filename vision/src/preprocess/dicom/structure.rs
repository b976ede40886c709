//! The byte structure of a DICOM file: where the data set starts, how it is encoded, where the
//! pixel data is, and whether every stated length fits (PS3.5 chapter 7, annex A; PS3.10).
//!
//! dicom-rs takes memory for a value before reading it and descends sequences by recursion; this
//! walk refuses lengths beyond the file and nesting beyond [`MAX_DEPTH`] first.

use std::borrow::Cow;
use std::io::Read;
use std::ops::Range;

use dicom_core::dictionary::{DataDictionaryEntry, VirtualVr};
use dicom_core::{DataDictionary, VR};
use dicom_dictionary_std::{StandardDataDictionary, uids};
use dicom_encoding::Codec;
use dicom_transfer_syntax_registry::{
    TransferSyntax, TransferSyntaxIndex, TransferSyntaxRegistry,
};

use super::super::error::DecodeError;
use super::super::sniff::Format;
use super::super::Limits;
use super::{malformed, truncated, unsupported};

/// Deepest nesting of sequences and items; real files have about ten.
const MAX_DEPTH: usize = 64;
/// Retired from the standard, not from archives.
const EXPLICIT_VR_BIG_ENDIAN: &str = "1.2.840.10008.1.2.2";
const UNDEFINED: u32 = 0xFFFF_FFFF;
const ITEM: (u16, u16) = (0xFFFE, 0xE000);
const ITEM_END: (u16, u16) = (0xFFFE, 0xE00D);
const SEQUENCE_END: (u16, u16) = (0xFFFE, 0xE0DD);

/// A data set without preamble and meta group, inflated where the file was deflated.
pub(super) struct Data<'a> {
    pub(super) bytes: Cow<'a, [u8]>,
    /// Transfer syntax UID, without padding; guessed where the file does not state it.
    pub(super) transfer_syntax: String,
    pub(super) encoding: Encoding,
}

/// How element headers and numbers are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Encoding {
    pub(super) explicit: bool,
    pub(super) big_endian: bool,
}

/// What the walk found.
pub(super) struct Layout {
    /// The elements before the pixel data that say something about it, in their encoding.
    pub(super) header: Vec<u8>,
    pub(super) pixel_data: Option<PixelData>,
}

/// Groups whose elements are read; the patient's group and private ones are stepped over.
const HEADER_GROUPS: [u16; 6] = [0x0008, 0x0018, 0x0020, 0x0028, 0x2050, 0x5200];

/// The pixel data element.
pub(super) enum PixelData {
    /// Uncompressed frames one after the other. `words` tells that the value is written as 16-bit
    /// words (OW): with big endian, pairs of 8-bit samples are swapped.
    Native { value: Range<usize>, kind: PixelKind, words: bool },
    /// Fragments and the basic offset table.
    Encapsulated { offset_table: Range<usize>, fragments: Vec<Range<usize>> },
}

/// Which of the three pixel data elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PixelKind {
    Integer,
    Float,
    Double,
}

/// An element header: tag, VR, value length, and where the value starts.
struct Header {
    tag: (u16, u16),
    vr: VR,
    length: u32,
    value: usize,
}

impl Header {
    /// A sequence that a gateway did not know and copied: its items are implicit VR (PS3.5 6.2.2).
    fn is_unknown_sequence(&self) -> bool {
        self.vr == VR::UN && self.length == UNDEFINED && self.tag.0 != 0xFFFE
    }
}

/// Reads 16- and 32-bit numbers of either byte order.
#[derive(Clone, Copy)]
struct Cursor<'a> {
    bytes: &'a [u8],
    encoding: Encoding,
}

impl Cursor<'_> {
    fn u16(&self, at: usize) -> Option<u16> {
        let b: [u8; 2] = self.bytes.get(at..at.checked_add(2)?)?.try_into().ok()?;
        Some(if self.encoding.big_endian { u16::from_be_bytes(b) } else { u16::from_le_bytes(b) })
    }

    fn u32(&self, at: usize) -> Option<u32> {
        let b: [u8; 4] = self.bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
        Some(if self.encoding.big_endian { u32::from_be_bytes(b) } else { u32::from_le_bytes(b) })
    }

    fn tag(&self, at: usize) -> Option<(u16, u16)> {
        Some((self.u16(at)?, self.u16(at + 2)?))
    }

    /// The element header at `at`, read exactly as dicom-rs reads it.
    fn header(&self, at: usize) -> Option<Header> {
        let tag = self.tag(at)?;
        if tag.0 == 0xFFFE || !self.encoding.explicit {
            let length = self.u32(at + 4)?;
            let vr = if tag.0 == 0xFFFE { VR::UN } else { implicit_vr(tag) };
            return Some(Header { tag, vr, length, value: at + 8 });
        }
        let code = [*self.bytes.get(at + 4)?, *self.bytes.get(at + 5)?];
        let vr = VR::from_binary(code).unwrap_or(VR::UN);
        if short_length(vr) {
            return Some(Header { tag, vr, length: self.u16(at + 6)?.into(), value: at + 8 });
        }
        Some(Header { tag, vr, length: self.u32(at + 8)?, value: at + 12 })
    }
}

/// VRs whose explicit header has a 16-bit length (PS3.5 table 7.1-2).
fn short_length(vr: VR) -> bool {
    use VR::{AE, AS, AT, CS, DA, DS, DT, FD, FL, IS, LO, LT, PN, SH, SL, SS, ST, TM, UI, UL, US};
    matches!(
        vr,
        AE | AS | AT | CS | DA | DS | DT | FD | FL | IS | LO | LT | PN | SH | SL | SS | ST | TM | UI
            | UL | US
    )
}

/// Only whether an element is a sequence matters to the walk.
fn implicit_vr(tag: (u16, u16)) -> VR {
    match StandardDataDictionary.by_tag(tag.into()).map(DataDictionaryEntry::vr) {
        Some(VirtualVr::Exact(vr)) => vr,
        _ => VR::UN,
    }
}

/// Skips preamble and meta group, and inflates a deflated data set up to the byte limit.
pub(super) fn data_set_bytes<'a>(
    bytes: &'a [u8],
    limits: &Limits,
) -> Result<Data<'a>, DecodeError> {
    let start = if bytes.get(128..132) == Some(b"DICM") {
        132
    } else if bytes.starts_with(b"DICM") {
        4
    } else {
        0
    };
    let (stated, start) = meta_group(bytes, start)?;
    let body = &bytes[start..];
    let Some(uid) = stated else {
        let (uid, encoding) = guess_encoding(body)
            .ok_or_else(|| malformed("no transfer syntax is stated and none can be guessed"))?;
        let transfer_syntax = uid.to_string();
        return Ok(Data { bytes: Cow::Borrowed(body), transfer_syntax, encoding });
    };
    // Some writers state a compressed transfer syntax, which is explicit, and write implicit VRs.
    let deflated = uid == uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN;
    let looks_explicit = body.get(4..6).is_none_or(|vr| VR::from_binary([vr[0], vr[1]]).is_some());
    let encoding = Encoding {
        explicit: uid != uids::IMPLICIT_VR_LITTLE_ENDIAN && (deflated || looks_explicit),
        big_endian: uid == EXPLICIT_VR_BIG_ENDIAN,
    };
    let bytes = if deflated {
        Cow::Owned(inflate(body, limits)?)
    } else {
        Cow::Borrowed(body)
    };
    Ok(Data { bytes, transfer_syntax: uid, encoding })
}

/// Transfer syntax UID of the file meta group, which is always explicit little endian, and the
/// offset after the group. The group length is not trusted.
fn meta_group(bytes: &[u8], mut at: usize) -> Result<(Option<String>, usize), DecodeError> {
    let encoding = Encoding { explicit: true, big_endian: false };
    let cursor = Cursor { bytes, encoding };
    let mut uid = None;
    while cursor.u16(at) == Some(0x0002) {
        let short = || truncated("the file ends inside the meta group");
        let header = cursor.header(at).ok_or_else(short)?;
        let end = header.value.checked_add(header.length as usize).ok_or_else(short)?;
        let value = bytes.get(header.value..end).ok_or_else(short)?;
        if header.tag == (0x0002, 0x0010) {
            let text = String::from_utf8_lossy(value);
            let text = text.trim_matches(|c: char| c == '\0' || c.is_whitespace());
            uid = (!text.is_empty()).then(|| text.to_string());
        }
        at = end;
    }
    Ok((uid, at))
}

/// Inflates with one byte to spare, so that exceeding the limit is noticed.
fn inflate(body: &[u8], limits: &Limits) -> Result<Vec<u8>, DecodeError> {
    let syntax = TransferSyntaxRegistry.get(uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN);
    let Some(Codec::Dataset(Some(adapter))) = syntax.map(TransferSyntax::codec) else {
        return Err(unsupported("deflated data sets"));
    };
    let mut inflated = Vec::new();
    let mut reader = adapter.adapt_reader(Box::new(body)).take(limits.max_bytes + 1);
    reader.read_to_end(&mut inflated).map_err(|e| malformed(format!("deflated data set: {e}")))?;
    let length = inflated.len() as u64;
    if length > limits.max_bytes {
        let what = "inflated size in bytes";
        return Err(DecodeError::limit(Format::Dicom, what, length, limits.max_bytes));
    }
    Ok(inflated)
}

/// Transfer syntax of a data set that states none, told from its first element.
fn guess_encoding(body: &[u8]) -> Option<(&'static str, Encoding)> {
    let first = body.get(..8)?;
    let vr_code = VR::from_binary([first[4], first[5]]).is_some();
    let low_group = |group: u16| (0x0001..=0x0028).contains(&group);
    let little = low_group(u16::from_le_bytes([first[0], first[1]]));
    let big = low_group(u16::from_be_bytes([first[0], first[1]]));
    match (vr_code, little, big) {
        (true, true, _) => Some((
            uids::EXPLICIT_VR_LITTLE_ENDIAN,
            Encoding { explicit: true, big_endian: false },
        )),
        (true, false, true) => {
            Some((EXPLICIT_VR_BIG_ENDIAN, Encoding { explicit: true, big_endian: true }))
        }
        (false, true, _) => Some((
            uids::IMPLICIT_VR_LITTLE_ENDIAN,
            Encoding { explicit: false, big_endian: false },
        )),
        _ => None,
    }
}

/// True when bytes without preamble start like a DICOM data set or meta group: an element of
/// group 0002 or 0008 that the dictionary knows, with a VR or a length that fits.
pub(in super::super) fn looks_like_data_set(bytes: &[u8]) -> bool {
    let Some((_, encoding)) = guess_encoding(bytes) else { return false };
    let cursor = Cursor { bytes, encoding };
    let Some(header) = cursor.header(0) else { return false };
    let known = StandardDataDictionary.by_tag(header.tag.into()).is_some();
    let fits = (header.length as usize) <= bytes.len() || header.length == UNDEFINED;
    matches!(header.tag.0, 0x0002 | 0x0008) && known && fits
}

/// Walks the elements up to the pixel data and checks every length on the way.
pub(super) fn read(data: &Data) -> Result<Layout, DecodeError> {
    let mut cursor = Cursor { bytes: &data.bytes, encoding: data.encoding };
    let mut header_bytes = Vec::new();
    let mut open = Vec::new();
    let mut at = 0;
    // Start of the top-level element being walked, when it is one to keep.
    let mut kept: Option<usize> = None;
    loop {
        close_ended(&mut open, at)?;
        if open.is_empty() {
            header_bytes.extend_from_slice(&data.bytes[kept.take().unwrap_or(at)..at]);
            if at == data.bytes.len() {
                return Ok(Layout { header: header_bytes, pixel_data: None });
            }
        }
        cursor.encoding.explicit = open.last().map_or(data.encoding.explicit, |o: &Open| o.explicit);
        let short = || truncated(format!("the data set ends inside an element at byte {at}"));
        let header = cursor.header(at).ok_or_else(short)?;
        if open.is_empty() {
            if let Some(kind) = pixel_kind(header.tag) {
                let pixel_data = Some(pixel_data(&cursor, &header, kind)?);
                return Ok(Layout { header: header_bytes, pixel_data });
            }
            let foreign = data.encoding.explicit && header.is_unknown_sequence();
            kept = (HEADER_GROUPS.contains(&header.tag.0) && !foreign).then_some(at);
        }
        at = step(&cursor, &header, &mut open)?;
    }
}

/// An open sequence or item; `end` is `None` until its delimiter where the length is undefined.
struct Open {
    item: bool,
    end: Option<usize>,
    /// Whether the elements inside have explicit VRs.
    explicit: bool,
}

fn close_ended(open: &mut Vec<Open>, at: usize) -> Result<(), DecodeError> {
    while let Some(end) = open.last().and_then(|o| o.end) {
        if at < end {
            break;
        }
        if at > end {
            return Err(malformed(format!("an item runs past the end of its sequence at byte {at}")));
        }
        open.pop();
    }
    Ok(())
}

/// Steps over one header: into a sequence or item, or past a value. Returns the next offset.
fn step(cursor: &Cursor, header: &Header, open: &mut Vec<Open>) -> Result<usize, DecodeError> {
    let name = || format!("({:04X},{:04X})", header.tag.0, header.tag.1);
    let in_sequence = open.last().is_some_and(|o| !o.item);
    let left = cursor.bytes.len() - header.value.min(cursor.bytes.len());
    let length = header.length as usize;
    let undefined = header.length == UNDEFINED;
    if !undefined && length > left {
        return Err(truncated(format!("element {} needs {length} bytes, {left} are left", name())));
    }
    let end = (!undefined).then(|| header.value + length);
    let explicit = cursor.encoding.explicit && !header.is_unknown_sequence();
    match header.tag {
        ITEM if in_sequence => open.push(Open { item: true, end, explicit }),
        ITEM_END if open.last().is_some_and(|o| o.item) => {
            open.pop();
        }
        SEQUENCE_END if in_sequence => {
            open.pop();
        }
        (0xFFFE, _) => return Err(malformed(format!("delimiter {} out of place", name()))),
        _ if in_sequence => {
            return Err(malformed(format!("element {} where an item was expected", name())));
        }
        _ if undefined || header.vr == VR::SQ => open.push(Open { item: false, end, explicit }),
        _ => return Ok(header.value + length),
    }
    if open.len() > MAX_DEPTH {
        return Err(malformed(format!("sequences are nested more than {MAX_DEPTH} deep")));
    }
    Ok(header.value)
}

fn pixel_kind(tag: (u16, u16)) -> Option<PixelKind> {
    match tag {
        (0x7FE0, 0x0008) => Some(PixelKind::Float),
        (0x7FE0, 0x0009) => Some(PixelKind::Double),
        (0x7FE0, 0x0010) => Some(PixelKind::Integer),
        _ => None,
    }
}

fn pixel_data(cursor: &Cursor, header: &Header, kind: PixelKind) -> Result<PixelData, DecodeError> {
    if header.length == UNDEFINED {
        return fragments(cursor, header.value);
    }
    let left = cursor.bytes.len() - header.value.min(cursor.bytes.len());
    let length = header.length as usize;
    if length > left {
        return Err(truncated(format!("pixel data needs {length} bytes, {left} are left")));
    }
    let words = header.vr != VR::OB;
    Ok(PixelData::Native { value: header.value..header.value + length, kind, words })
}

/// The items of encapsulated pixel data: offset table, then fragments (PS3.5 A.4).
fn fragments(cursor: &Cursor, mut at: usize) -> Result<PixelData, DecodeError> {
    let mut items = Vec::new();
    while at < cursor.bytes.len() {
        let short = || truncated(format!("the pixel data ends inside an item header at byte {at}"));
        let tag = cursor.tag(at).ok_or_else(short)?;
        let length = cursor.u32(at + 4).ok_or_else(short)? as usize;
        if tag == SEQUENCE_END {
            break;
        }
        if tag != ITEM {
            let (group, element) = tag;
            let message = format!("({group:04X},{element:04X}) where a fragment was expected");
            return Err(malformed(message));
        }
        let start = at + 8;
        let left = cursor.bytes.len() - start;
        if length > left {
            let message = format!("fragment {} needs {length} bytes, {left} are left", items.len());
            return Err(truncated(message));
        }
        items.push(start..start + length);
        at = start + length;
    }
    if items.is_empty() {
        return Err(truncated("the pixel data has no item"));
    }
    let offset_table = items.remove(0);
    Ok(PixelData::Encapsulated { offset_table, fragments: items })
}
