//! Models of published shapes with random weights: speed does not depend on what they know.

use std::sync::Arc;

use anyhow::Result;
use candle_core::{DType, Device, Tensor};
use serde_json::{Value, json};
use swinseek_fusion::checkpoint::FreshSource;
use swinseek_fusion::donut::{Donut, DonutConfig};
use swinseek_kernels::{Compute, Init, Precision, TensorSource, Trace, Weights};
use swinseek_language::{Cache, Context, Decoder, LanguageConfig, NoHook};
use swinseek_vision::{Encoder, VisionConfig};

use super::work::{Ceiling, DecoderSizes, Work, width};

/// Normal values, the same ones again and again: a thousand million new ones would take longer than any measurement.
struct Pool(Vec<f32>);

impl TensorSource for Pool {
    fn tensor(&self, _name: &str, shape: &[usize], init: Init) -> swinseek_kernels::Result<Tensor> {
        let count = shape.iter().product();
        let values = match init {
            Init::Const(value) => vec![value as f32; count],
            Init::Normal { std } => self.0.iter().map(|x| x * std as f32).cycle().take(count).collect(),
        };
        Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
    }

    fn shape(&self, _name: &str) -> Option<Vec<usize>> {
        None
    }

    fn is_lasting(&self) -> bool {
        true
    }

    fn check(&self, _name: &str, _shape: &[usize]) -> swinseek_kernels::Result<()> {
        Ok(())
    }
}

fn weights(compute: &Compute) -> Result<Weights> {
    // A prime number of them: rows of matrices differ.
    let pool = FreshSource::new(1).tensor("pool", &[1_000_003], Init::Normal { std: 1.0 })?;
    Ok(Weights::new(Arc::new(Pool(pool.to_vec1()?)), compute.precision).on(&compute.device))
}

/// A Swin of published shape.
#[derive(Debug, Clone, Copy)]
pub(super) struct Swin {
    pub(super) name: &'static str,
    embed_dim: usize,
    depths: [usize; 4],
    heads: [usize; 4],
    /// Multiply-adds of an image of 224 pixels, in thousands of millions (Liu et al. 2021, table 1).
    gmac: f64,
}

impl Swin {
    /// What a batch computes and reads.
    pub(super) fn work(&self, batch: usize, precision: Precision) -> Work {
        // A block has 12 · dim² weights; two stages are joined by a layer of 4 · dim to 2 · dim features.
        let stage = |(index, depth): (usize, &usize)| {
            let dim = (self.embed_dim << index) as f64;
            let merging = if index + 1 < self.depths.len() { 8.0 } else { 0.0 };
            dim * dim * (12.0 * *depth as f64 + merging)
        };
        let weights: f64 = self.depths.iter().enumerate().map(stage).sum();
        let pixels = (batch * 3 * 224 * 224 * size_of::<f32>()) as f64;
        let flops = 2e9 * self.gmac * batch as f64;
        Work { flops, bytes: weights * width(precision) + pixels, ceiling: Ceiling::Products }
    }
}

pub(super) const SWINS: [Swin; 2] = [
    Swin { name: "swin-t", embed_dim: 96, depths: [2, 2, 6, 2], heads: [3, 6, 12, 24], gmac: 4.5 },
    Swin { name: "swin-b", embed_dim: 128, depths: [2, 2, 18, 2], heads: [4, 8, 16, 32], gmac: 15.4 },
];

pub(super) fn swin(swin: Swin, compute: &Compute) -> Result<Encoder> {
    let Swin { embed_dim, depths, heads, .. } = swin;
    let config = VisionConfig::from_json(&json!({
        "model_type": "swin", "image_size": 224, "patch_size": 4, "num_channels": 3, "embed_dim": embed_dim,
        "depths": depths, "num_heads": heads, "window_size": 7, "mlp_ratio": 4.0, "qkv_bias": true,
        "hidden_act": "gelu", "use_absolute_embeddings": false, "layer_norm_eps": 1e-5
    }))?;
    Ok(Encoder::new(&config, &weights(compute)?)?)
}

pub(super) fn pixels(batch: usize) -> Result<Tensor> {
    let values: Vec<f32> =
        (0..batch * 3 * 224 * 224).map(|i| (i * 7919 % 1009) as f32 / 504.5 - 1.0).collect();
    Ok(Tensor::from_vec(values, (batch, 3, 224, 224), &Device::Cpu)?.to_dtype(DType::F32)?)
}

/// Decoders by name.
pub(super) const DECODERS: [&str; 3] = ["0.5b", "1.3b", "mla-moe"];

fn decoder_config(name: &str) -> Value {
    let llama = |hidden: usize, layers: usize, heads: usize, intermediate: usize| {
        json!({
            "model_type": "llama", "vocab_size": 32256, "hidden_size": hidden, "intermediate_size": intermediate,
            "num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": heads,
            "hidden_act": "silu", "rms_norm_eps": 1e-6, "max_position_embeddings": 4096, "rope_theta": 10000.0,
            "tie_word_embeddings": false
        })
    };
    match name {
        "0.5b" => llama(1280, 20, 20, 3584),
        "1.3b" => llama(2048, 24, 16, 5632),
        _ => json!({
            "model_type": "deepseek_v2", "vocab_size": 32256, "hidden_size": 1024, "intermediate_size": 2816,
            "num_hidden_layers": 12, "num_attention_heads": 8, "num_key_value_heads": 8, "hidden_act": "silu",
            "rms_norm_eps": 1e-6, "max_position_embeddings": 4096, "rope_theta": 10000.0, "tie_word_embeddings": false,
            "n_routed_experts": 32, "num_experts_per_tok": 4, "n_shared_experts": 2, "moe_intermediate_size": 768,
            "first_k_dense_replace": 1, "moe_layer_freq": 1, "q_lora_rank": null, "kv_lora_rank": 512,
            "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128, "n_group": 1, "topk_group": 1,
            "topk_method": "greedy", "norm_topk_prob": false, "routed_scaling_factor": 1.0, "scoring_func": "softmax"
        }),
    }
}

/// A decoder, and what it costs.
pub(super) struct Bench {
    decoder: Decoder,
    config: LanguageConfig,
    pub(super) sizes: DecoderSizes,
}

impl Bench {
    pub(super) fn new(name: &str, compute: &Compute) -> Result<Self> {
        let json = decoder_config(name);
        let config = LanguageConfig::from_json(&json)?;
        let decoder = Decoder::new(&config, &weights(compute)?)?;
        Ok(Self { decoder, config, sizes: DecoderSizes::new(&json) })
    }

    pub(super) fn cache(&self) -> Cache {
        Cache::new(&self.config)
    }

    /// Reads a prompt of so many tokens and predicts the next one.
    pub(super) fn prefill(&self, tokens: usize, cache: &mut Cache) -> Result<()> {
        let ids: Vec<u32> = (0..tokens).map(|i| (i * 7919 % 32000) as u32).collect();
        let ids = Tensor::from_vec(ids, (1, tokens), &Device::Cpu)?;
        let hidden = self.decoder.forward(
            &self.decoder.embed(&ids)?,
            &Context::causal().last_only(),
            Some(cache),
            &NoHook,
            &mut Trace::off(),
        )?;
        self.decoder.lm_head(&hidden.narrow(1, hidden.dim(1)? - 1, 1)?)?;
        Ok(())
    }

    /// One token of each sequence, as a server runs them.
    pub(super) fn decode(&self, caches: &mut [Cache]) -> Result<()> {
        let ids = Tensor::full(7u32, (caches.len(), 1), &Device::Cpu)?;
        let mut caches: Vec<&mut Cache> = caches.iter_mut().collect();
        let hidden =
            self.decoder.decode(&self.decoder.embed(&ids)?, &mut caches, &NoHook, &mut Trace::off())?;
        self.decoder.lm_head(&hidden)?;
        Ok(())
    }
}

/// Donut-Swin-B with four mBART layers (Kim et al. 2022), 214 million parameters.
pub(super) fn captioner(compute: &Compute) -> Result<Donut> {
    let config = DonutConfig::from_json(&json!({
        "encoder": {
            "model_type": "donut-swin", "image_size": 224, "patch_size": 4, "num_channels": 3, "embed_dim": 128,
            "depths": [2, 2, 18, 2], "num_heads": [4, 8, 16, 32], "window_size": 7, "mlp_ratio": 4.0, "qkv_bias": true,
            "hidden_act": "gelu", "use_absolute_embeddings": false, "layer_norm_eps": 1e-5
        },
        "decoder": {
            "model_type": "mbart", "vocab_size": 57532, "d_model": 1024, "decoder_layers": 4, "decoder_attention_heads": 16,
            "decoder_ffn_dim": 4096, "max_position_embeddings": 1024, "scale_embedding": true, "activation_function": "gelu"
        }
    }))?;
    Ok(Donut::new(&config, &weights(compute)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 28.3 and 87.8 million parameters (timm), less the classifier of 1000 classes; biases, norms and tables are the hundredth.
    #[test]
    fn swins_read_their_published_parameters() {
        for (model, published) in SWINS.into_iter().zip([28.29e6 - 769e3, 87.77e6 - 1.025e6]) {
            let pixels = 4.0 * 3.0 * 224.0 * 224.0;
            let read = (model.work(1, Precision::Bf16).bytes - pixels) / 2.0;
            assert!((read / published - 1.0).abs() < 0.01, "{}: {read:e} of {published:e}", model.name);
        }
    }
}
