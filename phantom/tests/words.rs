//! Reports, questions and captions against the facts that they are of.

use std::collections::BTreeMap;
use swinseek_phantom::grammar::QuestionType;
use swinseek_phantom::{
    Description, Facts, HeartFact, Kind, Side, Study, StudyOptions, View, report_variant,
};

fn studies(count: u64) -> impl Iterator<Item = (u64, Description)> {
    (0..count).map(|index| (index, Study::describe(5, index, &StudyOptions::default())))
}

/// The words that stand for a kind in a sentence that affirms it.
fn names(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Nodule => &["nodule", "round "],
        Kind::PleuralEffusion => &["pleural effusion"],
        Kind::Pneumothorax => &["pneumothorax"],
        Kind::Consolidation => &["consolidation", "patchy opacity", "airspace opacity"],
        Kind::Cardiomegaly => &["enlarged", "cardiomegaly", "enlargement"],
        Kind::Atelectasis => &["atelectasis"],
        Kind::Device => &["tube", "catheter", "pacemaker", "leads"],
    }
}

/// The sentences that affirm something: those without a "no", and not the lungs that are clear "without consolidation".
fn affirmed(text: &str) -> Vec<String> {
    text.split_inclusive(". ")
        .map(str::to_lowercase)
        .filter(|s| !s.starts_with("no ") && !s.contains(" no ") && !s.contains("without"))
        .collect()
}

fn says(sentences: &[String], words: &[&str]) -> bool {
    sentences.iter().any(|s| words.iter().all(|word| s.contains(word)))
}

fn any_name(sentences: &[String], kind: Kind, also: &[&str]) -> bool {
    names(kind).iter().any(|name| {
        let words: Vec<&str> = also.iter().copied().chain([*name]).collect();
        says(sentences, &words)
    })
}

/// Every abnormality with its side, zone and grade.
fn assert_complete(facts: &Facts, findings: &str, context: &str) {
    let said = affirmed(findings);
    for kind in Kind::ALL {
        assert_eq!(facts.has(kind), any_name(&said, kind, &[]), "{kind:?} {context}");
    }
    if let Some((side, severity)) = facts.pneumothorax {
        assert!(any_name(&said, Kind::Pneumothorax, &[side.word(), severity.size_word()]), "{context}");
    }
    for side in Side::BOTH {
        if let Some(severity) = facts.effusions[side as usize] {
            let both = facts.effusions[0] == facts.effusions[1];
            let word = if both { "bilateral" } else { side.word() };
            assert!(any_name(&said, Kind::PleuralEffusion, &[word, severity.size_word()]), "{context}");
        }
    }
    assert_lungs_complete(facts, &said, context);
    if let HeartFact::Enlarged(severity) = facts.heart {
        assert!(any_name(&said, Kind::Cardiomegaly, &[severity.degree_word()]), "{context}");
    }
    assert_eq!(facts.view == View::Ap, findings.contains("AP"), "{context}");
    let lower = findings.to_lowercase();
    assert_eq!(facts.low_volumes, lower.contains("volumes"), "{context}");
    assert_eq!(facts.rotated.is_some(), lower.contains("rotat"), "{context}");
}

fn assert_lungs_complete(facts: &Facts, said: &[String], context: &str) {
    for nodule in &facts.nodules {
        let millimetres = format!("{} mm", nodule.size_mm);
        let centimetres = format!("{}.{} cm", nodule.size_mm / 10, nodule.size_mm % 10);
        let place = [nodule.side.word(), nodule.zone.word()];
        assert!(
            [millimetres, centimetres].iter().any(|size| any_name(
                said,
                Kind::Nodule,
                &[place[0], place[1], size]
            )),
            "{context}"
        );
    }
    if let Some(area) = facts.consolidation {
        assert!(any_name(said, Kind::Consolidation, &[area.side.word(), area.zone.word()]), "{context}");
    }
    if let Some(area) = facts.atelectasis {
        assert!(any_name(said, Kind::Atelectasis, &[area.side.word()]), "{context}");
    }
}

/// No sentence denies what is there.
fn assert_consistent(facts: &Facts, text: &str) {
    let lower = text.to_lowercase();
    for sentence in lower.split_inclusive(". ") {
        if sentence.contains("no ") {
            assert!(!(sentence.contains("effusion") && facts.has(Kind::PleuralEffusion)), "{text}");
            assert!(!(sentence.contains("pneumothorax") && facts.has(Kind::Pneumothorax)), "{text}");
            assert!(!(sentence.contains("consolidation") && facts.has(Kind::Consolidation)), "{text}");
            assert!(!sentence.contains("acute") || facts.is_normal(), "{text}");
        }
    }
    let lung =
        [Kind::Nodule, Kind::Consolidation, Kind::Atelectasis, Kind::Pneumothorax, Kind::PleuralEffusion];
    if lung.iter().any(|kind| facts.has(*kind)) {
        assert!(!lower.contains("clear"), "{text}");
    }
    if facts.heart != HeartFact::Normal {
        assert!(!lower.contains("normal"), "{text}");
    }
}

#[test]
fn reports_say_everything_and_deny_nothing() {
    for (index, study) in studies(400) {
        for variant in 0..6 {
            let report = report_variant(&study.facts, 5, index, variant);
            assert_complete(&study.facts, &report.findings, &format!("{index}: {}", report.text()));
            assert_consistent(&study.facts, &report.text());
            let text = report.text();
            assert!(
                text.starts_with("FINDINGS: ") && text.contains(" IMPRESSION: ") && text.ends_with('.'),
                "{text}"
            );
            assert!(!text.contains("  ") && !text.contains(" .") && !text.contains(" a 8"), "{text}");
        }
    }
}

#[test]
fn the_report_is_none_of_its_references_drawn_again() {
    let same = studies(400)
        .filter(|(_, study)| study.facts.devices.len() + study.findings.len() > 2)
        .filter(|(_, study)| study.references.contains(&study.report))
        .count();
    // Two reports of three findings agree word for word about once in two hundred draws.
    assert!(same < 12, "{same}");
}

#[test]
fn impressions_name_every_abnormality() {
    for (index, study) in studies(400) {
        for variant in 0..6 {
            let report = report_variant(&study.facts, 5, index, variant);
            let said = affirmed(&report.impression);
            for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::Device) {
                assert_eq!(study.facts.has(kind), any_name(&said, kind, &[]), "{kind:?} {}", report.text());
            }
        }
    }
}

#[test]
fn captions_name_every_kind() {
    for (_, study) in studies(400) {
        let caption = [study.caption.to_lowercase()];
        for kind in Kind::ALL {
            assert_eq!(study.facts.has(kind), any_name(&caption, kind, &[]), "{kind:?} {}", study.caption);
        }
        assert!(study.caption.contains(study.facts.view.code()));
    }
}

#[test]
fn answers_follow_from_the_facts() {
    for (_, study) in studies(600) {
        let facts = &study.facts;
        assert!((6..=12).contains(&study.questions.len()), "{:?}", study.questions);
        for question in &study.questions {
            let text = question.question.to_lowercase();
            assert!(text.ends_with('?') && !text.contains('{'));
            match question.kind {
                QuestionType::Presence => {
                    assert!(["yes", "no"].contains(&question.answer.as_str()));
                    let sided = text.contains("left") || text.contains("right");
                    for kind in Kind::ALL.into_iter().filter(|kind| !sided && *kind != Kind::Device) {
                        if names(kind).iter().any(|name| text.contains(name)) {
                            assert_eq!(question.answer == "yes", facts.has(kind), "{question:?}");
                        }
                    }
                }
                QuestionType::View => assert_eq!(question.answer, facts.view.code()),
                QuestionType::Size => {
                    assert_eq!(question.answer, format!("{} mm", facts.nodules[0].size_mm));
                }
                QuestionType::Count => {
                    assert_eq!(question.answer == "none", facts.nodules.is_empty());
                }
                QuestionType::Side if text.contains("pneumothorax") => {
                    assert_eq!(
                        Some(question.answer.as_str()),
                        facts.pneumothorax.map(|(side, _)| side.word())
                    );
                }
                QuestionType::Side | QuestionType::Location | QuestionType::Severity | QuestionType::Tip => {
                    assert!(!question.answer.is_empty());
                }
            }
        }
    }
}

#[test]
fn yes_and_no_balance_per_question() {
    let mut tally: BTreeMap<String, [u32; 2]> = BTreeMap::new();
    for (_, study) in studies(4_000) {
        for question in study.questions.iter().filter(|question| question.kind == QuestionType::Presence) {
            tally.entry(question.question.clone()).or_default()[usize::from(question.answer == "yes")] += 1;
        }
    }
    let (mut majority, mut total) = (0, 0);
    for (question, [no, yes]) in &tally {
        majority += no.max(yes);
        total += no + yes;
        println!("{question} {no} {yes}");
    }
    let floor = f64::from(majority) / f64::from(total);
    // Who knows only the question may be right a little more often than a coin.
    assert!(floor < 0.62, "{floor}");
}

#[test]
fn labels_are_those_of_the_facts() {
    for (_, study) in studies(300) {
        assert_eq!(study.labels.contains(&"No Finding"), study.facts.is_normal());
        for kind in Kind::ALL {
            assert_eq!(study.labels.contains(&kind.chexpert()), study.facts.has(kind));
            assert_eq!(study.findings.iter().any(|finding| finding.kind == kind), study.facts.has(kind));
        }
    }
}
