//! BLEU of NLTK.

use serde_json::Value;
use swinseek_evals::metric::{Metric, Segment, add_rows, rows};
use swinseek_evals::nltk::{Method, NltkBleu};
use swinseek_evals::profile::Profile;

use super::{assert_close, golden, strings};

fn method(value: &Value) -> Method {
    match (value[0].as_str().unwrap(), value[1].as_f64()) {
        ("method1", Some(epsilon)) => Method::One(epsilon),
        ("method2", None) => Method::Two,
        ("method3", None) => Method::Three,
        _ => Method::Zero,
    }
}

fn score(hypotheses: &[&str], references: &[Vec<&str>], order: usize, method: Method) -> f64 {
    let pairs = hypotheses.iter().zip(references);
    let segments: Vec<Segment<'_>> =
        pairs.map(|(hypothesis, references)| Segment { hypothesis, references }).collect();
    let metric = NltkBleu::new(order, method);
    let mut sum = vec![0.0; metric.width()];
    add_rows(&mut sum, &rows(&metric, &segments).unwrap());
    metric.score_sum(&sum) / 100.0
}

#[test]
fn corpora_and_sentences_score_as_in_nltk() {
    let (texts, golden) = (golden("coco"), golden("nltk"));
    let pairs = texts["pairs"].as_array().unwrap();
    let hypotheses: Vec<&str> = pairs.iter().map(|pair| pair[0].as_str().unwrap()).collect();
    let references: Vec<Vec<&str>> = pairs.iter().map(|pair| strings(&pair[1])).collect();
    for case in golden["corpora"].as_array().unwrap() {
        let (begin, end) = (case[0].as_u64().unwrap() as usize, case[1].as_u64().unwrap() as usize);
        for (index, expected) in case[3].as_array().unwrap().iter().enumerate() {
            let found = score(&hypotheses[begin..end], &references[begin..end], index + 1, method(&case[2]));
            assert_close(found, expected.as_f64().unwrap(), &format!("{begin}..{end} {} {index}", case[2]));
        }
    }
    let methods: Vec<Method> = golden["methods"].as_array().unwrap().iter().map(method).collect();
    for case in golden["sentences"].as_array().unwrap() {
        let number = case[0].as_u64().unwrap() as usize;
        for (&method, expected) in methods.iter().zip(case[1].as_array().unwrap()) {
            let found = score(&hypotheses[number..=number], &references[number..=number], 4, method);
            assert_close(found, expected.as_f64().unwrap(), &format!("{number} {method:?}"));
        }
    }
}

/// sacreBLEU's example of three sentences: NLTK counts a 4-gram for the one that has none.
#[test]
fn the_published_example() {
    let hypotheses = ["The dog bit the man.", "It wasn't surprising.", "The man had just bitten him."];
    let references = [
        vec!["The dog bit the man.", "The dog had bit the man."],
        vec!["It was not unexpected.", "No one was surprised."],
        vec!["The man bit him first.", "The man had bitten the dog."],
    ];
    let found = score(&hypotheses, &references, 4, Method::Zero);
    assert!((found - 0.4700).abs() < 5e-5, "{found}");
    let table = Profile::Nltk.table(&hypotheses, &references).unwrap();
    assert_close(table.scores().bleu[3], found, "the profile");
    // Every rounded number was published with four decimals.
    let bleu = Profile::Sacrebleu.table(&hypotheses, &references).unwrap().scores().bleu[3];
    assert!((bleu - 0.4853).abs() < 5e-5, "{bleu}");
}
