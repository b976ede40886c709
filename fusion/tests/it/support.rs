//! What the tests share: golden directories, copies of them, and a small joined model.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::Arc,
};

use candle_core::{DType, Device, Tensor};
use serde_json::{Value, json};
use swinseek_fusion::{
    ModelConfig, SwinSeek,
    checkpoint::{FreshSource, MapSource},
};
use swinseek_kernels::{Precision, TensorSource, Weights};

/// Directory of a golden case.
pub(crate) fn case(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/goldens").join(name)
}

/// A golden's model in a directory of its own, to be damaged.
pub(crate) fn copy_of(name: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(case(name).join(file), dir.path().join(file)).unwrap();
    }
    dir
}

/// Tensors of a safetensors file.
pub(crate) fn tensors(path: &Path) -> BTreeMap<String, Tensor> {
    candle_core::safetensors::load(path, &Device::Cpu).unwrap().into_iter().collect()
}

/// Writes tensors as the model of `dir`.
pub(crate) fn write(dir: &Path, tensors: &BTreeMap<String, Tensor>) {
    let map: HashMap<String, Tensor> = tensors.clone().into_iter().collect();
    candle_core::safetensors::save(&map, dir.join("model.safetensors")).unwrap();
}

/// `config.json` of a small joined model; `fusion` adds to or replaces fields of its `fusion` object.
pub(crate) fn small_config(fusion: &Value) -> Value {
    let mut all = json!({
        "mode": "cross_attention", "cross_attention_layers": [0, 2], "num_attention_heads": 4,
        "num_key_value_heads": 2, "intermediate_size": 24, "rms_norm_eps": 1e-6, "gate_init": 0.8,
        "vision_stages": [1, 2], "findings_head": {"classes": ["nodule", "effusion"]},
    });
    for (field, value) in fusion.as_object().unwrap() {
        all[field] = value.clone();
    }
    json!({
        "architectures": ["SwinSeekForConditionalGeneration"],
        "vision": {"model_type": "swinv2", "image_size": 16, "patch_size": 2, "embed_dim": 8, "depths": [1, 2, 1],
            "num_heads": [1, 2, 4], "window_size": 4},
        "language": {"model_type": "deepseek_v3", "vocab_size": 50, "hidden_size": 32, "intermediate_size": 48,
            "moe_intermediate_size": 12, "num_hidden_layers": 3, "num_attention_heads": 4, "kv_lora_rank": 16,
            "q_lora_rank": null, "qk_nope_head_dim": 8, "qk_rope_head_dim": 4, "v_head_dim": 8,
            "n_routed_experts": 4, "num_experts_per_tok": 2, "n_shared_experts": 1, "first_k_dense_replace": 1,
            "n_group": 1, "topk_group": 1, "max_position_embeddings": 64, "tie_word_embeddings": true,
            "rope_theta": 10000.0, "rope_scaling": null, "rms_norm_eps": 1e-6},
        "fusion": all,
    })
}

/// Random parameters for a configuration: normal, wide enough that every path matters.
pub(crate) fn random_parameters(config: &Value, seed: u64) -> HashMap<String, Tensor> {
    let fresh = Arc::new(FreshSource::new(seed));
    let source: Arc<dyn TensorSource> = fresh.clone();
    SwinSeek::new(&ModelConfig::from_json(config).unwrap(), &Weights::new(source, Precision::F32)).unwrap();
    let widen = |(name, tensor): (String, Tensor)| {
        // Norms, logit scales and tanh gates start where they are well conditioned.
        // The post-norms of fresh Swin v2 blocks are 0 and would close those blocks.
        if name.contains("layernorm_") && name.ends_with(".weight") {
            return (name, tensor.ones_like().unwrap());
        }
        // A fresh head says 'absent' with 99 %: a large constant in which differences of the loss would be lost.
        if name.ends_with("findings_head.bias") {
            return (name, tensor.zeros_like().unwrap());
        }
        let norm = name.contains("norm") || name.ends_with("logit_scale") || name.ends_with("_gate");
        (name, if norm { tensor } else { (tensor * 4.0).unwrap() })
    };
    fresh.tensors().into_iter().map(widen).collect()
}

/// A small joined model with random parameters.
pub(crate) fn small_model(fusion: &Value) -> SwinSeek {
    let config = small_config(fusion);
    let source: Arc<dyn TensorSource> = Arc::new(MapSource(random_parameters(&config, 7)));
    SwinSeek::new(&ModelConfig::from_json(&config).unwrap(), &Weights::new(source, Precision::F32)).unwrap()
}

/// Normal values that depend on `seed` alone.
pub(crate) fn noise(shape: &[usize], seed: u64) -> Tensor {
    let source = FreshSource::new(seed);
    source.tensor("noise", shape, swinseek_kernels::Init::Normal { std: 1.0 }).unwrap()
}

pub(crate) fn ids(rows: &[&[u32]]) -> Tensor {
    Tensor::from_vec(rows.concat(), (rows.len(), rows[0].len()), &Device::Cpu).unwrap()
}

pub(crate) fn max_abs_diff(a: &Tensor, b: &Tensor) -> f32 {
    assert_eq!(a.dims(), b.dims());
    let diff = (a - b).unwrap().abs().unwrap().flatten_all().unwrap().to_dtype(DType::F32).unwrap();
    diff.to_vec1::<f32>().unwrap().into_iter().fold(
        0.0,
        |max, d| {
            if d.is_nan() { f32::INFINITY } else { max.max(d) }
        },
    )
}
