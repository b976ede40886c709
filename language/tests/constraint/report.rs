//! The report form and its lexicon.

use std::sync::Arc;

use proptest::prelude::*;
use regex::Regex;
use swinseek_language::constraint::{Constraint, FUNCTION_WORDS, Lexicon};
use swinseek_language::tokenizer::Tokenizer;

use crate::support::{EOS, constraints, masks_agree, write};

const TERMS: &str = "heart\nlung\nlungs\npleural effusion\nnodule\nnormal\nsize\nclear\nright\nleft\nlarge\nHodgkin's Größe\n\
                     T2\ncm\nseen\nlobe\nupper\n";

fn lexicon() -> Arc<Lexicon> {
    Arc::new(Lexicon::from_bytes(TERMS.as_bytes()).unwrap())
}

/// The form as an expression, written down a second time.
fn form() -> Regex {
    let body = r#"[^\p{Cc} ]+( [^\p{Cc} ]+)*[.!?][)"]*"#;
    Regex::new(&format!("^FINDINGS: {body} IMPRESSION: {body}$")).unwrap()
}

/// Whether the constraint takes `text` and lets it end.
fn takes(constraint: &mut dyn Constraint, tokenizer: &Tokenizer, text: &str) -> bool {
    let ids = tokenizer.encode(text, false).unwrap();
    ids.iter().all(|&id| constraint.accept(id).is_ok()) && constraint.accept(EOS).is_ok()
}

#[test]
fn noise_becomes_a_report() {
    let (tokenizer, constraints) = constraints();
    for seed in 0..20 {
        let text = write(&tokenizer, &mut *constraints.report(None), seed).expect("ends");
        assert!(form().is_match(&text), "{text:?}");
        assert_eq!(text.matches("IMPRESSION:").count(), 1, "{text:?}");
    }
}

#[test]
fn with_a_lexicon_every_word_is_known() {
    let (tokenizer, constraints) = constraints();
    let lexicon = lexicon();
    for seed in 0..20 {
        let text = write(&tokenizer, &mut *constraints.report(Some(&lexicon)), seed).expect("ends");
        assert!(form().is_match(&text), "{text:?}");
        let (findings, impression) = text["FINDINGS: ".len()..].split_once(" IMPRESSION: ").unwrap();
        for word in [findings, impression].iter().flat_map(|part| part.split(|c: char| !c.is_alphanumeric()))
        {
            let number = word.bytes().all(|byte| byte.is_ascii_digit());
            assert!(number || lexicon.contains(word), "{word:?} in {text:?}");
        }
    }
}

#[test]
fn reports_are_taken_and_others_are_not() {
    let (tokenizer, constraints) = constraints();
    let lexicon = lexicon();
    let free = |text: &str| takes(&mut *constraints.report(None), &tokenizer, text);
    let bound = |text: &str| takes(&mut *constraints.report(Some(&lexicon)), &tokenizer, text);
    for good in [
        "FINDINGS: The heart is normal in size. The lungs are clear. IMPRESSION: No pleural effusion.",
        "FINDINGS: A 3.5 cm nodule (T2/T2, right) is seen. IMPRESSION: In the lung, 25% clear; right-left? No!",
        "FINDINGS: HEART NORMAL. IMPRESSION: Hodgkin's. Größe 12.",
    ] {
        assert!(free(good), "{good}");
        assert!(bound(good), "{good}");
    }
    let only_free = [
        "FINDINGS: The spleen. IMPRESSION: X “naïve” 心.",
        "FINDINGS: Im IMPRESS. IMPRESSIMPRESSION. IMPRESSION: I.",
    ];
    for text in only_free {
        assert!(free(text), "{text}");
        assert!(!bound(text), "{text}");
    }
    for bad in [
        "",
        "The heart is normal.",
        "FINDINGS: The heart is normal.",
        "FINDINGS:  The heart. IMPRESSION: Clear.",
        "FINDINGS: IMPRESSION: Clear.",
        "FINDINGS: The heart IMPRESSION: Clear.",
        "FINDINGS: The heart. IMPRESSION:",
        "FINDINGS: The heart. IMPRESSION: Clear",
        "FINDINGS: The heart. IMPRESSION: Clear. ",
        "FINDINGS: The heart. IMPRESSION: Clear. IMPRESSION: Clear.",
        "FINDINGS: The heart. FINDINGS: Clear. IMPRESSION: Clear.",
        "FINDINGS: The heart.\nIMPRESSION: Clear.",
        "FINDINGS: The heart. IMPRESSIMPRESSION: Clear.",
        "FINDINGS: The heart. IMPRESSION:.",
        "FINDINGS: The heart. IMPRESSION:, clear.",
        "FINDINGS: The  heart. IMPRESSION: Clear.",
    ] {
        assert!(!free(bad), "{bad:?}");
        assert!(!bound(bad), "{bad:?}");
    }
    for unknown in ["spleen", "hearts", "hear", "T23", "x"] {
        assert!(!bound(&format!("FINDINGS: The {unknown}. IMPRESSION: Clear.")), "{unknown}");
    }
}

#[test]
fn masks_are_what_is_accepted() {
    let (tokenizer, constraints) = constraints();
    let lexicon = lexicon();
    for seed in 0..12 {
        let steps = 4 * seed as usize;
        masks_agree(&|| constraints.report(None), tokenizer.vocab_size() as u32, seed, steps);
        masks_agree(&|| constraints.report(Some(&lexicon)), tokenizer.vocab_size() as u32, seed, steps);
    }
}

#[test]
fn term_files_of_both_kinds_are_read() {
    let tsv =
        Lexicon::from_bytes("# chest\nid\tTerm\n1\tPleural Effusion\r\n\n2\tT-spine\n".as_bytes()).unwrap();
    let plain = Lexicon::from_terms(&["pleural effusion", "t-SPINE"]).unwrap();
    for lexicon in [&tsv, &plain] {
        assert_eq!(lexicon.len(), FUNCTION_WORDS.len() + 4);
        for word in ["pleural", "EFFUSION", "t", "spine", "without"] {
            assert!(lexicon.contains(word), "{word}");
        }
        assert!(!lexicon.contains("pleura") && !lexicon.contains("term") && !lexicon.contains(""));
    }
    let row = |language: &str, string: &str, suppress: &str| {
        format!("C1|{language}|P|L1|PF|S1|Y|A1||||MSH|MH|D1|{string}|0|{suppress}|256|\n")
    };
    let rrf =
        [row("ENG", "Cardiomegaly", "N"), row("GER", "Herzvergrößerung", "N"), row("ENG", "Obsolete", "O")]
            .concat();
    let lexicon = Lexicon::from_bytes(rrf.as_bytes()).unwrap();
    assert!(lexicon.contains("cardiomegaly"));
    assert!(!lexicon.contains("herzvergrößerung") && !lexicon.contains("obsolete"));
}

#[test]
fn term_files_that_are_wrong_are_refused_by_line() {
    let message = |bytes: &[u8]| Lexicon::from_bytes(bytes).unwrap_err().to_string();
    assert_eq!(message(b""), "config field `lexicon`: no line holds a term");
    assert_eq!(
        message(b"heart\nl\xFFng\n"),
        "config field `lexicon`: line 2: not UTF-8 from byte 1 of the line"
    );
    assert_eq!(message(b"heart\tx\n\t--\n"), "config field `lexicon`: line 2: column 1 holds no term");
    let long = format!("heart\n{}\n", "a".repeat(65));
    assert!(
        message(long.as_bytes())
            .starts_with("config field `lexicon`: line 2: the word `aaaaaaaaaaaaaaaaaaaa…` is")
    );
    let rrf = "C1|ENG|P|L1|PF|S1|Y|A1||||MSH|MH|D1|Heart|0|N|256|\nC2|ENG|P|\n";
    assert!(message(rrf.as_bytes()).contains("line 2: 3 columns, expected the 18 of MRCONSO.RRF"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The sorted table against a plain list.
    #[test]
    fn a_lexicon_is_the_set_of_its_words(words in prop::collection::vec("[a-dé]{1,4}", 1..40), asked in "[a-dé]{0,5}") {
        let lexicon = Lexicon::from_terms(&words).unwrap();
        let known = words.contains(&asked) || FUNCTION_WORDS.contains(&asked.as_str());
        prop_assert_eq!(lexicon.contains(&asked), known);
    }

    /// Any bytes make a lexicon or an error.
    #[test]
    fn bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Lexicon::from_bytes(&bytes);
    }
}
