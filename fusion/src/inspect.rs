//! `inspect`: what a model directory holds, from its configuration and its headers alone.

use std::{collections::BTreeMap, path::Path};

use serde::Serialize;
use serde_json::Value;
use swinseek_language::LanguageConfig;
use swinseek_vision::VisionConfig;

use crate::{
    Error, Result, checkpoint::Checkpoint, config::ModelConfig, donut::DonutConfig, load::Architecture,
};

/// Summary of a model directory.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Class that `config.json` names.
    pub architecture: String,
    /// Number of parameters.
    pub parameters: u64,
    /// Parameters that one token passes through: of the routed experts only those that it uses.
    pub active_parameters: u64,
    /// Parameters by part of the model (`language.experts`, `vision.blocks`...).
    pub parts: BTreeMap<String, u64>,
    /// Parameters by stored type (`F32`, `I8`...).
    pub dtypes: BTreeMap<String, u64>,
    /// Parameters of low-rank adapters, whose products are added to the model's own.
    pub adapter_parameters: u64,
    /// Size of the weight files in bytes.
    pub size_bytes: u64,
    /// Most tokens of prompt and answer, for models with a decoder.
    pub context_length: Option<usize>,
    /// Rows of the vocabulary, for models with a decoder.
    pub vocab_size: Option<usize>,
    /// Width of the decoder's hidden states.
    pub hidden_size: Option<usize>,
    /// Decoder layers.
    pub num_hidden_layers: Option<usize>,
    /// Routed experts per layer and how many a token uses.
    pub experts: Option<[usize; 2]>,
    /// Image size that the encoder was configured for, `[height, width]` in pixels.
    pub image_size: Option<[usize; 2]>,
    /// BLAKE3 of configuration and weights, in hex.
    pub digest: String,
}

/// Reads the summary of `dir`.
pub fn inspect(dir: &Path) -> Result<Summary> {
    let checkpoint = Checkpoint::open(dir)?;
    let shape = Shape::read(checkpoint.config()).map_err(|error| Error::model(dir, error))?;
    let (mut parts, mut dtypes) = (BTreeMap::new(), BTreeMap::new());
    let (mut parameters, mut routed) = (0u64, 0u64);
    for name in checkpoint.names() {
        let Some((dtype, dims)) = checkpoint.info(name) else {
            continue;
        };
        if checkpoint.is_scale(name) || dtype == "I64" {
            continue;
        }
        let count = dims.iter().product::<usize>() as u64;
        parameters += count;
        routed += if name.contains(".mlp.experts.") { count } else { 0 };
        *parts.entry(part(name)).or_default() += count;
        *dtypes.entry(dtype).or_default() += count;
    }
    let idle = shape.experts.map_or(0, |[all, used]| routed - routed * used as u64 / all as u64);
    Ok(Summary {
        architecture: class(checkpoint.config()),
        parameters,
        active_parameters: parameters - idle,
        parts,
        dtypes,
        adapter_parameters: checkpoint.adapter_parameters(),
        size_bytes: checkpoint.size_bytes(),
        context_length: shape.context_length,
        vocab_size: shape.vocab_size,
        hidden_size: shape.hidden_size,
        num_hidden_layers: shape.num_hidden_layers,
        experts: shape.experts,
        image_size: shape.image_size.map(|(height, width)| [height, width]),
        digest: checkpoint.digest().to_owned(),
    })
}

/// The class that a configuration names.
pub(crate) fn class(config: &Value) -> String {
    let name = config.pointer("/architectures/0").or_else(|| config.get("architecture"));
    name.and_then(Value::as_str).unwrap_or("unnamed").to_owned()
}

/// The part of the model that a tensor belongs to.
fn part(name: &str) -> String {
    const KINDS: [(&str, &str); 13] = [
        ("cross_layers", "cross_attention"),
        ("cross_attn", "cross_attention"),
        ("encoder_attn", "cross_attention"),
        ("projector", "projector"),
        ("findings_head", "heads"),
        (".experts.", "experts"),
        ("embed", "embeddings"),
        ("lm_head", "heads"),
        ("classifier", "heads"),
        ("head.", "heads"),
        ("blocks", "blocks"),
        ("self_attn", "attention"),
        ("mlp", "mlp"),
    ];
    let kind = KINDS.iter().find(|(pattern, _)| name.contains(pattern)).map_or("other", |(_, kind)| kind);
    let half = name
        .split('.')
        .next()
        .filter(|half| ["vision", "language", "fusion", "encoder", "decoder"].contains(half));
    half.map_or_else(|| kind.to_owned(), |half| format!("{half}.{kind}"))
}

/// Sizes from the configuration, where the architecture has them.
#[derive(Default)]
struct Shape {
    context_length: Option<usize>,
    vocab_size: Option<usize>,
    hidden_size: Option<usize>,
    num_hidden_layers: Option<usize>,
    experts: Option<[usize; 2]>,
    image_size: Option<(usize, usize)>,
}

impl Shape {
    fn read(config: &Value) -> swinseek_kernels::Result<Self> {
        Ok(match Architecture::detect(config)? {
            Architecture::SwinSeek => {
                let config = ModelConfig::from_json(config)?;
                Self { image_size: Some(config.vision.image_size), ..Self::of_decoder(&config.language) }
            }
            Architecture::Language | Architecture::MllamaText => {
                Self::of_decoder(&LanguageConfig::from_json(config)?)
            }
            Architecture::Donut => {
                let config = DonutConfig::from_json(config)?;
                Self {
                    context_length: Some(config.decoder.max_positions),
                    vocab_size: Some(config.decoder.vocab_size),
                    hidden_size: Some(config.decoder.hidden_size),
                    num_hidden_layers: Some(config.decoder.num_layers),
                    image_size: Some(config.encoder.image_size),
                    ..Self::default()
                }
            }
            Architecture::Vision => {
                let config = VisionConfig::from_json(config)?;
                Self { image_size: Some(config.image_size), ..Self::default() }
            }
        })
    }

    fn of_decoder(config: &LanguageConfig) -> Self {
        Self {
            context_length: Some(config.max_position_embeddings),
            vocab_size: Some(config.vocab_size),
            hidden_size: Some(config.hidden_size),
            num_hidden_layers: Some(config.num_hidden_layers),
            experts: config.moe.as_ref().map(|moe| [moe.num_experts, moe.top_k]),
            image_size: None,
        }
    }
}
