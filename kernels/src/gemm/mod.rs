//! Matrix products on the CPU: `bf16` operands with `f32` accumulation, and plain `f32`.
//!
//! Operands are packed into tiles of 16 lines by 32 depth (see `pack`) that all kernels share:
//! AMX where the processor and the system allow it, else AVX-512, AVX2 or NEON, else portable Rust. Every element
//! of a result is summed over the depth in one fixed order, so it depends neither on the other rows
//! nor on the number of threads. Work is split over rayon's current pool, large products only.

mod amx;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avx512bf16;
mod blocks;
mod gradient;
mod kernel;
mod matrix;
#[cfg(target_arch = "aarch64")]
mod neon;
mod pack;
mod parallel;
mod portable;
mod product;
pub(crate) mod quantized;
mod single;
#[cfg(test)]
mod tests;
mod tiles;
mod vector;
#[cfg(target_arch = "x86_64")]
mod widened;

use std::sync::OnceLock;

pub(crate) use blocks::{
    Depth, Epilogue, Results, Right, Sums, fetch, fetch_to_write, for_blocks, whole_passes,
};
pub(crate) use gradient::{Operands, Wanted, backward, column_sums};
pub(crate) use kernel::{Session, ZEROS};
pub use matrix::PackedWeight;
pub(crate) use matrix::{Fresh, Line, Matrix, Output};
pub(crate) use parallel::{Scratch, part, run, run_chunks};
pub(crate) use product::product;
pub use quantized::{Int4Weight, Int8Weight, int8_path_name};
pub(crate) use single::product_f32;
pub(crate) use tiles::{CEILING_BLOCK_FLOPS, ColumnTiles, RowTiles, ceiling_blocks, multiply};

#[cfg(target_arch = "x86_64")]
use crate::simd::{self, Unit};

/// Which kernel multiplies `bf16` tiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Path {
    Amx,
    #[cfg(target_arch = "x86_64")]
    Avx512Bf16,
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "aarch64")]
    Neon,
    Portable,
}

impl Path {
    /// Whether this machine has it.
    fn available(self) -> bool {
        match self {
            Self::Amx => amx::available(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Bf16 => avx512bf16::available(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => avx512::available(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => simd::has(Unit::Avx2),
            #[cfg(target_arch = "aarch64")]
            Self::Neon => neon::available(),
            Self::Portable => true,
        }
    }

    /// Every path that runs here, the fastest first.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let all = [
            Self::Amx,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Bf16,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2,
            #[cfg(target_arch = "aarch64")]
            Self::Neon,
            Self::Portable,
        ];
        all.into_iter().filter(|path| path.available())
    }

    /// The fastest path of this machine, found once.
    pub(crate) fn best() -> Self {
        static BEST: OnceLock<Path> = OnceLock::new();
        #[cfg(test)]
        if let Some(forced) = testing::forced() {
            return forced;
        }
        *BEST.get_or_init(|| Self::all().next().unwrap_or(Self::Portable))
    }

    /// Rough throughput of one thread in floating-point operations per nanosecond.
    fn flops_per_ns(self) -> f64 {
        match self {
            Self::Amx => 500.0,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Bf16 => 160.0,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => 80.0,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => 40.0,
            #[cfg(target_arch = "aarch64")]
            Self::Neon => 30.0,
            Self::Portable => 10.0,
        }
    }
}

/// Threads worth using for that many multiplications, which read so many bytes of weights.
pub(crate) fn threads_for(multiplications: usize, bytes: usize) -> usize {
    // Ten bytes a nanosecond: one thread's share of memory bandwidth.
    let flops = 2.0 * multiplications as f64 / Path::best().flops_per_ns();
    parallel::threads_for(flops + bytes as f64 / 10.0)
}

/// Whether that many multiplications are worth more than one thread of the current pool.
pub(crate) fn worth_splitting(multiplications: usize) -> bool {
    threads_for(multiplications, 0) > 1
}

/// The path that `bf16` products take on this machine: `amx-bf16`, `avx512-bf16`, `avx512`, `avx2`, `neon` or
/// `portable`.
pub fn path_name() -> &'static str {
    match Path::best() {
        Path::Amx => "amx-bf16",
        #[cfg(target_arch = "x86_64")]
        Path::Avx512Bf16 => "avx512-bf16",
        #[cfg(target_arch = "x86_64")]
        Path::Avx512 => "avx512",
        #[cfg(target_arch = "x86_64")]
        Path::Avx2 => "avx2",
        #[cfg(target_arch = "aarch64")]
        Path::Neon => "neon",
        Path::Portable => "portable",
    }
}

/// Lets a test run everything on each path that this machine has.
#[cfg(test)]
pub(crate) mod testing {
    use std::cell::Cell;

    use super::Path;

    thread_local! { static FORCED: Cell<Option<Path>> = const { Cell::new(None) }; }

    pub(super) fn forced() -> Option<Path> {
        FORCED.get()
    }

    /// `body` on each path in turn (on this thread: other threads of a pool keep the best).
    pub(crate) fn on_each_path(mut body: impl FnMut(Path)) {
        for path in Path::all() {
            FORCED.set(Some(path));
            body(path);
            FORCED.set(None);
        }
    }
}
