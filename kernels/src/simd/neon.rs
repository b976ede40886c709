//! NEON: sixteen lanes in four registers.
//!
//! SAFETY of every intrinsic here: a [`Neon`] is only made by [`run`], whose callers have checked the processor; the
//! pointer arguments are the contract of [`Simd::load`] and [`Simd::store`].
#![allow(clippy::undocumented_unsafe_blocks, clippy::inline_always, clippy::wildcard_imports)]

use std::arch::aarch64::*;

use super::{Kernel, LANES, Simd, Tile};

/// Proof of NEON.
#[derive(Clone, Copy)]
pub(super) struct Neon(());

pub(super) fn available() -> bool {
    std::arch::is_aarch64_feature_detected!("neon")
}

/// Runs `kernel` with NEON, which the processor must have.
#[target_feature(enable = "neon")]
pub(super) unsafe fn run<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(Neon(()))
}

type V = [float32x4_t; QUARTERS];

const QUARTERS: usize = 4;
/// Lanes of a quarter.
const WIDTH: usize = LANES / QUARTERS;

/// The quarters of a value that is computed from those of others.
macro_rules! quarters {
    ($i:ident, $value:expr) => {
        [
            {
                let $i = 0;
                $value
            },
            {
                let $i = 1;
                $value
            },
            {
                let $i = 2;
                $value
            },
            {
                let $i = 3;
                $value
            },
        ]
    };
}

/// The greater by lane; `b` where either is not a number, unlike the instruction for it.
#[inline(always)]
fn greater(a: float32x4_t, b: float32x4_t) -> float32x4_t {
    unsafe { vbslq_f32(vcgtq_f32(a, b), a, b) }
}

/// Eight lanes rounded to `bf16`, ties to even.
#[inline(always)]
fn to_bf16(low: float32x4_t, high: float32x4_t) -> uint16x8_t {
    unsafe { vcombine_u16(half_to_bf16(low), half_to_bf16(high)) }
}

#[inline(always)]
fn half_to_bf16(x: float32x4_t) -> uint16x4_t {
    unsafe {
        let bits = vreinterpretq_u32_f32(x);
        let upper = vshrq_n_u32::<16>(bits);
        // Just below one half, plus the last bit that stays.
        let half = vaddq_u32(vandq_u32(upper, vdupq_n_u32(1)), vdupq_n_u32(0x7fff));
        let quiet = vorrq_u32(upper, vdupq_n_u32(0x40));
        vbsl_u16(vmovn_u32(vceqq_f32(x, x)), vaddhn_u32(bits, half), vmovn_u32(quiet))
    }
}

impl Simd for Neon {
    type V = V;
    const WIDE: bool = false;

    #[inline(always)]
    fn splat(self, x: f32) -> V {
        unsafe { [vdupq_n_f32(x); QUARTERS] }
    }

    #[inline(always)]
    fn with_lanes(self, x: [f32; LANES]) -> V {
        unsafe { quarters!(i, vld1q_f32(x.as_ptr().add(i * WIDTH))) }
    }

    #[inline(always)]
    fn to_array(self, x: V) -> [f32; LANES] {
        let mut array = [0.0; LANES];
        for i in 0..QUARTERS {
            unsafe { vst1q_f32(array.as_mut_ptr().add(i * WIDTH), x[i]) };
        }
        array
    }

    #[inline(always)]
    unsafe fn load(self, from: *const f32, n: usize) -> V {
        unsafe {
            if n >= LANES {
                return quarters!(i, vld1q_f32(from.add(i * WIDTH)));
            }
            let mut array = [0.0; LANES];
            std::ptr::copy_nonoverlapping(from, array.as_mut_ptr(), n);
            self.with_lanes(array)
        }
    }

    #[inline(always)]
    unsafe fn load_bf16(self, from: *const u16, n: usize) -> V {
        unsafe {
            let mut all = [0u16; LANES];
            let from = if n >= LANES {
                from
            } else {
                std::ptr::copy_nonoverlapping(from, all.as_mut_ptr(), n);
                all.as_ptr()
            };
            let words = [vld1q_u16(from), vld1q_u16(from.add(LANES / 2))];
            let zero = vdupq_n_u16(0);
            [
                vreinterpretq_f32_u16(vzip1q_u16(zero, words[0])),
                vreinterpretq_f32_u16(vzip2q_u16(zero, words[0])),
                vreinterpretq_f32_u16(vzip1q_u16(zero, words[1])),
                vreinterpretq_f32_u16(vzip2q_u16(zero, words[1])),
            ]
        }
    }

    #[inline(always)]
    unsafe fn load_bf16_pairs(self, from: *const u16) -> [V; 2] {
        unsafe {
            let upper = vdupq_n_u32(0xffff_0000);
            let (mut even, mut odd) = ([vdupq_n_f32(0.0); 4], [vdupq_n_f32(0.0); 4]);
            for part in 0..4 {
                let words = vreinterpretq_u32_u16(vld1q_u16(from.add(part * LANES / 2)));
                even[part] = vreinterpretq_f32_u32(vshlq_n_u32::<16>(words));
                odd[part] = vreinterpretq_f32_u32(vandq_u32(words, upper));
            }
            [even, odd]
        }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32, x: V, n: usize) {
        unsafe {
            if n >= LANES {
                for i in 0..QUARTERS {
                    vst1q_f32(to.add(i * WIDTH), x[i]);
                }
            } else {
                std::ptr::copy_nonoverlapping(self.to_array(x).as_ptr(), to, n);
            }
        }
    }

    #[inline(always)]
    unsafe fn store_bf16(self, to: *mut u16, x: V, n: usize) {
        unsafe {
            let words = [to_bf16(x[0], x[1]), to_bf16(x[2], x[3])];
            if n >= LANES {
                vst1q_u16(to, words[0]);
                vst1q_u16(to.add(LANES / 2), words[1]);
            } else {
                let mut all = [0u16; LANES];
                vst1q_u16(all.as_mut_ptr(), words[0]);
                vst1q_u16(all.as_mut_ptr().add(LANES / 2), words[1]);
                std::ptr::copy_nonoverlapping(all.as_ptr(), to, n);
            }
        }
    }

    #[inline(always)]
    unsafe fn store_bf16_pairs(self, to: *mut f32, even: V, odd: V) {
        for half in 0..2 {
            unsafe {
                let words = uint16x8x2_t(
                    to_bf16(even[2 * half], even[2 * half + 1]),
                    to_bf16(odd[2 * half], odd[2 * half + 1]),
                );
                vst2q_u16(to.add(half * LANES / 2).cast(), words);
            }
        }
    }

    #[inline(always)]
    fn add(self, a: V, b: V) -> V {
        unsafe { quarters!(i, vaddq_f32(a[i], b[i])) }
    }

    #[inline(always)]
    fn sub(self, a: V, b: V) -> V {
        unsafe { quarters!(i, vsubq_f32(a[i], b[i])) }
    }

    #[inline(always)]
    fn mul(self, a: V, b: V) -> V {
        unsafe { quarters!(i, vmulq_f32(a[i], b[i])) }
    }

    #[inline(always)]
    fn div(self, a: V, b: V) -> V {
        unsafe { quarters!(i, vdivq_f32(a[i], b[i])) }
    }

    #[inline(always)]
    fn reciprocal(self, a: V) -> V {
        // A step of Newton's doubles the 8 bits of the estimate; a division takes longer than two.
        let mut r = unsafe { quarters!(i, vrecpeq_f32(a[i])) };
        for _ in 0..2 {
            r = unsafe { quarters!(i, vmulq_f32(r[i], vrecpsq_f32(a[i], r[i]))) };
        }
        r
    }

    #[inline(always)]
    fn fma(self, a: V, b: V, c: V) -> V {
        unsafe { quarters!(i, vfmaq_f32(c[i], a[i], b[i])) }
    }

    #[inline(always)]
    fn max(self, a: V, b: V) -> V {
        quarters!(i, greater(a[i], b[i]))
    }

    #[inline(always)]
    fn min(self, a: V, b: V) -> V {
        unsafe { quarters!(i, vbslq_f32(vcltq_f32(a[i], b[i]), a[i], b[i])) }
    }

    #[inline(always)]
    fn if_less(self, a: V, b: V, x: V, y: V) -> V {
        unsafe { quarters!(i, vbslq_f32(vcltq_f32(a[i], b[i]), x[i], y[i])) }
    }

    #[inline(always)]
    fn abs(self, a: V) -> V {
        unsafe { quarters!(i, vabsq_f32(a[i])) }
    }

    #[inline(always)]
    fn copy_sign(self, a: V, sign: V) -> V {
        unsafe { quarters!(i, vbslq_f32(vdupq_n_u32(1 << 31), sign[i], a[i])) }
    }

    #[inline(always)]
    fn scale_by_power(self, a: V, biased: V) -> V {
        unsafe {
            quarters!(i, {
                let exponent = vshlq_n_u32::<23>(vreinterpretq_u32_f32(biased[i]));
                vreinterpretq_f32_u32(vaddq_u32(vreinterpretq_u32_f32(a[i]), exponent))
            })
        }
    }

    #[inline(always)]
    fn swap_pairs(self, a: V) -> V {
        unsafe { quarters!(i, vrev64q_f32(a[i])) }
    }

    #[inline(always)]
    fn keep(self, a: V, n: usize, rest: V) -> V {
        let (a, rest) = (self.to_array(a), self.to_array(rest));
        self.with_lanes(std::array::from_fn(|i| if i < n { a[i] } else { rest[i] }))
    }

    #[inline(always)]
    fn sum(self, a: V) -> f32 {
        unsafe {
            let four = vaddq_f32(vaddq_f32(a[0], a[2]), vaddq_f32(a[1], a[3]));
            vpadds_f32(vadd_f32(vget_low_f32(four), vget_high_f32(four)))
        }
    }

    #[inline(always)]
    fn greatest(self, a: V) -> f32 {
        let four = greater(greater(a[0], a[2]), greater(a[1], a[3]));
        unsafe { vmaxnmvq_f32(four) }
    }

    #[inline(always)]
    unsafe fn transpose(self, from: Tile, rows: usize, columns: usize, to: *mut f32, to_stride: usize) {
        unsafe {
            for column in (0..columns).step_by(WIDTH) {
                let width = (columns - column).min(WIDTH);
                for row in (0..LANES).step_by(WIDTH) {
                    let mut r = [vdupq_n_f32(0.0); WIDTH];
                    for i in 0..WIDTH.min(rows.saturating_sub(row)) {
                        let at = from.at.add((row + i) * from.stride + column);
                        r[i] = if width == WIDTH {
                            vld1q_f32(at)
                        } else {
                            let mut array = [0.0; WIDTH];
                            std::ptr::copy_nonoverlapping(at, array.as_mut_ptr(), width);
                            vld1q_f32(array.as_ptr())
                        };
                    }
                    let r = transposed(r);
                    for i in 0..width {
                        vst1q_f32(to.add((column + i) * to_stride + row), r[i]);
                    }
                }
            }
        }
    }
}

/// The transpose of 4 × 4 elements.
#[inline(always)]
fn transposed(r: [float32x4_t; WIDTH]) -> [float32x4_t; WIDTH] {
    unsafe {
        let pairs = [
            vreinterpretq_f64_f32(vtrn1q_f32(r[0], r[1])),
            vreinterpretq_f64_f32(vtrn2q_f32(r[0], r[1])),
            vreinterpretq_f64_f32(vtrn1q_f32(r[2], r[3])),
            vreinterpretq_f64_f32(vtrn2q_f32(r[2], r[3])),
        ];
        [
            vreinterpretq_f32_f64(vzip1q_f64(pairs[0], pairs[2])),
            vreinterpretq_f32_f64(vzip1q_f64(pairs[1], pairs[3])),
            vreinterpretq_f32_f64(vzip2q_f64(pairs[0], pairs[2])),
            vreinterpretq_f32_f64(vzip2q_f64(pairs[1], pairs[3])),
        ]
    }
}
