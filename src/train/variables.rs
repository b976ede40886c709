//! The trainer's parameters: named candle variables that a model reads as its weights.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;

use candle_core::{Tensor, Var};
use swinseek_fusion::checkpoint::FreshSource;
use swinseek_kernels::{Error, Init, Result, TensorSource};

/// Creates a variable the first time a name is asked for: from the starting checkpoint if it has the name,
/// else by the layer's own initialisation.
pub struct Variables {
    fresh: FreshSource,
    start: HashMap<String, Tensor>,
    vars: Mutex<BTreeMap<String, Var>>,
}

impl Variables {
    /// `start` holds tensors to begin from (may be empty).
    pub fn new(seed: u64, start: HashMap<String, Tensor>) -> Self {
        Self { fresh: FreshSource::new(seed), start, vars: Mutex::new(BTreeMap::new()) }
    }

    /// All variables by name, in name order.
    pub fn all(&self) -> BTreeMap<String, Var> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Var>> {
        self.vars.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl TensorSource for Variables {
    fn tensor(&self, name: &str, shape: &[usize], init: Init) -> Result<Tensor> {
        let mut vars = self.lock();
        if let Some(var) = vars.get(name) {
            return Ok(var.as_tensor().clone());
        }
        let value = match self.start.get(name) {
            Some(tensor) if tensor.dims() != shape => {
                return Err(Error::Shape {
                    name: name.to_owned(),
                    expected: shape.to_vec(),
                    found: tensor.dims().to_vec(),
                });
            }
            Some(tensor) => tensor.clone(),
            None => self.fresh.tensor(name, shape, init)?,
        };
        let var = Var::from_tensor(&value)?;
        let tensor = var.as_tensor().clone();
        vars.insert(name.to_owned(), var);
        Ok(tensor)
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        let known = self.lock().get(name).map(|var| var.dims().to_vec());
        known.or_else(|| self.start.get(name).map(|tensor| tensor.dims().to_vec()))
    }
}
