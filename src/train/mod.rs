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
pub mod learner;
pub mod metrics;
pub mod optimizer;
pub mod recipe;
pub mod router;
pub mod schedule;
pub mod step;
pub mod validate;
pub mod variables;

use std::time::Instant;

use anyhow::{Context, Result};

use batch::Batch;
use checkpoint::Checkpoints;
use data::Mixture;
use export::Parts;
use learner::{Learner, Rules};
use metrics::{Line, Metrics};
use recipe::Recipe;

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
            trainer.checkpoints.save(trainer.step, &trainer.learner.vars, &trainer.learner.optimizer)?;
            trainer.metrics.plot()?;
        }
        if stop {
            return Ok(());
        }
    }
    export::save(recipe, &trainer.parts, &trainer.learner.variables)
}

struct Trainer<'a> {
    recipe: &'a Recipe,
    parts: Parts,
    mixture: Mixture,
    learner: Learner,
    checkpoints: Checkpoints,
    metrics: Metrics,
    step: u64,
}

impl<'a> Trainer<'a> {
    fn new(recipe: &'a Recipe) -> Result<Self> {
        std::fs::create_dir_all(&recipe.output)
            .with_context(|| format!("{}: cannot be made", recipe.output.display()))?;
        let mixture = Mixture::open(&recipe.data, recipe.seed)?;
        let parts = Parts::open(recipe, &mixture)?;
        let start = parts.start.clone();
        let rules = Rules { batch: recipe.batch, losses: recipe.losses, optimizer: recipe.optimizer };
        let mut learner = Learner::new(&parts.config, start, recipe.adapter.clone(), recipe.seed, rules)?;
        let digest = blake3::hash(&serde_json::to_vec(recipe)?).to_hex().to_string();
        let checkpoints = Checkpoints::new(&recipe.output, digest, recipe.checkpoint.keep)?;
        let step = checkpoints.resume(&learner.vars, &mut learner.optimizer)?;
        let metrics = Metrics::open(&recipe.output, step)?;
        Ok(Self { recipe, parts, mixture, learner, checkpoints, metrics, step })
    }

    /// One optimiser step.
    fn advance(&mut self) -> Result<Line> {
        let started = Instant::now();
        let (mixture, parts, step) = (&self.mixture, &self.parts, self.step);
        let draw = |index| {
            let (set, records) = mixture.records(step, index)?;
            let batch = Batch::new(&records, &parts.prompts, &parts.preprocessor, parts.context())?;
            Ok((set.name.clone(), batch))
        };
        let rate = self.recipe.schedule.learning_rate_at(step);
        let line = self.learner.step(rate, &draw);
        let mut line = line.with_context(|| format!("step {}", step + 1))?;
        self.step += 1;
        line.step = self.step;
        let every = self.recipe.validation.every;
        if every > 0 && self.step.is_multiple_of(every) {
            line.bleu = Some(validate::bleu(&self.parts, &self.learner.variables, &self.recipe.validation)?);
        }
        line.seconds = started.elapsed().as_secs_f64();
        Ok(line)
    }
}

/// Writes `output/model` from the last checkpoint, without a step.
pub fn export_now(recipe: &Recipe) -> Result<()> {
    let trainer = Trainer::new(recipe)?;
    export::save(recipe, &trainer.parts, &trainer.learner.variables)
}
