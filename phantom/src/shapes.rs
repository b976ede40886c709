//! Small bodies drawn one by one: tubes, blocks and clouds, in detector millimetres.

use crate::technique::{Camera, Grid};

/// A straight piece of a tube; the attenuation across it is that of a circle or of a hollow ring.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tube {
    /// Ends, detector mm.
    pub(crate) ends: [(f32, f32); 2],
    /// Radius at each end, detector mm.
    pub(crate) radius: [f32; 2],
    /// Value on the axis at each end, were it solid.
    pub(crate) peak: [f32; 2],
    /// Radius of the core over that of the tube, and the value that the core takes away over the peak.
    pub(crate) core: (f32, f32),
}

/// Tubes of one structure: where they overlap, the largest value holds, so that joints do not shine.
#[derive(Debug, Clone, Default)]
pub(crate) struct Group {
    pub(crate) tubes: Vec<Tube>,
}

/// A box with rounded edges: `x^4 + y^4 < 1`, square root profile, with a core like that of a tube.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Block {
    pub(crate) centre: (f32, f32),
    pub(crate) half: (f32, f32),
    pub(crate) peak: f32,
    pub(crate) core: (f32, f32),
}

/// An ellipse whose value falls from the middle to the edge as `(1 - r^2)^power`, power one half or one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cloud {
    pub(crate) centre: (f32, f32),
    pub(crate) half: (f32, f32),
    pub(crate) peak: f32,
    /// One half: the chord of an ellipsoid. One: a softer edge.
    pub(crate) soft: bool,
}

/// A picture of floats.
#[derive(Debug, Clone)]
pub(crate) struct Plane {
    pub(crate) grid: Grid,
    pub(crate) data: Vec<f32>,
}

/// Bounds in detector mm.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Bounds {
    pub(crate) low: (f32, f32),
    pub(crate) high: (f32, f32),
}

impl Bounds {
    pub(crate) const EMPTY: Self = Self { low: (1e6, 1e6), high: (-1e6, -1e6) };

    pub(crate) fn around(centre: (f32, f32), half: (f32, f32)) -> Self {
        Self { low: (centre.0 - half.0, centre.1 - half.1), high: (centre.0 + half.0, centre.1 + half.1) }
    }

    pub(crate) fn join(self, other: Self) -> Self {
        Self {
            low: (self.low.0.min(other.low.0), self.low.1.min(other.low.1)),
            high: (self.high.0.max(other.high.0), self.high.1.max(other.high.1)),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.low.0 > self.high.0 || self.low.1 > self.high.1
    }

    /// `[x0, y0, x1, y1]` of all pixels that the bounds touch, with a pixel of margin for blur, in the picture.
    pub(crate) fn pixels(&self, grid: &Grid) -> [u32; 4] {
        let size = grid.size as f32;
        let low = |v: f32| (grid.index(v) - 0.5).floor().clamp(0.0, size - 1.0) as u32;
        let high = |v: f32| (grid.index(v) + 1.5).ceil().clamp(1.0, size) as u32;
        let (x0, y0) = (low(self.low.0), low(self.low.1));
        [x0, y0, high(self.high.0).max(x0 + 1), high(self.high.1).max(y0 + 1)]
    }
}

impl Tube {
    /// A solid tube of constant radius.
    pub(crate) fn solid(ends: [(f32, f32); 2], radius: f32, peak: f32) -> Self {
        Self { ends, radius: [radius; 2], peak: [peak; 2], core: (0.0, 0.0) }
    }

    pub(crate) fn bounds(&self) -> Bounds {
        let end = |i: usize| Bounds::around(self.ends[i], (self.radius[i], self.radius[i]));
        end(0).join(end(1))
    }

    /// A tube thinner than a pixel is drawn wider and weaker by the same factor, as the pixel's area would see it.
    fn widened(mut self, aperture: f32) -> Self {
        for end in 0..2 {
            let radius = self.radius[end];
            let wide = radius.hypot(aperture);
            self.peak[end] *= radius / wide;
            self.radius[end] = wide;
        }
        self
    }
}

impl Group {
    /// A curve through body points, of constant radius (body mm).
    pub(crate) fn curve(camera: &Camera, points: &[[f32; 3]], radius: f32, peak: f32) -> Self {
        let mut group = Self::default();
        group.extend(camera, points, radius, peak);
        group
    }

    pub(crate) fn extend(&mut self, camera: &Camera, points: &[[f32; 3]], radius: f32, peak: f32) {
        for pair in points.windows(2) {
            let scale = camera.magnification(pair[0][2]);
            let ends = [camera.project(pair[0]), camera.project(pair[1])];
            self.tubes.push(Tube::solid(ends, radius * scale, peak));
        }
    }

    pub(crate) fn bounds(&self) -> Bounds {
        self.tubes.iter().fold(Bounds::EMPTY, |b, tube| b.join(tube.bounds()))
    }
}

/// A smooth curve through body points (Catmull-Rom), `pieces` straight pieces between each two.
pub(crate) fn smooth(points: &[[f32; 3]], pieces: usize) -> Vec<[f32; 3]> {
    let last = points.len() - 1;
    let mut curve = Vec::with_capacity(last * pieces + 1);
    for i in 0..last {
        let (before, from, to, after) =
            (points[i.saturating_sub(1)], points[i], points[i + 1], points[(i + 2).min(last)]);
        for piece in 0..pieces {
            let t = piece as f32 / pieces as f32;
            curve.push([0, 1, 2].map(|k| {
                let (p0, p1, p2, p3) = (before[k], from[k], to[k], after[k]);
                let (a, b) = (2.0 * p0 - 5.0 * p1 + 4.0 * p2 - p3, 3.0 * (p1 - p2) + p3 - p0);
                0.5 * (2.0 * p1 + (p2 - p0) * t + a * t * t + b * t * t * t)
            }));
        }
    }
    curve.push(points[last]);
    curve
}

impl Plane {
    pub(crate) fn new(grid: Grid) -> Self {
        Self { grid, data: vec![0.0; grid.size * grid.size] }
    }

    /// The part of the plane inside bounds, row by row: `(row, first column, values)`.
    fn rows(&mut self, bounds: Bounds) -> impl Iterator<Item = (usize, usize, &mut [f32])> {
        let grid = self.grid;
        let columns = grid.span(bounds.low.0, bounds.high.0);
        let rows = grid.span(bounds.low.1, bounds.high.1);
        let first = rows.start;
        self.data[rows.start * grid.size..rows.end * grid.size]
            .chunks_exact_mut(grid.size)
            .enumerate()
            .map(move |(i, row)| (first + i, columns.start, &mut row[columns.clone()]))
    }

    /// Adds a structure, `scale` times; `layer` is scratch of the same grid, zero before and after.
    pub(crate) fn add_group(&mut self, group: &Group, scale: f32, layer: &mut Self) {
        let mut drawn = Bounds::EMPTY;
        for tube in &group.tubes {
            let tube = tube.widened(APERTURE * self.grid.spacing);
            drawn = drawn.join(tube.bounds());
            layer.raise(&tube);
        }
        if drawn.is_empty() {
            return;
        }
        for ((_, _, row), (_, _, from)) in self.rows(drawn).zip(layer.rows(drawn)) {
            for (value, add) in row.iter_mut().zip(from) {
                *value += scale * *add;
                *add = 0.0;
            }
        }
    }

    /// Raises the plane to the tube's value where it is lower.
    fn raise(&mut self, tube: &Tube) {
        let grid = self.grid;
        let [a, b] = tube.ends;
        let (bx, by) = (b.0 - a.0, b.1 - a.1);
        let square = (bx * bx + by * by).max(1e-6);
        let (ex, ey) = (bx / square, by / square);
        let [r0, r1] = tube.radius;
        // Value per mm of half chord, so that the square root below needs no division.
        let slope = [tube.peak[0] / r0, tube.peak[1] / r1];
        let (core, share) = tube.core;
        for (row, first, values) in self.rows(tube.bounds()) {
            let dy = grid.centre(row) - a.1;
            let start = grid.centre(first) - a.0;
            for (i, value) in values.iter_mut().enumerate() {
                let dx = start + grid.spacing * i as f32;
                let t = (dx * ex + dy * ey).clamp(0.0, 1.0);
                let (px, py) = (dx - t * bx, dy - t * by);
                let away = px * px + py * py;
                let radius = r0 + t * (r1 - r0);
                let outer = (radius * radius - away).max(0.0).sqrt();
                let inner = (core * core * radius * radius - away).max(0.0).sqrt();
                let level = (slope[0] + t * (slope[1] - slope[0])) * (outer - share * inner);
                *value = value.max(level);
            }
        }
    }

    pub(crate) fn add_block(&mut self, block: &Block) {
        let grid = self.grid;
        let aperture = APERTURE * grid.spacing;
        let half = (block.half.0 + 0.5 * aperture, block.half.1 + 0.5 * aperture);
        let (core, share) = block.core;
        for (row, first, values) in self.rows(Bounds::around(block.centre, half)) {
            let y = (grid.centre(row) - block.centre.1) / half.1;
            let y4 = y * y * y * y;
            for (i, value) in values.iter_mut().enumerate() {
                let x = (grid.centre(first + i) - block.centre.0) / half.0;
                let q = x * x * x * x + y4;
                let outer = (1.0 - q).max(0.0).sqrt();
                let inner = (core * core * core * core - q).max(0.0).sqrt();
                *value += block.peak * (outer - share * inner);
            }
        }
    }

    /// Adds a cloud, `texture(u, v)` times.
    pub(crate) fn add_cloud(&mut self, cloud: &Cloud, texture: impl Fn(f32, f32) -> f32) {
        let grid = self.grid;
        let aperture = APERTURE * grid.spacing;
        let half = (cloud.half.0.hypot(aperture), cloud.half.1.hypot(aperture));
        let peak = cloud.peak * (cloud.half.0 / half.0) * (cloud.half.1 / half.1);
        for (row, first, values) in self.rows(Bounds::around(cloud.centre, half)) {
            let v = grid.centre(row);
            let y = (v - cloud.centre.1) / half.1;
            for (i, value) in values.iter_mut().enumerate() {
                let u = grid.centre(first + i);
                let x = (u - cloud.centre.0) / half.0;
                let inside = (1.0 - x * x - y * y).max(0.0);
                let level = if cloud.soft { inside } else { inside.sqrt() };
                if level > 0.0 {
                    *value += peak * level * texture(u, v);
                }
            }
        }
    }
}

/// Half the side of a pixel as a radius that blurs like the pixel's area.
const APERTURE: f32 = 0.45;

#[cfg(test)]
mod tests {
    use super::{Bounds, Cloud, Group, Plane, Tube};
    use crate::technique::Grid;
    use proptest::prelude::*;

    proptest! {
        // The area under a cut across a tube does not depend on the pixel: 100 values of spacing and radius.
        #![proptest_config(ProptestConfig::with_cases(100))]
        #[test]
        fn a_thin_tube_keeps_its_mass(radius in 0.4f32..6.0, size in 64usize..300) {
            let grid = Grid::new(size, 128.0);
            let (mut plane, mut layer) = (Plane::new(grid), Plane::new(grid));
            let tube = Tube::solid([(0.3, -40.0), (0.3, 40.0)], radius, 2.0);
            plane.add_group(&Group { tubes: vec![tube] }, 1.0, &mut layer);
            let middle = size / 2;
            let sum: f32 = plane.data[middle * size..(middle + 1) * size].iter().sum::<f32>() * grid.spacing;
            let expected = 2.0 * radius * std::f32::consts::FRAC_PI_2;
            // Point samples of a half ellipse that is at least 0.9 pixels wide.
            prop_assert!((sum / expected - 1.0).abs() < 0.35, "{} {}", sum, expected);
            prop_assert!(layer.data.iter().all(|v| *v == 0.0));
        }

        #[test]
        fn pixels_stay_in_the_picture(x in -300.0f32..300.0, y in -300.0f32..300.0, r in 0.1f32..200.0) {
            let [x0, y0, x1, y1] = Bounds::around((x, y), (r, r)).pixels(&Grid::new(64, 400.0));
            prop_assert!(x0 < x1 && y0 < y1 && x1 <= 64 && y1 <= 64);
        }
    }

    #[test]
    fn a_cloud_peaks_in_its_middle() {
        let grid = Grid::new(101, 101.0);
        let mut plane = Plane::new(grid);
        plane
            .add_cloud(&Cloud { centre: (0.0, 0.0), half: (20.0, 10.0), peak: 3.0, soft: false }, |_, _| 1.0);
        let middle = plane.data[50 * 101 + 50];
        // The pixel's aperture takes (20 / hypot(20, .45)) * (10 / hypot(10, .45)), 0.13 %.
        assert!((middle - 3.0).abs() < 0.01, "{middle}");
        assert!(plane.data.iter().all(|v| *v <= middle));
    }
}
