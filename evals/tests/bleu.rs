//! BLEU against the real sacreBLEU: `goldens/bleu.json`, written by `goldens/make_bleu.py`, and its published numbers.

use std::path::PathBuf;
use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::Value;
use swinseek_evals::bleu::{Bleu, BleuStats, Segment, Smoothing};
use swinseek_evals::resample::Bootstrap;
use swinseek_evals::tokenize::Tokenizer;

static GOLDEN: LazyLock<Value> = LazyLock::new(|| {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/goldens/bleu.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
});

/// Both sides do the same f64 operations; `exp` and `ln` of two C libraries may differ in the last place.
const TOLERANCE: f64 = 1e-9;

fn assert_close(found: f64, expected: f64, what: &str) {
    assert!((found - expected).abs() <= TOLERANCE, "{what}: {found}, expected {expected}");
}

fn strings(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|v| v.as_str().unwrap()).collect()
}

fn flat(stats: &BleuStats) -> Vec<u64> {
    [&[stats.hyp_len, stats.ref_len], stats.correct.as_slice(), &stats.total].concat()
}

fn corpus(bleu: &Bleu, hypotheses: &[&str], references: &[Vec<&str>]) -> swinseek_evals::bleu::BleuScore {
    let segments: Vec<Segment> = hypotheses
        .iter()
        .zip(references)
        .map(|(hypothesis, references)| Segment { hypothesis, references })
        .collect();
    bleu.corpus(&segments).unwrap()
}

/// Streams as sacreBLEU takes them: the first references of all segments, the second ones, and so on.
fn by_segment<'a>(streams: &[&[&'a str]]) -> Vec<Vec<&'a str>> {
    (0..streams[0].len()).map(|i| streams.iter().map(|stream| stream[i]).collect()).collect()
}

#[test]
fn statistics_and_sentence_scores_equal_sacrebleu() {
    let tokenizers: Vec<Tokenizer> = strings(&GOLDEN["tokenizers"]).iter().map(|t| t.parse().unwrap()).collect();
    let pairs = GOLDEN["pairs"].as_array().unwrap();
    assert_eq!((pairs.len(), tokenizers.len()), (2000, 5));
    for (index, tokenizer) in tokenizers.into_iter().enumerate() {
        let bleu = Bleu { tokenizer, effective_order: true, ..Bleu::default() };
        for (number, pair) in pairs.iter().enumerate() {
            let (hypothesis, references) = (pair[0].as_str().unwrap(), strings(&pair[1]));
            let score = bleu.sentence(hypothesis, &references).unwrap();
            let expected: Vec<u64> = serde_json::from_value(pair[2][index].clone()).unwrap();
            let tokens = tokenizer.tokenize(hypothesis);
            assert_eq!(flat(&score.stats), expected, "{} pair {number}: {tokens:?}", tokenizer.name());
            assert_close(score.score, pair[3][index].as_f64().unwrap(), &format!("{} pair {number}", tokenizer.name()));
        }
    }
}

#[test]
fn corpus_scores_and_signatures_equal_sacrebleu() {
    let pairs = GOLDEN["pairs"].as_array().unwrap();
    let corpora = GOLDEN["corpora"].as_array().unwrap();
    assert!(corpora.len() > 500);
    for case in corpora {
        let (begin, end) = (case[0].as_u64().unwrap() as usize, case[1].as_u64().unwrap() as usize);
        let settings = &case[2];
        let bleu = Bleu {
            tokenizer: settings["tokenize"].as_str().unwrap().parse().unwrap(),
            lowercase: settings["lowercase"] == true,
            smoothing: Smoothing::from_name(
                settings["smooth_method"].as_str().unwrap_or("exp"),
                settings["smooth_value"].as_f64(),
            )
            .unwrap(),
            max_order: settings["max_ngram_order"].as_u64().unwrap_or(4) as usize,
            effective_order: settings["effective_order"] == true,
        };
        let references: Vec<Vec<&str>> = pairs[begin..end].iter().map(|pair| strings(&pair[1])).collect();
        let segments: Vec<Segment> = pairs[begin..end]
            .iter()
            .zip(&references)
            .map(|(pair, references)| Segment { hypothesis: pair[0].as_str().unwrap(), references })
            .collect();
        let stats = bleu.corpus_stats(&segments).unwrap();
        let score = bleu.score(&stats.sum());
        let what = format!("{begin}..{end} {settings}");
        let expected: Vec<f64> = serde_json::from_value(case[3].clone()).unwrap();
        assert_close(score.score, expected[0], &what);
        assert_close(score.brevity_penalty, expected[1], &what);
        assert_eq!(score.precisions.len(), expected.len() - 2);
        for (found, expected) in score.precisions.iter().zip(&expected[2..]) {
            assert_close(*found, *expected, &what);
        }
        let signature = bleu.signature(stats.references(), None);
        let own = concat!("|version:swinseek-", env!("CARGO_PKG_VERSION"));
        assert_eq!(signature.strip_suffix(own), case[4].as_str(), "{what}");
    }
}

#[test]
fn characters_have_the_classes_of_the_regex_package() {
    for run in GOLDEN["classes"].as_array().unwrap() {
        let (first, last) = (run[0].as_u64().unwrap() as u32, run[1].as_u64().unwrap() as u32);
        for c in (first..=last).filter_map(char::from_u32).filter(|&c| !swinseek_evals::tokenize::is_space(c)) {
            // A letter on both sides splits punctuation and symbols off; a full stop in front stays with numbers only.
            let pieces = |text: String| Tokenizer::Intl.tokenize(&text).split(' ').count();
            let class = match (pieces(format!("a{c}a")), pieces(format!(".{c}"))) {
                (3, _) if pieces(format!("1{c}1")) == 1 => "P",
                (3, _) => "S",
                (1, 1) => "N",
                (1, 2) => "O",
                other => panic!("{c:?} {other:?}"),
            };
            assert_eq!(class, run[2], "U+{:04X}", u32::from(c));
        }
    }
}

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
    // The digits are the published ones.
    let near = |found: f64, expected: f64, digits: i32| assert!((found - expected).abs() < 10_f64.powi(-digits), "{found} {expected}");
    near(score(Bleu::default()), 48.530827, 6);
    near(score(Bleu { tokenizer: Tokenizer::None, ..Bleu::default() }), 49.1919566, 6);
    near(score(Bleu { tokenizer: Tokenizer::Intl, ..Bleu::default() }), 43.91623493, 6);
    for (max_order, expected) in [77.65, 60.50, 53.93, 48.53, 46.14, 43.28].into_iter().enumerate() {
        near(score(Bleu { max_order: max_order + 1, ..Bleu::default() }), expected, 2);
    }
    assert!(corpus(&Bleu::default(), &hypotheses, &references).to_string().starts_with("48.53 82.4/50.0/45.5/37.5 (BP = 0.943"));
}

#[test]
fn radiology_sentences_have_the_reference_scores() {
    let hypotheses = ["the lungs are clear . no effusion .", "there is a 3.5 cm nodule in the right upper lobe"];
    let references = by_segment(&[&["the lungs are clear . no pleural effusion .", "a 3.5 cm right upper lobe nodule is seen"]]);
    let score = corpus(&Bleu::default(), &hypotheses, &references);
    assert_eq!(flat(&score.stats), [19, 18, 16, 10, 6, 3, 19, 17, 15, 13]);
    // Six printed digits.
    let near = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-6, "{found} {expected}");
    near(score.score, 46.242237);
    near(corpus(&Bleu { smoothing: Smoothing::AddK(1.0), ..Bleu::default() }, &hypotheses, &references).score, 50.361556);
    near(corpus(&Bleu { max_order: 2, ..Bleu::default() }, &hypotheses, &references).score, 70.381534);
    let characters = corpus(&Bleu { tokenizer: Tokenizer::Char, ..Bleu::default() }, &hypotheses, &references);
    near(characters.score, 75.886246);
    near(characters.brevity_penalty, 0.984963);
    let stats = |correct: [u64; 4], total: [u64; 4], len| BleuStats { hyp_len: len, ref_len: len, correct: correct.into(), total: total.into() };
    near(Bleu::default().score(&stats([9, 7, 5, 3], [10, 8, 6, 4], 11)).score, 83.75922397);
    let counted = corpus(&Bleu { tokenizer: Tokenizer::None, ..Bleu::default() }, &["am I am a character sequence"], &[vec!["I am a character sequence"]]);
    assert_eq!((counted.stats.total.as_slice(), counted.stats.hyp_len), ([6, 5, 4, 3].as_slice(), 6));
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
    let lines = |text: &'static str| -> Vec<&'static str> { text.trim_end_matches('\n').split('\n').collect() };
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

#[test]
fn bad_settings_are_named() {
    let message = |bleu: Bleu| bleu.sentence("a", &["a"]).unwrap_err().to_string();
    assert!(message(Bleu { max_order: 0, ..Bleu::default() }).contains("max_order: 0, expected 1 to 64"));
    assert!(message(Bleu { smoothing: Smoothing::Floor(f64::NAN), ..Bleu::default() }).contains("NaN"));
    assert!(Bleu::default().sentence("a", &[]).unwrap_err().to_string().contains("segment 1 has no reference"));
    assert!(Smoothing::from_name("nist", None).unwrap_err().to_string().contains("exp, floor, add-k, none"));
    assert!(Smoothing::from_name("exp", Some(1.0)).unwrap_err().to_string().contains("takes no value"));
    assert_eq!(Bleu::default().corpus(&[]).unwrap().score, 0.0);
}

#[test]
fn intervals_are_reproducible_and_hold_the_score() {
    let pairs = GOLDEN["pairs"].as_array().unwrap();
    let references: Vec<Vec<&str>> = pairs.iter().map(|pair| strings(&pair[1])).collect();
    let segments: Vec<Segment> = pairs
        .iter()
        .zip(&references)
        .map(|(pair, references)| Segment { hypothesis: pair[0].as_str().unwrap(), references })
        .collect();
    let bleu = Bleu::default();
    let stats = bleu.corpus_stats(&segments).unwrap();
    let bootstrap = Bootstrap { resamples: 200, seed: 5 };
    let interval = bleu.interval(&stats, bootstrap).unwrap();
    assert_eq!(interval, bleu.interval(&stats, bootstrap).unwrap());
    assert_ne!(interval, bleu.interval(&stats, Bootstrap { seed: 6, ..bootstrap }).unwrap());
    let score = bleu.score(&stats.sum()).score;
    assert!(interval.low < score && score < interval.high && (interval.mean - score).abs() < interval.half_width());
    assert_eq!(
        bleu.signature(Some(2), Some(bootstrap)),
        format!("nrefs:2|bs:200|seed:5|case:mixed|eff:no|tok:13a|smooth:exp|version:swinseek-{}", env!("CARGO_PKG_VERSION")),
    );
    assert!(bootstrap.interval(0, |_| Some(0.0)).is_err());
    assert!(bootstrap.interval(3, |_| None).is_err());
}

/// Counting as the paper writes it, with maps of token lists.
fn plain_counts(hypothesis: &str, references: &[&str], max_order: usize) -> Vec<u64> {
    use std::collections::HashMap;
    let words = |text: &str| -> Vec<String> { text.split_whitespace().map(str::to_owned).collect() };
    let ngrams = |words: &[String], n: usize| {
        let mut counts: HashMap<Vec<String>, u64> = HashMap::new();
        words.windows(n).for_each(|gram| *counts.entry(gram.to_vec()).or_default() += 1);
        counts
    };
    let hypothesis = words(hypothesis);
    let references: Vec<Vec<String>> = references.iter().map(|r| words(r)).collect();
    let nearest = references.iter().map(Vec::len).min_by_key(|len| (len.abs_diff(hypothesis.len()), *len)).unwrap();
    let (mut correct, mut total) = (Vec::new(), Vec::new());
    for n in 1..=max_order {
        let grams = ngrams(&hypothesis, n);
        let clipped = |(gram, count): (&Vec<String>, &u64)| {
            (*count).min(references.iter().map(|r| ngrams(r, n).get(gram).copied().unwrap_or(0)).max().unwrap())
        };
        correct.push(grams.iter().map(clipped).sum());
        total.push(grams.values().sum());
    }
    [vec![hypothesis.len() as u64, nearest as u64], correct, total].concat()
}

proptest! {
    #[test]
    fn counts_equal_plain_counting(
        hypothesis in "([abc] ){0,40}",
        references in prop::collection::vec("([abcd] ){0,40}", 1..4),
        max_order in 1_usize..8,
    ) {
        let references: Vec<&str> = references.iter().map(String::as_str).collect();
        let bleu = Bleu { tokenizer: Tokenizer::None, max_order, ..Bleu::default() };
        let stats = bleu.sentence(&hypothesis, &references).unwrap().stats;
        prop_assert_eq!(flat(&stats), plain_counts(&hypothesis, &references, max_order));
    }

    #[test]
    fn statistics_add_up(texts in prop::collection::vec(("[a-c .]{0,20}", "[a-c .]{0,20}"), 2..12), cut in 1_usize..11) {
        let references: Vec<[&str; 1]> = texts.iter().map(|(_, r)| [r.as_str()]).collect();
        let segments: Vec<Segment> = texts.iter().zip(&references)
            .map(|((hypothesis, _), references)| Segment { hypothesis, references }).collect();
        let bleu = Bleu::default();
        let whole = bleu.corpus_stats(&segments).unwrap();
        let cut = cut.min(segments.len() - 1);
        let mut sum = bleu.corpus_stats(&segments[..cut]).unwrap().sum();
        sum += &bleu.corpus_stats(&segments[cut..]).unwrap().sum();
        prop_assert_eq!(&sum, &whole.sum());
        let mut by_segment = BleuStats::zero(4);
        (0..whole.len()).for_each(|i| by_segment += &whole.get(i));
        prop_assert_eq!(sum, by_segment);
    }

    #[test]
    fn any_text_can_be_scored(hypothesis in any::<String>(), reference in any::<String>()) {
        for tokenizer in Tokenizer::ALL {
            let bleu = Bleu { tokenizer, lowercase: true, effective_order: true, ..Bleu::default() };
            let score = bleu.sentence(&hypothesis, &[&reference]).unwrap();
            prop_assert!((0.0..=100.0 + TOLERANCE).contains(&score.score));
            let own = bleu.sentence(&hypothesis, &[&hypothesis]).unwrap();
            prop_assert!(own.stats.hyp_len == 0 || (own.score - 100.0).abs() < TOLERANCE);
        }
    }
}
