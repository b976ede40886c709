//! AVX2: `vpmaddubsw` on the magnitudes of `x` and the weights with the sign of `x`. Pairs of products stay below
//! 2 · 127 · 127 < 2¹⁵, so that it never saturates (−128 is no value of the format).

use std::arch::x86_64::{
    __m256i, _mm256_abs_epi8, _mm256_add_epi32, _mm256_load_si256, _mm256_madd_epi16, _mm256_maddubs_epi16,
    _mm256_set1_epi16, _mm256_set1_epi32, _mm256_setzero_si256, _mm256_sign_epi8, _mm256_store_si256,
};

use super::super::matrix::LINES;
use super::kernel::Sums;

pub(super) fn available() -> bool {
    is_x86_feature_detected!("avx2")
}

/// Multiplies one block of bytes.
///
/// # Safety
/// As [`Sums`] says; AVX2 is [`available`].
#[target_feature(enable = "avx2")]
pub(super) unsafe fn int8(s: &Sums) {
    let ones = _mm256_set1_epi16(1);
    for row in 0..s.rows {
        // SAFETY: the row and all tiles of the block are readable, its row of sums is writable.
        unsafe {
            let out = s.out.add(row * 2).cast::<__m256i>();
            let mut sums = [_mm256_setzero_si256(); 4];
            if !s.fresh {
                for quarter in 0..4 {
                    sums[quarter] = _mm256_load_si256(out.add(quarter));
                }
            }
            let left = s.left.add(row / LINES * s.left_stride + row % LINES).cast::<i32>();
            for step in 0..s.steps {
                let right = s.right.add(step * 2 * LINES).cast::<__m256i>();
                for line in 0..LINES {
                    let x = _mm256_set1_epi32(left.add(step * LINES * LINES + line).read());
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
                _mm256_store_si256(out.add(quarter), sums[quarter]);
            }
        }
    }
}
