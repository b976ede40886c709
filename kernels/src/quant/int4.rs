//! 4-bit groups with a half-precision scale each, the numbers of GGUF's `Q4_0`.
#![allow(clippy::inline_always)]

use half::f16;
use rayon::prelude::*;

use super::ROWS_PER_TASK;
use crate::simd::{Kernel, LANES, Simd, dispatch};

/// Neighbours in a row that share a scale.
pub const GROUP: usize = 32;

/// A matrix `(rows, columns)` in 4 bits: element `(r, c)` is `values[r · columns + c]` times scale `(r, ⌊c / 32⌋)`.
/// The last group of a row may be shorter.
#[derive(Debug, Clone, PartialEq)]
pub struct Int4Groups {
    /// −8 to 7.
    pub values: Vec<i8>,
    /// `(rows, ⌈columns / 32⌉)`; may be negative.
    pub scales: Vec<f16>,
    /// Length of a row.
    pub columns: usize,
}

impl Int4Groups {
    /// Quantises a row-major matrix. The scale of a group is, of a few candidates, the one with the least squared
    /// error; values that a `Q4_0` block of the same alignment can hold are kept exactly.
    ///
    /// # Panics
    /// If `data` does not hold whole rows.
    pub fn quantize(data: &[f32], columns: usize) -> Self {
        let rows = data.len().checked_div(columns).unwrap_or(0);
        assert_eq!(rows * columns, data.len(), "rows of {columns}");
        let groups = columns.div_ceil(GROUP);
        let (mut values, mut scales) = (vec![0; data.len()], vec![f16::ZERO; rows * groups]);
        let (block, scale_block) = ((columns * ROWS_PER_TASK).max(1), (groups * ROWS_PER_TASK).max(1));
        let from = data.par_chunks(block);
        let to = values.par_chunks_mut(block).zip(scales.par_chunks_mut(scale_block));
        from.zip(to).for_each(|(data, (values, scales))| {
            let rows = data.chunks_exact(columns).zip(values.chunks_exact_mut(columns));
            for ((row, values), scales) in rows.zip(scales.chunks_exact_mut(groups)) {
                for ((group, values), scale) in row.chunks(GROUP).zip(values.chunks_mut(GROUP)).zip(scales) {
                    *scale = quantize_group(group, values);
                }
            }
        });
        Self { values, scales, columns }
    }

    /// The values, row-major.
    pub fn dequantize(&self) -> Vec<f32> {
        let groups = self.columns.div_ceil(GROUP).max(1);
        let rows = self.values.chunks_exact(self.columns.max(1)).zip(self.scales.chunks_exact(groups));
        let groups = rows.flat_map(|(row, scales)| row.chunks(GROUP).zip(scales));
        groups.flat_map(|(group, scale)| group.iter().map(|&q| f32::from(q) * scale.to_f32())).collect()
    }
}

/// Quantises one group of at most 32 and returns its scale.
fn quantize_group(group: &[f32], values: &mut [i8]) -> f16 {
    let mut padded = [0.0; GROUP];
    padded[..group.len()].copy_from_slice(group);
    let (scale, quantized) = dispatch(QuantizeGroup(&padded));
    for (value, q) in values.iter_mut().zip(quantized) {
        *value = q as i8;
    }
    scale
}

struct QuantizeGroup<'a>(&'a [f32; GROUP]);

impl Kernel for QuantizeGroup<'_> {
    type Output = (f16, [f32; GROUP]);

    /// Nothing is fused: all units round alike and choose alike.
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Self::Output {
        let x = self.0;
        let greatest = x.iter().fold(0f32, |most, &x| if x.abs() > most.abs() { x } else { most });
        let parts = x.as_chunks::<LANES>().0;
        let x = [s.with_lanes(parts[0]), s.with_lanes(parts[1])];
        let mut best = (f16::ZERO, [s.splat(0.0); 2], f32::INFINITY);
        // Where the greatest magnitude shall lie. −8 is what `Q4_0` takes; beyond the range, it is clipped.
        for place in [-8.0, -7.5, -7.0, -8.5, -9.0, 7.0, 7.5, 8.0] {
            let mut scale = half(greatest / place);
            // The second time with the scale that suits the values of the first best.
            for _ in 0..2 {
                let (q, error) = round_with(s, x, scale.to_f32());
                if error < best.2 {
                    best = (scale, q, error);
                }
                scale = half(dot(s, x, q) / dot(s, q, q));
            }
            if best.2 == 0.0 {
                break;
            }
        }
        let mut values = [0.0; GROUP];
        values[..LANES].copy_from_slice(&s.to_array(best.1[0]));
        values[LANES..].copy_from_slice(&s.to_array(best.1[1]));
        (best.0, values)
    }
}

/// The nearest scale that is a number: 0 for 0 / 0, the greatest one for what is too large.
fn half(scale: f32) -> f16 {
    if scale.is_nan() {
        return f16::ZERO;
    }
    f16::from_f32(scale.clamp(f16::MIN.to_f32(), f16::MAX.to_f32()))
}

/// The nearest values for this scale, and their squared error.
#[inline(always)]
fn round_with<S: Simd>(s: S, x: [S::V; 2], scale: f32) -> ([S::V; 2], f32) {
    let inverse = s.splat(if scale == 0.0 { 0.0 } else { scale.recip() });
    // 1.5 · 2²³ rounds to an integer.
    let shift = s.splat(12_582_912.0);
    let (mut q, mut differences) = (x, x);
    for part in 0..2 {
        let rounded = s.sub(s.add(s.mul(x[part], inverse), shift), shift);
        q[part] = s.min(s.max(rounded, s.splat(-8.0)), s.splat(7.0));
        differences[part] = s.sub(x[part], s.mul(q[part], s.splat(scale)));
    }
    (q, dot(s, differences, differences))
}

#[inline(always)]
fn dot<S: Simd>(s: S, a: [S::V; 2], b: [S::V; 2]) -> f32 {
    s.sum(s.add(s.mul(a[0], b[0]), s.mul(a[1], b[1])))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn squared_error(a: &[f32], b: &[f32]) -> f64 {
        a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum()
    }

    /// As llama.cpp's `quantize_row_q4_0_ref` does.
    fn q4_0(x: &[f32]) -> Vec<f32> {
        let greatest = x.iter().fold(0f32, |most, &x| if x.abs() > most.abs() { x } else { most });
        let d = greatest / -8.0;
        let (inverse, stored) = (if d == 0.0 { 0.0 } else { 1.0 / d }, f16::from_f32(d).to_f32());
        x.iter().map(|x| ((x * inverse + 8.5) as i8).min(15) - 8).map(|q| f32::from(q) * stored).collect()
    }

    proptest! {
        #[test]
        fn no_worse_than_q4_0(group in prop::collection::vec(-1f32..1.0, 1..=GROUP), size in -12i32..8) {
            let group: Vec<f32> = group.iter().map(|x| x * 2f32.powi(size)).collect();
            let quantized = Int4Groups::quantize(&group, group.len());
            prop_assert!(quantized.values.iter().all(|q| (-8..8).contains(q)));
            let found = squared_error(&group, &quantized.dequantize());
            let plain = squared_error(&group, &q4_0(&group));
            // Its first candidate is theirs, up to the rounding of their scale before or after the values.
            prop_assert!(found <= plain * 1.001 + 1e-12, "{} against {}", found, plain);
            // Half a step of the plain scale, 1/16 of the greatest, for all; its own rounding to 11 bits; f16's floor.
            let greatest = group.iter().fold(0f32, |most, x| most.max(x.abs()));
            let step = f64::from(greatest) / 8.0 * 1.01 + 1e-7;
            prop_assert!(found <= (step * step) * group.len() as f64);
        }

        #[test]
        fn what_q4_0_holds_is_kept(q in prop::collection::vec(-8i8..8, 70), scale in -2f32..2.0, at in 0usize..6) {
            let mut q = q;
            // Blocks written by llama.cpp have their greatest magnitude at −8.
            for group in q.chunks_mut(GROUP) {
                let at = at % group.len();
                group[at] = -8;
            }
            let scales = vec![f16::from_f32(scale), f16::from_f32(scale / 3.0), f16::from_f32(scale * 1e-3)];
            let stored = Int4Groups { values: q, scales, columns: 70 };
            prop_assert_eq!(Int4Groups::quantize(&stored.dequantize(), 70).dequantize(), stored.dequantize());
        }
    }

    #[test]
    fn odd_groups_mean_what_they_should() {
        assert_eq!(Int4Groups::quantize(&[0.0; 40], 40).dequantize(), [0.0; 40]);
        assert!(Int4Groups::quantize(&[], 0).values.is_empty());
        // Too large for the scale: clipped, not infinite.
        assert!(Int4Groups::quantize(&[1e30, -1e30], 2).dequantize().iter().all(|x| x.is_finite()));
        // A group never looks beyond its 32.
        let mut two = vec![1.0; 64];
        two[32..].fill(1e-3);
        let found = Int4Groups::quantize(&two, 64).dequantize();
        assert!(found[32..].iter().all(|x| (x - 1e-3).abs() < 1e-6));
    }

    #[test]
    fn normal_weights_lose_little() {
        // Sums of twelve uniforms are normal enough; the relative error of 4 bits with 32 to a group is about 8 %.
        let mut state = 1u32;
        let mut uniform = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32
        };
        let x: Vec<f32> = (0..1 << 14).map(|_| (0..12).map(|_| uniform()).sum::<f32>() - 6.0).collect();
        let found = Int4Groups::quantize(&x, 1 << 14).dequantize();
        let relative = |y: &[f32]| (squared_error(&x, y) / squared_error(&x, &vec![0.0; x.len()])).sqrt();
        let plain: Vec<f32> = x.chunks(GROUP).flat_map(q4_0).collect();
        assert!(
            relative(&found) < 0.95 * relative(&plain),
            "{} against {}",
            relative(&found),
            relative(&plain)
        );
        assert!(relative(&found) < 0.085, "{}", relative(&found));
    }
}
