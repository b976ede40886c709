//! Zero differences on thousands of random texts.

use swinseek_evals::bleu::{Bleu, Smoothing};
use swinseek_evals::tokenize::Tokenizer;

use super::{GOLDEN, assert_close, flat, golden_texts, segments, strings};

#[test]
fn statistics_and_sentence_scores_equal_sacrebleu() {
    let tokenizers: Vec<Tokenizer> =
        strings(&GOLDEN["tokenizers"]).iter().map(|t| t.parse().unwrap()).collect();
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
            assert_close(
                score.score,
                pair[3][index].as_f64().unwrap(),
                &format!("{} pair {number}", tokenizer.name()),
            );
        }
    }
}

#[test]
fn corpus_scores_and_signatures_equal_sacrebleu() {
    let (hypotheses, references) = golden_texts();
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
        let cut = segments(&hypotheses[begin..end], &references[begin..end]);
        let stats = bleu.corpus_stats(&cut).unwrap();
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
        let order = if bleu.max_order == 4 { String::new() } else { format!("|order:{}", bleu.max_order) };
        let expected = format!("{}{order}{own}", case[4].as_str().unwrap());
        assert_eq!(signature, expected, "{what}");
    }
}

#[test]
fn characters_have_the_classes_of_the_regex_package() {
    for run in GOLDEN["classes"].as_array().unwrap() {
        let (first, last) = (run[0].as_u64().unwrap() as u32, run[1].as_u64().unwrap() as u32);
        for c in (first..=last).filter_map(char::from_u32).filter(|&c| !swinseek_evals::tokenize::is_space(c))
        {
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
