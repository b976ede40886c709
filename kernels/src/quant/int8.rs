//! Symmetric 8-bit rows.
#![allow(clippy::inline_always)]

use rayon::prelude::*;

use super::ROWS_PER_TASK;
use crate::simd::{Kernel, Simd, dispatch};

/// A matrix `(rows, columns)` in 8 bits: element `(r, c)` is `values[r · columns + c] · scales[r]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Int8Rows {
    /// −127 to 127.
    pub values: Vec<i8>,
    /// One a row.
    pub scales: Vec<f32>,
    /// Length of a row.
    pub columns: usize,
}

impl Int8Rows {
    /// Quantises a row-major matrix; see [`quantize_row`].
    ///
    /// # Panics
    /// If `data` does not hold whole rows.
    pub fn quantize(data: &[f32], columns: usize) -> Self {
        let rows = data.len().checked_div(columns).unwrap_or(0);
        assert_eq!(rows * columns, data.len(), "rows of {columns}");
        let (mut values, mut scales) = (vec![0; data.len()], vec![0.0; rows]);
        let block = (columns * ROWS_PER_TASK).max(1);
        let from = data.par_chunks(block);
        let to = values.par_chunks_mut(block).zip(scales.par_chunks_mut(ROWS_PER_TASK));
        from.zip(to).for_each(|(data, (values, scales))| {
            let rows = data.chunks_exact(columns).zip(values.chunks_exact_mut(columns));
            for ((row, values), scale) in rows.zip(scales) {
                *scale = quantize_row(row, values);
            }
        });
        Self { values, scales, columns }
    }

    /// The values, row-major.
    pub fn dequantize(&self) -> Vec<f32> {
        let rows = self.values.chunks_exact(self.columns.max(1)).zip(&self.scales);
        rows.flat_map(|(row, &scale)| row.iter().map(move |&q| f32::from(q) * scale)).collect()
    }
}

/// Quantises one row: the scale is the greatest magnitude divided by 127, values are rounded to nearest, ties to even.
///
/// Returns the scale. A row whose magnitudes are all below 2⁻¹²⁰ becomes zeros; infinities and not-a-number are
/// passed on through the scale.
///
/// # Panics
/// If the slices differ in length.
pub fn quantize_row(row: &[f32], values: &mut [i8]) -> f32 {
    assert_eq!(row.len(), values.len());
    dispatch(QuantizeRow(row, values))
}

struct QuantizeRow<'a>(&'a [f32], &'a mut [i8]);

impl Kernel for QuantizeRow<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> f32 {
        quantize_into(self.0, self.1)
    }
}

/// [`quantize_row`] inside a kernel. Plain loops, which the compiler makes vectors of for each unit. Every step is exact or rounds
/// one way, so that all units agree.
#[inline(always)]
pub(crate) fn quantize_into(row: &[f32], values: &mut [i8]) -> f32 {
    // As integers, magnitudes order as numbers do, with infinity and then not-a-number last.
    let magnitude = |x: &f32| x.to_bits() & 0x7fff_ffff;
    let greatest = f32::from_bits(row.iter().map(magnitude).fold(0, u32::max));
    let inverse = 127.0 / greatest;
    if !(inverse.is_finite() && greatest.is_finite()) {
        values.fill(0);
        return greatest / 127.0;
    }
    for (value, x) in values.iter_mut().zip(row) {
        // 1.5 · 2²³ rounds the sum to an integer, which the low bits then hold.
        *value = (x * inverse + 12_582_912.0).to_bits() as i8;
    }
    greatest / 127.0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::simd::testing::on_each_unit;

    proptest! {
        #[test]
        fn errors_stay_below_half_a_step(
            rows in prop::collection::vec(prop::collection::vec(-1e3f32..1e3, 37), 0..20), small in -40i32..3,
        ) {
            let data: Vec<f32> = rows.concat().iter().map(|x| x * 2f32.powi(small)).collect();
            let quantized = Int8Rows::quantize(&data, 37);
            for (row, (found, &scale)) in
                data.chunks(37).zip(quantized.dequantize().chunks(37).zip(&quantized.scales))
            {
                let greatest = row.iter().fold(0f32, |most, x| most.max(x.abs()));
                prop_assert_eq!(scale, greatest / 127.0);
                for (x, y) in row.iter().zip(found) {
                    // Half a step, and the roundings of the two divisions and the product.
                    prop_assert!((x - y).abs() <= scale * 0.5001, "{} became {} with scale {}", x, y, scale);
                }
            }
            prop_assert!(quantized.values.iter().all(|&q| q != i8::MIN));
        }
    }

    #[test]
    fn odd_rows_mean_what_they_should() {
        let zeros = Int8Rows::quantize(&[0.0, -0.0, 1e-40], 3);
        assert_eq!((zeros.dequantize()[0], zeros.values), (0.0, vec![0; 3]));
        assert_eq!(Int8Rows::quantize(&[0.0; 2], 2).scales, [0.0]);
        assert_eq!(Int8Rows::quantize(&[f32::INFINITY, 1.0], 2).scales, [f32::INFINITY]);
        assert!(Int8Rows::quantize(&[1.0, f32::NAN, f32::INFINITY], 3).scales[0].is_nan());
        assert!(Int8Rows::quantize(&[], 0).values.is_empty());
        // Ties go to the even neighbour.
        let ties = Int8Rows::quantize(&[127.0, 0.5, 1.5, -2.5, -127.0], 5);
        assert_eq!(ties.values, [127, 0, 2, -2, -127]);
    }

    #[test]
    fn vector_units_agree() {
        let row: Vec<f32> = (0..1003).map(|i| ((i * 7919 % 1009) as f32 - 504.5) * 1.37e-3).collect();
        let results = on_each_unit(|_| {
            let mut values = vec![0; row.len()];
            (quantize_row(&row, &mut values), values)
        });
        assert!(results.iter().all(|result| *result == results[0]));
    }
}
