//! Stored inputs and outputs of another implementation, sorted into runs.

use std::{collections::BTreeMap, path::Path};

use candle_core::{DType, Device, Tensor};
use safetensors::Dtype;

use crate::{Error, Result, checkpoint::WeightFile};

/// Tensors that a model is given; all others are outputs.
const INPUTS: [&str; 9] = [
    "pixel_values",
    "input_ids",
    "attention_mask",
    "position_ids",
    "decoder_input_ids",
    "decoder_attention_mask",
    "cross_attention_states",
    "cross_attention_mask",
    "prompt_ids",
];

/// First parts of the names of outputs. Any other first part names a run.
const OUTPUTS: [&str; 16] = [
    "embeddings",
    "block",
    "stage",
    "last_hidden_state",
    "pooler_output",
    "hidden",
    "final_norm",
    "logits",
    "router",
    "indexer",
    "encoder",
    "feature_maps",
    "new_ids",
    "step_logits",
    "vision",
    "cross",
];

/// A stored tensor: floats are compared within a tolerance, integers exactly.
#[derive(Debug, Clone)]
pub(super) enum Stored {
    Float(Tensor),
    Int { shape: Vec<usize>, values: Vec<i64> },
}

/// All of a golden file.
#[derive(Debug)]
pub(super) struct Golden {
    path: String,
    tensors: BTreeMap<String, Stored>,
}

/// One run: the outputs that were stored under one prefix (`""`, `left.`, `greedy.`...).
#[derive(Debug)]
pub(super) struct Run<'a> {
    pub(super) prefix: String,
    pub(super) outputs: BTreeMap<String, &'a Stored>,
    golden: &'a Golden,
}

impl Golden {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = WeightFile::open(path)?;
        let mut tensors = BTreeMap::new();
        for name in file.names() {
            let Some(view) = file.view(&name) else {
                continue;
            };
            let shape = view.shape.to_vec();
            let ints =
                |size: usize, read: fn(&[u8]) -> i64| view.bytes.chunks_exact(size).map(read).collect();
            let stored = match view.dtype {
                Dtype::F32 => {
                    let values: Vec<f32> =
                        view.bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect();
                    Stored::Float(Tensor::from_vec(values, shape, &Device::Cpu)?)
                }
                Dtype::I64 => Stored::Int {
                    shape,
                    values: ints(8, |b| i64::from_le_bytes(b.try_into().unwrap_or_default())),
                },
                Dtype::I32 => Stored::Int {
                    shape,
                    values: ints(4, |b| i32::from_le_bytes(b.try_into().unwrap_or_default()).into()),
                },
                Dtype::U8 | Dtype::BOOL => Stored::Int { shape, values: ints(1, |b| b[0].into()) },
                other => {
                    let message =
                        format!("tensor `{name}` is stored as {other:?}, expected F32, I64, I32, U8 or BOOL");
                    return Err(Error::file(path, message));
                }
            };
            tensors.insert(name, stored);
        }
        Ok(Self { path: path.display().to_string(), tensors })
    }

    /// The runs with outputs, the one without a prefix first.
    pub(super) fn runs(&self) -> Vec<Run<'_>> {
        let mut runs: BTreeMap<String, BTreeMap<String, &Stored>> = BTreeMap::new();
        for (name, stored) in &self.tensors {
            let (prefix, output) = split(name);
            if !INPUTS.contains(&output.as_str()) {
                runs.entry(prefix).or_default().insert(output, stored);
            }
        }
        runs.into_iter().map(|(prefix, outputs)| Run { prefix, outputs, golden: self }).collect()
    }

    pub(super) fn error(&self, message: impl std::fmt::Display) -> Error {
        Error::File { path: self.path.clone(), message: message.to_string() }
    }
}

/// `left.logits` is run `left.`, output `logits`; `router.1.experts` has no prefix.
fn split(name: &str) -> (String, String) {
    let first = name.split('.').next().unwrap_or(name);
    if INPUTS.contains(&name) || OUTPUTS.contains(&first) || first == name {
        return (String::new(), name.to_owned());
    }
    (format!("{first}."), name[first.len() + 1..].to_owned())
}

impl Run<'_> {
    /// The input of this run: its own, or for a padded batch the shared `batch.` one, or the main run's.
    fn input(&self, name: &str) -> Option<&Stored> {
        let get = |prefix: &str| self.golden.tensors.get(&format!("{prefix}{name}"));
        let shared = || self.is_padded().then(|| get("batch.")).flatten();
        get(&self.prefix).or_else(shared).or_else(|| get(""))
    }

    /// The input of this run alone.
    fn own(&self, name: &str) -> Option<&Stored> {
        self.golden.tensors.get(&format!("{}{name}", self.prefix))
    }

    fn is_padded(&self) -> bool {
        ["attention_mask", "decoder_attention_mask"].iter().any(|name| self.own(name).is_some())
    }

    /// Whether this run continues a prompt.
    pub(super) fn is_greedy(&self) -> bool {
        self.own("prompt_ids").is_some()
    }

    /// The error for an input that the run needs.
    pub(super) fn missing(&self, input: &str) -> Error {
        self.golden.error(format!("run `{}` has no input `{input}`", self.prefix))
    }

    /// The run's name in messages and reports.
    pub(super) fn name(&self, output: &str) -> String {
        format!("{}{output}", self.prefix)
    }

    pub(super) fn floats(&self, name: &str) -> Result<Option<Tensor>> {
        match self.input(name) {
            None => Ok(None),
            Some(Stored::Float(tensor)) => Ok(Some(tensor.clone())),
            Some(Stored::Int { .. }) => {
                Err(self.golden.error(format!("`{name}` holds integers, expected F32")))
            }
        }
    }

    /// Ids `(batch, tokens)`; `names` are tried in order.
    pub(super) fn ids(&self, names: &[&str]) -> Result<Tensor> {
        for name in names {
            if let Some(ids) = self.integers(name)? {
                return Ok(ids);
            }
        }
        Err(self.missing(&names.join("` or `")))
    }

    /// Integers as `U32`, if the run has them.
    pub(super) fn integers(&self, name: &str) -> Result<Option<Tensor>> {
        self.input(name).map(|stored| self.as_u32(name, stored)).transpose()
    }

    /// As [`Run::integers`], but only if they were stored for this run and no other.
    pub(super) fn own_integers(&self, name: &str) -> Result<Option<Tensor>> {
        self.own(name).map(|stored| self.as_u32(name, stored)).transpose()
    }

    fn as_u32(&self, name: &str, stored: &Stored) -> Result<Tensor> {
        let Stored::Int { shape, values } = stored else {
            return Err(self.golden.error(format!("`{name}` holds floats, expected integers")));
        };
        let values: Option<Vec<u32>> = values.iter().map(|&v| u32::try_from(v).ok()).collect();
        let values = values
            .ok_or_else(|| self.golden.error(format!("`{name}` holds negative numbers, expected ids")))?;
        Ok(Tensor::from_vec(values, shape.as_slice(), &Device::Cpu)?)
    }
}

impl Stored {
    pub(super) fn shape(&self) -> &[usize] {
        match self {
            Self::Float(tensor) => tensor.dims(),
            Self::Int { shape, .. } => shape,
        }
    }

    /// Values in order, integers as floats: exact up to 2^53.
    pub(super) fn values(&self) -> Result<Vec<f64>> {
        Ok(match self {
            Self::Float(tensor) => tensor.flatten_all()?.to_dtype(DType::F64)?.to_vec1()?,
            Self::Int { values, .. } => values.iter().map(|&v| v as f64).collect(),
        })
    }
}
