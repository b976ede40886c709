//! AdamW (Loshchilov & Hutter 2019), as `torch.optim.AdamW`: decoupled decay, bias-corrected moments.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use anyhow::{Context, Result, ensure};
use candle_core::{CpuStorage, Device, InplaceOp1, Layout, Storage, Tensor, Var, bail};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Hyper-parameters of [`AdamW`]; the learning rate comes with each step.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdamWConfig {
    /// Decay rate of the first moment.
    pub beta1: f64,
    /// Decay rate of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Fraction of the learning rate by which matrices shrink each step; vectors (norms, biases, gates) do not.
    pub weight_decay: f64,
}

impl Default for AdamWConfig {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1 }
    }
}

struct Moments {
    first: Vec<f32>,
    second: Vec<f32>,
}

/// The optimiser and its state.
pub struct AdamW {
    config: AdamWConfig,
    steps: u64,
    vars: BTreeMap<String, Var>,
    moments: BTreeMap<String, Moments>,
}

/// Gradients of one step by parameter name; a parameter without an entry is left alone.
pub type Gradients = HashMap<String, Vec<f32>>;

impl AdamW {
    /// Optimises `vars`, with all moments at zero.
    pub fn new(config: AdamWConfig, vars: BTreeMap<String, Var>) -> Self {
        let zeros =
            |var: &Var| Moments { first: vec![0.0; var.elem_count()], second: vec![0.0; var.elem_count()] };
        let moments = vars.iter().map(|(name, var)| (name.clone(), zeros(var))).collect();
        Self { config, steps: 0, vars, moments }
    }

    /// One update. Parameters are independent, so the result does not depend on the number of threads.
    pub fn step(&mut self, gradients: &Gradients, learning_rate: f64) -> Result<()> {
        self.steps += 1;
        let update = Update::new(&self.config, self.steps, learning_rate);
        let vars = &self.vars;
        self.moments.par_iter_mut().try_for_each(|(name, moments)| {
            let Some(gradient) = gradients.get(name) else {
                return Ok(());
            };
            let var = &vars[name];
            let decay = if var.rank() > 1 { update.decay } else { 1.0 };
            let moments = RefCell::new(moments);
            Ok(var.inplace_op1(&Applied { update: &update, gradient, moments, decay })?)
        })
    }

    /// The moments as tensors `first.NAME` and `second.NAME`, and the number of steps taken.
    pub fn state(&self) -> Result<(HashMap<String, Tensor>, u64)> {
        let mut state = HashMap::new();
        for (name, moments) in &self.moments {
            let shape = self.vars[name].shape();
            state.insert(format!("first.{name}"), Tensor::from_slice(&moments.first, shape, &Device::Cpu)?);
            state.insert(format!("second.{name}"), Tensor::from_slice(&moments.second, shape, &Device::Cpu)?);
        }
        Ok((state, self.steps))
    }

    /// Puts back what [`AdamW::state`] returned.
    pub fn restore(&mut self, state: &HashMap<String, Tensor>, steps: u64) -> Result<()> {
        let read = |key: String, count: usize| -> Result<Vec<f32>> {
            let tensor = state.get(&key).with_context(|| format!("optimiser state has no `{key}`"))?;
            let values = tensor.flatten_all()?.to_vec1::<f32>()?;
            anyhow::ensure!(
                values.len() == count,
                "optimiser state `{key}` has {} values, expected {count}",
                values.len()
            );
            Ok(values)
        };
        for (name, moments) in &mut self.moments {
            moments.first = read(format!("first.{name}"), moments.first.len())?;
            moments.second = read(format!("second.{name}"), moments.second.len())?;
        }
        self.steps = steps;
        Ok(())
    }
}

/// The scalars of one step.
struct Update {
    beta1: f32,
    beta2: f32,
    eps: f32,
    step_size: f32,
    second_correction: f32,
    decay: f32,
}

impl Update {
    fn new(config: &AdamWConfig, steps: u64, learning_rate: f64) -> Self {
        let correction = |beta: f64| 1.0 - beta.powf(steps as f64);
        Self {
            beta1: config.beta1 as f32,
            beta2: config.beta2 as f32,
            eps: config.eps as f32,
            step_size: (learning_rate / correction(config.beta1)) as f32,
            second_correction: correction(config.beta2).sqrt().recip() as f32,
            decay: (1.0 - learning_rate * config.weight_decay) as f32,
        }
    }

    fn apply(&self, value: &mut [f32], gradient: &[f32], moments: &mut Moments, decay: f32) {
        let state = moments.first.iter_mut().zip(moments.second.iter_mut());
        for ((value, &gradient), (first, second)) in value.iter_mut().zip(gradient).zip(state) {
            *first = self.beta1 * *first + (1.0 - self.beta1) * gradient;
            *second = self.beta2 * *second + (1.0 - self.beta2) * gradient * gradient;
            let denominator = second.sqrt() * self.second_correction + self.eps;
            *value = *value * decay - self.step_size * *first / denominator;
        }
    }
}

/// An update of one parameter where it lies.
struct Applied<'a> {
    update: &'a Update,
    gradient: &'a [f32],
    moments: RefCell<&'a mut Moments>,
    decay: f32,
}

impl InplaceOp1 for Applied<'_> {
    fn name(&self) -> &'static str {
        "adamw"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        match (storage, layout.contiguous_offsets()) {
            (CpuStorage::F32(values), Some((start, end))) if end - start == self.gradient.len() => {
                let moments = &mut self.moments.borrow_mut();
                self.update.apply(&mut values[start..end], self.gradient, moments, self.decay);
                Ok(())
            }
            _ => bail!("adamw: parameters are contiguous `f32` values, as many as their gradient's"),
        }
    }
}

/// The mean over micro-batches, added in their order; a micro-batch without a gradient counts as zeros.
pub fn mean(parts: &[BTreeMap<String, Tensor>]) -> Result<Gradients> {
    let share = 1.0 / parts.len() as f32;
    let names: BTreeSet<&String> = parts.iter().flat_map(BTreeMap::keys).collect();
    let mean = |name: &String| {
        let mut sum = Vec::new();
        for gradient in parts.iter().filter_map(|part| part.get(name)) {
            let gradient = gradient.contiguous()?;
            let (storage, layout) = gradient.storage_and_layout();
            let (Storage::Cpu(storage), Some((start, end))) = (&*storage, layout.contiguous_offsets()) else {
                anyhow::bail!("the gradient of `{name}` is not in this computer's memory");
            };
            let values = &storage.as_slice::<f32>()?[start..end];
            if sum.is_empty() {
                sum.extend(values.iter().map(|value| share * value));
            } else {
                ensure!(sum.len() == values.len(), "the gradients of `{name}` differ in shape");
                sum.iter_mut().zip(values).for_each(|(sum, value)| *sum += share * value);
            }
        }
        Ok((name.clone(), sum))
    };
    names.into_par_iter().map(mean).collect()
}

/// Scales `gradients` so that their joint L2 norm is at most `max_norm`; returns the norm before.
pub fn clip_gradients(gradients: &mut Gradients, max_norm: f64) -> f64 {
    let mut values: Vec<(&String, &mut Vec<f32>)> = gradients.iter_mut().collect();
    values.sort_unstable_by_key(|(name, _)| *name); // a fixed order of summation, so that a resumed run rounds alike
    let squares: Vec<f64> = values.par_iter().map(|(_, values)| sum_of_squares(values)).collect();
    let norm = squares.iter().sum::<f64>().sqrt();
    if norm > max_norm {
        let scale = (max_norm / norm) as f32;
        values.par_iter_mut().for_each(|(_, values)| values.iter_mut().for_each(|value| *value *= scale));
    }
    norm
}

/// In lanes, each in order: one sum after the other would wait for each addition.
fn sum_of_squares(values: &[f32]) -> f64 {
    let mut lanes = [0.0; 16];
    for values in values.chunks(lanes.len()) {
        for (sum, &value) in lanes.iter_mut().zip(values) {
            *sum += f64::from(value) * f64::from(value);
        }
    }
    lanes.iter().sum()
}
