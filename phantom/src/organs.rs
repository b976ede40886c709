//! The large bodies: lungs, heart, diaphragm and mediastinum along each ray.

use crate::anatomy::{Anatomy, Outlines, Section};
use crate::finding::Side;
use crate::technique::{BodyRow, Camera};

/// An ellipsoid, turned in the plane of the picture.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ellipsoid {
    pub(crate) centre: [f32; 3],
    pub(crate) axes: [f32; 3],
    /// Cosine and sine of the turn of the first axis from x toward y.
    pub(crate) turn: (f32, f32),
}

impl Ellipsoid {
    pub(crate) fn upright(centre: [f32; 3], axes: [f32; 3]) -> Self {
        Self { centre, axes, turn: (1.0, 0.0) }
    }

    /// Half extents along x and y.
    pub(crate) fn extent(&self) -> (f32, f32) {
        let ([a, b, _], (c, s)) = (self.axes, self.turn);
        ((a * c).hypot(b * s), (a * s).hypot(b * c))
    }
}

/// Fluid in one pleural space: heights of its surface above the costophrenic angle, mm.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fluid {
    pub(crate) lateral: f32,
    pub(crate) medial: f32,
}

/// Air in one pleural space: its width beside and above the lung, mm.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Collapse {
    pub(crate) gap: f32,
    pub(crate) drop: f32,
}

/// The large bodies of one study.
#[derive(Debug, Clone)]
pub(crate) struct Organs {
    pub(crate) outlines: Outlines,
    /// Left ventricle and right atrium; a ray crosses their common span.
    pub(crate) heart: [Ellipsoid; 2],
    pub(crate) domes: [Ellipsoid; 2],
    pub(crate) fluid: [Option<Fluid>; 2],
    pub(crate) collapse: [Option<Collapse>; 2],
    base: f32,
    lung_z: f32,
}

/// Thickness of the visceral pleura with what clings to it, mm; a little more than in life, for the line must be seen.
const PLEURA: f32 = 1.2;

impl Organs {
    pub(crate) fn new(a: &Anatomy, camera: &Camera) -> Self {
        let domes = Side::BOTH.map(|side| {
            let x = 0.45 * a.half_width;
            let top = a.dome[side as usize];
            Ellipsoid::upright(
                [side.sign() * x, a.base, 8.0],
                [0.985 * a.half_width - x, a.base - top, 0.93 * a.half_depth],
            )
        });
        Self {
            outlines: Outlines::new(a),
            heart: heart(a, camera),
            domes,
            fluid: [None, None],
            collapse: [None, None],
            base: a.base,
            lung_z: -4.0,
        }
    }

    /// The projected width of the heart over that of the chest, from the geometry as built.
    pub(crate) fn cardiothoracic_ratio(&self, a: &Anatomy, camera: &Camera) -> f32 {
        let (left, right) = self.heart_borders(camera);
        (left - right) / (2.0 * a.half_width * camera.magnification(self.lung_z))
    }

    /// Detector u of the heart's borders, the larger (patient's left) first.
    pub(crate) fn heart_borders(&self, camera: &Camera) -> (f32, f32) {
        let [ventricle, atrium] = &self.heart;
        let reach = |body: &Ellipsoid, sign: f32| {
            let [x, _, z] = body.centre;
            // The lean belongs to the patient, not to the heart: it is left out of the ratio.
            camera.project([x + sign * body.extent().0, 0.0, z]).0
        };
        (reach(ventricle, 1.0), reach(atrium, -1.0))
    }

    /// Traces one row of rays through both lungs.
    pub(crate) fn trace(&self, camera: &Camera, v: f32, u: f32, spacing: f32, out: &mut LungRow) {
        out.clear();
        let at = |z: f32| camera.row(z, v, u, spacing);
        let lung_row = at(self.lung_z);
        let mut obstacles = Obstacles {
            heart: self.heart.map(|body| (body, at(body.centre[2]))),
            dome: (self.domes[0], at(self.domes[0].centre[2])),
            mediastinum: (self.outlines.mediastinum(at(0.0).y), at(0.0)),
            z: self.lung_z,
        };
        for side in Side::BOTH {
            let section = self.outlines.lung(side, lung_row.y);
            let Some(span) = columns(&section, &lung_row, out.aerated.len()) else {
                continue;
            };
            obstacles.dome.0 = self.domes[side as usize];
            obstacles.clear_length(&section, &lung_row, span.clone(), &mut out.scratch);
            out.aerated[span.clone()].copy_from_slice(&out.scratch[span.clone()]);
            if let Some(collapse) = self.collapse[side as usize] {
                self.collapse_row(side, collapse, &obstacles, &lung_row, span.clone(), out);
            }
            if let Some(fluid) = self.fluid[side as usize] {
                self.fill(side, fluid, &lung_row, span, out);
            }
        }
    }

    /// Moves what is outside of the collapsed lung from `aerated` to `air`, and draws the pleural line.
    fn collapse_row(
        &self,
        side: Side,
        collapse: Collapse,
        obstacles: &Obstacles,
        row: &BodyRow,
        span: std::ops::Range<usize>,
        out: &mut LungRow,
    ) {
        let Collapse { gap, drop } = collapse;
        let lung = self.outlines.collapsed(side, row.y, gap, drop);
        let inner = self.outlines.collapsed(side, row.y, gap + PLEURA, drop + PLEURA);
        out.air[span.clone()].copy_from_slice(&out.aerated[span.clone()]);
        for (section, sign) in [(lung, 1.0), (inner, -1.0)] {
            obstacles.clear_length(&section, row, span.clone(), &mut out.scratch);
            for i in span.clone() {
                out.pleura[i] += sign * out.scratch[i];
            }
            if sign > 0.0 {
                for i in span.clone() {
                    out.aerated[i] = out.scratch[i].min(out.air[i]);
                    out.air[i] -= out.aerated[i];
                }
            }
        }
        for i in span {
            out.pleura[i] = out.pleura[i].max(0.0);
        }
    }

    /// Moves the part of `aerated` below the meniscus to `fluid`.
    fn fill(&self, side: Side, fluid: Fluid, row: &BodyRow, span: std::ops::Range<usize>, out: &mut LungRow) {
        let (lateral, medial) = (self.outlines.lateral(row.y), self.outlines.medial(row.y));
        let per_width = 1.0 / (lateral - medial).max(1.0);
        // The surface is not one plane: it creeps up behind and beside the lung, so its edge is soft.
        let soft = 6.0 + 0.22 * fluid.lateral;
        for i in span {
            let x = side.sign() * (row.start + row.step * i as f32);
            let across = ((x - medial) * per_width).clamp(0.0, 1.0);
            let level = self.base - fluid.medial - (fluid.lateral - fluid.medial) * across * across * across;
            let t = ((row.y - level) / soft + 0.5).clamp(0.0, 1.0);
            let wet = out.aerated[i] * t * t * (3.0 - 2.0 * t);
            out.fluid[i] = wet;
            out.aerated[i] -= wet;
        }
    }
}

fn heart(a: &Anatomy, camera: &Camera) -> [Ellipsoid; 2] {
    let (ventricle_z, atrium_z) = (14.0, 8.0);
    let mean = camera.magnification(0.5 * (ventricle_z + atrium_z));
    let width = a.cardiothoracic_ratio * 2.0 * a.half_width * camera.magnification(-4.0) / mean;
    let excess = ((a.cardiothoracic_ratio - 0.45) / 0.25).clamp(-0.2, 1.0);
    let turn = 40.0 - 18.0 * excess;
    let turn = (turn * std::f32::consts::PI / 180.0).sin_cos();
    let mut ventricle = Ellipsoid {
        centre: [0.0, 0.0, ventricle_z],
        axes: [0.54 * width, (0.40 - 0.06 * excess) * width, 58.0 * a.scale],
        turn: (turn.1, turn.0),
    };
    let (reach, height) = ventricle.extent();
    let left = 0.68 + 0.05 * excess;
    ventricle.centre[0] = left * width - reach;
    ventricle.centre[1] = a.dome[1] + 20.0 * a.scale - height;
    let half = (0.22 - 0.04 * excess) * width;
    let tall = (42.0 * a.scale).max(0.36 * width);
    let atrium = Ellipsoid::upright(
        [half - (1.0 - left) * width, a.dome[0] + 14.0 * a.scale - tall, atrium_z],
        [half, tall, 52.0 * a.scale],
    );
    [ventricle, atrium]
}

/// The columns that a section covers, if any.
fn columns(section: &Section, row: &BodyRow, width: usize) -> Option<std::ops::Range<usize>> {
    if section.half <= 0.0 {
        return None;
    }
    let column = |x: f32| ((x - row.start) / row.step).clamp(0.0, width as f32) as usize;
    let span = column(section.centre - section.half)..(column(section.centre + section.half) + 1).min(width);
    (span.start < span.end).then_some(span)
}

/// Lengths along the rays of one row, mm.
#[derive(Debug, Default)]
pub(crate) struct LungRow {
    /// Of lung with air in it.
    pub(crate) aerated: Vec<f32>,
    /// Of free air.
    pub(crate) air: Vec<f32>,
    /// Of visceral pleura beside free air.
    pub(crate) pleura: Vec<f32>,
    /// Of pleural fluid.
    pub(crate) fluid: Vec<f32>,
    scratch: Vec<f32>,
}

impl LungRow {
    pub(crate) fn new(width: usize) -> Self {
        let row = || vec![0.0; width];
        Self { aerated: row(), air: row(), pleura: row(), fluid: row(), scratch: row() }
    }

    fn clear(&mut self) {
        for row in [&mut self.aerated, &mut self.air, &mut self.pleura, &mut self.fluid] {
            row.fill(0.0);
        }
    }
}

/// What takes lung's place along a ray, each with its own row of body coordinates.
struct Obstacles {
    heart: [(Ellipsoid, BodyRow); 2],
    dome: (Ellipsoid, BodyRow),
    mediastinum: (Section, BodyRow),
    z: f32,
}

/// A span of depth that no ray has.
const NOWHERE: (f32, f32) = (1e4, -1e4);

impl Obstacles {
    /// The length of each ray in the lung's section that no obstacle takes, by inclusion and exclusion of the three.
    fn clear_length(&self, lung: &Section, row: &BodyRow, span: std::ops::Range<usize>, out: &mut [f32]) {
        let lobe = Lobe::new(lung, row);
        let chest = Lobe::new(&self.mediastinum.0, &self.mediastinum.1);
        let [left, right] = self.heart.map(|(body, row)| Slice::new(&body, &row, false));
        let dome = Slice::new(&self.dome.0, &self.dome.1, true);
        for (i, length) in out[span.clone()].iter_mut().enumerate() {
            let column = (span.start + i) as f32;
            let half = lobe.depth * lobe.soft(column);
            let (l0, l1) = (self.z - half, self.z + half);
            let (a, b) = (left.at(column), right.at(column));
            let heart = (least(a.0, b.0), most(a.1, b.1));
            let dome = dome.at(column);
            let middle = chest.depth * chest.soft(column);
            let h = (most(heart.0, l0), least(heart.1, l1));
            let d = (most(dome.0, l0), least(dome.1, l1));
            let m = (most(-middle, l0), least(middle, l1));
            let both = |p: (f32, f32), q: (f32, f32)| (most(p.0, q.0), least(p.1, q.1));
            let long = |p: (f32, f32)| most(p.1 - p.0, 0.0);
            let hd = both(h, d);
            let taken = long(h) + long(d) + long(m) - long(hd) - long(both(h, m)) - long(both(d, m))
                + long(both(hd, m));
            *length = most(2.0 * half - taken, 0.0);
        }
    }
}

// `f32::min` and `max` must return the other argument for a NaN, which costs two more instructions; no NaN comes here.
fn least(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}

fn most(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

/// A section along a row: how deep it is at each column.
struct Lobe {
    start: f32,
    step: f32,
    depth: f32,
}

impl Lobe {
    fn new(section: &Section, row: &BodyRow) -> Self {
        let scale = if section.half > 0.0 { 1.0 / section.half } else { 1e6 };
        Self { start: (row.start - section.centre) * scale, step: row.step * scale, depth: section.depth }
    }

    /// Rounded ends: exponent 2.5.
    fn soft(&self, column: f32) -> f32 {
        let u = (self.start + self.step * column).abs();
        most(1.0 - u * u * u.sqrt(), 0.0).sqrt()
    }
}

/// An ellipsoid along a row: `1 - q(column)` is a parabola in the column.
struct Slice {
    constant: f32,
    linear: f32,
    square: f32,
    z: f32,
    depth: f32,
}

impl Slice {
    /// `pillar`: below its middle the body goes on as a cylinder.
    fn new(body: &Ellipsoid, row: &BodyRow, pillar: bool) -> Self {
        let ([cx, cy, z], [a, b, depth], (cos, sin)) = (body.centre, body.axes, body.turn);
        let dy = if pillar { (row.y - cy).min(0.0) } else { row.y - cy };
        let dx = row.start - cx;
        let (p0, p1) = ((dx * cos + dy * sin) / a, row.step * cos / a);
        let (q0, q1) = ((dy * cos - dx * sin) / b, -row.step * sin / b);
        Self {
            constant: 1.0 - p0 * p0 - q0 * q0,
            linear: -2.0 * (p0 * p1 + q0 * q1),
            square: -(p1 * p1 + q1 * q1),
            z,
            depth,
        }
    }

    fn at(&self, column: f32) -> (f32, f32) {
        let inside = self.constant + column * (self.linear + column * self.square);
        let half = self.depth * most(inside, 0.0).sqrt();
        if inside > 0.0 { (self.z - half, self.z + half) } else { NOWHERE }
    }
}
