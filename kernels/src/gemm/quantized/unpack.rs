//! From 4-bit values and their scales to `bf16` tiles.
//!
//! A unit is 32 columns by 32 depths, one group deep: nine lines. The first holds the 32 scales, then come four lines for
//! each panel of 16 columns. Word `c` of line `k` holds column `c` at depths `8 k` to `8 k + 7`: `value + 8` in four
//! bits each, the first in bits 0 to 3, the word then rotated left by 11. So three of them stand in the high part of an
//! `f32` mantissa at once, and two rotations bring the others there.
//!
//! With an exponent put above the value `n` in bits `p` to `p + 3`, the number is `2^(23 − p) + n`, and one fused
//! multiply-add gives `(n − 8) · s` without rounding. It is cut to `bf16` by taking its high half; the scale is enlarged
//! by half a unit in the last place (on average) before, so that cutting does not shrink the weights.

use half::f16;

use super::super::matrix::{LINES, Line};
use super::kernel::BLOCK;
use super::{Path, as_words};
use crate::quant::GROUP;

/// Lines of a unit.
pub(super) const UNIT: usize = 9;
/// Values in a word.
pub(super) const VALUES: usize = 8;
const ROTATION: u32 = 11;

/// A word of a unit from eight values.
pub(super) fn pack_word(values: [i8; VALUES]) -> u32 {
    let word = values.iter().rev().fold(0, |word, value| word << 4 | u32::from((value + 8).cast_unsigned()));
    word.rotate_left(ROTATION)
}

/// Value `index` of a word.
pub(super) fn value(word: u32, index: usize) -> i8 {
    (word.rotate_right(ROTATION) >> (4 * index) & 15) as i8 - 8
}

/// The scale of column `column` in the first line of a unit.
pub(super) fn scale(scales: &[u32], column: usize) -> f16 {
    f16::from_bits((scales[column / 2] >> (column % 2 * 16)) as u16)
}

/// 1 + 2⁻⁸ ln 2: values of all magnitudes then lose as much by cutting as they gain.
const ENLARGED: f32 = 1.002_707_6;
/// The 14 leading bits of a scale: their products with what the multiply-add is given are exact.
const KEPT: u32 = 0xffff_fc00;

/// The scale by which the values of a tile are multiplied.
pub(super) fn enlarged(scale: f16) -> f32 {
    f32::from_bits((scale.to_f32() * ENLARGED).to_bits() & KEPT)
}

/// Unpacks units into right tiles, two a unit.
pub(super) fn units(path: Path, stored: &[Line], tiles: &mut [Line]) {
    assert!(stored.len() / UNIT * 2 * LINES <= tiles.len());
    #[cfg(target_arch = "x86_64")]
    if matches!(path, Path::Amx | Path::Vnni) {
        // SAFETY: both paths need AVX-512.
        unsafe { x86::units(stored, tiles) };
        return;
    }
    let _ = path;
    for (unit, tiles) in stored.chunks_exact(UNIT).zip(tiles.chunks_exact_mut(2 * LINES)) {
        let words = as_words(unit);
        let (scales, words) = words.split_at(LINES);
        for (at, tile) in super::as_words_mut(tiles).iter_mut().enumerate() {
            let (column, pair) = (at / (LINES * LINES) * LINES + at % LINES, at / LINES % LINES);
            let scale = enlarged(scale(scales, column));
            let word = words[word_of(column, 2 * pair)];
            // Adding 0 makes −0 of a negative scale what the multiply-add gives.
            let half = |i| (f32::from(value(word, (2 * pair + i) % VALUES)) * scale + 0.0).to_bits();
            *tile = half(0) >> 16 | half(1) & 0xffff_0000;
        }
    }
}

/// The word, behind the scales, of a column (of 32) and a depth (of 32) of a unit.
pub(super) fn word_of(column: usize, depth: usize) -> usize {
    debug_assert!(column < BLOCK && depth < GROUP);
    (column / LINES * (GROUP / VALUES) + depth / VALUES) * LINES + column % LINES
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    #[allow(clippy::wildcard_imports)] // Twenty intrinsics under their well-known names.
    use std::arch::x86_64::*;

    use super::{ENLARGED, KEPT, LINES, Line, UNIT};

    /// Moves the high half of each word to its low half.
    static HIGH_TO_LOW: [u8; 64] = {
        let mut index = [0; 64];
        let mut i = 0;
        while i < 64 {
            index[i] = (i % 16 / 4 * 4 + i % 2 + 2) as u8;
            i += 1;
        }
        index
    };
    /// Lines between what is unpacked and what is fetched from memory.
    const FETCH_AHEAD: usize = 12 * UNIT;
    const LOW_HALVES: u64 = 0x3333_3333_3333_3333;

    /// What one panel's values are multiplied with and what is added, for each of the three places.
    struct Scales {
        factor: __m512,
        start: [__m512; 3],
    }

    impl Scales {
        #[target_feature(enable = "avx512f,avx512bw")]
        fn new(halves: __m256i) -> Self {
            let scale = _mm512_mul_ps(_mm512_cvtph_ps(halves), _mm512_set1_ps(ENLARGED));
            let kept = _mm512_and_si512(_mm512_castps_si512(scale), _mm512_set1_epi32(KEPT.cast_signed()));
            let factor = _mm512_castsi512_ps(kept);
            let start = [-4104.0, -264.0, -24.0].map(|start| _mm512_mul_ps(factor, _mm512_set1_ps(start)));
            Self { factor, start }
        }

        /// The values in place `P` (bits `11 + 4 P` on) of each word.
        #[inline]
        #[target_feature(enable = "avx512f,avx512bw")]
        fn values<const P: usize>(&self, words: __m512i) -> __m512i {
            let mask = _mm512_set1_epi32(15 << (11 + 4 * P));
            let exponent = _mm512_set1_epi32((127 + 12 - 4 * P as i32) << 23);
            // (words & mask) | exponent
            let number = _mm512_ternarylogic_epi32::<0xea>(words, mask, exponent);
            _mm512_castps_si512(_mm512_fmadd_ps(_mm512_castsi512_ps(number), self.factor, self.start[P]))
        }
    }

    /// See [`super::units`].
    #[target_feature(enable = "avx512f,avx512bw")]
    pub(super) unsafe fn units(stored: &[Line], tiles: &mut [Line]) {
        let units = stored.len() / UNIT;
        let (mut from, mut to) = (stored.as_ptr().cast::<__m512i>(), tiles.as_mut_ptr().cast::<__m512i>());
        // SAFETY: a unit is nine lines and becomes 32, for which there is room (`super::units` asserts it).
        unsafe {
            let index = _mm512_loadu_si512(HIGH_TO_LOW.as_ptr().cast());
            let join = |even, odd| _mm512_mask_shuffle_epi8(odd, LOW_HALVES, even, index);
            for _ in 0..units {
                for line in 0..UNIT {
                    // Any address may be fetched.
                    _mm_prefetch::<_MM_HINT_T0>(from.wrapping_add(FETCH_AHEAD + line).cast());
                }
                let halves = _mm512_load_si512(from);
                let halves = [_mm512_castsi512_si256(halves), _mm512_extracti64x4_epi64::<1>(halves)];
                from = from.add(1);
                for halves in halves {
                    let scales = Scales::new(halves);
                    for _ in 0..LINES / 4 {
                        let words = _mm512_load_si512(from);
                        let second = _mm512_ror_epi32::<12>(words);
                        let third = _mm512_ror_epi32::<24>(words);
                        let line0 = join(scales.values::<0>(words), scales.values::<1>(words));
                        let line1 = join(scales.values::<2>(words), scales.values::<0>(second));
                        let line2 = join(scales.values::<1>(second), scales.values::<2>(second));
                        let line3 = join(scales.values::<0>(third), scales.values::<1>(third));
                        _mm512_store_si512(to, line0);
                        _mm512_store_si512(to.add(1), line1);
                        _mm512_store_si512(to.add(2), line2);
                        _mm512_store_si512(to.add(3), line3);
                        from = from.add(1);
                        to = to.add(4);
                    }
                }
            }
        }
    }
}
