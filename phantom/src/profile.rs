//! Smooth curves through a few knots: how wide an organ is at each height.

/// A cubic Hermite curve (finite-difference slopes) through knots of increasing position, constant outside.
#[derive(Debug, Clone)]
pub(crate) struct Profile {
    knots: Vec<(f32, f32)>,
    slopes: Vec<f32>,
}

impl Profile {
    /// `knots`: at least two `(position, value)` pairs with strictly increasing positions.
    pub(crate) fn new(knots: Vec<(f32, f32)>) -> Self {
        let secant = |i: usize| {
            let ((x0, y0), (x1, y1)) = (knots[i], knots[i + 1]);
            (y1 - y0) / (x1 - x0)
        };
        let last = knots.len() - 1;
        let slopes = (0..=last)
            .map(|i| match i {
                0 => secant(0),
                i if i == last => secant(last - 1),
                // Zero slope at a turning point keeps the curve from overshooting its knots.
                i if secant(i - 1) * secant(i) <= 0.0 => 0.0,
                i => {
                    let (a, b) = (secant(i - 1), secant(i));
                    2.0 * a * b / (a + b)
                }
            })
            .collect();
        Self { knots, slopes }
    }

    pub(crate) fn at(&self, position: f32) -> f32 {
        let last = self.knots.len() - 1;
        if position <= self.knots[0].0 {
            return self.knots[0].1;
        }
        if position >= self.knots[last].0 {
            return self.knots[last].1;
        }
        let i = self.knots.partition_point(|k| k.0 <= position) - 1;
        let ((x0, y0), (x1, y1)) = (self.knots[i], self.knots[i + 1]);
        let width = x1 - x0;
        let t = (position - x0) / width;
        let (t2, t3) = (t * t, t * t * t);
        y0 * (2.0 * t3 - 3.0 * t2 + 1.0)
            + self.slopes[i] * width * (t3 - 2.0 * t2 + t)
            + y1 * (3.0 * t2 - 2.0 * t3)
            + self.slopes[i + 1] * width * (t3 - t2)
    }
}

#[cfg(test)]
mod tests {
    use super::Profile;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn passes_its_knots_and_never_leaves_their_range(
            values in proptest::collection::vec(-50.0f32..50.0, 2..8), at in -1.0f32..9.0,
        ) {
            let curve = Profile::new(values.iter().enumerate().map(|(i, v)| (i as f32, *v)).collect());
            for (i, v) in values.iter().enumerate() {
                // Rounding of sums of four products of values up to 50.
                prop_assert!((curve.at(i as f32) - v).abs() < 1e-3);
            }
            let low = values.iter().copied().fold(f32::MAX, f32::min);
            let high = values.iter().copied().fold(f32::MIN, f32::max);
            prop_assert!((low - 1e-3..=high + 1e-3).contains(&curve.at(at)));
        }
    }
}
