//! An exported Swin in ONNX Runtime against our own encoder. Needs the library: the path is in `ORT_DYLIB_PATH`, and without
//! it there is nothing to test.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{Device, Tensor};
use swinseek_kernels::{Error, Init, Precision, Result, TensorSource, Trace, Weights};
use swinseek_vision::{Encoder, OnnxEncoder, VisionConfig};

/// Two implementations in f32, of which one fuses operations.
const TOLERANCE: f32 = 1e-4;

struct Checkpoint(HashMap<String, Tensor>);

impl TensorSource for Checkpoint {
    fn tensor(&self, name: &str, _shape: &[usize], _init: Init) -> Result<Tensor> {
        self.0.get(name).cloned().ok_or_else(|| Error::MissingTensor { name: name.to_owned() })
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.0.get(name).map(|tensor| tensor.dims().to_vec())
    }
}

fn library() -> Option<PathBuf> {
    let library = std::env::var_os("ORT_DYLIB_PATH").filter(|path| !path.is_empty());
    if library.is_none() {
        println!("ORT_DYLIB_PATH is not set: ONNX Runtime is not tested");
    }
    library.map(PathBuf::from)
}

fn model() -> Vec<u8> {
    std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/goldens/onnx_swin/model.onnx")).unwrap()
}

/// The encoder that was exported.
fn own() -> Encoder {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/goldens/swin"));
    let config = serde_json::from_slice(&std::fs::read(folder.join("config.json")).unwrap()).unwrap();
    let tensors = candle_core::safetensors::load(folder.join("model.safetensors"), &Device::Cpu).unwrap();
    let weights = Weights::new(Arc::new(Checkpoint(tensors)), Precision::F32);
    Encoder::new(&VisionConfig::from_json(&config).unwrap(), &weights).unwrap()
}

#[track_caller]
fn close(name: &str, a: &Tensor, b: &Tensor) {
    assert_eq!(a.dims(), b.dims(), "{name}");
    let gap = (a - b).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap();
    let gap: f32 = gap.to_scalar().unwrap();
    assert!(gap <= TOLERANCE, "{name}: differs by {gap:e}");
}

#[test]
fn an_exported_swin_equals_our_own() {
    let Some(library) = library() else { return };
    let (onnx, own) = (OnnxEncoder::new(&model(), Some(&library), 1).unwrap(), own());
    for (batch, seed) in [(1, 3.0f32), (3, 11.0)] {
        // Waves that do not repeat from channel to channel or from picture to picture.
        let wave = |i: usize| ((i as f32 + seed) * 0.37).sin() + ((i as f32) * 0.0113 * seed).cos();
        let values: Vec<f32> = (0..batch * 3 * 32 * 32).map(wave).collect();
        let pixels = Tensor::from_vec(values, (batch, 3, 32, 32), &Device::Cpu).unwrap();
        let expected = own.forward(&pixels, &mut Trace::off()).unwrap();
        let found = onnx.forward(&pixels).unwrap();
        close("last_hidden_state", &found.last_hidden_state, &expected.last_hidden_state);
        close("pooled", &found.pooled, &expected.pooled);
        assert_eq!(found.stages.len(), expected.stages.len());
        for (found, expected) in found.stages.iter().zip(&expected.stages) {
            assert_eq!((found.height, found.width), (expected.height, expected.width));
            close("stage", &found.tokens, &expected.tokens);
        }
    }
}

#[test]
fn what_does_not_fit_is_refused_by_one_line() {
    let Some(library) = library() else { return };
    // The first library serves the process, so a right one comes first; a wrong one has a test of its own.
    let onnx = OnnxEncoder::new(&model(), Some(&library), 1).unwrap();
    let message = |error: Error| {
        let message = error.to_string();
        assert!(!message.contains('\n'), "{message}");
        message
    };
    let gray = Tensor::zeros((1, 1, 32, 32), candle_core::DType::F32, &Device::Cpu).unwrap();
    let error = message(onnx.forward(&gray).unwrap_err());
    assert!(error.starts_with("ONNX model refused pixels of shape [1, 1, 32, 32]"), "{error}");
    for bytes in [&b""[..], b"not a model", &model()[..1000]] {
        let error = message(OnnxEncoder::new(bytes, Some(&library), 1).unwrap_err());
        assert!(error.starts_with("ONNX model cannot be loaded"), "{error}");
    }
}
