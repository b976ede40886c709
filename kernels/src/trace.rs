//! A window into a forward pass: tests, `verify` and the evidence in a report read tensors through it.

use std::collections::BTreeMap;

use candle_core::Tensor;

/// Collects named intermediate tensors; an empty trace costs nothing.
#[derive(Debug, Default)]
pub struct Trace {
    prefixes: Option<Vec<String>>,
    prefix: String,
    tensors: BTreeMap<String, Tensor>,
}

impl Trace {
    /// Records nothing.
    pub fn off() -> Self {
        Self::default()
    }

    /// Records every tensor.
    pub fn all() -> Self {
        Self { prefixes: Some(vec![String::new()]), ..Self::default() }
    }

    /// Records tensors whose names start with one of `prefixes`.
    pub fn only(prefixes: &[&str]) -> Self {
        Self { prefixes: Some(prefixes.iter().map(ToString::to_string).collect()), ..Self::default() }
    }

    /// Whether a tensor of that name would be kept. Ask before work that only the trace needs.
    pub fn wants(&self, name: &str) -> bool {
        self.prefixes.as_ref().is_some_and(|list| list.iter().any(|p| name.starts_with(p.as_str())))
    }

    /// Keeps `tensor` under `name` if it is wanted. A later record of the same name replaces it.
    pub fn record(&mut self, name: impl AsRef<str>, tensor: &Tensor) {
        if self.wants(name.as_ref()) {
            self.tensors.insert(format!("{}{}", self.prefix, name.as_ref()), tensor.clone());
        }
    }

    /// Names recorded from now on stand behind `prefix` (a run's name, `pad.`); matching ignores it.
    pub fn set_prefix(&mut self, prefix: &str) {
        prefix.clone_into(&mut self.prefix);
    }

    /// The recorded tensor of that name.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name)
    }

    /// All recorded tensors by name.
    pub fn tensors(&self) -> &BTreeMap<String, Tensor> {
        &self.tensors
    }

    /// Removes and returns what was recorded so far.
    pub fn take(&mut self) -> BTreeMap<String, Tensor> {
        std::mem::take(&mut self.tensors)
    }
}
