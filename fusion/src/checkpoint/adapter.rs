//! Low-rank adapters (Hu et al. 2022, "LoRA") in the files of Hugging Face's PEFT: small additions to the matrices of a model whose own
//! weights stay as they are.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};
use swinseek_kernels::{Error as KernelError, Result as KernelResult};

use super::{StoredType, WeightFile, decode, read_json, save::write_json, write_tensors};
use crate::{Error, Result};

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";
/// Adapters of adapters; one that names itself is found by this.
const DEEPEST: usize = 8;
/// PEFT wraps a model twice before it names its modules.
const WRAPPED: &str = "base_model.model.";
const A: &str = ".lora_A.weight";
const B: &str = ".lora_B.weight";

/// The matrix `(out, in)` with its addition: `base + scale B A`, of `A (rank, in)` and `B (out, rank)`.
pub fn adapted(base: &Tensor, a: &Tensor, b: &Tensor, scale: f64) -> KernelResult<Tensor> {
    Ok((base + (b.matmul(a)? * scale)?)?)
}

/// `adapter_config.json`, as far as it says how `A` and `B` are applied.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AdapterConfig {
    peft_type: String,
    /// Directory of the model that is adapted, from the adapter's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base_model_name_or_path: Option<String>,
    /// Rank of the additions.
    pub r: usize,
    /// The additions are scaled by this over the rank (over its root with `use_rslora`).
    pub lora_alpha: f64,
    #[serde(default)]
    use_rslora: bool,
    #[serde(default)]
    target_modules: serde_json::Value,
    #[serde(default = "no_bias")]
    bias: String,
    /// What is not listed above and changes the arithmetic: refused unless it is off.
    #[serde(flatten)]
    rest: BTreeMap<String, serde_json::Value>,
}

fn no_bias() -> String {
    "none".to_owned()
}

impl AdapterConfig {
    /// Of additions to `modules` of the model in `base`.
    pub fn new(base: Option<&Path>, rank: usize, alpha: f64, modules: &[String]) -> Self {
        Self {
            peft_type: "LORA".to_owned(),
            base_model_name_or_path: base.map(|path| path.display().to_string()),
            r: rank,
            lora_alpha: alpha,
            use_rslora: false,
            target_modules: modules.into(),
            bias: no_bias(),
            rest: BTreeMap::new(),
        }
    }

    /// The factor of `B A`.
    pub fn scale(&self) -> f64 {
        let rank = self.r as f64;
        self.lora_alpha / if self.use_rslora { rank.sqrt() } else { rank }
    }

    /// Refuses what this reader would get silently wrong.
    fn check(&self) -> std::result::Result<(), String> {
        let expect = |field: &str, found: &str, expected: &str| {
            if found == expected {
                Ok(())
            } else {
                Err(format!("field `{field}` is {found}, expected {expected}"))
            }
        };
        expect("peft_type", &self.peft_type, "LORA")?;
        expect("bias", &self.bias, "none")?;
        if self.r == 0 || !self.lora_alpha.is_finite() {
            return Err(format!("`r` {} and `lora_alpha` {} scale nothing", self.r, self.lora_alpha));
        }
        let changes = [
            "alora_invocation_tokens",
            "alpha_pattern",
            "arrow_config",
            "fan_in_fan_out",
            "kasa_config",
            "layer_replication",
            "lora_bias",
            "modules_to_save",
            "rank_pattern",
            "target_parameters",
            "trainable_token_indices",
            "use_bdlora",
            "use_dora",
            "use_qalora",
        ];
        for field in changes {
            let value = self.rest.get(field).unwrap_or(&serde_json::Value::Null);
            let off = match value {
                serde_json::Value::Null | serde_json::Value::Bool(false) => true,
                serde_json::Value::Object(map) => map.is_empty(),
                serde_json::Value::Array(list) => list.is_empty(),
                _ => false,
            };
            if !off {
                return Err(format!("field `{field}` is {value}, which is not supported"));
            }
        }
        Ok(())
    }
}

/// The adapters that lead from a model's weights to the model of `dir`, in the order in which they add to them, and the directory of those
/// weights. `has_weights` tells it: an adapter lies beside the weights, or names their directory, which may be an adapter's in turn.
pub(super) fn open(dir: &Path, has_weights: impl Fn(&Path) -> bool) -> Result<(PathBuf, Vec<Adapter>)> {
    let (mut base, mut adapters) = (dir.to_owned(), Vec::new());
    while let Some(adapter) = Adapter::open(&base)? {
        let next = if has_weights(&base) { None } else { Some(adapter.base(&base)?) };
        adapters.insert(0, adapter);
        match next {
            None => break,
            Some(_) if adapters.len() == DEEPEST => {
                let message = format!("more than {DEEPEST} adapters, each of the next");
                return Err(Error::file(&base.join(CONFIG), message));
            }
            Some(next) => base = next,
        }
    }
    Ok((base, adapters))
}

/// An adapter's files, open.
#[derive(Debug)]
pub(super) struct Adapter {
    config: AdapterConfig,
    file: WeightFile,
    /// Names in the file of `A` and `B`, by the name of the matrix that they are added to.
    pairs: BTreeMap<String, [String; 2]>,
}

impl Adapter {
    /// That in `dir`, if there is one.
    fn open(dir: &Path) -> Result<Option<Self>> {
        let path = dir.join(CONFIG);
        if !path.is_file() {
            return Ok(None);
        }
        let config: AdapterConfig =
            serde_json::from_value(read_json(&path)?).map_err(|error| Error::file(&path, error))?;
        config.check().map_err(|error| Error::file(&path, error))?;
        let file = WeightFile::open(&dir.join(WEIGHTS))?;
        let pairs = pairs(&file).map_err(|error| Error::file(file.path(), error))?;
        Ok(Some(Self { config, file, pairs }))
    }

    /// The directory that `base_model_name_or_path` names.
    fn base(&self, dir: &Path) -> Result<PathBuf> {
        let named = self.config.base_model_name_or_path.as_deref();
        named.map(|name| dir.join(name)).filter(|base| base.is_dir()).ok_or_else(|| {
            let found = named.map_or_else(|| "null".to_owned(), |name| format!("{name:?}"));
            let expected = "the directory of the model that is adapted (nothing is downloaded), or weights beside this file";
            Error::file(&dir.join(CONFIG), format!("field `base_model_name_or_path` is {found}, expected {expected}"))
        })
    }

    /// What changes its results besides the file: the scale.
    pub(super) fn scale(&self) -> f64 {
        self.config.scale()
    }

    /// The file of `A`s and `B`s.
    pub(super) fn file(&self) -> &WeightFile {
        &self.file
    }

    pub(super) fn parameters(&self) -> u64 {
        let count =
            |name: &String| self.file.view(name).map_or(0, |view| view.shape.iter().product::<usize>());
        self.pairs.values().flatten().map(|name| count(name) as u64).sum()
    }

    /// Checks that every addition has a matrix of `shapes` that it fits.
    pub(super) fn check(&self, shape: impl Fn(&str) -> Option<Vec<usize>>) -> Result<()> {
        let rank = self.config.r;
        for (name, [a, b]) in &self.pairs {
            let found =
                [a, b].map(|name| self.file.view(name).map(|view| view.shape.to_vec()).unwrap_or_default());
            let message = match shape(name).as_deref() {
                Some(&[out, inner]) if found == [vec![rank, inner], vec![out, rank]] => continue,
                Some(base) => format!(
                    "tensors `{a}` {:?} and `{b}` {:?} of rank {rank} do not fit `{name}` {base:?}",
                    found[0], found[1]
                ),
                None => format!("tensor `{a}`: the model has no matrix `{name}`"),
            };
            return Err(Error::file(self.file.path(), message));
        }
        Ok(())
    }

    /// `base`, the tensor `name` of the model, with what is added to it.
    pub(super) fn apply(&self, name: &str, base: Tensor) -> KernelResult<Tensor> {
        let Some([a, b]) = self.pairs.get(name) else {
            return Ok(base);
        };
        adapted(&base, &self.half(a)?, &self.half(b)?, self.config.scale())
    }

    /// An `A` or a `B` by its name in the file.
    fn half(&self, name: &str) -> KernelResult<Tensor> {
        let view =
            self.file.view(name).ok_or_else(|| KernelError::MissingTensor { name: name.to_owned() })?;
        let values = decode::to_f32(name, &view, |_| None, [1, 1])?;
        Ok(Tensor::from_vec(values, view.shape, &Device::Cpu)?)
    }
}

/// The pairs of a file: every tensor is half of one.
fn pairs(file: &WeightFile) -> std::result::Result<BTreeMap<String, [String; 2]>, String> {
    let mut pairs = BTreeMap::new();
    for name in file.names() {
        let other = |from: &str, to: &str| {
            name.strip_suffix(from).map(|module| (module.to_owned(), format!("{module}{to}")))
        };
        let (module, pair) = match (other(A, B), other(B, A)) {
            (Some((module, b)), _) => (module, [name, b]),
            (_, Some((module, a))) => (module, [a, name]),
            _ => return Err(format!("tensor `{name}`: expected names that end in `{A}` or `{B}`")),
        };
        if let Some(missing) = pair.iter().find(|name| file.view(name).is_none()) {
            return Err(format!("tensor `{missing}` is missing"));
        }
        let module = module.strip_prefix(WRAPPED).unwrap_or(&module);
        pairs.insert(format!("{module}.weight"), pair);
    }
    Ok(pairs)
}

/// Reads what `save_adapter` writes: the halves as `f32`.
pub fn load_adapter(dir: &Path) -> Result<(AdapterConfig, BTreeMap<String, [Tensor; 2]>)> {
    let adapter =
        Adapter::open(dir)?.ok_or_else(|| Error::file(&dir.join(CONFIG), "there is no such file"))?;
    let read =
        |(name, [a, b]): (&String, &[String; 2])| Ok((name.clone(), [adapter.half(a)?, adapter.half(b)?]));
    let pairs: KernelResult<_> = adapter.pairs.iter().map(read).collect();
    let pairs = pairs.map_err(|error| Error::model(adapter.file.path(), error))?;
    Ok((adapter.config, pairs))
}

/// Writes an adapter: `pairs` has `A` and `B` by the name of the matrix `MODULE.weight` that they are added to.
pub fn save_adapter(dir: &Path, config: &AdapterConfig, pairs: &BTreeMap<String, [Tensor; 2]>) -> Result<()> {
    let mut tensors = BTreeMap::new();
    for (name, [a, b]) in pairs {
        let module = name.strip_suffix(".weight").unwrap_or(name);
        tensors.insert(format!("{WRAPPED}{module}{A}"), a.clone());
        tensors.insert(format!("{WRAPPED}{module}{B}"), b.clone());
    }
    write_tensors(&dir.join(WEIGHTS), &tensors, StoredType::F16)?;
    write_json(&dir.join(CONFIG), &serde_json::to_value(config).map_err(|error| Error::file(dir, error))?)
}
