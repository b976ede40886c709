//! What a run trains besides weights, and the model directory it leaves.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use candle_core::Tensor;
use serde_json::{Value, json};
use swinseek_fusion::ModelConfig;
use swinseek_fusion::checkpoint::{self, AdapterConfig, Checkpoint, StoredType, read_json};
use swinseek_fusion::prompt_encoder::PromptEncoder;
use swinseek_language::prompt;
use swinseek_language::tokenizer::Tokenizer;
use swinseek_vision::preprocess::Preprocessor;

use super::data::Mixture;
use super::recipe::{AdapterTable, Recipe};
use super::variables::{Variables, halves};

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
        let mut start = if directory.join("model.safetensors").exists() {
            Checkpoint::open(directory)?.load_all()?
        } else {
            ensure!(
                recipe.adapter.is_none(),
                "{}: has no model.safetensors for `[adapter]` to add to",
                directory.display()
            );
            HashMap::new()
        };
        if let Some(table) = &recipe.adapter {
            go_on_from(table, &mut start)?;
        }
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

/// Adds the halves of the adapter that the table goes on from, if it does, to the tensors to start from.
fn go_on_from(table: &AdapterTable, start: &mut HashMap<String, Tensor>) -> Result<()> {
    let Some(dir) = &table.from else { return Ok(()) };
    let (config, pairs) = checkpoint::load_adapter(dir)?;
    let (rank, shown) = (config.r, dir.display());
    ensure!(
        rank == table.rank,
        "`adapter.from`: {shown} is of rank {rank}, `adapter.rank` is {}",
        table.rank
    );
    for (name, [a, b]) in pairs {
        let adapts = start.get(&name).is_some_and(|base| table.adapts(&name, base.dims()));
        ensure!(
            adapts,
            "`adapter.from`: {shown} adds to `{name}`, which `adapter.targets` leaves out or the model lacks"
        );
        // What it adds stays the same where the recipe scales otherwise.
        let b = (b * (config.scale() / table.scale()))?;
        start.extend(halves(&name).into_iter().zip([a, b]));
    }
    Ok(())
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

/// Writes the run's model directory, each file atomically: with int8 matrices, or with what an adapter adds to the recipe's model.
pub fn save(recipe: &Recipe, parts: &Parts, variables: &Variables) -> Result<()> {
    let dir = &recipe.output.join("model");
    std::fs::create_dir_all(dir).with_context(|| format!("{}: cannot be made", dir.display()))?;
    if let Some(table) = &recipe.adapter {
        let base = std::path::absolute(&recipe.model.directory)?;
        let additions = variables.additions();
        let module = |name: &String| name.strip_suffix(".weight").unwrap_or(name).to_owned();
        let modules: Vec<String> = additions.keys().map(module).collect();
        let config = AdapterConfig::new(Some(&base), table.rank, table.alpha, &modules);
        return Ok(checkpoint::save_adapter(dir, &config, &additions)?);
    }
    let tensors: BTreeMap<String, Tensor> = variables.weights()?.into_iter().collect();
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
