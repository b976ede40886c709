//! Sections and lexicons.

use proptest::prelude::*;
use swinseek_evals::radiology::{Lexicon, Section, section, sections};

#[test]
fn reports_are_split_at_their_headings() {
    let report = "Chest, two views. INDICATION: cough. Comparison: none\nFINDINGS: Heart: normal. No effusion.\nImpression:\n1. Normal chest.";
    assert_eq!(
        sections(report),
        [
            (Section::Other, "Chest, two views."),
            (Section::Other, "cough."),
            (Section::Other, "none"),
            (Section::Findings, "Heart: normal. No effusion."),
            (Section::Impression, "1. Normal chest."),
        ]
    );
    assert_eq!(section(report, Section::Impression).as_deref(), Some("1. Normal chest."));
    assert_eq!(sections("The lungs are clear."), [(Section::Findings, "The lungs are clear.")]);
    assert_eq!(
        sections("FINDINGS: IMPRESSION: Normal."),
        [(Section::Findings, ""), (Section::Impression, "Normal.")]
    );
    assert_eq!(section("FINDINGS: Clear.", Section::Impression), None);
    assert_eq!(section("", Section::Findings).as_deref(), Some(""));
}

#[test]
fn words_are_valid_when_a_term_holds_them() {
    let table = b"# term\tid\nPleural Effusion\t1\neffusion\t2\nleft\t3\n\nx-ray\t4\n";
    let lexicon = Lexicon::from_tsv(table, "terms.tsv").unwrap();
    let counts = lexicon.counts("Left pleural effusion, 12 mm. Pleural effusion? Pleural. X-ray: efusion.");
    // left, pleural effusion, mm, pleural effusion, pleural, x ray, efusion.
    assert_eq!((counts.words, counts.valid, counts.terms), (10, 7, 3));
    assert_eq!(counts.validity().unwrap().value, 0.7);
    assert_eq!(lexicon.counts("12, 3.5").validity(), None);
    for (bytes, part) in [
        (b"a\n\xff".as_slice(), "terms.tsv: line 2: invalid UTF-8 at byte 1 of the line"),
        (b"a\n12\tx", "terms.tsv: line 2: there is no term"),
        (b"#\n", "terms.tsv: there are no terms"),
    ] {
        assert_eq!(Lexicon::from_tsv(bytes, "terms.tsv").unwrap_err().to_string(), part);
    }
}

proptest! {
    #[test]
    fn any_text_has_sections(text in "(FINDINGS|impression|:|\\.|\n| |é|x){0,30}") {
        let found = sections(&text);
        prop_assert!(!found.is_empty());
        // Every section is a part of the text, in order.
        let mut rest = text.as_str();
        for (_, part) in found {
            let at = rest.find(part);
            prop_assert!(at.is_some());
            rest = &rest[at.unwrap() + part.len()..];
        }
    }

    #[test]
    fn a_text_of_terms_is_valid(words in prop::collection::vec("[a-z]{1,6}", 1..10)) {
        let lexicon = Lexicon::from_tsv(words.join("\n").as_bytes(), "x").unwrap();
        let counts = lexicon.counts(&words.join(" "));
        prop_assert_eq!((counts.words, counts.valid), (words.len() as u64, words.len() as u64));
    }
}
