//! The elements of a data set: whether every stated length fits, and where the pixel data is (PS3.5
//! chapter 7, annex A).
//!
//! dicom-rs takes memory for a value before reading it and descends sequences by recursion; this
//! walk refuses lengths beyond the file and nesting beyond [`MAX_DEPTH`] first.

use std::ops::Range;

use dicom_core::VR;

use super::super::error::DecodeError;
use super::element::{Cursor, Header, UNDEFINED};
use super::file::Data;
use super::{malformed, truncated};

/// Deepest nesting of sequences and items; real files have about ten.
const MAX_DEPTH: usize = 64;
const ITEM: (u16, u16) = (0xFFFE, 0xE000);
const ITEM_END: (u16, u16) = (0xFFFE, 0xE00D);
const SEQUENCE_END: (u16, u16) = (0xFFFE, 0xE0DD);

/// What the walk found.
pub(super) struct Layout {
    /// The elements before the pixel data that say something about it, in their encoding.
    pub(super) header: Vec<u8>,
    pub(super) pixel_data: Option<PixelData>,
}

/// Groups whose elements are read; private ones are stepped over.
const HEADER_GROUPS: [u16; 6] = [0x0008, 0x0018, 0x0020, 0x0028, 0x2050, 0x5200];
/// All that is read of the patient's group: name, ID, birth date and sex, for documents filed beside the file.
const PATIENT: [(u16, u16); 4] = [(0x0010, 0x0010), (0x0010, 0x0020), (0x0010, 0x0030), (0x0010, 0x0040)];

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
            let keep = HEADER_GROUPS.contains(&header.tag.0) || PATIENT.contains(&header.tag);
            kept = keep.then_some(at);
        }
        if cursor.encoding.explicit && header.is_unknown_sequence() {
            // dicom-rs would read the implicit items inside as explicit ones.
            kept = None;
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
