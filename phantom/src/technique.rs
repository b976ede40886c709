//! How a picture was taken: beam, position, exposure; and the camera that follows from it.

use crate::anatomy::Anatomy;
use crate::finding::{Side, View};
use crate::rng::Rng;

/// Distance from the back of the body to the detector, or from the front of it, in millimetres.
const DETECTOR_GAP: f32 = 22.0;

/// The choices of the person who took the picture.
#[derive(Debug, Clone)]
pub(crate) struct Technique {
    pub(crate) view: View,
    /// Source to detector, mm.
    pub(crate) source_distance: f32,
    /// Edge of the square field at the detector, mm.
    pub(crate) field: f32,
    /// Patient against the beam's axis, mm: x, y.
    pub(crate) shift: (f32, f32),
    /// Sideways lean, as a slope.
    pub(crate) lean: f32,
    /// Rotation about the long axis, as a sine; positive turns the front to the patient's left.
    pub(crate) rotation: f32,
    /// Quanta per square millimetre where nothing attenuates.
    pub(crate) quanta: f32,
    /// Slope of the display curve, per unit of attenuation.
    pub(crate) contrast: f32,
    /// Attenuation that is shown in the middle of the scale.
    pub(crate) middle: f32,
    /// Part of the slow differences that the display takes away.
    pub(crate) flattening: f32,
    /// Scattered to primary quanta for a wide field.
    pub(crate) scatter: f32,
    /// Standard deviation of the detector's blur, mm.
    pub(crate) blur: f32,
    /// Insets of the collimator's blades from the four edges (left, top, right, bottom), mm.
    pub(crate) blades: Option<[f32; 4]>,
    /// The side of the lead letter.
    pub(crate) marker: Option<Side>,
}

impl Technique {
    /// Draws a technique that keeps the whole of both lungs in the field.
    pub(crate) fn sample(rng: &mut Rng, anatomy: &Anatomy, view: View, rotated: Option<Side>) -> Self {
        let bedside = view == View::Ap;
        let source_distance = if bedside { rng.range(1000.0, 1200.0) } else { rng.range(1750.0, 1850.0) };
        // Between the two ranges nobody could say whether the patient is rotated; no picture is taken there.
        let rotation = match rotated {
            Some(side) => side.sign() * rng.range(0.17, 0.25),
            None => rng.spread(0.035),
        };
        let magnification = source_distance / (source_distance - anatomy.torso_depth() - DETECTOR_GAP);
        let tall = (anatomy.base - anatomy.apex) * magnification + 58.0;
        let wide = 2.0 * anatomy.half_width * magnification + 44.0;
        let needed = tall.max(wide);
        let field = (needed * rng.range(1.02, 1.16)).max(335.0);
        let slack = 0.5 * (field - needed);
        let middle = -0.5 * (anatomy.base + anatomy.apex) - 4.0;
        let quanta = 10f32.powf(rng.range(4.35, 5.3)) * if bedside { 0.6 } else { 1.0 };
        Self {
            view,
            source_distance,
            field,
            shift: (rng.spread(0.5 * slack.min(16.0)), middle + rng.spread(0.6 * slack.min(18.0))),
            lean: rng.spread(if bedside { 0.06 } else { 0.03 }),
            rotation,
            quanta,
            contrast: rng.range(0.78, 1.05) * if bedside { 0.93 } else { 1.0 },
            middle: rng.range(-0.22, 0.22),
            flattening: rng.range(0.3, 0.55),
            scatter: if bedside { rng.range(0.4, 0.75) } else { rng.range(0.25, 0.6) },
            blur: rng.range(0.25, 0.65),
            blades: rng.chance(0.4).then(|| {
                let mut blade = |room: f32| rng.range(2.0, 4.0 + 0.3 * room.max(0.0));
                let (side, end) = (field - wide, field - tall);
                [blade(side), blade(end), blade(side), blade(end)]
            }),
            marker: rng.chance(0.85).then(|| if rng.chance(0.7) { Side::Left } else { Side::Right }),
        }
    }

    /// The camera for this body.
    pub(crate) fn camera(&self, anatomy: &Anatomy) -> Camera {
        Camera {
            source_distance: self.source_distance,
            detector: anatomy.torso_depth() + DETECTOR_GAP,
            toward: if self.view == View::Pa { 1.0 } else { -1.0 },
            shift: self.shift,
            lean: self.lean,
            rotation: self.rotation,
        }
    }
}

/// A cone beam on a flat detector, each body seen at the magnification of its own depth.
///
/// Body coordinates in millimetres: x to the patient's left, y to the feet, z to the front; the detector's u runs
/// with x and v with y. Rays are taken as parallel within one body, which is exact for thin bodies and
/// within a few per cent for the trunk.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Camera {
    source_distance: f32,
    detector: f32,
    toward: f32,
    shift: (f32, f32),
    lean: f32,
    rotation: f32,
}

/// Body x of the pixels of one picture row: `x = start + step * column`, all at one y.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BodyRow {
    pub(crate) y: f32,
    pub(crate) start: f32,
    pub(crate) step: f32,
}

impl Camera {
    /// How much larger a body at depth z is shown.
    pub(crate) fn magnification(&self, z: f32) -> f32 {
        self.source_distance / (self.source_distance - (self.detector - self.toward * z))
    }

    /// Detector coordinates (mm from the centre) of a point of the body.
    pub(crate) fn project(&self, [x, y, z]: [f32; 3]) -> (f32, f32) {
        let m = self.magnification(z);
        let turned = x + self.rotation * z;
        ((turned + self.lean * y + self.shift.0) * m, (y + self.shift.1) * m)
    }

    /// Body coordinates at depth z of a row of pixels at detector height v, from `u` on by `spacing`.
    pub(crate) fn row(&self, z: f32, v: f32, u: f32, spacing: f32) -> BodyRow {
        let m = self.magnification(z);
        let y = v / m - self.shift.1;
        BodyRow { y, start: u / m - self.shift.0 - self.lean * y - self.rotation * z, step: spacing / m }
    }
}

/// The pixels of a square picture in detector millimetres.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Grid {
    pub(crate) size: usize,
    pub(crate) spacing: f32,
}

impl Grid {
    pub(crate) fn new(size: usize, field: f32) -> Self {
        Self { size, spacing: field / size as f32 }
    }

    /// Detector coordinate of the centre of row or column `index`.
    pub(crate) fn centre(&self, index: usize) -> f32 {
        (index as f32 + 0.5 - 0.5 * self.size as f32) * self.spacing
    }

    /// The fractional index whose centre is at `mm`.
    pub(crate) fn index(&self, mm: f32) -> f32 {
        mm / self.spacing + 0.5 * self.size as f32 - 0.5
    }

    /// The whole indices whose centres lie in `[low, high]` mm, clamped to the picture.
    pub(crate) fn span(&self, low: f32, high: f32) -> std::ops::Range<usize> {
        let clamp = |v: f32| v.clamp(0.0, self.size as f32) as usize;
        let (start, end) = (clamp(self.index(low).ceil()), clamp(self.index(high).floor() + 1.0));
        start..end.max(start)
    }
}
