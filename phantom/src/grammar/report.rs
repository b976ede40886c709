//! Reports: a findings section and an impression, from facts alone.

use super::phrases::{self, Phrases, impression};
use super::{capital, say};
use crate::facts::{DeviceFact, Facts, HeartFact, NoduleFact};
use crate::finding::{Device, Kind, Severity, Side, Tip, View};
use crate::rng::Rng;
use serde::Serialize;

/// One report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// What is seen.
    pub findings: String,
    /// What it means.
    pub impression: String,
}

impl Report {
    /// `FINDINGS: ... IMPRESSION: ...` on one line.
    pub fn text(&self) -> String {
        format!("FINDINGS: {} IMPRESSION: {}", self.findings, self.impression)
    }
}

/// A part of the findings section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Devices,
    Heart,
    Lungs,
    Pleura,
}

/// Orders of the findings section and their weights.
const ORDERS: [(f32, [Part; 4]); 4] = [
    (6.0, [Part::Devices, Part::Heart, Part::Lungs, Part::Pleura]),
    (1.6, [Part::Devices, Part::Lungs, Part::Pleura, Part::Heart]),
    (1.2, [Part::Heart, Part::Lungs, Part::Pleura, Part::Devices]),
    (0.8, [Part::Lungs, Part::Pleura, Part::Heart, Part::Devices]),
];

/// How often a negative that might be said is left out.
const SILENT: f32 = 0.08;

/// A report of these facts; `seed` chooses wording, order and which negatives are said.
pub fn report(facts: &Facts, seed: u64) -> Report {
    let rng = &mut Rng::new(seed, 0, 0x5245_504f);
    let mut said = technique(rng, facts);
    let order = ORDERS[rng.weighted(&ORDERS.map(|(weight, _)| weight))].1;
    for part in order {
        match part {
            Part::Devices => said.extend(facts.devices.iter().map(|device| device_statement(rng, *device))),
            Part::Heart => said.extend(heart(rng, facts)),
            Part::Lungs => said.extend(lungs(rng, facts)),
            Part::Pleura => said.extend(pleura(rng, facts)),
        }
    }
    Report { findings: said.join(" "), impression: conclude(rng, facts) }
}

fn technique(rng: &mut Rng, facts: &Facts) -> Vec<String> {
    let mut said = Vec::new();
    // The usual view goes without saying.
    if facts.view == View::Ap {
        said.push(say(rng, phrases::VIEW_AP, &[]));
    }
    if let Some(side) = facts.rotated {
        said.push(say(rng, phrases::ROTATED, &[("side", side.word())]));
    }
    if facts.low_volumes {
        said.push(say(rng, phrases::LOW_VOLUMES, &[]));
    }
    said
}

/// Whether a negative is worth saying: where little is wrong it is, where much is wrong the reader wants that.
fn pertinent(rng: &mut Rng, facts: &Facts) -> bool {
    let wrong = Kind::ALL.iter().filter(|kind| **kind != Kind::Device && facts.has(**kind)).count();
    wrong == 0 || (wrong == 1 && facts.devices.is_empty() && !rng.chance(SILENT))
}

fn heart(rng: &mut Rng, facts: &Facts) -> Option<String> {
    match facts.heart {
        HeartFact::Normal if !pertinent(rng, facts) => None,
        HeartFact::Normal => Some(say(rng, phrases::HEART_NORMAL, &[])),
        HeartFact::Obscured => Some(say(rng, phrases::HEART_OBSCURED, &[])),
        HeartFact::Enlarged(severity) => Some(say(rng, phrases::HEART_LARGE, &degree_slots(severity))),
    }
}

fn degree_slots(severity: Severity) -> [(&'static str, &'static str); 2] {
    let adverb = match severity {
        Severity::Mild => "mildly",
        Severity::Moderate => "moderately",
        Severity::Severe => "markedly",
    };
    [("degree", severity.degree_word()), ("degreely", adverb)]
}

fn lungs(rng: &mut Rng, facts: &Facts) -> Vec<String> {
    let mut said = Vec::new();
    if let Some(area) = facts.consolidation {
        let phrases = match area.severity {
            Severity::Mild => phrases::CONSOLIDATION_SMALL,
            _ => phrases::CONSOLIDATION_LARGE,
        };
        said.push(say(rng, phrases, &[("side", area.side.word()), ("zone", area.zone.word())]));
    }
    for (number, nodule) in facts.nodules.iter().enumerate() {
        let phrases = if number == 0 { phrases::NODULE } else { phrases::NODULE_MORE };
        said.push(nodule_statement(rng, phrases, *nodule));
    }
    if let Some(area) = facts.atelectasis {
        said.push(say(rng, phrases::ATELECTASIS, &[("side", area.side.word())]));
    }
    if said.is_empty() {
        // Behind free air or a lake of fluid nobody calls a lung clear.
        if !facts.has(Kind::Pneumothorax) && !facts.has(Kind::PleuralEffusion) && pertinent(rng, facts) {
            said.push(say(rng, phrases::LUNGS_CLEAR, &[]));
        }
    }
    said
}

fn nodule_statement(rng: &mut Rng, phrases: Phrases, nodule: NoduleFact) -> String {
    let size = millimetres(rng, nodule.size_mm);
    say(rng, phrases, &[("size", &size), ("side", nodule.side.word()), ("zone", nodule.zone.word())])
}

/// Millimetres, or now and then centimetres from ten on.
fn millimetres(rng: &mut Rng, size: u32) -> String {
    if size < 10 || rng.chance(0.82) {
        format!("{size} mm")
    } else {
        format!("{}.{} cm", size / 10, size % 10)
    }
}

fn pleura(rng: &mut Rng, facts: &Facts) -> Vec<String> {
    let mut said = Vec::new();
    let air = facts.pneumothorax.map(|(side, severity)| {
        say(rng, phrases::PNEUMOTHORAX, &[("size", severity.size_word()), ("side", side.word())])
    });
    let fluid = effusions(rng, facts, false);
    match (air, fluid) {
        (None, None) => {
            if pertinent(rng, facts) {
                said.push(say(rng, phrases::NO_PLEURAL, &[]));
            }
        }
        (Some(air), None) => {
            said.push(air);
            if pertinent(rng, facts) {
                said.push(say(rng, phrases::NO_EFFUSION, &[]));
            }
        }
        (None, Some(fluid)) => {
            said.push(fluid);
            if pertinent(rng, facts) {
                said.push(say(rng, phrases::NO_PNEUMOTHORAX, &[]));
            }
        }
        (Some(air), Some(fluid)) => said.extend([air, fluid]),
    }
    said
}

/// The statement of all effusions, for the findings or for the impression.
fn effusions(rng: &mut Rng, facts: &Facts, concluding: bool) -> Option<String> {
    let one = |rng: &mut Rng, side: Side, severity: Severity| {
        let phrases = match (concluding, severity) {
            (true, _) => impression::EFFUSION,
            (false, Severity::Mild) => phrases::EFFUSION_SMALL,
            (false, _) => phrases::EFFUSION,
        };
        say(rng, phrases, &[("size", severity.size_word()), ("side", side.word())])
    };
    match facts.effusions {
        [None, None] => None,
        [Some(severity), None] => Some(one(rng, Side::Right, severity)),
        [None, Some(severity)] => Some(one(rng, Side::Left, severity)),
        [Some(right), Some(left)] if right == left => {
            let phrases = if concluding { impression::EFFUSION_BOTH } else { phrases::EFFUSION_BOTH };
            Some(say(rng, phrases, &[("size", right.size_word())]))
        }
        [Some(right), Some(left)] => {
            let phrases = if concluding { impression::EFFUSION_TWO } else { phrases::EFFUSION_TWO };
            Some(say(rng, phrases, &[("right", right.size_word()), ("left", left.size_word())]))
        }
    }
}

fn device_statement(rng: &mut Rng, fact: DeviceFact) -> String {
    let phrases = match (fact.device, fact.tip) {
        (Device::EndotrachealTube, Some(Tip::AtCarina)) => phrases::TUBE_AT,
        (Device::EndotrachealTube, _) => phrases::TUBE_ABOVE,
        (Device::NasogastricTube, Some(Tip::DistalEsophagus)) => phrases::GASTRIC_SHORT,
        (Device::NasogastricTube, _) => phrases::GASTRIC_IN,
        (Device::CentralVenousCatheter, _) => phrases::CATHETER,
        (Device::Pacemaker, Some(Tip::AtriumAndVentricle)) => phrases::PACEMAKER_TWO,
        (Device::Pacemaker, _) => phrases::PACEMAKER_ONE,
        (Device::EcgLeads, _) => phrases::ELECTRODES,
    };
    let place = if fact.tip == Some(Tip::RightAtrium) { "right atrium" } else { "superior vena cava" };
    say(rng, phrases, &[("side", fact.side.map_or("", Side::word)), ("place", place)])
}

fn conclude(rng: &mut Rng, facts: &Facts) -> String {
    let mut said = Vec::new();
    if let Some((side, severity)) = facts.pneumothorax {
        said.push(say(
            rng,
            impression::PNEUMOTHORAX,
            &[("size", severity.size_word()), ("side", side.word())],
        ));
    }
    said.extend(effusions(rng, facts, true));
    if let Some(area) = facts.consolidation {
        said.push(say(
            rng,
            impression::CONSOLIDATION,
            &[("side", area.side.word()), ("zone", area.zone.word())],
        ));
    }
    match facts.nodules.as_slice() {
        [] => {}
        [nodule] => said.push(nodule_statement(rng, impression::NODULE, *nodule)),
        [largest, ..] => {
            let count = capital(count_word(facts.nodules.len()));
            let size = millimetres(rng, largest.size_mm);
            said.push(say(rng, impression::NODULES, &[("count", &count), ("size", &size)]));
        }
    }
    if let Some(area) = facts.atelectasis {
        said.push(say(rng, impression::ATELECTASIS, &[("side", area.side.word())]));
    }
    if let HeartFact::Enlarged(severity) = facts.heart {
        said.push(say(rng, impression::CARDIOMEGALY, &degree_slots(severity)));
    }
    for device in &facts.devices {
        match device.tip {
            Some(Tip::AtCarina) => said.push(say(rng, impression::TUBE_LOW, &[])),
            Some(Tip::DistalEsophagus) => said.push(say(rng, impression::GASTRIC_SHORT, &[])),
            _ => {}
        }
    }
    if said.is_empty() {
        said.push(say(rng, impression::NORMAL, &[]));
    }
    if facts.has(Kind::Device) && rng.chance(0.5) {
        said.push(say(rng, impression::DEVICES, &[]));
    }
    said.join(" ")
}

/// A small number in words.
pub(super) fn count_word(count: usize) -> &'static str {
    ["no", "one", "two", "three", "four"].get(count).copied().unwrap_or("several")
}
