//! `model.safetensors` of a model directory: header, names, shapes and types; tensors that it names are read.
#![no_main]

use std::sync::LazyLock;

use swinseek_fusion::checkpoint::Checkpoint;

static DIRECTORY: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("config.json"), "{}").expect("a file");
    directory
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let path = DIRECTORY.path().join("model.safetensors");
    std::fs::write(path, bytes).expect("a file");
    if let Ok(checkpoint) = Checkpoint::open(DIRECTORY.path()) {
        let _ = checkpoint.load_all();
    }
});
