//! Findings given a place in one body.

use crate::anatomy::Anatomy;
use crate::facts::{AreaFact, Facts, NoduleFact};
use crate::finding::{Severity, Side, Zone};
use crate::organs::{Collapse, Fluid, LungRow, Organs};
use crate::rng::Rng;
use crate::shapes::{Bounds, Cloud, Group};
use crate::technique::Camera;

/// The placed lesions of the lungs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lesions {
    /// Values are attenuation beyond lung.
    pub(crate) nodules: Vec<(NoduleFact, Cloud)>,
    pub(crate) consolidation: Option<(AreaFact, Consolidation)>,
    /// Values are millimetres of soft tissue.
    pub(crate) atelectasis: Option<(AreaFact, Group)>,
}

/// Overlapping clouds with a mottled texture; values are millimetres of soft tissue.
#[derive(Debug, Clone)]
pub(crate) struct Consolidation {
    pub(crate) clouds: Vec<Cloud>,
    pub(crate) texture: u64,
    centre: (f32, f32),
    radius: f32,
}

impl Consolidation {
    pub(crate) fn bounds(&self) -> Bounds {
        self.clouds.iter().fold(Bounds::EMPTY, |b, cloud| b.join(Bounds::around(cloud.centre, cloud.half)))
    }
}

/// Levels of a lung that no reader would assign to another third.
fn levels(zone: Zone) -> (f32, f32) {
    match zone {
        Zone::Upper => (0.1, 0.28),
        Zone::Mid => (0.39, 0.58),
        Zone::Lower => (0.69, 0.88),
    }
}

/// Gives the pleural findings their extent.
pub(crate) fn fill_pleura(rng: &mut Rng, a: &Anatomy, facts: &Facts, organs: &mut Organs) {
    let tall = (a.base - a.apex) / 255.0;
    for side in Side::BOTH {
        organs.fluid[side as usize] = facts.effusions[side as usize].map(|severity| {
            let (lateral, medial) = match severity {
                Severity::Mild => (rng.range(34.0, 44.0), rng.range(4.0, 10.0)),
                Severity::Moderate => (rng.range(84.0, 100.0), rng.range(56.0, 66.0)),
                Severity::Severe => (rng.range(148.0, 172.0), rng.range(116.0, 134.0)),
            };
            Fluid { lateral: lateral * tall, medial: medial * tall }
        });
    }
    if let Some((side, severity)) = facts.pneumothorax {
        let (gap, drop) = match severity {
            Severity::Mild => (rng.range(9.0, 13.0), rng.range(16.0, 24.0)),
            Severity::Moderate => (rng.range(24.0, 31.0), rng.range(34.0, 46.0)),
            Severity::Severe => (rng.range(48.0, 60.0), rng.range(58.0, 76.0)),
        };
        organs.collapse[side as usize] = Some(Collapse { gap: gap * a.scale, drop: drop * tall });
    }
}

/// Where lesions may be put.
pub(crate) struct Placer<'a> {
    pub(crate) anatomy: &'a Anatomy,
    pub(crate) organs: &'a Organs,
    pub(crate) camera: &'a Camera,
    /// Areas that something opaque covers, detector mm.
    pub(crate) covered: Vec<Bounds>,
    row: LungRow,
}

impl<'a> Placer<'a> {
    pub(crate) fn new(
        anatomy: &'a Anatomy,
        organs: &'a Organs,
        camera: &'a Camera,
        covered: Vec<Bounds>,
    ) -> Self {
        Self { anatomy, organs, camera, covered, row: LungRow::new(1) }
    }

    /// Length of aerated lung along the ray to a detector point.
    fn clear_at(&mut self, (u, v): (f32, f32)) -> f32 {
        self.organs.trace(self.camera, v, u, 1.0, &mut self.row);
        self.row.aerated[0]
    }

    /// Whether a disc of this radius lies over lung that neither heart, diaphragm, fluid nor free air takes much of.
    fn open(&mut self, at: (f32, f32), radius: f32) -> bool {
        let r = radius;
        [(0.0, 0.0), (r, 0.0), (-r, 0.0), (0.0, r), (0.0, -r)].iter().all(|(du, dv)| {
            let clear = self.clear_at((at.0 + du, at.1 + dv));
            let depth = 2.0
                * self.organs.outlines.lung(Side::Right, self.camera.row(0.0, at.1 + dv, 0.0, 1.0).y).depth;
            clear >= (0.62 * depth).max(45.0)
        })
    }

    fn point(&self, rng: &mut Rng, side: Side, zone: Zone) -> [f32; 3] {
        let (low, high) = levels(zone);
        let y = self.anatomy.height(rng.range(low, high));
        let outlines = &self.organs.outlines;
        let x = rng.range(outlines.medial(y).max(24.0), outlines.lateral(y));
        [side.sign() * x, y, rng.spread(30.0)]
    }

    /// Places the nodules; one that finds no room in its third is tried elsewhere and at last left out.
    pub(crate) fn nodules(&mut self, rng: &mut Rng, facts: &mut Facts, lesions: &mut Lesions) {
        for wanted in std::mem::take(&mut facts.nodules) {
            let mut fact = wanted;
            for attempt in 0..160 {
                if attempt >= 60 && attempt % 10 == 0 {
                    fact.side = Side::BOTH[rng.below(2)];
                    fact.zone = Zone::ALL[rng.below(3)];
                }
                let point = self.point(rng, fact.side, fact.zone);
                let radius = 0.5 * fact.size_mm as f32 * rng.range(0.96, 1.04);
                if self.has_room(point, radius, lesions) {
                    lesions.nodules.push((fact, self.nodule(rng, point, radius)));
                    facts.nodules.push(fact);
                    break;
                }
            }
        }
    }

    fn has_room(&mut self, point: [f32; 3], radius: f32, lesions: &Lesions) -> bool {
        let at = self.camera.project(point);
        let apart = |centre: (f32, f32), gap: f32| (centre.0 - at.0).hypot(centre.1 - at.1) > gap;
        let hilum = self.camera.project([point[0].signum() * 34.0, 8.0, 0.0]);
        apart(hilum, 24.0 + radius)
            && lesions.nodules.iter().all(|(_, other)| apart(other.centre, other.half.0 + radius + 14.0))
            && lesions.consolidation.as_ref().is_none_or(|(_, c)| apart(c.centre, c.radius + radius + 12.0))
            && self.covered.iter().all(|b| {
                at.0 + radius < b.low.0
                    || at.0 - radius > b.high.0
                    || at.1 + radius < b.low.1
                    || at.1 - radius > b.high.1
            })
            && self.open(at, radius + 3.0)
    }

    fn nodule(&self, rng: &mut Rng, point: [f32; 3], radius: f32) -> Cloud {
        let scale = self.camera.magnification(point[2]);
        let ratio = rng.range(0.93, 1.07);
        // Small nodules that are seen at all are calcified, large ones are soft: attenuation grows slower than the diameter.
        let diameter = 2.0 * radius;
        let peak = (0.45 + 0.0125 * diameter) * (diameter / 9.0).min(1.0);
        Cloud {
            centre: self.camera.project(point),
            half: (radius * scale * ratio, radius * scale / ratio),
            peak,
            soft: false,
        }
    }

    /// Places a consolidation, if there is room.
    pub(crate) fn consolidation(&mut self, rng: &mut Rng, fact: AreaFact) -> Option<Consolidation> {
        let scale = self.anatomy.scale;
        let radius = scale
            * if fact.severity == Severity::Mild { rng.range(17.0, 21.0) } else { rng.range(36.0, 44.0) };
        let centre = (0..120).find_map(|_| {
            let mut point = self.point(rng, fact.side, fact.zone);
            point[2] = 0.0;
            let at = self.camera.project(point);
            self.open(at, 0.6 * radius).then_some(at)
        })?;
        let mut clouds = vec![Cloud { centre, half: (radius, 0.85 * radius), peak: 42.0, soft: true }];
        for _ in 0..6 {
            let (turn, away) = (rng.range(0.0, std::f32::consts::TAU), rng.range(0.35, 0.8) * radius);
            let half = radius * rng.range(0.35, 0.6);
            clouds.push(Cloud {
                centre: (centre.0 + turn.cos() * away, centre.1 + turn.sin() * away),
                half: (half, half * rng.range(0.75, 1.25)),
                peak: rng.range(12.0, 26.0),
                soft: true,
            });
        }
        Some(Consolidation { clouds, texture: rng.next_u64(), centre, radius: 1.35 * radius })
    }

    /// Places a plate of collapsed lung above the diaphragm, if there is room.
    pub(crate) fn atelectasis(&mut self, rng: &mut Rng, fact: AreaFact) -> Option<Group> {
        let a = self.anatomy;
        let half = 0.5 * rng.range(42.0, 58.0) * a.scale;
        (0..80).find_map(|_| {
            let x = fact.side.sign() * a.half_width * rng.range(0.42, 0.72);
            let y = a.dome[fact.side as usize] - rng.range(6.0, 26.0) * a.scale;
            let tilt = rng.spread(0.22);
            let ends = [-1.0, 1.0].map(|sign| [x + sign * half, y + sign * tilt * half, -10.0]);
            let middle = self.camera.project([x, y, -10.0]);
            let open = self.clear_at(middle) > 40.0
                && ends.iter().all(|end| self.clear_at(self.camera.project(*end)) > 25.0);
            open.then(|| Group::curve(self.camera, &[ends[0], [x, y - 1.5, -10.0], ends[1]], 2.1, 52.0))
        })
    }
}
