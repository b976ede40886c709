//! Sizes of self-attention: multi-head with grouped keys, or multi-head latent.

use swinseek_kernels::Result;

use super::{ModelType, fields::Fields};

/// Self-attention of the decoder's layers.
#[derive(Debug, Clone, PartialEq)]
pub enum AttentionConfig {
    /// Multi-head or grouped-query attention.
    MultiHead(MultiHeadConfig),
    /// Multi-head latent attention of DeepSeek-V2 and later.
    Latent(LatentConfig),
}

/// Sizes of multi-head attention (MHA when `num_key_value_heads` equals `num_heads`, otherwise GQA).
#[derive(Debug, Clone, PartialEq)]
pub struct MultiHeadConfig {
    /// Query heads.
    pub num_heads: usize,
    /// Key and value heads; divides `num_heads`.
    pub num_key_value_heads: usize,
    /// Dimensions of a head.
    pub head_dim: usize,
    /// Whether all four projections have a bias.
    pub bias: bool,
}

/// Sizes of multi-head latent attention.
#[derive(Debug, Clone, PartialEq)]
pub struct LatentConfig {
    /// Heads.
    pub num_heads: usize,
    /// Width of the query latent; `None` projects queries from the hidden state.
    pub q_lora_rank: Option<usize>,
    /// Width of the key/value latent.
    pub kv_lora_rank: usize,
    /// Dimensions of a query or key head without rotation.
    pub qk_nope_head_dim: usize,
    /// Rotated dimensions, whose key all heads share.
    pub qk_rope_head_dim: usize,
    /// Dimensions of a value head.
    pub v_head_dim: usize,
    /// Whether rotated pairs are `(x_2i, x_2i+1)`, not `(x_i, x_{i+d/2})`.
    pub rope_interleave: bool,
    /// Whether the projections to the latents and the output projection have a bias.
    pub bias: bool,
    /// Scale of the scores, YaRN's share included.
    pub softmax_scale: f64,
    /// Lightning indexer of V3.2.
    pub indexer: Option<IndexerConfig>,
}

/// Sizes of the lightning indexer, which chooses the keys a query attends to.
#[derive(Debug, Clone, PartialEq)]
pub struct IndexerConfig {
    /// Heads.
    pub num_heads: usize,
    /// Dimensions of a head; the first `qk_rope_head_dim` are rotated.
    pub head_dim: usize,
    /// Keys kept per query.
    pub top_k: usize,
}

impl LatentConfig {
    /// Dimensions of a query or key head.
    pub fn qk_head_dim(&self) -> usize {
        self.qk_nope_head_dim + self.qk_rope_head_dim
    }
}

impl AttentionConfig {
    /// Query heads.
    pub fn num_heads(&self) -> usize {
        match self {
            Self::MultiHead(c) => c.num_heads,
            Self::Latent(c) => c.num_heads,
        }
    }

    pub(super) fn read(fields: &Fields, model_type: ModelType, hidden_size: usize) -> Result<Self> {
        let family =
            matches!(model_type, ModelType::DeepseekV2 | ModelType::DeepseekV3 | ModelType::DeepseekV32);
        let rank = if family && fields.flag_or("use_mla", true)? {
            fields.nullable_size("kv_lora_rank", Some(512))?
        } else {
            None
        };
        match rank {
            Some(kv_lora_rank) => Ok(Self::Latent(LatentConfig::read(fields, model_type, kv_lora_rank)?)),
            None if model_type == ModelType::DeepseekV32 => {
                Err(fields.error("kv_lora_rank", "a positive integer"))
            }
            None => Ok(Self::MultiHead(MultiHeadConfig::read(fields, model_type, hidden_size)?)),
        }
    }

    /// Rotated dimensions of a head.
    pub(super) fn rope_dim(&self) -> usize {
        match self {
            Self::MultiHead(c) => c.head_dim,
            Self::Latent(c) => c.qk_rope_head_dim,
        }
    }

    /// YaRN's `g(mscale_all_dim)²` belongs to the scores of latent attention only.
    pub(super) fn with_softmax_factor(mut self, factor: f64) -> Self {
        if let Self::Latent(c) = &mut self {
            c.softmax_scale *= factor;
        }
        self
    }
}

impl MultiHeadConfig {
    fn read(fields: &Fields, model_type: ModelType, hidden_size: usize) -> Result<Self> {
        let num_heads = fields.size("num_attention_heads")?;
        let num_key_value_heads = fields.size_or("num_key_value_heads", num_heads)?;
        if !num_heads.is_multiple_of(num_key_value_heads) {
            return Err(fields
                .error("num_key_value_heads", &format!("a divisor of num_attention_heads = {num_heads}")));
        }
        // In the files of the later families `head_dim` is qk_rope_head_dim, or repeats the quotient.
        let stated = matches!(model_type, ModelType::Llama | ModelType::Deepseek);
        let head_dim = if stated { fields.optional_size("head_dim")? } else { None };
        let head_dim = match head_dim {
            Some(dim) => dim,
            None if hidden_size.is_multiple_of(num_heads) => hidden_size / num_heads,
            None => {
                let expected = format!("a divisor of hidden_size = {hidden_size}, or a head_dim");
                return Err(fields.error("num_attention_heads", &expected));
            }
        };
        let bias = fields.flag_or("attention_bias", false)? && model_type != ModelType::MllamaText;
        Ok(Self { num_heads, num_key_value_heads, head_dim, bias })
    }
}

impl LatentConfig {
    fn read(fields: &Fields, model_type: ModelType, kv_lora_rank: usize) -> Result<Self> {
        let qk_nope_head_dim = fields.size_or("qk_nope_head_dim", 128)?;
        let qk_rope_head_dim = fields.size_or("qk_rope_head_dim", 64)?;
        let indexer = if model_type == ModelType::DeepseekV32 {
            Some(IndexerConfig::read(fields, qk_rope_head_dim)?)
        } else {
            None
        };
        Ok(Self {
            num_heads: fields.size("num_attention_heads")?,
            q_lora_rank: fields.nullable_size("q_lora_rank", Some(1536))?,
            kv_lora_rank,
            qk_nope_head_dim,
            qk_rope_head_dim,
            v_head_dim: fields.size_or("v_head_dim", 128)?,
            rope_interleave: model_type != ModelType::DeepseekV3
                || fields.flag_or("rope_interleave", true)?,
            bias: fields.flag_or("attention_bias", false)?,
            softmax_scale: ((qk_nope_head_dim + qk_rope_head_dim) as f64).powf(-0.5),
            indexer,
        })
    }
}

impl IndexerConfig {
    fn read(fields: &Fields, rope_dim: usize) -> Result<Self> {
        let head_dim = fields.size_or("index_head_dim", 128)?;
        if head_dim < rope_dim {
            return Err(fields.error("index_head_dim", &format!("at least qk_rope_head_dim = {rope_dim}")));
        }
        let num_heads = fields.size_or("index_n_heads", 64)?;
        Ok(Self { num_heads, head_dim, top_k: fields.size_or("index_topk", 2048)? })
    }
}
