//! Stored values of a frame: bytes masked and sign-extended (PS3.3 C.7.6.3.1).

use super::super::error::DecodeError;
use super::attributes::Attributes;
use super::codec::{Decoded, Order};
use super::structure::PixelKind;
use super::{truncated, unsupported};

/// Random access to the samples of a decoded frame.
pub(super) struct Stored<'a> {
    bytes: &'a [u8],
    first_bit: usize,
    bits_allocated: u32,
    big_endian: bool,
    /// Position of the lowest stored bit.
    shift: u32,
    bits: u32,
    signed: bool,
    kind: PixelKind,
    count: usize,
}

impl<'a> Stored<'a> {
    /// Checks that the frame holds all its samples.
    pub(super) fn new(decoded: &'a Decoded, attributes: &Attributes) -> Result<Self, DecodeError> {
        let wanted = match decoded.kind {
            PixelKind::Integer if decoded.bits_allocated <= 32 => decoded.bits_allocated,
            PixelKind::Float => 32,
            PixelKind::Double => 64,
            PixelKind::Integer => 0,
        };
        if wanted != decoded.bits_allocated {
            let bits = decoded.bits_allocated;
            return Err(unsupported(format!("{:?} pixel data of {bits} bits", decoded.kind)));
        }
        let count = match decoded.order {
            Order::Chroma422 => attributes.rows * attributes.columns * 2,
            Order::Pixels | Order::Planes => attributes.samples_per_frame(),
        };
        let bits = count as u64 * u64::from(decoded.bits_allocated) + decoded.first_bit as u64;
        let (found, expected) = (decoded.bytes.len(), bits.div_ceil(8));
        if (found as u64) < expected {
            return Err(truncated(format!("a frame of {found} bytes, expected {expected}")));
        }
        Ok(Self {
            bytes: &decoded.bytes,
            first_bit: decoded.first_bit,
            bits_allocated: decoded.bits_allocated,
            big_endian: decoded.big_endian,
            shift: decoded.high_bit + 1 - decoded.bits_stored,
            bits: decoded.bits_stored,
            signed: attributes.signed,
            kind: decoded.kind,
            count,
        })
    }

    /// Number of samples.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Bits of a stored value.
    pub(super) fn bits(&self) -> u32 {
        self.bits
    }

    /// True when stored values may be negative.
    pub(super) fn signed(&self) -> bool {
        self.signed
    }

    /// Number of different stored codes, `None` when they are too many for a table.
    pub(super) fn codes(&self) -> Option<usize> {
        (self.kind == PixelKind::Integer && self.bits <= 16).then(|| 1 << self.bits)
    }

    /// The stored bits of sample `index`, below [`Self::codes`].
    pub(super) fn code(&self, index: usize) -> usize {
        ((self.word(index) >> self.shift) & ((1 << self.bits) - 1)) as usize
    }

    /// The number that a stored code means.
    pub(super) fn value_of_code(&self, code: usize) -> f64 {
        self.extend(code as u64) as f64
    }

    /// Sample `index` as a number.
    pub(super) fn value(&self, index: usize) -> f64 {
        match self.kind {
            PixelKind::Integer => self.integer(index) as f64,
            PixelKind::Float => f64::from(f32::from_bits(self.word(index) as u32)),
            PixelKind::Double => f64::from_bits(self.word(index)),
        }
    }

    fn integer(&self, index: usize) -> i64 {
        self.extend(self.word(index) >> self.shift)
    }

    /// The low stored bits of `word`, sign-extended where samples are signed.
    fn extend(&self, word: u64) -> i64 {
        let unused = 64 - self.bits;
        let aligned = word << unused;
        if self.signed { aligned as i64 >> unused } else { (aligned >> unused) as i64 }
    }

    fn word(&self, index: usize) -> u64 {
        match self.bits_allocated {
            1 => {
                let bit = self.first_bit + index;
                u64::from(self.bytes[bit / 8] >> (bit % 8) & 1)
            }
            8 => u64::from(self.bytes[index]),
            16 => u64::from(self.number(index, u16::from_le_bytes, u16::from_be_bytes)),
            32 => u64::from(self.number(index, u32::from_le_bytes, u32::from_be_bytes)),
            _ => self.number(index, u64::from_le_bytes, u64::from_be_bytes),
        }
    }

    fn number<const N: usize, T>(&self, index: usize, little: fn([u8; N]) -> T, big: fn([u8; N]) -> T) -> T {
        let mut number = [0; N];
        number.copy_from_slice(&self.bytes[index * N..][..N]);
        if self.big_endian { big(number) } else { little(number) }
    }
}
