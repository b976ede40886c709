//! One-sentence captions.

use super::fill;
use super::questions::place;
use super::report::count_word;
use crate::facts::{Facts, HeartFact};
use crate::finding::{Device, Severity, Side};
use crate::rng::Rng;

/// Ways to begin, the usual one first.
const STARTS: [&str; 3] =
    ["{view} chest radiograph", "{view} radiograph of the chest", "A {view} chest radiograph"];

/// One sentence that names the view and every abnormality.
pub fn caption(facts: &Facts, seed: u64) -> String {
    let rng = &mut Rng::new(seed, 0, 0x4341_5054);
    let start = STARTS[rng.weighted(&[0.6, 0.25, 0.15])];
    let start = fill(start, &[("view", facts.view.code())]);
    let mut parts = pleural(facts);
    parts.extend(lungs(facts));
    if let HeartFact::Enlarged(severity) = facts.heart {
        parts.push(format!("{} cardiomegaly", severity.degree_word()));
    }
    parts.extend(facts.devices.iter().map(|fact| match fact.device {
        Device::EcgLeads => "ECG leads".to_owned(),
        Device::EndotrachealTube => format!("an {}", fact.device.word()),
        _ => format!("a {}", fact.device.word()),
    }));
    match parts.split_last() {
        None => format!("{start} without abnormality."),
        Some((last, [])) => format!("{start} with {last}."),
        Some((last, rest)) => format!("{start} with {} and {last}.", rest.join(", ")),
    }
}

fn pleural(facts: &Facts) -> Vec<String> {
    let mut parts = Vec::new();
    if let Some((side, severity)) = facts.pneumothorax {
        parts.push(format!("a {} {} pneumothorax", severity.size_word(), side.word()));
    }
    match facts.effusions {
        [None, None] => {}
        [Some(_), Some(_)] => parts.push("bilateral pleural effusions".to_owned()),
        [right, left] => {
            let side = if right.is_some() { Side::Right } else { Side::Left };
            let grade = right.or(left).map_or("", Severity::size_word);
            parts.push(format!("a {grade} {} pleural effusion", side.word()));
        }
    }
    parts
}

fn lungs(facts: &Facts) -> Vec<String> {
    let mut parts = Vec::new();
    if let Some(area) = facts.consolidation {
        parts.push(format!("a {} consolidation", place(area.side, area.zone)));
    }
    match facts.nodules.as_slice() {
        [] => {}
        [nodule] => {
            let place = place(nodule.side, nodule.zone);
            let article = if nodule.size_mm == 8 { "an" } else { "a" };
            parts.push(format!("{article} {} mm nodule in the {place}", nodule.size_mm));
        }
        many => parts.push(format!("{} pulmonary nodules", count_word(many.len()))),
    }
    if let Some(area) = facts.atelectasis {
        parts.push(format!("{} basal atelectasis", area.side.word()));
    }
    parts
}
