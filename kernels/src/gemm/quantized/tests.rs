//! Every path against plain integers and `f64`, and the promises on bits: rows, threads, paths.

use std::sync::Mutex;

use proptest::prelude::*;

use super::kernel::BLOCK;
use super::*;
use crate::quant::{GROUP, Int4Groups, Int8Rows};
use crate::simd::Simd;
use crate::testing::{cases, pool, size, values};

/// A weight in either format.
enum Packed {
    Int8(Int8Weight),
    Int4(Int4Weight),
}

impl Packed {
    fn both(weight: &[f32], n: usize, k: usize) -> [Self; 2] {
        [Self::Int8(Int8Weight::new(weight, n, k)), Self::Int4(Int4Weight::new(weight, n, k))]
    }

    fn product(&self, path: Path, x: &[f32], rows: usize, bias: Option<&[f32]>) -> Vec<f32> {
        match self {
            Self::Int8(weight) => product((weight, weight.shape()), path, x, rows, bias),
            Self::Int4(weight) => product((weight, weight.shape()), path, x, rows, bias),
        }
    }
}

/// Rows in 8 bits.
fn quantized(x: &[f32], rows: usize, inner: usize) -> QuantizedRows {
    assert_eq!(x.len(), rows * inner);
    QuantizedRows::build(rows, inner, (true, true), &Plain(x, inner))
}

/// Rows of so many elements.
struct Plain<'a>(&'a [f32], usize);

impl RowSource for Plain<'_> {
    fn row<'a, S: Simd>(&'a self, _: S, row: usize, _: &'a mut [f32]) -> &'a [f32] {
        &self.0[row * self.1..][..self.1]
    }
}

/// Calls a closure with the rows that are done.
struct Each<F>(F);

impl<F: FnMut(Place, &[Row])> Finish for Each<F> {
    fn finish<S: Simd>(&mut self, _: S, place: Place, rows: &mut [Row]) {
        self.0(place, rows);
    }
}

/// `(rows, out)`, the columns shared by the threads of the pool.
fn product(
    (weight, (width, inner)): (&impl Weight, (usize, usize)),
    path: Path,
    x: &[f32],
    rows: usize,
    bias: Option<&[f32]>,
) -> Vec<f32> {
    let x = quantized(x, rows, inner);
    let out = Mutex::new(vec![f32::NAN; rows * width]);
    let pairs = width.div_ceil(BLOCK);
    let threads = rayon::current_num_threads();
    parallel::run(threads, |thread| {
        weight.columns(
            path,
            &x,
            parallel::part(pairs, threads, thread),
            bias,
            Each(|place: Place, block: &[Row]| {
                let mut out = out.lock().unwrap();
                for (row, values) in block.iter().enumerate() {
                    let to = (place.row + row) * width + place.column;
                    out[to..to + place.columns].copy_from_slice(&values[..place.columns]);
                }
            }),
        );
    });
    out.into_inner().unwrap()
}

/// The formula of the 8-bit product, with plain loops.
fn int8_by_hand(x: &[f32], w: &[f32], bias: &[f32], (m, n, k): (usize, usize, usize)) -> Vec<f32> {
    let (x, w) = (Int8Rows::quantize(x, k), Int8Rows::quantize(w, k));
    let element = |index: usize| {
        let (i, j) = (index / n, index % n);
        let terms = x.values[i * k..(i + 1) * k].iter().zip(&w.values[j * k..(j + 1) * k]);
        let sum: i32 = terms.map(|(&a, &b)| i32::from(a) * i32::from(b)).sum();
        sum as f32 * (x.scales[i] * w.scales[j]) + bias[j]
    };
    (0..m * n).map(element).collect()
}

/// The formula of the 4-bit product, with plain loops.
fn int4_by_hand(x: &[f32], w: &[f32], bias: &[f32], (m, n, k): (usize, usize, usize)) -> Vec<f32> {
    let (x, w) = (Int8Rows::quantize(x, k), Int4Groups::quantize(w, k));
    let element = |index: usize| {
        let (i, j) = (index / n, index % n);
        let groups =
            x.values[i * k..(i + 1) * k].chunks(GROUP).zip(w.values[j * k..(j + 1) * k].chunks(GROUP));
        let scales = &w.scales[j * k.div_ceil(GROUP)..];
        let sum = groups.zip(scales).fold(0f32, |sum, ((x, w), scale)| {
            let of_group: i32 = x.iter().zip(w).map(|(&a, &b)| i32::from(a) * i32::from(b)).sum();
            (of_group as f32).mul_add(scale.to_f32(), sum)
        });
        sum * x.scales[i] + bias[j]
    };
    (0..m * n).map(element).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(128)))]

    #[test]
    fn int8_is_its_formula_on_every_path(m in 0..size(70), n in 0..size(100), k in 1..size(300), seed: u64) {
        let (x, w, bias) = (values(m * k, seed), values(n * k, !seed), values(n, seed ^ 7));
        let expected = int8_by_hand(&x, &w, &bias, (m, n, k));
        let weight = Packed::Int8(Int8Weight::new(&w, n, k));
        for path in Path::all() {
            prop_assert!(weight.product(path, &x, m, Some(&bias)) == expected, "{path:?}");
        }
    }

    #[test]
    fn int8_is_near_the_product(m in 1..size(20), n in 1..size(70), k in 1..size(200), seed: u64) {
        let (x, w) = (values(m * k, seed), values(n * k, !seed));
        let y = Packed::Int8(Int8Weight::new(&w, n, k)).product(Path::best(), &x, m, None);
        let (xs, ws) = (Int8Rows::quantize(&x, k).scales, Int8Rows::quantize(&w, k).scales);
        for (index, &found) in y.iter().enumerate() {
            let (i, j) = (index / n, index % n);
            let pairs = || (0..k).map(|p| (f64::from(x[i * k + p]), f64::from(w[j * k + p])));
            let expected: f64 = pairs().map(|(a, b)| a * b).sum();
            // Each factor is off by half a step at most, and there are a few roundings.
            let (a, b) = (f64::from(xs[i]) * 0.501, f64::from(ws[j]) * 0.501);
            let bound: f64 = pairs().map(|(x, w)| x.abs() * b + w.abs() * a + a * b).sum();
            prop_assert!((f64::from(found) - expected).abs() <= bound, "at {i}, {j}");
        }
    }

    #[test]
    fn int4_is_its_formula_on_every_path(m in 0..size(70), n in 0..size(100), k in 1..size(300), seed: u64) {
        let (x, w, bias) = (values(m * k, seed), values(n * k, !seed), values(n, seed ^ 7));
        let expected = int4_by_hand(&x, &w, &bias, (m, n, k));
        let weight = Packed::Int4(Int4Weight::new(&w, n, k));
        for path in Path::all() {
            prop_assert!(weight.product(path, &x, m, Some(&bias)) == expected, "{path:?}");
        }
    }

    #[test]
    fn int4_is_near_the_product(m in 1..size(20), n in 1..size(70), k in 1..size(200), seed: u64) {
        let (x, w) = (values(m * k, seed), values(n * k, !seed));
        let weight = Int4Weight::new(&w, n, k);
        let plain = weight.dequantize();
        let y = Packed::Int4(weight).product(Path::best(), &x, m, None);
        let scales = Int8Rows::quantize(&x, k).scales;
        for (index, &found) in y.iter().enumerate() {
            let (i, j) = (index / n, index % n);
            let pairs = || (0..k).map(|p| (f64::from(x[i * k + p]), f64::from(plain[j * k + p])));
            let expected: f64 = pairs().map(|(a, b)| a * b).sum();
            // Each activation is off by half a step at most; and there is a rounding for each group, and a few more.
            let (sum, size) = pairs().fold((0.0, 0.0), |(sum, size), (a, b)| (sum + b.abs(), size + (a * b).abs()));
            let bound = sum * f64::from(scales[i]) * 0.501 + size * 20.0 * f64::from(f32::EPSILON);
            prop_assert!((f64::from(found) - expected).abs() <= bound, "at {i}, {j}");
        }
    }

    #[test]
    fn packing_keeps_every_value(n in 0..size(70), k in 0..size(150), seed: u64) {
        let w = values(n * k, seed);
        prop_assert_eq!(Int8Weight::new(&w, n, k).dequantize(), Int8Rows::quantize(&w, k).dequantize());
        prop_assert_eq!(Int4Weight::new(&w, n, k).dequantize(), Int4Groups::quantize(&w, k).dequantize());
    }
}

#[test]
fn rows_do_not_depend_on_their_batch() {
    // More rows than one pass takes, two blocks and a part, in and out no multiples of anything.
    let (m, n, k) = (300, 75, 1100);
    let (x, w, bias) = (values(m * k, 1), values(n * k, 2), values(n, 3));
    for weight in Packed::both(&w, n, k) {
        for path in Path::all() {
            let all = weight.product(path, &x, m, Some(&bias));
            let parts = [
                (0, 1),
                (31, 1),
                (32, 1),
                (299, 1),
                (256, 2),
                (40, 8),
                (11, 15),
                (7, 16),
                (60, 24),
                (100, 25),
                (3, 90),
            ];
            for (first, count) in parts {
                let part = weight.product(path, &x[first * k..(first + count) * k], count, Some(&bias));
                assert!(part == all[first * n..(first + count) * n], "{path:?}, {count} rows from {first}");
            }
        }
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    let (m, n, k) = (200, 1100, 1300);
    let (x, w) = (values(m * k, 4), values(n * k, 5));
    let (one, two) = (pool(1), pool(2));
    for weight in Packed::both(&w, n, k) {
        // The slow paths share the code that splits the work.
        for path in Path::all().take(2) {
            for m in [1, m] {
                let product = || weight.product(path, &x[..m * k], m, None);
                assert!(one.install(product) == two.install(product), "{path:?}, {m} rows");
            }
        }
    }
}

#[test]
fn large_values_do_not_overflow() {
    // Every product is 127²; VNNI's detour over unsigned bytes stays exact.
    let k = 5000;
    let weight = Packed::Int8(Int8Weight::new(&vec![-1.0; 2 * k], 2, k));
    let int4 = Packed::Int4(Int4Weight::new(&vec![-1.0; 2 * k], 2, k));
    for path in Path::all() {
        let (x, w) = (vec![1.0; k], vec![-1.0; 2 * k]);
        let y = weight.product(path, &x, 1, None);
        assert_eq!(y, int8_by_hand(&x, &w, &[0.0; 2], (1, 2, k)), "{path:?}");
        let y = int4.product(path, &x, 1, None);
        assert_eq!(y, int4_by_hand(&x, &w, &[0.0; 2], (1, 2, k)), "{path:?}");
    }
}

#[test]
fn nothing_in_gives_the_bias() {
    for path in Path::all() {
        for weight in Packed::both(&[], 2, 0) {
            assert_eq!(weight.product(path, &[], 3, Some(&[1.0, 2.0])), [1.0, 2.0, 1.0, 2.0, 1.0, 2.0]);
        }
        for weight in Packed::both(&[1.0; 6], 2, 3) {
            assert!(weight.product(path, &[], 0, None).is_empty());
            // A row of zeros has the scale 0.
            assert_eq!(weight.product(path, &[0.0; 3], 1, Some(&[1.0, 2.0])), [1.0, 2.0]);
        }
        for weight in Packed::both(&[], 0, 3) {
            assert!(weight.product(path, &[1.0; 3], 1, None).is_empty());
        }
    }
}

#[test]
fn what_is_not_finite_stays_in_its_row() {
    let k = 40;
    for weight in Packed::both(&values(3 * k, 8), 3, k) {
        for path in Path::all() {
            let mut x = values(3 * k, 9);
            let before = weight.product(path, &x, 3, None);
            x[k] = f32::NAN;
            let after = weight.product(path, &x, 3, None);
            assert!(after[3..6].iter().all(|y| y.is_nan()), "{path:?}");
            assert!(after[..3] == before[..3] && after[6..] == before[6..], "{path:?}");
        }
    }
}

#[test]
fn an_epilogue_sees_every_element_once() {
    let (m, n, k) = (300, 75, 70);
    let (x, w) = (values(m * k, 10), values(n * k, 11));
    let (int8, int4) = (Int8Weight::new(&w, n, k), Int4Weight::new(&w, n, k));
    let path = Path::best();
    let mut out = [vec![0.0; m * n], vec![0.0; m * n]];
    let mut add = |which: usize, place: Place, block: &[Row]| {
        assert!(place.rows == block.len() && place.column.is_multiple_of(BLOCK));
        for (row, values) in block.iter().enumerate() {
            for (column, value) in values[..place.columns].iter().enumerate() {
                out[which][(place.row + row) * n + place.column + column] += value;
            }
        }
    };
    let rows = quantized(&x, m, k);
    for pairs in [0..1, 1..3] {
        int8.columns(path, &rows, pairs.clone(), None, Each(|place, block: &[Row]| add(0, place, block)));
        int4.columns(path, &rows, pairs, None, Each(|place, block: &[Row]| add(1, place, block)));
    }
    assert!(out[0] == Packed::Int8(int8).product(path, &x, m, None));
    assert!(out[1] == Packed::Int4(int4).product(path, &x, m, None));
}

#[test]
fn memory_is_what_the_format_says() {
    let weight = vec![0.5; 64 * 128];
    assert_eq!(Int8Weight::new(&weight, 64, 128).bytes(), 64 * 128 + 64 * 4);
    assert_eq!(Int4Weight::new(&weight, 64, 128).bytes() * 16, 64 * 128 * 9);
}
