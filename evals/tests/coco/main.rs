//! The COCO family against the real packages: CoreNLP's tokeniser, `pycocoevalcap`, NLTK; goldens are `goldens/*.json.gz`,
//! written by `goldens/make_*.py`.

use serde_json::Value;

mod floors;
mod nltk;
mod properties;
mod ptb;
mod scores;
#[path = "../goldens/stored.rs"]
mod stored;

use stored::read as golden;

fn strings(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|v| v.as_str().unwrap()).collect()
}

/// Both sides do the same f64 operations; `exp`, `ln` and `pow` of two C libraries may differ in the last place.
const TOLERANCE: f64 = 1e-9;

fn assert_close(found: f64, expected: f64, what: &str) {
    assert!((found - expected).abs() <= TOLERANCE, "{what}: {found}, expected {expected}");
}
