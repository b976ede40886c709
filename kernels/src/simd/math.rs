//! Functions of lanes.
#![allow(clippy::inline_always, clippy::excessive_precision)]

use super::Simd;

/// `e^x` to 2e-7 relative; 0 below −87.33 (where `f32` leaves the normal numbers), finite above 88.72.
#[inline(always)]
pub(crate) fn exp<S: Simd>(s: S, x: S::V) -> S::V {
    // e^x = 2^n · e^r, n = round(x / ln 2), |r| <= ln 2 / 2, as in Cephes' expf; adding 1.5 · 2²³ rounds to an integer.
    let lowest = s.splat(-87.336_54);
    let clamped = s.min(s.splat(88.722), s.max(lowest, x));
    let shift = s.splat(12_582_912.0);
    let biased = s.fma(clamped, s.splat(std::f32::consts::LOG2_E), shift);
    let n = s.sub(biased, shift);
    let r = s.fma(n, s.splat(-0.693_359_375), clamped);
    let r = s.fma(n, s.splat(2.121_944_4e-4), r);
    let mut p = s.splat(1.987_569_15e-4);
    for coefficient in
        [1.398_199_950_7e-3, 8.333_451_907_3e-3, 4.166_579_589_4e-2, 1.666_666_545_9e-1, 5.000_000_120_1e-1]
    {
        p = s.fma(p, r, s.splat(coefficient));
    }
    let p = s.fma(s.mul(r, r), p, s.add(r, s.splat(1.0)));
    s.if_less(x, lowest, s.splat(0.0), s.scale_by_power(p, biased))
}

/// `e^x` to 1e-5 relative, for results that are rounded to `bf16`; between 2⁻¹²⁶ and 2¹²⁶. Of several vectors at once, so that
/// constants are loaded once and the units need not wait for each step.
#[inline(always)]
pub(crate) fn fast_exp<S: Simd, const N: usize>(s: S, mut x: [S::V; N]) -> [S::V; N] {
    // 2^t = 2^n · 2^r, |r| <= 1/2.
    let (log2e, shift) = (s.splat(std::f32::consts::LOG2_E), s.splat(12_582_912.0));
    let (low, high) = (s.splat(-87.0), s.splat(87.0));
    let mut biased = x;
    for i in 0..N {
        x[i] = s.min(high, s.max(low, x[i]));
        biased[i] = s.fma(x[i], log2e, shift);
        x[i] = s.fma(x[i], log2e, s.sub(shift, biased[i]));
    }
    x = power_of_fraction(s, x);
    for i in 0..N {
        x[i] = s.scale_by_power(x[i], biased[i]);
    }
    x
}

/// `2^r` for `|r| <= 1/2`, to 1e-5 relative: a minimax polynomial.
#[inline(always)]
fn power_of_fraction<S: Simd, const N: usize>(s: S, r: [S::V; N]) -> [S::V; N] {
    let mut p = [s.splat(0.0095700901); N];
    for coefficient in [0.0559178591, 0.240247458, 0.693121791, 0.999999285] {
        let coefficient = s.splat(coefficient);
        for i in 0..N {
            p[i] = s.fma(p[i], r[i], coefficient);
        }
    }
    p
}

/// `e^(x − greatest)` for a softmax whose probabilities are rounded to `bf16`: to 1e-5 relative where it is above 1e-4, at least
/// 2⁻¹²⁶; `minus` is `−greatest · log₂ e`. Of several vectors at once.
#[inline(always)]
pub(crate) fn fast_exp_below<S: Simd, const N: usize>(s: S, mut x: [S::V; N], minus: S::V) -> [S::V; N] {
    let (log2e, low) = (s.splat(std::f32::consts::LOG2_E), s.splat(-125.0));
    let mut n = x;
    for i in 0..N {
        x[i] = s.max(low, s.fma(x[i], log2e, minus));
        n[i] = s.round(x[i]);
        x[i] = s.sub(x[i], n[i]);
    }
    x = power_of_fraction(s, x);
    for i in 0..N {
        x[i] = s.scale_by_integer(x[i], n[i]);
    }
    x
}

/// `1 / (1 + e^−x)`.
#[inline(always)]
pub(crate) fn sigmoid<S: Simd>(s: S, x: S::V) -> S::V {
    let one = s.splat(1.0);
    s.div(one, s.add(one, exp(s, s.sub(s.splat(0.0), x))))
}

/// [`sigmoid`] to 1e-5 relative, without a division, of several vectors at once.
#[inline(always)]
pub(crate) fn fast_sigmoid<S: Simd, const N: usize>(s: S, mut x: [S::V; N]) -> [S::V; N] {
    for x in &mut x {
        *x = s.sub(s.splat(0.0), *x);
    }
    let mut y = fast_exp(s, x);
    for y in &mut y {
        *y = s.reciprocal(s.add(s.splat(1.0), *y));
    }
    y
}

/// `x Φ(x)` to 7e-5 absolute, for results that are rounded to `bf16`, of several vectors at once: `Φ − ½` as an odd minimax
/// polynomial on ±4.5, beyond which it is within 4e-6 of ±½.
#[inline(always)]
pub(crate) fn fast_gelu<S: Simd, const N: usize>(s: S, mut x: [S::V; N]) -> [S::V; N] {
    let (low, high) = (s.splat(-4.5), s.splat(4.5));
    let (mut t, mut square) = (x, x);
    for i in 0..N {
        t[i] = s.max(low, s.min(high, x[i]));
        square[i] = s.mul(t[i], t[i]);
    }
    let mut p = [s.splat(3.000_012e-11); N];
    for coefficient in [
        -3.283_916_7e-9,
        1.580_258_7e-7,
        -4.431_687_6e-6,
        8.120_974e-5,
        -1.036_253_5e-3,
        9.580_654e-3,
        -6.597_727e-2,
        3.987_085_8e-1,
    ] {
        let coefficient = s.splat(coefficient);
        for i in 0..N {
            p[i] = s.fma(p[i], square[i], coefficient);
        }
    }
    let half = s.splat(0.5);
    for i in 0..N {
        x[i] = s.mul(x[i], s.fma(t[i], p[i], half));
    }
    x
}

/// The error function to 1e-7 absolute (minimax polynomials by N. Juffa, one below 0.93 and one in the exponent above).
#[inline(always)]
pub(crate) fn erf<S: Simd>(s: S, x: S::V) -> S::V {
    let t = s.abs(x);
    let square = s.mul(x, x);
    let mut small = s.splat(-5.967_617_03e-4);
    for coefficient in [4.991_194_23e-3, -2.676_813_49e-2, 1.128_199_25e-1, -3.761_253_36e-1, 1.283_791_66e-1]
    {
        small = s.fma(small, square, s.splat(coefficient));
    }
    let small = s.fma(small, x, x);
    let high = s.fma(s.splat(-1.728_534_70e-5), t, s.splat(3.831_971_26e-4));
    let low = s.fma(s.splat(-3.883_964_38e-3), t, s.splat(2.425_462_19e-2));
    let mut large = s.fma(high, square, low);
    for coefficient in [-1.067_778_77e-1, -6.348_466_87e-1, -1.287_175_12e-1] {
        large = s.fma(large, t, s.splat(coefficient));
    }
    let large = s.fma(large, t, s.sub(s.splat(0.0), t));
    let large = s.copy_sign(s.sub(s.splat(1.0), exp(s, large)), x);
    s.if_less(t, s.splat(0.927_734_375), small, large)
}

#[cfg(test)]
mod tests {
    use candle_core::cpu::erf::erf_f64 as exact_erf;

    use super::super::{Kernel, LANES, dispatch, testing::on_each_unit};
    use super::*;

    #[derive(Clone, Copy)]
    enum Function {
        Exp,
        FastExp,
        FastExpBelow,
        Erf,
        Sigmoid,
        FastSigmoid,
        FastGelu,
    }

    struct Evaluate(Function, [f32; LANES]);

    impl Kernel for Evaluate {
        type Output = [f32; LANES];

        #[inline(always)]
        fn run<S: Simd>(self, s: S) -> [f32; LANES] {
            let x = s.with_lanes(self.1);
            s.to_array(match self.0 {
                Function::Exp => exp(s, x),
                Function::FastExp => fast_exp(s, [x])[0],
                // Below 3.
                Function::FastExpBelow => fast_exp_below(s, [x], s.splat(-3.0 * std::f32::consts::LOG2_E))[0],
                Function::Erf => erf(s, x),
                Function::Sigmoid => sigmoid(s, x),
                Function::FastSigmoid => fast_sigmoid(s, [x])[0],
                Function::FastGelu => fast_gelu(s, [x])[0],
            })
        }
    }

    /// The greatest error of `function` over `count` points from `low` to `high`.
    fn greatest_error(
        function: Function,
        (low, high): (f64, f64),
        count: usize,
        error: fn(f64, f64) -> f64,
    ) -> f64 {
        let worst = on_each_unit(|_| {
            let mut worst = 0f64;
            for first in (0..count).step_by(LANES) {
                let x =
                    std::array::from_fn(|i| (low + (high - low) * (first + i) as f64 / count as f64) as f32);
                let y = dispatch(Evaluate(function, x));
                for (x, y) in x.iter().zip(y) {
                    worst = worst.max(error(f64::from(*x), f64::from(y)));
                }
            }
            worst
        });
        worst.into_iter().fold(0.0, f64::max)
    }

    #[test]
    fn exp_is_accurate() {
        let relative = |x: f64, y: f64| (y / x.exp() - 1.0).abs();
        assert!(greatest_error(Function::Exp, (-87.3, 88.7), 400_000, relative) < 2e-7);
        assert!(greatest_error(Function::Exp, (-1.0, 1.0), 100_000, relative) < 2e-7);
    }

    #[test]
    fn erf_is_accurate() {
        let absolute = |x: f64, y: f64| (y - exact_erf(x)).abs();
        assert!(greatest_error(Function::Erf, (-6.0, 6.0), 400_000, absolute) < 1e-7);
    }

    #[test]
    fn sigmoid_is_accurate() {
        // Two roundings more than the exponential.
        let relative = |x: f64, y: f64| (y * (1.0 + (-x).exp()) - 1.0).abs();
        assert!(greatest_error(Function::Sigmoid, (-80.0, 80.0), 200_000, relative) < 4e-7);
    }

    #[test]
    fn fast_forms_are_accurate() {
        let relative = |x: f64, y: f64| (y * (1.0 + (-x).exp()) - 1.0).abs();
        assert!(greatest_error(Function::FastSigmoid, (-80.0, 80.0), 200_000, relative) < 1e-5);
        let power = |x: f64, y: f64| (y / x.exp() - 1.0).abs();
        assert!(greatest_error(Function::FastExp, (-87.0, 87.0), 400_000, power) < 1e-5);
        let below = |x: f64, y: f64| (y / (x - 3.0).exp() - 1.0).abs();
        assert!(greatest_error(Function::FastExpBelow, (-6.0, 3.0), 400_000, below) < 1e-5);
        let small = |x: f64, y: f64| (y - (x - 3.0).exp()).abs();
        assert!(greatest_error(Function::FastExpBelow, (-2000.0, -6.0), 400_000, small) < 1e-8);
        let gelu = |x: f64, y: f64| (y - x * 0.5 * (1.0 + exact_erf(x / 2f64.sqrt()))).abs();
        // The polynomial's own error is 6.1e-5.
        assert!(greatest_error(Function::FastGelu, (-12.0, 12.0), 400_000, gelu) < 7e-5);
    }

    #[test]
    fn special_values() {
        let mut x = [0.0; LANES];
        x[..6].copy_from_slice(&[f32::NEG_INFINITY, f32::INFINITY, f32::NAN, -1e30, 0.0, 1e30]);
        for y in on_each_unit(|_| dispatch(Evaluate(Function::Exp, x))) {
            assert_eq!((y[0], y[3], y[4]), (0.0, 0.0, 1.0));
            assert!(y[1].is_finite() && y[5].is_finite() && y[1] > 3e38 && y[2].is_nan());
        }
        for y in on_each_unit(|_| dispatch(Evaluate(Function::FastExp, x))) {
            assert!(
                y[0] == y[3] && (0.0..2e-38).contains(&y[0]) && (y[4] - 1.0).abs() < 1e-5 && y[2].is_nan()
            );
        }
        for y in on_each_unit(|_| dispatch(Evaluate(Function::Erf, x))) {
            assert_eq!((y[0], y[1], y[3], y[4], y[5]), (-1.0, 1.0, -1.0, 0.0, 1.0));
            assert!(y[2].is_nan());
        }
        for y in on_each_unit(|_| dispatch(Evaluate(Function::Sigmoid, x))) {
            assert!(y[0].abs() < 1e-38 && y[1] == 1.0 && y[4] == 0.5 && y[2].is_nan());
        }
    }
}
