//! Stored types, shards, and files that are not what they should be.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use crate::support::{case, copy_of, max_abs_diff, noise, tensors};
use candle_core::{DType, Device, Tensor};
use half::{bf16, f16};
use safetensors::{Dtype, tensor::TensorView};
use serde_json::json;
use swinseek_fusion::{
    checkpoint::{Checkpoint, StoredType, quantizable, save},
    load_model, verify,
};
use swinseek_kernels::{Init, Precision, TensorSource};

type Raw<'a> = (&'a str, Dtype, Vec<usize>, Vec<u8>);

/// A checkpoint of raw tensors with an empty configuration.
fn raw(config: &serde_json::Value, entries: &[Raw]) -> (tempfile::TempDir, Arc<Checkpoint>) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
    let view = |(name, dtype, shape, bytes): &Raw<'_>| {
        (name.to_string(), TensorView::new(*dtype, shape.clone(), leaked(bytes)).unwrap())
    };
    let views: BTreeMap<String, TensorView> = entries.iter().map(view).collect();
    std::fs::write(dir.path().join("model.safetensors"), safetensors::serialize(views, None).unwrap())
        .unwrap();
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    (dir, checkpoint)
}

/// Test data may live as long as the test binary.
fn leaked(bytes: &[u8]) -> &'static [u8] {
    bytes.to_vec().leak()
}

fn values(checkpoint: &Checkpoint, name: &str, shape: &[usize]) -> Vec<f32> {
    let tensor = checkpoint.tensor(name, shape, Init::Const(0.0)).unwrap();
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn every_stored_type_becomes_f32() {
    let numbers = [1.5f32, -0.25, 3.0, 1024.0];
    let bytes = |f: fn(f32) -> Vec<u8>| numbers.iter().flat_map(|&v| f(v)).collect::<Vec<u8>>();
    let (_dir, checkpoint) = raw(
        &json!({}),
        &[
            ("f32", Dtype::F32, vec![2, 2], bytes(|v| v.to_le_bytes().to_vec())),
            ("f16", Dtype::F16, vec![2, 2], bytes(|v| f16::from_f32(v).to_le_bytes().to_vec())),
            ("bf16", Dtype::BF16, vec![2, 2], bytes(|v| bf16::from_f32(v).to_le_bytes().to_vec())),
            ("f64", Dtype::F64, vec![2, 2], bytes(|v| f64::from(v).to_le_bytes().to_vec())),
            ("i32", Dtype::I32, vec![2, 2], bytes(|v| (v as i32).to_le_bytes().to_vec())),
        ],
    );
    for name in ["f32", "f16", "bf16", "f64"] {
        assert_eq!(values(&checkpoint, name, &[2, 2]), numbers, "{name}");
    }
    let error = checkpoint.tensor("i32", &[2, 2], Init::Const(0.0)).unwrap_err().to_string();
    assert!(error.contains("`i32` is stored as I32"), "{error}");
}

#[test]
fn int8_rows_take_their_scale_and_scales_are_no_surprise() {
    let f32s = |v: &[f32]| v.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let (_dir, checkpoint) = raw(
        &json!({}),
        &[
            ("x.weight", Dtype::I8, vec![2, 3], vec![1, 2, 0xFF, 127, 0x81, 0]),
            ("x.weight_scale", Dtype::F32, vec![2], f32s(&[0.5, 2.0])),
            ("experts.gate_up_proj", Dtype::I8, vec![2, 1, 2], vec![1, 2, 3, 4]),
            ("experts.gate_up_proj_scale", Dtype::F32, vec![2, 1], f32s(&[1.0, 10.0])),
            ("bad.weight", Dtype::I8, vec![2, 1], vec![1, 2]),
            ("bad.weight_scale", Dtype::F32, vec![1], f32s(&[1.0])),
            ("bare.weight", Dtype::I8, vec![2, 1], vec![1, 2]),
        ],
    );
    assert_eq!(values(&checkpoint, "x.weight", &[2, 3]), [0.5, 1.0, -0.5, 254.0, -254.0, 0.0]);
    assert_eq!(values(&checkpoint, "experts.gate_up_proj", &[2, 1, 2]), [1.0, 2.0, 30.0, 40.0]);
    let error = |name: &str| checkpoint.tensor(name, &[2, 1], Init::Const(0.0)).unwrap_err().to_string();
    assert!(error("bad.weight").contains("`bad.weight_scale` has shape [1], expected [2]"));
    assert!(error("bare.weight").contains("`bare.weight_scale` is missing"));
    // What is only checked is refused for the same reasons.
    for name in ["bad.weight", "bare.weight"] {
        assert_eq!(checkpoint.check(name, &[2, 1]).unwrap_err().to_string(), error(name));
    }
    assert_eq!(checkpoint.unused(), ["bad.weight", "bare.weight"]);
}

#[test]
fn fp8_blocks_follow_the_configured_size() {
    let config = json!({"quantization_config": {"quant_method": "fp8", "weight_block_size": [2, 2]}});
    let scale = [1.0f32, 2.0, 3.0, 4.0].iter().flat_map(|v| v.to_le_bytes()).collect();
    // 0x38 is 1.0 and 0xC0 is -2.0 in E4M3.
    let bytes = vec![0x38, 0x38, 0x38, 0xC0, 0xC0, 0xC0, 0x38, 0x38, 0x38];
    let (first, checkpoint) = raw(
        &config,
        &[
            ("x.weight", Dtype::F8_E4M3, vec![3, 3], bytes),
            ("x.weight_scale_inv", Dtype::F32, vec![2, 2], scale),
        ],
    );
    assert_eq!(values(&checkpoint, "x.weight", &[3, 3]), [1.0, 1.0, 2.0, -2.0, -2.0, -4.0, 3.0, 3.0, 4.0]);

    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(first.path().join("model.safetensors"), dir.path().join("model.safetensors")).unwrap();
    let config = json!({"quantization_config": {"weight_block_size": [0, 128]}});
    std::fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
    let error = Checkpoint::open(dir.path()).unwrap_err().to_string();
    assert!(
        error.contains("quantization_config.weight_block_size") && error.contains("two positive"),
        "{error}"
    );
}

/// Splits a golden's weights into two shards with an index.
fn sharded(name: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(case(name).join("config.json"), dir.path().join("config.json")).unwrap();
    let mut parts = [BTreeMap::new(), BTreeMap::new()];
    let mut index = serde_json::Map::new();
    for (i, (name, tensor)) in tensors(&case(name).join("model.safetensors")).into_iter().enumerate() {
        index.insert(name.clone(), json!(format!("model-0000{}-of-00002.safetensors", i % 2 + 1)));
        parts[i % 2].insert(name, tensor);
    }
    for (i, part) in parts.iter().enumerate() {
        let map = part.clone().into_iter().collect();
        let path = dir.path().join(format!("model-0000{}-of-00002.safetensors", i + 1));
        candle_core::safetensors::save(&map, path).unwrap();
    }
    write_index(dir.path(), &json!({"metadata": {}, "weight_map": index}));
    dir
}

fn write_index(dir: &Path, index: &serde_json::Value) {
    std::fs::write(dir.join("model.safetensors.index.json"), index.to_string()).unwrap();
}

#[test]
fn shards_are_one_model() {
    let dir = sharded("deepseek_moe_hub");
    let golden = case("deepseek_moe_hub").join("golden.safetensors");
    // As in tests/goldens.rs.
    assert!(verify(dir.path(), &golden, 2e-5, Precision::F32).unwrap().ok());
}

#[test]
fn damaged_indices_are_named() {
    let open = |dir: &tempfile::TempDir| Checkpoint::open(dir.path()).unwrap_err().to_string();
    let dir = sharded("llama_mha");
    std::fs::remove_file(dir.path().join("model-00002-of-00002.safetensors")).unwrap();
    assert!(open(&dir).contains("model-00002-of-00002.safetensors"), "{}", open(&dir));

    let index = |value| json!({"weight_map": {"model.norm.weight": value}});
    for (value, expected) in
        [(json!("../../etc/passwd"), "name of a file beside"), (json!(3), "name of a file beside")]
    {
        write_index(dir.path(), &index(value));
        assert!(open(&dir).contains(expected), "{}", open(&dir));
    }
    write_index(dir.path(), &json!({"weights": {}}));
    assert!(open(&dir).contains("field `weight_map` is missing"), "{}", open(&dir));

    let dir = sharded("llama_mha");
    let path = dir.path().join("model.safetensors.index.json");
    let mut json: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    json["weight_map"]["model.absent.weight"] = json!("model-00001-of-00002.safetensors");
    write_index(dir.path(), &json);
    assert!(open(&dir).contains("no tensor `model.absent.weight`"), "{}", open(&dir));
}

#[test]
fn files_that_are_no_checkpoint_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let open = || Checkpoint::open(dir.path()).unwrap_err().to_string();
    let config = dir.path().join("config.json");
    let weights = dir.path().join("model.safetensors");
    assert!(open().contains("config.json"), "{}", open());
    std::fs::write(&config, "{\"model_type\": ").unwrap();
    assert!(open().contains("config.json: not valid JSON"), "{}", open());
    std::fs::write(&config, "{}").unwrap();
    assert!(open().contains("no weights, expected model.safetensors"), "{}", open());

    let full = std::fs::read(case("swin").join("model.safetensors")).unwrap();
    let header = u64::from_le_bytes(full[..8].try_into().unwrap()) as usize;
    let mut offset = full.clone();
    let at = offset.windows(14).position(|w| w == b"\"data_offsets\"").unwrap() + 16;
    offset[at] = b'9';
    let claims = [&u64::MAX.to_le_bytes()[..], &full[8..]].concat();
    let cases: [(&str, &[u8], &str); 7] = [
        ("empty", &[], "not a safetensors file"),
        ("a text", b"these are not the weights", "its header claims"),
        ("a header of 2^64 bytes", &claims, "its header claims 18446744073709551615 bytes"),
        ("cut in the header", &full[..header / 2], "its header claims"),
        ("cut in the data", &full[..full.len() - 1], "truncated or damaged"),
        ("longer than its header says", &[&full[..], &[0]].concat(), "truncated or damaged"),
        ("moved offsets", &offset, "damaged header"),
    ];
    for (what, bytes, expected) in cases {
        std::fs::write(&weights, bytes).unwrap();
        let error = open();
        assert!(error.contains("model.safetensors") && error.contains(expected), "{what}: {error}");
        assert!(!error.contains('\n'), "{what}: {error}");
    }
}

#[test]
fn saved_models_come_back() {
    let source = copy_of("deepseek_v3");
    let config: serde_json::Value =
        serde_json::from_slice(&std::fs::read(source.path().join("config.json")).unwrap()).unwrap();
    let mut weights = tensors(&source.path().join("model.safetensors"));
    weights.insert("big.experts.down_proj".to_owned(), noise(&[2, 16, 64], 1));
    weights.insert("big.weight".to_owned(), noise(&[32, 64], 2));
    // One part in 2^11 for half precision; half a step of max/127 for 8-bit rows (values up to about 4).
    for (stored, tolerance) in
        [(StoredType::F32, 0.0), (StoredType::F16, 4.0 / 2048.0), (StoredType::Int8, 4.5 / 254.0)]
    {
        let dir = tempfile::tempdir().unwrap();
        save(dir.path(), &config, &weights, stored).unwrap();
        let first = std::fs::read(dir.path().join("model.safetensors")).unwrap();
        let checkpoint = Checkpoint::open(dir.path()).unwrap();
        for (name, tensor) in &weights {
            let back = checkpoint.load(name).unwrap();
            assert!(max_abs_diff(&back, tensor) <= tolerance, "{stored:?} {name}");
        }
        assert!(checkpoint.unused().is_empty());
        save(dir.path(), &config, &weights, stored).unwrap();
        assert_eq!(
            first,
            std::fs::read(dir.path().join("model.safetensors")).unwrap(),
            "{stored:?} differs when repeated"
        );
        let files: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|f| f.unwrap().file_name()).collect();
        assert_eq!(files.len(), 2, "a temporary file was left: {files:?}");
        if stored == StoredType::Int8 {
            assert_eq!(checkpoint.info("big.weight").unwrap().0, "I8");
            assert_eq!(checkpoint.info("big.experts.down_proj_scale").unwrap().1, [2, 16]);
        }
    }
}

#[test]
fn routers_norms_and_small_tensors_stay_exact() {
    assert!(quantizable("language.model.embed_tokens.weight", &[7680, 256]));
    assert!(quantizable("language.model.layers.3.mlp.experts.7.up_proj.weight", &[48, 256]));
    assert!(!quantizable("language.model.layers.3.mlp.gate.weight", &[32, 256]));
    assert!(!quantizable("language.model.norm.weight", &[256]));
    assert!(!quantizable("vision.embeddings.patch_embeddings.projection.weight", &[40, 3, 4, 4]));
    assert!(!quantizable("fusion.projector.stages.0.row_position", &[8, 256]));
}

#[test]
fn the_digest_is_of_configuration_and_weights() {
    let dir = copy_of("llama_mha");
    let digest = |dir: &tempfile::TempDir| load_model(dir.path(), Precision::F32).unwrap().digest;
    let first = digest(&dir);
    assert_eq!(first.len(), 64);
    assert_eq!(first, digest(&copy_of("llama_mha")));
    let mut weights = tensors(&dir.path().join("model.safetensors"));
    let norm = weights["model.norm.weight"].clone();
    weights.insert("model.norm.weight".to_owned(), (norm + 1e-6).unwrap());
    crate::support::write(dir.path(), &weights);
    assert_ne!(first, digest(&dir));
}

#[test]
fn a_model_that_is_served_in_half_precision_stays_close() {
    let weights = tensors(&case("llama_mha").join("model.safetensors"));
    let config = std::fs::read(case("llama_mha").join("config.json")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    save(dir.path(), &serde_json::from_slice(&config).unwrap(), &weights, StoredType::F16).unwrap();
    let report =
        verify(dir.path(), &case("llama_mha").join("golden.safetensors"), 2e-2, Precision::F32).unwrap();
    // Relative error 2^-11 in every weight, values of order 10, two layers. (Greedy ids may flip: not compared.)
    let logits = report.rows.iter().find(|row| row.name == "logits").unwrap();
    assert!(logits.ok && logits.max_abs_diff.unwrap() > 2e-5, "{logits:?}");
}

#[test]
fn tensors_of_other_devices_types_are_converted_on_saving() {
    let dir = tempfile::tempdir().unwrap();
    let tensor = Tensor::arange(0u32, 6, &Device::Cpu).unwrap().to_dtype(DType::F64).unwrap();
    save(dir.path(), &json!({}), &BTreeMap::from([("x".to_owned(), tensor)]), StoredType::F32).unwrap();
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    assert_eq!(values(&checkpoint, "x", &[6]), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
}
