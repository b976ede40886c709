//! Arrays, for processors without a vector unit that is known here.

use half::bf16;

use super::{LANES, Simd};

/// Always there.
#[derive(Clone, Copy)]
pub(super) struct Portable;

type V = [f32; LANES];

/// Writes the first `min(n, 16)` of `x` as `bf16`.
#[inline(always)]
pub(super) unsafe fn round_to_bf16(to: *mut u16, x: V, n: usize) {
    let words: [u16; LANES] = std::array::from_fn(|i| bf16::from_f32(x[i]).to_bits());
    // SAFETY: the caller vouches for the first `n` elements.
    unsafe { std::ptr::copy_nonoverlapping(words.as_ptr(), to, n.min(LANES)) }
}

/// Writes words of two `bf16`, the first of each from `even`.
#[inline(always)]
pub(super) unsafe fn round_pairs(to: *mut f32, even: V, odd: V) {
    let bits = |x: f32| u32::from(bf16::from_f32(x).to_bits());
    let words: [u32; LANES] = std::array::from_fn(|i| bits(even[i]) | bits(odd[i]) << 16);
    // SAFETY: the caller vouches for sixteen words.
    unsafe { std::ptr::copy_nonoverlapping(words.as_ptr().cast(), to, LANES) }
}

#[inline(always)]
fn lanes(f: impl Fn(usize) -> f32) -> V {
    std::array::from_fn(f)
}

impl Simd for Portable {
    type V = V;
    const WIDE: bool = false;

    #[inline(always)]
    fn splat(self, x: f32) -> V {
        [x; LANES]
    }

    #[inline(always)]
    fn with_lanes(self, x: V) -> V {
        x
    }

    #[inline(always)]
    fn to_array(self, x: V) -> V {
        x
    }

    #[inline(always)]
    unsafe fn load(self, from: *const f32, n: usize) -> V {
        // SAFETY: the caller vouches for the first `n` elements.
        lanes(|i| if i < n { unsafe { *from.add(i) } } else { 0.0 })
    }

    #[inline(always)]
    unsafe fn load_bf16(self, from: *const u16, n: usize) -> V {
        // SAFETY: the caller vouches for the first `n` elements.
        lanes(|i| if i < n { f32::from_bits(u32::from(unsafe { *from.add(i) }) << 16) } else { 0.0 })
    }

    #[inline(always)]
    unsafe fn load_bf16_pairs(self, from: *const u16) -> [V; 2] {
        // SAFETY: the caller vouches for 32 elements.
        [0, 1].map(|odd| lanes(|i| f32::from_bits(u32::from(unsafe { *from.add(2 * i + odd) }) << 16)))
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32, x: V, n: usize) {
        // SAFETY: the caller vouches for the first `n` elements.
        unsafe { std::ptr::copy_nonoverlapping(x.as_ptr(), to, n.min(LANES)) }
    }

    #[inline(always)]
    unsafe fn store_bf16(self, to: *mut u16, x: V, n: usize) {
        // SAFETY: the caller's promise.
        unsafe { round_to_bf16(to, x, n) }
    }

    #[inline(always)]
    unsafe fn store_bf16_pairs(self, to: *mut f32, even: V, odd: V) {
        // SAFETY: the caller's promise.
        unsafe { round_pairs(to, even, odd) }
    }

    #[inline(always)]
    fn add(self, a: V, b: V) -> V {
        lanes(|i| a[i] + b[i])
    }

    #[inline(always)]
    fn sub(self, a: V, b: V) -> V {
        lanes(|i| a[i] - b[i])
    }

    #[inline(always)]
    fn mul(self, a: V, b: V) -> V {
        lanes(|i| a[i] * b[i])
    }

    #[inline(always)]
    fn div(self, a: V, b: V) -> V {
        lanes(|i| a[i] / b[i])
    }

    // Not `mul_add`: without the instruction it is a slow library call.
    #[inline(always)]
    fn reciprocal(self, a: V) -> V {
        lanes(|i| 1.0 / a[i])
    }

    #[inline(always)]
    fn fma(self, a: V, b: V, c: V) -> V {
        lanes(|i| a[i] * b[i] + c[i])
    }

    #[inline(always)]
    fn max(self, a: V, b: V) -> V {
        lanes(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }

    #[inline(always)]
    fn min(self, a: V, b: V) -> V {
        lanes(|i| if a[i] < b[i] { a[i] } else { b[i] })
    }

    #[inline(always)]
    fn if_less(self, a: V, b: V, x: V, y: V) -> V {
        lanes(|i| if a[i] < b[i] { x[i] } else { y[i] })
    }

    #[inline(always)]
    fn abs(self, a: V) -> V {
        lanes(|i| a[i].abs())
    }

    #[inline(always)]
    fn copy_sign(self, a: V, sign: V) -> V {
        lanes(|i| a[i].copysign(sign[i]))
    }

    #[inline(always)]
    fn scale_by_power(self, a: V, biased: V) -> V {
        lanes(|i| f32::from_bits(a[i].to_bits().wrapping_add(biased[i].to_bits() << 23)))
    }

    #[inline(always)]
    fn swap_pairs(self, a: V) -> V {
        lanes(|i| a[i ^ 1])
    }

    #[inline(always)]
    fn keep(self, a: V, n: usize, rest: V) -> V {
        lanes(|i| if i < n { a[i] } else { rest[i] })
    }
}
