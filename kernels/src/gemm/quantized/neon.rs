//! NEON: `sdot` adds four products of signed bytes to each word; without it, products of 16 bits are added in pairs.
#![allow(clippy::inline_always)] // The kernels are compiled once with `sdot` and once without.

#[allow(clippy::wildcard_imports)] // Thirty intrinsics under their well-known names.
use std::arch::aarch64::*;
use std::arch::{asm, is_aarch64_feature_detected};

use super::super::matrix::LINES;
use super::int4::HALF;
use super::kernel::{BLOCK, Strip};

/// Bytes of a register.
const WIDTH: usize = 16;
/// Registers of a line: four columns each of a weight, four words each of a row.
const QUARTERS: usize = size_of::<super::Line>() / WIDTH;

pub(super) fn available() -> bool {
    is_aarch64_feature_detected!("neon")
}

pub(super) fn dot_available() -> bool {
    is_aarch64_feature_detected!("neon") && is_aarch64_feature_detected!("dotprod")
}

/// 8-bit products.
///
/// # Safety
/// As [`Strip`] says; NEON is [`available`].
#[target_feature(enable = "neon")]
pub(super) unsafe fn int8(s: &Strip) {
    // SAFETY: the caller's promise.
    unsafe { int8_strip::<false>(s) }
}

/// 8-bit products.
///
/// # Safety
/// As [`Strip`] says; `sdot` is [there](dot_available).
#[target_feature(enable = "neon,dotprod")]
pub(super) unsafe fn int8_dot(s: &Strip) {
    // SAFETY: the caller's promise.
    unsafe { int8_strip::<true>(s) }
}

/// 4-bit products.
///
/// # Safety
/// As [`Strip`] says; NEON is [`available`].
#[target_feature(enable = "neon")]
pub(super) unsafe fn int4(s: &Strip) {
    // SAFETY: the caller's promise.
    unsafe { int4_strip::<false>(s) }
}

/// 4-bit products.
///
/// # Safety
/// As [`Strip`] says; `sdot` is [there](dot_available).
#[target_feature(enable = "neon,dotprod")]
pub(super) unsafe fn int4_dot(s: &Strip) {
    // SAFETY: the caller's promise.
    unsafe { int4_strip::<true>(s) }
}

#[inline(always)]
unsafe fn int8_strip<const DOT: bool>(s: &Strip) {
    // SAFETY: the caller's promise.
    unsafe {
        match s.rows {
            1 => int8_rows::<DOT, 1>(s),
            2 => int8_rows::<DOT, 2>(s),
            _ => (0..s.rows).step_by(4).for_each(|row| int8_rows::<DOT, 4>(&s.four(row))),
        }
    }
}

#[inline(always)]
unsafe fn int4_strip<const DOT: bool>(s: &Strip) {
    // SAFETY: the caller's promise.
    unsafe {
        match s.rows {
            1 => int4_rows::<DOT, 1>(s),
            2 => int4_rows::<DOT, 2>(s),
            _ => (0..s.rows).step_by(4).for_each(|row| int4_rows::<DOT, 4>(&s.four(row))),
        }
    }
}

/// Adds to each word of `sum` the four products of a word of `w` with word `LANE` of `x`.
#[inline(always)]
unsafe fn dot<const DOT: bool, const LANE: i32>(mut sum: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t {
    // SAFETY: the caller has checked the processor.
    unsafe {
        if DOT {
            // Not an intrinsic: that one is not stable yet.
            asm!(
                "sdot {sum:v}.4s, {w:v}.16b, {x:v}.4b[{lane}]",
                sum = inout(vreg) sum,
                w = in(vreg) w,
                x = in(vreg) x,
                lane = const LANE,
                options(pure, nomem, nostack, preserves_flags),
            );
            return sum;
        }
        let x = vreinterpretq_s8_s32(vdupq_laneq_s32::<LANE>(vreinterpretq_s32_s8(x)));
        let low = vpaddlq_s16(vmull_s8(vget_low_s8(w), vget_low_s8(x)));
        vaddq_s32(sum, vpaddq_s32(low, vpaddlq_s16(vmull_high_s8(w, x))))
    }
}

#[inline(always)]
unsafe fn int8_rows<const DOT: bool, const R: usize>(s: &Strip) {
    // SAFETY: the rows and all tiles of the strip are readable, its rows of sums writable.
    unsafe {
        let mut sums = [[[vdupq_n_s32(0); QUARTERS]; R]; 2];
        for step in 0..s.steps {
            let left = s.left.add(step * s.height);
            for panel in 0..2 {
                let mut of_panel = sums[panel];
                let mut right = s.right.add(step * BLOCK + panel * LINES).cast::<i8>();
                for quad in 0..QUARTERS {
                    let mut x = [vdupq_n_s8(0); R];
                    for r in 0..R {
                        x[r] = vld1q_s8(left.add(r).cast::<i8>().add(quad * WIDTH));
                    }
                    right = add_line::<DOT, 0, R>(right, &x, &mut of_panel);
                    right = add_line::<DOT, 1, R>(right, &x, &mut of_panel);
                    right = add_line::<DOT, 2, R>(right, &x, &mut of_panel);
                    right = add_line::<DOT, 3, R>(right, &x, &mut of_panel);
                }
                sums[panel] = of_panel;
            }
        }
        for r in 0..R {
            for panel in 0..2 {
                for q in 0..QUARTERS {
                    vst1q_s32(s.out.add(2 * r + panel).cast::<i32>().add(4 * q), sums[panel][r][q]);
                }
            }
        }
    }
}

/// Adds the products of a line of weights with word `LANE` of the rows; returns where the next line is.
#[inline(always)]
unsafe fn add_line<const DOT: bool, const LANE: i32, const R: usize>(
    line: *const i8,
    x: &[int8x16_t; R],
    sums: &mut [[int32x4_t; QUARTERS]; R],
) -> *const i8 {
    // SAFETY: the caller vouches for a line.
    unsafe {
        for q in 0..QUARTERS {
            let w = vld1q_s8(line.add(q * WIDTH));
            for r in 0..R {
                sums[r][q] = dot::<DOT, LANE>(sums[r][q], w, x[r]);
            }
        }
    }
    line.wrapping_add(QUARTERS * WIDTH)
}

#[inline(always)]
unsafe fn int4_rows<const DOT: bool, const R: usize>(s: &Strip) {
    // SAFETY: the rows and all units of the strip are readable, its rows of sums writable.
    unsafe {
        let mut sums = [[[vdupq_n_f32(0.0); QUARTERS]; R]; 2];
        for group in 0..s.groups {
            let left = s.left.add(group / 2 * s.height).byte_add(group % 2 * HALF);
            let mut x = [[vdupq_n_s8(0); 2]; R];
            for r in 0..R {
                let row = left.add(r).cast::<i8>();
                x[r] = [vld1q_s8(row), vld1q_s8(row.add(WIDTH))];
            }
            let unit = s.right.add(group * 9);
            for panel in 0..2 {
                let mut of_group = [[vdupq_n_s32(0); QUARTERS]; R];
                for r in 0..R {
                    of_group[r] = [vdupq_n_s32(s.excess.add(r * s.groups + group).read()); QUARTERS];
                }
                let line = unit.add(1 + panel * QUARTERS).cast::<u8>();
                let line = add_halves::<DOT, 0, R>(line, &x, &mut of_group);
                let line = add_halves::<DOT, 1, R>(line, &x, &mut of_group);
                let line = add_halves::<DOT, 2, R>(line, &x, &mut of_group);
                add_halves::<DOT, 3, R>(line, &x, &mut of_group);
                for q in 0..QUARTERS {
                    let scale = widen(unit.cast::<u16>().add(panel * LINES + 4 * q));
                    for r in 0..R {
                        let sum = vcvtq_f32_s32(of_group[r][q]);
                        sums[panel][r][q] = vfmaq_f32(sums[panel][r][q], sum, scale);
                    }
                }
            }
        }
        for r in 0..R {
            for panel in 0..2 {
                for q in 0..QUARTERS {
                    vst1q_f32(s.out.add(2 * r + panel).cast::<f32>().add(4 * q), sums[panel][r][q]);
                }
            }
        }
    }
}

/// Adds the products of a line of weights in half bytes, of words `LANE` of both halves of the rows; returns where the
/// next line is.
#[inline(always)]
unsafe fn add_halves<const DOT: bool, const LANE: i32, const R: usize>(
    line: *const u8,
    x: &[[int8x16_t; 2]; R],
    sums: &mut [[int32x4_t; QUARTERS]; R],
) -> *const u8 {
    // SAFETY: the caller vouches for a line.
    unsafe {
        for q in 0..QUARTERS {
            let both = vld1q_u8(line.add(q * WIDTH));
            let low = vreinterpretq_s8_u8(vandq_u8(both, vdupq_n_u8(15)));
            let high = vreinterpretq_s8_u8(vshrq_n_u8::<4>(both));
            for r in 0..R {
                let sum = dot::<DOT, LANE>(sums[r][q], low, x[r][0]);
                sums[r][q] = dot::<DOT, LANE>(sum, high, x[r][1]);
            }
        }
    }
    line.wrapping_add(QUARTERS * WIDTH)
}

/// Four `f16` bit patterns as `f32`.
#[inline(always)]
unsafe fn widen(from: *const u16) -> float32x4_t {
    let wide: float32x4_t;
    // SAFETY: the caller vouches for four of them. Not an intrinsic: those of `f16` are not stable yet.
    unsafe {
        let halves = vld1_u16(from);
        asm!(
            "fcvtl {wide:v}.4s, {halves:v}.4h",
            wide = lateout(vreg) wide,
            halves = in(vreg) halves,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    wide
}
