//! The COCO family against the real packages: CoreNLP's tokeniser, `pycocoevalcap`, NLTK; goldens are `goldens/*.json`,
//! written by `goldens/make_*.py`.

use serde_json::Value;

mod ptb;

fn golden(name: &str) -> Value {
    let path = format!("{}/tests/goldens/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn strings(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|v| v.as_str().unwrap()).collect()
}
