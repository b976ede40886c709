//! Arrays, for processors without a vector unit that is known here.

use super::{LANES, Simd};

/// Always there.
#[derive(Clone, Copy)]
pub(super) struct Portable;

type V = [f32; LANES];

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
    unsafe fn store(self, to: *mut f32, x: V, n: usize) {
        // SAFETY: the caller vouches for the first `n` elements.
        unsafe { std::ptr::copy_nonoverlapping(x.as_ptr(), to, n.min(LANES)) }
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
