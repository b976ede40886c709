//! New parameters, filled as their layers ask for it.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use candle_core::{Device, Tensor};
use rand::{RngExt as _, SeedableRng, rngs::ChaCha12Rng};
use swinseek_kernels::{Init, Result, TensorSource};

/// Creates every tensor that is asked for and keeps it. The values of a tensor depend on the seed and its name
/// alone, not on what else is created.
#[derive(Debug)]
pub struct FreshSource {
    seed: u64,
    tensors: Mutex<BTreeMap<String, Tensor>>,
}

impl FreshSource {
    /// A source of parameters for this seed.
    pub fn new(seed: u64) -> Self {
        Self { seed, tensors: Mutex::default() }
    }

    /// Everything created so far.
    pub fn tensors(&self) -> BTreeMap<String, Tensor> {
        self.tensors.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn create(&self, name: &str, shape: &[usize], init: Init) -> Result<Tensor> {
        let count: usize = shape.iter().product();
        let values = match init {
            Init::Const(value) => vec![value as f32; count],
            Init::Normal { std } => self.normal(name, count, std),
        };
        Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
    }

    /// `count` normal values by the Box-Muller transform.
    fn normal(&self, name: &str, count: usize, std: f64) -> Vec<f32> {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.seed.to_le_bytes()).update(name.as_bytes());
        let mut rng = ChaCha12Rng::from_seed(*hasher.finalize().as_bytes());
        let pair = |_| {
            // 1 - u is in (0, 1]: its logarithm is finite.
            let radius = std * (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
            let (sin, cos) = (std::f64::consts::TAU * rng.random::<f64>()).sin_cos();
            [(radius * cos) as f32, (radius * sin) as f32]
        };
        (0..count.div_ceil(2)).flat_map(pair).take(count).collect()
    }
}

impl TensorSource for FreshSource {
    fn tensor(&self, name: &str, shape: &[usize], init: Init) -> Result<Tensor> {
        let mut tensors = self.tensors.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tensor) = tensors.get(name) {
            return Ok(tensor.clone());
        }
        let tensor = self.create(name, shape, init)?;
        tensors.insert(name.to_owned(), tensor.clone());
        Ok(tensor)
    }

    /// Nothing is on disk: layers that look before they read must ask for what they need.
    fn shape(&self, _name: &str) -> Option<Vec<usize>> {
        None
    }
}
