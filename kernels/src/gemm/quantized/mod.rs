//! Products with quantised weights, `y (rows, out) = x (rows, in) · Wᵀ + bias`.
//!
//! - [`Int8Weight`]: activations are quantised too, one scale a row. Sums are exact integers, so that every path gives
//!   the same bits.
//! - [`Int4Weight`]: activations are rounded to `bf16`, and 4-bit values become `bf16` tiles just before use (W4A16).
//!   They stay packed in memory: a single row is as fast as memory delivers 4.5 bits a weight.
//!
//! A row's result depends neither on the other rows nor on the number of threads, bit for bit.

mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
mod int4;
mod int8;
mod kernel;
mod portable;
#[cfg(test)]
mod tests;
mod unpack;
#[cfg(target_arch = "x86_64")]
mod vnni;
mod walk;

use std::sync::OnceLock;

use super::matrix::Line;

pub use int4::Int4Weight;
pub use int8::Int8Weight;

/// Which kernel multiplies the tiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Path {
    Amx,
    #[cfg(target_arch = "x86_64")]
    Vnni,
    #[cfg(target_arch = "x86_64")]
    Avx2,
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
            Self::Portable => true,
        }
    }

    /// Every path that runs here, the fastest first.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        #[cfg(target_arch = "x86_64")]
        let all = [Self::Amx, Self::Vnni, Self::Avx2, Self::Portable];
        #[cfg(not(target_arch = "x86_64"))]
        let all = [Self::Amx, Self::Portable];
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
            Self::Portable => 5.0,
        }
    }
}

/// The path that 8-bit products take on this machine: `amx-int8`, `avx512-vnni`, `avx2` or `portable`.
pub fn int8_path_name() -> &'static str {
    match Path::best() {
        Path::Amx => "amx-int8",
        #[cfg(target_arch = "x86_64")]
        Path::Vnni => "avx512-vnni",
        #[cfg(target_arch = "x86_64")]
        Path::Avx2 => "avx2",
        Path::Portable => "portable",
    }
}

/// The path that 4-bit products take on this machine: `amx-bf16`, `avx512`, `avx2` or `portable`.
pub fn int4_path_name() -> &'static str {
    match Path::best() {
        Path::Amx => "amx-bf16",
        #[cfg(target_arch = "x86_64")]
        Path::Vnni => "avx512",
        #[cfg(target_arch = "x86_64")]
        Path::Avx2 => "avx2",
        Path::Portable => "portable",
    }
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

/// Packed lines as words.
fn as_words(lines: &[Line]) -> &[u32] {
    // SAFETY: a line is 16 words without padding, aligned to more than a word.
    unsafe { std::slice::from_raw_parts(lines.as_ptr().cast(), size_of_val(lines) / 4) }
}

/// Packed lines as words to write.
fn as_words_mut(lines: &mut [Line]) -> &mut [u32] {
    // SAFETY: as above, and every pattern of bits is a line.
    unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), size_of_val(lines) / 4) }
}
