//! Low-rank adapters against PEFT's own results, and adapters that do not fit.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::Tensor;
use serde_json::{Value, json};
use swinseek_fusion::checkpoint::{AdapterConfig, Checkpoint, adapted, save_adapter};
use swinseek_fusion::{inspect, load_model, verify};
use swinseek_kernels::Precision;

use crate::support::{case, copy_of, max_abs_diff, noise, tensors};

const CASES: [&str; 2] = ["llama_gqa", "swinv2"];
/// As in `goldens.rs`: the addition is one more rounding of values of the same order.
const TOLERANCE: f64 = 2e-5;

fn adapter(name: &str) -> PathBuf {
    case("").join("../goldens_adapter").join(name)
}

/// The adapter of `name` beside the weights that it adapts.
fn beside(name: &str) -> tempfile::TempDir {
    let dir = copy_of(name);
    for file in ["adapter_config.json", "adapter_model.safetensors"] {
        std::fs::copy(adapter(name).join(file), dir.path().join(file)).unwrap();
    }
    dir
}

#[test]
fn adapters_of_peft_give_its_results() {
    for name in CASES {
        let golden = adapter(name).join("golden.safetensors");
        let passes = |dir: &Path| verify(dir, &golden, TOLERANCE, Precision::F32).unwrap().ok();
        assert!(passes(&adapter(name)), "{name}: beside the model that its configuration names");
        assert!(passes(beside(name).path()), "{name}: in the model's directory");
        assert!(!passes(&case(name)), "{name}: the golden must show what the adapter adds");
    }
}

#[test]
fn an_adapter_is_part_of_the_models_identity() {
    for name in CASES {
        let digest = |dir: &Path| load_model(dir, Precision::Bf16).unwrap().digest;
        let alone = digest(&case(name));
        let dir = beside(name);
        let with = digest(dir.path());
        assert_ne!(alone, with);
        assert_eq!(with, digest(&adapter(name)), "the same model, wherever its base lies");
        change(dir.path(), "lora_alpha", json!(8));
        assert_ne!(with, digest(dir.path()));
        let [alone, with] = [&case(name), dir.path()].map(|dir| inspect(dir).unwrap());
        assert_eq!((alone.adapter_parameters, alone.parameters), (0, with.parameters));
        let halves = tensors(&dir.path().join("adapter_model.safetensors"));
        assert_eq!(
            with.adapter_parameters,
            halves.values().map(|half| half.elem_count() as u64).sum::<u64>()
        );
        assert!(with.size_bytes > alone.size_bytes);
    }
}

#[test]
fn what_is_saved_is_what_is_read() {
    let dir = copy_of("swinv2");
    let name = "encoder.layers.1.blocks.0.intermediate.dense.weight";
    let base = tensors(&dir.path().join("model.safetensors"))[name].clone();
    let (out, inner) = base.dims2().unwrap();
    // Sixteenths: exact in the half precision that adapters are stored in.
    let sixteenths =
        |shape: &[usize], seed| ((noise(shape, seed) * 16.0).unwrap().round().unwrap() / 16.0).unwrap();
    let pair = [sixteenths(&[5, inner], 1), sixteenths(&[out, 5], 2)];
    let config = AdapterConfig::new(None, 5, 2.5, &[]);
    assert_eq!(config.scale(), 0.5);
    save_adapter(dir.path(), &config, &BTreeMap::from([(name.to_owned(), pair.clone())])).unwrap();
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    let expected = adapted(&base, &pair[0], &pair[1], 0.5).unwrap();
    let by_hand = (&base + pair[1].matmul(&pair[0]).unwrap() * 0.5).unwrap();
    assert_eq!(max_abs_diff(&expected, &by_hand), 0.0);
    assert_eq!(max_abs_diff(&checkpoint.load(name).unwrap(), &expected), 0.0);
    let other = "encoder.layers.0.blocks.0.intermediate.dense.weight";
    let plain = Checkpoint::open(&case("swinv2")).unwrap();
    assert_eq!(max_abs_diff(&checkpoint.load(other).unwrap(), &plain.load(other).unwrap()), 0.0);
}

/// Sets `field` of the adapter's configuration.
fn change(dir: &Path, field: &str, value: Value) {
    let path = dir.join("adapter_config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    config[field] = value;
    std::fs::write(&path, config.to_string()).unwrap();
}

/// Why the model in `dir` cannot be opened: one line.
fn refusal(dir: &Path) -> String {
    let text = Checkpoint::open(dir).unwrap_err().to_string();
    assert!(!text.contains('\n') && text.contains(dir.to_str().unwrap()), "{text}");
    text
}

#[test]
fn arithmetic_that_is_not_this_is_refused_by_name() {
    let fields = [
        ("peft_type", json!("IA3")),
        ("bias", json!("all")),
        ("use_dora", json!(true)),
        ("fan_in_fan_out", json!(true)),
        ("modules_to_save", json!(["embed_tokens"])),
        ("rank_pattern", json!({ "q_proj": 2 })),
        ("alpha_pattern", json!({ "q_proj": 2 })),
        ("r", json!(0)),
        ("lora_alpha", json!("seven")),
    ];
    for (field, value) in fields {
        let dir = beside("llama_gqa");
        change(dir.path(), field, value);
        let text = refusal(dir.path());
        assert!(
            text.contains("adapter_config.json") && (text.contains(field) || field == "lora_alpha"),
            "{text}"
        );
    }
}

/// What is done to the tensors of an adapter, given the names of a pair.
type Change = fn(&mut BTreeMap<String, Tensor>, &str, &str);

#[test]
fn additions_that_do_not_fit_are_refused_by_name() {
    let a = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight";
    let b = "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight";
    let cases: [(Change, String); 5] = [
        (|t, a, _| drop(t.remove(a)), format!("tensor `{a}` is missing")),
        (
            |t, a, _| drop(t.insert(a.to_owned(), noise(&[3, 47], 1))),
            "do not fit `model.layers.0.self_attn.q_proj.weight` [72, 48]".to_owned(),
        ),
        (|t, _, b| drop(t.insert(b.to_owned(), noise(&[72, 4], 1))), "of rank 3 do not fit".to_owned()),
        (
            |t, a, _| drop(t.insert(format!("{a}.more"), noise(&[1], 1))),
            format!("tensor `{a}.more`: expected names that end in"),
        ),
        (
            |t, a, b| {
                for half in [a, b] {
                    let tensor = t.remove(half).unwrap();
                    t.insert(half.replace("layers.0", "layers.7"), tensor);
                }
            },
            "the model has no matrix `model.layers.7.self_attn.q_proj.weight`".to_owned(),
        ),
    ];
    for (change, expected) in cases {
        let dir = beside("llama_gqa");
        let path = dir.path().join("adapter_model.safetensors");
        let mut halves = tensors(&path);
        change(&mut halves, a, b);
        candle_core::safetensors::save(&halves.into_iter().collect(), &path).unwrap();
        let text = refusal(dir.path());
        assert!(text.contains("adapter_model.safetensors") && text.contains(&expected), "{text}");
    }
}

#[test]
fn a_base_that_is_not_on_this_disk_is_named() {
    let dir = tempfile::tempdir().unwrap();
    for file in ["adapter_config.json", "adapter_model.safetensors"] {
        std::fs::copy(adapter("llama_gqa").join(file), dir.path().join(file)).unwrap();
    }
    for base in [json!("meta-llama/Llama-2-7b"), Value::Null] {
        change(dir.path(), "base_model_name_or_path", base.clone());
        let text = refusal(dir.path());
        assert!(
            text.contains("base_model_name_or_path") && text.contains(base.as_str().unwrap_or("null")),
            "{text}"
        );
    }
}

#[test]
fn adapters_may_follow_one_another() {
    let name = "layers.0.mlp.down_proj.weight";
    let name = &format!("model.{name}");
    let first = adapter("llama_gqa");
    let base = Checkpoint::open(&first).unwrap().load(name).unwrap();
    let (out, inner) = base.dims2().unwrap();
    let pair = [noise(&[2, inner], 3), noise(&[out, 2], 4)].map(|half| half.round().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let config = AdapterConfig::new(Some(&first), 2, 2.0, &[]);
    save_adapter(dir.path(), &config, &BTreeMap::from([(name.clone(), pair.clone())])).unwrap();
    let sum = Checkpoint::open(dir.path()).unwrap().load(name).unwrap();
    assert_eq!(max_abs_diff(&sum, &adapted(&base, &pair[0], &pair[1], 1.0).unwrap()), 0.0);
    change(dir.path(), "base_model_name_or_path", json!("."));
    assert!(refusal(dir.path()).contains("more than 8 adapters"));
}
