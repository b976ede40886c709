//! What is done around the blocks, on the vector unit of this machine: whatever the path, results are the same bits, but
//! for `f32` products, which the portable kernel does not fuse.

#[cfg(target_arch = "aarch64")]
use super::neon;
#[cfg(target_arch = "x86_64")]
use super::{avx512, widened};
use super::{gradient, portable, single};
use crate::simd::{self, Unit};

/// Multiplies one `f32` block.
///
/// # Safety
/// As [`single::Block`] says.
pub(super) unsafe fn block_f32(b: &single::Block) {
    // SAFETY: the caller's promise, and the unit is there.
    unsafe {
        match simd::unit() {
            #[cfg(target_arch = "x86_64")]
            unit @ (Unit::Avx2 | Unit::Avx512) => widened::block_f32(unit, b),
            #[cfg(target_arch = "aarch64")]
            Unit::Neon => neon::block_f32(b),
            Unit::Portable => portable::block_f32(b),
        }
    }
}

/// Copies `rows` rows of at most 32 elements between two pointers with leading dimensions.
///
/// # Safety
/// All rows are readable or writable.
pub(super) unsafe fn copy_rows(
    from: (*const f32, usize),
    to: (*mut f32, usize),
    rows: usize,
    columns: usize,
) {
    // SAFETY: the caller's promise, and the unit is there.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        if avx512::available() {
            return avx512::copy_rows(from, to, rows, columns);
        }
        portable::copy_rows(from, to, rows, columns);
    }
}

/// Transposes a square of at most 16 `rows` by 16 `columns` between leading dimensions.
///
/// # Safety
/// The square is readable at `from` and its transpose writable at `to`.
pub(super) unsafe fn transpose_square(
    from: (*const f32, usize),
    to: (*mut f32, usize),
    rows: usize,
    columns: usize,
) {
    // SAFETY: the caller's promise, and the unit is there.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        if avx512::available() {
            return avx512::transpose_square(from, to, rows, columns);
        }
        portable::transpose_square(from, to, rows, columns);
    }
}

/// Adds the sum of rows as long as `sums`.
pub(super) fn add_rows(rows: &[f32], sums: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if avx512::available() {
        // SAFETY: the unit is there.
        return unsafe { avx512::add_rows(rows, sums) };
    }
    gradient::add_rows(rows, sums);
}

/// Asks for the cache lines of 32 rows of 32 elements, to be written soon. Any address may be given.
#[inline]
pub(super) fn prefetch_rows(ptr: *const f32, ld: usize) {
    #[cfg(target_arch = "x86_64")]
    avx512::prefetch_rows(ptr, ld);
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (ptr, ld);
}
