//! AVX-512: conversion and transposition for packing, and `f32` multiply-adds over widened `bf16` where
//! AMX is missing (`vdpbf16ps` runs at half the rate of the `f32` units).

#[allow(clippy::wildcard_imports)] // Forty intrinsics under their well-known names.
use std::arch::x86_64::*;

use super::kernel::Block;
use super::matrix::{DEPTH, LINES, Line};
use super::pack::{Side, Spot};
use super::{gradient, single};
use crate::simd::round_to_bf16;

/// Whether the processor has the parts of AVX-512 that the kernels use.
pub(super) fn available() -> bool {
    std::arch::is_x86_feature_detected!("avx512f") && std::arch::is_x86_feature_detected!("avx512bw")
}

/// Rows of a block whose sums are kept in registers at a time.
const ROWS: usize = 8;

/// Multiplies one block.
///
/// # Safety
/// As [`Block`] says; AVX-512 is [`available`].
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) unsafe fn block(b: &Block) {
    for row in (0..b.rows).step_by(ROWS) {
        // SAFETY: the caller's promise on all pointers of the block.
        unsafe {
            let mut sums = [[_mm512_setzero_ps(); 2]; ROWS];
            for r in 0..ROWS {
                let init = b.init.add((row + r) * b.init_ld);
                sums[r] = [_mm512_loadu_ps(init), _mm512_loadu_ps(init.add(LINES))];
            }
            let mut left = b.left.add(row / LINES * b.left_stride + row % LINES);
            let mut right = b.right;
            for _ in 0..b.steps {
                for pair in 0..LINES {
                    let (low0, high0) = widen(_mm512_load_si512(right[0].cast()));
                    let (low1, high1) = widen(_mm512_load_si512(right[1].cast()));
                    for r in 0..ROWS {
                        let words = left.wrapping_add(r).cast::<i32>();
                        let (low, high) = widen(_mm512_set1_epi32(*words.wrapping_add(pair)));
                        sums[r][0] = _mm512_fmadd_ps(low, low0, sums[r][0]);
                        sums[r][1] = _mm512_fmadd_ps(low, low1, sums[r][1]);
                        sums[r][0] = _mm512_fmadd_ps(high, high0, sums[r][0]);
                        sums[r][1] = _mm512_fmadd_ps(high, high1, sums[r][1]);
                    }
                    right = right.map(|panel| panel.wrapping_add(1));
                }
                left = left.wrapping_add(LINES);
            }
            for r in 0..ROWS {
                let out = b.out.add((row + r) * b.out_ld);
                _mm512_storeu_ps(out, sums[r][0]);
                _mm512_storeu_ps(out.add(LINES), sums[r][1]);
            }
        }
    }
}

/// Multiplies one `f32` block.
///
/// # Safety
/// As [`single::Block`] says; AVX-512 is [`available`].
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn block_f32(b: &single::Block) {
    // SAFETY: the caller's promise.
    unsafe {
        match b.rows {
            1 => rows_f32::<1>(b),
            2 => rows_f32::<2>(b),
            3 => rows_f32::<3>(b),
            4 => rows_f32::<4>(b),
            5 => rows_f32::<5>(b),
            6 => rows_f32::<6>(b),
            7 => rows_f32::<7>(b),
            _ => rows_f32::<{ single::ROWS }>(b),
        }
    }
}

#[target_feature(enable = "avx512f")]
unsafe fn rows_f32<const R: usize>(b: &single::Block) {
    // SAFETY: the caller's promise on all pointers of the block.
    unsafe {
        let mut sums = [[_mm512_setzero_ps(); 2]; R];
        let steps: [usize; R] = std::array::from_fn(|r| r * b.line_step);
        for r in 0..R {
            let init = b.init.add(r * b.init_ld);
            sums[r] = [_mm512_loadu_ps(init), _mm512_loadu_ps(init.add(LINES))];
        }
        let (mut left, mut right) = (b.left, b.right);
        for _ in 0..b.depth {
            let (right0, right1) = (_mm512_loadu_ps(right), _mm512_loadu_ps(right.wrapping_add(LINES)));
            for r in 0..R {
                let value = _mm512_set1_ps(*left.wrapping_add(steps[r]));
                sums[r][0] = _mm512_fmadd_ps(value, right0, sums[r][0]);
                sums[r][1] = _mm512_fmadd_ps(value, right1, sums[r][1]);
            }
            right = right.wrapping_add(2 * LINES);
            left = left.wrapping_add(b.depth_step);
        }
        for r in 0..R {
            let out = b.out.add(r * b.out_ld);
            _mm512_storeu_ps(out, sums[r][0]);
            _mm512_storeu_ps(out.add(LINES), sums[r][1]);
        }
    }
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

/// The even and the odd `bf16` of each word as `f32`.
#[target_feature(enable = "avx512f")]
fn widen(words: __m512i) -> (__m512, __m512) {
    let odd = _mm512_and_si512(words, _mm512_set1_epi32(0xffff_0000_u32 as i32));
    (_mm512_castsi512_ps(_mm512_slli_epi32::<16>(words)), _mm512_castsi512_ps(odd))
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
