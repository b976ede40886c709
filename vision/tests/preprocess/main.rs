//! Bytes to pixels to model input, against Pillow, pydicom and transformers.
//!
//! Fixtures and references are written by `tests/fixtures/images/make.py`.

mod config;
mod dicom;
mod hostile;
mod raster;
mod resize;

use std::path::{Path, PathBuf};

use swinseek_vision::preprocess::{DecodeError, DecodeOptions, Image, decode};

/// A file or folder of the picture fixtures.
fn fixture(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/images")).join(name)
}

fn bytes(name: &str) -> Vec<u8> {
    std::fs::read(fixture(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn try_decode(name: &str, frame: usize) -> Result<Image, DecodeError> {
    decode(&bytes(name), &DecodeOptions { frame, ..DecodeOptions::default() })
}

/// Names of the files in a fixture folder, sorted.
fn files(folder: &str) -> Vec<String> {
    let entries = std::fs::read_dir(fixture(folder)).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .map(|name| format!("{folder}/{name}"))
        .collect();
    names.sort();
    names
}

/// A tensor of a fixture as `f32`, with its shape.
fn tensor(tensors: &safetensors::SafeTensors, name: &str) -> (Vec<usize>, Vec<f32>) {
    use safetensors::Dtype;
    let view = tensors.tensor(name).unwrap();
    let data = view.data();
    let values = match view.dtype() {
        Dtype::U8 => data.iter().map(|&v| f32::from(v)).collect(),
        Dtype::U16 => {
            let words = data.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]]));
            // On the scale of 8-bit pictures, as Samples::to_f32_255.
            words.map(|v| f32::from(v) / 257.0).collect()
        }
        Dtype::F32 => data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
        other => panic!("{name}: {other:?}"),
    };
    (view.shape().to_vec(), values)
}

/// Largest and mean absolute difference.
fn difference(found: &[f32], expected: &[f32]) -> (f32, f32) {
    assert_eq!(found.len(), expected.len());
    let differences = || found.iter().zip(expected).map(|(a, b)| (a - b).abs());
    (differences().fold(0.0, f32::max), differences().sum::<f32>() / found.len() as f32)
}
