//! How pixels of the model input lie in the picture that was decoded.

/// A rectangle in pixels; `left` and `top` are inside, `right` and `bottom` outside.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Region {
    /// Left edge.
    pub left: f64,
    /// Upper edge.
    pub top: f64,
    /// Right edge.
    pub right: f64,
    /// Lower edge.
    pub bottom: f64,
}

/// The chain of resizes, crops, pads and rotations that preprocessing applied.
///
/// Coordinates are continuous: pixel `i` covers `i..i + 1`.
#[derive(Debug, Clone, PartialEq)]
pub struct Geometry {
    /// Width and height of the decoded picture.
    original: (usize, usize),
    /// Width and height of the model input.
    input: (usize, usize),
    /// Input x and y as rows `[a, b, c]` of `a * x + b * y + c` over original x and y.
    rows: [[f64; 3]; 2],
}

impl Geometry {
    /// No change.
    pub(super) fn new(width: usize, height: usize) -> Self {
        let rows = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]];
        Self { original: (width, height), input: (width, height), rows }
    }

    /// Resized to `width` by `height`.
    pub(super) fn resize(&mut self, width: usize, height: usize) {
        let scales = [width as f64 / self.input.0 as f64, height as f64 / self.input.1 as f64];
        for (row, scale) in self.rows.iter_mut().zip(scales) {
            *row = row.map(|v| v * scale);
        }
        self.input = (width, height);
    }

    /// Put at `(left, top)` of a canvas of `width` by `height`; negative offsets crop.
    pub(super) fn place(&mut self, left: i64, top: i64, width: usize, height: usize) {
        self.rows[0][2] += left as f64;
        self.rows[1][2] += top as f64;
        self.input = (width, height);
    }

    /// Turned by 90 degrees clockwise: the left edge becomes the upper edge.
    pub(super) fn rotate_clockwise(&mut self) {
        let (width, height) = self.input;
        let [x, y] = self.rows;
        self.rows = [[-y[0], -y[1], height as f64 - y[2]], x];
        self.input = (height, width);
    }

    /// Width and height of the decoded picture.
    pub fn original_size(&self) -> (usize, usize) {
        self.original
    }

    /// Width and height of the model input.
    pub fn input_size(&self) -> (usize, usize) {
        self.input
    }

    /// The part of the decoded picture under a region of the model input, cut at its edges.
    ///
    /// `None` when the region shows padding only.
    pub fn to_original(&self, region: Region) -> Option<Region> {
        let a = self.point_to_original(region.left, region.top);
        let b = self.point_to_original(region.right, region.bottom);
        let (width, height) = (self.original.0 as f64, self.original.1 as f64);
        let cut = Region {
            left: a.0.min(b.0).clamp(0.0, width),
            top: a.1.min(b.1).clamp(0.0, height),
            right: a.0.max(b.0).clamp(0.0, width),
            bottom: a.1.max(b.1).clamp(0.0, height),
        };
        (cut.left < cut.right && cut.top < cut.bottom).then_some(cut)
    }

    /// Where a region of the decoded picture lies in the model input; it may reach beyond its edges.
    pub fn to_input(&self, region: Region) -> Region {
        let point = |x: f64, y: f64| self.rows.map(|[a, b, c]| a * x + b * y + c);
        let (a, b) = (point(region.left, region.top), point(region.right, region.bottom));
        Region { left: a[0].min(b[0]), top: a[1].min(b[1]), right: a[0].max(b[0]), bottom: a[1].max(b[1]) }
    }

    /// Inverse of the affine map; it consists of scales and quarter turns and is never singular.
    fn point_to_original(&self, x: f64, y: f64) -> (f64, f64) {
        let [[a, b, c], [d, e, f]] = self.rows;
        let determinant = a * e - b * d;
        let (x, y) = (x - c, y - f);
        ((e * x - b * y) / determinant, (a * y - d * x) / determinant)
    }
}

#[cfg(test)]
mod tests {
    use super::{Geometry, Region};

    fn region(left: f64, top: f64, right: f64, bottom: f64) -> Region {
        Region { left, top, right, bottom }
    }

    #[test]
    fn padding_then_resize_is_undone() {
        let mut geometry = Geometry::new(100, 50);
        geometry.place(10, 25, 120, 100);
        geometry.resize(240, 200);
        let whole = geometry.to_original(region(0.0, 0.0, 240.0, 200.0));
        assert_eq!(whole, Some(region(0.0, 0.0, 100.0, 50.0)));
        let part = geometry.to_original(region(40.0, 60.0, 60.0, 80.0));
        assert_eq!(part, Some(region(10.0, 5.0, 20.0, 15.0)));
        let padding = geometry.to_original(region(0.0, 0.0, 240.0, 50.0));
        assert_eq!(padding, None);
    }

    #[test]
    fn a_quarter_turn_is_undone() {
        let mut geometry = Geometry::new(40, 10);
        geometry.rotate_clockwise();
        assert_eq!(geometry.input_size(), (10, 40));
        // The upper left corner of a picture turned clockwise was its lower left corner.
        let corner = geometry.to_original(region(0.0, 0.0, 2.0, 3.0));
        assert_eq!(corner, Some(region(0.0, 8.0, 3.0, 10.0)));
    }
}
