//! The trainer's parameters: named candle variables that a model reads as its weights, or as additions to its weights.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use candle_core::{Tensor, Var};
use swinseek_fusion::checkpoint::{FreshSource, adapted};
use swinseek_kernels::weights::fits;
use swinseek_kernels::{Error, Init, Result, TensorSource};

use super::recipe::AdapterTable;

/// Creates a variable the first time a name is asked for: from the starting checkpoint if it has the name,
/// else by the layer's own initialisation.
///
/// With an adapter the starting tensors are constants, and the variables are the low-rank additions to its targets, `MODULE.lora_A` and
/// `MODULE.lora_B`: what a model reads is then their sum as it was when the model was built.
pub struct Variables {
    fresh: FreshSource,
    start: HashMap<String, Tensor>,
    adapter: Option<AdapterTable>,
    vars: Mutex<BTreeMap<String, Var>>,
}

impl Variables {
    /// `start` holds tensors to begin from (may be empty, unless there is an adapter), by the names of the variables.
    pub fn new(seed: u64, start: HashMap<String, Tensor>, adapter: Option<AdapterTable>) -> Self {
        Self { fresh: FreshSource::new(seed), start, adapter, vars: Mutex::default() }
    }

    /// All variables by name, in name order.
    pub fn all(&self) -> BTreeMap<String, Var> {
        self.lock().clone()
    }

    /// Whether models must be built anew to see the variables' new values.
    pub fn is_adapter(&self) -> bool {
        self.adapter.is_some()
    }

    /// The weights of the model as they are now, by name: a copy.
    pub fn weights(&self) -> Result<HashMap<String, Tensor>> {
        if self.adapter.is_none() {
            let copy = |(name, var): (&String, &Var)| Ok((name.clone(), var.as_tensor().copy()?.detach()));
            return self.lock().iter().map(copy).collect();
        }
        let additions = self.additions();
        let mut weights = self.start.clone();
        additions.keys().flat_map(|name| halves(name)).for_each(|half| drop(weights.remove(&half)));
        for (name, [a, b]) in additions {
            let sum = self.adapted(&self.start[&name], &a, &b)?.detach();
            weights.insert(name, sum);
        }
        Ok(weights)
    }

    /// The halves `A (rank, in)` and `B (out, rank)` of each addition by the name of its matrix, as they are now.
    pub fn additions(&self) -> BTreeMap<String, [Tensor; 2]> {
        let vars = self.lock();
        let half = |name: &str| vars.get(name).map(Var::as_detached_tensor);
        let pair = |name: &String| {
            let [a, b] = halves(name);
            Some((name.clone(), [half(&a)?, half(&b)?]))
        };
        self.start.keys().filter_map(pair).collect()
    }

    fn adapted(&self, base: &Tensor, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        let scale = self.adapter.as_ref().map_or(0.0, AdapterTable::scale);
        adapted(base, a, b, scale)
    }

    /// The variable of that name, made when it is asked for first.
    fn variable(&self, name: &str, shape: &[usize], init: Init) -> Result<Tensor> {
        let mut vars = self.lock();
        if let Some(var) = vars.get(name) {
            return Ok(var.as_tensor().clone());
        }
        let var = if let Some(start) = self.start.get(name) {
            fits(name, shape, Some(start.dims().to_vec()))?;
            Var::from_tensor(start)?
        } else {
            Var::from_tensor(&self.fresh.tensor(name, shape, init)?)?
        };
        let tensor = var.as_tensor().clone();
        vars.insert(name.to_owned(), var);
        Ok(tensor)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Var>> {
        self.vars.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The names of the variables that are added to the matrix `name`.
pub(super) fn halves(name: &str) -> [String; 2] {
    let module = name.strip_suffix(".weight").unwrap_or(name);
    [format!("{module}.lora_A"), format!("{module}.lora_B")]
}

impl TensorSource for Variables {
    fn tensor(&self, name: &str, shape: &[usize], init: Init) -> Result<Tensor> {
        let Some(table) = &self.adapter else {
            return self.variable(name, shape, init);
        };
        let base = self.start.get(name);
        fits(name, shape, base.map(|tensor| tensor.dims().to_vec()))?;
        let base = base.ok_or_else(|| Error::MissingTensor { name: name.to_owned() })?;
        let &[out, inner] = shape else { return Ok(base.clone()) };
        if !table.adapts(name, shape) {
            return Ok(base.clone());
        }
        let [name_a, name_b] = halves(name);
        // PEFT draws `A` uniformly between -1/√in and 1/√in; `B` is zero, so that training starts from the model as it is.
        let normal = Init::Normal { std: (3.0 * inner as f64).sqrt().recip() };
        let a = self.variable(&name_a, &[table.rank, inner], normal)?;
        let b = self.variable(&name_b, &[out, table.rank], Init::Const(0.0))?;
        self.adapted(base, &a, &b)
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        let known = self.lock().get(name).map(|var| var.dims().to_vec());
        known.or_else(|| self.start.get(name).map(|tensor| tensor.dims().to_vec()))
    }
}
