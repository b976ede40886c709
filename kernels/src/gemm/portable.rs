//! The kernels in plain Rust: what the others are compared with, and what runs where they cannot.

use half::bf16;

use super::kernel::Block;
use super::matrix::{BLOCK, DEPTH, LINES, TILE};
use super::pack::{Side, Spot};
use super::single;

/// Packs one tile.
///
/// # Safety
/// `spot` describes readable memory; `dst` has room for a tile.
pub(super) unsafe fn pack_tile(spot: Spot, side: Side, dst: *mut u16) {
    let (line_step, depth_step) = if spot.strided { (1, spot.ld) } else { (spot.ld, 1) };
    // SAFETY: the caller's promise; a tile has `TILE` elements.
    let tile = unsafe { std::slice::from_raw_parts_mut(dst, TILE) };
    for line in 0..LINES {
        for depth in 0..DEPTH {
            let inside = line < spot.lines && depth < spot.depth;
            // SAFETY: only elements inside the matrix are read.
            let value = if inside { unsafe { *spot.ptr.add(line * line_step + depth * depth_step) } } else { 0.0 };
            let index = match side {
                Side::Left => line * DEPTH + depth,
                Side::Right => (depth / 2) * DEPTH + line * 2 + depth % 2,
            };
            tile[index] = bf16::from_f32(value).to_bits();
        }
    }
}

/// Multiplies one block. Products of two `bf16` are exact in `f32`, so the sums equal those of fused
/// multiply-adds in the same order.
///
/// # Safety
/// As [`Block`] says.
pub(super) unsafe fn block(b: &Block) {
    for row in 0..b.row_panels * LINES {
        // SAFETY: the caller's promise on all pointers of the block.
        unsafe {
            let mut sums = [0f32; BLOCK];
            std::ptr::copy_nonoverlapping(b.init.add(row * b.init_ld), sums.as_mut_ptr(), BLOCK);
            let left = b.left.add(row / LINES * b.left_stride + row % LINES * DEPTH);
            for step in 0..b.steps {
                for depth in 0..DEPTH {
                    let a = widen(*left.add(step * TILE + depth));
                    let right = b.right.add(step * TILE + depth / 2 * DEPTH + depth % 2);
                    for column in 0..LINES {
                        sums[column] += a * widen(*right.add(2 * column));
                        sums[LINES + column] += a * widen(*right.add(b.right_stride + 2 * column));
                    }
                }
            }
            std::ptr::copy_nonoverlapping(sums.as_ptr(), b.out.add(row * b.out_ld), BLOCK);
        }
    }
}

/// Multiplies one `f32` block.
///
/// # Safety
/// As [`single::Block`] says.
pub(super) unsafe fn block_f32(b: &single::Block) {
    for row in 0..b.rows {
        // SAFETY: the caller's promise on all pointers of the block.
        unsafe {
            let mut sums = [0f32; BLOCK];
            std::ptr::copy_nonoverlapping(b.init.add(row * b.init_ld), sums.as_mut_ptr(), BLOCK);
            for depth in 0..b.depth {
                let value = *b.left.add(row * b.line_step + depth * b.depth_step);
                let right = b.right.add(depth * BLOCK);
                (0..BLOCK).for_each(|column| sums[column] += value * *right.add(column));
            }
            std::ptr::copy_nonoverlapping(sums.as_ptr(), b.out.add(row * b.out_ld), BLOCK);
        }
    }
}

/// Copies `rows` short rows between two pointers with leading dimensions.
///
/// # Safety
/// All rows are readable or writable.
pub(super) unsafe fn copy_rows(from: (*const f32, usize), to: (*mut f32, usize), rows: usize, columns: usize) {
    for row in 0..rows {
        // SAFETY: the caller's promise.
        unsafe { std::ptr::copy_nonoverlapping(from.0.add(row * from.1), to.0.add(row * to.1), columns) };
    }
}

fn widen(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}
