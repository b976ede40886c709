//! Sixteen `f32` lanes, written once and compiled for each vector unit, chosen when the program runs.
//!
//! A [`Kernel`] is generic over [`Simd`]; [`dispatch`] runs it with the widest unit of this processor. The lanes are
//! sixteen everywhere (one AVX-512 register, two AVX2 ones, four of NEON, an array), so sums associate in one way and the
//! vector units agree bit for bit; only the portable path, which has no fused multiply-add, may differ in the last bit.
//!
//! Everything that a kernel calls must be inlined into the function that enables the vector unit, or else each
//! operation is a call through memory: hence `inline(always)` throughout, and no closures on lanes.
#![allow(clippy::inline_always)]

pub(crate) mod math;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;
pub(crate) mod product;
#[cfg(target_arch = "x86_64")]
mod x86;
#[cfg(target_arch = "x86_64")]
pub(crate) use x86::round_to_bf16;

/// Lanes of a [`Simd::V`].
pub(crate) const LANES: usize = 16;

/// The operations of a vector unit on sixteen lanes. A value of the type proves that the unit is there.
pub(crate) trait Simd: Copy {
    /// Sixteen `f32`.
    type V: Copy;
    /// Whether 16 vectors fit in registers, with room for operands.
    const WIDE: bool;

    /// `x` in each lane.
    fn splat(self, x: f32) -> Self::V;
    /// Lanes from an array.
    fn with_lanes(self, x: [f32; LANES]) -> Self::V;
    /// Lanes to an array.
    fn to_array(self, x: Self::V) -> [f32; LANES];
    /// The first `min(n, 16)` elements at `from`, zeros in the other lanes. They must be readable.
    unsafe fn load(self, from: *const f32, n: usize) -> Self::V;
    /// The first `min(n, 16)` `bf16` bit patterns at `from`, zeros in the other lanes. They must be readable.
    unsafe fn load_bf16(self, from: *const u16, n: usize) -> Self::V;
    /// The 32 `bf16` bit patterns at `from`: those at even places, and those at odd ones. They need not be widened one by one.
    unsafe fn load_bf16_pairs(self, from: *const u16) -> [Self::V; 2];
    /// The even and the odd `bf16` of a word, each in every lane. The vectors are shifted and masked, not the word, whose
    /// halves would each have to move from the scalar registers.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn splat_bf16_pair(self, word: u32) -> [Self::V; 2] {
        [word << 16, word & 0xffff_0000].map(|bits| self.splat(f32::from_bits(bits)))
    }
    /// Writes the first `min(n, 16)` lanes to `to`. They must be writable.
    unsafe fn store(self, to: *mut f32, x: Self::V, n: usize);
    /// [`Self::store`] that leaves the caches to others, where the unit can and `to` begins a cache line. Other threads may
    /// read it after [`fence_streams`].
    #[inline(always)]
    unsafe fn stream(self, to: *mut f32, x: Self::V, n: usize) {
        // SAFETY: the caller's promise.
        unsafe { self.store(to, x, n) }
    }
    /// Writes the first `min(n, 16)` lanes to `to` as `bf16` bit patterns, rounded to nearest even. They must be writable.
    unsafe fn store_bf16(self, to: *mut u16, x: Self::V, n: usize);
    /// Writes sixteen words of two `bf16` each to `to`: the lanes of `even` below those of `odd`.
    unsafe fn store_bf16_pairs(self, to: *mut f32, even: Self::V, odd: Self::V);
    /// `a + b`.
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a − b`.
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a · b`.
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a / b`.
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// `1 / a` to 1e-6 relative, 0 for infinities; the units may differ in the last bits.
    fn reciprocal(self, a: Self::V) -> Self::V;
    /// `a · b + c`.
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// The greater; `b` where either is not a number.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// The smaller; `b` where either is not a number.
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    /// `if a < b { x } else { y }` by lane.
    fn if_less(self, a: Self::V, b: Self::V, x: Self::V, y: Self::V) -> Self::V;
    /// `|a|`.
    fn abs(self, a: Self::V) -> Self::V;
    /// `|a|` with the sign of `sign`.
    fn copy_sign(self, a: Self::V, sign: Self::V) -> Self::V;
    /// `a · 2^n` for the integer `n` in the low bits of `biased = n + 1.5 · 2²³`; the result must be a normal number.
    fn scale_by_power(self, a: Self::V, biased: Self::V) -> Self::V;
    /// The nearest integer, ties to even, for up to 2²² in magnitude.
    #[inline(always)]
    fn round(self, a: Self::V) -> Self::V {
        let shift = self.splat(12_582_912.0);
        self.sub(self.add(a, shift), shift)
    }
    /// `a · 2^n` for an integer `n`; the result must be a normal number.
    #[inline(always)]
    fn scale_by_integer(self, a: Self::V, n: Self::V) -> Self::V {
        self.scale_by_power(a, self.add(n, self.splat(12_582_912.0)))
    }
    /// Exchanges lanes 2i and 2i + 1.
    fn swap_pairs(self, a: Self::V) -> Self::V;
    /// The first `n` lanes of `a`, those of `rest` in the others.
    fn keep(self, a: Self::V, n: usize, rest: Self::V) -> Self::V;
    /// The sum of all lanes: halves are added until one is left, in every implementation.
    #[inline(always)]
    fn sum(self, a: Self::V) -> f32 {
        let mut a = self.to_array(a);
        for half in [8, 4, 2, 1] {
            for i in 0..half {
                a[i] += a[i + half];
            }
        }
        a[0]
    }
    /// [`Self::sum`] of each, bit for bit, all of them in one tree where the unit has the shuffles for it.
    #[inline(always)]
    fn sums(self, a: [Self::V; 8]) -> [f32; 8] {
        a.map(|a| self.sum(a))
    }
    /// The greatest lane; any number when some lane is not a number.
    #[inline(always)]
    fn greatest(self, a: Self::V) -> f32 {
        let mut a = self.to_array(a);
        for half in [8, 4, 2, 1] {
            for i in 0..half {
                a[i] = if a[i] > a[i + half] { a[i] } else { a[i + half] };
            }
        }
        a[0]
    }
    /// The transpose of a tile: `to[column · to_stride + row] = from[row · from_stride + column]` for
    /// 16 rows of which `rows` exist (the others are zeros) and `columns <= 16`.
    #[inline(always)]
    unsafe fn transpose(self, from: Tile, rows: usize, columns: usize, to: *mut f32, to_stride: usize) {
        for column in 0..columns {
            for row in 0..LANES {
                // SAFETY: the caller vouches for `rows × columns` readable and `columns × 16` writable elements.
                unsafe {
                    let x = if row < rows { *from.at.add(row * from.stride + column) } else { 0.0 };
                    *to.add(column * to_stride + row) = x;
                }
            }
        }
    }
}

/// Orders what was [streamed](Simd::stream) before what this thread stores from now on.
#[inline]
pub(crate) fn fence_streams() {
    // Miri has no fence and, as it runs the portable code alone, nothing that needs one.
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: every processor of 64 bits has it.
    unsafe {
        std::arch::x86_64::_mm_sfence();
    };
}

/// Rows of a matrix in memory: the first element and the distance from a row to the next.
#[derive(Clone, Copy)]
pub(crate) struct Tile {
    pub(crate) at: *const f32,
    pub(crate) stride: usize,
}

/// A computation that is compiled for each vector unit.
pub(crate) trait Kernel {
    /// What it returns.
    type Output;
    /// Runs it; implementations are `#[inline(always)]`.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

/// A vector unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Unit {
    /// Whatever the compiler makes of arrays.
    Portable,
    /// AVX2 with fused multiply-add.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-512 F.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// NEON.
    #[cfg(target_arch = "aarch64")]
    Neon,
}

/// Whether this processor has `unit`.
#[cfg(target_arch = "x86_64")]
pub(crate) fn has(unit: Unit) -> bool {
    unit <= detected()
}

/// The widest unit of this processor.
#[inline]
pub(crate) fn detected() -> Unit {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            return Unit::Avx512;
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            return Unit::Avx2;
        }
    }
    #[cfg(target_arch = "aarch64")]
    if neon::available() {
        return Unit::Neon;
    }
    Unit::Portable
}

#[cfg(not(test))]
pub(crate) use detected as unit;

/// Runs `kernel` on the widest unit of this processor.
#[inline]
pub(crate) fn dispatch<K: Kernel>(kernel: K) -> K::Output {
    // SAFETY: `unit` names a unit only when the processor has it.
    unsafe { run_on(unit(), kernel) }
}

/// Runs `kernel` on `unit`, which the processor must have.
#[inline]
pub(crate) unsafe fn run_on<K: Kernel>(unit: Unit, kernel: K) -> K::Output {
    match unit {
        // SAFETY: the caller's promise.
        #[cfg(target_arch = "x86_64")]
        Unit::Avx512 => unsafe { x86::run_avx512(kernel) },
        #[cfg(target_arch = "x86_64")]
        Unit::Avx2 => unsafe { x86::run_avx2(kernel) },
        // SAFETY: as above.
        #[cfg(target_arch = "aarch64")]
        Unit::Neon => unsafe { neon::run(kernel) },
        Unit::Portable => kernel.run(portable::Portable),
    }
}

/// Lets a test run everything on each unit that this processor has.
#[cfg(test)]
pub(crate) mod testing {
    use std::cell::Cell;

    use super::{Unit, detected};

    thread_local! { static FORCED: Cell<Option<Unit>> = const { Cell::new(None) }; }

    pub(crate) fn unit() -> Unit {
        FORCED.with(|unit| unit.get().unwrap_or_else(detected))
    }

    /// `body` on each unit in turn (on this thread: other threads of a pool keep the widest).
    pub(crate) fn on_each_unit<T>(mut body: impl FnMut(Unit) -> T) -> Vec<T> {
        #[cfg(target_arch = "x86_64")]
        let units = [Unit::Portable, Unit::Avx2, Unit::Avx512];
        #[cfg(target_arch = "aarch64")]
        let units = [Unit::Portable, Unit::Neon];
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        let units = [Unit::Portable];
        let run = |unit: Unit| {
            FORCED.with(|forced| forced.set(Some(unit)));
            let result = body(unit);
            FORCED.with(|forced| forced.set(None));
            result
        };
        units.into_iter().filter(|&unit| unit <= detected()).map(run).collect()
    }
}
#[cfg(test)]
pub(crate) use testing::unit;

#[cfg(test)]
mod tests {
    use super::*;

    struct Operations<'a>(&'a [f32; LANES], &'a [f32; LANES]);

    impl Kernel for Operations<'_> {
        type Output = Vec<[f32; LANES]>;

        #[inline(always)]
        fn run<S: Simd>(self, s: S) -> Self::Output {
            let (a, b) = (s.with_lanes(*self.0), s.with_lanes(*self.1));
            let mut results = vec![
                s.to_array(s.add(a, b)),
                s.to_array(s.sub(a, b)),
                s.to_array(s.mul(a, b)),
                s.to_array(s.div(a, b)),
                s.to_array(s.max(a, b)),
                s.to_array(s.min(a, b)),
                s.to_array(s.if_less(a, b, s.splat(1.0), s.splat(2.0))),
                s.to_array(s.abs(a)),
                s.to_array(s.copy_sign(a, b)),
                s.to_array(s.swap_pairs(a)),
                s.to_array(s.scale_by_power(b, s.splat(12582912.0 - 3.0))),
                s.to_array(s.round(a)),
                s.to_array(s.scale_by_integer(b, s.round(a))),
            ];
            results.push(
                [s.sum(a), s.greatest(a), s.sum(b), s.greatest(b)].repeat(4).try_into().expect("16 values"),
            );
            #[cfg(target_arch = "x86_64")]
            results.extend(s.splat_bf16_pair(0xc020_3f81).map(|lanes| s.to_array(lanes)));
            for n in 0..=LANES {
                results.push(s.to_array(s.keep(a, n, b)));
                let mut stored = *self.1;
                // SAFETY: both arrays have 16 elements and n is at most 16.
                unsafe {
                    results.push(s.to_array(s.load(self.0.as_ptr(), n)));
                    let mut rounded = [0x3f80; LANES];
                    s.store_bf16(rounded.as_mut_ptr(), a, n);
                    results.push(s.to_array(s.load_bf16(rounded.as_ptr(), LANES)));
                    results.push(s.to_array(s.load_bf16(rounded.as_ptr(), n)));
                    s.store(stored.as_mut_ptr(), a, n);
                }
                results.push(stored);
            }
            let mut pairs = [0.0; LANES];
            // SAFETY: sixteen words, then the same as 32 halves of words.
            unsafe {
                s.store_bf16_pairs(pairs.as_mut_ptr(), a, b);
                results.push(pairs);
                results.extend(s.load_bf16_pairs(pairs.as_ptr().cast()).map(|lanes| s.to_array(lanes)));
            }
            let vectors = std::array::from_fn(|i| s.mul(a, s.splat(0.3 + i as f32)));
            let sums = s.sums(vectors);
            assert_eq!(sums, vectors.map(|vector| s.sum(vector)));
            results.push([sums, sums].concat().try_into().expect("16 values"));
            results
        }
    }

    #[test]
    fn units_agree() {
        let a: [f32; LANES] = std::array::from_fn(|i| (i as f32 - 7.5) * 1.25);
        let b: [f32; LANES] = std::array::from_fn(|i| 3.0 - (i * i % 7) as f32 + 0.5);
        let results = on_each_unit_operations(&a, &b);
        for other in &results[1..] {
            assert_eq!(&results[0], other);
        }
        let plain = &results[0];
        assert_eq!(plain[9][..4], [a[1], a[0], a[3], a[2]]);
        assert_eq!(plain[10][1], b[1] / 8.0);
        // Small multiples of a quarter survive rounding.
        assert_eq!(plain[plain.len() - 3..plain.len() - 1], [a, b]);
    }

    fn on_each_unit_operations(a: &[f32; LANES], b: &[f32; LANES]) -> Vec<Vec<[f32; LANES]>> {
        testing::on_each_unit(|_| dispatch(Operations(a, b)))
    }

    struct Round<'a>(&'a [f32; LANES]);

    impl Kernel for Round<'_> {
        type Output = [u16; LANES];

        #[inline(always)]
        fn run<S: Simd>(self, s: S) -> Self::Output {
            let mut rounded = [0; LANES];
            // SAFETY: sixteen words.
            unsafe { s.store_bf16(rounded.as_mut_ptr(), s.with_lanes(*self.0), LANES) };
            rounded
        }
    }

    #[test]
    fn rounding_is_that_of_half() {
        // Ties to either side, what rounds up to infinity, and what is no number.
        let special = [1.003_906_3, 1.011_718_8, 0.0, f32::INFINITY, f32::NAN, f32::MAX, 1.7e-3, 3.39e38];
        let x: [f32; LANES] =
            std::array::from_fn(|i| if i % 2 == 0 { special[i / 2] } else { -special[i / 2] });
        let expected = x.map(|x| half::bf16::from_f32(x).to_bits());
        for found in testing::on_each_unit(|unit| (unit, dispatch(Round(&x)))) {
            assert_eq!(found.1, expected, "{:?}", found.0);
        }
    }

    struct Transpose<'a> {
        from: &'a [f32],
        stride: usize,
        rows: usize,
        columns: usize,
        to: &'a mut [f32],
    }

    impl Kernel for Transpose<'_> {
        type Output = ();

        #[inline(always)]
        fn run<S: Simd>(self, s: S) {
            let tile = Tile { at: self.from.as_ptr(), stride: self.stride };
            // SAFETY: the test sizes `from` for rows × stride and `to` for columns × 32.
            unsafe { s.transpose(tile, self.rows, self.columns, self.to.as_mut_ptr(), 32) }
        }
    }

    #[test]
    fn transposes_every_tile_size() {
        let stride = 19;
        for (rows, columns) in (1..=LANES).flat_map(|r| (1..=LANES).map(move |c| (r, c))) {
            // Exactly as long as the tile, so that a read past it is out of the allocation.
            let from: Vec<f32> = (0..(rows - 1) * stride + columns).map(|i| i as f32 + 1.0).collect();
            testing::on_each_unit(|unit| {
                let mut to = vec![-1.0; 32 * LANES];
                dispatch(Transpose { from: &from, stride, rows, columns, to: &mut to });
                for (c, r) in (0..LANES).flat_map(|c| (0..LANES).map(move |r| (c, r))) {
                    let expected = match (c < columns, r < rows) {
                        (true, true) => from[r * stride + c],
                        (true, false) => 0.0,
                        (false, _) => -1.0,
                    };
                    assert_eq!(to[c * 32 + r], expected, "{unit:?} {rows}×{columns} at {r},{c}");
                }
            });
        }
    }
}
