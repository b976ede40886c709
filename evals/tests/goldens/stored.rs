//! The goldens of the text metrics: one gzipped JSON file for each `make_*.py`.

use std::fs::File;
use std::io::Read as _;

use flate2::read::GzDecoder;
use serde_json::Value;

/// `NAME.json.gz` of this folder.
pub(crate) fn read(name: &str) -> Value {
    let path = format!("{}/tests/goldens/{name}.json.gz", env!("CARGO_MANIFEST_DIR"));
    let mut text = String::new();
    GzDecoder::new(File::open(path).unwrap()).read_to_string(&mut text).unwrap();
    serde_json::from_str(&text).unwrap()
}
