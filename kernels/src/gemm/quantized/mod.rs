//! Products with quantised weights, `y (rows, out) = x (rows, in) · Wᵀ + bias`, with activations quantised to 8 bits, one
//! scale a row.
//!
//! - [`Int8Weight`]: sums are exact integers.
//! - [`Int4Weight`]: sums of each group of 32 are exact integers; they are multiplied by the group's scale and added in
//!   `f32`, in order, each with one rounding (W4A8).
//!
//! Weights stay packed in memory: a single row is as fast as memory delivers them. Every path gives the same bits, and a
//! row's result depends neither on the other rows nor on the number of threads.
#![allow(clippy::inline_always)]

mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
mod int4;
mod int8;
mod kernel;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;
mod rows;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod vnni;
mod walk;

use std::ops::Range;
use std::sync::OnceLock;

use super::matrix::Line;
use super::parallel;
use crate::simd::{Kernel, Simd, dispatch};
use kernel::{BLOCK, Strip};

pub use int4::Int4Weight;
pub use int8::Int8Weight;
pub(crate) use rows::{QuantizedRows, RowSource};
pub(crate) use walk::{Finish, Place, Row};

/// Which kernel multiplies the tiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Path {
    Amx,
    #[cfg(target_arch = "x86_64")]
    Vnni,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// NEON with its dot products of bytes.
    #[cfg(target_arch = "aarch64")]
    NeonDot,
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
            Self::Vnni => vnni::available(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => avx2::available(),
            #[cfg(target_arch = "aarch64")]
            Self::NeonDot => neon::dot_available(),
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
            Self::Vnni,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2,
            #[cfg(target_arch = "aarch64")]
            Self::NeonDot,
            #[cfg(target_arch = "aarch64")]
            Self::Neon,
            Self::Portable,
        ];
        all.into_iter().filter(|path| path.available())
    }

    /// The fastest path of this machine, found once.
    pub(crate) fn best() -> Self {
        static BEST: OnceLock<Path> = OnceLock::new();
        *BEST.get_or_init(|| Self::all().next().unwrap_or(Self::Portable))
    }

    /// Rough throughput of one thread in operations per nanosecond.
    fn ops_per_ns(self) -> f64 {
        match self {
            Self::Amx => 1000.0,
            #[cfg(target_arch = "x86_64")]
            Self::Vnni => 200.0,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => 50.0,
            #[cfg(target_arch = "aarch64")]
            Self::NeonDot => 100.0,
            #[cfg(target_arch = "aarch64")]
            Self::Neon => 30.0,
            Self::Portable => 5.0,
        }
    }
}

/// The path that products of 8-bit activations take on this machine: `amx-int8`, `avx512-vnni`, `avx2`,
/// `neon-dotprod`, `neon` or `portable`.
pub fn int8_path_name() -> &'static str {
    match Path::best() {
        Path::Amx => "amx-int8",
        #[cfg(target_arch = "x86_64")]
        Path::Vnni => "avx512-vnni",
        #[cfg(target_arch = "x86_64")]
        Path::Avx2 => "avx2",
        #[cfg(target_arch = "aarch64")]
        Path::NeonDot => "neon-dotprod",
        #[cfg(target_arch = "aarch64")]
        Path::Neon => "neon",
        Path::Portable => "portable",
    }
}

/// A quantised weight `(out, in)`.
pub(crate) trait Weight: Sync + Sized {
    /// `(out, in)`.
    fn shape(&self) -> (usize, usize);

    /// The sums of the columns of `pairs` (32 each), some rows at a time. `#[inline(always)]`.
    fn sums<S: Simd>(&self, s: S, path: Path, x: &QuantizedRows, pairs: Range<usize>, then: impl Finish);

    /// Turns sums of rows with these scales, 32 columns from `column` on, into results. `#[inline(always)]`; plain loops, in which
    /// nothing is fused: all units round alike.
    fn scale(&self, column: usize, scales: &[f32], bias: &Row, rows: &mut [Row]);

    /// The columns of `pairs`, some rows at a time, for `then`, which must not wait for other threads.
    fn columns(
        &self,
        path: Path,
        x: &QuantizedRows,
        pairs: Range<usize>,
        bias: Option<&[f32]>,
        then: impl Finish,
    ) {
        let (out_features, in_features) = self.shape();
        assert_eq!(x.in_features(), in_features, "activations and weight differ in depth");
        assert!(pairs.end <= out_features.div_ceil(BLOCK));
        dispatch(Columns { path, pairs, then: Scaled { weight: self, x, bias, then } });
    }
}

/// Some columns of a product.
struct Columns<'a, W, T> {
    path: Path,
    pairs: Range<usize>,
    then: Scaled<'a, W, T>,
}

impl<W: Weight, T: Finish> Kernel for Columns<'_, W, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { path, pairs, then } = self;
        let Scaled { weight, x, .. } = then;
        weight.sums(s, path, x, pairs, then);
    }
}

/// Turns sums into results before what comes then.
struct Scaled<'a, W, T> {
    weight: &'a W,
    x: &'a QuantizedRows,
    bias: Option<&'a [f32]>,
    then: T,
}

impl<W: Weight, T: Finish> Finish for Scaled<'_, W, T> {
    #[inline(always)]
    fn expect(&self, place: Place, lines: Range<usize>) {
        self.then.expect(place, lines);
    }

    #[inline(always)]
    fn finish<S: Simd>(&mut self, s: S, place: Place, rows: &mut [Row]) {
        let mut bias = [0.0; BLOCK];
        if let Some(all) = self.bias {
            bias[..place.columns].copy_from_slice(&all[place.column..place.column + place.columns]);
        }
        self.weight.scale(place.column, self.x.scales(place.row), &bias, rows);
        self.then.finish(s, place, rows);
    }
}

/// Threads worth using for so many multiplications, which read so many bytes of weights.
pub(crate) fn threads_for(path: Path, multiplications: usize, bytes: usize) -> usize {
    // Ten bytes a nanosecond: one thread's share of memory bandwidth.
    parallel::threads_for(2.0 * multiplications as f64 / path.ops_per_ns() + bytes as f64 / 10.0)
}

/// Multiplies a few rows.
type StripKernel = unsafe fn(&Strip);

/// The kernels of a few rows, with 8 and with 4 bits.
fn kernels(path: Path) -> (StripKernel, StripKernel) {
    match path {
        #[cfg(target_arch = "x86_64")]
        Path::Amx | Path::Vnni => (vnni::int8, vnni::int4),
        #[cfg(target_arch = "x86_64")]
        Path::Avx2 => (avx2::int8, avx2::int4),
        #[cfg(target_arch = "aarch64")]
        Path::NeonDot => (neon::int8_dot, neon::int4_dot),
        #[cfg(target_arch = "aarch64")]
        Path::Neon => (neon::int8, neon::int4),
        _ => (portable::int8, portable::int4),
    }
}

/// Unpacks a unit into half a right tile of each panel, and its scales, where AMX is.
///
/// # Safety
/// There is room for eight lines and sixteen scales in each panel.
unsafe fn unpack(unit: &int4::Unit, tiles: [*mut Line; 2], scales: [*mut f32; 2]) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: AMX implies AVX-512.
    unsafe {
        vnni::unpack(unit, tiles, scales);
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (unit, tiles, scales);
}

/// Packed lines as bytes.
fn as_bytes(lines: &[Line]) -> &[u8] {
    // SAFETY: a line is 64 bytes without padding, and bytes need no alignment.
    unsafe { std::slice::from_raw_parts(lines.as_ptr().cast(), size_of_val(lines)) }
}

/// Packed lines as bytes to write.
fn as_bytes_mut(lines: &mut [Line]) -> &mut [u8] {
    // SAFETY: as above, and every pattern of bits is a line.
    unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), size_of_val(lines)) }
}

/// Packed lines as numbers to write.
pub(crate) fn as_floats_mut(lines: &mut [Line]) -> &mut [f32] {
    // SAFETY: as above, with an alignment above that of `f32`, of which every pattern of bits is one.
    unsafe {
        std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), size_of_val(lines) / size_of::<f32>())
    }
}
