//! A missing ONNX Runtime; in a process of its own, because the first library that loads serves the whole process.

use std::path::Path;

use swinseek_vision::OnnxEncoder;

#[test]
fn a_missing_library_is_named() {
    let error =
        OnnxEncoder::new(b"", Some(Path::new("/nowhere/libonnxruntime.so")), 1).unwrap_err().to_string();
    let expected = "ONNX Runtime (1.17 or newer) cannot be loaded from `/nowhere/libonnxruntime.so`: ";
    assert!(error.starts_with(expected) && !error.contains('\n'), "{error}");
    // A file that is there and is no library.
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let error = OnnxEncoder::new(b"", Some(Path::new(manifest)), 1).unwrap_err().to_string();
    assert!(error.contains("Cargo.toml`: "), "{error}");
}
