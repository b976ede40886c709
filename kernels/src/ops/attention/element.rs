//! What queries, keys and values are stored as.
#![allow(clippy::inline_always)]

use candle_core::{CpuStorage, Result, Storage, bail};
use half::bf16;

use crate::simd::{LANES, Simd};

/// A type of elements.
pub(crate) trait Element: Copy + Sync + 'static {
    /// All elements that a storage holds.
    fn elements(storage: &CpuStorage) -> Result<&[Self]>;
    /// Sixteen elements, of which those beyond the first `n` are zero and not read.
    ///
    /// # Safety
    /// The first `n` are readable.
    unsafe fn load<S: Simd>(s: S, from: *const Self, n: usize) -> S::V;
    /// 32 elements, of which those beyond the first `n` are zero and not read, in whatever order takes the least work.
    ///
    /// # Safety
    /// The first `n` are readable.
    unsafe fn load_two<S: Simd>(s: S, from: *const Self, n: usize) -> [S::V; 2];
    /// Where [`Self::load_two`] puts element `i` of 32: the lane, counted from the first vector's first.
    fn lane(i: usize) -> usize;
}

impl Element for f32 {
    fn elements(storage: &CpuStorage) -> Result<&[Self]> {
        storage.as_slice()
    }

    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, from: *const Self, n: usize) -> S::V {
        // SAFETY: the caller's promise.
        unsafe { s.load(from, n) }
    }

    #[inline(always)]
    unsafe fn load_two<S: Simd>(s: S, from: *const Self, n: usize) -> [S::V; 2] {
        // SAFETY: the caller's promise; no more than `n` elements are read.
        unsafe { [s.load(from, n), s.load(from.wrapping_add(LANES), n.saturating_sub(LANES))] }
    }

    #[inline(always)]
    fn lane(i: usize) -> usize {
        i
    }
}

impl Element for bf16 {
    fn elements(storage: &CpuStorage) -> Result<&[Self]> {
        storage.as_slice()
    }

    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, from: *const Self, n: usize) -> S::V {
        // SAFETY: the caller's promise.
        unsafe { s.load_bf16(from.cast(), n) }
    }

    #[inline(always)]
    unsafe fn load_two<S: Simd>(s: S, from: *const Self, n: usize) -> [S::V; 2] {
        // SAFETY: the caller's promise; where there are fewer than 32, they are read from a copy.
        unsafe {
            if n >= 2 * LANES {
                return s.load_bf16_pairs(from.cast());
            }
            let mut all = [0; 2 * LANES];
            std::ptr::copy_nonoverlapping(from.cast(), all.as_mut_ptr(), n);
            s.load_bf16_pairs(all.as_ptr())
        }
    }

    /// Even elements, then odd ones.
    #[inline(always)]
    fn lane(i: usize) -> usize {
        i % 2 * LANES + i / 2
    }
}

/// All elements of a storage in main memory.
pub(super) fn elements<T: Element>(storage: &Storage) -> Result<&[T]> {
    match storage {
        Storage::Cpu(storage) => T::elements(storage),
        _ => bail!("the fused operations run in main memory only"),
    }
}
