//! Settings, intervals, and what holds for every text.

use proptest::prelude::*;
use swinseek_evals::bleu::{Bleu, BleuStats, Segment, Smoothing};
use swinseek_evals::resample::Bootstrap;
use swinseek_evals::tokenize::Tokenizer;

use super::{TOLERANCE, flat, golden_texts, segments};

#[test]
fn bad_settings_are_named() {
    let message = |bleu: Bleu| bleu.sentence("a", &["a"]).unwrap_err().to_string();
    assert!(message(Bleu { max_order: 0, ..Bleu::default() }).contains("max_order: 0, expected 1 to 64"));
    assert!(message(Bleu { smoothing: Smoothing::Floor(f64::NAN), ..Bleu::default() }).contains("NaN"));
    assert!(
        Bleu::default().sentence("a", &[]).unwrap_err().to_string().contains("segment 1 has no reference")
    );
    assert!(Smoothing::from_name("nist", None).unwrap_err().to_string().contains("exp, floor, add-k, none"));
    assert!(Smoothing::from_name("exp", Some(1.0)).unwrap_err().to_string().contains("takes no value"));
    assert_eq!(Bleu::default().corpus(&[]).unwrap().score, 0.0);
}

#[test]
fn intervals_are_reproducible_and_hold_the_score() {
    let (hypotheses, references) = golden_texts();
    let bleu = Bleu::default();
    let stats = bleu.corpus_stats(&segments(&hypotheses, &references)).unwrap();
    let bootstrap = Bootstrap { resamples: 200, seed: 5 };
    let interval = bleu.interval(&stats, bootstrap).unwrap();
    assert_eq!(interval, bleu.interval(&stats, bootstrap).unwrap());
    let other = Bootstrap { seed: 6, ..bootstrap };
    assert_ne!(interval, bleu.interval(&stats, other).unwrap());
    let score = bleu.score(&stats.sum()).score;
    assert!(
        interval.low < score
            && score < interval.high
            && (interval.mean - score).abs() < interval.half_width()
    );
    assert_eq!(
        bleu.signature(Some(2), Some(bootstrap)),
        format!(
            "nrefs:2|bs:200|seed:5|case:mixed|eff:no|tok:13a|smooth:exp|version:swinseek-{}",
            env!("CARGO_PKG_VERSION")
        ),
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
    let nearest =
        references.iter().map(Vec::len).min_by_key(|len| (len.abs_diff(hypothesis.len()), *len)).unwrap();
    let (mut correct, mut total) = (Vec::new(), Vec::new());
    for n in 1..=max_order {
        let grams = ngrams(&hypothesis, n);
        let clipped = |(gram, count): (&Vec<String>, &u64)| {
            (*count)
                .min(references.iter().map(|r| ngrams(r, n).get(gram).copied().unwrap_or(0)).max().unwrap())
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
