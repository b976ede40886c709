//! Element headers of a data set, read exactly as dicom-rs reads them (PS3.5 chapter 7).

use dicom_core::dictionary::{DataDictionaryEntry, VirtualVr};
use dicom_core::{DataDictionary, VR};
use dicom_dictionary_std::StandardDataDictionary;

/// A value length that is told by a delimiter.
pub(super) const UNDEFINED: u32 = 0xFFFF_FFFF;

/// How element headers and numbers are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Encoding {
    pub(super) explicit: bool,
    pub(super) big_endian: bool,
}

/// An element header: tag, VR, value length, and where the value starts.
pub(super) struct Header {
    pub(super) tag: (u16, u16),
    pub(super) vr: VR,
    /// Length of the value in bytes, or [`UNDEFINED`].
    pub(super) length: u32,
    /// Offset of the value.
    pub(super) value: usize,
}

impl Header {
    /// A sequence that a gateway did not know and copied: its items are implicit VR (PS3.5 6.2.2).
    pub(super) fn is_unknown_sequence(&self) -> bool {
        self.vr == VR::UN && self.length == UNDEFINED && self.tag.0 != 0xFFFE
    }
}

/// Reads 16- and 32-bit numbers of either byte order.
#[derive(Clone, Copy)]
pub(super) struct Cursor<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) encoding: Encoding,
}

impl Cursor<'_> {
    pub(super) fn u16(&self, at: usize) -> Option<u16> {
        let b: [u8; 2] = self.bytes.get(at..at.checked_add(2)?)?.try_into().ok()?;
        Some(if self.encoding.big_endian { u16::from_be_bytes(b) } else { u16::from_le_bytes(b) })
    }

    pub(super) fn u32(&self, at: usize) -> Option<u32> {
        let b: [u8; 4] = self.bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
        Some(if self.encoding.big_endian { u32::from_be_bytes(b) } else { u32::from_le_bytes(b) })
    }

    pub(super) fn tag(&self, at: usize) -> Option<(u16, u16)> {
        Some((self.u16(at)?, self.u16(at + 2)?))
    }

    /// The element header at `at`, read exactly as dicom-rs reads it.
    pub(super) fn header(&self, at: usize) -> Option<Header> {
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
        AE | AS
            | AT
            | CS
            | DA
            | DS
            | DT
            | FD
            | FL
            | IS
            | LO
            | LT
            | PN
            | SH
            | SL
            | SS
            | ST
            | TM
            | UI
            | UL
            | US
    )
}

/// Only whether an element is a sequence matters to the walk.
fn implicit_vr(tag: (u16, u16)) -> VR {
    match StandardDataDictionary.by_tag(tag.into()).map(DataDictionaryEntry::vr) {
        Some(VirtualVr::Exact(vr)) => vr,
        _ => VR::UN,
    }
}
