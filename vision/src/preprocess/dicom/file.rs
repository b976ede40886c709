//! From a file to its data set: preamble, meta group, transfer syntax, deflate (PS3.10 chapter 7).

use std::borrow::Cow;
use std::io::Read;

use dicom_core::{DataDictionary, VR};
use dicom_dictionary_std::{StandardDataDictionary, uids};
use dicom_encoding::Codec;
use dicom_transfer_syntax_registry::{TransferSyntax, TransferSyntaxIndex, TransferSyntaxRegistry};

use super::super::Limits;
use super::super::error::DecodeError;
use super::super::sniff::Format;
use super::element::{Cursor, Encoding, UNDEFINED};
use super::{malformed, truncated, unsupported};

/// Retired from the standard, not from archives.
const EXPLICIT_VR_BIG_ENDIAN: &str = "1.2.840.10008.1.2.2";

/// A data set without preamble and meta group, inflated where the file was deflated.
pub(super) struct Data<'a> {
    pub(super) bytes: Cow<'a, [u8]>,
    /// Transfer syntax UID, without padding; guessed where the file does not state it.
    pub(super) transfer_syntax: String,
    pub(super) encoding: Encoding,
}

/// Skips preamble and meta group, and inflates a deflated data set up to the byte limit.
pub(super) fn data_set<'a>(bytes: &'a [u8], limits: &Limits) -> Result<Data<'a>, DecodeError> {
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
    let bytes = if deflated { Cow::Owned(inflate(body, limits)?) } else { Cow::Borrowed(body) };
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
        (true, true, _) => {
            Some((uids::EXPLICIT_VR_LITTLE_ENDIAN, Encoding { explicit: true, big_endian: false }))
        }
        (true, false, true) => Some((EXPLICIT_VR_BIG_ENDIAN, Encoding { explicit: true, big_endian: true })),
        (false, true, _) => {
            Some((uids::IMPLICIT_VR_LITTLE_ENDIAN, Encoding { explicit: false, big_endian: false }))
        }
        _ => None,
    }
}

/// True when bytes without preamble start like a DICOM data set or meta group: an element of
/// group 0002 or 0008 that the dictionary knows, with a VR or a length that fits.
pub(in super::super) fn looks_like_data_set(bytes: &[u8]) -> bool {
    let Some((_, encoding)) = guess_encoding(bytes) else {
        return false;
    };
    let cursor = Cursor { bytes, encoding };
    let Some(header) = cursor.header(0) else {
        return false;
    };
    let known = StandardDataDictionary.by_tag(header.tag.into()).is_some();
    let fits = (header.length as usize) <= bytes.len() || header.length == UNDEFINED;
    matches!(header.tag.0, 0x0002 | 0x0008) && known && fits
}
