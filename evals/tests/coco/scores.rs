//! Scores and preparation against `pycocoevalcap`, and R2Gen's cleaners.

use swinseek_evals::cider::{Cider, Frequencies};
use swinseek_evals::coco::{self, CocoBleu};
use swinseek_evals::metric::{Metric, Segment, add_rows, rows};
use swinseek_evals::profile::Profile;
use swinseek_evals::rouge::{RougeL, rouge_l};

use super::{assert_close, golden, strings};

/// Texts of `coco.json`.
struct Pairs {
    golden: serde_json::Value,
}

impl Pairs {
    fn new() -> Self {
        Self { golden: golden("coco") }
    }

    fn hypotheses(&self) -> Vec<&str> {
        self.golden["pairs"].as_array().unwrap().iter().map(|pair| pair[0].as_str().unwrap()).collect()
    }

    fn references(&self) -> Vec<Vec<&str>> {
        self.golden["pairs"].as_array().unwrap().iter().map(|pair| strings(&pair[1])).collect()
    }

    fn numbers(&self, section: &str, row: usize, column: usize) -> Vec<f64> {
        serde_json::from_value(self.golden[section][row][column].clone()).unwrap()
    }
}

fn segments<'a>(hypotheses: &[&'a str], references: &'a [Vec<&'a str>]) -> Vec<Segment<'a>> {
    let pairs = hypotheses.iter().zip(references);
    pairs.map(|(hypothesis, references)| Segment { hypothesis, references }).collect()
}

fn sum(metric: &dyn Metric, segments: &[Segment<'_>]) -> Vec<f64> {
    let mut sum = vec![0.0; metric.width()];
    add_rows(&mut sum, &rows(metric, segments).unwrap());
    sum
}

#[test]
fn every_text_scores_as_in_pycocoevalcap() {
    let pairs = Pairs::new();
    let (hypotheses, references) = (pairs.hypotheses(), pairs.references());
    assert!(hypotheses.len() >= 2500);
    let segments = segments(&hypotheses, &references);
    let frequencies = Frequencies::new(&references);
    let cider = Cider { frequencies: &frequencies }.segments(&segments);
    let bleu = swinseek_evals::bleu::Bleu {
        tokenizer: swinseek_evals::tokenize::Tokenizer::None,
        ..Default::default()
    };
    let stats = bleu.corpus_stats(&segments).unwrap();
    for (number, segment) in segments.iter().enumerate() {
        let expected = pairs.numbers("pairs", number, 2);
        let found = coco::bleu(&stats.get(number));
        for (order, (found, expected)) in found.iter().zip(&expected).enumerate() {
            assert_close(*found, *expected, &format!("BLEU-{} of {segment:?}", order + 1));
        }
        let rouge = rouge_l(segment.hypothesis, segment.references);
        assert_close(rouge, expected[4], &format!("ROUGE-L of {segment:?}"));
        assert_close(cider[number], expected[5], &format!("CIDEr-D of {segment:?}"));
    }
}

#[test]
fn every_corpus_scores_as_in_pycocoevalcap() {
    let pairs = Pairs::new();
    let (hypotheses, references) = (pairs.hypotheses(), pairs.references());
    for case in pairs.golden["corpora"].as_array().unwrap() {
        let (begin, end) = (case[0].as_u64().unwrap() as usize, case[1].as_u64().unwrap() as usize);
        let expected: Vec<f64> = serde_json::from_value(case[2].clone()).unwrap();
        let cut = segments(&hypotheses[begin..end], &references[begin..end]);
        let frequencies = Frequencies::new(&references[begin..end]);
        let cider = Cider { frequencies: &frequencies };
        let bleus = (1..=4).map(CocoBleu::new).map(|bleu| bleu.score_sum(&sum(&bleu, &cut)));
        let means = [&RougeL as &dyn Metric, &cider].map(|metric| metric.score_sum(&sum(metric, &cut)));
        for (index, found) in bleus.chain(means).enumerate() {
            assert_close(found / 100.0, expected[index], &format!("{begin}..{end}, {index}"));
        }
    }
}

#[test]
fn captions_go_the_whole_way_of_the_evaluation() {
    let pairs = Pairs::new();
    let tidy = |text: &str| text.replace(['\r', '\u{b}', '\u{c}', '\u{2028}', '\u{2029}', 'Σ'], " ");
    let hypotheses: Vec<String> = pairs.hypotheses()[..600].iter().map(|text| tidy(text)).collect();
    let hypotheses: Vec<&str> = hypotheses.iter().map(String::as_str).collect();
    let references: Vec<Vec<String>> =
        pairs.references()[..600].iter().map(|all| all.iter().map(|text| tidy(text)).collect()).collect();
    let table = Profile::Coco.table(&hypotheses, &references).unwrap();
    let rows = pairs.golden["captions"].as_array().unwrap();
    assert_eq!(table.len() + 1, rows.len());
    for (index, expected) in rows.iter().enumerate() {
        let scores = if index == 0 { table.scores() } else { table.scores_of(&[index - 1]) };
        let found = scores.bleu.into_iter().chain(scores.rouge_l).chain(scores.cider);
        for (found, expected) in found.zip(expected.as_array().unwrap()) {
            let text = index.checked_sub(1).map(|index| (hypotheses[index], &references[index]));
            assert_close(found, expected.as_f64().unwrap(), &format!("{index} {text:?}"));
        }
    }
}

#[test]
fn reports_are_cleaned_as_in_r2gen() {
    let golden = golden("coco");
    let profiles = [Profile::R2genIu, Profile::R2genMimic, Profile::R2gengptMimic, Profile::CocoWords];
    let rows = golden["cleaned"].as_array().unwrap();
    assert!(rows.len() >= 1000);
    for row in rows {
        let row = strings(row);
        for (profile, expected) in profiles.iter().zip(&row[1..]) {
            assert_eq!(profile.prepare(row[0]), *expected, "{profile} {:?}", row[0]);
        }
    }
}

#[test]
fn nothing_to_match_gives_the_numbers_of_the_reference() {
    let score = |hypothesis: &str, reference: &str| {
        Profile::CocoWords.table(&[hypothesis], &[[reference]]).unwrap().scores()
    };
    // A perfect caption of three words: its fourth order is 1e-15 / 1e-9.
    assert!((score("a b c", "a b c d").bleu[3] - 0.02266).abs() < 5e-6);
    assert!((score("x y z v w", "a b c d e").bleu[3] - 1e-13).abs() < 1e-13);
    // ROUGE-L sees one empty word in an empty text; one image has no rare words.
    assert_eq!(score("", "").rouge_l, Some(1.0));
    assert_eq!(score("a b", "a b").cider, Some(0.0));
}
