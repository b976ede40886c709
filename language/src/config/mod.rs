//! What a decoder looks like, read from `config.json` in the dialects that published checkpoints use.

mod attention;
pub(crate) mod fields;
mod moe;

pub use attention::{AttentionConfig, IndexerConfig, LatentConfig, MultiHeadConfig};
pub use moe::{MoeConfig, Scoring, Selection};

use serde_json::Value;
use swinseek_kernels::{Error, Result};

use crate::rope_scaling::RopeConfig;
use fields::Fields;

/// More layers than this are a damaged file.
const MAX_LAYERS: usize = 4096;

/// The published families, by `model_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelType {
    /// `llama`: deepseek-llm 7B and 67B.
    Llama,
    /// `deepseek`: DeepSeekMoE 16B.
    Deepseek,
    /// `deepseek_v2`: V2, V2-Lite and the decoders of VL2.
    DeepseekV2,
    /// `deepseek_v3`: V3, R1, and this project's own decoder.
    DeepseekV3,
    /// `deepseek_v32`: V3.2 with sparse attention.
    DeepseekV32,
    /// `deepseek_ocr2_text`: the decoder of DeepSeek-OCR.
    DeepseekOcr2Text,
    /// `mllama_text_model`: the decoder of Llama 3.2 Vision.
    MllamaText,
}

const MODEL_TYPES: [(&str, ModelType); 7] = [
    ("llama", ModelType::Llama),
    ("deepseek", ModelType::Deepseek),
    ("deepseek_v2", ModelType::DeepseekV2),
    ("deepseek_v3", ModelType::DeepseekV3),
    ("deepseek_v32", ModelType::DeepseekV32),
    ("deepseek_ocr2_text", ModelType::DeepseekOcr2Text),
    ("mllama_text_model", ModelType::MllamaText),
];

impl ModelType {
    /// Sigmoid routing with a selection bias is the default of these.
    pub(crate) fn is_v3(self) -> bool {
        matches!(self, Self::DeepseekV3 | Self::DeepseekV32)
    }
}

/// What stands at one layer index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerKind {
    /// Self-attention and a dense SwiGLU.
    Dense,
    /// Self-attention and a mixture of experts.
    Sparse,
    /// Nothing of the decoder's own: the hook (gated cross-attention) is the layer.
    Cross,
}

/// A decoder's shape. Build it with [`LanguageConfig::from_json`].
#[derive(Debug, Clone, PartialEq)]
pub struct LanguageConfig {
    /// Family.
    pub model_type: ModelType,
    /// Rows of the language-model head.
    pub vocab_size: usize,
    /// Rows of the token embedding; more than `vocab_size` in Llama 3.2 Vision.
    pub embedding_rows: usize,
    /// Width of the hidden states.
    pub hidden_size: usize,
    /// Width of a dense SwiGLU.
    pub intermediate_size: usize,
    /// Layers, cross-attention layers included.
    pub num_hidden_layers: usize,
    /// Kind of each layer.
    pub layers: Vec<LayerKind>,
    /// Self-attention of every layer that has one.
    pub attention: AttentionConfig,
    /// Mixture of experts of the sparse layers.
    pub moe: Option<MoeConfig>,
    /// Rotary embedding.
    pub rope: RopeConfig,
    /// Epsilon of the layers' RMS norms.
    pub rms_norm_eps: f64,
    /// Whether the SwiGLU projections have a bias.
    pub mlp_bias: bool,
    /// Whether the head is the token embedding.
    pub tie_word_embeddings: bool,
    /// Longest sequence the model was made for, in tokens.
    pub max_position_embeddings: usize,
    /// Token that begins a sequence.
    pub bos_token_id: Option<u32>,
    /// Tokens that end one.
    pub eos_token_ids: Vec<u32>,
    /// Token that fills up a batch.
    pub pad_token_id: Option<u32>,
}

impl LanguageConfig {
    /// Reads the decoder's own `config.json` object (of a composed model: its `text_config` or `language`).
    ///
    /// # Errors
    /// [`Error::Config`] names a field that is missing, malformed, inconsistent or of an unknown value.
    pub fn from_json(value: &Value) -> Result<Self> {
        let fields = Fields::new(value, "")?;
        let known = || fields.choice("model_type", &MODEL_TYPES);
        let model_type =
            known()?.ok_or_else(|| fields.error("model_type", "the name of a decoder family"))?;
        check_words(&fields)?;
        let hidden_size = fields.size("hidden_size")?;
        let num_hidden_layers = fields.size("num_hidden_layers")?;
        if num_hidden_layers > MAX_LAYERS {
            return Err(fields.error("num_hidden_layers", &format!("at most {MAX_LAYERS}")));
        }
        let attention = AttentionConfig::read(&fields, model_type, hidden_size)?;
        let mllama = model_type == ModelType::MllamaText;
        let rope = RopeConfig::read(&fields, attention.rope_dim(), if mllama { 5e5 } else { 1e4 })?;
        let attention = attention.with_softmax_factor(rope.softmax_factor());
        let moe = MoeConfig::read(&fields, model_type)?;
        let layers = layer_kinds(&fields, model_type, num_hidden_layers, moe.is_some())?;
        let vocab_size = fields.size("vocab_size")?;
        // Some files write -1 for a token that does not exist.
        let exists = |name: &str| fields.get(name).and_then(Value::as_i64).is_none_or(|id| id >= 0);
        let token = |name: &str| {
            let ids = if exists(name) { fields.integers(name)? } else { None };
            Ok::<_, Error>(ids.unwrap_or_default())
        };
        Ok(Self {
            model_type,
            vocab_size,
            embedding_rows: vocab_size + if mllama { 8 } else { 0 },
            hidden_size,
            intermediate_size: fields.size("intermediate_size")?,
            num_hidden_layers,
            layers,
            attention,
            moe,
            max_position_embeddings: rope.max_position_embeddings,
            rope,
            rms_norm_eps: fields.positive_or("rms_norm_eps", if mllama { 1e-5 } else { 1e-6 })?,
            // The V3 classes build their MLP without a bias whatever the file says.
            mlp_bias: fields.flag_or("mlp_bias", false)? && !model_type.is_v3() && !mllama,
            tie_word_embeddings: fields.flag_or("tie_word_embeddings", false)?,
            bos_token_id: token("bos_token_id")?.first().map(|&id| id as u32),
            eos_token_ids: token("eos_token_id")?.into_iter().map(|id| id as u32).collect(),
            pad_token_id: token("pad_token_id")?.first().map(|&id| id as u32),
        })
    }

    /// Indices of the layers that only a hook fills.
    pub fn cross_attention_layers(&self) -> Vec<usize> {
        (0..self.layers.len()).filter(|&i| self.layers[i] == LayerKind::Cross).collect()
    }

    /// Standard deviation of a fresh projection that writes to the residual stream: 0.02 / √(2 L), as GPT-2.
    pub fn residual_std(&self) -> f64 {
        0.02 / (2.0 * self.num_hidden_layers as f64).sqrt()
    }
}

/// Fields whose words must be understood although no number here depends on them.
fn check_words(fields: &Fields) -> Result<()> {
    fields.choice("hidden_act", &[("silu", ()), ("swish", ())])?;
    let types = [("float32", ()), ("float16", ()), ("bfloat16", ())];
    fields.choice("dtype", &types)?;
    fields.choice("torch_dtype", &types)?;
    Ok(())
}

fn layer_kinds(
    fields: &Fields,
    model_type: ModelType,
    count: usize,
    has_experts: bool,
) -> Result<Vec<LayerKind>> {
    if model_type == ModelType::MllamaText {
        let cross = fields.integers("cross_attention_layers")?;
        let cross = cross.unwrap_or_else(|| (3..count).step_by(5).take(8).collect());
        return Ok((0..count)
            .map(|i| if cross.contains(&i) { LayerKind::Cross } else { LayerKind::Dense })
            .collect());
    }
    let words: Vec<&str> =
        fields.list("layer_types")?.into_iter().flatten().filter_map(Value::as_str).collect();
    let expected = if model_type == ModelType::DeepseekV32 { "indexed_attention" } else { "full_attention" };
    if words.iter().any(|&word| word != expected) {
        return Err(fields.error("layer_types", &format!("\"{expected}\" for every layer")));
    }
    if !has_experts {
        return Ok(vec![LayerKind::Dense; count]);
    }
    if let Some(list) = fields.list("mlp_layer_types")? {
        let kind = |word: &Value| match word.as_str() {
            Some("dense") => Some(LayerKind::Dense),
            Some("sparse") => Some(LayerKind::Sparse),
            _ => None,
        };
        let kinds: Option<Vec<_>> = list.iter().map(kind).collect();
        return kinds.filter(|kinds| kinds.len() == count).ok_or_else(|| {
            fields.error("mlp_layer_types", &format!("a list of {count} words, each \"dense\" or \"sparse\""))
        });
    }
    let dense = fields.count("first_k_dense_replace")?.unwrap_or(if model_type.is_v3() { 3 } else { 0 });
    let every = fields.size_or("moe_layer_freq", 1)?;
    let sparse = |i: usize| i >= dense && i.is_multiple_of(every);
    Ok((0..count).map(|i| if sparse(i) { LayerKind::Sparse } else { LayerKind::Dense }).collect())
}
