//! One study in three dimensions: a body, its findings, its picture's technique.

use crate::anatomy::Anatomy;
use crate::facts::Facts;
use crate::finding::Side;
use crate::hardware::{Hardware, letters};
use crate::lesion::{Lesions, Placer, fill_pleura};
use crate::organs::Organs;
use crate::rng::Rng;
use crate::shapes::{Bounds, Cloud, Group};
use crate::skeleton::Skeleton;
use crate::technique::{Camera, Technique};
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
            .flat_map(|h| h.blocks.iter().map(|block| Bounds::around(block.centre, block.half)))
            .collect();
        covered.push(letters.bounds());
        let mut lesions = Lesions::default();
        let mut placer = Placer::new(&anatomy, &organs, &camera, covered);
        if let Some(fact) = facts.consolidation {
            lesions.consolidation = placer.consolidation(&mut places, fact).map(|placed| (fact, placed));
            facts.consolidation = lesions.consolidation.as_ref().map(|(fact, _)| *fact);
        }
        if let Some(fact) = facts.atelectasis {
            lesions.atelectasis = placer.atelectasis(&mut places, fact).map(|placed| (fact, placed));
            facts.atelectasis = lesions.atelectasis.as_ref().map(|(fact, _)| *fact);
            placer.covered.extend(lesions.atelectasis.iter().map(|(_, group)| group.bounds()));
        }
        placer.nodules(&mut places, &mut facts, &mut lesions);
        Self { facts, anatomy, technique, camera, organs, lesions, hardware, letters }
    }

    /// The rest of the body.
    pub(crate) fn backdrop(&self, seed: u64, index: u64) -> Backdrop {
        let (a, camera, outlines) = (&self.anatomy, &self.camera, &self.organs.outlines);
        let mut rng = Rng::new(seed, index, stream::VESSELS);
        let vessels = Vessels::new(&mut rng, a, outlines, camera);
        let clouds = self.soft_parts(&mut rng);
        Backdrop {
            skeleton: Skeleton::new(a, outlines, camera, self.technique.view),
            vessels,
            airways: self.airways(),
            clouds,
        }
    }

    /// Trachea and main bronchi; values are millimetres of air.
    fn airways(&self) -> Group {
        let (camera, s) = (&self.camera, self.anatomy.scale);
        let trachea = [[-1.0, -240.0 * s, 12.0], [-2.0, -90.0 * s, 5.0], [-1.0, -3.0, 0.0]];
        let right = [[-2.0, -2.0, 0.0], [-16.0 * s, 12.0 * s, 0.0], [-30.0 * s, 30.0 * s, 0.0]];
        let left = [[0.0, -2.0, 0.0], [20.0 * s, 12.0 * s, 0.0], [38.0 * s, 22.0 * s, 0.0]];
        let mut airways = Group::curve(camera, &trachea, 8.5 * s, 16.0);
        airways.extend(camera, &right, 6.3 * s, 9.0);
        airways.extend(camera, &left, 5.8 * s, 9.0);
        airways
    }

    /// Breasts or pectoral muscles, and gas in the stomach.
    fn soft_parts(&self, rng: &mut Rng) -> Vec<Cloud> {
        let (a, camera) = (&self.anatomy, &self.camera);
        let s = a.scale;
        let size = rng.range(0.75, 1.15) * s;
        let mut clouds: Vec<Cloud> = Side::BOTH
            .iter()
            .map(|side| {
                let (x, y, half, peak) = if a.female {
                    let y = a.height(0.68).min(86.0 * s) + rng.spread(4.0);
                    (76.0 * s, y, (64.0 * size, 54.0 * size), 38.0 * size * size)
                } else {
                    (84.0 * s, -18.0 * s, (58.0 * s, 52.0 * s), 9.0 * s)
                };
                let centre = camera.project([side.sign() * x, y, a.torso_depth()]);
                Cloud { centre, half, peak, soft: true }
            })
            .collect();
        if a.stomach_gas {
            let x = rng.range(52.0, 74.0) * s;
            let y = a.dome[Side::Left as usize] + rng.range(20.0, 26.0) * s;
            let half = (rng.range(18.0, 30.0) * s, rng.range(9.0, 13.0) * s);
            let centre = camera.project([x, y, 20.0]);
            clouds.push(Cloud { centre, half, peak: -1.7 * half.0, soft: false });
        }
        clouds
    }
}
