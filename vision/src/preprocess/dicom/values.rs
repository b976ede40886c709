//! Typed access to the elements of a data set read by dicom-rs.

use dicom_core::dictionary::{DataDictionaryEntry, VirtualVr};
use dicom_core::{DataDictionary, PrimitiveValue, Tag, VR};
use dicom_dictionary_std::{StandardDataDictionary, tags};
use dicom_object::InMemDicomObject;
use dicom_transfer_syntax_registry::entries;

use super::super::error::DecodeError;
use super::file::Data;
use super::malformed;
use super::structure::Layout;

/// The elements before the pixel data.
pub(super) struct DataSet {
    root: Item,
}

/// A data set or an item of a sequence.
pub(super) type Item = InMemDicomObject<StandardDataDictionary>;

impl DataSet {
    /// Parses the header whose structure was checked before.
    pub(super) fn parse(data: &Data, layout: &Layout) -> Result<Self, DecodeError> {
        let syntax = match (data.encoding.explicit, data.encoding.big_endian) {
            (false, _) => entries::IMPLICIT_VR_LITTLE_ENDIAN.erased(),
            (true, false) => entries::EXPLICIT_VR_LITTLE_ENDIAN.erased(),
            (true, true) => entries::EXPLICIT_VR_BIG_ENDIAN.erased(),
        };
        // The error's own text may quote values of the patient's: it is not passed on.
        let root = Item::read_dataset_with_ts(&layout.header[..], &syntax)
            .map_err(|_| malformed("the data set does not parse in its transfer syntax"))?;
        Ok(Self { root })
    }

    pub(super) fn root(&self) -> &Item {
        &self.root
    }

    /// Functional groups that hold for `frame`: its own item, then the shared one (C.7.6.16).
    pub(super) fn frame_groups(&self, frame: usize) -> Vec<&Item> {
        let own = items(&self.root, tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE).get(frame);
        let shared = items(&self.root, tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE).first();
        own.into_iter().chain(shared).collect()
    }
}

/// The first item of the first group that has the sequence `tag`.
pub(super) fn find_group<'a>(groups: &[&'a Item], tag: Tag) -> Option<&'a Item> {
    groups.iter().find_map(|group| items(group, tag).first())
}

/// Items of a sequence; none when the element is absent or no sequence.
pub(super) fn items(item: &Item, tag: Tag) -> &[Item] {
    item.get(tag).and_then(|element| element.items()).unwrap_or_default()
}

/// Trimmed text of the first value; empty and absent are the same.
pub(super) fn text(item: &Item, tag: Tag) -> Option<String> {
    let element = item.get(tag)?;
    let value = element.value().primitive()?;
    let text = match value {
        PrimitiveValue::U8(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        other => other.to_raw_str().into_owned(),
    };
    let first = text.split('\\').next().unwrap_or_default();
    let first = first.trim_matches(|c: char| c == '\0' || c.is_whitespace());
    (!first.is_empty()).then(|| first.to_string())
}

/// All numbers of an element; absent and empty are `None`, text that is no number is an error.
pub(super) fn numbers(item: &Item, tag: Tag) -> Result<Option<Vec<f64>>, DecodeError> {
    let Some(value) = item.get(tag).and_then(|element| element.value().primitive()) else {
        return Ok(None);
    };
    let unknown_vr = item.get(tag).is_some_and(|element| element.vr() == VR::UN);
    let numbers = match value {
        PrimitiveValue::Empty => return Ok(None),
        PrimitiveValue::U8(bytes) if unknown_vr => numbers_of_unknown(tag, bytes),
        other => other.to_multi_float64().ok(),
    };
    match numbers {
        Some(numbers) if numbers.is_empty() => Ok(None),
        Some(numbers) if numbers.iter().all(|n| n.is_finite()) => Ok(Some(numbers)),
        _ if text(item, tag).is_none() => Ok(None),
        _ => Err(malformed(format!("{} is not a number", name(tag)))),
    }
}

/// The first number of an element.
pub(super) fn number(item: &Item, tag: Tag) -> Result<Option<f64>, DecodeError> {
    Ok(numbers(item, tag)?.and_then(|numbers| numbers.first().copied()))
}

/// The first number of an element as an unsigned integer no larger than `u32`.
pub(super) fn unsigned(item: &Item, tag: Tag) -> Result<Option<u32>, DecodeError> {
    match number(item, tag)? {
        None => Ok(None),
        Some(n) if n >= 0.0 && n <= f64::from(u32::MAX) && n.fract() == 0.0 => Ok(Some(n as u32)),
        Some(n) => Err(malformed(format!("{} is {n}, expected a whole number", name(tag)))),
    }
}

/// An element that every picture must have.
pub(super) fn required(item: &Item, tag: Tag) -> Result<u32, DecodeError> {
    unsigned(item, tag)?.ok_or_else(|| malformed(format!("{} is missing", name(tag))))
}

/// 16-bit words of a lookup table, whatever VR it came in, and its bytes when it came as bytes.
pub(super) fn words(item: &Item, tag: Tag) -> Option<Words> {
    match item.get(tag)?.value().primitive()? {
        PrimitiveValue::U16(words) => Some(Words::Words(words.to_vec())),
        PrimitiveValue::I16(words) => Some(Words::Words(words.iter().map(|&w| w as u16).collect())),
        PrimitiveValue::U8(bytes) => Some(Words::Bytes(bytes.to_vec())),
        _ => None,
    }
}

/// Table data as it came.
pub(super) enum Words {
    Words(Vec<u16>),
    Bytes(Vec<u8>),
}

/// Keyword of a standard attribute, for messages.
pub(super) fn name(tag: Tag) -> String {
    let entry = StandardDataDictionary.by_tag(tag);
    entry.map_or_else(|| tag.to_string(), |entry| entry.alias().to_string())
}

/// Gateways write VR UN where they do not know an element: the dictionary knows.
fn numbers_of_unknown(tag: Tag, bytes: &[u8]) -> Option<Vec<f64>> {
    let entry = StandardDataDictionary.by_tag(tag)?;
    let words = || bytes.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]]));
    match entry.vr() {
        VirtualVr::Exact(VR::SS) => Some(words().map(|w| f64::from(w as i16)).collect()),
        VirtualVr::Exact(VR::US) | VirtualVr::Xs => Some(words().map(f64::from).collect()),
        _ => {
            let text = std::str::from_utf8(bytes).ok()?;
            let parse = |part: &str| part.trim_matches(['\0', ' ']).parse().ok();
            text.split('\\').map(parse).collect()
        }
    }
}
