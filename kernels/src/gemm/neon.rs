//! NEON: `f32` multiply-adds over widened `bf16`, and over `f32`.

#[allow(clippy::wildcard_imports)] // Twenty intrinsics under their well-known names.
use std::arch::aarch64::*;

use super::kernel::Block;
use super::matrix::LINES;
use super::single;

/// Lanes of a register.
const LANES: usize = 4;
/// Registers of a row of one panel.
const QUARTERS: usize = LINES / LANES;
/// Rows whose sums are kept in registers at a time: half the registers hold those of one panel.
const ROWS: usize = 4;

pub(super) fn available() -> bool {
    std::arch::is_aarch64_feature_detected!("neon")
}

/// Multiplies one block.
///
/// # Safety
/// As [`Block`] says; NEON is [`available`].
#[target_feature(enable = "neon")]
pub(super) unsafe fn block(b: &Block) {
    // SAFETY: the caller's promise; a panel of rows is whole, and so a multiple of four.
    unsafe {
        if b.rows == 1 {
            return rows::<1, 2>(b, 0, 0);
        }
        for panel in 0..2 {
            for row in (0..b.rows).step_by(ROWS) {
                rows::<ROWS, 1>(b, row, panel);
            }
        }
    }
}

/// `R` rows from `row` on by `P` panels from `panel` on.
#[target_feature(enable = "neon")]
unsafe fn rows<const R: usize, const P: usize>(b: &Block, row: usize, panel: usize) {
    let zero = vdupq_n_f32(0.0);
    // SAFETY: the caller's promise on all pointers of the block.
    unsafe {
        let mut sums = [[[zero; QUARTERS]; P]; R];
        for r in 0..R {
            let init = b.init.add((row + r) * b.init_ld + panel * LINES);
            for p in 0..P {
                for q in 0..QUARTERS {
                    sums[r][p][q] = vld1q_f32(init.add(p * LINES + q * LANES));
                }
            }
        }
        let mut left = b.left.add(row / LINES * b.left_stride + row % LINES);
        let mut right = [b.right[panel].cast::<u32>(); P];
        for p in 0..P {
            right[p] = b.right[panel + p].cast();
        }
        for _ in 0..b.steps {
            // Four pairs of depths of each row at a time.
            for quad in 0..QUARTERS {
                let mut x = [[zero; 2]; R];
                for r in 0..R {
                    x[r] = widen(vld1q_u32(left.wrapping_add(r).cast::<u32>().wrapping_add(quad * LANES)));
                }
                add_pair::<0, R, P>(&x, &mut right, &mut sums);
                add_pair::<1, R, P>(&x, &mut right, &mut sums);
                add_pair::<2, R, P>(&x, &mut right, &mut sums);
                add_pair::<3, R, P>(&x, &mut right, &mut sums);
            }
            left = left.wrapping_add(LINES);
        }
        for r in 0..R {
            let out = b.out.add((row + r) * b.out_ld + panel * LINES);
            for p in 0..P {
                for q in 0..QUARTERS {
                    vst1q_f32(out.add(p * LINES + q * LANES), sums[r][p][q]);
                }
            }
        }
    }
}

/// Adds the products of one pair of neighbouring depths, which lane `LANE` of the rows holds, and moves on in the panels.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn add_pair<const LANE: i32, const R: usize, const P: usize>(
    x: &[[float32x4_t; 2]; R],
    right: &mut [*const u32; P],
    sums: &mut [[[float32x4_t; QUARTERS]; P]; R],
) {
    for p in 0..P {
        for q in 0..QUARTERS {
            // SAFETY: a line of the panel.
            let [even, odd] = widen(unsafe { vld1q_u32(right[p].add(q * LANES)) });
            for r in 0..R {
                let sum = vfmaq_laneq_f32::<LANE>(sums[r][p][q], even, x[r][0]);
                sums[r][p][q] = vfmaq_laneq_f32::<LANE>(sum, odd, x[r][1]);
            }
        }
        right[p] = right[p].wrapping_add(LINES);
    }
}

/// The even and the odd `bf16` of each word as `f32`.
#[inline]
#[target_feature(enable = "neon")]
fn widen(words: uint32x4_t) -> [float32x4_t; 2] {
    let odd = vandq_u32(words, vdupq_n_u32(0xffff_0000));
    [vreinterpretq_f32_u32(vshlq_n_u32::<16>(words)), vreinterpretq_f32_u32(odd)]
}

/// Multiplies one `f32` block.
///
/// # Safety
/// As [`single::Block`] says; NEON is [`available`].
#[target_feature(enable = "neon")]
pub(super) unsafe fn block_f32(b: &single::Block) {
    for row in (0..b.rows).step_by(ROWS) {
        for panel in 0..2 {
            // SAFETY: the caller's promise.
            unsafe {
                match b.rows - row {
                    1 => rows_f32::<1>(b, row, panel),
                    2 => rows_f32::<2>(b, row, panel),
                    3 => rows_f32::<3>(b, row, panel),
                    _ => rows_f32::<ROWS>(b, row, panel),
                }
            }
        }
    }
}

#[target_feature(enable = "neon")]
unsafe fn rows_f32<const R: usize>(b: &single::Block, row: usize, panel: usize) {
    // SAFETY: the caller's promise on all pointers of the block.
    unsafe {
        let mut sums = [[vdupq_n_f32(0.0); QUARTERS]; R];
        for r in 0..R {
            for q in 0..QUARTERS {
                let init = b.init.add((row + r) * b.init_ld + panel * LINES + q * LANES);
                sums[r][q] = vld1q_f32(init);
            }
        }
        let mut left = b.left.add(row * b.line_step);
        let mut right = b.right.add(panel * LINES);
        for _ in 0..b.depth {
            let mut w = [vdupq_n_f32(0.0); QUARTERS];
            for q in 0..QUARTERS {
                w[q] = vld1q_f32(right.wrapping_add(q * LANES));
            }
            for r in 0..R {
                let x = *left.wrapping_add(r * b.line_step);
                for q in 0..QUARTERS {
                    sums[r][q] = vfmaq_n_f32(sums[r][q], w[q], x);
                }
            }
            left = left.wrapping_add(b.depth_step);
            right = right.wrapping_add(2 * LINES);
        }
        for r in 0..R {
            for q in 0..QUARTERS {
                vst1q_f32(b.out.add((row + r) * b.out_ld + panel * LINES + q * LANES), sums[r][q]);
            }
        }
    }
}
