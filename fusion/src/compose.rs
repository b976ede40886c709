//! `compose`: a vision directory and a language directory become one model with fresh fusion layers.
//!
//! Gates of fresh cross layers are zero, so the composed model writes exactly what its decoder wrote, until the
//! fusion is trained.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use candle_core::Tensor;
use serde_json::{Value, json};
use swinseek_kernels::{
    Error as KernelError, Init, Precision, Result as KernelResult, TensorSource, Weights,
};

use crate::{
    Error, Result,
    checkpoint::{Checkpoint, FreshSource, StoredType, save, write_atomic},
    config::{ARCHITECTURE, ModelConfig},
    load::Architecture,
    model::SwinSeek,
};

/// Files that belong to the text side, copied if they exist.
const LANGUAGE_FILES: [&str; 5] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "generation_config.json",
    "chat_template.jinja",
];
/// Files that belong to the image side, copied if they exist.
const VISION_FILES: [&str; 1] = ["preprocessor_config.json"];

/// How to join.
#[derive(Debug, Clone)]
pub struct ComposeOptions {
    /// The `fusion` object of the new configuration; what it leaves out gets a default
    /// ([`FusionConfig`](crate::config::FusionConfig)), `{}` means a cross layer before every third decoder layer.
    pub fusion: Value,
    /// How all weights are stored.
    pub stored: StoredType,
    /// Seed of the fresh layers.
    pub seed: u64,
}

impl Default for ComposeOptions {
    fn default() -> Self {
        Self { fusion: json!({}), stored: StoredType::F32, seed: 0 }
    }
}

/// Joins the encoder in `vision` and the decoder in `language` and writes the model to `out`.
pub fn compose(vision: &Path, language: &Path, out: &Path, options: &ComposeOptions) -> Result<()> {
    let encoder = open(vision, Architecture::Vision, "an encoder")?;
    let decoder = open(language, Architecture::Language, "a decoder")?;
    let config =
        configuration(&encoder, &decoder, &options.fusion).map_err(|error| Error::model(out, error))?;
    let source = Arc::new(Joined {
        parts: [("vision.", Arc::clone(&encoder)), ("language.", Arc::clone(&decoder))],
        fresh: FreshSource::new(options.seed),
        parameters: Mutex::default(),
    });
    let weights = Weights::new(Arc::clone(&source) as Arc<dyn TensorSource>, Precision::F32);
    let parsed = ModelConfig::from_json(&config).map_err(|error| Error::model(out, error))?;
    let model = SwinSeek::new(&parsed, &weights).map_err(|error| Error::model(out, error))?;
    if !model.decoder().has_head() {
        return Err(Error::file(language, "has no `lm_head.weight`, expected a decoder with a head"));
    }
    encoder.check_unused()?;
    decoder.check_unused()?;
    let config = with_defaults(config, &parsed);
    let parameters = source.parameters.lock().unwrap_or_else(PoisonError::into_inner);
    save(out, &config, &parameters, options.stored)?;
    copy_files(&encoder, out, &VISION_FILES)?;
    copy_files(&decoder, out, &LANGUAGE_FILES)
}

fn open(dir: &Path, expected: Architecture, what: &str) -> Result<Arc<Checkpoint>> {
    let checkpoint = Checkpoint::open(dir)?;
    let found = Architecture::detect(checkpoint.config()).map_err(|error| Error::model(dir, error))?;
    if found != expected {
        return Err(Error::file(dir, format!("holds a model of kind {found:?}, expected {what}")));
    }
    Ok(checkpoint)
}

fn configuration(encoder: &Checkpoint, decoder: &Checkpoint, fusion: &Value) -> KernelResult<Value> {
    let mut fusion = fusion.clone();
    let object = fusion.as_object_mut().ok_or_else(|| KernelError::config("fusion", "is not an object"))?;
    let mode = object.entry("mode").or_insert_with(|| json!("cross_attention"));
    if mode == "cross_attention" && !object.contains_key("cross_attention_layers") {
        let layers = decoder.config().get("num_hidden_layers").and_then(Value::as_u64).unwrap_or(1);
        let every_third: Vec<u64> = (0..layers).skip(usize::from(layers > 1)).step_by(3).collect();
        object.insert("cross_attention_layers".to_owned(), json!(every_third));
    }
    Ok(json!({
        "architectures": [ARCHITECTURE],
        "model_type": "swinseek",
        "vision": encoder.config(),
        "language": decoder.config(),
        "fusion": fusion,
    }))
}

/// Writes every choice down, so that later defaults cannot change the model.
fn with_defaults(mut config: Value, parsed: &ModelConfig) -> Value {
    config["fusion"] = parsed.fusion.to_json();
    config
}

fn copy_files(from: &Checkpoint, to: &Path, names: &[&str]) -> Result<()> {
    for path in names.iter().map(|name| from.file(name)).filter(|path| path.is_file()) {
        let bytes = std::fs::read(&path).map_err(|error| Error::file(&path, error))?;
        write_atomic(&to.join(path.file_name().unwrap_or_default()), &bytes)?;
    }
    Ok(())
}

/// Two checkpoints below their prefixes, and new parameters for all other names. Keeps what the model reads.
struct Joined {
    parts: [(&'static str, Arc<Checkpoint>); 2],
    fresh: FreshSource,
    parameters: Mutex<BTreeMap<String, Tensor>>,
}

impl Joined {
    fn part<'a>(&self, name: &'a str) -> Option<(&Checkpoint, &'a str)> {
        self.parts.iter().find_map(|(prefix, part)| Some((part.as_ref(), name.strip_prefix(prefix)?)))
    }
}

impl TensorSource for Joined {
    fn tensor(&self, name: &str, shape: &[usize], init: Init) -> KernelResult<Tensor> {
        let tensor = match self.part(name) {
            Some((part, inner)) => part.tensor(inner, shape, init)?,
            None => self.fresh.tensor(name, shape, init)?,
        };
        let mut parameters = self.parameters.lock().unwrap_or_else(PoisonError::into_inner);
        parameters.insert(name.to_owned(), tensor.clone());
        Ok(tensor)
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        let (part, inner) = self.part(name)?;
        part.shape(inner)
    }
}
