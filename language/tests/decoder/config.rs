//! Configuration dialects, and what happens to values that nothing here understands.

use serde_json::{Value, json};
use swinseek_language::{
    LanguageConfig,
    config::{AttentionConfig, LayerKind, Scoring, Selection},
};

fn v3() -> Value {
    json!({
        "model_type": "deepseek_v3", "vocab_size": 96, "hidden_size": 48, "intermediate_size": 64,
        "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 4, "q_lora_rank": 20,
        "kv_lora_rank": 28, "qk_nope_head_dim": 12, "qk_rope_head_dim": 8, "v_head_dim": 10, "n_routed_experts": 8,
        "n_shared_experts": 1, "moe_intermediate_size": 12, "num_experts_per_tok": 3, "n_group": 4, "topk_group": 2,
        "first_k_dense_replace": 1, "max_position_embeddings": 256,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}
    })
}

fn with(changes: &Value) -> Value {
    let mut config = v3();
    for (key, value) in changes.as_object().unwrap() {
        config[key] = value.clone();
    }
    config
}

fn read(config: &Value) -> LanguageConfig {
    LanguageConfig::from_json(config).unwrap()
}

/// Values that `transformers.modeling_rope_utils` computed (5.23.0, torch 2.15).
#[test]
fn rope_frequencies_equal_transformers() {
    let cases: Value = serde_json::from_str(include_str!("rope_frequencies.json")).unwrap();
    for case in cases.as_array().unwrap() {
        let rope = read(&case["config"]).rope;
        let expected = case["inverse_frequencies"].as_array().unwrap();
        let found = rope.inverse_frequencies(case["seq_len"].as_u64().unwrap() as usize);
        assert_eq!(found.len(), expected.len(), "{}", case["name"]);
        for (found, expected) in found.iter().zip(expected) {
            // Two roundings of f32: torch's vectorised power may be off by one unit in the last place.
            let expected = expected.as_f64().unwrap();
            assert!(
                (f64::from(*found) / expected - 1.0).abs() < 2.5e-7,
                "{}: {found} {expected}",
                case["name"]
            );
        }
        let factor = case["attention_factor"].as_f64().unwrap();
        assert!((rope.attention_factor() - factor).abs() < 1e-12, "{}", case["name"]);
    }
}

#[test]
fn yarn_scales_the_softmax_of_latent_attention() {
    let scale = |rope: Value| match read(&with(&json!({"rope_parameters": rope}))).attention {
        AttentionConfig::Latent(sizes) => sizes.softmax_scale,
        AttentionConfig::MultiHead(_) => panic!("latent attention expected"),
    };
    let plain = 20f64.powf(-0.5);
    let yarn = |mscale: Value, all_dim: Value| {
        json!({"rope_type": "yarn", "rope_theta": 10000.0, "factor": 40.0, "mscale": mscale,
               "mscale_all_dim": all_dim, "original_max_position_embeddings": 4096})
    };
    let g = |m: f64| 0.1 * m * 40f64.ln() + 1.0;
    assert_eq!(scale(json!({"rope_type": "default"})), plain);
    assert_eq!(scale(yarn(json!(1.0), json!(0))), plain);
    assert_eq!(scale(yarn(Value::Null, Value::Null)), plain);
    assert!((scale(yarn(json!(1.0), json!(0.707))) - plain * g(0.707) * g(0.707)).abs() < 1e-12);
}

#[test]
fn both_dialects_read_the_same() {
    let mut older = v3();
    older.as_object_mut().unwrap().remove("rope_parameters");
    older["rope_theta"] = json!(10000);
    older["rope_scaling"] = Value::Null;
    older["torch_dtype"] = json!("bfloat16");
    older["topk_method"] = json!("noaux_tc");
    older["scoring_func"] = json!("sigmoid");
    assert_eq!(read(&older), read(&with(&json!({"dtype": "float32"}))));

    let yarn = json!({"factor": 40, "original_max_position_embeddings": 4096, "mscale": 0.707});
    let mut newer = yarn.clone();
    newer["rope_type"] = json!("yarn");
    newer["rope_theta"] = json!(10000.0);
    let mut scaling = yarn;
    scaling["type"] = json!("yarn");
    older["rope_scaling"] = scaling;
    assert_eq!(read(&older), read(&with(&json!({"rope_parameters": newer}))));
}

#[test]
fn families_differ_where_the_published_ones_do() {
    let config = read(&v3());
    assert_eq!(config.layers, [LayerKind::Dense, LayerKind::Sparse, LayerKind::Sparse]);
    let moe = config.moe.unwrap();
    assert_eq!((moe.scoring, moe.norm_topk_prob, moe.routed_scaling_factor), (Scoring::Sigmoid, true, 2.5));
    assert_eq!(moe.selection, Selection::NoAux { groups: 4, kept: 2 });

    let v2 =
        json!({"model_type": "deepseek_v2", "topk_method": "greedy", "n_group": null, "topk_group": null});
    let moe = read(&with(&v2)).moe.unwrap();
    assert_eq!(
        (moe.scoring, moe.selection, moe.routed_scaling_factor),
        (Scoring::Softmax, Selection::Greedy, 1.0)
    );

    // VL2-tiny and DeepSeek-OCR: the V2 family with plain attention; head_dim there is not the head's.
    for plain in [json!({"use_mla": false}), json!({"kv_lora_rank": null})] {
        let mut plain = with(&plain);
        plain["model_type"] = json!("deepseek_v2");
        plain["head_dim"] = json!(64);
        let AttentionConfig::MultiHead(sizes) = read(&plain).attention else {
            panic!("plain attention expected")
        };
        assert_eq!(sizes.head_dim, 12);
    }
    let every = read(&with(&json!({"moe_layer_freq": 2, "first_k_dense_replace": 0})));
    assert_eq!(every.layers, [LayerKind::Sparse, LayerKind::Dense, LayerKind::Sparse]);
    let listed = read(&with(&json!({"mlp_layer_types": ["sparse", "dense", "dense"]})));
    assert_eq!(listed.layers, [LayerKind::Sparse, LayerKind::Dense, LayerKind::Dense]);
    let ungrouped = read(&with(&json!({"n_group": null, "topk_group": null}))).moe.unwrap();
    assert_eq!(ungrouped.selection, Selection::NoAux { groups: 1, kept: 1 });
}

/// `(changes, field, part of the message)`
type BadValue = (Value, &'static str, &'static str);

fn check_errors(cases: &[BadValue]) {
    for (changes, field, part) in cases {
        let message = LanguageConfig::from_json(&with(changes)).unwrap_err().to_string();
        assert!(message.starts_with(&format!("config field `{field}`: ")), "{changes}: {message}");
        assert!(message.contains(part) && !message.contains('\n'), "{changes}: {message}");
    }
}

#[test]
fn malformed_and_unknown_values_are_named() {
    check_errors(&[
        (json!({"model_type": "gpt2"}), "model_type", "found \"gpt2\", expected one of llama"),
        (json!({"model_type": null}), "model_type", "found null"),
        (json!({"hidden_size": 0}), "hidden_size", "found 0, expected a positive integer"),
        (json!({"hidden_size": "48"}), "hidden_size", "found \"48\""),
        (json!({"hidden_size": 1e15}), "hidden_size", "found 1"),
        (json!({"num_hidden_layers": 100_000}), "num_hidden_layers", "at most 4096"),
        (json!({"hidden_act": "gelu"}), "hidden_act", "found \"gelu\", expected one of silu"),
        (json!({"scoring_func": "sqrtsoftplus"}), "scoring_func", "one of softmax, sigmoid"),
        (json!({"topk_method": "best"}), "topk_method", "greedy, group_limited_greedy, noaux_tc"),
        (json!({"torch_dtype": "int4"}), "torch_dtype", "float32, float16, bfloat16"),
        (json!({"tie_word_embeddings": "yes"}), "tie_word_embeddings", "expected true or false"),
    ]);
    assert!(LanguageConfig::from_json(&json!([1, 2])).is_err());
}

#[test]
fn sizes_that_do_not_fit_together_are_named() {
    let five = json!({"model_type": "llama", "num_attention_heads": 5, "num_key_value_heads": 5});
    check_errors(&[
        (json!({"n_group": 3}), "n_group", "a divisor of n_routed_experts = 8"),
        (json!({"topk_group": 5}), "topk_group", "at most n_group = 4"),
        (json!({"num_experts_per_tok": 5}), "num_experts_per_tok", "at most the 4 experts within reach"),
        (json!({"qk_rope_head_dim": 7}), "head_dim", "expected an even size"),
        (json!({"mlp_layer_types": ["dense"]}), "mlp_layer_types", "a list of 3 words"),
        (
            json!({"model_type": "deepseek_v32", "index_head_dim": 4}),
            "index_head_dim",
            "at least qk_rope_head_dim = 8",
        ),
        (json!({"model_type": "llama", "num_key_value_heads": 3}), "num_key_value_heads", "a divisor of"),
        (five, "num_attention_heads", "a divisor of hidden_size = 48"),
    ]);
}

#[test]
fn ropes_that_nothing_here_understands_are_named() {
    let rope = |parameters: Value| json!({"rope_parameters": parameters});
    check_errors(&[
        (rope(json!({"rope_type": "longrope"})), "rope_parameters.rope_type", "found \"longrope\""),
        (rope(json!({"rope_type": "linear"})), "rope_parameters.factor", "found nothing"),
        (rope(json!({"indexed_attention": {}})), "rope_parameters", "one set of parameters"),
        (
            rope(json!({"partial_rotary_factor": 0.5})),
            "rope_parameters.partial_rotary_factor",
            "expected 1.0",
        ),
        (rope(json!(3)), "rope_parameters", "found 3, expected an object"),
        (json!({"rope_scaling": {"type": "su", "factor": 2}}), "rope_scaling.type", "found \"su\""),
    ]);
}
