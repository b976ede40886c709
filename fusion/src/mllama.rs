//! The text half of Llama-3.2-Vision (`MllamaForCausalLM`): a llama decoder in which some layers *are* gated
//! cross-attention layers over a given memory. Without a memory these layers are skipped.

use candle_core::{Device, Tensor};
use swinseek_kernels::{Result, Trace, Weights};
use swinseek_language::{Cache, Context, Decoder, LanguageConfig, config::AttentionConfig};

use crate::{
    cross_attention::{CrossAttention, CrossAttentionConfig, CrossMask, CrossMemory},
    generate::TokenModel,
};

/// Decoder and cross layers.
#[derive(Debug)]
pub struct MllamaText {
    config: LanguageConfig,
    decoder: Decoder,
    cross: CrossAttention,
}

impl MllamaText {
    /// Reads the decoder, and `layers.N.cross_attn*` where the configuration places cross layers.
    pub fn new(config: &LanguageConfig, w: &Weights) -> Result<Self> {
        let kv_heads = match &config.attention {
            AttentionConfig::MultiHead(attention) => attention.num_key_value_heads,
            AttentionConfig::Latent(attention) => attention.num_heads,
        };
        let cross = CrossAttentionConfig {
            hidden_size: config.hidden_size,
            num_heads: config.attention.num_heads(),
            num_kv_heads: kv_heads,
            intermediate_size: config.intermediate_size,
            rms_norm_eps: config.rms_norm_eps,
            gate_init: 0.0,
        };
        let bare = w.contains("embed_tokens.weight");
        let layers = if bare { w.pp("layers") } else { w.pp("model.layers") };
        Ok(Self {
            decoder: Decoder::new(config, w)?,
            cross: CrossAttention::new(&cross, &config.cross_attention_layers(), |_, layer| {
                layers.pp(layer)
            })?,
            config: config.clone(),
        })
    }

    /// Keys and values of `memory (batch, tokens, hidden)` for every cross layer.
    pub fn memory(&self, memory: &Tensor) -> Result<CrossMemory> {
        self.cross.memory(&memory.to_device(self.device())?, None)
    }

    /// Where it computes.
    pub fn device(&self) -> &Device {
        self.decoder.device()
    }
}

/// The model with its memory in place.
#[derive(Debug, Clone, Copy)]
pub struct MllamaSession<'a> {
    /// The model.
    pub model: &'a MllamaText,
    /// What the cross layers read; without it they are skipped.
    pub memory: Option<&'a CrossMemory>,
    /// Which memory tokens each token of a *single* pass may see.
    pub mask: Option<&'a CrossMask>,
}

impl TokenModel for MllamaSession<'_> {
    type Cache = Cache;

    fn context_length(&self) -> usize {
        self.model.config.max_position_embeddings
    }

    fn new_cache(&self) -> Cache {
        Cache::new(&self.model.config)
    }

    fn forward(
        &self,
        ids: &Tensor,
        context: &Context,
        cache: Option<&mut Cache>,
        trace: &mut Trace,
    ) -> Result<Tensor> {
        let decoder = &self.model.decoder;
        let hook = self.model.cross.hook(self.memory, self.mask);
        decoder.forward(&decoder.embed(ids)?, context, cache, &hook, trace)
    }

    fn head(&self, hidden: &Tensor) -> Result<Tensor> {
        self.model.decoder.lm_head(hidden)
    }

    fn select_rows(&self, cache: &mut Cache, rows: &[usize]) -> Result<()> {
        cache.select_rows(rows)
    }
}
