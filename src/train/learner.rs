//! One optimiser step: micro-batches side by side, their gradients averaged, clipped and applied.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use anyhow::{Result, anyhow, ensure};
use candle_core::{Tensor, Var};
use swinseek_fusion::{ModelConfig, SwinSeek};
use swinseek_kernels::{Precision, TensorSource, Weights};

use super::batch::Batch;
use super::metrics::Line;
use super::optimizer::{self, AdamW, AdamWConfig};
use super::recipe::{AdapterTable, BatchTable, LossTable};
use super::router::{self, Loads};
use super::step::{Contribution, contribution};
use super::variables::Variables;

/// Deep graphs are walked recursively by autograd.
const STACK_BYTES: usize = 256 << 20;

/// How a step is put together: the recipe's tables.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rules {
    /// `[batch]`
    pub batch: BatchTable,
    /// `[losses]`
    pub losses: LossTable,
    /// `[optimizer]`
    pub optimizer: AdamWConfig,
}

/// A model in training, and the state of its optimiser.
pub struct Learner {
    /// What is trained, by name.
    pub vars: BTreeMap<String, Var>,
    /// What the model reads.
    pub variables: Arc<Variables>,
    /// Its moments are part of a checkpoint.
    pub optimizer: AdamW,
    rules: Rules,
    model: SwinSeek,
    workers: Vec<rayon::ThreadPool>,
}

impl Learner {
    /// A model with the weights of `start`; those it lacks are drawn with `seed`. With an adapter it lacks none.
    pub fn new(
        config: &ModelConfig,
        start: HashMap<String, Tensor>,
        adapter: Option<AdapterTable>,
        seed: u64,
        rules: Rules,
    ) -> Result<Self> {
        let variables = Arc::new(Variables::new(seed, start, adapter));
        let model = model(config, &variables)?;
        let vars = variables.all();
        ensure!(!vars.is_empty(), "`adapter.targets` names no matrix of the model");
        let optimizer = AdamW::new(rules.optimizer, vars.clone());
        let count = rules.batch.micro_batches.min(rayon::current_num_threads());
        let worker = |_| rayon::ThreadPoolBuilder::new().num_threads(1).stack_size(STACK_BYTES).build();
        let workers = (0..count).map(worker).collect::<Result<_, _>>()?;
        Ok(Self { vars, variables, optimizer, rules, model, workers })
    }

    /// One step over the micro-batches that `draw` gives by index, each with the name of its data set. Drawing is the
    /// workers' work too. The line lacks what the caller knows: the step's number, its time and its validation.
    pub fn step(
        &mut self,
        learning_rate: f64,
        draw: &(dyn Fn(u64) -> Result<(String, Batch)> + Sync),
    ) -> Result<Line> {
        if self.variables.is_adapter() {
            self.model = model(self.model.config(), &self.variables)?;
        }
        let contributions = self.contributions(draw)?;
        let mut line = Line { learning_rate, ..Line::default() };
        let mut loads = Loads::new();
        let share = 1.0 / contributions.len() as f64;
        let mut gradients = Vec::with_capacity(contributions.len());
        for (name, part) in contributions {
            line.loss += part.loss * share;
            *line.losses.entry(name).or_default() = part.loss;
            line.findings_loss = part.findings_loss.or(line.findings_loss);
            gradients.push(part.gradients);
            add_loads(&mut loads, part.loads);
        }
        ensure!(line.loss.is_finite(), "the loss is {}", line.loss);
        let mut gradients = optimizer::mean(&gradients)?;
        line.gradient_norm = optimizer::clip_gradients(&mut gradients, self.rules.batch.max_grad_norm);
        self.optimizer.step(&gradients, learning_rate)?;
        router::balance(&loads, &self.vars, self.rules.losses.router_bias_rate)?;
        line.load_cv = router::load_cv(&loads);
        Ok(line)
    }

    /// All micro-batches in order, spread over the workers.
    fn contributions(
        &self,
        draw: &(dyn Fn(u64) -> Result<(String, Batch)> + Sync),
    ) -> Result<Vec<(String, Contribution)>> {
        let micro_batch = |index| {
            let (name, batch) = draw(index)?;
            Ok((name, contribution(&self.model, &batch, &self.vars, self.rules.losses.findings)?))
        };
        let micro_batch = &micro_batch;
        let count = self.rules.batch.micro_batches;
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
                        *slot = Some(worker.install(|| micro_batch(index as u64)));
                    }
                });
            }
        });
        slots
            .into_iter()
            .map(|slot| slot.unwrap_or_else(|| Err(anyhow!("a worker stopped; this is a bug"))))
            .collect()
    }
}

fn model(config: &ModelConfig, variables: &Arc<Variables>) -> Result<SwinSeek> {
    let weights = Weights::new(Arc::clone(variables) as Arc<dyn TensorSource>, Precision::Bf16);
    Ok(SwinSeek::new(config, &weights)?)
}

fn add_loads(sum: &mut Loads, part: Loads) {
    for (layer, load) in part {
        let total = sum.entry(layer).or_insert_with(|| vec![0; load.len()]);
        total.iter_mut().zip(load).for_each(|(total, load)| *total += load);
    }
}
