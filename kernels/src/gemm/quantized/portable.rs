//! Kernels for any processor: plain integers, and `f32` sums in the order of all other kernels.

use super::super::matrix::LINES;
use super::int4::Unit;
use super::kernel::{BLOCK, Strip};
use crate::quant::GROUP;

/// The four bytes of a row at depth `4 quad`.
unsafe fn quad(s: &Strip, row: usize, quad: usize) -> [i8; 4] {
    // SAFETY: the caller's promise: the row has so many depths.
    unsafe { s.left.add(quad / LINES * s.height + row).cast::<[i8; 4]>().add(quad % LINES).read() }
}

/// 8-bit products.
///
/// # Safety
/// As [`Strip`] says.
pub(super) unsafe fn int8(s: &Strip) {
    for row in 0..s.rows {
        let mut sums = [0i32; BLOCK];
        // SAFETY: the row and all tiles of the strip are readable, its row of sums is writable.
        unsafe {
            for line in 0..s.steps * LINES {
                let x = quad(s, row, line);
                for (column, sum) in sums.iter_mut().enumerate() {
                    let at = (line / LINES * 2 + column / LINES) * LINES + line % LINES;
                    let w = s.right.add(at).cast::<[i8; 4]>().add(column % LINES).read();
                    *sum += (0..4).map(|i| i32::from(x[i]) * i32::from(w[i])).sum::<i32>();
                }
            }
            s.out.add(2 * row).cast::<[i32; BLOCK]>().write(sums);
        }
    }
}

/// 4-bit products.
///
/// # Safety
/// As [`Strip`] says.
pub(super) unsafe fn int4(s: &Strip) {
    for row in 0..s.rows {
        let mut sums = [0f32; BLOCK];
        // SAFETY: the row and all units of the strip are readable, its row of sums is writable.
        unsafe {
            for group in 0..s.groups {
                let unit = &*s.right.cast::<Unit>().add(group);
                for (column, sum) in sums.iter_mut().enumerate() {
                    let mut of_group = 0;
                    for depth in 0..GROUP {
                        let x = quad(s, row, (group * GROUP + depth) / 4)[depth % 4];
                        of_group += i32::from(x) * i32::from(unit.value(column, depth));
                    }
                    *sum = (of_group as f32).mul_add(unit.scale(column).to_f32(), *sum);
                }
            }
            s.out.add(2 * row).cast::<[f32; BLOCK]>().write(sums);
        }
    }
}
