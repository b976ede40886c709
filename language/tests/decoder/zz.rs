
use std::{sync::Arc, time::Instant};
use candle_core::{Device, Tensor};
use serde_json::json;
use swinseek_kernels::{Precision, Trace, Weights, ops};
use swinseek_language::{Cache, Context, Decoder, LanguageConfig, NoHook};
use crate::support::{Fresh, Memory, full_pass};
#[test]
fn zz_time() {
    if std::env::var("ZZ").is_err() { return; }
    let config = LanguageConfig::from_json(&json!({
        "model_type": "deepseek_v3", "vocab_size": 7680, "hidden_size": 256, "intermediate_size": 512,
        "num_hidden_layers": 8, "num_attention_heads": 4, "q_lora_rank": null, "kv_lora_rank": 96,
        "qk_nope_head_dim": 48, "qk_rope_head_dim": 16, "v_head_dim": 48, "n_routed_experts": 32, "n_shared_experts": 1,
        "moe_intermediate_size": 48, "num_experts_per_tok": 7, "n_group": 1, "topk_group": 1,
        "first_k_dense_replace": 0, "tie_word_embeddings": true})).unwrap();
    let precision = if std::env::var("ZZ").unwrap() == "bf16" { Precision::Bf16 } else { Precision::F32 };
    let source = Fresh::new(1, 1.0);
    let decoder = Decoder::new(&config, &Weights::new(source.clone(), precision)).unwrap();
    let ids = Tensor::from_vec((0..768u32).map(|i| i * 37 % 7680).collect::<Vec<_>>(), (8, 96), &Device::Cpu).unwrap();
    for _ in 0..4 {
        let t = Instant::now();
        let hidden = full_pass(&decoder, &ids, &Context::causal(), &mut Trace::off());
        let t1 = t.elapsed();
        let logits = decoder.lm_head(&hidden).unwrap().reshape((768, 7680)).unwrap();
        let targets: Vec<u32> = (0..768).map(|i| (i * 11 + 3) % 7680).collect();
        let loss = ops::loss::cross_entropy(&logits, &targets).unwrap();
        let t2 = t.elapsed();
        let _g = loss.backward().unwrap();
        println!("train: layers {t1:?}, loss at {t2:?}, backward at {:?}", t.elapsed());
    }
    let tensors = source.vars.lock().unwrap().iter().map(|(k, v)| (k.clone(), v.as_detached_tensor())).collect();
    let decoder = Decoder::new(&config, &Weights::new(Arc::new(Memory(tensors)), precision)).unwrap();
    let mut cache = Cache::new(&config);
    let prompt = decoder.embed(&ids.narrow(0, 0, 1).unwrap()).unwrap();
    let t = Instant::now();
    decoder.forward(&prompt, &Context::causal(), Some(&mut cache), &NoHook, &mut Trace::off()).unwrap();
    println!("prefill 96: {:?}", t.elapsed());
    let t = Instant::now();
    let one = ids.narrow(0, 0, 1).unwrap().narrow(1, 0, 1).unwrap().contiguous().unwrap();
    for _ in 0..100 {
        let x = decoder.embed(&one).unwrap();
        let h = decoder.forward(&x, &Context::causal(), Some(&mut cache), &NoHook, &mut Trace::off()).unwrap();
        decoder.lm_head(&h).unwrap();
    }
    println!("decode: {:?} a token", t.elapsed() / 100);
}
