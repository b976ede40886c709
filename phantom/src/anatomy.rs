//! One person's chest: sizes in millimetres, and the outlines that follow from them.

use crate::facts::{Facts, HeartFact};
use crate::finding::{Severity, Side};
use crate::profile::Profile;
use crate::rng::Rng;

/// The sizes that vary between persons and breaths.
#[derive(Debug, Clone)]
pub(crate) struct Anatomy {
    pub(crate) female: bool,
    /// Overall size against the nominal body.
    pub(crate) scale: f32,
    /// Half the inner width of the chest at its widest.
    pub(crate) half_width: f32,
    /// Half the depth of the lungs.
    pub(crate) half_depth: f32,
    /// Height of the top of the lungs; y runs to the feet, zero is near the carina.
    pub(crate) apex: f32,
    /// Height of the costophrenic angles.
    pub(crate) base: f32,
    /// Height of the domes of the diaphragm, right and left.
    pub(crate) dome: [f32; 2],
    /// Thickness of fat on the chest wall.
    pub(crate) fat: f32,
    /// Width of the heart over the inner width of the chest, as projected.
    pub(crate) cardiothoracic_ratio: f32,
    /// Mineral of the bones against the nominal.
    pub(crate) bone: f32,
    /// Prominence of the aortic arch.
    pub(crate) arch: f32,
    /// Prominence of the vessels.
    pub(crate) vessels: f32,
    /// Whether gas shows in the stomach.
    pub(crate) stomach_gas: bool,
    /// Attenuation of aerated lung, per mm.
    pub(crate) lung_density: f32,
}

impl Anatomy {
    /// Draws a body that shows these facts.
    pub(crate) fn sample(rng: &mut Rng, facts: &Facts) -> Self {
        let female = rng.chance(0.45);
        let scale = (if female { 0.94 } else { 1.02 }) + 0.035 * rng.normal().clamp(-2.0, 2.0);
        let low = facts.low_volumes;
        let base = if low { rng.range(98.0, 110.0) } else { rng.range(142.0, 160.0) };
        let rise = rng.range(50.0, 60.0);
        let right = base - rise;
        let left = right + rng.range(7.0, 14.0);
        let cardiothoracic_ratio = match facts.heart {
            HeartFact::Normal | HeartFact::Obscured => rng.range(0.40, 0.47),
            HeartFact::Enlarged(Severity::Mild) => rng.range(0.525, 0.555),
            HeartFact::Enlarged(Severity::Moderate) => rng.range(0.595, 0.625),
            HeartFact::Enlarged(Severity::Severe) => rng.range(0.665, 0.71),
        };
        Self {
            female,
            scale,
            half_width: scale * rng.range(130.0, 146.0) * if low { 0.97 } else { 1.0 },
            half_depth: scale * rng.range(76.0, 90.0),
            apex: scale * rng.range(-108.0, -97.0),
            base: scale * base,
            dome: [scale * right, scale * left],
            fat: rng.range(0.0, 1.0).powi(2) * 34.0,
            cardiothoracic_ratio,
            bone: rng.range(0.8, 1.2),
            arch: rng.range(0.0, 9.0),
            vessels: rng.range(0.85, 1.2),
            stomach_gas: rng.chance(0.65),
            lung_density: rng.range(0.0036, 0.0050) * if low { 1.15 } else { 1.0 },
        }
    }

    /// Half the depth of the trunk at the level of the lungs.
    pub(crate) fn torso_depth(&self) -> f32 {
        self.half_depth + 24.0 + 0.5 * self.fat
    }

    /// The height of a level: 0 at the apex and 1 at the costophrenic angle.
    pub(crate) fn height(&self, level: f32) -> f32 {
        self.apex + level * (self.base - self.apex)
    }
}

/// A horizontal cut through a body: an ellipse-like outline around `centre`.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Section {
    /// Middle in x.
    pub(crate) centre: f32,
    /// Half width in x; zero where there is nothing.
    pub(crate) half: f32,
    /// Half depth in z.
    pub(crate) depth: f32,
}

/// The outlines that are functions of height.
#[derive(Debug, Clone)]
pub(crate) struct Outlines {
    torso_half: Profile,
    torso_depth: Profile,
    lateral: Profile,
    medial: Profile,
    depth: Profile,
    mediastinum: [Profile; 2],
    apex: f32,
    base: f32,
    chest_depth: f32,
}

impl Outlines {
    pub(crate) fn new(a: &Anatomy) -> Self {
        let (s, w, z) = (a.scale, a.half_width, a.half_depth);
        let wall = 17.0 + 0.75 * a.fat;
        let at = |knots: &[(f32, f32)]| Profile::new(knots.iter().map(|(y, v)| (s * y, *v)).collect());
        let scaled = |unit: f32, knots: &[(f32, f32)]| {
            Profile::new(knots.iter().map(|(t, v)| (*t, unit * v)).collect())
        };
        let torso_half = at(&[
            (-235.0, 58.0 * s),
            (-168.0, 60.0 * s + 0.3 * a.fat),
            (-143.0, 84.0 * s + 0.3 * a.fat),
            (-124.0, 142.0 * s),
            (-106.0, 190.0 * s),
            (-82.0, 206.0 * s + 0.4 * a.fat),
            (-50.0, w + 54.0 + 0.4 * a.fat),
            (-15.0, w + 34.0 + 0.6 * a.fat),
            (40.0, w + 4.0 + wall),
            (150.0, w + wall),
            (240.0, w - 6.0 + wall + 0.2 * a.fat),
        ]);
        let full = a.torso_depth();
        let torso_depth = at(&[
            (-235.0, 54.0 * s),
            (-165.0, 60.0 * s),
            (-130.0, 76.0 * s),
            (-95.0, 92.0 * s),
            (-45.0, full),
            (240.0, full + 2.0),
        ]);
        Self {
            torso_half,
            torso_depth,
            lateral: scaled(w, &LATERAL),
            medial: scaled(w, &MEDIAL),
            depth: scaled(z, &DEPTH),
            mediastinum: [
                scaled(s, &scale_heights(s, &RIGHT_BORDER)),
                scaled(s, &scale_heights(s, &left_border(a.arch))),
            ],
            apex: a.apex,
            base: a.base,
            chest_depth: 0.92 * a.half_depth,
        }
    }

    fn level(&self, y: f32) -> f32 {
        (y - self.apex) / (self.base - self.apex)
    }

    /// Distance of the lung's outer border from the midline.
    pub(crate) fn lateral(&self, y: f32) -> f32 {
        self.lateral.at(self.level(y))
    }

    /// Distance of the lung's inner border from the midline, behind and before the heart.
    pub(crate) fn medial(&self, y: f32) -> f32 {
        self.medial.at(self.level(y))
    }

    pub(crate) fn torso(&self, y: f32) -> Section {
        Section { centre: 0.0, half: self.torso_half.at(y), depth: self.torso_depth.at(y) }
    }

    pub(crate) fn lung(&self, side: Side, y: f32) -> Section {
        let level = self.level(y);
        if !(0.0..1.0).contains(&level) {
            return Section::default();
        }
        self.between(side, level, self.lateral.at(level))
    }

    /// The lung when `gap` mm of air lie beside it and `drop` mm above it.
    pub(crate) fn collapsed(&self, side: Side, y: f32, gap: f32, drop: f32) -> Section {
        let level = self.level(y);
        let below = y - self.apex - drop;
        if below <= 0.0 || level >= 1.0 {
            return Section::default();
        }
        let (lateral, medial) = (self.lateral.at(level), self.medial.at(level));
        // The lower edge stays nearer to the wall than the middle.
        let gap = gap * (1.0 - 0.55 * ((level - 0.55) / 0.45).clamp(0.0, 1.0).powi(2));
        let cap = (below / 42.0).min(1.0);
        let cap = (cap * (2.0 - cap)).sqrt();
        let mut section = self.between(side, level, medial + (lateral - gap - medial).max(4.0) * cap);
        section.depth *= 0.97 * cap;
        section
    }

    fn between(&self, side: Side, level: f32, lateral: f32) -> Section {
        let medial = self.medial.at(level);
        Section {
            centre: side.sign() * 0.5 * (lateral + medial),
            half: (0.5 * (lateral - medial)).max(0.0),
            depth: self.depth.at(level),
        }
    }

    pub(crate) fn mediastinum(&self, y: f32) -> Section {
        let (right, left) = (self.mediastinum[0].at(y), self.mediastinum[1].at(y));
        Section { centre: 0.5 * (left - right), half: 0.5 * (left + right), depth: self.chest_depth }
    }
}

fn scale_heights(scale: f32, knots: &[(f32, f32)]) -> Vec<(f32, f32)> {
    knots.iter().map(|(y, v)| (y * scale, *v)).collect()
}

/// Outer border of a lung by level, over the half width of the chest.
const LATERAL: [(f32, f32); 12] = [
    (0.0, 0.36),
    (0.001, 0.387),
    (0.004, 0.416),
    (0.012, 0.46),
    (0.04, 0.545),
    (0.1, 0.65),
    (0.2, 0.775),
    (0.35, 0.88),
    (0.5, 0.945),
    (0.7, 0.99),
    (0.85, 1.0),
    (1.0, 0.975),
];
/// Inner border of a lung by level; the heart and the great vessels cover most of it.
const MEDIAL: [(f32, f32); 11] = [
    (0.0, 0.36),
    (0.001, 0.333),
    (0.004, 0.304),
    (0.012, 0.27),
    (0.04, 0.2),
    (0.1, 0.15),
    (0.2, 0.12),
    (0.35, 0.1),
    (0.5, 0.07),
    (0.7, 0.04),
    (1.0, 0.04),
];
/// Half depth of a lung by level, over that of the chest.
const DEPTH: [(f32, f32); 8] = [
    (0.0, 0.2),
    (0.04, 0.4),
    (0.12, 0.62),
    (0.28, 0.84),
    (0.48, 0.99),
    (0.75, 1.0),
    (0.88, 0.94),
    (1.0, 0.74),
];
/// Right border of the mediastinum: brachiocephalic vein, superior vena cava, azygos.
const RIGHT_BORDER: [(f32, f32); 7] =
    [(-150.0, 14.0), (-112.0, 17.0), (-72.0, 22.0), (-30.0, 25.0), (8.0, 26.0), (40.0, 22.0), (110.0, 20.0)];

/// Left border of the mediastinum: subclavian artery, aortic arch, pulmonary trunk, descending aorta.
fn left_border(arch: f32) -> Vec<(f32, f32)> {
    vec![
        (-150.0, 13.0),
        (-112.0, 18.0),
        (-66.0, 22.0),
        (-46.0, 25.0 + 0.4 * arch),
        (-29.0, 30.0 + arch),
        (-10.0, 28.0 + 0.7 * arch),
        (4.0, 25.0 + 0.1 * arch),
        (20.0, 30.0),
        (36.0, 32.0),
        (62.0, 25.0),
        (110.0, 21.0),
    ]
}
