//! AVX2: `vpmaddubsw` adds pairs of products of an unsigned and a signed byte in 16 bits.

#[allow(clippy::wildcard_imports)] // Twenty intrinsics under their well-known names.
use std::arch::x86_64::*;

use super::super::matrix::LINES;
use super::int4::HALF;
use super::kernel::{BLOCK, Strip};

pub(super) fn available() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c")
}

/// 8-bit products: of the magnitudes of `x` and the weights with the sign of `x`. Pairs stay below 2 · 127 · 127 < 2¹⁵,
/// so that nothing saturates (−128 is no value of the format).
///
/// # Safety
/// As [`Strip`] says; AVX2 is [`available`].
#[target_feature(enable = "avx2")]
pub(super) unsafe fn int8(s: &Strip) {
    let ones = _mm256_set1_epi16(1);
    for row in 0..s.rows {
        // SAFETY: the row and all tiles of the strip are readable, its row of sums is writable.
        unsafe {
            let mut sums = [_mm256_setzero_si256(); 4];
            for step in 0..s.steps {
                let left = s.left.add(step * s.height + row).cast::<i32>();
                let right = s.right.add(step * BLOCK).cast::<__m256i>();
                for line in 0..LINES {
                    let x = _mm256_set1_epi32(left.add(line).read());
                    let magnitudes = _mm256_abs_epi8(x);
                    for quarter in 0..4 {
                        let at = (quarter / 2 * LINES + line) * 2 + quarter % 2;
                        let w = _mm256_sign_epi8(_mm256_load_si256(right.add(at)), x);
                        let pairs = _mm256_maddubs_epi16(magnitudes, w);
                        sums[quarter] = _mm256_add_epi32(sums[quarter], _mm256_madd_epi16(pairs, ones));
                    }
                }
            }
            for quarter in 0..4 {
                _mm256_store_si256(s.out.add(2 * row).cast::<__m256i>().add(quarter), sums[quarter]);
            }
        }
    }
}

/// 4-bit products. All sixteen that meet in a 16-bit sum stay below 16 · 15 · 127 < 2¹⁵.
///
/// # Safety
/// As [`Strip`] says; AVX2 is [`available`].
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn int4(s: &Strip) {
    let (ones, low) = (_mm256_set1_epi16(1), _mm256_set1_epi8(15));
    for row in 0..s.rows {
        // SAFETY: the row and all units of the strip are readable, its row of sums is writable.
        unsafe {
            let mut sums = [_mm256_setzero_ps(); 4];
            for group in 0..s.groups {
                let left = s.left.add(group / 2 * s.height + row).byte_add(group % 2 * HALF).cast::<i32>();
                let unit = s.right.add(group * 9);
                let excess = _mm256_set1_epi32(s.excess.add(row * s.groups + group).read());
                for quarter in 0..4 {
                    let mut pairs = _mm256_setzero_si256();
                    for quad in 0..4 {
                        let from = unit.add(1 + quarter / 2 * 4 + quad).cast::<__m256i>();
                        let w = _mm256_load_si256(from.add(quarter % 2));
                        let first = _mm256_and_si256(w, low);
                        let second = _mm256_and_si256(_mm256_srli_epi32::<4>(w), low);
                        let x = _mm256_set1_epi32(left.add(quad).read());
                        pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16(first, x));
                        let x = _mm256_set1_epi32(left.add(4 + quad).read());
                        pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16(second, x));
                    }
                    let of_group = _mm256_add_epi32(_mm256_madd_epi16(pairs, ones), excess);
                    let scale = _mm256_cvtph_ps(_mm_load_si128(unit.cast::<__m128i>().add(quarter)));
                    sums[quarter] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(of_group), scale, sums[quarter]);
                }
            }
            for quarter in 0..4 {
                _mm256_store_ps(s.out.add(2 * row).cast::<f32>().add(8 * quarter), sums[quarter]);
            }
        }
    }
}
