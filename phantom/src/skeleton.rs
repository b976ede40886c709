//! Ribs, spine, clavicles, shoulder blades and upper arms.

use crate::anatomy::{Anatomy, Outlines};
use crate::finding::{Side, View};
use crate::shapes::{Block, Group, Tube, smooth};
use crate::technique::Camera;

/// The bones, as structures to add one by one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Skeleton {
    pub(crate) groups: Vec<Group>,
    pub(crate) blocks: Vec<Block>,
}

/// How far the front end of a rib lies below its back end, mm, first to tenth.
const DROP: [f32; 10] = [34.0, 56.0, 72.0, 82.0, 88.0, 92.0, 94.0, 94.0, 90.0, 84.0];
/// Angle from the spine at which the bone of a rib ends and its cartilage begins, radians.
const END: [f32; 10] = [2.35, 2.45, 2.5, 2.5, 2.45, 2.4, 2.3, 2.15, 1.95, 1.75];
/// Half the height and half the thickness of a rib, and its cortex, mm.
const RIB: (f32, f32, f32) = (5.6, 3.3, 0.95);
/// Attenuation beyond soft tissue, per mm: compact bone (ICRU 44 at about 65 keV) and marrow bone.
const COMPACT: f32 = 0.060;
const MARROW: f32 = 0.009;

impl Skeleton {
    pub(crate) fn new(a: &Anatomy, outlines: &Outlines, camera: &Camera, view: View) -> Self {
        let mut bones = Self::default();
        for side in Side::BOTH {
            for number in 0..DROP.len() {
                bones.rib(a, outlines, camera, side, number);
            }
            bones.shoulder(a, camera, side, view);
        }
        bones.spine(a, camera);
        bones
    }

    fn rib(&mut self, a: &Anatomy, outlines: &Outlines, camera: &Camera, side: Side, number: usize) {
        const PIECES: usize = 15;
        let from = 0.24;
        let slope = if a.base < 125.0 * a.scale { 0.82 } else { 1.0 };
        // Ribs follow the lung's length: a shallow breath draws them together.
        let pitch = (a.base - a.apex) / 9.9;
        let top = a.apex - 17.0 * a.scale + pitch * number as f32;
        let drop = slope * a.scale * DROP[number];
        let depth = a.half_depth + 5.0;
        let point = |angle: f32| {
            let y = top + 0.5 * drop * (1.0 - angle.cos());
            let level = outlines.lateral(y.max(a.apex + 0.05 * (a.base - a.apex))) + 3.5;
            let x = side.sign() * (level * angle.sin()).max(15.0 * a.scale);
            [x, y, -depth * angle.cos()]
        };
        let (half, thick, cortex) = (RIB.0 * a.scale, RIB.1 * a.scale, RIB.2);
        let mut rib = Group::default();
        for piece in 0..PIECES {
            let angle = |i: usize| from + (END[number] - from) * i as f32 / PIECES as f32;
            let (p, q) = (point(angle(piece)), point(angle(piece + 1)));
            let across = (q[0] - p[0]).hypot(q[1] - p[1]);
            let slant = (across.hypot(q[2] - p[2]) / across.max(0.1)).min(2.6);
            let solid = a.bone * COMPACT * 2.0 * thick * slant;
            let hollow = a.bone * (COMPACT - MARROW) * 2.0 * (thick - cortex) * slant;
            let radius = half * camera.magnification(p[2]);
            // The front end is thinner where it becomes cartilage.
            let fade = if piece + 2 >= PIECES { 0.75 } else { 1.0 } * if number == 0 { 0.6 } else { 1.0 };
            let tube = Tube {
                ends: [camera.project(p), camera.project(q)],
                radius: [radius; 2],
                peak: [solid * fade; 2],
                core: ((half - cortex) / half, hollow / solid * half / (half - cortex)),
            };
            rib.tubes.push(tube);
        }
        self.groups.push(rib);
    }

    fn spine(&mut self, a: &Anatomy, camera: &Camera) {
        let (s, z, bone) = (a.scale, -58.0 * a.scale, a.bone);
        let m = camera.magnification(z);
        let mut arches = Group::default();
        for number in 0..15 {
            let y = (-150.0 + 24.0 * number as f32) * s;
            let half = ((13.5 + 0.5 * number as f32) * s, 9.6 * s);
            self.blocks.push(Block {
                centre: camera.project([0.0, y, z]),
                half: (half.0 * m, half.1 * m),
                peak: 0.42 * bone,
                core: (0.86, 0.5),
            });
            for side in Side::BOTH {
                let x = side.sign();
                let oval = [[x * 9.0 * s, y - 5.0 * s, z], [x * 9.0 * s, y + 0.5 * s, z]];
                arches.extend(camera, &oval, 3.4 * s, 0.13 * bone);
                let wing =
                    [[x * half.0, y - 3.0 * s, z - 15.0], [x * (half.0 + 15.0 * s), y - 8.0 * s, z - 20.0]];
                arches.extend(camera, &wing, 3.6 * s, 0.13 * bone);
            }
            let spinous = [[0.0, y + 4.0 * s, z - 35.0], [0.0, y + 13.0 * s, z - 45.0]];
            arches.extend(camera, &spinous, 2.8 * s, 0.22 * bone);
        }
        self.groups.push(arches);
    }

    fn shoulder(&mut self, a: &Anatomy, camera: &Camera, side: Side, view: View) {
        let (s, bone) = (a.scale, a.bone);
        let at = |x: f32, y: f32, z: f32| [side.sign() * x, y, z];
        let w = a.half_width;
        // With the beam from the front and the arms down, the clavicles ride up and the blades lie on the lungs.
        let (lift, inward) = if view == View::Ap { (-10.0 * s, 34.0) } else { (0.0, 0.0) };
        let clavicle = smooth(
            &[
                at(15.0 * s, -48.0 * s, 62.0),
                at(40.0 * s, -60.0 * s + 0.6 * lift, 58.0),
                at(80.0 * s, -76.0 * s + lift, 38.0),
                at(118.0 * s, -86.0 * s + lift, 12.0),
                at(w + 18.0, -92.0 * s + lift, -5.0),
            ],
            4,
        );
        let mut group = Group::curve(camera, &clavicle, 5.8 * s, 0.36 * bone);
        for tube in &mut group.tubes {
            tube.core = (0.78, 0.82);
        }
        self.groups.push(group);
        let edge = w - 4.0 - inward;
        let blade = [
            at(edge + 6.0, -84.0 * s, -70.0),
            at(edge - 3.0, -40.0 * s, -78.0),
            at(edge + 3.0, 22.0 * s, -80.0),
            at(edge + 14.0, 46.0 * s, -78.0),
            at(edge + 30.0, 12.0 * s, -70.0),
            at(edge + 50.0, -44.0 * s, -55.0),
            at(edge + 56.0, -72.0 * s, -45.0),
        ];
        self.groups.push(Group::curve(camera, &smooth(&blade, 4), 2.3 * s, 0.07 * bone));
        let plate = [
            at(edge + 24.0, -66.0 * s, -70.0),
            at(edge + 22.0, -10.0 * s, -75.0),
            at(edge + 15.0, 30.0 * s, -78.0),
        ];
        self.groups.push(Group::curve(camera, &plate, 19.0 * s, 0.07 * bone));
        let ridge = [
            at(edge + 4.0, -62.0 * s, -85.0),
            at(edge + 40.0, -80.0 * s, -75.0),
            at(edge + 66.0, -96.0 * s, -50.0),
        ];
        self.groups.push(Group::curve(camera, &ridge, 4.5 * s, 0.13 * bone));
        let arm =
            [at(w + 42.0, -80.0 * s, -20.0), at(w + 50.0, -50.0 * s, -20.0), at(w + 54.0, 60.0 * s, -20.0)];
        let mut humerus = Group::curve(camera, &arm[..2], 24.0 * s, 0.42 * bone);
        humerus.extend(camera, &arm[1..], 12.0 * s, 0.42 * bone);
        for tube in &mut humerus.tubes {
            tube.core = (0.84, 0.62);
        }
        self.groups.push(humerus);
    }
}
