//! AVX-512 VNNI: `vpdpbusd` adds four products of an unsigned and a signed byte to each word.

use std::arch::x86_64::{
    __m512i, _mm512_add_epi32, _mm512_dpbusd_epi32, _mm512_load_si512, _mm512_reduce_add_epi32,
    _mm512_set1_epi8, _mm512_set1_epi32, _mm512_setzero_si512, _mm512_store_si512, _mm512_sub_epi32,
    _mm512_xor_si512,
};

use super::super::matrix::LINES;
use super::kernel::{BLOCK, Sums};

/// Rows of a block whose sums are kept in registers at a time.
const ROWS: usize = 8;

pub(super) fn available() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vnni")
}

/// Multiplies one block of bytes.
///
/// # Safety
/// As [`Sums`] says; VNNI is [`available`].
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(super) unsafe fn int8(s: &Sums) {
    // SAFETY: the caller's promise.
    unsafe {
        for row in (0..s.rows).step_by(ROWS) {
            match s.rows - row {
                1 => rows::<1>(s, row),
                2..=4 => rows::<4>(s, row),
                _ => rows::<ROWS>(s, row),
            }
        }
    }
}

/// Rows beyond the block's are computed too, from whatever the panel holds there: integers cannot trap.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn rows<const R: usize>(s: &Sums, first: usize) {
    // The weight is made unsigned by adding 128, so 128 Σ x is too much.
    let offset = _mm512_set1_epi8(i8::MIN);
    let zeros = _mm512_setzero_si512();
    let (mut sums, mut excess) = ([[zeros; 2]; R], [zeros; R]);
    // SAFETY: panels have 16 rows and blocks 32, so that `R` rows from `first` on, a multiple of 8, are there.
    unsafe {
        let out = s.out.add(first * 2);
        let left = s.left.add(first / LINES * s.left_stride + first % LINES);
        for step in 0..s.steps {
            let left = left.add(step * LINES);
            for r in 0..R {
                let depths = _mm512_load_si512(left.add(r).cast());
                excess[r] = _mm512_dpbusd_epi32(excess[r], offset, depths);
            }
            let right = s.right.add(step * 2 * LINES).cast::<__m512i>();
            for line in 0..LINES {
                let w = [
                    _mm512_xor_si512(_mm512_load_si512(right.add(line)), offset),
                    _mm512_xor_si512(_mm512_load_si512(right.add(LINES + line)), offset),
                ];
                for r in 0..R {
                    let x = _mm512_set1_epi32(left.add(r).cast::<i32>().add(line).read());
                    sums[r][0] = _mm512_dpbusd_epi32(sums[r][0], w[0], x);
                    sums[r][1] = _mm512_dpbusd_epi32(sums[r][1], w[1], x);
                }
            }
        }
        for r in 0..R {
            let excess = _mm512_set1_epi32(_mm512_reduce_add_epi32(excess[r]));
            for panel in 0..2 {
                let to = out.add(r * BLOCK / LINES + panel).cast::<__m512i>();
                let start = if s.fresh { zeros } else { _mm512_load_si512(to.cast_const()) };
                _mm512_store_si512(to, _mm512_add_epi32(start, _mm512_sub_epi32(sums[r][panel], excess)));
            }
        }
    }
}
