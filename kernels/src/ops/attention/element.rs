//! What queries, keys and values are stored as.
#![allow(clippy::inline_always)]

use candle_core::{CpuStorage, Result, Storage, bail};
use half::bf16;

use crate::simd::Simd;

/// A type of elements.
pub(crate) trait Element: Copy + Sync + 'static {
    /// All elements that a storage holds.
    fn elements(storage: &CpuStorage) -> Result<&[Self]>;
    /// Sixteen elements, of which those beyond the first `n` are zero and not read.
    ///
    /// # Safety
    /// The first `n` are readable.
    unsafe fn load<S: Simd>(s: S, from: *const Self, n: usize) -> S::V;
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
}

/// All elements of a storage in main memory.
pub(super) fn elements<T: Element>(storage: &Storage) -> Result<&[T]> {
    match storage {
        Storage::Cpu(storage) => T::elements(storage),
        _ => bail!("the fused operations run in main memory only"),
    }
}
