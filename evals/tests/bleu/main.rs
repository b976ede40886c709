//! BLEU against the real sacreBLEU: `goldens/bleu.json.gz`, written by `goldens/make_bleu.py`, its published numbers, and
//! plain counting.

use std::sync::LazyLock;

use serde_json::Value;
use swinseek_evals::bleu::{Bleu, BleuScore, BleuStats, Segment};

mod goldens;
mod properties;
mod published;
#[path = "../goldens/stored.rs"]
mod stored;

/// `{tokenizers, classes, pairs: [hypothesis, references, statistics, scores], corpora}`.
static GOLDEN: LazyLock<Value> = LazyLock::new(|| stored::read("bleu"));

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

fn corpus(bleu: &Bleu, hypotheses: &[&str], references: &[Vec<&str>]) -> BleuScore {
    bleu.corpus(&segments(hypotheses, references)).unwrap()
}

/// Streams as sacreBLEU takes them: the first references of all segments, the second ones, and so on.
fn by_segment<'a>(streams: &[&[&'a str]]) -> Vec<Vec<&'a str>> {
    (0..streams[0].len()).map(|i| streams.iter().map(|stream| stream[i]).collect()).collect()
}

/// All pairs of the goldens: hypotheses with their references.
fn golden_texts() -> (Vec<&'static str>, Vec<Vec<&'static str>>) {
    let pairs = GOLDEN["pairs"].as_array().unwrap();
    pairs.iter().map(|pair| (pair[0].as_str().unwrap(), strings(&pair[1]))).unzip()
}

fn segments<'a>(hypotheses: &[&'a str], references: &'a [Vec<&'a str>]) -> Vec<Segment<'a>> {
    hypotheses
        .iter()
        .zip(references)
        .map(|(hypothesis, references)| Segment { hypothesis, references })
        .collect()
}
