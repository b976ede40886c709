//! From a directory to a model that runs, whatever published architecture it holds.

use std::{path::Path, sync::Arc};

use candle_core::Tensor;
use serde_json::Value;
use swinseek_kernels::{Compute, Error as KernelError, Result as KernelResult, Trace, Weights};
use swinseek_language::{Cache, Context, Decoder, LanguageConfig, NoHook};
use swinseek_vision::{Encoder, VisionConfig};

use crate::{
    Error, Result,
    checkpoint::{Checkpoint, read_json},
    config::{ARCHITECTURE, ModelConfig},
    donut::{Donut, DonutConfig},
    generate::TokenModel,
    mllama::MllamaText,
    model::SwinSeek,
};

/// A tokenizer file larger than this is not one.
const TOKENIZER_LIMIT: u64 = 256 << 20;

/// What kind of model a `config.json` describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// Our joined model.
    SwinSeek,
    /// A vision encoder–decoder: Donut.
    Donut,
    /// The text half of Llama-3.2-Vision.
    MllamaText,
    /// A llama or DeepSeek decoder.
    Language,
    /// A Swin encoder.
    Vision,
}

impl Architecture {
    /// By `architectures`, `model_type` and, for timm, `architecture`.
    pub fn detect(config: &Value) -> KernelResult<Self> {
        let text = |at: &str| config.pointer(at).and_then(Value::as_str);
        let class = text("/architectures/0").unwrap_or("");
        if class == ARCHITECTURE {
            return Ok(Self::SwinSeek);
        }
        if class.ends_with("ForSequenceClassification") {
            return Err(KernelError::config(
                "architectures",
                format!("names {class}, which has no implementation here"),
            ));
        }
        match text("/model_type") {
            None if config.get("architecture").is_some() => Ok(Self::Vision),
            Some("swin" | "swinv2" | "donut-swin") => Ok(Self::Vision),
            Some("vision-encoder-decoder") => Ok(Self::Donut),
            Some("mllama_text_model") => Ok(Self::MllamaText),
            Some(
                "llama" | "deepseek" | "deepseek_v2" | "deepseek_v3" | "deepseek_v32" | "deepseek_ocr2_text",
            ) => Ok(Self::Language),
            found => {
                let expected = "swin, swinv2, donut-swin, vision-encoder-decoder, mllama_text_model, llama, deepseek, \
                     deepseek_v2, deepseek_v3, deepseek_v32, deepseek_ocr2_text, a timm `architecture`, or the \
                     architecture SwinSeekForConditionalGeneration";
                let found = found.unwrap_or("missing");
                Err(KernelError::config("model_type", format!("is {found}, expected one of {expected}")))
            }
        }
    }
}

/// A model of any architecture.
#[derive(Debug)]
pub enum Model {
    /// Our joined model.
    SwinSeek(Box<SwinSeek>),
    /// Donut.
    Donut(Box<Donut>),
    /// The text half of Llama-3.2-Vision.
    MllamaText(Box<MllamaText>),
    /// A decoder.
    Language(Box<LanguageModel>),
    /// An encoder.
    Vision(Box<Encoder>),
}

impl Model {
    /// Builds the model that `config` describes.
    pub fn new(config: &Value, w: &Weights) -> KernelResult<Self> {
        Ok(match Architecture::detect(config)? {
            Architecture::SwinSeek => {
                Self::SwinSeek(Box::new(SwinSeek::new(&ModelConfig::from_json(config)?, w)?))
            }
            Architecture::Donut => Self::Donut(Box::new(Donut::new(&DonutConfig::from_json(config)?, w)?)),
            Architecture::MllamaText => {
                Self::MllamaText(Box::new(MllamaText::new(&LanguageConfig::from_json(config)?, w)?))
            }
            Architecture::Language => {
                Self::Language(Box::new(LanguageModel::new(LanguageConfig::from_json(config)?, w)?))
            }
            Architecture::Vision => {
                Self::Vision(Box::new(Encoder::new(&VisionConfig::from_json(config)?, w)?))
            }
        })
    }
}

/// A decoder on its own.
#[derive(Debug)]
pub struct LanguageModel {
    config: LanguageConfig,
    decoder: Decoder,
}

impl LanguageModel {
    /// Reads the decoder.
    pub fn new(config: LanguageConfig, w: &Weights) -> KernelResult<Self> {
        Ok(Self { decoder: Decoder::new(&config, w)?, config })
    }

    /// The configuration this was built from.
    pub fn config(&self) -> &LanguageConfig {
        &self.config
    }
}

impl TokenModel for LanguageModel {
    type Cache = Cache;

    fn context_length(&self) -> usize {
        self.config.max_position_embeddings
    }

    fn new_cache(&self) -> Cache {
        Cache::new(&self.config)
    }

    fn forward(
        &self,
        ids: &Tensor,
        context: &Context,
        cache: Option<&mut Cache>,
        trace: &mut Trace,
    ) -> KernelResult<Tensor> {
        self.decoder.forward(&self.decoder.embed(ids)?, context, cache, &NoHook, trace)
    }

    fn head(&self, hidden: &Tensor) -> KernelResult<Tensor> {
        self.decoder.lm_head(hidden)
    }

    fn select_rows(&self, cache: &mut Cache, rows: &[usize]) -> KernelResult<()> {
        cache.select_rows(rows)
    }
}

/// A directory's model with the files that surround it.
#[derive(Debug)]
pub struct LoadedModel {
    /// `config.json`.
    pub config: Value,
    /// The model.
    pub model: Model,
    /// `tokenizer.json`, if there is one.
    pub tokenizer: Option<Vec<u8>>,
    /// `tokenizer_config.json`, if there is one: special tokens and the chat template.
    pub tokenizer_config: Option<Value>,
    /// `preprocessor_config.json`, if there is one.
    pub preprocessor: Option<Value>,
    /// `generation_config.json`, if there is one.
    pub generation: Option<Value>,
    /// BLAKE3 of configuration and weights, in hex.
    pub digest: String,
}

/// Opens `dir` and builds its model. A tensor that is missing, mis-shaped or not understood is an error.
pub fn load_model(dir: &Path, compute: impl Into<Compute>) -> Result<LoadedModel> {
    let checkpoint = Checkpoint::open(dir)?;
    let model = build(&checkpoint, &compute.into())?;
    Ok(LoadedModel {
        model,
        tokenizer: optional_bytes(&checkpoint.file("tokenizer.json"))?,
        tokenizer_config: optional_json(&checkpoint.file("tokenizer_config.json"))?,
        preprocessor: optional_json(&checkpoint.file("preprocessor_config.json"))?,
        generation: optional_json(&checkpoint.file("generation_config.json"))?,
        digest: checkpoint.digest().to_owned(),
        config: checkpoint.config().clone(),
    })
}

/// The model of an open checkpoint, with nothing left over.
pub(crate) fn build(checkpoint: &Arc<Checkpoint>, compute: &Compute) -> Result<Model> {
    let model = Model::new(checkpoint.config(), &checkpoint.weights(compute));
    let model = model.map_err(|error| Error::model(checkpoint.dir(), error))?;
    checkpoint.check_unused()?;
    Ok(model)
}

fn optional_json(path: &Path) -> Result<Option<Value>> {
    path.is_file().then(|| read_json(path)).transpose()
}

fn optional_bytes(path: &Path) -> Result<Option<Vec<u8>>> {
    if !path.is_file() {
        return Ok(None);
    }
    let size = std::fs::metadata(path).map_err(|error| Error::file(path, error))?.len();
    if size > TOKENIZER_LIMIT {
        return Err(Error::file(path, format!("{size} bytes, expected at most {TOKENIZER_LIMIT}")));
    }
    std::fs::read(path).map(Some).map_err(|error| Error::file(path, error))
}
