//! What a run trains besides weights, and the model directory it leaves.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use candle_core::{Tensor, Var};
use serde_json::{Value, json};
use swinseek_fusion::ModelConfig;
use swinseek_fusion::checkpoint::{self, Checkpoint, StoredType, read_json};
use swinseek_fusion::prompt_encoder::PromptEncoder;
use swinseek_language::prompt;
use swinseek_language::tokenizer::Tokenizer;
use swinseek_vision::preprocess::Preprocessor;

use super::data::Mixture;
use super::recipe::Recipe;

/// Texts that a fresh tokenizer is trained on.
const TOKENIZER_TEXTS: usize = 20_000;

/// Configuration, tokenizer and preprocessing of the model in training, and the weights it starts from.
pub struct Parts {
    /// `config.json`, with the vocabulary's size filled in.
    pub config: ModelConfig,
    /// Questions and answers to ids.
    pub prompts: PromptEncoder,
    /// Pictures to pixels.
    pub preprocessor: Preprocessor,
    /// Starting weights by name; empty for a fresh model.
    pub start: HashMap<String, Tensor>,
    config_json: Value,
    preprocessor_json: Value,
    tokenizer_json: String,
    card: PathBuf,
}

impl Parts {
    /// Reads the recipe's model directory; trains the tokenizer unless the directory, or an earlier start of the run, has one.
    pub fn open(recipe: &Recipe, mixture: &Mixture) -> Result<Self> {
        let directory = &recipe.model.directory;
        let kept = recipe.output.join("tokenizer.json");
        let stored = [directory.join("tokenizer.json"), kept.clone()].into_iter().find(|path| path.exists());
        let tokenizer = if let Some(path) = stored {
            let bytes =
                std::fs::read(&path).with_context(|| format!("{}: cannot be read", path.display()))?;
            Tokenizer::from_bytes(&bytes).with_context(|| path.display().to_string())?
        } else {
            let texts = mixture.texts(TOKENIZER_TEXTS)?;
            Tokenizer::train_bpe(texts.iter(), recipe.model.vocabulary, &prompt::SPECIAL_TOKENS)?
        };
        let tokenizer_json = tokenizer.to_json()?;
        checkpoint::write_atomic(&kept, tokenizer_json.as_bytes())?;
        let path = directory.join("config.json");
        let mut config_json = read_json(&path)?;
        config_json["language"]["vocab_size"] = json!(tokenizer.vocab_size());
        let config = ModelConfig::from_json(&config_json).with_context(|| path.display().to_string())?;
        let path = directory.join("preprocessor_config.json");
        let preprocessor_json = read_json(&path)?;
        let preprocessor =
            Preprocessor::from_json(&preprocessor_json).with_context(|| path.display().to_string())?;
        let prompts = PromptEncoder::new(tokenizer, &tokenizer_config(), &generation_config())?;
        let start = if directory.join("model.safetensors").exists() {
            Checkpoint::open(directory)?.load_all()?
        } else {
            HashMap::new()
        };
        let card = directory.join("README.md");
        Ok(Self {
            config,
            prompts,
            preprocessor,
            start,
            config_json,
            preprocessor_json,
            tokenizer_json,
            card,
        })
    }

    /// Most tokens of a training text.
    pub fn context(&self) -> usize {
        self.config.language.max_position_embeddings
    }
}

fn tokenizer_config() -> Value {
    json!({
        "bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "image_token": "<image>",
        "chat_template": prompt::OWN_TEMPLATE, "tokenizer_class": "PreTrainedTokenizerFast"
    })
}

fn generation_config() -> Value {
    json!({ "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "max_new_tokens": 256, "do_sample": false })
}

/// Writes a model directory with int8 matrices, each file atomically.
pub fn save(parts: &Parts, vars: &BTreeMap<String, Var>, dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("{}: cannot be made", dir.display()))?;
    let tensors: BTreeMap<String, Tensor> =
        vars.iter().map(|(name, var)| (name.clone(), var.as_detached_tensor())).collect();
    checkpoint::save(dir, &parts.config_json, &tensors, StoredType::Int8)?;
    let write = |name: &str, bytes: &[u8]| checkpoint::write_atomic(&dir.join(name), bytes);
    write("tokenizer.json", parts.tokenizer_json.as_bytes())?;
    write("tokenizer_config.json", &serde_json::to_vec_pretty(&tokenizer_config())?)?;
    write("generation_config.json", &serde_json::to_vec_pretty(&generation_config())?)?;
    write("preprocessor_config.json", &serde_json::to_vec_pretty(&parts.preprocessor_json)?)?;
    if let Ok(card) = std::fs::read(&parts.card) {
        write("README.md", &card)?;
    }
    Ok(())
}
