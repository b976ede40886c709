//! AVX-512 and AVX2.
//!
//! SAFETY of every intrinsic here: an [`Avx512`] or [`Avx2`] is only made by the `run_*` functions, whose callers have
//! checked the processor; the pointer arguments are the contract of [`Simd::load`] and [`Simd::store`].
#![allow(clippy::undocumented_unsafe_blocks, clippy::inline_always, clippy::wildcard_imports)]

use std::arch::x86_64::*;

use super::{Kernel, LANES, Simd, Tile};

/// Proof of AVX-512 F, and of its `bf16` conversions where the parameter says so.
#[derive(Clone, Copy)]
pub(super) struct Avx512<const BF16: bool>(());

/// Proof of AVX2 and FMA.
#[derive(Clone, Copy)]
pub(super) struct Avx2(());

/// Runs `kernel` with AVX-512 F, which the processor must have, and whatever else of it helps.
pub(super) unsafe fn run_avx512<K: Kernel>(kernel: K) -> K::Output {
    if is_x86_feature_detected!("avx512bf16") {
        unsafe { run_avx512_bf16(kernel) }
    } else {
        unsafe { run_avx512_f(kernel) }
    }
}

#[target_feature(enable = "avx512f,avx2,fma")]
unsafe fn run_avx512_f<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(Avx512::<false>(()))
}

#[target_feature(enable = "avx512f,avx512bf16,avx2,fma")]
unsafe fn run_avx512_bf16<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(Avx512::<true>(()))
}

/// Runs `kernel` with AVX2 and FMA, which the processor must have.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn run_avx2<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(Avx2(()))
}

/// The sum of eight lanes, in the order of [`Simd::sum`].
#[inline(always)]
fn sum_of_eight(a: __m256) -> f32 {
    unsafe {
        let a = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
        let a = _mm_add_ps(a, _mm_movehl_ps(a, a));
        _mm_cvtss_f32(_mm_add_ss(a, _mm_movehdup_ps(a)))
    }
}

/// The greatest of eight lanes.
#[inline(always)]
fn greatest_of_eight(a: __m256) -> f32 {
    unsafe {
        let a = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
        let a = _mm_max_ps(a, _mm_movehl_ps(a, a));
        _mm_cvtss_f32(_mm_max_ss(a, _mm_movehdup_ps(a)))
    }
}

/// Both halves of sixteen lanes.
#[inline(always)]
fn halves(a: __m512) -> (__m256, __m256) {
    unsafe {
        let high = _mm512_extractf64x4_pd::<1>(_mm512_castps_pd(a));
        (_mm512_castps512_ps256(a), _mm256_castpd_ps(high))
    }
}

/// The mask of the first `n` lanes.
#[inline(always)]
fn first(n: usize) -> __mmask16 {
    ((1u32 << n.min(LANES)) - 1) as __mmask16
}

/// Lanes rounded to `bf16` without the instruction for it, for which AVX-512 F must be there.
#[inline(always)]
pub(crate) unsafe fn round_to_bf16(x: __m512) -> __m256i {
    unsafe {
        let bits = _mm512_castps_si512(x);
        let upper = _mm512_srli_epi32::<16>(bits);
        // To nearest, ties to even: just below one half, plus the last bit that stays.
        let odd = _mm512_and_si512(upper, _mm512_set1_epi32(1));
        let half = _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff));
        let rounded = _mm512_srli_epi32::<16>(_mm512_add_epi32(bits, half));
        let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(x, x);
        let quiet = _mm512_or_si512(upper, _mm512_set1_epi32(0x40));
        _mm512_cvtepi32_epi16(_mm512_mask_mov_epi32(rounded, nan, quiet))
    }
}

impl<const BF16: bool> Avx512<BF16> {
    /// Lanes rounded to `bf16`. The conversion of the processor flushes subnormal numbers, the other one keeps them.
    #[inline(always)]
    fn to_bf16(x: __m512) -> __m256i {
        unsafe {
            if BF16 {
                return std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(x));
            }
            round_to_bf16(x)
        }
    }
}

impl<const BF16: bool> Simd for Avx512<BF16> {
    type V = __m512;
    const WIDE: bool = true;

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        unsafe { _mm512_set1_ps(x) }
    }

    #[inline(always)]
    fn with_lanes(self, x: [f32; LANES]) -> __m512 {
        unsafe { _mm512_loadu_ps(x.as_ptr()) }
    }

    #[inline(always)]
    fn to_array(self, x: __m512) -> [f32; LANES] {
        let mut array = [0.0; LANES];
        unsafe { _mm512_storeu_ps(array.as_mut_ptr(), x) };
        array
    }

    #[inline(always)]
    unsafe fn load(self, from: *const f32, n: usize) -> __m512 {
        // A branch that is taken the same way all along a row costs less than to make a mask for each vector.
        unsafe { if n >= LANES { _mm512_loadu_ps(from) } else { _mm512_maskz_loadu_ps(first(n), from) } }
    }

    #[inline(always)]
    unsafe fn load_bf16(self, from: *const u16, n: usize) -> __m512 {
        unsafe {
            let words = if n >= LANES {
                _mm256_loadu_si256(from.cast())
            } else {
                let mut all = [0u16; LANES];
                std::ptr::copy_nonoverlapping(from, all.as_mut_ptr(), n);
                _mm256_loadu_si256(all.as_ptr().cast())
            };
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(words)))
        }
    }

    #[inline(always)]
    fn splat_bf16_pair(self, word: u32) -> [__m512; 2] {
        unsafe {
            let words = _mm512_set1_epi32(word as i32);
            let odd = _mm512_and_si512(words, _mm512_set1_epi32(!0xffff));
            [_mm512_castsi512_ps(_mm512_slli_epi32::<16>(words)), _mm512_castsi512_ps(odd)]
        }
    }

    #[inline(always)]
    unsafe fn load_bf16_pairs(self, from: *const u16) -> [__m512; 2] {
        unsafe {
            let words = _mm512_loadu_si512(from.cast());
            let odd = _mm512_and_si512(words, _mm512_set1_epi32(!0xffff));
            [_mm512_slli_epi32::<16>(words), odd].map(|lanes| _mm512_castsi512_ps(lanes))
        }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32, x: __m512, n: usize) {
        unsafe {
            if n >= LANES {
                _mm512_storeu_ps(to, x);
            } else {
                _mm512_mask_storeu_ps(to, first(n), x);
            }
        }
    }

    #[inline(always)]
    unsafe fn stream(self, to: *mut f32, x: __m512, n: usize) {
        unsafe {
            if n >= LANES && to.addr().is_multiple_of(size_of::<__m512>()) {
                _mm512_stream_ps(to, x);
            } else {
                self.store(to, x, n);
            }
        }
    }

    #[inline(always)]
    unsafe fn store_bf16(self, to: *mut u16, x: __m512, n: usize) {
        unsafe {
            let words = Self::to_bf16(x);
            if n >= LANES {
                _mm256_storeu_si256(to.cast(), words);
            } else {
                let mut all = [0u16; LANES];
                _mm256_storeu_si256(all.as_mut_ptr().cast(), words);
                std::ptr::copy_nonoverlapping(all.as_ptr(), to, n);
            }
        }
    }

    #[inline(always)]
    unsafe fn store_bf16_pairs(self, to: *mut f32, even: __m512, odd: __m512) {
        unsafe {
            let even = _mm512_cvtepu16_epi32(Self::to_bf16(even));
            let odd = _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(Self::to_bf16(odd)));
            _mm512_storeu_si512(to.cast(), _mm512_or_si512(even, odd));
        }
    }

    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_add_ps(a, b) }
    }

    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_sub_ps(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_mul_ps(a, b) }
    }

    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_div_ps(a, b) }
    }

    #[inline(always)]
    fn reciprocal(self, a: __m512) -> __m512 {
        // A step of Newton's doubles the 14 bits of the estimate.
        unsafe {
            let r = _mm512_rcp14_ps(a);
            _mm512_mul_ps(r, _mm512_fnmadd_ps(a, r, _mm512_set1_ps(2.0)))
        }
    }

    #[inline(always)]
    fn fma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_max_ps(a, b) }
    }

    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_min_ps(a, b) }
    }

    #[inline(always)]
    fn if_less(self, a: __m512, b: __m512, x: __m512, y: __m512) -> __m512 {
        unsafe { _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b), y, x) }
    }

    #[inline(always)]
    fn abs(self, a: __m512) -> __m512 {
        unsafe { _mm512_abs_ps(a) }
    }

    #[inline(always)]
    fn copy_sign(self, a: __m512, sign: __m512) -> __m512 {
        // Truth table 0xCA: the bits of the second where the first is set, of the third elsewhere.
        unsafe {
            let magnitude = _mm512_set1_epi32(i32::MAX);
            let bits = _mm512_ternarylogic_epi32::<0xCA>(
                magnitude,
                _mm512_castps_si512(a),
                _mm512_castps_si512(sign),
            );
            _mm512_castsi512_ps(bits)
        }
    }

    #[inline(always)]
    fn scale_by_power(self, a: __m512, biased: __m512) -> __m512 {
        unsafe {
            let exponent = _mm512_slli_epi32::<23>(_mm512_castps_si512(biased));
            _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(a), exponent))
        }
    }

    #[inline(always)]
    fn round(self, a: __m512) -> __m512 {
        unsafe { _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a) }
    }

    #[inline(always)]
    fn scale_by_integer(self, a: __m512, n: __m512) -> __m512 {
        unsafe { _mm512_scalef_ps(a, n) }
    }

    #[inline(always)]
    fn swap_pairs(self, a: __m512) -> __m512 {
        unsafe { _mm512_permute_ps::<0b10_11_00_01>(a) }
    }

    #[inline(always)]
    fn keep(self, a: __m512, n: usize, rest: __m512) -> __m512 {
        if n >= LANES { a } else { unsafe { _mm512_mask_blend_ps(first(n), rest, a) } }
    }

    #[inline(always)]
    fn sum(self, a: __m512) -> f32 {
        let (low, high) = halves(a);
        sum_of_eight(unsafe { _mm256_add_ps(low, high) })
    }

    /// The halves of two vectors are added in one, then quarters of four, and so on: in the order of [`Simd::sum`].
    #[inline(always)]
    fn sums(self, a: [__m512; 8]) -> [f32; 8] {
        unsafe {
            let halves = |a: __m512, b: __m512| {
                _mm512_add_ps(_mm512_shuffle_f32x4::<0x44>(a, b), _mm512_shuffle_f32x4::<0xee>(a, b))
            };
            let quarters = |a: __m512, b: __m512| {
                _mm512_add_ps(_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0xdd>(a, b))
            };
            let first = quarters(halves(a[0], a[1]), halves(a[2], a[3]));
            let second = quarters(halves(a[4], a[5]), halves(a[6], a[7]));
            let pairs = _mm512_add_ps(
                _mm512_shuffle_ps::<0x44>(first, second),
                _mm512_shuffle_ps::<0xee>(first, second),
            );
            let sums = _mm512_add_ps(pairs, _mm512_movehdup_ps(pairs));
            let order = _mm512_setr_epi32(0, 4, 8, 12, 2, 6, 10, 14, 0, 0, 0, 0, 0, 0, 0, 0);
            let mut all = [0.0; 8];
            let sums = _mm512_castps512_ps256(_mm512_permutexvar_ps(order, sums));
            _mm256_storeu_ps(all.as_mut_ptr(), sums);
            all
        }
    }

    #[inline(always)]
    fn greatest(self, a: __m512) -> f32 {
        let (low, high) = halves(a);
        greatest_of_eight(unsafe { _mm256_max_ps(low, high) })
    }

    #[inline(always)]
    unsafe fn transpose(self, from: Tile, rows: usize, columns: usize, to: *mut f32, to_stride: usize) {
        unsafe {
            let mask = first(columns);
            let zero = _mm512_setzero_ps();
            let mut r = [zero; LANES];
            for (row, lanes) in r.iter_mut().enumerate() {
                if row < rows {
                    *lanes = _mm512_maskz_loadu_ps(mask, from.at.add(row * from.stride));
                }
            }
            let mut t = [zero; LANES];
            for i in 0..8 {
                t[2 * i] = _mm512_unpacklo_ps(r[2 * i], r[2 * i + 1]);
                t[2 * i + 1] = _mm512_unpackhi_ps(r[2 * i], r[2 * i + 1]);
            }
            for i in 0..4 {
                let (a, b, c, d) = (t[4 * i], t[4 * i + 1], t[4 * i + 2], t[4 * i + 3]);
                r[4 * i] = _mm512_shuffle_ps::<0b01_00_01_00>(a, c);
                r[4 * i + 1] = _mm512_shuffle_ps::<0b11_10_11_10>(a, c);
                r[4 * i + 2] = _mm512_shuffle_ps::<0b01_00_01_00>(b, d);
                r[4 * i + 3] = _mm512_shuffle_ps::<0b11_10_11_10>(b, d);
            }
            // r[4i + j] now holds column 4·lane + j of rows 4i..4i + 4, in 128-bit lane `lane`.
            for j in 0..4 {
                let low = _mm512_shuffle_f32x4::<0b10_00_10_00>(r[j], r[4 + j]);
                let high = _mm512_shuffle_f32x4::<0b10_00_10_00>(r[8 + j], r[12 + j]);
                t[j] = _mm512_shuffle_f32x4::<0b10_00_10_00>(low, high);
                t[8 + j] = _mm512_shuffle_f32x4::<0b11_01_11_01>(low, high);
                let low = _mm512_shuffle_f32x4::<0b11_01_11_01>(r[j], r[4 + j]);
                let high = _mm512_shuffle_f32x4::<0b11_01_11_01>(r[8 + j], r[12 + j]);
                t[4 + j] = _mm512_shuffle_f32x4::<0b10_00_10_00>(low, high);
                t[12 + j] = _mm512_shuffle_f32x4::<0b11_01_11_01>(low, high);
            }
            for (column, lanes) in t.iter().enumerate() {
                if column < columns {
                    _mm512_storeu_ps(to.add(column * to_stride), *lanes);
                }
            }
        }
    }
}

type Pair = [__m256; 2];

#[inline(always)]
fn select(less: __m256, x: __m256, y: __m256) -> __m256 {
    unsafe { _mm256_blendv_ps(y, x, less) }
}

#[inline(always)]
fn magnitude(a: __m256) -> __m256 {
    unsafe { _mm256_andnot_ps(_mm256_set1_ps(-0.0), a) }
}

#[inline(always)]
fn sign_bit(a: __m256) -> __m256 {
    unsafe { _mm256_and_ps(_mm256_set1_ps(-0.0), a) }
}

#[inline(always)]
fn scale(a: __m256, biased: __m256) -> __m256 {
    unsafe {
        let exponent = _mm256_slli_epi32::<23>(_mm256_castps_si256(biased));
        _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(a), exponent))
    }
}

impl Simd for Avx2 {
    type V = Pair;
    const WIDE: bool = false;

    #[inline(always)]
    fn splat(self, x: f32) -> Pair {
        unsafe { [_mm256_set1_ps(x); 2] }
    }

    #[inline(always)]
    fn with_lanes(self, x: [f32; LANES]) -> Pair {
        unsafe { [_mm256_loadu_ps(x.as_ptr()), _mm256_loadu_ps(x.as_ptr().add(8))] }
    }

    #[inline(always)]
    fn to_array(self, x: Pair) -> [f32; LANES] {
        let mut array = [0.0; LANES];
        unsafe {
            _mm256_storeu_ps(array.as_mut_ptr(), x[0]);
            _mm256_storeu_ps(array.as_mut_ptr().add(8), x[1]);
        }
        array
    }

    #[inline(always)]
    unsafe fn load(self, from: *const f32, n: usize) -> Pair {
        unsafe {
            if n >= LANES {
                return [_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))];
            }
            let mut array = [0.0; LANES];
            std::ptr::copy_nonoverlapping(from, array.as_mut_ptr(), n);
            self.with_lanes(array)
        }
    }

    #[inline(always)]
    unsafe fn load_bf16(self, from: *const u16, n: usize) -> Pair {
        unsafe {
            let mut all = [0u16; LANES];
            let from = if n >= LANES {
                from
            } else {
                std::ptr::copy_nonoverlapping(from, all.as_mut_ptr(), n);
                all.as_ptr()
            };
            let half = |at: usize| {
                let words = _mm_loadu_si128(from.add(at).cast());
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(words)))
            };
            [half(0), half(8)]
        }
    }

    #[inline(always)]
    fn splat_bf16_pair(self, word: u32) -> [Pair; 2] {
        unsafe {
            let words = _mm256_set1_epi32(word as i32);
            let odd = _mm256_and_si256(words, _mm256_set1_epi32(!0xffff));
            [[_mm256_castsi256_ps(_mm256_slli_epi32::<16>(words)); 2], [_mm256_castsi256_ps(odd); 2]]
        }
    }

    #[inline(always)]
    unsafe fn load_bf16_pairs(self, from: *const u16) -> [Pair; 2] {
        unsafe {
            let upper = _mm256_set1_epi32(!0xffff);
            let words = [0, LANES].map(|at| _mm256_loadu_si256(from.add(at).cast()));
            let even = words.map(|words| _mm256_castsi256_ps(_mm256_slli_epi32::<16>(words)));
            [even, words.map(|words| _mm256_castsi256_ps(_mm256_and_si256(words, upper)))]
        }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32, x: Pair, n: usize) {
        unsafe {
            if n >= LANES {
                _mm256_storeu_ps(to, x[0]);
                _mm256_storeu_ps(to.add(8), x[1]);
            } else {
                std::ptr::copy_nonoverlapping(self.to_array(x).as_ptr(), to, n);
            }
        }
    }

    #[inline(always)]
    unsafe fn store_bf16(self, to: *mut u16, x: Pair, n: usize) {
        unsafe { super::portable::round_to_bf16(to, self.to_array(x), n) }
    }

    #[inline(always)]
    unsafe fn store_bf16_pairs(self, to: *mut f32, even: Pair, odd: Pair) {
        unsafe { super::portable::round_pairs(to, self.to_array(even), self.to_array(odd)) }
    }

    #[inline(always)]
    fn add(self, a: Pair, b: Pair) -> Pair {
        unsafe { [_mm256_add_ps(a[0], b[0]), _mm256_add_ps(a[1], b[1])] }
    }

    #[inline(always)]
    fn sub(self, a: Pair, b: Pair) -> Pair {
        unsafe { [_mm256_sub_ps(a[0], b[0]), _mm256_sub_ps(a[1], b[1])] }
    }

    #[inline(always)]
    fn mul(self, a: Pair, b: Pair) -> Pair {
        unsafe { [_mm256_mul_ps(a[0], b[0]), _mm256_mul_ps(a[1], b[1])] }
    }

    #[inline(always)]
    fn div(self, a: Pair, b: Pair) -> Pair {
        unsafe { [_mm256_div_ps(a[0], b[0]), _mm256_div_ps(a[1], b[1])] }
    }

    #[inline(always)]
    fn reciprocal(self, a: Pair) -> Pair {
        self.div(self.splat(1.0), a)
    }

    #[inline(always)]
    fn fma(self, a: Pair, b: Pair, c: Pair) -> Pair {
        unsafe { [_mm256_fmadd_ps(a[0], b[0], c[0]), _mm256_fmadd_ps(a[1], b[1], c[1])] }
    }

    #[inline(always)]
    fn max(self, a: Pair, b: Pair) -> Pair {
        unsafe { [_mm256_max_ps(a[0], b[0]), _mm256_max_ps(a[1], b[1])] }
    }

    #[inline(always)]
    fn min(self, a: Pair, b: Pair) -> Pair {
        unsafe { [_mm256_min_ps(a[0], b[0]), _mm256_min_ps(a[1], b[1])] }
    }

    #[inline(always)]
    fn if_less(self, a: Pair, b: Pair, x: Pair, y: Pair) -> Pair {
        unsafe {
            let less = [_mm256_cmp_ps::<_CMP_LT_OQ>(a[0], b[0]), _mm256_cmp_ps::<_CMP_LT_OQ>(a[1], b[1])];
            [select(less[0], x[0], y[0]), select(less[1], x[1], y[1])]
        }
    }

    #[inline(always)]
    fn abs(self, a: Pair) -> Pair {
        [magnitude(a[0]), magnitude(a[1])]
    }

    #[inline(always)]
    fn copy_sign(self, a: Pair, sign: Pair) -> Pair {
        unsafe {
            let sign = [sign_bit(sign[0]), sign_bit(sign[1])];
            [_mm256_or_ps(magnitude(a[0]), sign[0]), _mm256_or_ps(magnitude(a[1]), sign[1])]
        }
    }

    #[inline(always)]
    fn scale_by_power(self, a: Pair, biased: Pair) -> Pair {
        [scale(a[0], biased[0]), scale(a[1], biased[1])]
    }

    #[inline(always)]
    fn swap_pairs(self, a: Pair) -> Pair {
        unsafe { [_mm256_permute_ps::<0b10_11_00_01>(a[0]), _mm256_permute_ps::<0b10_11_00_01>(a[1])] }
    }

    #[inline(always)]
    fn keep(self, a: Pair, n: usize, rest: Pair) -> Pair {
        let (a, rest) = (self.to_array(a), self.to_array(rest));
        self.with_lanes(std::array::from_fn(|i| if i < n { a[i] } else { rest[i] }))
    }

    #[inline(always)]
    fn sum(self, a: Pair) -> f32 {
        sum_of_eight(unsafe { _mm256_add_ps(a[0], a[1]) })
    }

    #[inline(always)]
    fn greatest(self, a: Pair) -> f32 {
        greatest_of_eight(unsafe { _mm256_max_ps(a[0], a[1]) })
    }
}
