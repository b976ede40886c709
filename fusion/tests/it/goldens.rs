//! Every golden case through `verify`, and what `verify` says of checkpoints that are wrong.

use crate::support::{case, copy_of, noise, tensors, write};
use candle_core::Tensor;
use proptest::prelude::*;
use swinseek_fusion::{Result, verify, verify::Report};

/// fp32 on the CPU, values of order 1 to 13: another summation order moves no stored value by more than 1e-5, so
/// twice that is a different computation.
const TOLERANCE: f64 = 2e-5;

fn check(name: &str, dir: &std::path::Path) -> Result<Report> {
    verify(dir, &case(name).join("golden.safetensors"), TOLERANCE, swinseek_kernels::Precision::F32)
}

fn passes(name: &str) {
    let report = check(name, &case(name)).unwrap();
    let failures: Vec<_> = report.failures().collect();
    assert!(report.ok(), "{name}: {failures:#?}");
}

macro_rules! golden_cases {
    ($($name:ident),* $(,)?) => {
        $(#[test] fn $name() { passes(stringify!($name)); })*

        #[test]
        fn no_case_is_forgotten() {
            let known = [$(stringify!($name)),*];
            for entry in std::fs::read_dir(case("")).unwrap() {
                let path = entry.unwrap().path();
                let name = path.file_name().unwrap().to_str().unwrap().to_owned();
                assert!(!path.is_dir() || known.contains(&name.as_str()), "{name} has no test");
            }
        }

        /// A tensor's change must show in some output of its case, whichever case it is.
        #[test]
        fn a_perturbed_weight_is_found() {
            $(perturbed(stringify!($name));)*
        }
    };
}

golden_cases! {
    deepseek_moe, deepseek_moe_hub, deepseek_v2, deepseek_v2_lite, deepseek_v3, deepseek_v32, deepseek_v3_yarn,
    donut, donut_swin, llama_gqa, llama_mha, mllama_text, swin, swin_cls, swin_large_window, swinv2, swinv2_clamp,
    swinv2_large_window, swinv2_rect, timm_swin, timm_swinv2,
}

fn perturbed(name: &str) {
    let dir = copy_of(name);
    let mut weights = tensors(&dir.path().join("model.safetensors"));
    let (target, weight) =
        weights.iter().find(|(name, _)| name.contains("embed") && name.ends_with(".weight")).unwrap();
    let (target, moved) =
        (target.clone(), (weight + noise(weight.dims(), 1).affine(1e-3, 0.0).unwrap()).unwrap());
    weights.insert(target, moved);
    write(dir.path(), &weights);
    let report = check(name, dir.path()).unwrap();
    assert!(!report.ok(), "{name}: a weight moved by 1e-3 was not noticed");
    assert!(report.max_abs_diff() > TOLERANCE);
}

/// The message of the error, which must be one line that names the directory.
fn message(name: &str, dir: &tempfile::TempDir) -> String {
    let text = check(name, dir.path()).unwrap_err().to_string();
    assert!(!text.contains('\n') && text.contains(dir.path().to_str().unwrap()), "{text}");
    text
}

#[test]
fn a_missing_tensor_is_named() {
    let dir = copy_of("deepseek_v2");
    let mut weights = tensors(&dir.path().join("model.safetensors"));
    weights.remove("model.layers.1.self_attn.kv_b_proj.weight").unwrap();
    write(dir.path(), &weights);
    let text = message("deepseek_v2", &dir);
    assert!(text.contains("`model.layers.1.self_attn.kv_b_proj.weight` is missing"), "{text}");
}

#[test]
fn an_extra_tensor_is_named() {
    let dir = copy_of("swin");
    let mut weights = tensors(&dir.path().join("model.safetensors"));
    let tensor = weights["layernorm.weight"].clone();
    weights.insert("encoder.layers.9.surprise".to_owned(), tensor);
    write(dir.path(), &weights);
    let text = message("swin", &dir);
    assert!(text.contains("model.safetensors: unexpected tensor `encoder.layers.9.surprise`"), "{text}");
}

#[test]
fn old_buffers_are_no_surprise() {
    let dir = copy_of("llama_gqa");
    let mut weights = tensors(&dir.path().join("model.safetensors"));
    let tensor = weights["model.norm.weight"].clone();
    weights.insert("model.layers.0.self_attn.rotary_emb.inv_freq".to_owned(), tensor.clone());
    // The head is tied: a stored copy is not read.
    weights.insert("lm_head.weight".to_owned(), weights["model.embed_tokens.weight"].clone());
    write(dir.path(), &weights);
    assert!(check("llama_gqa", dir.path()).unwrap().ok());
}

#[test]
fn a_misshaped_tensor_is_named_with_both_shapes() {
    let dir = copy_of("donut");
    let mut weights = tensors(&dir.path().join("model.safetensors"));
    let name = "decoder.model.decoder.layers.1.fc1.weight";
    weights.insert(name.to_owned(), weights[name].t().unwrap().contiguous().unwrap());
    write(dir.path(), &weights);
    let text = message("donut", &dir);
    assert!(text.contains(&format!("`{name}` has shape [24, 40], expected [40, 24]")), "{text}");
}

#[test]
fn an_unknown_value_in_the_configuration_is_named() {
    let changed = [
        ("swin", "hidden_act", "\"softplus\""),
        ("llama_mha", "hidden_act", "\"softplus\""),
        ("llama_mha", "model_type", "\"gpt2\""),
        ("deepseek_v2", "topk_method", "\"best\""),
        ("swinv2", "window_size", "-3"),
        ("llama_gqa", "num_key_value_heads", "\"two\""),
    ];
    for (name, field, value) in changed {
        let dir = copy_of(name);
        let path = dir.path().join("config.json");
        let mut config: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        config[field] = serde_json::from_str(value).unwrap();
        std::fs::write(&path, config.to_string()).unwrap();
        let text = message(name, &dir);
        assert!(text.contains(field), "{text}");
    }
}

#[test]
fn a_golden_with_an_unknown_output_or_no_output_fails() {
    let dir = tempfile::tempdir().unwrap();
    let mut golden = tensors(&case("llama_mha").join("golden.safetensors"));
    golden.insert("left.surprise".to_owned(), golden["logits"].clone());
    write(dir.path(), &golden);
    let path = dir.path().join("model.safetensors");
    let report = verify(&case("llama_mha"), &path, TOLERANCE, swinseek_kernels::Precision::F32).unwrap();
    let failures: Vec<_> = report.failures().map(|row| (row.name.as_str(), row.note.as_deref())).collect();
    assert_eq!(failures, [("left.surprise", Some("not produced by this model"))]);

    golden.retain(|name, _| name == "input_ids");
    write(dir.path(), &golden);
    assert!(
        verify(&case("llama_mha"), &path, TOLERANCE, swinseek_kernels::Precision::F32)
            .unwrap_err()
            .to_string()
            .contains("no output")
    );
}

#[test]
fn integers_are_compared_exactly() {
    let dir = tempfile::tempdir().unwrap();
    let mut golden = tensors(&case("deepseek_v3").join("golden.safetensors"));
    let experts = golden["router.1.experts"].to_dtype(candle_core::DType::F64).unwrap();
    let one = Tensor::zeros_like(&experts).unwrap();
    let one =
        one.slice_assign(&[0..1, 0..1], &Tensor::ones((1, 1), one.dtype(), one.device()).unwrap()).unwrap();
    let moved = (experts + one).unwrap().to_dtype(candle_core::DType::I64).unwrap();
    golden.insert("router.1.experts".to_owned(), moved);
    write(dir.path(), &golden);
    // A tolerance of 2 would forgive a token or an expert that is off by one.
    let report = verify(
        &case("deepseek_v3"),
        &dir.path().join("model.safetensors"),
        2.0,
        swinseek_kernels::Precision::F32,
    )
    .unwrap();
    let failures: Vec<_> = report.failures().map(|row| row.name.as_str()).collect();
    assert_eq!(failures, ["router.1.experts"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Any damage to either file is an answer or an error, never a panic.
    #[test]
    fn damaged_files_never_panic(
        file in prop::sample::select(vec!["config.json", "model.safetensors", "golden.safetensors"]),
        at in 0.0..1.0f64,
        bytes in prop::collection::vec(any::<u8>(), 1..9),
        cut in any::<bool>(),
    ) {
        let dir = copy_of("swinv2_clamp");
        std::fs::copy(case("swinv2_clamp").join("golden.safetensors"), dir.path().join("golden.safetensors")).unwrap();
        let path = dir.path().join(file);
        let mut data = std::fs::read(&path).unwrap();
        // Headers matter most: half of the damage goes to the first kilobyte.
        let span = if at < 0.5 { data.len().min(1024) } else { data.len() };
        let start = ((at * 2.0).fract() * span as f64) as usize;
        for (i, byte) in bytes.iter().enumerate() {
            if let Some(slot) = data.get_mut(start + i) {
                *slot = *byte;
            }
        }
        if cut {
            data.truncate(start);
        }
        std::fs::write(&path, data).unwrap();
        if let Err(error) = verify(dir.path(), &dir.path().join("golden.safetensors"), TOLERANCE, swinseek_kernels::Precision::F32) {
            prop_assert!(!error.to_string().contains('\n'), "{error}");
        }
    }
}
