//! AVX-512: conversion and transposition for packing, and what is done around the blocks.

#[allow(clippy::wildcard_imports)] // Forty intrinsics under their well-known names.
use std::arch::x86_64::*;

use super::gradient;
use super::matrix::{DEPTH, LINES, Line};
use super::pack::{Side, Spot};
use crate::simd::round_to_bf16;

/// Whether the processor has the parts of AVX-512 that the kernels use.
pub(super) fn available() -> bool {
    std::arch::is_x86_feature_detected!("avx512f") && std::arch::is_x86_feature_detected!("avx512bw")
}

/// Adds the sum of rows as long as `sums`.
///
/// # Safety
/// AVX-512 is [`available`].
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn add_rows(rows: &[f32], sums: &mut [f32]) {
    gradient::add_rows(rows, sums);
}

/// Asks for the cache lines of 32 rows of 32 elements, to be written soon. Any address may be given.
#[inline]
pub(super) fn prefetch_rows(ptr: *const f32, ld: usize) {
    for row in 0..2 * LINES {
        let ptr = ptr.wrapping_add(row * ld).cast::<i8>();
        // SAFETY: prefetching has no effect but on the cache.
        unsafe {
            _mm_prefetch::<_MM_HINT_ET0>(ptr);
            _mm_prefetch::<_MM_HINT_ET0>(ptr.wrapping_add(64));
        }
    }
}

/// Copies `rows` rows of at most 32 elements between two pointers with leading dimensions.
///
/// # Safety
/// All rows are readable or writable; AVX-512 is [`available`].
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) unsafe fn copy_rows(
    from: (*const f32, usize),
    to: (*mut f32, usize),
    rows: usize,
    columns: usize,
) {
    let mask = ((1u64 << columns) - 1) as u32;
    let (low, high) = (mask as u16, (mask >> 16) as u16);
    for row in 0..rows {
        let (from, to) = (from.0.wrapping_add(row * from.1), to.0.wrapping_add(row * to.1));
        // SAFETY: masked accesses touch only the first `columns` elements.
        unsafe {
            _mm512_mask_storeu_ps(to, low, _mm512_maskz_loadu_ps(low, from));
            let (from, to) = (from.wrapping_add(LINES), to.wrapping_add(LINES));
            _mm512_mask_storeu_ps(to, high, _mm512_maskz_loadu_ps(high, from));
        }
    }
}

/// Positions of the interleaved halves of a register: 0, 16, 1, 17 and so on.
static INTERLEAVE: [u16; 32] = {
    let mut index = [0; 32];
    let mut i = 0;
    while i < 32 {
        index[i] = (i / 2 + i % 2 * 16) as u16;
        i += 1;
    }
    index
};

/// The packing functions, once per way to round: inlining needs one set of features throughout.
macro_rules! packing {
    ($name:ident, $line_words:ident, $depth_pairs:ident, $round:ident, $features:literal) => {
        /// Packs one tile.
        ///
        /// # Safety
        /// `spot` describes readable memory, `dst` has room for a tile, and the processor has the features.
        #[target_feature(enable = $features)]
        pub(super) unsafe fn $name(spot: Spot, side: Side, dst: *mut Line) {
            // SAFETY: the caller's promise. Tiles inside the matrix take the copy of the code without tests.
            let words = unsafe {
                match (spot.strided, spot.lines == LINES, spot.depth == DEPTH) {
                    (true, _, true) => $depth_pairs::<true>(spot),
                    (true, _, false) => $depth_pairs::<false>(spot),
                    (false, true, _) => $line_words::<true>(spot),
                    (false, false, _) => $line_words::<false>(spot),
                }
            };
            let transposed = spot.strided == (side == Side::Left);
            let words = if transposed { transpose(&words) } else { words };
            let mut dst = dst;
            for row in words {
                // SAFETY: 16 rows of 64 bytes make a tile.
                unsafe { _mm512_store_si512(dst.cast(), row) };
                dst = dst.wrapping_add(1);
            }
        }

        /// Row `r` of the result: the depths of line `r`, pair by pair.
        #[target_feature(enable = $features)]
        unsafe fn $line_words<const ALL_LINES: bool>(spot: Spot) -> [__m512i; 16] {
            let depth_mask = ((1u64 << spot.depth) - 1) as u32;
            let mut words = [_mm512_setzero_si512(); 16];
            let mut ptr = spot.ptr;
            for (line, words) in words.iter_mut().enumerate() {
                let mask = if ALL_LINES || line < spot.lines { depth_mask } else { 0 };
                // SAFETY: masked loads touch only elements inside the matrix.
                unsafe {
                    let low = _mm512_maskz_loadu_ps(mask as u16, ptr);
                    let high = _mm512_maskz_loadu_ps((mask >> 16) as u16, ptr.wrapping_add(LINES));
                    *words = $round(high, low);
                }
                ptr = ptr.wrapping_add(spot.ld);
            }
            words
        }

        /// Row `p` of the result: depths `2p` and `2p + 1` of all lines, interleaved.
        #[target_feature(enable = $features)]
        unsafe fn $depth_pairs<const ALL_DEPTHS: bool>(spot: Spot) -> [__m512i; 16] {
            let line_mask = ((1u32 << spot.lines) - 1) as u16;
            // SAFETY: 32 half words are 64 bytes.
            let interleave = unsafe { _mm512_loadu_si512(INTERLEAVE.as_ptr().cast()) };
            let mut words = [_mm512_setzero_si512(); 16];
            let mut ptr = spot.ptr;
            for (pair, words) in words.iter_mut().enumerate() {
                let mask = |depth: usize| {
                    if ALL_DEPTHS || depth < spot.depth { line_mask } else { 0 }
                };
                // SAFETY: masked loads touch only elements inside the matrix.
                unsafe {
                    let even = _mm512_maskz_loadu_ps(mask(2 * pair), ptr);
                    let odd = _mm512_maskz_loadu_ps(mask(2 * pair + 1), ptr.wrapping_add(spot.ld));
                    *words = _mm512_permutexvar_epi16(interleave, $round(odd, even));
                }
                ptr = ptr.wrapping_add(spot.ld).wrapping_add(spot.ld);
            }
            words
        }
    };
}

packing!(pack_tile, line_words, depth_pairs, round_native, "avx512f,avx512bw,avx512bf16");
packing!(pack_tile_basic, line_words_basic, depth_pairs_basic, round_basic, "avx512f,avx512bw");

/// Rounds two registers to one of `bf16`, the second one first.
#[target_feature(enable = "avx512f,avx512bf16")]
fn round_native(high: __m512, low: __m512) -> __m512i {
    // SAFETY: both types are 512 bits without structure.
    unsafe { std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low)) }
}

/// [`round_native`] for processors without it. It keeps subnormal numbers, which the other flushes to zero.
#[target_feature(enable = "avx512f,avx512bw")]
fn round_basic(high: __m512, low: __m512) -> __m512i {
    // SAFETY: AVX-512 F is enabled here.
    let (high, low) = unsafe { (round_to_bf16(high), round_to_bf16(low)) };
    _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high)
}

/// Transposes a square of `rows` by `columns`, at most 16 each, between leading dimensions.
///
/// # Safety
/// The square is readable at `from` and its transpose writable at `to`; AVX-512 is [`available`].
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn transpose_square(
    from: (*const f32, usize),
    to: (*mut f32, usize),
    rows: usize,
    columns: usize,
) {
    let (row_mask, column_mask) = (((1u32 << rows) - 1) as u16, ((1u32 << columns) - 1) as u16);
    let mut words = [_mm512_setzero_si512(); 16];
    // SAFETY: masked accesses touch only the square.
    unsafe {
        for row in 0..rows {
            words[row] = _mm512_maskz_loadu_epi32(column_mask, from.0.wrapping_add(row * from.1).cast());
        }
        let words = transpose(&words);
        for column in 0..columns {
            _mm512_mask_storeu_epi32(to.0.wrapping_add(column * to.1).cast(), row_mask, words[column]);
        }
    }
}

/// Transposes 16 x 16 words: pairs, quads, then the four 128-bit lanes in two rounds.
#[target_feature(enable = "avx512f")]
fn transpose(r: &[__m512i; 16]) -> [__m512i; 16] {
    let mut t = [_mm512_setzero_si512(); 16];
    for i in 0..8 {
        t[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
    }
    let mut u = [_mm512_setzero_si512(); 16];
    for i in 0..4 {
        u[4 * i] = _mm512_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
        u[4 * i + 1] = _mm512_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
        u[4 * i + 2] = _mm512_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
        u[4 * i + 3] = _mm512_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
    }
    // `u[4 i + j]`, lane `l`: column `4 l + j` of rows `4 i .. 4 i + 4`.
    let mut out = [_mm512_setzero_si512(); 16];
    for j in 0..4 {
        let low01 = _mm512_shuffle_i32x4::<0x44>(u[j], u[4 + j]);
        let low23 = _mm512_shuffle_i32x4::<0x44>(u[8 + j], u[12 + j]);
        let high01 = _mm512_shuffle_i32x4::<0xee>(u[j], u[4 + j]);
        let high23 = _mm512_shuffle_i32x4::<0xee>(u[8 + j], u[12 + j]);
        out[j] = _mm512_shuffle_i32x4::<0x88>(low01, low23);
        out[4 + j] = _mm512_shuffle_i32x4::<0xdd>(low01, low23);
        out[8 + j] = _mm512_shuffle_i32x4::<0x88>(high01, high23);
        out[12 + j] = _mm512_shuffle_i32x4::<0xdd>(high01, high23);
    }
    out
}
