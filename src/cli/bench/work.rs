//! What a run computes and reads at the least, so that its time can be set beside the machine's ceilings.

use serde_json::Value;
use swinseek_kernels::Precision;

/// Operations and bytes of a run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Work {
    /// Floating-point operations of the matrix products.
    pub(super) flops: f64,
    /// Bytes of weights and inputs (pixels, keys and values of earlier tokens), each read once.
    pub(super) bytes: f64,
    /// What the run is measured by.
    pub(super) ceiling: Ceiling,
}

/// What limits a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ceiling {
    /// Products of matrices.
    Products,
    /// Reading from memory.
    Memory,
}

/// Bytes of a number in a packed weight.
pub(super) fn width(precision: Precision) -> f64 {
    match precision {
        Precision::F32 => 4.0,
        Precision::Bf16 => 2.0,
        Precision::Int8 => 1.0,
        // A group of 32 shares a scale of 16 bits.
        Precision::Int4 => 4.5 / 8.0,
    }
}

/// Multiply-adds and sizes of a decoder, of all its layers together. Norms and routers are left out: they are thousandths.
#[derive(Debug, Clone, Copy)]
pub(super) struct DecoderSizes {
    /// Weights of the linear layers, which `--precision` quantises, as it does the experts.
    linear: f64,
    head: f64,
    /// `kv_b_proj` of latent attention: a linear layer for prompts, and one matrix a head, not quantised, for single tokens.
    latent: f64,
    /// Weights of the routed experts, those that one token takes and all of them.
    experts: [f64; 2],
    /// Multiply-adds for each pair of a query and a key: in a prompt, and of a single token.
    pair: [f64; 2],
    /// Numbers that the cache keeps of each token.
    cached: f64,
    layers: f64,
    /// Weights of the last layer that a prompt's last token alone meets: all but those of keys and values.
    last: f64,
}

impl DecoderSizes {
    /// Of a model with the `config.json` of a llama or a DeepSeek V2.
    pub(super) fn new(config: &Value) -> Self {
        let field = |name: &str| config[name].as_f64().unwrap_or(0.0);
        let (hidden, layers) = (field("hidden_size"), field("num_hidden_layers"));
        let heads = field("num_attention_heads");
        let head = hidden * field("vocab_size");
        let dense = 3.0 * hidden * field("intermediate_size");
        let rank = field("kv_lora_rank");
        if rank == 0.0 {
            return Self {
                linear: layers * (4.0 * hidden * hidden + dense),
                head,
                latent: 0.0,
                experts: [0.0; 2],
                pair: [layers * 2.0 * hidden; 2],
                cached: layers * 2.0 * hidden,
                layers,
                last: 2.0 * hidden * hidden + dense,
            };
        }
        let (nope, rope, value) = (field("qk_nope_head_dim"), field("qk_rope_head_dim"), field("v_head_dim"));
        let query_and_output = hidden * heads * (nope + rope) + heads * value * hidden;
        let attention = query_and_output + hidden * (rank + rope);
        let expert = 3.0 * hidden * field("moe_intermediate_size");
        let (first, sparse) = (field("first_k_dense_replace"), layers - field("first_k_dense_replace"));
        Self {
            linear: layers * attention + first * dense + sparse * field("n_shared_experts") * expert,
            head,
            latent: layers * rank * heads * (nope + value),
            experts: ["num_experts_per_tok", "n_routed_experts"].map(|count| sparse * field(count) * expert),
            // A single token attends to the latents themselves.
            pair: [nope + rope + value, 2.0 * rank + rope].map(|width| layers * heads * width),
            cached: layers * (rank + rope),
            layers,
            last: query_and_output + (field("n_shared_experts") + field("num_experts_per_tok")) * expert,
        }
    }

    /// A prompt, after which the next token is predicted. So many tokens choose every expert sooner or later.
    pub(super) fn prompt(&self, tokens: usize, precision: Precision) -> Work {
        let tokens = tokens as f64;
        let pairs = (tokens * (tokens + 1.0) / 2.0 * (self.layers - 1.0) + tokens) / self.layers;
        let products =
            tokens * (self.linear + self.latent + self.experts[0]) - (tokens - 1.0) * self.last + self.head;
        Work {
            flops: 2.0 * (products + pairs * self.pair[0]),
            bytes: (self.linear + self.latent + self.head + self.experts[1]) * width(precision),
            ceiling: Ceiling::Products,
        }
    }

    /// One token of each of `batch` sequences behind `past` others. `None` where it depends on the tokens which experts are read.
    pub(super) fn step(&self, batch: usize, past: usize, precision: Precision) -> Option<Work> {
        if batch > 1 && self.experts[0] > 0.0 {
            return None;
        }
        let (batch, keys) = (batch as f64, past as f64 + 1.0);
        let weights = [self.linear + self.head + self.experts[0], self.latent];
        // Latents are kept in `f32`.
        let cached_width = if self.latent > 0.0 { 4.0 } else { width(precision.unquantized()) };
        Some(Work {
            flops: 2.0 * batch * (weights[0] + weights[1] + keys * self.pair[1]),
            bytes: weights[0] * width(precision)
                + weights[1] * width(precision.unquantized())
                + batch * keys * self.cached * cached_width,
            ceiling: Ceiling::Memory,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The parameters of published models, less their embeddings, are what a long prompt reads. Norms and routers are less than
    /// a thousandth.
    #[test]
    fn prompts_read_all_weights_of_published_models() {
        let llama_7b = json!({
            "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "intermediate_size": 11008,
            "vocab_size": 32000
        });
        let deepseek_v2_lite = json!({
            "hidden_size": 2048, "num_hidden_layers": 27, "num_attention_heads": 16, "intermediate_size": 10944,
            "vocab_size": 102400, "n_routed_experts": 64, "num_experts_per_tok": 6, "n_shared_experts": 2,
            "moe_intermediate_size": 1408, "first_k_dense_replace": 1, "kv_lora_rank": 512, "qk_nope_head_dim": 128,
            "qk_rope_head_dim": 64, "v_head_dim": 128
        });
        for (config, parameters, embeddings) in [
            (llama_7b, 6_738_415_616.0, 32000.0 * 4096.0),
            (deepseek_v2_lite, 15_706_484_224.0, 102400.0 * 2048.0),
        ] {
            let read = DecoderSizes::new(&config).prompt(512, Precision::Bf16).bytes / 2.0;
            let published = parameters - embeddings;
            assert!((read / published - 1.0).abs() < 1e-3, "{read:e} of {published:e}");
        }
    }

    /// The last layer meets the last token alone but for keys and values, and that token alone has its query.
    #[test]
    fn a_layer_alone_computes_keys_and_values_of_a_prompt() {
        let config = json!({
            "hidden_size": 128, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 512, "vocab_size": 1000
        });
        let sizes = DecoderSizes::new(&config);
        let flops = |tokens| sizes.prompt(tokens, Precision::Bf16).flops;
        assert_eq!(Some(flops(1)), sizes.step(1, 0, Precision::Bf16).map(|step| step.flops));
        let (key_and_value, pair) = (2.0 * 128.0 * 128.0, 2.0 * 128.0);
        assert_eq!(flops(101) - flops(1), 2.0 * 100.0 * (key_and_value + pair));
    }

    #[test]
    fn a_step_computes_twice_its_weights_and_reads_them_once() {
        let config = json!({
            "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "intermediate_size": 11008,
            "vocab_size": 32000
        });
        let sizes = DecoderSizes::new(&config);
        let weights = 6_607_077_376.0;
        let one = sizes.step(1, 0, Precision::Int8).expect("a dense model");
        assert!((one.flops / (2.0 * weights) - 1.0).abs() < 1e-3, "{one:?}");
        assert!((one.bytes / weights - 1.0).abs() < 1e-3, "{one:?}");
        // Eight sequences share the weights and have 513 keys and values each.
        let eight = sizes.step(8, 512, Precision::Bf16).expect("a dense model");
        let cache = 8.0 * 513.0 * 2.0 * 4096.0 * 32.0 * 2.0;
        assert!((eight.bytes / (2.0 * weights + cache) - 1.0).abs() < 1e-3, "{eight:?}");
        // Two experts of eight, and nothing else but what a dense model of no width would have.
        let mixture = json!({
            "hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 0, "n_routed_experts": 8,
            "num_experts_per_tok": 2, "moe_intermediate_size": 32, "kv_lora_rank": 1e-9
        });
        let step = DecoderSizes::new(&mixture).step(1, 0, Precision::Int8).expect("one sequence");
        assert!((step.bytes - 2.0 * 3.0 * 64.0 * 32.0).abs() < 1e-3, "{step:?}");
    }
}
