//! Speed of the encoders at 224 pixels: `cargo bench -p swinseek-vision`. Weights are constant: speed does not depend on them.

use std::sync::Arc;
use std::time::Instant;

use candle_core::{DType, Device, Tensor};
use serde_json::json;
use swinseek_kernels::{Init, Precision, Result, TensorSource, Trace, Weights};
use swinseek_vision::{Encoder, VisionConfig};

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
    let models = [
        ("swin-t", 96, [2, 2, 6, 2], [3, 6, 12, 24], 9.0),
        ("swin-b", 128, [2, 2, 18, 2], [4, 8, 16, 32], 30.8),
    ];
    for (name, dim, depths, heads, gflop) in models {
        let config = VisionConfig::from_json(&json!({
            "model_type": "swin", "image_size": 224, "patch_size": 4, "num_channels": 3, "embed_dim": dim,
            "depths": depths, "num_heads": heads, "window_size": 7, "mlp_ratio": 4.0, "qkv_bias": true,
            "hidden_act": "gelu", "use_absolute_embeddings": false, "layer_norm_eps": 1e-5
        }))?;
        let encoder = Encoder::new(&config, &Weights::new(Arc::new(Constant), Precision::Bf16))?;
        for batch in [1, 8] {
            let pixels = Tensor::ones((batch, 3, 224, 224), DType::F32, &Device::Cpu)?;
            let mut times = Vec::new();
            for _ in 0..12 {
                let start = Instant::now();
                encoder.forward(&pixels, &mut Trace::off())?;
                times.push(start.elapsed().as_secs_f64() * 1e3);
            }
            times.sort_by(f64::total_cmp);
            let rate = gflop * batch as f64;
            println!(
                "{name} batch {batch}: median {:.1} ms ({:.0} GFLOP/s), fastest {:.1} ms ({:.0} GFLOP/s)",
                times[6],
                rate / times[6] * 1e3,
                times[0],
                rate / times[0] * 1e3
            );
        }
    }
    Ok(())
}
