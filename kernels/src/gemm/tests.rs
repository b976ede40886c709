//! Every path against `f64`, and the promises on bits: rows, threads, packing.

use half::bf16;
use proptest::prelude::*;

use super::matrix::Output;
use super::*;
use crate::simd::Unit;
use crate::simd::testing::on_each_unit;
use crate::testing::{cases, pool, size, values};

fn rounded(value: f32) -> f64 {
    bf16::from_f32(value).to_f64()
}

/// `Σ a b + start` in `f64` and the sum of magnitudes, which scales the rounding error.
fn dot(terms: impl Iterator<Item = (f64, f64)>, start: f64) -> (f64, f64) {
    terms.fold((start, start.abs()), |(sum, size), (a, b)| (sum + a * b, size + (a * b).abs()))
}

/// A sum of `terms` exact products in `f32`, in any order, errs by at most `terms` roundings of partial sums,
/// none of which exceeds the sum of magnitudes (Higham 2002, section 3.1); one more for the bias.
fn tolerance(terms: usize, size: f64) -> f64 {
    (terms + 1) as f64 * f64::from(f32::EPSILON) / 2.0 * size * 1.01
}

fn run(path: Path, x: &[f32], w: &[f32], bias: Option<&[f32]>, (m, n, k): (usize, usize, usize)) -> Vec<f32> {
    let (left, right) = (Matrix::rows(x, m, k), Matrix::rows(w, n, k));
    Output::build(m, n, |y| product(path, left, right, bias, y))
}

/// The gradient of a weight alone, `(m, n)` from `(rows, m)` and `(rows, n)`.
fn weight_gradient(path: Path, grad: &[f32], x: &[f32], (rows, m, n): (usize, usize, usize)) -> Vec<f32> {
    let operands = Operands { grad, x, weight: &vec![0.0; m * n], rows, out_features: m, in_features: n };
    Output::build(m, n, |dw| {
        backward(path, operands, Wanted { weight: Some(dw), ..Wanted::default() });
    })
}

/// Large enough for every path to use two threads.
const LARGE: (usize, usize, usize) = (331, 250, 300);

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(24)))]

    #[test]
    fn product_matches_f64(m in 1..size(80), n in 1..size(140), k in 1..size(150), seed: u64, right_in_columns: bool) {
        let (x, w, bias) = (values(m * k, seed), values(n * k, !seed), values(n, seed ^ 7));
        let right = if right_in_columns { Matrix::columns(&w, k, n) } else { Matrix::rows(&w, n, k) };
        let weight = |j: usize, p: usize| w[if right_in_columns { p * n + j } else { j * k + p }];
        for path in Path::all() {
            let y = Output::build(m, n, |y| product(path, Matrix::rows(&x, m, k), right, Some(&bias), y));
            for (index, &found) in y.iter().enumerate() {
                let (i, j) = (index / n, index % n);
                let terms = (0..k).map(|p| (rounded(x[i * k + p]), rounded(weight(j, p))));
                let (expected, size) = dot(terms, f64::from(bias[j]));
                prop_assert!((f64::from(found) - expected).abs() <= tolerance(k, size), "{path:?} at {i}, {j}");
            }
        }
    }

    #[test]
    fn weight_gradient_matches_f64(rows in 1..size(2500), m in 1..size(50), n in 1..size(50), seed: u64) {
        let (dy, x) = (values(rows * m, seed), values(rows * n, !seed));
        for path in Path::all() {
            let dw = weight_gradient(path, &dy, &x, (rows, m, n));
            for (index, &found) in dw.iter().enumerate() {
                let (i, j) = (index / n, index % n);
                let terms = (0..rows).map(|r| (rounded(dy[r * m + i]), rounded(x[r * n + j])));
                let (expected, size) = dot(terms, 0.0);
                prop_assert!((f64::from(found) - expected).abs() <= tolerance(rows, size), "{path:?} at {i}, {j}");
            }
        }
    }

    #[test]
    fn single_precision_matches_f64(
        m in 1..size(40), n in 1..size(80), k in 1..size(600), seed: u64, left_in_columns: bool, right_in_columns: bool,
    ) {
        let (x, w, bias) = (values(m * k, seed), values(n * k, !seed), values(n, seed ^ 7));
        let left = if left_in_columns { Matrix::columns(&x, k, m) } else { Matrix::rows(&x, m, k) };
        let right = if right_in_columns { Matrix::columns(&w, k, n) } else { Matrix::rows(&w, n, k) };
        let y = Output::build(m, n, |y| product_f32(left, right, Some(&bias), y));
        for (index, &found) in y.iter().enumerate() {
            let (i, j) = (index / n, index % n);
            let a = |p: usize| x[if left_in_columns { p * m + i } else { i * k + p }];
            let b = |p: usize| w[if right_in_columns { p * n + j } else { j * k + p }];
            let terms = (0..k).map(|p| (f64::from(a(p)), f64::from(b(p))));
            let (expected, size) = dot(terms, f64::from(bias[j]));
            // Products may be rounded as well: one more rounding per term.
            prop_assert!((f64::from(found) - expected).abs() <= 2.0 * tolerance(k, size), "at {i}, {j}");
        }
    }
}

#[test]
fn rows_do_not_depend_on_their_batch() {
    let (m, n, k) = (67, 90, 130);
    let (x, w, bias) = (values(m * k, 1), values(n * k, 2), values(n, 3));
    for path in Path::all() {
        let all = run(path, &x, &w, Some(&bias), (m, n, k));
        for row in 0..m {
            let alone = run(path, &x[row * k..(row + 1) * k], &w, Some(&bias), (1, n, k));
            assert_eq!(alone, all[row * n..(row + 1) * n], "{path:?}, row {row}");
        }
    }
    let single = |x: &[f32], m: usize| {
        let (left, right) = (Matrix::rows(x, m, k), Matrix::rows(&w, n, k));
        Output::build(m, n, |y| product_f32(left, right, Some(&bias), y))
    };
    let all = single(&x, m);
    for row in 0..m {
        assert_eq!(single(&x[row * k..(row + 1) * k], 1), all[row * n..(row + 1) * n], "f32, row {row}");
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    let (m, n, k) = LARGE;
    let (x, w) = (values(m * k, 4), values(n * k, 5));
    let (one, two) = (pool(1), pool(2));
    for path in Path::all() {
        // Many rows are split by rows, few by columns.
        for m in [m, 40] {
            let product = || run(path, &x[..m * k], &w, None, (m, n, k));
            assert_eq!(one.install(product), two.install(product), "{path:?}, {m} rows");
        }
        let gradient = || weight_gradient(path, &x, &w, (k, m, n));
        assert_eq!(one.install(gradient), two.install(gradient), "{path:?}, gradient");
    }
    for m in [m, 10] {
        let (left, right) = (Matrix::rows(&x[..m * k], m, k), Matrix::rows(&w, n, k));
        let product = || Output::build(m, n, |y| product_f32(left, right, None, y));
        assert_eq!(one.install(product), two.install(product), "f32, {m} rows");
    }
}

#[test]
fn gradients_together_equal_each_alone() {
    // More rows than are taken at a time; both orders of the operands of the weight's gradient.
    for (rows, m, n) in [(2500, 20, 30), (2500, 70, 8)] {
        let (grad, x, weight) = (values(rows * m, 13), values(rows * n, 14), values(m * n, 15));
        for path in Path::all() {
            let (mut dx, mut dw, mut db) = (Fresh::new(rows, n), Fresh::new(m, n), Fresh::new(1, m));
            let wanted = Wanted { x: Some(dx.output()), weight: Some(dw.output()), bias: Some(db.output()) };
            let operands =
                Operands { grad: &grad, x: &x, weight: &weight, rows, out_features: m, in_features: n };
            backward(path, operands, wanted);
            // SAFETY: all gradients were wanted, so all are written.
            let (dx, dw, db) = unsafe { (dx.finish(), dw.finish(), db.finish()) };
            let (left, right) = (Matrix::rows(&grad, rows, m), Matrix::columns(&weight, m, n));
            let alone = Output::build(rows, n, |dx| {
                product(path, left, right, None, dx);
            });
            assert!(dx == alone, "{path:?}, x");
            assert!(dw == weight_gradient(path, &grad, &x, (rows, m, n)), "{path:?}, weight");
            // The same values in `f32`, whose sums associate otherwise at the borders of chunks.
            for (found, expected) in db.iter().zip(column_sums(&grad, m)) {
                assert!((found - expected).abs() < 1e-3, "{path:?}, bias");
            }
        }
    }
}

#[test]
fn vector_units_equal_portable_bit_for_bit() {
    let (m, n, k) = (37, 70, 95);
    let (x, w) = (values(m * k, 9), values(n * k, 10));
    let product = |path| run(path, &x, &w, None, (m, n, k));
    for path in Path::all() {
        // Dot products of `bf16` add two products at a time, in an order of their own.
        #[cfg(target_arch = "x86_64")]
        if matches!(path, Path::Amx | Path::Avx512Bf16) {
            continue;
        }
        assert!(product(path) == product(Path::Portable), "{path:?}");
    }
}

#[test]
fn single_precision_is_alike_on_every_unit() {
    // Every number of rows that a block can have; a last block of columns that is not whole; two passes over the depth.
    let (n, k) = (70, 300);
    let (w, bias) = (values(n * k, 17), values(n, 18));
    for m in 1..=17 {
        let x = values(m * k, 16);
        let results = on_each_unit(|unit| {
            let (left, right) = (Matrix::rows(&x, m, k), Matrix::rows(&w, n, k));
            (unit, Output::build(m, n, |y| product_f32(left, right, Some(&bias), y)))
        });
        let widest = &results.last().expect("a unit").1;
        for (unit, y) in &results {
            if *unit != Unit::Portable {
                assert!(y == widest, "{m} rows, {unit:?}");
                continue;
            }
            for (index, (&found, &other)) in y.iter().zip(widest).enumerate() {
                let (i, j) = (index / n, index % n);
                let terms = (0..k).map(|p| (f64::from(x[i * k + p]), f64::from(w[j * k + p])));
                let (_, size) = dot(terms, f64::from(bias[j]));
                // Products rounded here, and the roundings of the other.
                let allowed = 3.0 * tolerance(k, size);
                assert!((f64::from(found) - f64::from(other)).abs() <= allowed, "{m} rows, at {i}, {j}");
            }
        }
    }
}

#[test]
fn tiles_are_packed_alike_on_every_path() {
    let (lines, depth) = (43, 75);
    let mut data = values(lines * depth, 11);
    // Ties, infinities and not-a-number must round as `half` rounds them.
    data[..6].copy_from_slice(&[1.003_906_3, -1.011_718_8, f32::INFINITY, f32::NAN, f32::MAX, -0.0]);
    for source in [Matrix::rows(&data, lines, depth), Matrix::columns(&data, depth, lines)] {
        for side in [pack::Side::Left, pack::Side::Right] {
            let mut packed = Vec::new();
            for path in Path::all() {
                let mut tiles = vec![matrix::Line::ZERO; matrix::packed_len(lines, source.steps())];
                pack::panels_of(path, side, source, 0..4, &mut tiles);
                packed.push(tiles.iter().flat_map(matrix::Line::bits).collect::<Vec<u16>>());
            }
            assert!(packed.iter().all(|tiles| *tiles == packed[0]), "{side:?}, strided {}", source.strided);
        }
    }
}

#[test]
fn empty_sums_are_zero_and_empty_results_are_empty() {
    for path in Path::all() {
        assert_eq!(run(path, &[], &[], Some(&[1.0, 2.0]), (1, 2, 0)), [1.0, 2.0]);
        assert!(run(path, &[], &[1.0; 6], None, (0, 2, 3)).is_empty());
        assert_eq!(weight_gradient(path, &[], &[], (0, 2, 3)), [0.0; 6]);
    }
}

#[test]
fn column_sums_match_f64() {
    let (rows, columns) = (1000, 7);
    let data = values(rows * columns, 12);
    for (column, found) in column_sums(&data, columns).into_iter().enumerate() {
        let terms = (0..rows).map(|row| (f64::from(data[row * columns + column]), 1.0));
        let (expected, size) = dot(terms, 0.0);
        assert!((f64::from(found) - expected).abs() <= tolerance(rows, size));
    }
}
