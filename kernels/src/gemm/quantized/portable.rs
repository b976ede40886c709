//! Kernels for any processor: plain integers, and `bf16` widened to the `f32` lanes of the vector unit.
#![allow(clippy::inline_always)]

use super::super::matrix::LINES;
use super::kernel::{BLOCK, Sums};
use crate::simd::{Kernel, Simd, dispatch};

/// Multiplies one block of bytes.
///
/// # Safety
/// As [`Sums`] says.
pub(super) unsafe fn int8(s: &Sums) {
    for row in 0..s.rows {
        // SAFETY: the row and all tiles of the block are readable, its row of sums is writable.
        unsafe {
            let out = s.out.cast::<i32>().add(row * BLOCK);
            let mut sums = if s.fresh { [0; BLOCK] } else { out.cast::<[i32; BLOCK]>().read() };
            let left = s.left.add(row / LINES * s.left_stride + row % LINES);
            for step in 0..s.steps {
                let depths = left.add(step * LINES).cast::<[[i8; 4]; LINES]>().read();
                let tiles = s.right.add(step * 2 * LINES).cast::<[[[[i8; 4]; LINES]; LINES]; 2]>();
                for (panel, tile) in (*tiles).iter().enumerate() {
                    for (line, x) in tile.iter().zip(depths) {
                        for (sum, w) in sums[panel * LINES..].iter_mut().zip(line) {
                            *sum += (0..4).map(|i| i32::from(x[i]) * i32::from(w[i])).sum::<i32>();
                        }
                    }
                }
            }
            out.cast::<[i32; BLOCK]>().write(sums);
        }
    }
}

/// Multiplies one block of `bf16`. Each sum takes one depth after the other, whatever the block.
///
/// # Safety
/// As [`Sums`] says.
pub(super) unsafe fn bf16(s: &Sums) {
    for row in (0..s.rows).step_by(ROWS) {
        if s.rows - row >= ROWS {
            dispatch(Rows::<ROWS>(s, row));
        } else {
            (row..s.rows).for_each(|row| dispatch(Rows::<1>(s, row)));
        }
    }
}

/// Rows whose sums are kept in registers at a time.
const ROWS: usize = 4;

/// `R` rows of a block of `bf16`, from row `1` on.
struct Rows<'a, const R: usize>(&'a Sums, usize);

impl<const R: usize> Kernel for Rows<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self(s, first) = self;
        let zeros = simd.splat(0.0);
        let mut sums = [[zeros; 2]; R];
        // SAFETY: `bf16`, the only user, passes on its caller's promise, and rows inside the block.
        unsafe {
            let out = s.out.cast::<f32>().add(first * BLOCK);
            let left: [*const u32; R] = std::array::from_fn(|r| {
                let row = first + r;
                s.left.wrapping_add(row / LINES * s.left_stride + row % LINES).cast()
            });
            if !s.fresh {
                for r in 0..R {
                    for panel in 0..2 {
                        sums[r][panel] = simd.load(out.add(r * BLOCK + panel * LINES), LINES);
                    }
                }
            }
            for step in 0..s.steps {
                let tiles = s.right.add(step * 2 * LINES).cast::<[u32; LINES]>();
                for pair in 0..LINES {
                    let words = [*tiles.add(pair), *tiles.add(LINES + pair)];
                    for half in 0..2 {
                        let mut w = [zeros; 2];
                        for panel in 0..2 {
                            let mut lanes = [0.0; LINES];
                            for column in 0..LINES {
                                lanes[column] = widen(words[panel][column], half);
                            }
                            w[panel] = simd.with_lanes(lanes);
                        }
                        for r in 0..R {
                            let word = *left[r].add(step * LINES * LINES + pair);
                            let x = simd.splat(widen(word, half));
                            sums[r][0] = simd.fma(x, w[0], sums[r][0]);
                            sums[r][1] = simd.fma(x, w[1], sums[r][1]);
                        }
                    }
                }
            }
            for r in 0..R {
                for panel in 0..2 {
                    simd.store(out.add(r * BLOCK + panel * LINES), sums[r][panel], LINES);
                }
            }
        }
    }
}

/// The first or the second `bf16` of a word.
#[inline(always)]
fn widen(word: u32, half: usize) -> f32 {
    f32::from_bits(if half == 0 { word << 16 } else { word & 0xffff_0000 })
}
