//! The mBART decoder (Liu et al. 2020) that Donut and Nougat put behind a Swin encoder: pre-norm layers with
//! learned positions, causal self-attention and cross-attention to the image in every layer.

use candle_core::{Device, Tensor};
use serde_json::Value;
use swinseek_kernels::{
    Error, Result, Trace, Weights,
    layers::{FeedForward, LayerNorm, Linear},
    ops::{
        activation::Activation,
        attention::{Mask, attention_in},
    },
    threads::awake,
};

/// The first two rows of the position table are never used (a leftover of fairseq's padding index).
const POSITION_OFFSET: usize = 2;
const LAYER_NORM_EPS: f64 = 1e-5;

/// Sizes of an mBART decoder, as in `config.json` of the `mbart` model type.
#[derive(Debug, Clone, PartialEq)]
pub struct MbartConfig {
    /// Rows of the token embedding.
    pub vocab_size: usize,
    /// Width of the hidden states (`d_model`).
    pub hidden_size: usize,
    /// Number of layers (`decoder_layers`).
    pub num_layers: usize,
    /// Heads of both attentions (`decoder_attention_heads`).
    pub num_heads: usize,
    /// Width of the feed-forward layer (`decoder_ffn_dim`).
    pub ffn_size: usize,
    /// Longest sequence (`max_position_embeddings`).
    pub max_positions: usize,
    /// Multiply embeddings by `√d_model`.
    pub scale_embedding: bool,
    /// Feed-forward non-linearity.
    pub activation: Activation,
    /// The output matrix is the embedding.
    pub tie_word_embeddings: bool,
}

impl MbartConfig {
    /// Reads the decoder's part of `config.json`; an error names the field.
    pub fn from_json(json: &Value) -> Result<Self> {
        let flag = |field: &str, default: bool| json.get(field).and_then(Value::as_bool).unwrap_or(default);
        let activation = match json.get("activation_function").and_then(Value::as_str).unwrap_or("gelu") {
            "gelu" => Activation::Gelu,
            "relu" => Activation::Relu,
            other => {
                return Err(Error::config(
                    "activation_function",
                    format!("is `{other}`, expected gelu or relu"),
                ));
            }
        };
        let config = Self {
            vocab_size: size(json, "vocab_size")?,
            hidden_size: size(json, "d_model")?,
            num_layers: size(json, "decoder_layers")?,
            num_heads: size(json, "decoder_attention_heads")?,
            ffn_size: size(json, "decoder_ffn_dim")?,
            max_positions: size(json, "max_position_embeddings")?,
            scale_embedding: flag("scale_embedding", false),
            activation,
            tie_word_embeddings: flag("tie_word_embeddings", true),
        };
        if !config.hidden_size.is_multiple_of(config.num_heads) {
            let message = format!(
                "is {}, expected a multiple of decoder_attention_heads = {}",
                config.hidden_size, config.num_heads
            );
            return Err(Error::config("d_model", message));
        }
        Ok(config)
    }
}

fn size(json: &Value, field: &str) -> Result<usize> {
    let value =
        json.get(field).ok_or_else(|| Error::config(field, "is missing, expected a positive integer"))?;
    let number = value.as_u64().and_then(|n| u32::try_from(n).ok()).filter(|&n| n > 0);
    number
        .map(|n| n as usize)
        .ok_or_else(|| Error::config(field, format!("is {value}, expected a positive integer")))
}

/// Keys and values `(batch, tokens, heads, head_dim)` of one attention.
#[derive(Debug, Clone)]
struct KeyValue {
    key: Tensor,
    value: Tensor,
}

impl KeyValue {
    fn select_rows(&self, index: &Tensor) -> Result<Self> {
        Ok(Self { key: self.key.index_select(index, 0)?, value: self.value.index_select(index, 0)? })
    }

    fn append(&self, next: &Self) -> Result<Self> {
        Ok(Self {
            key: Tensor::cat(&[&self.key, &next.key], 1)?,
            value: Tensor::cat(&[&self.value, &next.value], 1)?,
        })
    }
}

/// The image as every layer sees it: keys and values, computed once per image.
#[derive(Debug, Clone)]
pub struct MbartMemory(Vec<KeyValue>);

/// Self-attention keys and values of the tokens so far.
#[derive(Debug, Clone, Default)]
pub struct MbartCache {
    layers: Vec<KeyValue>,
}

impl MbartCache {
    /// Tokens held.
    pub fn len(&self) -> usize {
        self.layers.first().and_then(|layer| layer.key.dim(1).ok()).unwrap_or(0)
    }

    /// Whether no token was run yet.
    pub fn is_empty(&self) -> bool {
        self.layers.is_empty()
    }

    /// Keeps batch rows `rows`, in that order; a row may repeat (beam search).
    pub fn select_rows(&mut self, rows: &[usize]) -> Result<()> {
        let Some(device) = self.layers.first().map(|layer| layer.key.device().clone()) else { return Ok(()) };
        let index = row_index(rows, &device)?;
        for layer in &mut self.layers {
            *layer = layer.select_rows(&index)?;
        }
        Ok(())
    }
}

impl MbartMemory {
    /// Batch rows `rows`, in that order; a row may repeat.
    pub fn select_rows(&self, rows: &[usize]) -> Result<Self> {
        let Some(first) = self.0.first() else { return Ok(self.clone()) };
        let index = row_index(rows, first.key.device())?;
        Ok(Self(self.0.iter().map(|layer| layer.select_rows(&index)).collect::<Result<_>>()?))
    }
}

fn row_index(rows: &[usize], device: &Device) -> Result<Tensor> {
    Ok(Tensor::from_iter(rows.iter().map(|&row| row as u32), device)?)
}

#[derive(Debug)]
struct Attention {
    query: Linear,
    key: Linear,
    value: Linear,
    out: Linear,
    heads: usize,
    head_dim: usize,
}

impl Attention {
    fn new(config: &MbartConfig, w: &Weights) -> Result<Self> {
        let dim = config.hidden_size;
        let linear = |name: &str| Linear::new(dim, dim, &w.pp(name));
        Ok(Self {
            query: linear("q_proj")?,
            key: linear("k_proj")?,
            value: linear("v_proj")?,
            out: linear("out_proj")?,
            heads: config.num_heads,
            head_dim: dim / config.num_heads,
        })
    }

    fn split(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, tokens, _) = x.dims3()?;
        Ok(x.reshape((batch, tokens, self.heads, self.head_dim))?)
    }

    fn key_value(&self, x: &Tensor) -> Result<KeyValue> {
        Ok(KeyValue { key: self.split(&self.key.forward(x)?)?, value: self.split(&self.value.forward(x)?)? })
    }

    fn forward(&self, x: &Tensor, kv: &KeyValue, mask: Mask) -> Result<Tensor> {
        let query = self.split(&self.query.forward(x)?)?;
        let scale = (self.head_dim as f64).powf(-0.5);
        let out = attention_in(self.query.precision(), &query, &kv.key, &kv.value, mask, scale)?;
        self.out.forward(&out.flatten_from(2)?)
    }
}

#[derive(Debug)]
struct Layer {
    self_norm: LayerNorm,
    self_attention: Attention,
    cross_norm: LayerNorm,
    cross_attention: Attention,
    mlp: FeedForward,
}

impl Layer {
    fn new(config: &MbartConfig, w: &Weights) -> Result<Self> {
        let norm = |name: &str| LayerNorm::new(config.hidden_size, LAYER_NORM_EPS, &w.pp(name));
        Ok(Self {
            self_norm: norm("self_attn_layer_norm")?,
            self_attention: Attention::new(config, &w.pp("self_attn"))?,
            cross_norm: norm("encoder_attn_layer_norm")?,
            cross_attention: Attention::new(config, &w.pp("encoder_attn"))?,
            mlp: FeedForward {
                norm: Some(norm("final_layer_norm")?.into()),
                gate: None,
                up: Linear::new(config.hidden_size, config.ffn_size, &w.pp("fc1"))?,
                activation: config.activation,
                down: Linear::new(config.ffn_size, config.hidden_size, &w.pp("fc2"))?,
                post_norm: None,
            },
        })
    }

    /// The layer's output and the keys and values of all tokens so far.
    fn forward(
        &self,
        x: &Tensor,
        past: Option<&KeyValue>,
        memory: &KeyValue,
        mask: Mask,
    ) -> Result<(Tensor, KeyValue)> {
        let normed = self.self_norm.forward(x)?;
        let new = self.self_attention.key_value(&normed)?;
        let kv = match past {
            Some(past) => past.append(&new)?,
            None => new,
        };
        let x = (x + self.self_attention.forward(&normed, &kv, mask)?)?;
        let x = (&x + self.cross_attention.forward(&self.cross_norm.forward(&x)?, memory, Mask::None)?)?;
        Ok((self.mlp.forward_residual(&x)?, kv))
    }
}

/// The decoder with its (usually tied) head.
#[derive(Debug)]
pub struct MbartDecoder {
    embedding: Tensor,
    positions: Tensor,
    embedding_norm: LayerNorm,
    layers: Vec<Layer>,
    norm: LayerNorm,
    head: Linear,
    config: MbartConfig,
}

impl MbartDecoder {
    /// Reads `model.decoder.*` and, when the head is not tied, `lm_head.weight`.
    pub fn new(config: &MbartConfig, w: &Weights) -> Result<Self> {
        let (dim, vocab) = (config.hidden_size, config.vocab_size);
        let decoder = w.pp("model.decoder");
        let embedding = decoder.pp("embed_tokens").get(&[vocab, dim], "weight")?;
        let layers = decoder.pp("layers");
        let head = if config.tie_word_embeddings {
            Linear::from_parts(embedding.clone(), None, w.precision())
        } else {
            Linear::no_bias(dim, vocab, &w.pp("lm_head"))?
        };
        Ok(Self {
            positions: decoder
                .pp("embed_positions")
                .get(&[config.max_positions + POSITION_OFFSET, dim], "weight")?,
            embedding_norm: LayerNorm::new(dim, LAYER_NORM_EPS, &decoder.pp("layernorm_embedding"))?,
            layers: (0..config.num_layers)
                .map(|i| Layer::new(config, &layers.pp(i)))
                .collect::<Result<_>>()?,
            norm: LayerNorm::new(dim, LAYER_NORM_EPS, &decoder.pp("layer_norm"))?,
            embedding,
            head,
            config: config.clone(),
        })
    }

    /// The configuration this was built from.
    pub fn config(&self) -> &MbartConfig {
        &self.config
    }

    /// Keys and values of `encoder_hidden (batch, tokens, d_model)` for every layer.
    pub fn memory(&self, encoder_hidden: &Tensor) -> Result<MbartMemory> {
        let layers = self.layers.iter().map(|layer| layer.cross_attention.key_value(encoder_hidden));
        Ok(MbartMemory(layers.collect::<Result<_>>()?))
    }

    /// `ids (batch, tokens)` after the tokens in `cache` to hidden states `(batch, tokens, d_model)` after the last
    /// norm. Padding may only stand on the right: positions count from the first token, so what a causal row sees
    /// needs no further mask. Records `hidden.N` and `final_norm`.
    pub fn forward(
        &self,
        ids: &Tensor,
        memory: &MbartMemory,
        cache: Option<&mut MbartCache>,
        trace: &mut Trace,
    ) -> Result<Tensor> {
        let past = cache.as_ref().map_or(0, |cache| cache.len());
        let _awake = awake();
        let mut x = self.embed(ids, past)?;
        trace.record("hidden.0", &x);
        let mut kept = Vec::with_capacity(self.layers.len());
        for (i, layer) in self.layers.iter().enumerate() {
            let seen = cache.as_ref().and_then(|cache| cache.layers.get(i));
            let (next, kv) = layer.forward(&x, seen, &memory.0[i], Mask::Causal { offset: past })?;
            trace.record(format!("hidden.{}", i + 1), &next);
            kept.push(kv);
            x = next;
        }
        if let Some(cache) = cache {
            cache.layers = kept;
        }
        let x = self.norm.forward(&x)?;
        trace.record("final_norm", &x);
        Ok(x)
    }

    /// Logits `(.., vocab)` of hidden states `(.., d_model)`.
    pub fn lm_head(&self, hidden: &Tensor) -> Result<Tensor> {
        self.head.forward(hidden)
    }

    fn embed(&self, ids: &Tensor, past: usize) -> Result<Tensor> {
        let (batch, tokens) = ids.dims2()?;
        if past + tokens > self.config.max_positions {
            let (found, limit) = (past + tokens, self.config.max_positions);
            return Err(Error::Input(format!(
                "{found} tokens, expected at most max_position_embeddings = {limit}"
            )));
        }
        let flat = ids.flatten_all()?;
        if let Some(id) = flat.to_vec1::<u32>()?.into_iter().find(|&id| id as usize >= self.config.vocab_size)
        {
            return Err(Error::Input(format!(
                "token id {id}, expected less than vocab_size = {}",
                self.config.vocab_size
            )));
        }
        let embedded = self
            .embedding
            .index_select(&flat.to_device(self.embedding.device())?, 0)?
            .reshape((batch, tokens, self.config.hidden_size))?;
        let scale = if self.config.scale_embedding { (self.config.hidden_size as f64).sqrt() } else { 1.0 };
        let positions = self.positions.narrow(0, past + POSITION_OFFSET, tokens)?;
        self.embedding_norm.forward(&(embedded * scale)?.broadcast_add(&positions)?)
    }
}
