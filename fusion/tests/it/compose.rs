//! `compose` and `inspect`.

use candle_core::Device;
use serde_json::json;
use swinseek_fusion::{
    ComposeOptions, Model, TokenModel, checkpoint::StoredType, compose, inspect, load_model, verify,
};
use swinseek_kernels::{Precision, Trace};
use swinseek_language::Context;

use crate::support::{case, copy_of, ids, max_abs_diff, noise};

fn composed(vision: &str, language: &str, options: &ComposeOptions) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    compose(&case(vision), &case(language), dir.path(), options).unwrap();
    dir
}

#[test]
fn text_stays_exactly_what_it_was_with_and_without_an_image() {
    let prompt = ids(&[&[5, 9, 1, 44, 7]]);
    for (vision, language) in
        [("swin", "deepseek_v3"), ("timm_swinv2", "llama_gqa"), ("swin_cls", "deepseek_moe_hub")]
    {
        let dir = composed(vision, language, &ComposeOptions::default());
        let Model::SwinSeek(joined) = load_model(dir.path(), Precision::F32).unwrap().model else { panic!() };
        let Model::Language(alone) = load_model(&case(language), Precision::F32).unwrap().model else {
            panic!()
        };
        let hidden = alone.forward(&prompt, &Context::causal(), None, &mut Trace::off()).unwrap();
        let expected = alone.head(&hidden).unwrap();
        let images = joined.encode_images(&noise(&[1, 3, 40, 40], 3), &mut Trace::off()).unwrap();
        let memory = joined.image_memory(&images, &[1]).unwrap();
        for memory in [None, Some(&memory)] {
            let hidden = joined.hidden_states(&prompt, None, memory, None, &mut Trace::off()).unwrap();
            assert_eq!(max_abs_diff(&joined.logits(&hidden).unwrap(), &expected), 0.0, "{vision} {language}");
        }
    }
}

#[test]
fn the_encoder_stays_what_it_was() {
    let dir = composed("swin", "llama_mha", &ComposeOptions::default());
    let Model::SwinSeek(joined) = load_model(dir.path(), Precision::F32).unwrap().model else { panic!() };
    let golden =
        candle_core::safetensors::load(case("swin").join("golden.safetensors"), &Device::Cpu).unwrap();
    let mut trace = Trace::all();
    joined.encode_images(&golden["rect.pixel_values"], &mut trace).unwrap();
    // As in tests/goldens.rs.
    let found = trace.get("vision.last_hidden_state").unwrap();
    assert!(max_abs_diff(found, &golden["rect.last_hidden_state"]) < 2e-5);
}

#[test]
fn options_files_and_seed_are_kept() {
    let vision = copy_of("swin");
    std::fs::write(vision.path().join("preprocessor_config.json"), "{\"size\": 32}").unwrap();
    let language = copy_of("llama_mha");
    std::fs::write(language.path().join("tokenizer.json"), "{}").unwrap();
    std::fs::write(language.path().join("generation_config.json"), "{\"eos_token_id\": 2}").unwrap();
    let fusion = json!({"cross_attention_layers": [1], "num_key_value_heads": 2, "gate_init": 0.5});
    let options = ComposeOptions { fusion, stored: StoredType::F16, seed: 4 };
    let out = tempfile::tempdir().unwrap();
    compose(vision.path(), language.path(), out.path(), &options).unwrap();
    let model = load_model(out.path(), Precision::F32).unwrap();
    assert_eq!(model.preprocessor, Some(json!({"size": 32})));
    assert_eq!(model.generation, Some(json!({"eos_token_id": 2})));
    assert_eq!(model.tokenizer.as_deref(), Some(&b"{}"[..]));
    let stored = &model.config["fusion"];
    assert_eq!((&stored["cross_attention_layers"], &stored["num_key_value_heads"]), (&json!([1]), &json!(2)));
    assert_eq!(stored["vision_stages"], json!([1, 2]), "defaults are written down");

    let digest = |seed| {
        let out = tempfile::tempdir().unwrap();
        compose(vision.path(), language.path(), out.path(), &ComposeOptions { seed, ..options.clone() })
            .unwrap();
        inspect(out.path()).unwrap().digest
    };
    assert_eq!(digest(4), model.digest);
    assert_ne!(digest(5), model.digest);
}

#[test]
fn what_cannot_be_joined_is_named() {
    let out = tempfile::tempdir().unwrap();
    let join = |vision: &str, language: &str, fusion| {
        let options = ComposeOptions { fusion, ..Default::default() };
        compose(&case(vision), &case(language), out.path(), &options).unwrap_err().to_string()
    };
    let error = join("llama_mha", "swin", json!({}));
    assert!(error.contains("Language") && error.contains("expected an encoder"), "{error}");
    assert!(join("swin", "deepseek_moe", json!({})).contains("lm_head.weight"));
    for (field, value) in [
        ("mode", json!("concat")),
        ("cross_attention_layers", json!([2, 9])),
        ("num_attention_heads", json!(7)),
        ("vision_stages", json!([])),
        ("position_grids", json!([[4, 4]])),
        ("surprise", json!(1)),
    ] {
        let error = join("swin", "llama_mha", json!({ field: value }));
        assert!(error.contains(&format!("`fusion.{field}`")) && !error.contains('\n'), "{error}");
    }
}

#[test]
fn inspect_counts_parameters() {
    let summary = inspect(&case("deepseek_v3")).unwrap();
    assert_eq!(summary.architecture, "DeepseekV3ForCausalLM");
    assert_eq!(summary.experts, Some([8, 3]));
    assert_eq!(summary.parameters, summary.parts.values().sum::<u64>());
    // 2 sparse layers of 8 experts of 3 matrices 48 × 12, of which a token uses 3.
    let routed = 2 * 8 * 3 * 48 * 12;
    assert_eq!(summary.parts["experts"], routed);
    assert_eq!(summary.active_parameters, summary.parameters - routed / 8 * 5);
    assert_eq!(summary.context_length, Some(256));

    let dir =
        composed("swin", "deepseek_v3", &ComposeOptions { stored: StoredType::Int8, ..Default::default() });
    let joined = inspect(dir.path()).unwrap();
    assert_eq!(joined.image_size, Some([32, 32]));
    let fusion: u64 =
        joined.parts.iter().filter(|(name, _)| name.starts_with("fusion.")).map(|(_, n)| n).sum();
    let vision = inspect(&case("swin")).unwrap().parameters;
    // Scales of 8-bit rows are no parameters.
    assert_eq!(joined.parameters, summary.parameters + vision + fusion);
    assert!(joined.dtypes["I8"] > 0);
    for name in ["donut", "mllama_text", "timm_swin", "deepseek_moe"] {
        let summary = inspect(&case(name)).unwrap();
        assert!(summary.parameters > 0 && summary.active_parameters <= summary.parameters, "{summary:?}");
    }
}

#[test]
fn a_composed_model_verifies_against_its_decoders_golden() {
    let dir = composed("swinv2", "deepseek_v2", &ComposeOptions::default());
    let report =
        verify(dir.path(), &case("deepseek_v2").join("golden.safetensors"), 2e-5, Precision::F32).unwrap();
    // Padded positions are stated in that golden, but a joined model counts its own: the mask is enough.
    let failures: Vec<_> = report.failures().collect();
    assert!(report.ok(), "{failures:#?}");
}
