//! From attenuation to the numbers of a detector: scatter, blur, quantum noise and the display curve.

use crate::rng::{Rng, mix};
use crate::shapes::Plane;
use crate::technique::{Grid, Technique};

/// Full scale of the stored numbers: 12 bits.
pub(crate) const FULL_SCALE: f32 = 4095.0;
/// Edge of the grid on which scatter is computed; scatter has no detail finer than this.
const COARSE: usize = 32;
/// Standard deviation of the scattered light, mm: three box filters come close to a Gaussian of it.
const REACH: f32 = 42.0;
/// Stored value behind the blades of the collimator.
const SHUTTER: f32 = 24.0;

/// Exposes a detector to the attenuation of `plane`; `noise` seeds the quanta.
pub(crate) fn expose(mut plane: Plane, technique: &Technique, noise: u64) -> Vec<u16> {
    let grid = plane.grid;
    for value in &mut plane.data {
        *value = exp_negative(*value);
    }
    add_scatter(&mut plane, technique.scatter);
    blur(&mut plane, technique.blur / grid.spacing);
    // What a reading station does to every chest: the slow differences are flattened so that detail shows everywhere.
    let local = Local::of(&plane, |light| -ln(light.clamp(0.01, 0.6)));
    let quanta = technique.quanta * grid.spacing * grid.spacing;
    let mut pixels = vec![0u16; plane.data.len()];
    // Automatic exposure: the chest as a whole lands in the middle of the scale.
    let middle = local.mean() + technique.middle;
    let (mut around, mut noise_row) = (vec![0.0f32; grid.size], vec![0.0f32; grid.size]);
    for (j, (row, out)) in
        plane.data.chunks_exact(grid.size).zip(pixels.chunks_exact_mut(grid.size)).enumerate()
    {
        let mut state = mix(noise ^ mix(j as u64));
        local.row(j, &mut around);
        for value in &mut noise_row {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            *value = gauss(state);
        }
        for (((light, around), noise), pixel) in row.iter().zip(&around).zip(&noise_row).zip(out) {
            let noisy = light + noise * (light / quanta).sqrt();
            // The curve of a film or of a processed detector: straight in the middle, soft at both ends.
            let z = technique.contrast
                * (-ln(noisy.max(1e-4)) - middle - technique.flattening * (around - middle));
            let shown = z / (1.0 + z * z).sqrt();
            *pixel = (0.5 * FULL_SCALE * (1.0 + shown) + 0.5) as u16;
        }
    }
    if let Some(blades) = technique.blades {
        shut(&mut pixels, &grid, blades);
    }
    pixels
}

/// A wide blur of a picture: coarse in height, already filled in across.
struct Local {
    /// `coarse` rows of `size` values.
    rows: Vec<f32>,
    coarse: usize,
    size: usize,
}

impl Local {
    /// Means of cells through `value`, blurred by [`REACH`].
    fn of(plane: &Plane, value: impl Fn(f32) -> f32) -> Self {
        let size = plane.grid.size;
        let coarse = COARSE.min(size);
        let mut cells = cell_means(plane, coarse);
        for cell in &mut cells {
            *cell = value(*cell);
        }
        let cell = plane.grid.spacing * size as f32 / coarse as f32;
        // Three boxes of half width r have the variance r (r + 1).
        let radius = ((REACH / cell).powi(2) + 0.25).sqrt() - 0.5;
        for _ in 0..3 {
            box_both_ways(&mut cells, coarse, radius.round() as usize);
        }
        let mut rows = Vec::with_capacity(coarse * size);
        for line in cells.chunks_exact(coarse) {
            rows.extend((0..size).map(|i| {
                let (left, right, t) = neighbours(i, coarse, size);
                line[left] * (1.0 - t) + line[right] * t
            }));
        }
        Self { rows, coarse, size }
    }

    /// The mean over the middle of the picture.
    fn mean(&self) -> f32 {
        let rows = self.coarse / 6..self.coarse - self.coarse / 6;
        let columns = self.size / 6..self.size - self.size / 6;
        let count = (rows.len() * columns.len()) as f32;
        rows.map(|j| self.rows[j * self.size..][columns.clone()].iter().sum::<f32>()).sum::<f32>() / count
    }

    /// The blurred values along row `j` of the full picture.
    fn row(&self, j: usize, out: &mut [f32]) {
        let (above, below, t) = neighbours(j, self.coarse, self.size);
        let (above, below) = (&self.rows[above * self.size..], &self.rows[below * self.size..]);
        for ((value, a), b) in out.iter_mut().zip(above).zip(below) {
            *value = a * (1.0 - t) + b * t;
        }
    }
}

/// Means over `coarse` by `coarse` cells.
fn cell_means(plane: &Plane, coarse: usize) -> Vec<f32> {
    let size = plane.grid.size;
    let mut cells = vec![0.0f32; coarse * coarse];
    let mut counts = vec![0.0f32; coarse * coarse];
    for (j, row) in plane.data.chunks_exact(size).enumerate() {
        let line = j * coarse / size * coarse;
        for i in 0..coarse {
            let (from, to) = (i * size / coarse, (i + 1) * size / coarse);
            cells[line + i] += row[from..to].iter().sum::<f32>();
            counts[line + i] += (to - from) as f32;
        }
    }
    for (cell, count) in cells.iter_mut().zip(counts) {
        *cell /= count;
    }
    cells
}

/// Adds `share` of a wide blur of the primary light.
fn add_scatter(plane: &mut Plane, share: f32) {
    // Air beside the body scatters nothing; unattenuated light must not flood the picture.
    let scattered = Local::of(plane, |light| light.min(0.35) * share);
    let mut line = vec![0.0f32; plane.grid.size];
    for (j, row) in plane.data.chunks_exact_mut(plane.grid.size).enumerate() {
        scattered.row(j, &mut line);
        for (value, add) in row.iter_mut().zip(&line) {
            *value += add;
        }
    }
}

/// The two coarse cells around fine cell `index` of `size`, and the weight of the second.
fn neighbours(index: usize, coarse: usize, size: usize) -> (usize, usize, f32) {
    let scale = coarse as f32 / size as f32;
    let at = ((index as f32 + 0.5) * scale - 0.5).clamp(0.0, (coarse - 1) as f32);
    let low = at as usize;
    (low, (low + 1).min(coarse - 1), at - low as f32)
}

/// A box filter of half width `radius` along rows and columns of a square, edges repeated.
fn box_both_ways(cells: &mut [f32], size: usize, radius: usize) {
    let mut line = vec![0.0f32; size];
    for (step, stride) in [(1, size), (size, 1)] {
        for start in 0..size {
            let at = |i: isize| cells[start * stride + i.clamp(0, size as isize - 1) as usize * step];
            let reach = radius as isize;
            let mut sum: f32 = (-reach..=reach).map(at).sum();
            for (i, value) in line.iter_mut().enumerate() {
                *value = sum / (2 * radius + 1) as f32;
                sum += at(i as isize + reach + 1) - at(i as isize - reach);
            }
            for (i, value) in line.iter().enumerate() {
                cells[start * stride + i * step] = *value;
            }
        }
    }
}

/// A Gaussian of `sigma` pixels along both axes.
fn blur(plane: &mut Plane, sigma: f32) {
    let size = plane.grid.size;
    let reach = ((2.5 * sigma).ceil() as usize).clamp(1, 12);
    // The pixel's own area adds a little, and keeps the weights finite for a blur of nothing.
    let variance = sigma * sigma + 0.08;
    let mut weights: Vec<f32> = (0..=reach).map(|k| (-0.5 * (k * k) as f32 / variance).exp()).collect();
    let total = weights[0] + 2.0 * weights[1..].iter().sum::<f32>();
    for weight in &mut weights {
        *weight /= total;
    }
    let mut padded = vec![0.0f32; size + 2 * reach];
    for row in plane.data.chunks_exact_mut(size) {
        padded[reach..reach + size].copy_from_slice(row);
        padded[..reach].fill(row[0]);
        padded[reach + size..].fill(row[size - 1]);
        for (i, value) in row.iter_mut().enumerate() {
            *value *= weights[0];
            for (k, weight) in weights.iter().enumerate().skip(1) {
                *value += weight * (padded[i + reach - k] + padded[i + reach + k]);
            }
        }
    }
    let source = plane.data.clone();
    for j in 0..size {
        let row = &mut plane.data[j * size..(j + 1) * size];
        for value in row.iter_mut() {
            *value *= weights[0];
        }
        for (k, weight) in weights.iter().enumerate().skip(1) {
            let above = &source[j.saturating_sub(k) * size..][..size];
            let below = &source[(j + k).min(size - 1) * size..][..size];
            for ((value, a), b) in row.iter_mut().zip(above).zip(below) {
                *value += weight * (a + b);
            }
        }
    }
}

/// Blanks what the collimator's blades cover.
fn shut(pixels: &mut [u16], grid: &Grid, blades: [f32; 4]) {
    let edge = 0.5 * grid.spacing * grid.size as f32;
    let open = |low: f32, high: f32, mm: f32| {
        ((mm - low).min(high - mm) / (1.5 * grid.spacing) + 0.5).clamp(0.0, 1.0)
    };
    let across: Vec<f32> =
        (0..grid.size).map(|i| open(blades[0] - edge, edge - blades[2], grid.centre(i))).collect();
    for (j, row) in pixels.chunks_exact_mut(grid.size).enumerate() {
        let down = open(blades[1] - edge, edge - blades[3], grid.centre(j));
        for (pixel, across) in row.iter_mut().zip(&across) {
            let light = down * across;
            if light < 1.0 {
                *pixel = (SHUTTER + light * (f32::from(*pixel) - SHUTTER)).max(0.0) as u16;
            }
        }
    }
}

/// `exp(-x)` for `x` in `[0, 80]`, relative error below 2e-6; written so that the loop around it is vectorised, which a
/// call of the system's `exp` would prevent.
pub(crate) fn exp_negative(x: f32) -> f32 {
    const SHIFT: f32 = 12_582_912.0;
    let t = x.clamp(0.0, 80.0) * -std::f32::consts::LOG2_E;
    let shifted = t + SHIFT;
    let whole = shifted - SHIFT;
    let r = (t - whole) * std::f32::consts::LN_2;
    let p = 1.0 + r * (1.0 + r * (0.5 + r * (1.0 / 6.0 + r * (1.0 / 24.0 + r * (1.0 / 120.0)))));
    let power = f32::from_bits((shifted.to_bits().wrapping_sub(SHIFT.to_bits()).wrapping_add(127)) << 23);
    p * power
}

/// Natural logarithm of a positive normal number, absolute error below 2e-6.
pub(crate) fn ln(x: f32) -> f32 {
    // Exponent such that the mantissa lies in [2/3, 4/3).
    let bits = x.to_bits();
    let exponent = (bits.wrapping_sub(0x3f2a_aaab) as i32) >> 23;
    let m = f32::from_bits(bits.wrapping_sub((exponent << 23) as u32));
    let s = (m - 1.0) / (m + 1.0);
    let s2 = s * s;
    2.0 * s * (1.0 + s2 * (1.0 / 3.0 + s2 * (0.2 + s2 * (1.0 / 7.0 + s2 * (1.0 / 9.0)))))
        + exponent as f32 * std::f32::consts::LN_2
}

/// A nearly normal number of one counter: the sum of four 16-bit uniforms of its SplitMix64 image, scaled to variance one.
fn gauss(counter: u64) -> f32 {
    let mut z = counter;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^= z >> 31;
    let sum = (z & 0xffff) + ((z >> 16) & 0xffff) + ((z >> 32) & 0xffff) + (z >> 48);
    // Four uniforms have mean 2 and variance 1/3.
    (sum as i64 - 2 * 0xffff) as f32 * (1.732_050_8 / 65_535.0)
}

/// A lattice of random values, smoothly filled in: texture with details of about `cell` mm, around one.
pub(crate) fn mottle(texture: u64, cell: f32, u: f32, v: f32) -> f32 {
    let (x, y) = (u / cell, v / cell);
    let (x0, y0) = (x.floor(), y.floor());
    let ease = |t: f32| t * t * (3.0 - 2.0 * t);
    let (tx, ty) = (ease(x - x0), ease(y - y0));
    let node = |dx: i64, dy: i64| {
        let key = (x0 as i64 + dx) as u64 ^ ((y0 as i64 + dy) as u64).rotate_left(32) ^ texture;
        (mix(key) >> 40) as f32 * (1.0 / 16_777_216.0)
    };
    let top = node(0, 0) * (1.0 - tx) + node(1, 0) * tx;
    let bottom = node(0, 1) * (1.0 - tx) + node(1, 1) * tx;
    0.72 + 0.56 * (top * (1.0 - ty) + bottom * ty)
}

/// The noise seed of a study.
pub(crate) fn noise_seed(seed: u64, index: u64) -> u64 {
    Rng::new(seed, index, 9).next_u64()
}

#[cfg(test)]
mod tests {
    use super::{exp_negative, gauss, ln};
    use crate::rng::mix;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn exp_and_ln_follow_the_library(x in 0.0f32..60.0) {
            let exact = (-f64::from(x)).exp();
            // Degree five on half an octave: the remainder is 0.35^6 / 720, 2.5e-6, plus rounding of x log2(e).
            prop_assert!((f64::from(exp_negative(x)) / exact - 1.0).abs() < 1e-5);
            let positive = x + 1e-4;
            prop_assert!((f64::from(ln(positive)) - f64::from(positive).ln()).abs() < 3e-6);
        }
    }

    #[test]
    fn noise_has_unit_variance() {
        let n = 40_000u64;
        let draws: Vec<f64> = (0..n).map(|i| f64::from(gauss(mix(i)))).collect();
        let mean = draws.iter().sum::<f64>() / n as f64;
        let variance = draws.iter().map(|v| v * v).sum::<f64>() / n as f64;
        // Four standard errors: 4 / sqrt(40000) for the mean, about 4 * sqrt(1.7 / 40000) for the variance.
        assert!(mean.abs() < 0.02 && (variance - 1.0).abs() < 0.026, "{mean} {variance}");
    }
}
