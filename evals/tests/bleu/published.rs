//! Numbers that others have printed.

use std::path::PathBuf;

use serde_json::Value;
use swinseek_evals::bleu::{Bleu, BleuStats, Smoothing};
use swinseek_evals::tokenize::Tokenizer;

use super::{assert_close, by_segment, corpus, flat};

#[test]
fn tokenizers_give_the_documented_outputs() {
    let text = "No focal consolidation, 3.5-cm nodule (T2/T3) isn't seen.";
    let expected = "No focal consolidation , 3.5 - cm nodule ( T2 / T3 ) isn't seen .";
    assert_eq!(Tokenizer::V13a.tokenize(text), expected);
    assert_eq!(Tokenizer::Zh.tokenize(text), expected);
    assert!(Tokenizer::Intl.tokenize(text).ends_with("isn ' t seen ."));
    let text = "a 1,000.5 mm<skipped> &quot;x&quot; 10-12 – ok…";
    assert_eq!(Tokenizer::V13a.tokenize(text), "a 1,000.5 mm \" x \" 10 - 12 – ok…");
    assert!(Tokenizer::Intl.tokenize(text).ends_with("10-12 – ok …"));
    assert_eq!(Tokenizer::Intl.tokenize("in 2019."), "in 2019.");
    assert_eq!(Tokenizer::Char.tokenize("a b\u{1f}é"), "a b é");
    assert_eq!(Tokenizer::None.tokenize(" a\u{1f}b\u{3000}c "), "a b c");
    let message = "moses".parse::<Tokenizer>().unwrap_err().to_string();
    assert!(message.contains("`moses`") && message.contains("13a, none, char, intl, zh"), "{message}");
}

#[test]
fn published_numbers_are_reproduced() {
    let hypotheses = ["The dog bit the man.", "It wasn't surprising.", "The man had just bitten him."];
    let references = by_segment(&[
        &["The dog bit the man.", "It was not unexpected.", "The man bit him first."],
        &["The dog had bit the man.", "No one was surprised.", "The man had bitten the dog."],
    ]);
    let score = |bleu: Bleu| corpus(&bleu, &hypotheses, &references).score;
    near(score(Bleu::default()), 48.530827);
    near(score(with(|b| b.tokenizer = Tokenizer::None)), 49.1919566);
    near(score(with(|b| b.tokenizer = Tokenizer::Intl)), 43.91623493);
    let by_order = [77.65, 60.50, 53.93, 48.53, 46.14, 43.28];
    for (index, expected) in by_order.into_iter().enumerate() {
        let found = score(with(|b| b.max_order = index + 1));
        assert_eq!(format!("{found:.2}"), format!("{expected:.2}"));
    }
    assert!(
        corpus(&Bleu::default(), &hypotheses, &references)
            .to_string()
            .starts_with("48.53 82.4/50.0/45.5/37.5 (BP = 0.943")
    );
}

/// Settings that differ from the defaults in one field.
fn with(change: impl FnOnce(&mut Bleu)) -> Bleu {
    let mut bleu = Bleu::default();
    change(&mut bleu);
    bleu
}

/// Six printed digits.
fn near(found: f64, expected: f64) {
    assert!((found - expected).abs() < 1e-6, "{found} {expected}");
}

#[test]
fn radiology_sentences_have_the_reference_scores() {
    let hypotheses =
        ["the lungs are clear . no effusion .", "there is a 3.5 cm nodule in the right upper lobe"];
    let references = by_segment(&[&[
        "the lungs are clear . no pleural effusion .",
        "a 3.5 cm right upper lobe nodule is seen",
    ]]);
    let score = |bleu: Bleu| corpus(&bleu, &hypotheses, &references);
    let default = score(Bleu::default());
    assert_eq!(flat(&default.stats), [19, 18, 16, 10, 6, 3, 19, 17, 15, 13]);
    near(default.score, 46.242237);
    let smoothed = score(with(|b| b.smoothing = Smoothing::AddK(1.0)));
    near(smoothed.score, 50.361556);
    near(score(with(|b| b.max_order = 2)).score, 70.381534);
    let characters = score(with(|b| b.tokenizer = Tokenizer::Char));
    near(characters.score, 75.886246);
    near(characters.brevity_penalty, 0.984963);
}

#[test]
fn scores_follow_from_counts() {
    let stats = BleuStats { hyp_len: 11, ref_len: 11, correct: vec![9, 7, 5, 3], total: vec![10, 8, 6, 4] };
    near(Bleu::default().score(&stats).score, 83.75922397);
    let words = with(|b| b.tokenizer = Tokenizer::None);
    let hypothesis = "am I am a character sequence";
    let counted = words.sentence(hypothesis, &["I am a character sequence"]).unwrap();
    assert_eq!(flat(&counted.stats)[6..], [6, 5, 4, 3]);
}

#[test]
fn sentences_have_the_scores_of_each_setting() {
    // Two encodings of the Romanian letters, as in the issue that this example comes from.
    let hypothesis = "Producția de zahăr primă va fi exprimată în ceea ce privește zahărul alb;";
    let references = ["producţia de zahăr brut se exprimă în zahăr alb;"];
    let smooth = |smoothing| with(|b| b.smoothing = smoothing);
    let tokenizer = |tokenizer| with(|b| b.tokenizer = tokenizer);
    let lower = with(|b| (b.tokenizer, b.lowercase) = (Tokenizer::Char, true));
    for (mut bleu, expected) in [
        (smooth(Smoothing::Exp), 8.493),
        (smooth(Smoothing::None), 0.0),
        (smooth(Smoothing::Floor(0.1)), 4.51688),
        (smooth(Smoothing::Floor(0.5)), 10.10),
        (smooth(Smoothing::AddK(1.0)), 14.882),
        (smooth(Smoothing::AddK(2.0)), 21.389),
        (tokenizer(Tokenizer::None), 7.347),
        (tokenizer(Tokenizer::Intl), 8.493),
        (tokenizer(Tokenizer::Char), 40.8759),
        (lower, 42.0267),
    ] {
        bleu.effective_order = true;
        let found = bleu.sentence(hypothesis, &references).unwrap().score;
        // The tolerance of sacreBLEU's own test.
        assert!((found - expected).abs() < 1e-3, "{bleu:?} {found}");
    }
}

/// Real systems of WMT17, when the folder of external data is there (`SWINSEEK_DATA`).
#[test]
fn wmt17_systems_have_their_published_scores() {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data");
    let data = std::env::var_os("SWINSEEK_DATA").map_or_else(|| PathBuf::from(default), PathBuf::from);
    let folder = data.join("wmt17");
    if !folder.is_dir() {
        return;
    }
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let golden: Value = serde_json::from_str(&read("golden.json")).unwrap();
    let reference_text = read("reference.de.txt");
    let lines =
        |text: &'static str| -> Vec<&'static str> { text.trim_end_matches('\n').split('\n').collect() };
    let references = by_segment(&[&lines(reference_text.leak())]);
    for (system, expected) in golden["systems"].as_object().unwrap() {
        let hypotheses = lines(read(expected["file"].as_str().unwrap()).leak());
        for tokenizer in Tokenizer::ALL {
            let found = corpus(&Bleu { tokenizer, ..Bleu::default() }, &hypotheses, &references);
            let expected = &expected["bleu"][tokenizer.name()];
            let what = format!("{system} {}", tokenizer.name());
            assert_close(found.score, expected["score"].as_f64().unwrap(), &what);
            let counts: Vec<u64> = serde_json::from_value(expected["counts"].clone()).unwrap();
            assert_eq!(found.stats.correct, counts, "{what}");
        }
        let lower = corpus(&Bleu { lowercase: true, ..Bleu::default() }, &hypotheses, &references);
        assert_close(lower.score, expected["bleu"]["13a_lowercase"]["score"].as_f64().unwrap(), system);
    }
}
