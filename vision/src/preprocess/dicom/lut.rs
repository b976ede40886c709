//! Lookup tables: Modality LUT, VOI LUT and palettes (PS3.3 C.11.1, C.11.2, C.7.6.3.1.5).

use dicom_core::Tag;

use super::super::error::DecodeError;
use super::malformed;
use super::values::{Item, Words, name, numbers, words};

/// A table from stored values to output values.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Lut {
    /// Input value of the first entry.
    first: i64,
    entries: Vec<u16>,
    /// Bits of an output value.
    pub(super) bits: u32,
}

impl Lut {
    /// Reads descriptor and data; `signed` says that inputs may be negative, so that a first value
    /// written as unsigned means a negative number.
    pub(super) fn read(item: &Item, descriptor: Tag, data: Tag, signed: bool) -> Result<Self, DecodeError> {
        let fields = numbers(item, descriptor)?;
        let Some([count, first, bits]) = fields.as_deref().and_then(|f| f.first_chunk::<3>()) else {
            return Err(malformed(format!("{} needs three numbers", name(descriptor))));
        };
        // A count of 0 means 65536; descriptors written as signed show large counts as negative.
        let count = match *count as i64 {
            0 => 65536,
            count => (count & 0xFFFF) as usize,
        };
        let mut first = *first as i64;
        if signed && (32_768..65_536).contains(&first) {
            first -= 65_536;
        }
        let bits = *bits as i64;
        if !(1..=16).contains(&bits) {
            return Err(malformed(format!("{} has entries of {bits} bits", name(descriptor))));
        }
        let entries = match words(item, data) {
            Some(words) => entries(words, count),
            None => return Err(malformed(format!("{} is missing", name(data)))),
        };
        if entries.len() < count {
            let found = entries.len();
            return Err(malformed(format!("{} has {found} of {count} entries", name(data))));
        }
        Ok(Self { first, entries, bits: bits as u32 })
    }

    /// The entry of `value`; values outside the table take its first or last entry.
    pub(super) fn map(&self, value: f64) -> u16 {
        let last = self.entries.len() - 1;
        let index = (value.round() as i64).saturating_sub(self.first).clamp(0, last as i64);
        self.entries[index as usize]
    }
}

/// Entries of a table of `count`: 16-bit words, or bytes packed two to a word.
fn entries(words: Words, count: usize) -> Vec<u16> {
    let mut entries: Vec<u16> = match words {
        Words::Words(words) if words.len() >= count => words,
        Words::Words(words) => words.iter().flat_map(|word| word.to_le_bytes()).map(u16::from).collect(),
        Words::Bytes(bytes) if bytes.len() >= 2 * count => {
            bytes.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]])).collect()
        }
        Words::Bytes(bytes) => bytes.iter().map(|&byte| u16::from(byte)).collect(),
    };
    entries.truncate(count);
    entries
}
