//! Speed of decoders: `cargo bench -p swinseek-language`. Weights are constant: speed does not depend on them.

use std::sync::Arc;
use std::time::Instant;

use candle_core::{Device, Tensor};
use serde_json::json;
use swinseek_kernels::{Init, Precision, Result, TensorSource, Trace, Weights};
use swinseek_language::{Cache, Context, Decoder, LanguageConfig, NoHook};

/// Every parameter is a small constant.
struct Constant;

impl TensorSource for Constant {
    fn tensor(&self, _: &str, shape: &[usize], _: Init) -> Result<Tensor> {
        Ok(Tensor::full(0.01f32, shape, &Device::Cpu)?)
    }

    fn shape(&self, _: &str) -> Option<Vec<usize>> {
        None
    }
}

fn main() -> Result<()> {
    swinseek_kernels::memory::keep_freed_memory();
    println!("matrix products: {}", swinseek_kernels::gemm::path_name());
    let config = LanguageConfig::from_json(&json!({
        "model_type": "llama", "vocab_size": 32256, "hidden_size": 1280, "intermediate_size": 3584, "num_hidden_layers": 20,
        "num_attention_heads": 20, "num_key_value_heads": 20, "hidden_act": "silu", "rms_norm_eps": 1e-6,
        "max_position_embeddings": 4096, "rope_theta": 10000.0, "tie_word_embeddings": false
    }))?;
    let decoder = Decoder::new(&config, &Weights::new(Arc::new(Constant), Precision::Bf16))?;
    let step = |ids: &[u32], cache: &mut Cache| -> Result<()> {
        let ids = Tensor::from_slice(ids, (1, ids.len()), &Device::Cpu)?;
        let hidden = decoder.embed(&ids)?;
        let hidden = decoder.forward(&hidden, &Context::causal(), Some(cache), &NoHook, &mut Trace::off())?;
        decoder.lm_head(&hidden.narrow(1, hidden.dim(1)? - 1, 1)?)?;
        Ok(())
    };
    let time = |runs: usize, work: &mut dyn FnMut() -> Result<()>| -> Result<[f64; 2]> {
        work()?;
        let mut times = Vec::new();
        for _ in 0..runs {
            let start = Instant::now();
            work()?;
            times.push(start.elapsed().as_secs_f64() * 1e3);
        }
        times.sort_by(f64::total_cmp);
        Ok([times[runs / 2], times[0]])
    };
    let prompt: Vec<u32> = (0..512).collect();
    let [median, fastest] = time(7, &mut || step(&prompt, &mut Cache::new(&config)))?;
    println!(
        "prefill 512: median {median:.0} ms ({:.0} tokens/s), fastest {fastest:.0} ms ({:.0})",
        512e3 / median,
        512e3 / fastest
    );
    let mut cache = Cache::new(&config);
    step(&prompt, &mut cache)?;
    let [median, fastest] = time(40, &mut || step(&[7], &mut cache))?;
    println!(
        "decode at 512: median {median:.1} ms ({:.1} tokens/s), fastest {fastest:.1} ms ({:.1})",
        1e3 / median,
        1e3 / fastest
    );
    Ok(())
}
