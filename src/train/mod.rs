//! The trainer: `swinseek train RECIPE.toml`.
//!
//! A step averages the gradients of a fixed number of micro-batches. Each is computed on one thread of its own, with all
//! operations inside it sequential: two cores then train almost twice as fast as one, and the sum, taken in order,
//! is the same on any number of cores. Data are drawn by (seed, step, micro-batch), so a run that was killed goes on from
//! its last checkpoint to the very result of a run that was not.

pub mod batch;
pub mod checkpoint;
pub mod data;
pub mod export;
pub mod findings;
pub mod metrics;
pub mod optimizer;
pub mod recipe;
pub mod router;
pub mod schedule;
pub mod step;
pub mod validate;
pub mod variables;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use candle_core::Var;
use swinseek_fusion::model::SwinSeek;
use swinseek_kernels::{Precision, Weights};

use batch::Batch;
use checkpoint::Checkpoints;
use data::Mixture;
use export::Parts;
use metrics::{Line, Metrics};
use optimizer::{AdamW, Gradients};
use recipe::Recipe;
use router::Loads;
use step::{Contribution, contribution};
use variables::Variables;

/// Deep graphs are walked recursively by autograd.
const STACK_BYTES: usize = 256 << 20;

/// What the caller sees of a running training: called after every step.
pub type Progress<'a> = &'a mut dyn FnMut(&Recipe, &Line) -> std::ops::ControlFlow<()>;

/// Runs `recipe` from its last checkpoint, or from the start, to the end (or until `progress` breaks, after a checkpoint),
/// and writes the model directory `output/model`.
pub fn run(recipe: &Recipe, progress: Progress) -> Result<()> {
    let mut trainer = Trainer::new(recipe)?;
    while trainer.step < recipe.schedule.steps {
        let line = trainer.advance()?;
        let stop = progress(recipe, &line).is_break();
        trainer.metrics.push(line)?;
        let end = trainer.step == recipe.schedule.steps;
        if stop || end || trainer.step.is_multiple_of(recipe.checkpoint.every.max(1)) {
            trainer.checkpoints.save(trainer.step, &trainer.vars, &trainer.optimizer)?;
            trainer.metrics.plot()?;
        }
        if stop {
            return Ok(());
        }
    }
    export::save(&trainer.parts, &trainer.vars, &recipe.output.join("model"))
}

struct Trainer<'a> {
    recipe: &'a Recipe,
    parts: Parts,
    mixture: Mixture,
    model: SwinSeek,
    vars: BTreeMap<String, Var>,
    optimizer: AdamW,
    checkpoints: Checkpoints,
    metrics: Metrics,
    workers: Vec<rayon::ThreadPool>,
    step: u64,
}

impl<'a> Trainer<'a> {
    fn new(recipe: &'a Recipe) -> Result<Self> {
        std::fs::create_dir_all(&recipe.output)
            .with_context(|| format!("{}: cannot be made", recipe.output.display()))?;
        let mixture = Mixture::open(&recipe.data, recipe.seed)?;
        let parts = Parts::open(recipe, &mixture)?;
        let variables = Arc::new(Variables::new(recipe.seed, parts.start.clone()));
        let model = SwinSeek::new(&parts.config, &Weights::new(variables.clone(), Precision::Bf16))?;
        let vars = variables.all();
        let mut optimizer = AdamW::new(recipe.optimizer, vars.clone());
        let digest = blake3::hash(&serde_json::to_vec(recipe)?).to_hex().to_string();
        let checkpoints = Checkpoints::new(&recipe.output, digest, recipe.checkpoint.keep)?;
        let step = checkpoints.resume(&vars, &mut optimizer)?;
        let metrics = Metrics::open(&recipe.output, step)?;
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let count = recipe.batch.micro_batches.min(threads);
        let worker = |_| rayon::ThreadPoolBuilder::new().num_threads(1).stack_size(STACK_BYTES).build();
        let workers = (0..count).map(worker).collect::<Result<_, _>>()?;
        Ok(Self { recipe, parts, mixture, model, vars, optimizer, checkpoints, metrics, workers, step })
    }

    /// One optimiser step.
    fn advance(&mut self) -> Result<Line> {
        let started = Instant::now();
        let contributions = self.contributions()?;
        let mut line = Line { step: self.step + 1, ..Line::default() };
        let mut loads = Loads::new();
        let mut gradients = Gradients::new();
        let share = 1.0 / contributions.len() as f32;
        for (name, part) in contributions {
            line.loss += part.loss * f64::from(share);
            *line.losses.entry(name).or_default() = part.loss;
            line.findings_loss = part.findings_loss.or(line.findings_loss);
            add_gradients(&mut gradients, part.gradients, share);
            add_loads(&mut loads, part.loads);
        }
        anyhow::ensure!(line.loss.is_finite(), "step {}: the loss is {}", line.step, line.loss);
        line.learning_rate = self.recipe.schedule.learning_rate_at(self.step);
        line.gradient_norm = optimizer::clip_gradients(&mut gradients, self.recipe.batch.max_grad_norm);
        self.optimizer.step(&gradients, line.learning_rate)?;
        router::balance(&loads, &self.vars, self.recipe.losses.router_bias_rate)?;
        line.load_cv = router::load_cv(&loads);
        self.step += 1;
        let every = self.recipe.validation.every;
        if every > 0 && self.step.is_multiple_of(every) {
            line.bleu = Some(validate::bleu(&self.parts, &self.vars, &self.recipe.validation)?);
        }
        line.seconds = started.elapsed().as_secs_f64();
        Ok(line)
    }

    /// All micro-batches of this step in order, spread over the workers.
    fn contributions(&self) -> Result<Vec<(String, Contribution)>> {
        let count = self.recipe.batch.micro_batches;
        let mut slots: Vec<Option<Result<(String, Contribution)>>> = (0..count).map(|_| None).collect();
        let width = self.workers.len();
        std::thread::scope(|scope| {
            let mut shares: Vec<Vec<_>> = (0..width).map(|_| Vec::new()).collect();
            for (index, slot) in slots.iter_mut().enumerate() {
                shares[index % width].push((index, slot));
            }
            for (worker, share) in self.workers.iter().zip(shares) {
                scope.spawn(move || {
                    for (index, slot) in share {
                        *slot = Some(worker.install(|| self.micro_batch(index as u64)));
                    }
                });
            }
        });
        slots
            .into_iter()
            .map(|slot| slot.unwrap_or_else(|| Err(anyhow!("a worker stopped; this is a bug"))))
            .collect()
    }

    fn micro_batch(&self, index: u64) -> Result<(String, Contribution)> {
        let (set, records) = self.mixture.records(self.step, index)?;
        let batch =
            Batch::new(&records, &self.parts.prompts, &self.parts.preprocessor, self.parts.context())?;
        let part = contribution(&self.model, &batch, &self.vars, self.recipe.losses.findings)?;
        Ok((set.name.clone(), part))
    }
}

fn add_gradients(sum: &mut Gradients, part: Gradients, share: f32) {
    for (name, values) in part {
        match sum.get_mut(&name) {
            Some(total) => total.iter_mut().zip(&values).for_each(|(total, value)| *total += share * value),
            None => {
                sum.insert(name, values.into_iter().map(|value| share * value).collect());
            }
        }
    }
}

fn add_loads(sum: &mut Loads, part: Loads) {
    for (layer, load) in part {
        let total = sum.entry(layer).or_insert_with(|| vec![0; load.len()]);
        total.iter_mut().zip(load).for_each(|(total, load)| *total += load);
    }
}

/// Writes `output/model` from the last checkpoint, without a step.
pub fn export_now(recipe: &Recipe) -> Result<()> {
    let trainer = Trainer::new(recipe)?;
    export::save(&trainer.parts, &trainer.vars, &recipe.output.join("model"))
}
