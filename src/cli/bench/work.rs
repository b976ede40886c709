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
    /// Weights of the linear layers, which `--precision` quantises.
    linear: f64,
    head: f64,
    /// `kv_b_proj` of latent attention: a linear layer for prompts, and one matrix a head for single tokens.
    latent: f64,
    /// Weights of the routed experts, those that one token takes and all of them. They are not quantised.
    experts: [f64; 2],
    /// Multiply-adds for each pair of a query and a key: in a prompt, and of a single token.
    pair: [f64; 2],
    /// Numbers that the cache keeps of each token.
    cached: f64,
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
            };
        }
        let (nope, rope, value) = (field("qk_nope_head_dim"), field("qk_rope_head_dim"), field("v_head_dim"));
        let attention = hidden * heads * (nope + rope) + hidden * (rank + rope) + heads * value * hidden;
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
        }
    }

    /// A prompt, after which the next token is predicted. So many tokens choose every expert sooner or later.
    pub(super) fn prompt(&self, tokens: usize, precision: Precision) -> Work {
        let tokens = tokens as f64;
        let pairs = tokens * (tokens + 1.0) / 2.0;
        let products = tokens * (self.linear + self.latent + self.experts[0]) + self.head;
        Work {
            flops: 2.0 * (products + pairs * self.pair[0]),
            bytes: (self.linear + self.latent + self.head) * width(precision)
                + self.experts[1] * width(precision.unquantized()),
            ceiling: Ceiling::Products,
        }
    }

    /// One token of each of `batch` sequences behind `past` others. `None` where it depends on the tokens which experts are read.
    pub(super) fn step(&self, batch: usize, past: usize, precision: Precision) -> Option<Work> {
        if batch > 1 && self.experts[0] > 0.0 {
            return None;
        }
        let (batch, keys) = (batch as f64, past as f64 + 1.0);
        let weights = [self.linear + self.head, self.latent + self.experts[0]];
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
