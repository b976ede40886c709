//! AVX-512 with the dot products of `bf16`: `vdpbf16ps` adds the products of a pair of neighbouring depths to each sum, the
//! second one first. On processors that run it at the rate of `f32` multiply-adds (Zen 4 and later) it does twice their work; elsewhere it
//! still saves widening.

#[allow(clippy::wildcard_imports)] // Ten intrinsics under their well-known names.
use std::arch::x86_64::*;

use super::kernel::Block;
use super::matrix::{LINES, Line};

/// Rows of a block whose sums are kept in registers at a time: with both panels, half the registers.
const ROWS: usize = 8;

/// Bytes between what is multiplied and what is fetched from memory.
const FETCH_AHEAD: usize = 4096;

pub(super) fn available() -> bool {
    super::avx512::available() && std::arch::is_x86_feature_detected!("avx512bf16")
}

/// Multiplies one block.
///
/// # Safety
/// As [`Block`] says; the instruction is [`available`].
pub(super) unsafe fn block(b: &Block) {
    // SAFETY: the caller's promise.
    unsafe {
        match (b.rows, b.right_again) {
            (1, false) => rows::<1, true>(b, 0),
            (2, false) => rows::<2, true>(b, 0),
            (3 | 4, false) => rows::<4, true>(b, 0),
            (5..=ROWS, false) => rows::<ROWS, true>(b, 0),
            (1, true) => rows::<1, false>(b, 0),
            (2, true) => rows::<2, false>(b, 0),
            (3 | 4, true) => rows::<4, false>(b, 0),
            _ => (0..b.rows).step_by(ROWS).for_each(|row| rows::<ROWS, false>(b, row)),
        }
    }
}

/// `R` rows from `row` on; with `FETCH`, what comes next in the panels is asked for.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn rows<const R: usize, const FETCH: bool>(b: &Block, row: usize) {
    // SAFETY: the caller's promise on all pointers of the block.
    unsafe {
        let mut sums = [[_mm512_setzero_ps(); 2]; R];
        for r in 0..R {
            let init = b.init.add((row + r) * b.init_ld);
            sums[r] = [_mm512_loadu_ps(init), _mm512_loadu_ps(init.add(LINES))];
        }
        let mut left = b.left.add(row / LINES * b.left_stride + row % LINES);
        let mut right = b.right;
        for _ in 0..b.steps {
            for pair in 0..LINES {
                let panels = right.map(|line| {
                    if FETCH {
                        _mm_prefetch::<_MM_HINT_T0>(line.wrapping_byte_add(FETCH_AHEAD).cast());
                    }
                    pairs(_mm512_load_si512(line.cast()))
                });
                for r in 0..R {
                    let words = left.wrapping_add(r).cast::<i32>();
                    let x = pairs(_mm512_set1_epi32(*words.wrapping_add(pair)));
                    sums[r][0] = _mm512_dpbf16_ps(sums[r][0], x, panels[0]);
                    sums[r][1] = _mm512_dpbf16_ps(sums[r][1], x, panels[1]);
                }
                right = right.map(|panel: *const Line| panel.wrapping_add(1));
            }
            left = left.wrapping_add(LINES);
        }
        for r in 0..R {
            let out = b.out.add((row + r) * b.out_ld);
            _mm512_storeu_ps(out, sums[r][0]);
            _mm512_storeu_ps(out.add(LINES), sums[r][1]);
        }
    }
}

/// Words as pairs of `bf16`.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn pairs(words: __m512i) -> __m512bh {
    // SAFETY: both types are 512 bits without structure.
    unsafe { std::mem::transmute(words) }
}
