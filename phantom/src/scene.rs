//! One study in three dimensions: a body, its findings, its picture's technique.

use crate::anatomy::Anatomy;
use crate::facts::{Facts, HeartFact};
use crate::finding::{Finding, Kind, Side};
use crate::hardware::{Hardware, letters};
use crate::lesion::{Lesions, Placer, fill_pleura};
use crate::organs::{LungRow, Organs};
use crate::rng::Rng;
use crate::shapes::{Bounds, Cloud, Group};
use crate::skeleton::Skeleton;
use crate::technique::{Camera, Grid, Technique};
use crate::vessels::Vessels;

/// The random streams of a study; the words have their own.
mod stream {
    pub(super) const FACTS: u64 = 1;
    pub(super) const BODY: u64 = 2;
    pub(super) const PLACES: u64 = 3;
    pub(super) const VESSELS: u64 = 4;
}

/// Everything that the picture is made from.
#[derive(Debug, Clone)]
pub(crate) struct Scene {
    pub(crate) facts: Facts,
    pub(crate) anatomy: Anatomy,
    pub(crate) technique: Technique,
    pub(crate) camera: Camera,
    pub(crate) organs: Organs,
    pub(crate) lesions: Lesions,
    pub(crate) hardware: Vec<Hardware>,
    pub(crate) letters: Group,
}

/// The bodies that no fact depends on, built only for rendering.
#[derive(Debug, Clone)]
pub(crate) struct Backdrop {
    pub(crate) skeleton: Skeleton,
    pub(crate) vessels: Vessels,
    pub(crate) airways: Group,
    /// Soft tissue and gas outside of the lungs; values are millimetres, gas negative.
    pub(crate) clouds: Vec<Cloud>,
}

/// Cells along an edge of the grid on which the extent of pleural findings is measured.
const SURVEY: usize = 128;

impl Scene {
    /// The scene of study `index` under `seed`.
    pub(crate) fn new(seed: u64, index: u64) -> Self {
        let mut facts = crate::sample::sample(&mut Rng::new(seed, index, stream::FACTS));
        let mut body = Rng::new(seed, index, stream::BODY);
        let anatomy = Anatomy::sample(&mut body, &facts);
        let technique = Technique::sample(&mut body, &anatomy, facts.view, facts.rotated);
        let camera = technique.camera(&anatomy);
        let mut organs = Organs::new(&anatomy, &camera);
        let mut places = Rng::new(seed, index, stream::PLACES);
        let letters = letters(&mut places, &technique);
        fill_pleura(&mut places, &anatomy, &facts, &mut organs);
        let hardware: Vec<Hardware> = facts
            .devices
            .iter()
            .map(|device| Hardware::place(&mut places, *device, &anatomy, &camera))
            .collect();
        let mut covered: Vec<Bounds> = hardware
            .iter()
            .flat_map(|h| {
                h.blocks
                    .iter()
                    .map(|block| Bounds::around(block.centre, block.half))
            })
            .collect();
        covered.push(letters.bounds());
        let mut lesions = Lesions::default();
        let mut placer = Placer::new(&anatomy, &organs, &camera, covered);
        if let Some(fact) = facts.consolidation {
            lesions.consolidation = placer
                .consolidation(&mut places, fact)
                .map(|placed| (fact, placed));
            facts.consolidation = lesions.consolidation.as_ref().map(|(fact, _)| *fact);
        }
        if let Some(fact) = facts.atelectasis {
            lesions.atelectasis = placer
                .atelectasis(&mut places, fact)
                .map(|placed| (fact, placed));
            facts.atelectasis = lesions.atelectasis.as_ref().map(|(fact, _)| *fact);
            placer
                .covered
                .extend(lesions.atelectasis.iter().map(|(_, group)| group.bounds()));
        }
        placer.nodules(&mut places, &mut facts, &mut lesions);
        Self {
            facts,
            anatomy,
            technique,
            camera,
            organs,
            lesions,
            hardware,
            letters,
        }
    }

    /// The rest of the body.
    pub(crate) fn backdrop(&self, seed: u64, index: u64) -> Backdrop {
        let (a, camera, outlines) = (&self.anatomy, &self.camera, &self.organs.outlines);
        let s = a.scale;
        let mut rng = Rng::new(seed, index, stream::VESSELS);
        let vessels = Vessels::new(&mut rng, a, outlines, camera);
        let mut airways = Group::curve(
            camera,
            &[
                [-1.0, -240.0 * s, 12.0],
                [-2.0, -90.0 * s, 5.0],
                [-1.0, -3.0, 0.0],
            ],
            8.5 * s,
            16.0,
        );
        airways.extend(
            camera,
            &[
                [-2.0, -2.0, 0.0],
                [-16.0 * s, 12.0 * s, 0.0],
                [-30.0 * s, 30.0 * s, 0.0],
            ],
            6.3 * s,
            9.0,
        );
        airways.extend(
            camera,
            &[
                [0.0, -2.0, 0.0],
                [20.0 * s, 12.0 * s, 0.0],
                [38.0 * s, 22.0 * s, 0.0],
            ],
            5.8 * s,
            9.0,
        );
        let mut clouds = Vec::new();
        if a.female {
            let size = rng.range(0.75, 1.15) * s;
            for side in Side::BOTH {
                let at = [
                    side.sign() * 76.0 * s,
                    (a.height(0.68)).min(86.0 * s) + rng.spread(4.0),
                    a.torso_depth(),
                ];
                clouds.push(Cloud {
                    centre: camera.project(at),
                    half: (64.0 * size, 54.0 * size),
                    peak: 38.0 * size * size,
                    soft: true,
                });
            }
        } else {
            for side in Side::BOTH {
                let at = [side.sign() * 84.0 * s, -18.0 * s, a.torso_depth()];
                clouds.push(Cloud {
                    centre: camera.project(at),
                    half: (58.0 * s, 52.0 * s),
                    peak: 9.0 * s,
                    soft: true,
                });
            }
        }
        if a.stomach_gas {
            let at = [
                rng.range(52.0, 74.0) * s,
                a.dome[1] + rng.range(20.0, 26.0) * s,
                20.0,
            ];
            let half = (rng.range(18.0, 30.0) * s, rng.range(9.0, 13.0) * s);
            clouds.push(Cloud {
                centre: camera.project(at),
                half,
                peak: -1.7 * half.0,
                soft: false,
            });
        }
        Backdrop {
            skeleton: Skeleton::new(a, outlines, camera, self.technique.view),
            vessels,
            airways,
            clouds,
        }
    }

    /// The findings with their boxes in a picture of `size` pixels, in the order of the impression.
    pub(crate) fn findings(&self, size: usize) -> Vec<Finding> {
        let grid = Grid::new(size, self.technique.field);
        let mut found: Vec<(Finding, Bounds)> = Vec::new();
        self.pleural(&mut found);
        let blank = |kind| Finding {
            kind,
            side: None,
            zone: None,
            size_mm: None,
            severity: None,
            device: None,
            tip: None,
            bbox: [0; 4],
        };
        if let Some((fact, placed)) = &self.lesions.consolidation {
            let finding = Finding {
                side: Some(fact.side),
                zone: Some(fact.zone),
                severity: Some(fact.severity),
                ..blank(Kind::Consolidation)
            };
            found.push((finding, placed.bounds()));
        }
        for (fact, cloud) in &self.lesions.nodules {
            let finding = Finding {
                side: Some(fact.side),
                zone: Some(fact.zone),
                size_mm: Some(fact.size_mm as f32),
                ..blank(Kind::Nodule)
            };
            found.push((finding, Bounds::around(cloud.centre, cloud.half)));
        }
        if let Some((fact, group)) = &self.lesions.atelectasis {
            let finding = Finding {
                side: Some(fact.side),
                zone: Some(fact.zone),
                ..blank(Kind::Atelectasis)
            };
            found.push((finding, group.bounds()));
        }
        if let HeartFact::Enlarged(severity) = self.facts.heart {
            found.push((
                Finding {
                    severity: Some(severity),
                    ..blank(Kind::Cardiomegaly)
                },
                self.heart_bounds(),
            ));
        }
        for hardware in &self.hardware {
            let fact = hardware.fact;
            let finding = Finding {
                side: fact.side,
                device: Some(fact.device),
                tip: fact.tip,
                ..blank(Kind::Device)
            };
            found.push((finding, hardware.bounds()));
        }
        found
            .into_iter()
            .map(|(finding, bounds)| Finding {
                bbox: bounds.pixels(&grid),
                ..finding
            })
            .collect()
    }

    fn heart_bounds(&self) -> Bounds {
        self.organs
            .heart
            .iter()
            .fold(Bounds::EMPTY, |bounds, body| {
                let scale = self.camera.magnification(body.centre[2]);
                let (x, y) = body.extent();
                bounds.join(Bounds::around(
                    self.camera.project(body.centre),
                    (x * scale, y * scale),
                ))
            })
    }

    /// Pneumothorax and effusions, measured on the rays themselves.
    fn pleural(&self, found: &mut Vec<(Finding, Bounds)>) {
        let air = self
            .facts
            .pneumothorax
            .map(|(side, severity)| (Kind::Pneumothorax, side, severity));
        let fluid = Side::BOTH.into_iter().filter_map(|side| {
            self.facts.effusions[side as usize]
                .map(|severity| (Kind::PleuralEffusion, side, severity))
        });
        let wanted: Vec<_> = air.into_iter().chain(fluid).collect();
        if wanted.is_empty() {
            return;
        }
        let mut bounds = vec![Bounds::EMPTY; wanted.len()];
        let grid = Grid::new(SURVEY, self.technique.field);
        let half = 0.5 * grid.spacing;
        let midline = grid
            .index(self.camera.project([0.0, 40.0, 0.0]).0)
            .clamp(0.0, SURVEY as f32) as usize;
        let mut row = LungRow::new(SURVEY);
        for j in 0..SURVEY {
            self.organs.trace(
                &self.camera,
                grid.centre(j),
                grid.centre(0),
                grid.spacing,
                &mut row,
            );
            for ((kind, side, _), bounds) in wanted.iter().zip(&mut bounds) {
                let lengths = if *kind == Kind::Pneumothorax {
                    &row.air
                } else {
                    &row.fluid
                };
                let columns = if *side == Side::Right {
                    0..midline
                } else {
                    midline..SURVEY
                };
                // Two millimetres of lung exchanged for air or water is where the eye begins to see it.
                for i in columns.filter(|i| lengths[*i] > 2.0) {
                    *bounds = bounds.join(Bounds::around(
                        (grid.centre(i), grid.centre(j)),
                        (half, half),
                    ));
                }
            }
        }
        for ((kind, side, severity), bounds) in wanted.into_iter().zip(bounds) {
            let finding = Finding {
                kind,
                side: Some(side),
                zone: None,
                size_mm: None,
                severity: Some(severity),
                device: None,
                tip: None,
                bbox: [0; 4],
            };
            found.push((finding, bounds));
        }
    }
}
