//! Blocks by fused multiply-adds of `f32`, written once for AVX-512 and AVX2: over widened `bf16` where `vdpbf16ps` is
//! missing, and over `f32`.
#![allow(clippy::inline_always)] // What a kernel calls must be compiled for the vector unit around it.

use super::kernel::Block;
use super::matrix::{BLOCK, LINES};
use super::single;
use crate::simd::{self, Kernel, Simd, Unit};

/// Multiplies one block.
///
/// # Safety
/// As [`Block`] says; the processor has `unit`.
#[inline]
pub(super) unsafe fn block(unit: Unit, b: &Block) {
    // SAFETY: the caller's promise.
    unsafe { simd::run_on(unit, Widened(b)) }
}

/// Multiplies one `f32` block.
///
/// # Safety
/// As [`single::Block`] says; the processor has `unit`.
#[inline]
pub(super) unsafe fn block_f32(unit: Unit, b: &single::Block) {
    // SAFETY: the caller's promise.
    unsafe { simd::run_on(unit, Single(b)) }
}

/// A block whose pointers are as [`Block`] says.
struct Widened<'a>(&'a Block);

impl Kernel for Widened<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let b = self.0;
        // SAFETY: whoever made the kernel vouches for the block; a panel of rows is whole, and so a multiple of eight.
        unsafe {
            match b.rows {
                1 => rows::<S, 1, 2>(simd, b, 0, 0),
                2 if S::WIDE => rows::<S, 2, 2>(simd, b, 0, 0),
                3 | 4 if S::WIDE => rows::<S, 4, 2>(simd, b, 0, 0),
                _ if S::WIDE => {
                    for row in (0..b.rows).step_by(8) {
                        rows::<S, 8, 2>(simd, b, row, 0);
                    }
                }
                _ => {
                    for panel in 0..2 {
                        for row in (0..b.rows).step_by(4) {
                            rows::<S, 4, 1>(simd, b, row, panel);
                        }
                    }
                }
            }
        }
    }
}

/// `R` rows from `row` on by `P` panels from `panel` on, whose sums take half the registers at most.
#[inline(always)]
unsafe fn rows<S: Simd, const R: usize, const P: usize>(simd: S, b: &Block, row: usize, panel: usize) {
    // SAFETY: the caller's promise on all pointers of the block.
    unsafe {
        let offset = panel * LINES;
        let mut sums = load::<S, R, P>(simd, b.init.add(row * b.init_ld + offset), b.init_ld);
        let mut left = b.left.add(row / LINES * b.left_stride + row % LINES);
        let mut right = [b.right[panel]; P];
        right.copy_from_slice(&b.right[panel..panel + P]);
        for _ in 0..b.steps {
            for pair in 0..LINES {
                let mut w = [[simd.splat(0.0); 2]; P];
                for p in 0..P {
                    w[p] = simd.load_bf16_pairs(right[p].cast());
                    right[p] = right[p].wrapping_add(1);
                }
                for r in 0..R {
                    let [even, odd] =
                        simd.splat_bf16_pair(*left.wrapping_add(r).cast::<u32>().wrapping_add(pair));
                    for p in 0..P {
                        sums[r][p] = simd.fma(even, w[p][0], sums[r][p]);
                    }
                    for p in 0..P {
                        sums[r][p] = simd.fma(odd, w[p][1], sums[r][p]);
                    }
                }
            }
            left = left.wrapping_add(LINES);
        }
        store(simd, &sums, b.out.add(row * b.out_ld + offset), b.out_ld);
    }
}

/// `R` rows of `P` vectors.
#[inline(always)]
unsafe fn load<S: Simd, const R: usize, const P: usize>(
    simd: S,
    from: *const f32,
    ld: usize,
) -> [[S::V; P]; R] {
    let mut sums = [[simd.splat(0.0); P]; R];
    for r in 0..R {
        for p in 0..P {
            // SAFETY: the caller vouches for the rows.
            sums[r][p] = unsafe { simd.load(from.add(r * ld + p * LINES), LINES) };
        }
    }
    sums
}

/// Writes what [`load`] reads.
#[inline(always)]
unsafe fn store<S: Simd, const R: usize, const P: usize>(
    simd: S,
    sums: &[[S::V; P]; R],
    to: *mut f32,
    ld: usize,
) {
    for r in 0..R {
        for p in 0..P {
            // SAFETY: the caller vouches for the rows.
            unsafe { simd.store(to.add(r * ld + p * LINES), sums[r][p], LINES) };
        }
    }
}

/// A block whose pointers are as [`single::Block`] says.
struct Single<'a>(&'a single::Block);

impl Kernel for Single<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let b = self.0;
        // SAFETY: whoever made the kernel vouches for the block.
        unsafe {
            if !S::WIDE {
                return narrow_f32(simd, b);
            }
            match b.rows {
                1 => rows_f32::<S, 1, 2>(simd, b, 0, 0),
                2 => rows_f32::<S, 2, 2>(simd, b, 0, 0),
                3 => rows_f32::<S, 3, 2>(simd, b, 0, 0),
                4 => rows_f32::<S, 4, 2>(simd, b, 0, 0),
                5 => rows_f32::<S, 5, 2>(simd, b, 0, 0),
                6 => rows_f32::<S, 6, 2>(simd, b, 0, 0),
                7 => rows_f32::<S, 7, 2>(simd, b, 0, 0),
                _ => rows_f32::<S, { single::ROWS }, 2>(simd, b, 0, 0),
            }
        }
    }
}

/// All rows where half the registers hold four vectors: the sums of two rows by both panels, or of four by one.
#[inline(always)]
unsafe fn narrow_f32<S: Simd>(simd: S, b: &single::Block) {
    for row in (0..b.rows).step_by(4) {
        // SAFETY: the caller's promise.
        unsafe {
            match b.rows - row {
                1 => rows_f32::<S, 1, 2>(simd, b, row, 0),
                2 => rows_f32::<S, 2, 2>(simd, b, row, 0),
                3 => {
                    rows_f32::<S, 3, 1>(simd, b, row, 0);
                    rows_f32::<S, 3, 1>(simd, b, row, 1);
                }
                _ => {
                    rows_f32::<S, 4, 1>(simd, b, row, 0);
                    rows_f32::<S, 4, 1>(simd, b, row, 1);
                }
            }
        }
    }
}

/// `R` rows from `row` on by `P` panels of 16 columns from `panel` on, whose sums take half the registers at most.
#[inline(always)]
unsafe fn rows_f32<S: Simd, const R: usize, const P: usize>(
    simd: S,
    b: &single::Block,
    row: usize,
    panel: usize,
) {
    // SAFETY: the caller's promise on all pointers of the block.
    unsafe {
        let offset = panel * LINES;
        let mut sums = load::<S, R, P>(simd, b.init.add(row * b.init_ld + offset), b.init_ld);
        let mut steps = [0; R];
        for r in 0..R {
            steps[r] = r * b.line_step;
        }
        let (mut left, mut right) = (b.left.add(row * b.line_step), b.right.add(offset));
        for _ in 0..b.depth {
            let mut w = [simd.splat(0.0); P];
            for p in 0..P {
                w[p] = simd.load(right.wrapping_add(p * LINES), LINES);
            }
            for r in 0..R {
                let x = simd.splat(*left.wrapping_add(steps[r]));
                for p in 0..P {
                    sums[r][p] = simd.fma(x, w[p], sums[r][p]);
                }
            }
            left = left.wrapping_add(b.depth_step);
            right = right.wrapping_add(BLOCK);
        }
        store(simd, &sums, b.out.add(row * b.out_ld + offset), b.out_ld);
    }
}
