//! A llama in GGUF against what transformers reads from the same file, and files that are not what they should be.

use std::path::{Path, PathBuf};

use candle_core::{DType, Tensor};
use swinseek_fusion::{
    checkpoint::{Gguf, StoredType, save},
    verify,
};
use swinseek_kernels::{Init, TensorSource, quant::Int4Groups};

use crate::support::tensors;

fn golden(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/gguf").join(file)
}

fn values(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn parameters_equal_those_that_transformers_reads() {
    let gguf = Gguf::open(&golden("llama.gguf")).unwrap();
    let (found, expected) = (gguf.load_all().unwrap(), tensors(&golden("parameters.safetensors")));
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (name, tensor) in &found {
        let columns = *tensor.dims().last().unwrap();
        for (row, (w, &expected)) in values(tensor).chunks(columns).zip(&values(&expected[name])).enumerate()
        {
            let product: f64 = w.iter().enumerate().map(|(i, w)| w * (i as f64).cos()).sum();
            // Q4_K multiplies and subtracts in `f32`, in an order that is the reader's own; the rest is exact.
            let size: f64 = w.iter().map(|w| w.abs()).sum();
            assert!((product - expected).abs() <= 1e-6 * size, "{name} row {row}: {product} and {expected}");
        }
    }
}

#[test]
fn an_imported_model_computes_the_same() {
    let gguf = Gguf::open(&golden("llama.gguf")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    save(dir.path(), gguf.config(), &gguf.load_all().unwrap(), StoredType::F32).unwrap();
    // Logits are of O(10), and four matrices lie between.
    let report =
        verify(dir.path(), &golden("golden.safetensors"), 5e-5, swinseek_kernels::Precision::F32).unwrap();
    assert!(report.ok(), "{report:?}");
}

#[test]
fn four_bit_values_survive_the_import() {
    let gguf = Gguf::open(&golden("llama.gguf")).unwrap();
    for name in ["self_attn.q_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj"] {
        let weight = gguf.load(&format!("model.layers.1.{name}.weight")).unwrap();
        let columns = weight.dim(1).unwrap();
        let weight = weight.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(Int4Groups::quantize(&weight, columns).dequantize(), weight, "{name}");
    }
}

#[test]
fn names_and_shapes_are_checked() {
    let gguf = Gguf::open(&golden("llama.gguf")).unwrap();
    let error = |name: &str| gguf.tensor(name, &[3, 3], Init::Const(0.0)).unwrap_err().to_string();
    assert!(error("model.norm.bias").contains("`model.norm.bias` is missing"));
    assert!(error("model.norm.weight").contains("has shape [32], expected [3, 3]"));
    assert_eq!(gguf.shape("model.layers.1.mlp.down_proj.weight"), Some(vec![32, 256]));
}

#[test]
fn damaged_files_are_refused() {
    let bytes = std::fs::read(golden("llama.gguf")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("damaged.gguf");
    let error = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        Gguf::open(&path).unwrap_err().to_string()
    };
    let replaced = |from: &[u8], to: &[u8]| {
        assert_eq!(from.len(), to.len());
        let mut bytes = bytes.clone();
        let at = bytes.windows(from.len()).position(|part| part == from).unwrap();
        bytes[at..at + to.len()].copy_from_slice(to);
        bytes
    };
    assert!(error(b"GGU").contains("not a GGUF file, or damaged"));
    assert!(error(&bytes[..200]).contains("not a GGUF file, or damaged"));
    assert!(error(&bytes[..bytes.len() - 600]).contains("goes past the end of the file"));
    assert!(
        error(&replaced(b"attn_output", b"attn_surpri"))
            .contains("`blk.0.attn_surpri.weight` belongs to no llama")
    );
    assert!(
        error(&replaced(b"llama.block_count", b"llama.block_cents"))
            .contains("`llama.block_count` is missing")
    );
    assert!(
        error(&replaced(b"\x05\0\0\0\0\0\0\0llama", b"\x05\0\0\0\0\0\0\0qwen2")).contains("expected llama")
    );
}
