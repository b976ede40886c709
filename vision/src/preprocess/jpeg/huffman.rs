//! The entropy-coded segment of a baseline scan (ITU-T T.81 annex F.2).

use super::idct::{Group, LANES};

/// Codes of up to so many bits are found by one look-up; longer ones are rare.
const LOOK: u32 = 11;
/// More zeros than any block has.
const END: u32 = 128;
/// Place of each coefficient in its block, row by row, by its place in the file.
pub(super) const ZIGZAG: [u8; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7,
    14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39,
    46, 53, 60, 61, 54, 47, 55, 62, 63,
];

/// A Huffman table.
pub(super) struct Table {
    /// By the next [`LOOK`] bits: the code's symbol above its length, 0 when the code is longer.
    short: Box<[u16; 1 << LOOK]>,
    /// By the same bits, where code and coefficient fit in them: the coefficient (16 bits), the zeros before it (8 bits, at
    /// the end of a block [`END`]) and the bits of both (8 bits); else 0.
    whole: Box<[u32; 1 << LOOK]>,
    /// For each length, one past the last code, in the upper bits of 16.
    ends: [u32; 17],
    /// For each length, the index of its first symbol less its first code.
    offsets: [i32; 17],
    symbols: Vec<u8>,
}

impl Table {
    /// From the number of codes of each length and their symbols; `None` when they are no prefix code.
    pub(super) fn new(counts: &[u8; 16], symbols: &[u8]) -> Option<Self> {
        let (mut ends, mut offsets) = ([0; 17], [0; 17]);
        let mut short = Box::new([0; 1 << LOOK]);
        let (mut code, mut index) = (0u32, 0usize);
        for length in 1..=16u32 {
            offsets[length as usize] = index as i32 - code as i32;
            for _ in 0..counts[length as usize - 1] {
                let symbol = *symbols.get(index)?;
                if code >= 1 << length {
                    return None;
                }
                if length <= LOOK {
                    let first = (code << (LOOK - length)) as usize;
                    short[first..first + (1 << (LOOK - length))].fill(u16::from(symbol) << 8 | length as u16);
                }
                (code, index) = (code + 1, index + 1);
            }
            ends[length as usize] = code << (16 - length);
            code <<= 1;
        }
        let mut whole = Box::new([0; 1 << LOOK]);
        for (bits, entry) in whole.iter_mut().enumerate() {
            let (symbol, length) = (u32::from(short[bits] >> 8), u32::from(short[bits] & 0xFF));
            let (zeros, size) = (symbol >> 4, symbol & 15);
            if length > 0 && size > 0 && length + size <= LOOK {
                let value = (bits as u32 >> (LOOK - length - size)) & ((1 << size) - 1);
                *entry = (extend(value, size) as u32) << 16 | zeros << 8 | (length + size);
            } else if length > 0 && symbol == 0 {
                *entry = END << 8 | length;
            }
        }
        Some(Self { short, whole, ends, offsets, symbols: symbols.to_vec() })
    }

    /// The symbol, and its length, of a code longer than [`LOOK`] at the top of 16 bits.
    #[inline(never)]
    fn long_symbol(&self, next: u32) -> Option<(u32, u32)> {
        let length = (LOOK as usize + 1..=16).find(|&length| next < self.ends[length])?;
        let index = (next >> (16 - length)) as i32 + self.offsets[length];
        self.symbols.get(usize::try_from(index).ok()?).map(|&symbol| (u32::from(symbol), length as u32))
    }
}

/// The signed coefficient of `size` bits (T.81 F.2.2.1).
fn extend(value: u32, size: u32) -> i32 {
    let value = value as i32;
    if size > 0 && value < 1 << (size - 1) { value + 1 - (1 << size) } else { value }
}

/// Bits of the segment, without its stuffed zeros.
///
/// What is rare takes and returns it by value, so that it can stay in registers.
#[derive(Clone, Copy)]
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
    /// The next bits, from the top.
    window: u64,
    /// How many bits of the window count.
    have: u32,
    /// How many of those were made up behind the end of the segment.
    beyond: u32,
}

impl<'a> Bits<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, window: 0, have: 0, beyond: 0 }
    }

    /// At least 32 bits, if need be zeros.
    #[inline(always)]
    fn fill(&mut self) {
        if self.have >= 32 {
            return;
        }
        if let Some(word) = self.bytes.get(self.at..).and_then(|rest| rest.first_chunk::<8>()) {
            let word = u64::from_be_bytes(*word);
            // A byte of all ones may be a marker.
            let ones = word
                & 0x8080_8080_8080_8080
                & (word & 0x7F7F_7F7F_7F7F_7F7F).wrapping_add(0x0101_0101_0101_0101);
            if ones == 0 {
                // The bits above a whole number of bytes come again with the next word, and are the same.
                self.window |= word >> self.have;
                let bytes = (63 - self.have) / 8;
                self.at += bytes as usize;
                self.have += 8 * bytes;
                return;
            }
        }
        *self = self.filled_by_bytes();
    }

    #[inline(never)]
    fn filled_by_bytes(mut self) -> Self {
        // What the last whole word left above the count is dropped.
        self.window &= !(u64::MAX.checked_shr(self.have).unwrap_or(0));
        while self.have <= 56 {
            let byte = match (self.bytes.get(self.at), self.bytes.get(self.at + 1)) {
                (Some(0xFF), Some(0)) => {
                    self.at += 2;
                    0xFF
                }
                (Some(0xFF) | None, _) => {
                    self.beyond += 8;
                    0
                }
                (Some(&byte), _) => {
                    self.at += 1;
                    byte
                }
            };
            self.window |= u64::from(byte) << (56 - self.have);
            self.have += 8;
        }
        self
    }

    #[inline(always)]
    fn skip(&mut self, count: u32) {
        self.window <<= count;
        self.have = self.have.wrapping_sub(count);
    }

    /// The next `size` bits, 1 to 16, as a coefficient.
    #[inline(always)]
    fn coefficient(&mut self, size: u32) -> i32 {
        let value = (self.window >> (64 - size)) as u32;
        self.skip(size);
        extend(value, size)
    }

    /// The next symbol; `None` when no code matches.
    #[inline(always)]
    fn symbol(&mut self, table: &Table) -> Option<u32> {
        let entry = table.short[(self.window >> (64 - LOOK)) as usize];
        if entry != 0 {
            self.skip(u32::from(entry & 0xFF));
            return Some(u32::from(entry >> 8));
        }
        let (symbol, length) = table.long_symbol((self.window >> 48) as u32)?;
        self.skip(length);
        Some(symbol)
    }

    /// Decodes one block into lane `lane`, multiplied by the quantisation table `steps` (in file order).
    #[inline(always)]
    pub(super) fn block(
        &mut self,
        (dc, ac): (&Table, &Table),
        steps: &[i32; 64],
        prediction: &mut i32,
        group: &mut Group,
        lane: usize,
    ) -> Option<()> {
        let mut bits = *self;
        let lane = lane % LANES;
        bits.fill();
        let size = bits.symbol(dc)?;
        if size > 11 {
            return None;
        }
        if size > 0 {
            *prediction += bits.coefficient(size);
        }
        // Sums of differences leave the range in a damaged file only.
        if prediction.unsigned_abs() > 1 << 15 {
            return None;
        }
        group.coefficients[0][lane] = *prediction * steps[0];
        let (mut k, mut seen) = (1, 1u64);
        while k < 64 {
            bits.fill();
            let entry = ac.whole[(bits.window >> (64 - LOOK)) as usize];
            let value = if entry != 0 {
                bits.skip(entry & 0xFF);
                k += (entry >> 8 & 0xFF) as usize;
                entry as i32 >> 16
            } else {
                let symbol = bits.symbol(ac)?;
                let (zeros, size) = (symbol >> 4, symbol & 15);
                if size == 0 {
                    k += if zeros == 15 { 16 } else { END as usize };
                    continue;
                }
                k += zeros as usize;
                bits.coefficient(size)
            };
            let Some(&place) = ZIGZAG.get(k) else { break };
            let place = usize::from(place) % 64;
            group.coefficients[place][lane] = value * steps[k];
            seen |= 1 << place;
            k += 1;
        }
        group.seen |= seen;
        *self = bits;
        // Coefficients behind the last place.
        (k == 64 || k >= END as usize).then_some(())
    }

    /// Whether only bits of the file were read.
    pub(super) fn is_sound(&self) -> bool {
        self.have <= 64 && self.beyond <= self.have
    }

    /// Goes behind the restart marker `RSTn`; `None` when it does not come next.
    pub(super) fn restart(&mut self, n: u8) -> Option<()> {
        // Fewer than eight bits of padding are left before the marker; whole bytes were read ahead of nothing else.
        if !self.is_sound() || self.have - self.beyond >= 8 {
            return None;
        }
        let marker = self.bytes.get(self.at..self.at + 2)?;
        if marker != [0xFF, 0xD0 + (n & 7)] {
            return None;
        }
        *self = Self { at: self.at + 2, ..Self::new(self.bytes) };
        Some(())
    }

    /// Whether the end-of-image marker comes next.
    pub(super) fn at_end(&self) -> bool {
        self.is_sound()
            && self.have - self.beyond < 8
            && self.bytes.get(self.at..self.at + 2) == Some(&[0xFF, 0xD9])
    }
}
