//! AVX-512 VNNI: `vpdpbusd` adds four products of an unsigned and a signed byte to each word. The weight is made
//! unsigned, and what that adds to a sum is taken off again.

#[allow(clippy::wildcard_imports)] // Thirty intrinsics under their well-known names.
use std::arch::x86_64::*;

use super::super::matrix::{LINES, Line};
use super::int4::{HALF, Unit};
use super::kernel::{BLOCK, Strip};

/// Bytes between what is multiplied and what is fetched from memory.
const FETCH_AHEAD: usize = 4096;

pub(super) fn available() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vnni")
}

/// 8-bit products.
///
/// # Safety
/// As [`Strip`] says; VNNI is [`available`].
pub(super) unsafe fn int8(s: &Strip) {
    // SAFETY: the caller's promise.
    unsafe {
        match s.rows {
            1 => int8_rows::<1>(s),
            2 => int8_rows::<2>(s),
            _ => int8_rows::<4>(s),
        }
    }
}

/// 4-bit products.
///
/// # Safety
/// As [`Strip`] says; VNNI is [`available`].
pub(super) unsafe fn int4(s: &Strip) {
    // SAFETY: the caller's promise.
    unsafe {
        match s.rows {
            1 => int4_rows::<1>(s),
            2 => int4_rows::<2>(s),
            _ => int4_rows::<4>(s),
        }
    }
}

/// Asks for what lies some way behind an address.
#[inline]
#[target_feature(enable = "avx512f")]
fn ahead(line: *const __m512i) {
    _mm_prefetch::<_MM_HINT_T0>(line.wrapping_byte_add(FETCH_AHEAD).cast());
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn int8_rows<const R: usize>(s: &Strip) {
    let offset = _mm512_set1_epi8(i8::MIN);
    let zeros = _mm512_setzero_si512();
    let (mut sums, mut excess) = ([[zeros; 2]; R], [zeros; R]);
    // SAFETY: the rows and all tiles of the strip are readable, its rows of sums writable.
    unsafe {
        for step in 0..s.steps {
            let left = s.left.add(step * s.height);
            for r in 0..R {
                excess[r] = _mm512_dpbusd_epi32(excess[r], offset, _mm512_load_si512(left.add(r).cast()));
            }
            let right = s.right.add(step * BLOCK).cast::<__m512i>();
            for line in 0..LINES {
                let mut w = [zeros; 2];
                for panel in 0..2 {
                    let from = right.add(panel * LINES + line);
                    ahead(from);
                    w[panel] = _mm512_xor_si512(_mm512_load_si512(from), offset);
                }
                for r in 0..R {
                    let x = _mm512_set1_epi32(left.add(r).cast::<i32>().add(line).read());
                    for panel in 0..2 {
                        sums[r][panel] = _mm512_dpbusd_epi32(sums[r][panel], w[panel], x);
                    }
                }
            }
        }
        for r in 0..R {
            let excess = _mm512_set1_epi32(_mm512_reduce_add_epi32(excess[r]));
            for panel in 0..2 {
                let to = s.out.add(2 * r + panel).cast::<__m512i>();
                _mm512_store_si512(to, _mm512_sub_epi32(sums[r][panel], excess));
            }
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn int4_rows<const R: usize>(s: &Strip) {
    let low = _mm512_set1_epi8(15);
    let mut sums = [[_mm512_setzero_ps(); 2]; R];
    // SAFETY: the rows and all units of the strip are readable, its rows of sums writable.
    unsafe {
        let mut line = s.right.cast::<__m512i>();
        for group in 0..s.groups {
            let left = s.left.add(group / 2 * s.height).byte_add(group % 2 * HALF);
            ahead(line);
            let scales = scales(_mm512_load_si512(line));
            line = line.add(1);
            for panel in 0..2 {
                let mut of_group = [[_mm512_setzero_si512(); 2]; R];
                for r in 0..R {
                    of_group[r][0] = _mm512_set1_epi32(s.excess.add(r * s.groups + group).read());
                }
                for quad in 0..4 {
                    ahead(line);
                    let w = halves(_mm512_load_si512(line), low);
                    line = line.add(1);
                    for r in 0..R {
                        let x = left.add(r).cast::<i32>().add(quad);
                        let x = [_mm512_set1_epi32(x.read()), _mm512_set1_epi32(x.add(4).read())];
                        for half in 0..2 {
                            of_group[r][half] = _mm512_dpbusd_epi32(of_group[r][half], w[half], x[half]);
                        }
                    }
                }
                for r in 0..R {
                    let sum = _mm512_cvtepi32_ps(_mm512_add_epi32(of_group[r][0], of_group[r][1]));
                    sums[r][panel] = _mm512_fmadd_ps(sum, scales[panel], sums[r][panel]);
                }
            }
        }
        for r in 0..R {
            for panel in 0..2 {
                _mm512_store_ps(s.out.add(2 * r + panel).cast(), sums[r][panel]);
            }
        }
    }
}

/// The low and the high half of each byte.
#[inline]
#[target_feature(enable = "avx512f")]
fn halves(line: __m512i, low: __m512i) -> [__m512i; 2] {
    [_mm512_and_si512(line, low), _mm512_and_si512(_mm512_srli_epi32::<4>(line), low)]
}

/// The scales of both panels.
#[inline]
#[target_feature(enable = "avx512f")]
fn scales(line: __m512i) -> [__m512; 2] {
    let halves = [_mm512_castsi512_si256(line), _mm512_extracti64x4_epi64::<1>(line)];
    [_mm512_cvtph_ps(halves[0]), _mm512_cvtph_ps(halves[1])]
}

/// Unpacks a unit into half a right tile of each panel, and its scales.
///
/// # Safety
/// There is room for eight lines and sixteen scales in each panel; VNNI is [`available`].
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) unsafe fn unpack(unit: &Unit, tiles: [*mut Line; 2], scales_to: [*mut f32; 2]) {
    let (low, eight) = (_mm512_set1_epi8(15), _mm512_set1_epi8(8));
    // SAFETY: a unit is nine lines; the rest is the caller's promise.
    unsafe {
        let line = std::ptr::from_ref(unit).cast::<__m512i>();
        let scales = scales(_mm512_load_si512(line));
        for panel in 0..2 {
            _mm512_store_ps(scales_to[panel], scales[panel]);
            for quad in 0..4 {
                let w = halves(_mm512_load_si512(line.add(1 + panel * 4 + quad)), low);
                for half in 0..2 {
                    let to = tiles[panel].add(half * 4 + quad).cast();
                    _mm512_store_si512(to, _mm512_sub_epi8(w[half], eight));
                }
            }
        }
    }
}
