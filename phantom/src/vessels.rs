//! The vessels of the lungs: two trees that branch from the hila.

use crate::anatomy::{Anatomy, Outlines};
use crate::finding::Side;
use crate::rng::Rng;
use crate::shapes::{Cloud, Group, Tube};
use crate::technique::Camera;
use std::collections::VecDeque;

/// What stands in the lungs besides lung; values are millimetres of soft tissue.
#[derive(Debug, Clone, Default)]
pub(crate) struct Vessels {
    pub(crate) trees: Vec<Group>,
    pub(crate) clouds: Vec<Cloud>,
}

/// Directions of the trunks from the hilum, radians from outward, negative to the head.
const TRUNKS: [f32; 7] = [-1.3, -0.85, -0.4, 0.05, 0.5, 0.92, 1.3];
const STEP: f32 = 11.0;
/// Vessels thinner than this (radius, mm) are part of the lung's own density.
const THINNEST: f32 = 0.55;
/// Depth over radius: an artery, its vein and its bronchus run together and are drawn as one.
const FLATTENED: f32 = 4.2;
/// Most pieces of a tree; only wide lungs reach it.
const MOST: usize = 270;

struct Tip {
    at: [f32; 3],
    heading: f32,
    radius: f32,
}

impl Vessels {
    pub(crate) fn new(rng: &mut Rng, a: &Anatomy, outlines: &Outlines, camera: &Camera) -> Self {
        let mut vessels = Self::default();
        for side in Side::BOTH {
            let tree = vessels.tree(rng, a, outlines, camera, side);
            vessels.trees.push(tree);
        }
        vessels
    }

    fn tree(
        &mut self,
        rng: &mut Rng,
        a: &Anatomy,
        outlines: &Outlines,
        camera: &Camera,
        side: Side,
    ) -> Group {
        let s = a.scale;
        let stretch = (a.base - a.apex) / (255.0 * s);
        let hilum = match side {
            Side::Right => [-34.0 * s, 13.0 * s * stretch, 0.0],
            Side::Left => [35.0 * s, 4.0 * s * stretch, 0.0],
        };
        for (dy, tall) in [(-8.0, 9.0), (7.0, 13.0)] {
            let at = [hilum[0] + side.sign() * rng.range(0.0, 4.0), hilum[1] + dy * s, 0.0];
            self.clouds.push(Cloud {
                centre: camera.project(at),
                half: (rng.range(7.0, 10.0) * s, tall * s),
                peak: 16.0 * a.vessels,
                soft: true,
            });
        }
        let mut tips: VecDeque<Tip> = TRUNKS
            .iter()
            .map(|turn| Tip {
                at: hilum,
                heading: turn + rng.spread(0.15),
                radius: a.vessels * rng.range(3.0, 4.0),
            })
            .collect();
        let mut tree = Group::default();
        // First in, first out: all branches grow at the same pace until the tree is full.
        while let Some(tip) = tips.pop_front() {
            if tree.tubes.len() < MOST {
                grow(rng, outlines, camera, side, &tip, &mut tree, &mut tips);
            }
        }
        for _ in 0..4 {
            self.end_on(rng, a, camera, side, hilum);
        }
        tree
    }

    /// A vessel seen along its axis: a small round dot near the hilum, there to be told from a nodule.
    fn end_on(&mut self, rng: &mut Rng, a: &Anatomy, camera: &Camera, side: Side, hilum: [f32; 3]) {
        let radius = rng.range(1.2, 2.2);
        let at = [
            hilum[0] + side.sign() * rng.range(8.0, 45.0) * a.scale,
            hilum[1] + rng.spread(40.0) * a.scale,
            rng.spread(40.0),
        ];
        self.clouds.push(Cloud {
            centre: camera.project(at),
            half: (radius, radius),
            peak: 3.0 * radius,
            soft: false,
        });
    }
}

/// One step of one branch, and its fork if it forks.
fn grow(
    rng: &mut Rng,
    outlines: &Outlines,
    camera: &Camera,
    side: Side,
    tip: &Tip,
    tree: &mut Group,
    tips: &mut VecDeque<Tip>,
) {
    let heading = tip.heading + rng.spread(0.2);
    let step = STEP * rng.range(0.8, 1.2);
    let to = [
        tip.at[0] + side.sign() * heading.cos() * step,
        tip.at[1] + heading.sin() * step,
        (tip.at[2] + rng.spread(9.0)).clamp(-60.0, 60.0),
    ];
    let lung = outlines.lung(side, to[1]);
    if lung.half <= 0.0 || (to[0] - lung.centre).abs() > lung.half - 5.0 {
        return;
    }
    let radius = tip.radius * rng.range(0.88, 0.96);
    let scale = camera.magnification(to[2]);
    tree.tubes.push(Tube {
        ends: [camera.project(tip.at), camera.project(to)],
        radius: [tip.radius * scale, radius * scale],
        peak: [FLATTENED * tip.radius, FLATTENED * radius],
        core: (0.0, 0.0),
    });
    if radius < THINNEST {
        return;
    }
    if rng.chance(0.42) {
        let turn = rng.range(0.3, 0.7);
        let sign = if rng.chance(0.5) { 1.0 } else { -1.0 };
        tips.push_back(Tip {
            at: to,
            heading: heading + sign * turn,
            radius: radius * rng.range(0.65, 0.82),
        });
        tips.push_back(Tip { at: to, heading: heading - sign * 0.35 * turn, radius: radius * 0.9 });
    } else {
        tips.push_back(Tip { at: to, heading, radius });
    }
}
