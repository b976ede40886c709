//! Llama models in llama.cpp's GGUF: tensors under their published names, and the configuration from the metadata.
//!
//! Quantised tensors (`Q8_0`, `Q4_0`, `Q4_K` and the others that candle reads) become `f32`. Values of `Q4_0` survive being
//! quantised to [`Int4Groups`](swinseek_kernels::quant::Int4Groups) again without loss.

use std::{
    collections::BTreeMap,
    fs::File,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use candle_core::{
    Device, Tensor,
    quantized::gguf_file::{Content, TensorInfo, Value as Entry},
};
use serde_json::{Value, json};
use swinseek_kernels::{Error as KernelError, Init, Precision, TensorSource, Weights};

use crate::{Error, Result};

/// An open GGUF file of the architecture `llama`. As a [`TensorSource`] it gives `f32` tensors in the layout of
/// transformers: llama.cpp's order of query and key rows (rotated pairs side by side) is undone.
#[derive(Debug)]
pub struct Gguf {
    path: PathBuf,
    file: Mutex<File>,
    content: Content,
    /// Published name to the name in the file.
    names: BTreeMap<String, String>,
    config: Value,
}

impl Gguf {
    /// Opens a file and reads its header. No tensor is read yet.
    ///
    /// Files of other architectures, with scaled rotations or with tensors that are not understood are refused.
    pub fn open(path: &Path) -> Result<Arc<Self>> {
        let mut file = File::open(path).map_err(|error| Error::file(path, error))?;
        let size = file.metadata().map_err(|error| Error::file(path, error))?.len();
        let content = Content::read(&mut file)
            .map_err(|error| Error::file(path, format!("not a GGUF file, or damaged: {error}")))?;
        let mut names = BTreeMap::new();
        for (name, info) in &content.tensor_infos {
            let published = published_name(name).ok_or_else(|| {
                Error::file(path, format!("tensor `{name}` belongs to no llama that is known here"))
            })?;
            if !fits(info, content.tensor_data_offset, size) {
                let message = format!("tensor `{name}` {:?} goes past the end of the file", info.shape);
                return Err(Error::file(path, message));
            }
            names.insert(published, name.clone());
        }
        let config = config(&content, &names).map_err(|message| Error::file(path, message))?;
        Ok(Arc::new(Self { path: path.to_owned(), file: Mutex::new(file), content, names, config }))
    }

    /// What `config.json` would hold.
    pub fn config(&self) -> &Value {
        &self.config
    }

    /// A view of all tensors for building a model.
    pub fn weights(self: &Arc<Self>, precision: Precision) -> Weights {
        Weights::new(Arc::clone(self) as Arc<dyn TensorSource>, precision)
    }

    /// All parameters by published name, as `f32`: with the configuration what [`save`](super::save) takes.
    pub fn load_all(&self) -> Result<BTreeMap<String, Tensor>> {
        self.names.keys().map(|name| Ok((name.clone(), self.load(name)?))).collect()
    }

    /// The tensor of that published name as `f32`.
    pub fn load(&self, name: &str) -> Result<Tensor> {
        let stored =
            self.names.get(name).ok_or_else(|| KernelError::MissingTensor { name: name.to_owned() })?;
        let quantized = {
            let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
            self.content.tensor(&mut *file, stored, &Device::Cpu)
        };
        let read = || {
            let tensor = quantized?.dequantize(&Device::Cpu)?;
            match self.paired_heads(stored) {
                Some(heads) => unpaired(&tensor, heads),
                None => Ok(tensor),
            }
        };
        read().map_err(|error: candle_core::Error| {
            Error::file(&self.path, format!("tensor `{stored}` cannot be read: {error}"))
        })
    }

    /// How many heads the rows of a tensor belong to, if llama.cpp reorders them.
    fn paired_heads(&self, stored: &str) -> Option<usize> {
        let field = match stored.split('.').nth(2)? {
            "attn_q" => "num_attention_heads",
            "attn_k" => "num_key_value_heads",
            _ => return None,
        };
        self.config[field].as_u64().map(|heads| heads as usize)
    }
}

impl TensorSource for Gguf {
    fn tensor(&self, name: &str, shape: &[usize], _init: Init) -> swinseek_kernels::Result<Tensor> {
        self.check(name, shape)?;
        self.load(name).map_err(|error| KernelError::Input(error.to_string()))
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        Some(self.content.tensor_infos.get(self.names.get(name)?)?.shape.dims().to_vec())
    }

    fn is_lasting(&self) -> bool {
        true
    }
}

/// Whether a tensor's bytes lie inside the file, whatever its header claims.
fn fits(info: &TensorInfo, start: u64, size: u64) -> bool {
    let dims = info.shape.dims().iter().map(|&dim| dim as u64);
    let elements = dims.into_iter().try_fold(1u64, u64::checked_mul);
    let kind = info.ggml_dtype;
    let bytes = elements.and_then(|n| (n / kind.block_size() as u64).checked_mul(kind.type_size() as u64));
    let end = bytes.and_then(|bytes| bytes.checked_add(info.offset)?.checked_add(start));
    end.is_some_and(|end| end <= size)
}

/// The name in published llamas of a tensor that llama.cpp calls `name`.
fn published_name(name: &str) -> Option<String> {
    match name {
        "token_embd.weight" => return Some("model.embed_tokens.weight".to_owned()),
        "output_norm.weight" => return Some("model.norm.weight".to_owned()),
        "output.weight" => return Some("lm_head.weight".to_owned()),
        _ => {}
    }
    let (layer, rest) = name.strip_prefix("blk.")?.split_once('.')?;
    let (part, leaf) = rest.split_once('.')?;
    let layer: usize = layer.parse().ok()?;
    let part = match part {
        "attn_norm" => "input_layernorm",
        "attn_q" => "self_attn.q_proj",
        "attn_k" => "self_attn.k_proj",
        "attn_v" => "self_attn.v_proj",
        "attn_output" => "self_attn.o_proj",
        "ffn_norm" => "post_attention_layernorm",
        "ffn_gate" => "mlp.gate_proj",
        "ffn_up" => "mlp.up_proj",
        "ffn_down" => "mlp.down_proj",
        _ => return None,
    };
    matches!(leaf, "weight" | "bias").then(|| format!("model.layers.{layer}.{part}.{leaf}"))
}

/// `config.json` from the metadata, or what is wrong with them.
fn config(content: &Content, names: &BTreeMap<String, String>) -> std::result::Result<Value, String> {
    let entry = |name: &str| content.metadata.get(name);
    match entry("general.architecture") {
        Some(Entry::String(name)) if name == "llama" => {}
        found => return Err(format!("`general.architecture` is {found:?}, expected llama")),
    }
    if let Some(Entry::String(scaling)) = entry("llama.rope.scaling.type")
        && scaling != "none"
    {
        return Err(format!("`llama.rope.scaling.type` is {scaling}, expected none"));
    }
    let optional = |name: &str| entry(&format!("llama.{name}")).and_then(|value| value.to_u64().ok());
    let number = |name: &str| {
        optional(name)
            .filter(|&value| value > 0)
            .ok_or_else(|| format!("`llama.{name}` is missing, expected a positive integer"))
    };
    let heads = number("attention.head_count")?;
    let eps = entry("llama.attention.layer_norm_rms_epsilon").and_then(|value| value.to_f32().ok());
    let eps = eps.ok_or("`llama.attention.layer_norm_rms_epsilon` is missing, expected a number")?;
    let theta = entry("llama.rope.freq_base").and_then(|value| value.to_f32().ok()).unwrap_or(10_000.0);
    let embedding = names.get("model.embed_tokens.weight").and_then(|name| content.tensor_infos.get(name));
    let vocabulary = embedding.and_then(|info| info.shape.dims().first().copied());
    let hidden = number("embedding_length")?;
    let head_dim = optional("attention.key_length").unwrap_or(hidden / heads);
    if let Some(rotated) = optional("rope.dimension_count").filter(|&rotated| rotated != head_dim) {
        return Err(format!("`llama.rope.dimension_count` is {rotated}, expected all {head_dim} of a head"));
    }
    let has = |name: &str| names.contains_key(&format!("model.layers.0.{name}"));
    // Decimal values come back as they were written, not as the nearest `f32` in full.
    let decimal = |value: f32| value.to_string().parse::<f64>().unwrap_or(f64::from(value));
    Ok(json!({
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "vocab_size": vocabulary.ok_or("tensor `token_embd.weight` is missing")?,
        "hidden_size": hidden,
        "intermediate_size": number("feed_forward_length")?,
        "num_hidden_layers": number("block_count")?,
        "num_attention_heads": heads,
        "num_key_value_heads": optional("attention.head_count_kv").filter(|&n| n > 0).unwrap_or(heads),
        "head_dim": head_dim,
        "max_position_embeddings": number("context_length")?,
        "rms_norm_eps": decimal(eps),
        "rope_theta": decimal(theta),
        "attention_bias": has("self_attn.q_proj.bias"),
        "mlp_bias": has("mlp.gate_proj.bias"),
        "tie_word_embeddings": !names.contains_key("lm_head.weight"),
        "bos_token_id": entry("tokenizer.ggml.bos_token_id").and_then(|value| value.to_u64().ok()),
        "eos_token_id": entry("tokenizer.ggml.eos_token_id").and_then(|value| value.to_u64().ok()),
    }))
}

/// Rows of heads from rotated pairs side by side to first halves, then second ones.
fn unpaired(tensor: &Tensor, heads: usize) -> candle_core::Result<Tensor> {
    let rows = tensor.dim(0)?;
    if heads == 0 || !rows.is_multiple_of(2 * heads) {
        candle_core::bail!("{rows} rows are no {heads} heads of pairs");
    }
    let pairs = tensor.reshape((heads, rows / heads / 2, 2, ()))?;
    pairs.transpose(1, 2)?.contiguous()?.reshape(tensor.shape())
}
