//! AVX-512 VNNI: `vpdpbusd` adds four products of an unsigned and a signed byte to each word. The weight is made
//! unsigned, and what that adds to a sum is taken off again.

#[allow(clippy::wildcard_imports)] // Thirty intrinsics under their well-known names.
use std::arch::x86_64::*;
use std::ops::Range;

use super::super::matrix::{LINES, Line};
use super::int4::{HALF, QUADS, Unit};
use super::kernel::{BLOCK, Strip};

/// Lines of a unit.
const UNIT: usize = size_of::<Unit>() / size_of::<Line>();

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
            1 => int8_rows::<1, true>(s),
            2 => int8_rows::<2, true>(s),
            4 => int8_rows::<4, true>(s),
            _ if s.again => int8_rows::<8, false>(s),
            _ => int8_rows::<8, true>(s),
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
            1 => int4_rows::<1, 1, 2>(s),
            2 => int4_rows::<2, 2, 2>(s),
            4 => int4_rows::<4, 4, 1>(s),
            _ => int4_rows::<8, 4, 1>(s),
        }
    }
}

/// Asks for what lies some way behind an address.
#[inline]
#[target_feature(enable = "avx512f")]
fn ahead(line: *const __m512i) {
    _mm_prefetch::<_MM_HINT_T0>(line.wrapping_byte_add(FETCH_AHEAD).cast());
}

/// `R` rows; with `FETCH`, tiles come from memory: they are read in the order in which they lie, and what comes next is asked for.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn int8_rows<const R: usize, const FETCH: bool>(s: &Strip) {
    let zeros = _mm512_setzero_si512();
    let mut sums = [[zeros; 2]; R];
    // SAFETY: the rows and all tiles of the strip are readable, its rows of sums writable.
    unsafe {
        for step in 0..s.steps {
            let left = s.left.add(step * s.height);
            let right = s.right.add(step * BLOCK).cast::<__m512i>();
            if FETCH {
                for panel in 0..2 {
                    for line in 0..LINES {
                        let from = right.add(panel * LINES + line);
                        ahead(from);
                        let w = unsigned(from);
                        for r in 0..R {
                            sums[r][panel] = _mm512_dpbusd_epi32(sums[r][panel], w, quad(left.add(r), line));
                        }
                    }
                }
            } else {
                for line in 0..LINES {
                    let w = [unsigned(right.add(line)), unsigned(right.add(LINES + line))];
                    for r in 0..R {
                        let x = quad(left.add(r), line);
                        for panel in 0..2 {
                            sums[r][panel] = _mm512_dpbusd_epi32(sums[r][panel], w[panel], x);
                        }
                    }
                }
            }
        }
        for r in 0..R {
            let excess = _mm512_set1_epi32(-i32::from(i8::MIN) * s.totals.add(r).read());
            for panel in 0..2 {
                let to = s.out.add(2 * r + panel).cast::<__m512i>();
                _mm512_store_si512(to, _mm512_sub_epi32(sums[r][panel], excess));
            }
        }
    }
}

/// A line of weights plus 128.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn unsigned(line: *const __m512i) -> __m512i {
    // SAFETY: the caller's promise.
    _mm512_xor_si512(unsafe { _mm512_load_si512(line) }, _mm512_set1_epi8(i8::MIN))
}

/// Four neighbouring bytes of a row, sixteen times.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn quad(row: *const Line, index: usize) -> __m512i {
    // SAFETY: the caller's promise.
    _mm512_set1_epi32(unsafe { row.cast::<i32>().add(index).read() })
}

/// Groups after which the other rows are due: their weights are still in the first cache.
const TURN: usize = 32;

/// `R` rows, of which `AT_ONCE` are summed in registers.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn int4_rows<const R: usize, const AT_ONCE: usize, const SUMS: usize>(s: &Strip) {
    let mut sums = [[_mm512_setzero_ps(); 2]; R];
    // SAFETY: the rows and all units of the strip are readable, its rows of sums writable.
    unsafe {
        let turn = if AT_ONCE < R { TURN } else { s.groups.max(1) };
        for first in (0..s.groups).step_by(turn) {
            let groups = first..s.groups.min(first + turn);
            let (now, later) = sums.split_at_mut(AT_ONCE);
            add_groups::<AT_ONCE, SUMS, true>(s, groups.clone(), 0, now);
            for (i, rows) in later.chunks_exact_mut(AT_ONCE).enumerate() {
                add_groups::<AT_ONCE, SUMS, false>(s, groups.clone(), (i + 1) * AT_ONCE, rows);
            }
        }
        for r in 0..R {
            for panel in 0..2 {
                _mm512_store_ps(s.out.add(2 * r + panel).cast(), sums[r][panel]);
            }
        }
    }
}

/// Adds the products of some groups and of `R` rows from `row` on; with `FETCH`, what comes next is asked for. `SUMS` integer sums of a group
/// and a panel take turns, where a few rows alone would have the multipliers wait.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn add_groups<const R: usize, const SUMS: usize, const FETCH: bool>(
    s: &Strip,
    groups: Range<usize>,
    row: usize,
    sums: &mut [[__m512; 2]],
) {
    let low = _mm512_set1_epi8(15);
    // In registers, where the slice would be memory.
    let mut kept: [[__m512; 2]; R] = std::array::from_fn(|r| sums[r]);
    for group in groups {
        // SAFETY: the caller's promise.
        unsafe {
            let left = s.left.add(group / 2 * s.height + row).byte_add(group % 2 * HALF);
            let unit = s.right.cast::<__m512i>().add(group * UNIT);
            let mut of_group = [[[_mm512_setzero_si512(); SUMS]; 2]; R];
            for r in 0..R {
                let excess = _mm512_set1_epi32(s.excess.add((row + r) * s.groups + group).read());
                of_group[r][0][0] = excess;
                of_group[r][1][0] = excess;
            }
            if FETCH {
                (0..UNIT).for_each(|line| ahead(unit.add(line)));
            }
            for quad in 0..QUADS {
                let line = unit.add(1 + quad);
                let w = [0, QUADS].map(|panel| halves(_mm512_load_si512(line.add(panel)), low));
                for r in 0..R {
                    let x = left.add(r).cast::<i32>().add(quad);
                    for half in 0..2 {
                        let x = _mm512_set1_epi32(x.add(half * QUADS).read());
                        for panel in 0..2 {
                            let sum = &mut of_group[r][panel][half % SUMS];
                            *sum = _mm512_dpbusd_epi32(*sum, w[panel][half], x);
                        }
                    }
                }
            }
            let scales = [0, 1].map(|panel| scales(unit, panel));
            for r in 0..R {
                for panel in 0..2 {
                    let mut sum = of_group[r][panel][0];
                    for other in &of_group[r][panel][1..] {
                        sum = _mm512_add_epi32(sum, *other);
                    }
                    kept[r][panel] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), scales[panel], kept[r][panel]);
                }
            }
        }
    }
    sums.copy_from_slice(&kept);
}

/// The low and the high half of each byte.
#[inline]
#[target_feature(enable = "avx512f")]
fn halves(line: __m512i, low: __m512i) -> [__m512i; 2] {
    [_mm512_and_si512(line, low), _mm512_and_si512(_mm512_srli_epi32::<4>(line), low)]
}

/// The scales of a panel of a unit.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn scales(unit: *const __m512i, panel: usize) -> __m512 {
    // SAFETY: the caller has a unit.
    _mm512_cvtph_ps(unsafe { _mm256_load_si256(unit.cast::<__m256i>().add(panel)) })
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
        for panel in 0..2 {
            _mm512_store_ps(scales_to[panel], scales(line, panel));
            for quad in 0..QUADS {
                let w = halves(_mm512_load_si512(line.add(1 + panel * QUADS + quad)), low);
                for half in 0..2 {
                    let to = tiles[panel].add(half * QUADS + quad).cast();
                    _mm512_store_si512(to, _mm512_sub_epi8(w[half], eight));
                }
            }
        }
    }
}
