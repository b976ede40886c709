//! Where the labels of a plot's points go: beside them where there is room, else nearby with a line to the point.

/// A place in pixels, y downwards.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Point {
    pub(super) x: f64,
    pub(super) y: f64,
}

impl Point {
    pub(super) fn round(self) -> (i32, i32) {
        (self.x.round() as i32, self.y.round() as i32)
    }
}

/// The box of a label.
#[derive(Debug, Clone, Copy)]
pub(super) struct Label {
    pub(super) left: f64,
    pub(super) top: f64,
    pub(super) right: f64,
    pub(super) bottom: f64,
}

/// Pixels that stay free around a mark, and from which on a label needs a line to its point.
const MARK: f64 = 7.0;
const NEAR: f64 = 16.0;

impl Label {
    pub(super) fn of_size(width: f64, height: f64, corner: Point) -> Self {
        Self { left: corner.x, top: corner.y, right: corner.x + width, bottom: corner.y + height }
    }

    /// The end of the line from its point, if they stand apart.
    pub(super) fn leader(&self, point: Point) -> Option<Point> {
        (self.distance(point) > NEAR).then_some(self.nearest(point))
    }

    fn distance(&self, point: Point) -> f64 {
        let near = self.nearest(point);
        (near.x - point.x).hypot(near.y - point.y)
    }

    /// The point of the box that is nearest to another.
    fn nearest(&self, to: Point) -> Point {
        Point { x: to.x.clamp(self.left, self.right), y: to.y.clamp(self.top, self.bottom) }
    }

    fn meets(&self, other: &Self) -> bool {
        self.left < other.right
            && other.left < self.right
            && self.top < other.bottom
            && other.top < self.bottom
    }

    fn holds(&self, point: Point) -> bool {
        self.distance(point) < MARK
    }

    /// Whether a line goes through the box, tried every two pixels.
    fn is_crossed(&self, (from, to): (Point, Point)) -> bool {
        let steps = ((to.x - from.x).hypot(to.y - from.y) / 2.0).ceil().max(1.0) as usize;
        (0..=steps).any(|step| {
            let t = step as f64 / steps as f64;
            let (x, y) = (from.x + t * (to.x - from.x), from.y + t * (to.y - from.y));
            (self.left..=self.right).contains(&x) && (self.top..=self.bottom).contains(&y)
        })
    }
}

/// Orders that are tried: who is placed first has the choice.
const ORDERS: usize = 12;

/// A box of its size for each point, inside the frame (left, top, right, bottom), that meets no other box, mark or line; the line to
/// its point crosses nothing else, unless there is no other way.
pub(super) fn place(
    frame: [f64; 4],
    points: &[Point],
    sizes: &[(f64, f64)],
    lines: &[(Point, Point)],
    taken: &[Label],
) -> Vec<Label> {
    let scene = Scene { frame, points, sizes };
    let mut order: Vec<usize> = (0..points.len()).collect();
    let step = (points.len() / ORDERS).max(1);
    let attempts = (0..ORDERS.min(points.len())).map(|_| {
        order.rotate_left(step);
        scene.attempt(&order, lines.to_vec(), taken.to_vec())
    });
    attempts.min_by(|a, b| a.0.total_cmp(&b.0)).map_or_else(Vec::new, |(_, labels)| labels)
}

struct Scene<'a> {
    frame: [f64; 4],
    points: &'a [Point],
    sizes: &'a [(f64, f64)],
}

impl Scene<'_> {
    /// Labels placed in that order, and what is bad about them: pixels of lines, and much more for what could not be had.
    fn attempt(
        &self,
        order: &[usize],
        mut lines: Vec<(Point, Point)>,
        mut boxes: Vec<Label>,
    ) -> (f64, Vec<Label>) {
        let mut labels = vec![None; self.points.len()];
        let mut cost = 0.0;
        for &index in order {
            let (point, size) = (self.points[index], self.sizes[index]);
            let free = || candidates(point, size).filter(|label| self.is_free(label, &lines, &boxes));
            let label =
                free().find(|label| self.is_clear(label, point, &lines, &boxes)).unwrap_or_else(|| {
                    cost += 1e3;
                    free().next().unwrap_or_else(|| {
                        cost += 1e6;
                        beside(point, size)
                    })
                });
            cost += label.distance(point);
            lines.extend(label.leader(point).map(|end| (point, end)));
            boxes.push(label);
            labels[index] = Some(label);
        }
        (cost, labels.into_iter().flatten().collect())
    }

    fn is_free(&self, label: &Label, lines: &[(Point, Point)], boxes: &[Label]) -> bool {
        let [left, top, right, bottom] = self.frame;
        label.left > left
            && label.top > top
            && label.right < right
            && label.bottom < bottom
            && !boxes.iter().any(|other| label.meets(other))
            && !self.points.iter().any(|&mark| label.holds(mark))
            && !lines.iter().any(|&line| label.is_crossed(line))
    }

    fn is_clear(&self, label: &Label, point: Point, lines: &[(Point, Point)], boxes: &[Label]) -> bool {
        let Some(end) = label.leader(point) else {
            // Without a line, nearness alone says whose it is.
            let own = label.distance(point);
            return self.points.iter().all(|&mark| mark == point || label.distance(mark) > own + 5.0);
        };
        // Marks that touch its own cannot be kept clear of.
        let apart = |mark: Point| (mark.x - point.x).hypot(mark.y - point.y) > 2.0 * MARK;
        !boxes.iter().any(|other| other.is_crossed((point, end)))
            && !lines.iter().any(|&line| cross(line, (point, end)))
            && !self.points.iter().any(|&mark| apart(mark) && around(mark).is_crossed((point, end)))
    }
}

/// Whether two lines cross, each between its ends.
fn cross(a: (Point, Point), b: (Point, Point)) -> bool {
    let side = |(from, to): (Point, Point), p: Point| {
        (to.x - from.x) * (p.y - from.y) - (to.y - from.y) * (p.x - from.x)
    };
    side(a, b.0) * side(a, b.1) < 0.0 && side(b, a.0) * side(b, a.1) < 0.0
}

fn around(mark: Point) -> Label {
    Label { left: mark.x - 5.0, top: mark.y - 5.0, right: mark.x + 5.0, bottom: mark.y + 5.0 }
}

fn beside(point: Point, (width, height): (f64, f64)) -> Label {
    Label::of_size(width, height, Point { x: point.x + MARK + 2.0, y: point.y - height / 2.0 })
}

/// To the right, to the left, below and above, then further and further away.
fn candidates(point: Point, (width, height): (f64, f64)) -> impl Iterator<Item = Label> {
    (0..120).flat_map(move |ring| {
        let distance = MARK + 2.0 + 5.0 * f64::from(ring);
        // Directions in sixteenths of a turn, those along the line of text first.
        [0, 8, 4, 12, 1, 15, 7, 9, 2, 14, 6, 10, 3, 13, 5, 11].into_iter().map(move |direction| {
            let (sine, cosine) = (f64::from(direction) * std::f64::consts::TAU / 16.0).sin_cos();
            // The box touches the ring from outside, on the side that looks at the point.
            let x = point.x + distance * cosine + width / 2.0 * (cosine * 1.5).clamp(-1.0, 1.0);
            let y = point.y + distance * sine + height / 2.0 * (sine * 1.5).clamp(-1.0, 1.0);
            Label::of_size(width, height, Point { x: x - width / 2.0, y: y - height / 2.0 })
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_crowded_points_meet_nothing() {
        let frame = [0.0, 0.0, 900.0, 520.0];
        let roof = [(Point { x: 0.0, y: 400.0 }, Point { x: 700.0, y: 40.0 })];
        for seed in 1..8u64 {
            let mut state = seed;
            let mut next = |range: f64| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                range * (state >> 40) as f64 / (1u64 << 24) as f64
            };
            // Two clusters, as of decoding and of everything else.
            let points: Vec<Point> = (0..31)
                .map(|i| Point { x: f64::from(i % 2) * 400.0 + 100.0 + next(120.0), y: 200.0 + next(150.0) })
                .collect();
            let sizes = vec![(200.0, 15.0); points.len()];
            let labels = place(frame, &points, &sizes, &roof, &[]);
            for (i, label) in labels.iter().enumerate() {
                assert!(labels[..i].iter().all(|other| !label.meets(other)), "seed {seed}, label {i}");
                assert!(!label.is_crossed(roof[0]), "seed {seed}, label {i}");
                assert!(points.iter().all(|&point| !label.holds(point)), "seed {seed}, label {i}");
                assert!(label.left > 0.0 && label.right < 900.0 && label.top > 0.0 && label.bottom < 520.0);
            }
        }
    }
}
