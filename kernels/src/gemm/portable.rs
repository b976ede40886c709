//! The kernels in plain Rust: what the others are compared with, and what runs where they cannot.

use half::bf16;

use super::kernel::Block;
use super::matrix::{BLOCK, DEPTH, LINES, Line};
use super::pack::{Side, Spot};
use super::single;

/// Packs one tile.
///
/// # Safety
/// `spot` describes readable memory; `dst` has room for a tile.
pub(super) unsafe fn pack_tile(spot: Spot, side: Side, dst: *mut Line) {
    let (line_step, depth_step) = if spot.strided { (1, spot.ld) } else { (spot.ld, 1) };
    // SAFETY: the caller's promise; a tile has 16 lines of 32 elements.
    let tile = unsafe { std::slice::from_raw_parts_mut(dst.cast::<u16>(), LINES * DEPTH) };
    for line in 0..LINES {
        for depth in 0..DEPTH {
            let inside = line < spot.lines && depth < spot.depth;
            // SAFETY: only elements inside the matrix are read.
            let value =
                if inside { unsafe { *spot.ptr.add(line * line_step + depth * depth_step) } } else { 0.0 };
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
    for row in 0..b.rows {
        // SAFETY: the caller's promise on all pointers of the block.
        unsafe {
            let mut sums = [0f32; BLOCK];
            std::ptr::copy_nonoverlapping(b.init.add(row * b.init_ld), sums.as_mut_ptr(), BLOCK);
            let mut left = b.left.add(row / LINES * b.left_stride + row % LINES).cast::<[u32; LINES]>();
            let mut right = b.right.map(<*const Line>::cast::<[u32; LINES]>);
            for _ in 0..b.steps {
                for a in *left {
                    add_pair(a, *right[0], &mut sums[..LINES]);
                    add_pair(a, *right[1], &mut sums[LINES..]);
                    right = right.map(|panel| panel.wrapping_add(1));
                }
                left = left.wrapping_add(LINES);
            }
            std::ptr::copy_nonoverlapping(sums.as_ptr(), b.out.add(row * b.out_ld), BLOCK);
        }
    }
}

/// Adds the products of a pair of neighbouring depths of one row with those of 16 columns.
#[inline]
fn add_pair(a: u32, columns: [u32; LINES], sums: &mut [f32]) {
    let (even, odd) = halves(a);
    for (sum, b) in sums.iter_mut().zip(columns) {
        let (b_even, b_odd) = halves(b);
        *sum += even * b_even;
        *sum += odd * b_odd;
    }
}

/// The two `bf16` of a word as `f32`. Little-endian, as all supported targets are: the first one is below.
#[inline]
fn halves(word: u32) -> (f32, f32) {
    (f32::from_bits(word << 16), f32::from_bits(word & 0xffff_0000))
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
pub(super) unsafe fn copy_rows(
    from: (*const f32, usize),
    to: (*mut f32, usize),
    rows: usize,
    columns: usize,
) {
    for row in 0..rows {
        // SAFETY: the caller's promise.
        unsafe {
            std::ptr::copy_nonoverlapping(from.0.add(row * from.1), to.0.add(row * to.1), columns);
        }
    }
}

/// Transposes a square of `rows` by `columns` between leading dimensions.
///
/// # Safety
/// The square is readable at `from` and its transpose writable at `to`.
pub(super) unsafe fn transpose_square(
    from: (*const f32, usize),
    to: (*mut f32, usize),
    rows: usize,
    columns: usize,
) {
    for row in 0..rows {
        for column in 0..columns {
            // SAFETY: the caller's promise.
            unsafe { *to.0.add(column * to.1 + row) = *from.0.add(row * from.1 + column) };
        }
    }
}
