//! Gradients through the whole decoder.

use std::{collections::BTreeSet, sync::Arc};

use candle_core::{Device, Tensor, Var};
use serde_json::{Value, json};
use swinseek_kernels::{Precision, Trace, Weights, ops::loss::cross_entropy};
use swinseek_language::{Cache, Context, Decoder, LanguageConfig, NoHook};

use crate::support::{Fresh, Memory, assert_close, distance, full_pass};

/// The block of the project's own model, small: V3 with full-rank queries and a tied head.
fn own_block() -> Value {
    json!({
        "model_type": "deepseek_v3", "vocab_size": 40, "hidden_size": 24, "intermediate_size": 32,
        "num_hidden_layers": 2, "num_attention_heads": 2, "q_lora_rank": null, "kv_lora_rank": 12,
        "qk_nope_head_dim": 6, "qk_rope_head_dim": 4, "v_head_dim": 6, "n_routed_experts": 4, "n_shared_experts": 1,
        "moe_intermediate_size": 8, "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1,
        "first_k_dense_replace": 0, "norm_topk_prob": true, "routed_scaling_factor": 2.5,
        "tie_word_embeddings": true, "max_position_embeddings": 64, "rms_norm_eps": 1e-6,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}
    })
}

fn build(config: &Value, source: &Arc<Fresh>) -> (LanguageConfig, Decoder) {
    let config = LanguageConfig::from_json(config).unwrap();
    let decoder = Decoder::new(&config, &Weights::new(source.clone(), Precision::F32)).unwrap();
    (config, decoder)
}

fn ids() -> Tensor {
    let ids: Vec<u32> = (0..48).map(|i| (i * i * 7 + i * 5) % 40).collect();
    Tensor::from_vec(ids, (3, 16), &Device::Cpu).unwrap()
}

fn loss(decoder: &Decoder) -> Tensor {
    let hidden = full_pass(decoder, &ids(), &Context::causal(), &mut Trace::off());
    let logits = decoder.lm_head(&hidden).unwrap().reshape((48, 40)).unwrap();
    let targets: Vec<u32> = (0..48).map(|i| (i * 11 + 3) % 40).collect();
    cross_entropy(&logits, &targets).unwrap()
}

/// Along its own gradient, the loss changes as the gradient says; the selection bias has none.
fn check_gradients(mut config: Value, expected_without: &[&str]) {
    // Every expert is taken: a step must not flip a choice, where the loss jumps.
    config["num_experts_per_tok"] = json!(4);
    let source = Fresh::new(7, 8.0);
    let (_, decoder) = build(&config, &source);
    let gradients = loss(&decoder).backward().unwrap();
    let vars = source.vars.lock().unwrap();
    let mut without = BTreeSet::new();
    for (name, var) in vars.iter() {
        let Some(gradient) = gradients.get(var.as_tensor()) else {
            without.insert(name.rsplit('.').next().unwrap());
            continue;
        };
        let norm: f32 = gradient.sqr().unwrap().sum_all().unwrap().sqrt().unwrap().to_scalar().unwrap();
        assert!(norm > 1e-5, "no gradient reaches {name}");
        // A loss of about 4 carries 5e-7 of rounding: steps that change it by about 2e-3 leave 1e-3 relative.
        let length = (1e-3 / norm).min(0.02);
        let direction = (gradient / f64::from(norm)).unwrap();
        let old = var.as_tensor().copy().unwrap();
        let at = |sign: f64| {
            var.set(&(&old + &(&direction * (sign * f64::from(length))).unwrap()).unwrap()).unwrap();
            loss(&decoder).to_scalar::<f32>().unwrap()
        };
        let slope = (at(1.0) - at(-1.0)) / (2.0 * length);
        var.set(&old).unwrap();
        assert!((slope - norm).abs() <= 0.02 * norm + 1e-3, "{name}: slope {slope}, gradient {norm}");
    }
    assert_eq!(without, expected_without.iter().copied().collect());
}

#[test]
fn gradients_of_the_own_block() {
    check_gradients(own_block(), &["e_score_correction_bias"]);
}

#[test]
fn gradients_of_low_rank_queries_and_softmax_routing() {
    let mut config = own_block();
    config["model_type"] = json!("deepseek_v2");
    config["q_lora_rank"] = json!(10);
    config["tie_word_embeddings"] = json!(false);
    config["first_k_dense_replace"] = json!(1);
    check_gradients(config, &[]);
}

#[test]
fn gradients_of_grouped_queries_with_biases() {
    let mut config = own_block();
    config["model_type"] = json!("llama");
    config["num_attention_heads"] = json!(4);
    config["num_key_value_heads"] = json!(2);
    config["attention_bias"] = json!(true);
    config["mlp_bias"] = json!(true);
    check_gradients(config, &[]);
}

/// In `bf16` a prompt that is trained takes another way than one that is read: also when a single projection is trained.
#[test]
fn one_trained_projection_of_a_rounded_prompt_has_its_gradient() {
    let mut config = own_block();
    config["model_type"] = json!("llama");
    config["num_attention_heads"] = json!(4);
    config["num_key_value_heads"] = json!(2);
    let config = LanguageConfig::from_json(&config).unwrap();
    let all = Fresh::new(5, 8.0);
    Decoder::new(&config, &Weights::new(all.clone(), Precision::F32)).unwrap();
    let vars = all.vars.lock().unwrap();
    for name in ["q_proj", "k_proj", "v_proj", "o_proj"] {
        let name = format!("model.layers.1.self_attn.{name}.weight");
        let tensor = |(key, var): (&String, &Var)| {
            let tensor = var.as_tensor();
            (key.clone(), if *key == name { tensor.clone() } else { tensor.detach() })
        };
        let source = Arc::new(Memory(vars.iter().map(tensor).collect()));
        let decoder = Decoder::new(&config, &Weights::new(source, Precision::Bf16)).unwrap();
        let gradients = loss(&decoder).backward().unwrap();
        let gradient =
            gradients.get(vars[&name].as_tensor()).unwrap_or_else(|| panic!("{name} has no gradient"));
        let size: f32 = gradient.sqr().unwrap().sum_all().unwrap().to_scalar().unwrap();
        assert!(size > 0.0, "{name}: {size}");
    }
}

/// The trainer changes variables in place; decoding right after must use the new values.
#[test]
fn decoding_follows_weights_that_change() {
    let source = Fresh::new(3, 8.0);
    let (config, decoder) = build(&own_block(), &source);
    for var in source.vars.lock().unwrap().values() {
        var.set(&(var.as_tensor() * 1.3).unwrap()).unwrap();
    }
    let ids = ids().narrow(0, 0, 1).unwrap();
    let whole = full_pass(&decoder, &ids, &Context::causal(), &mut Trace::off());
    let mut cache = Cache::new(&config);
    let mut parts = Vec::new();
    for t in 0..16 {
        let embedded = decoder.embed(&ids.narrow(1, t, 1).unwrap()).unwrap();
        let context = Context::causal();
        parts.push(
            decoder.forward(&embedded, &context, Some(&mut cache), &NoHook, &mut Trace::off()).unwrap(),
        );
    }
    assert_close("decoded", &Tensor::cat(&parts, 1).unwrap().detach(), &whole.detach());
}

/// The selection bias moves the choice of experts and nothing else.
#[test]
fn the_selection_bias_steers_the_router() {
    let source = Fresh::new(5, 8.0);
    let (_, decoder) = build(&own_block(), &source);
    let name = "model.layers.0.mlp.gate.e_score_correction_bias";
    source.vars.lock().unwrap()[name]
        .set(&Tensor::new(&[0f32, 2.0, 0.0, 2.0], &Device::Cpu).unwrap())
        .unwrap();
    let mut trace = Trace::only(&["router.0."]);
    full_pass(&decoder, &ids(), &Context::causal(), &mut trace);
    let experts = trace.get("router.0.experts").unwrap().to_vec2::<i64>().unwrap();
    assert!(experts.iter().all(|row| row == &[1, 3]));
    let weights = trace.get("router.0.weights").unwrap();
    // Normalised to 1, then scaled by 2.5.
    let sums = weights.sum(1).unwrap();
    assert!(distance(&sums, &(sums.ones_like().unwrap() * 2.5).unwrap()) < 1e-5);
    assert_eq!(trace.get("router.0.scores").unwrap().dims(), [48, 4]);
}

#[test]
fn fresh_parameters_have_the_names_of_a_checkpoint() {
    let source = Fresh::new(1, 1.0);
    build(&own_block(), &source);
    let names: Vec<String> =
        source.vars.lock().unwrap().keys().filter(|n| !n.contains("layers.1.")).cloned().collect();
    let layer = [
        "input_layernorm.weight",
        "mlp.experts.down_proj",
        "mlp.experts.gate_up_proj",
        "mlp.gate.e_score_correction_bias",
        "mlp.gate.weight",
        "mlp.shared_experts.down_proj.weight",
        "mlp.shared_experts.gate_proj.weight",
        "mlp.shared_experts.up_proj.weight",
        "post_attention_layernorm.weight",
        "self_attn.kv_a_layernorm.weight",
        "self_attn.kv_a_proj_with_mqa.weight",
        "self_attn.kv_b_proj.weight",
        "self_attn.o_proj.weight",
        "self_attn.q_proj.weight",
    ];
    let mut expected = vec!["model.embed_tokens.weight".to_owned()];
    expected.extend(layer.iter().map(|name| format!("model.layers.0.{name}")));
    expected.push("model.norm.weight".to_owned());
    assert_eq!(names, expected);
}
