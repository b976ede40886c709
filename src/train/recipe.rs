//! `RECIPE.toml`: everything a training run depends on.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use swinseek_fusion::checkpoint::quantizable;

use super::optimizer::AdamWConfig;
use super::schedule::Schedule;
use crate::toml_file;

/// A whole recipe. Paths are relative to the recipe's own folder.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Run directory: checkpoints, metrics, plots and the finished model go there.
    pub output: PathBuf,
    /// Seed of initial weights, data order and augmentation.
    #[serde(default)]
    pub seed: u64,
    /// What is trained.
    pub model: ModelTable,
    /// Low-rank additions are trained, and not the model's weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter: Option<AdapterTable>,
    /// Steps and learning rate.
    pub schedule: Schedule,
    /// AdamW.
    #[serde(default)]
    pub optimizer: AdamWConfig,
    /// How a step is put together.
    #[serde(default)]
    pub batch: BatchTable,
    /// What is added to the next-token loss.
    #[serde(default)]
    pub losses: LossTable,
    /// Where records come from.
    pub data: Vec<DataTable>,
    /// Reports written and scored during the run.
    #[serde(default)]
    pub validation: ValidationTable,
    /// When the state is written.
    #[serde(default)]
    pub checkpoint: CheckpointTable,
}

/// `[model]`: either a fresh model from a `config.json`, or a model directory to go on from.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelTable {
    /// Directory with `config.json`, `preprocessor_config.json` and, to start from trained weights, `model.safetensors`.
    pub directory: PathBuf,
    /// Vocabulary of the byte-level BPE that is trained on the recipe's texts when the directory has no `tokenizer.json`.
    #[serde(default = "default_vocabulary")]
    pub vocabulary: usize,
}

fn default_vocabulary() -> usize {
    2048
}

/// `[adapter]` (LoRA, Hu et al. 2022): the weights of the model directory stay as they are, and low-rank additions to its matrices are
/// trained. The run leaves them in PEFT's files, a few percent of the model's size.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdapterTable {
    /// Rank of the additions.
    pub rank: usize,
    /// The additions are scaled by this over the rank.
    pub alpha: f64,
    /// Last parts of the names of the matrices (`q_proj`, `query`...); empty for all but embeddings, routers, stacked experts and heads.
    pub targets: Vec<String>,
    /// Directory of an adapter to the same matrices of the same model, of this rank, to go on from; without one the additions begin at zero.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<PathBuf>,
}

impl Default for AdapterTable {
    fn default() -> Self {
        Self { rank: 16, alpha: 16.0, targets: Vec::new(), from: None }
    }
}

impl AdapterTable {
    /// The factor of the additions.
    pub fn scale(&self) -> f64 {
        self.alpha / self.rank as f64
    }

    /// Whether the tensor `name` gets an addition.
    pub fn adapts(&self, name: &str, shape: &[usize]) -> bool {
        let Some(module) = name.strip_suffix(".weight").filter(|_| shape.len() == 2) else {
            return false;
        };
        match self.targets.as_slice() {
            [] => quantizable(name, shape) && !module.ends_with("embed_tokens"),
            targets => targets.iter().any(|target| module.rsplit('.').next() == Some(target)),
        }
    }
}

/// `[batch]`
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BatchTable {
    /// Micro-batches whose gradients one step averages; each draws its rows from one data set. They are computed
    /// side by side, and summed in order, so that the result does not depend on the number of threads.
    pub micro_batches: usize,
    /// Largest joint L2 norm of the gradients.
    pub max_grad_norm: f64,
}

impl Default for BatchTable {
    fn default() -> Self {
        Self { micro_batches: 2, max_grad_norm: 1.0 }
    }
}

/// `[losses]`
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LossTable {
    /// Weight of the dense findings loss (binary cross-entropy of each image token against the findings' boxes).
    pub findings: f64,
    /// Step of the router's selection bias towards the mean load (DeepSeek-V3, auxiliary-loss-free balancing).
    pub router_bias_rate: f64,
}

impl Default for LossTable {
    fn default() -> Self {
        Self { findings: 0.0, router_bias_rate: 1e-3 }
    }
}

/// `[[data]]`: one data set of the mixture.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataTable {
    /// Share of the micro-batches, relative to the other data sets.
    #[serde(default = "one")]
    pub weight: f64,
    /// Rows of a micro-batch drawn from this data set.
    pub rows: usize,
    /// Random flips and quarter turns of the picture (where the answer does not depend on side).
    #[serde(default)]
    pub augment: bool,
    /// Random shifts, contrast and brightness: 0.1 is up to 5 % of a side and 10 % of each; 0, the default, is none.
    #[serde(default)]
    pub jitter: f32,
    /// What and where it is.
    pub source: SourceTable,
}

fn one() -> f64 {
    1.0
}

/// The kinds of data sets.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum SourceTable {
    /// Rendered while training: an endless stream of new studies.
    Phantom {
        /// Seed of the stream; evaluation uses other seeds.
        seed: u64,
        /// What is asked.
        task: PhantomTask,
        /// Side of the rendered picture in pixels.
        #[serde(default = "default_render_size")]
        size: usize,
    },
    /// A data set in any layout that `eval --data` reads, such as what `swinseek phantom` writes.
    Annotations {
        /// Its directory or annotation file.
        dir: PathBuf,
        /// Split to train on.
        #[serde(default = "default_split")]
        split: String,
    },
    /// The folder `easy_vqa/data` of the Python package of that name.
    EasyVqa {
        /// Directory with `train/questions.json` and `train/images`.
        dir: PathBuf,
        /// `train` or `test`.
        #[serde(default = "default_split")]
        split: String,
    },
    /// A folder of images with a CSV of labels: one question, one answer for each label value.
    Labels {
        /// Directory with `labels.csv` and `images/`.
        dir: PathBuf,
        /// Column with the label.
        column: String,
        /// Value of the `split` column to train on.
        #[serde(default = "default_split")]
        split: String,
        /// Ways to ask; one is drawn each time.
        questions: Vec<String>,
        /// Answer for each label value; other values are left out.
        answers: std::collections::BTreeMap<String, String>,
    },
}

/// What a phantom study is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PhantomTask {
    /// The whole report.
    Report,
    /// One of the study's questions.
    Question,
    /// The one-sentence caption.
    Caption,
}

fn default_render_size() -> usize {
    256
}

fn default_split() -> String {
    "train".to_owned()
}

/// `[validation]`: reports on phantom studies that are not in the training stream.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ValidationTable {
    /// Steps between two validations; 0 for none.
    pub every: u64,
    /// Studies a validation.
    pub studies: usize,
    /// Seed of the studies.
    pub seed: u64,
}

impl Default for ValidationTable {
    fn default() -> Self {
        Self { every: 500, studies: 32, seed: 900_001 }
    }
}

/// `[checkpoint]`
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CheckpointTable {
    /// Steps between two checkpoints.
    pub every: u64,
    /// Checkpoints kept.
    pub keep: usize,
}

impl Default for CheckpointTable {
    fn default() -> Self {
        Self { every: 100, keep: 2 }
    }
}

impl Recipe {
    /// Reads and checks a recipe; relative paths become relative to its folder.
    pub fn load(path: &Path) -> Result<Self> {
        let mut recipe: Self = toml_file::read(path)?;
        let base = path.parent().unwrap_or(Path::new("."));
        recipe.output = base.join(&recipe.output);
        recipe.model.directory = base.join(&recipe.model.directory);
        if let Some(from) = recipe.adapter.as_mut().and_then(|adapter| adapter.from.as_mut()) {
            *from = base.join(&*from);
        }
        for data in &mut recipe.data {
            match &mut data.source {
                SourceTable::Phantom { .. } => {}
                SourceTable::Annotations { dir, .. }
                | SourceTable::EasyVqa { dir, .. }
                | SourceTable::Labels { dir, .. } => {
                    *dir = base.join(&*dir);
                }
            }
        }
        recipe.check().with_context(|| format!("{}: not a recipe", path.display()))?;
        Ok(recipe)
    }

    fn check(&self) -> Result<()> {
        ensure!(!self.data.is_empty(), "`data`: at least one [[data]] table is expected");
        ensure!(self.batch.micro_batches > 0, "`batch.micro_batches`: 0, expected 1 or more");
        if let Some(adapter) = &self.adapter {
            ensure!(adapter.rank > 0, "`adapter.rank`: 0, expected 1 or more");
            ensure!(adapter.alpha > 0.0, "`adapter.alpha`: {}, expected more than 0", adapter.alpha);
        }
        ensure!(self.schedule.steps > 0, "`schedule.steps`: 0, expected 1 or more");
        for (index, data) in self.data.iter().enumerate() {
            ensure!(data.rows > 0, "`data[{index}].rows`: 0, expected 1 or more");
            ensure!(data.weight >= 0.0, "`data[{index}].weight`: {}, expected 0 or more", data.weight);
            ensure!(
                (0.0..=1.0).contains(&data.jitter),
                "`data[{index}].jitter`: {}, expected 0 to 1",
                data.jitter
            );
        }
        ensure!(self.data.iter().any(|data| data.weight > 0.0), "`data`: every weight is 0");
        Ok(())
    }
}
