//! Sentences and what they say: `+` there, `-` not there, `?` may be there; observations by their initials.

use proptest::prelude::*;
use swinseek_evals::radiology::{Label, Observation, label, mentions};

const NAMES: [(&str, Observation); 13] = [
    ("ecm", Observation::EnlargedCardiomediastinum),
    ("cardiomegaly", Observation::Cardiomegaly),
    ("lesion", Observation::LungLesion),
    ("opacity", Observation::LungOpacity),
    ("edema", Observation::Edema),
    ("consolidation", Observation::Consolidation),
    ("pneumonia", Observation::Pneumonia),
    ("atelectasis", Observation::Atelectasis),
    ("ptx", Observation::Pneumothorax),
    ("effusion", Observation::PleuralEffusion),
    ("pleura", Observation::PleuralOther),
    ("fracture", Observation::Fracture),
    ("device", Observation::SupportDevices),
];

/// Labels in the order of [`NAMES`]; the absent ones are left out.
fn said(report: &str) -> String {
    let labels = label(report);
    let shown = NAMES.iter().filter_map(|&(name, observation)| {
        let sign = match labels[observation] {
            Label::Positive => '+',
            Label::Negative => '-',
            Label::Uncertain => '?',
            Label::Absent => return None,
        };
        Some(format!("{sign}{name}"))
    });
    shown.collect::<Vec<_>>().join(" ")
}

/// All rows of `text` that are read otherwise.
fn check(text: &str) {
    let rows: Vec<(&str, &str)> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(|line| line.split_once(" => ").unwrap_or((line.trim_end_matches(" =>"), "")))
        .collect();
    let wrong: Vec<String> = rows
        .iter()
        .map(|(sentence, expected)| (sentence, expected, said(sentence)))
        .filter(|(_, expected, found)| **expected != found)
        .map(|(sentence, expected, found)| {
            format!("{sentence}\n    expected {expected}\n    found    {found}")
        })
        .collect();
    assert!(wrong.is_empty(), "{} of {} rows:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}

#[test]
fn plain_mentions() {
    check(include_str!("mentions.txt"));
}

#[test]
fn denials() {
    check(include_str!("denials.txt"));
}

#[test]
fn doubts() {
    check(include_str!("doubts.txt"));
}

#[test]
fn whole_reports() {
    check(include_str!("reports.txt"));
}

#[test]
fn no_finding_is_the_absence_of_abnormalities() {
    for (report, expected) in [
        ("", Label::Positive),
        ("The lungs are clear.", Label::Positive),
        ("No acute disease. A right PICC ends in the SVC.", Label::Positive),
        ("Small effusion.", Label::Absent),
        ("Possible pneumonia.", Label::Absent),
    ] {
        assert_eq!(label(report)[Observation::NoFinding], expected, "{report}");
    }
}

#[test]
fn mentions_say_where_labels_come_from() {
    let found = mentions("No PNEUMOTHORAX. Nodular opacity, possibly a granulomatous lesion.");
    let shown: Vec<String> =
        found.iter().map(|m| format!("{}: {:?} ({})", m.observation, m.label, m.words)).collect();
    assert_eq!(
        shown,
        [
            "Pneumothorax: Negative (pneumothorax)",
            "Lung Lesion: Positive (nodular opacity)",
            "Lung Opacity: Positive (nodular opacity)",
            "Lung Lesion: Uncertain (lesion)",
        ]
    );
}

proptest! {
    #[test]
    fn any_text_has_labels(text in ".{0,200}") {
        let found = mentions(&text);
        prop_assert!(found.iter().all(|mention| mention.label != Label::Absent && !mention.words.is_empty()));
    }

    /// A sentence means the same alone and among others: rules end with sentences.
    #[test]
    fn sentences_do_not_meet(order in Just(SENTENCES.to_vec()).prop_shuffle(), count in 1_usize..6) {
        let chosen = &order[..count];
        let whole = mentions(&chosen.join(" "));
        let parts: Vec<_> = chosen.iter().flat_map(|sentence| mentions(sentence)).collect();
        prop_assert_eq!(whole, parts);
    }

    /// Denying a list denies each of its members.
    #[test]
    fn a_denied_list_is_denied_throughout(words in prop::sample::subsequence(FINDINGS.to_vec(), 2..5), or in any::<bool>()) {
        let (last, first) = words.split_last().unwrap();
        let join = if or { "or" } else { "and" };
        for sentence in [
            format!("No {} {join} {last}.", first.join(", ")),
            format!("There is no evidence of {}, {join} {last}.", first.join(", ")),
            format!("The chest is without {} {join} {last}.", first.join(", ")),
        ] {
            let found = mentions(&sentence);
            prop_assert_eq!(found.len(), words.len(), "{}", &sentence);
            prop_assert!(found.iter().all(|mention| mention.label == Label::Negative), "{} {:?}", sentence, found);
        }
    }
}

const SENTENCES: [&str; 6] = [
    "No pneumothorax or effusion.",
    "Stable cardiomegaly.",
    "Possible pneumonia at the left base.",
    "The lungs are clear.",
    "An effusion cannot be excluded.",
    "3.5 cm mass in the right upper lobe.",
];
const FINDINGS: [&str; 6] = ["pneumothorax", "effusion", "edema", "consolidation", "fracture", "nodule"];
