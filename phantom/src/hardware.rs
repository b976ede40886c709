//! Tubes, lines and implants.

use crate::anatomy::Anatomy;
use crate::facts::DeviceFact;
use crate::finding::{Device, Side, Tip, View};
use crate::rng::Rng;
use crate::shapes::{Block, Bounds, Group, Tube, smooth};
use crate::technique::{Camera, Technique};

/// One placed device; values are attenuation.
#[derive(Debug, Clone)]
pub(crate) struct Hardware {
    pub(crate) fact: DeviceFact,
    pub(crate) groups: Vec<Group>,
    pub(crate) blocks: Vec<Block>,
}

impl Hardware {
    pub(crate) fn bounds(&self) -> Bounds {
        let tubes = self.groups.iter().fold(Bounds::EMPTY, |b, group| b.join(group.bounds()));
        self.blocks.iter().fold(tubes, |b, block| b.join(Bounds::around(block.centre, block.half)))
    }

    /// Puts a device into this body.
    pub(crate) fn place(rng: &mut Rng, fact: DeviceFact, a: &Anatomy, camera: &Camera) -> Self {
        let mut hardware = Self { fact, groups: Vec::new(), blocks: Vec::new() };
        match fact.device {
            Device::EndotrachealTube => hardware.endotracheal(rng, a, camera),
            Device::NasogastricTube => hardware.nasogastric(rng, a, camera),
            Device::CentralVenousCatheter => hardware.catheter(rng, a, camera),
            Device::Pacemaker => hardware.pacemaker(rng, a, camera),
            Device::EcgLeads => hardware.electrodes(rng, a, camera),
        }
        hardware
    }

    fn line(&mut self, camera: &Camera, points: &[[f32; 3]], radius: f32, peak: f32) {
        self.groups.push(Group::curve(camera, &smooth(points, 8), radius, peak));
    }

    fn endotracheal(&mut self, rng: &mut Rng, a: &Anatomy, camera: &Camera) {
        let s = a.scale;
        let tip = s * match self.fact.tip {
            Some(Tip::AtCarina) => rng.range(-8.0, -2.0),
            _ => rng.range(-46.0, -36.0),
        };
        let x = rng.range(-3.0, 1.0);
        let points =
            [[x + 2.0, -240.0 * s, 25.0], [x, -150.0 * s, 12.0], [x - 1.0, -90.0 * s, 2.0], [x, tip, 0.0]];
        let mut wall = Group::curve(camera, &smooth(&points, 8), 4.6, 0.5);
        for tube in &mut wall.tubes {
            tube.core = (0.72, 0.9);
        }
        self.groups.push(wall);
        self.line(camera, &points.map(|[x, y, z]| [x + 3.2, y, z]), 0.9, 1.0);
    }

    fn nasogastric(&mut self, rng: &mut Rng, a: &Anatomy, camera: &Camera) {
        let (s, dome) = (a.scale, a.dome[Side::Left as usize]);
        let x = rng.range(5.0, 9.0);
        let mut points = vec![[x, -240.0 * s, 0.0], [x - 2.0, -120.0 * s, -18.0], [x + 2.0, 0.0, -25.0]];
        if self.fact.tip == Some(Tip::DistalEsophagus) {
            points.push([x + 8.0, dome - 22.0 * s, -20.0]);
        } else {
            points.extend([
                [x + 6.0, dome - 30.0 * s, -20.0],
                [x + 24.0, dome + 14.0 * s, 0.0],
                [x + rng.range(52.0, 66.0), dome + 36.0 * s, 15.0],
            ]);
        }
        self.line(camera, &points, 1.5, 0.8);
        if let Some(end) = points.last() {
            self.line(camera, &[[end[0] - 3.0, end[1] - 3.0, end[2]], *end], 2.4, 1.3);
        }
    }

    fn catheter(&mut self, rng: &mut Rng, a: &Anatomy, camera: &Camera) {
        let s = a.scale;
        let tip = s * match self.fact.tip {
            Some(Tip::RightAtrium) => rng.range(44.0, 56.0),
            _ => rng.range(-16.0, -2.0),
        };
        let tip = if tip > 0.0 { tip.min(a.dome[0] - 14.0 * s) } else { tip };
        let mut points = match self.fact.side {
            Some(Side::Left) => vec![
                [a.half_width + 40.0, -70.0 * s, 20.0],
                [82.0 * s, -88.0 * s, 35.0],
                [40.0 * s, -72.0 * s, 40.0],
                [8.0 * s, -52.0 * s, 36.0],
                [-17.0 * s, -36.0 * s, 30.0],
            ],
            _ => vec![
                [-44.0 * s, -240.0 * s, 10.0],
                [-32.0 * s, -130.0 * s, 22.0],
                [-21.0 * s, -70.0 * s, 30.0],
            ],
        };
        points.push([-22.0 * s, tip - 12.0, 28.0]);
        points.push([-21.0 * s, tip, 26.0]);
        self.line(camera, &points, 1.3, 0.9);
    }

    fn pacemaker(&mut self, rng: &mut Rng, a: &Anatomy, camera: &Camera) {
        let s = a.scale;
        let side = self.fact.side.unwrap_or(Side::Left).sign();
        let can = [side * (a.half_width - rng.range(34.0, 48.0)), rng.range(-62.0, -48.0) * s, 82.0];
        let m = camera.magnification(can[2]);
        self.blocks.push(Block {
            centre: camera.project(can),
            half: (rng.range(21.0, 25.0) * m, rng.range(18.0, 21.0) * m),
            peak: 2.4,
            core: (0.9, 0.25),
        });
        let start = [
            [can[0] - side * 14.0, can[1] - 16.0, 80.0],
            [side * 66.0 * s, -90.0 * s, 40.0],
            [side * 24.0 * s, -66.0 * s, 38.0],
            [-18.0 * s, -34.0 * s, 30.0],
        ];
        let apex = [rng.range(34.0, 46.0) * s, a.dome[Side::Left as usize] - rng.range(0.0, 8.0) * s, 45.0];
        let mut leads = vec![vec![[-24.0 * s, 14.0 * s, 25.0], [-16.0 * s, apex[1] - 24.0, 25.0], apex]];
        if self.fact.tip == Some(Tip::AtriumAndVentricle) {
            let turn = 34.0 * s;
            leads.push(vec![
                [-27.0 * s, 8.0 * s, 26.0],
                [-30.0 * s, turn, 32.0],
                [-40.0 * s, turn - 16.0 * s, 42.0],
            ]);
        }
        for lead in leads {
            let points: Vec<_> = start.iter().copied().chain(lead).collect();
            self.line(camera, &points, 1.0, 0.85);
            let tail = &points[points.len() - 1];
            self.line(camera, &[[tail[0] - 3.0, tail[1] - 1.5, tail[2]], *tail], 1.8, 1.2);
        }
    }

    fn electrodes(&mut self, rng: &mut Rng, a: &Anatomy, camera: &Camera) {
        let (s, z) = (a.scale, a.torso_depth());
        let from = [rng.range(60.0, 90.0), 260.0 * s, z];
        let pads = [
            [-a.half_width * rng.range(0.6, 0.8), rng.range(-70.0, -40.0) * s, z - 20.0],
            [a.half_width * rng.range(0.6, 0.8), rng.range(-70.0, -40.0) * s, z - 20.0],
            [a.half_width * rng.range(0.8, 0.95), rng.range(70.0, 95.0) * s, z - 30.0],
        ];
        for pad in pads {
            let bend = [
                0.5 * (pad[0] + from[0]) + rng.spread(35.0),
                0.45 * (pad[1] + from[1]) + rng.spread(20.0),
                z,
            ];
            self.line(camera, &[pad, bend, from], 0.9, 0.45);
            // A metal stud in a ring, unlike any nodule.
            let (u, v) = camera.project(pad);
            let mut ring = Tube::solid([(u, v), (u, v + 0.1)], 6.5, 0.5);
            ring.core = (0.72, 1.3);
            self.groups.push(Group { tubes: vec![ring] });
            self.groups.push(Group { tubes: vec![Tube::solid([(u, v), (u, v + 0.1)], 2.0, 1.6)] });
        }
    }
}

/// Strokes of a letter in a box one wide and one high.
fn strokes(letter: char) -> &'static [[(f32, f32); 2]] {
    match letter {
        'L' => &[[(0.1, 0.0), (0.1, 1.0)], [(0.1, 1.0), (0.75, 1.0)]],
        'R' => &[
            [(0.1, 0.0), (0.1, 1.0)],
            [(0.1, 0.0), (0.6, 0.05)],
            [(0.6, 0.05), (0.7, 0.25)],
            [(0.7, 0.25), (0.6, 0.48)],
            [(0.6, 0.48), (0.1, 0.5)],
            [(0.35, 0.5), (0.75, 1.0)],
        ],
        'A' => &[[(0.0, 1.0), (0.38, 0.0)], [(0.38, 0.0), (0.76, 1.0)], [(0.15, 0.62), (0.6, 0.62)]],
        _ => &[
            [(0.1, 0.0), (0.1, 1.0)],
            [(0.1, 0.0), (0.6, 0.05)],
            [(0.6, 0.05), (0.72, 0.27)],
            [(0.72, 0.27), (0.6, 0.5)],
            [(0.6, 0.5), (0.1, 0.53)],
        ],
    }
}

/// Lead letters on the detector: the side, and `AP` at the bedside.
pub(crate) fn letters(rng: &mut Rng, technique: &Technique) -> Group {
    let mut group = Group::default();
    let side = technique.marker.unwrap_or(Side::Left);
    let inset = technique.blades.map_or([0.0; 4], |blades| blades);
    let edge = 0.5 * technique.field;
    let near = if side == Side::Right { inset[0] } else { inset[2] };
    let middle = side.sign() * (edge - near - rng.range(22.0, 34.0));
    let mut top = -edge + inset[1] + rng.range(10.0, 24.0);
    let mut write = |text: &str, top: f32, height: f32| {
        let width = 0.95 * height;
        let left = middle - 0.5 * width * text.len() as f32;
        for (i, letter) in text.chars().enumerate() {
            let at = |(x, y): (f32, f32)| (left + width * i as f32 + 0.8 * height * x, top + height * y);
            for stroke in strokes(letter) {
                group.tubes.push(Tube::solid([at(stroke[0]), at(stroke[1])], 1.3, 3.2));
            }
        }
    };
    if technique.marker.is_some() {
        write(if side == Side::Left { "L" } else { "R" }, top, 15.0);
        top += 21.0;
    }
    if technique.view == View::Ap {
        write("AP", top, 13.0);
    }
    group
}
