//! Tests that need the inside of a scene: what changes in a picture when one finding is taken out of it.

use crate::exposure::{expose, noise_seed};
use crate::facts::HeartFact;
use crate::finding::{Finding, Kind, Severity};
use crate::projection::attenuation;
use crate::scene::Scene;
use crate::study::window;

const SIZE: usize = 192;

/// The scene without its finding number `at`.
fn without(scene: &Scene, findings: &[Finding], at: usize) -> Scene {
    let mut scene = scene.clone();
    let finding = &findings[at];
    let rank = findings[..at].iter().filter(|other| other.kind == finding.kind).count();
    let side = finding.side.map_or(0, |side| side as usize);
    match finding.kind {
        Kind::Nodule => drop(scene.lesions.nodules.remove(rank)),
        Kind::Device => drop(scene.hardware.remove(rank)),
        Kind::Consolidation => scene.lesions.consolidation = None,
        Kind::Atelectasis => scene.lesions.atelectasis = None,
        Kind::Pneumothorax => scene.organs.collapse[side] = None,
        Kind::PleuralEffusion => scene.organs.fluid[side] = None,
        Kind::Cardiomegaly => {}
    }
    scene
}

fn picture(scene: &Scene, index: u64) -> Vec<u8> {
    let plane = attenuation(scene, &scene.backdrop(1, index), SIZE);
    window(&expose(plane, &scene.technique, noise_seed(1, index)))
}

/// For each finding but the heart: its record, and the grey levels by which it changes each pixel.
fn changes(indices: std::ops::Range<u64>) -> Vec<(u64, Finding, Vec<i16>)> {
    let mut all = Vec::new();
    for index in indices {
        let scene = Scene::new(1, index);
        let findings = scene.findings(SIZE);
        let with = picture(&scene, index);
        for at in (0..findings.len()).filter(|at| findings[*at].kind != Kind::Cardiomegaly) {
            let bare = picture(&without(&scene, &findings, at), index);
            let change = with.iter().zip(&bare).map(|(a, b)| i16::from(*a) - i16::from(*b)).collect();
            all.push((index, findings[at].clone(), change));
        }
    }
    all
}

#[test]
fn boxes_cover_what_a_finding_changes_and_little_else() {
    for (index, finding, change) in changes(0..60) {
        let [x0, y0, x1, y1] = finding.bbox.map(|v| v as usize);
        assert!(x0 < x1 && y0 < y1 && x1 <= SIZE && y1 <= SIZE, "{index} {finding:?}");
        // Exposure is automatic: a large finding shifts the whole picture a little. What counts is the change beyond
        // the median change.
        let mut sorted = change.clone();
        sorted.sort_unstable();
        let median = sorted[sorted.len() / 2];
        let strong = |v: &i16| (v - median).abs() > 30;
        let (mut inside, mut outside) = (0, 0);
        for i in (0..change.len()).filter(|i| strong(&change[*i])) {
            let (x, y) = (i % SIZE, i / SIZE);
            if (x0..x1).contains(&x) && (y0..y1).contains(&y) {
                inside += 1;
            } else {
                outside += 1;
            }
        }
        // A twentieth for what blur and scatter carry over the edge of an effusion.
        assert!(outside * 20 <= inside, "{index} {finding:?}: {inside} in, {outside} out");
        let peak = change.iter().map(|v| (v - median).abs()).max().unwrap_or(0);
        // A rib is worth about twenty grey levels; what a report must mention stands out from ribs, and a nodule of
        // ten millimetres does so in almost every exposure.
        let least = if finding.size_mm.is_some_and(|size| size < 10.0) { 18 } else { 25 };
        assert!(peak >= least, "{index} {finding:?}: {peak} grey levels");
    }
}

#[test]
fn the_heart_is_as_wide_as_its_grade_says() {
    for index in 0..300 {
        let scene = Scene::new(2, index);
        let ratio = scene.organs.cardiothoracic_ratio(&scene.anatomy, &scene.camera);
        let range = match scene.facts.heart {
            HeartFact::Normal | HeartFact::Obscured => 0.0..0.5,
            HeartFact::Enlarged(Severity::Mild) => 0.5..0.575,
            HeartFact::Enlarged(Severity::Moderate) => 0.575..0.645,
            HeartFact::Enlarged(Severity::Severe) => 0.645..0.75,
        };
        assert!(range.contains(&ratio), "{index} {:?}: {ratio}", scene.facts.heart);
    }
}

#[test]
fn both_lungs_are_in_the_picture() {
    for index in 0..300 {
        let scene = Scene::new(3, index);
        let (a, edge) = (&scene.anatomy, 0.5 * scene.technique.field);
        let inset = scene.technique.blades.unwrap_or_default();
        for (x, y) in [(0.0, a.apex), (0.0, a.base), (-a.half_width, a.base), (a.half_width, a.base)] {
            let (u, v) = scene.camera.project([x, y, 0.0]);
            assert!(
                u > inset[0] - edge && u < edge - inset[2] && v > inset[1] - edge && v < edge - inset[3],
                "{index}"
            );
        }
    }
}
