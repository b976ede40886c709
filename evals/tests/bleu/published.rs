//! Numbers that others have printed.

use std::path::PathBuf;

use serde_json::Value;
use swinseek_evals::bleu::{Bleu, BleuStats, Smoothing};
use swinseek_evals::tokenize::Tokenizer;

use super::{assert_close, by_segment, corpus, flat, segments};

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

#[test]
fn words_without_smoothing_or_with_a_floor_have_the_scores_of_the_python_tests() {
    let raw = |value| {
        with(|b| {
            (b.tokenizer, b.smoothing, b.effective_order) = (Tokenizer::None, Smoothing::Floor(value), true);
        })
    };
    for (hypothesis, reference, value, expected) in [
        ("this is a test", "this is a test", 0.01, 100.0),
        ("this is a fest", "this is a test", 0.01, 22.3606797749979),
        ("test", "a test", 0.01, 36.78794411714425),
        ("a test", "a test", 0.01, 100.0),
        ("a little test", "a test", 0.01, 3.218297948685433),
        ("am I am a character sequence", "I am a symbol string sequence a a", 0.1, 15.55722182),
        ("am I am a character sequence", "I am a symbol string sequence a a", 0.0, 0.0),
    ] {
        near(raw(value).sentence(hypothesis, &[reference]).unwrap().score, expected);
    }
    let nothing = ["", "", ""];
    assert_eq!(corpus(&Bleu::default(), &nothing, &[vec!["a"], vec!["b c"], vec![""]]).score, 0.0);
    // Counts that no text has, or a perfect text that is too short.
    for (hyp_len, ref_len, correct, total, value) in [
        (0, 1, [0, 0, 0, 0], [4, 4, 2, 1], 0.0),
        (14, 10, [0, 0, 0, 0], [10, 11, 12, 0], 0.0),
        (6, 6, [6, 5, 4, 0], [6, 5, 4, 3], 0.0),
        (1, 5, [0, 0, 0, 0], [0, 0, 0, 0], 0.01),
    ] {
        let stats = BleuStats { hyp_len, ref_len, correct: correct.to_vec(), total: total.to_vec() };
        assert_eq!(with(|b| b.smoothing = Smoothing::Floor(value)).score(&stats).score, 0.0);
    }
}

#[test]
fn absent_references_are_no_empty_ones() {
    let hypotheses = ["The dog bit the man.", "It wasn't surprising.", "The man had just bitten him."];
    let mut references =
        by_segment(&[&["The dog bit the man.", "It was not unexpected.", "The man bit him first."]]);
    references[0].push("The dog had bit the man.");
    let bleu = Bleu::default();
    let stats = bleu.corpus_stats(&segments(&hypotheses, &references)).unwrap();
    near(bleu.score(&stats.sum()).score, 45.06750632106114);
    assert!(bleu.signature(stats.references(), None).starts_with("nrefs:var|"));
    references[1].push("");
    references[2].push("");
    let stats = bleu.corpus_stats(&segments(&hypotheses, &references)).unwrap();
    assert!(bleu.signature(stats.references(), None).starts_with("nrefs:2|"));
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
        let check = |key: &str, bleu: &Bleu, references: &[Vec<&str>]| {
            let found = corpus(bleu, &hypotheses, references);
            let (expected, what) = (&expected["bleu"][key], format!("{system} {key}"));
            assert_close(found.score, expected["score"].as_f64().unwrap(), &what);
            // add-k is written to the counts there.
            if key != "13a_smooth_add-k" {
                let counts: Vec<u64> = serde_json::from_value(expected["counts"].clone()).unwrap();
                assert_eq!(found.stats.correct, counts, "{what}");
            }
        };
        for tokenizer in Tokenizer::ALL {
            check(tokenizer.name(), &Bleu { tokenizer, ..Bleu::default() }, &references);
        }
        check("13a_lowercase", &with(|b| b.lowercase = true), &references);
        for (name, smoothing) in
            [("floor", Smoothing::Floor(0.1)), ("add-k", Smoothing::AddK(1.0)), ("none", Smoothing::None)]
        {
            check(&format!("13a_smooth_{name}"), &with(|b| b.smoothing = smoothing), &references);
        }
        for order in 1..=3 {
            check(&format!("13a_order{order}"), &with(|b| b.max_order = order), &references);
        }
        let second = expected["bleu"]["13a_two_references"]["second_reference"].as_str().unwrap();
        let second = lines(read(second).leak());
        let two: Vec<Vec<&str>> =
            references.iter().zip(second).map(|(r, second)| vec![r[0], second]).collect();
        check("13a_two_references", &Bleu::default(), &two);
        let sentences = expected["sentence_bleu_13a_effective_order_first_40"].as_array().unwrap();
        for (number, expected) in sentences.iter().enumerate() {
            let bleu = with(|b| b.effective_order = true);
            let found = bleu.sentence(hypotheses[number], &references[number]).unwrap().score;
            assert_close(found, expected.as_f64().unwrap(), &format!("{system} sentence {number}"));
        }
    }
}
