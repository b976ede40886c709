//! Which findings a study has, before anything is placed.

use crate::facts::{AreaFact, DeviceFact, Facts, HeartFact, NoduleFact};
use crate::finding::{Device, Kind, Severity, Side, Tip, View, Zone};
use crate::rng::Rng;

/// Share of studies without any finding.
const NORMAL: f32 = 0.2;
/// Weights of one, two, three and four findings in the others.
const COUNTS: [f32; 4] = [0.34, 0.36, 0.21, 0.09];
/// Weights of the kinds, in the order of [`Kind::ALL`].
const WEIGHTS: [f32; 7] = [0.7, 1.0, 0.85, 1.15, 0.45, 0.9, 0.95];
/// Diameters in millimetres as a report would state them, and their weights: apart enough to be told by eye.
const DIAMETERS: [(u32, f32); 8] =
    [(6, 0.5), (8, 0.8), (10, 1.2), (12, 1.3), (15, 1.4), (20, 1.3), (25, 0.9), (30, 0.6)];

/// The facts that a study is to show; placing may still drop a nodule for which there is no room.
pub(crate) fn sample(rng: &mut Rng) -> Facts {
    let kinds = kinds(rng);
    let has = |kind: Kind| kinds.contains(&kind);
    let mut facts = Facts::normal(View::Pa);
    if has(Kind::Device) {
        facts.devices = devices(rng);
    }
    let intubated =
        facts.devices.iter().any(|d| matches!(d.device, Device::EndotrachealTube | Device::NasogastricTube));
    facts.view = if rng.chance(if intubated { 0.85 } else { 0.25 }) { View::Ap } else { View::Pa };
    facts.rotated = rng.chance(0.1).then(|| side(rng));
    facts.low_volumes = rng.chance(0.13);
    if has(Kind::Pneumothorax) {
        facts.pneumothorax = Some((side(rng), Severity::ALL[rng.weighted(&[1.0, 1.0, 0.8])]));
    }
    if has(Kind::PleuralEffusion) {
        effusions(rng, &mut facts);
    }
    if has(Kind::Cardiomegaly) {
        facts.heart = HeartFact::Enlarged(Severity::ALL[rng.weighted(&[1.0, 1.0, 0.8])]);
    }
    if facts.effusions[Side::Left as usize] == Some(Severity::Severe) {
        facts.heart = HeartFact::Obscured;
    }
    if has(Kind::Consolidation) {
        facts.consolidation = consolidation(rng, &facts);
    }
    if has(Kind::Atelectasis) {
        facts.atelectasis = atelectasis(rng, &facts);
    }
    if has(Kind::Nodule) {
        let count = 1 + rng.weighted(&[0.7, 0.2, 0.1]);
        facts.nodules = (0..count).map(|_| nodule(rng)).collect();
        facts.nodules.sort_by_key(|nodule| std::cmp::Reverse(nodule.size_mm));
    }
    facts
}

fn kinds(rng: &mut Rng) -> Vec<Kind> {
    if rng.chance(NORMAL) {
        return Vec::new();
    }
    let count = 1 + rng.weighted(&COUNTS);
    let mut weights = WEIGHTS;
    (0..count)
        .map(|_| {
            let index = rng.weighted(&weights);
            weights[index] = 0.0;
            Kind::ALL[index]
        })
        .collect()
}

fn side(rng: &mut Rng) -> Side {
    Side::BOTH[rng.below(2)]
}

fn nodule(rng: &mut Rng) -> NoduleFact {
    let weights = DIAMETERS.map(|(_, weight)| weight);
    NoduleFact {
        side: side(rng),
        zone: Zone::ALL[rng.below(3)],
        size_mm: DIAMETERS[rng.weighted(&weights)].0,
    }
}

/// Never on the side of a pneumothorax: the level of such a fluid would be another picture.
fn effusions(rng: &mut Rng, facts: &mut Facts) {
    let grade = |rng: &mut Rng| Severity::ALL[rng.weighted(&[1.0, 1.0, 0.7])];
    let first = match facts.pneumothorax {
        Some((side, _)) => side.other(),
        None => side(rng),
    };
    let severity = grade(rng);
    facts.effusions[first as usize] = Some(severity);
    if facts.pneumothorax.is_none() && rng.chance(0.28) {
        let second = if rng.chance(0.75) { severity } else { grade(rng) };
        facts.effusions[first.other() as usize] = Some(second);
    }
}

/// Where an effusion or free air leaves the area to be seen.
fn consolidation(rng: &mut Rng, facts: &Facts) -> Option<AreaFact> {
    let preferred = side(rng);
    let side = [preferred, preferred.other()].into_iter().find(|side| {
        facts.pneumothorax.is_none_or(|(air, _)| air != *side)
            && facts.effusions[*side as usize] != Some(Severity::Severe)
    })?;
    let zones: &[Zone] = match facts.effusions[side as usize] {
        None => &Zone::ALL,
        Some(Severity::Mild) => &Zone::ALL[..2],
        Some(_) => &Zone::ALL[..1],
    };
    let severity = if rng.chance(0.5) { Severity::Mild } else { Severity::Severe };
    Some(AreaFact { side, zone: zones[rng.below(zones.len())], severity })
}

fn atelectasis(rng: &mut Rng, facts: &Facts) -> Option<AreaFact> {
    let preferred = side(rng);
    let side = [preferred, preferred.other()].into_iter().find(|side| {
        facts.pneumothorax.is_none_or(|(air, _)| air != *side)
            && facts.effusions[*side as usize].is_none()
            && facts.consolidation.is_none_or(|area| area.side != *side || area.zone == Zone::Upper)
    })?;
    Some(AreaFact { side, zone: Zone::Lower, severity: Severity::Mild })
}

fn devices(rng: &mut Rng) -> Vec<DeviceFact> {
    let mut weights = [0.8, 0.7, 1.2, 0.9, 0.6];
    let count = 1 + rng.weighted(&[0.55, 0.3, 0.15]);
    let mut devices: Vec<Device> = (0..count)
        .map(|_| {
            let index = rng.weighted(&weights);
            weights[index] = 0.0;
            Device::ALL[index]
        })
        .collect();
    devices.sort_by_key(|device| Device::ALL.iter().position(|d| d == device));
    devices
        .into_iter()
        .map(|device| {
            let (side, tip) = match device {
                Device::EndotrachealTube => {
                    (None, Some([Tip::AboveCarina, Tip::AtCarina][rng.weighted(&[0.7, 0.3])]))
                }
                Device::NasogastricTube => {
                    (None, Some([Tip::Stomach, Tip::DistalEsophagus][rng.weighted(&[0.75, 0.25])]))
                }
                Device::CentralVenousCatheter => (
                    Some(Side::BOTH[rng.weighted(&[0.65, 0.35])]),
                    Some([Tip::SuperiorVenaCava, Tip::RightAtrium][rng.weighted(&[0.65, 0.35])]),
                ),
                Device::Pacemaker => (
                    Some(Side::BOTH[rng.weighted(&[0.2, 0.8])]),
                    Some([Tip::RightVentricle, Tip::AtriumAndVentricle][rng.weighted(&[0.45, 0.55])]),
                ),
                Device::EcgLeads => (None, None),
            };
            DeviceFact { device, side, tip }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::sample;
    use crate::facts::HeartFact;
    use crate::finding::{Kind, Severity};
    use crate::rng::Rng;

    #[test]
    fn facts_never_hide_one_another() {
        for index in 0..3_000 {
            let facts = sample(&mut Rng::new(3, index, 0));
            if let Some((side, _)) = facts.pneumothorax {
                assert!(facts.effusions[side as usize].is_none());
                assert!(facts.consolidation.is_none_or(|area| area.side != side));
            }
            assert_eq!(facts.effusions[1] == Some(Severity::Severe), facts.heart == HeartFact::Obscured);
        }
    }

    #[test]
    fn the_mixture_is_the_one_meant() {
        let drawn: Vec<_> = (0..4_000).map(|index| sample(&mut Rng::new(4, index, 0))).collect();
        let share = |test: &dyn Fn(&crate::facts::Facts) -> bool| {
            drawn.iter().filter(|facts| test(facts)).count() as f32 / drawn.len() as f32
        };
        // Bounds a few standard errors (0.008) wide around the shares that the weights give.
        assert!(
            (0.24..0.34).contains(&share(&crate::facts::Facts::is_normal)),
            "{}",
            share(&crate::facts::Facts::is_normal)
        );
        for kind in Kind::ALL {
            assert!(share(&|facts| facts.has(kind)) > 0.1, "{kind:?} {}", share(&|facts| facts.has(kind)));
        }
    }
}
