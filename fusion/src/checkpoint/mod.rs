//! A model directory on disk: `config.json` and its weights, read lazily through a memory map.
//!
//! - `adapter`: low-rank additions to the matrices of a model.
//! - `file`: one safetensors file, mapped and checked before anything is allocated.
//! - `decode`: bytes of each stored type to `f32`, quantised ones included.
//! - `extra`: which tensors nobody read, and which of those are known leftovers.
//! - `gguf`: llama models in llama.cpp's format.
//! - `save`: the writer.
//! - `source`: tensors that are already in memory.

mod adapter;
mod decode;
mod extra;
mod file;
mod fresh;
mod gguf;
mod save;
mod source;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use candle_core::{Device, Tensor};
use serde_json::Value;
use swinseek_kernels::{Compute, Error as KernelError, Init, TensorSource, Weights, weights::fits};

pub use adapter::{AdapterConfig, adapted, load_adapter, save_adapter};
pub(crate) use file::WeightFile;
pub use fresh::FreshSource;
pub use gguf::Gguf;
pub use save::{StoredType, quantizable, save, write_atomic, write_json, write_tensors};
pub use source::MapSource;

use crate::{Error, Result};
use adapter::Adapter;

/// No `config.json` or shard index of a published model comes near this.
const JSON_LIMIT: u64 = 64 << 20;
const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// An open model directory: configuration, and every tensor by name.
///
/// As a [`TensorSource`] it gives `f32` tensors and remembers which names were asked for, so that
/// [`Checkpoint::check_unused`] can refuse a file that holds more than the model understands.
#[derive(Debug)]
pub struct Checkpoint {
    dir: PathBuf,
    /// Where the weights are: `dir`, or the model that its adapter names.
    base: PathBuf,
    config: Value,
    files: Vec<WeightFile>,
    /// Each adds to what those before it leave.
    adapters: Vec<Adapter>,
    /// Tensor name to the file that holds it.
    index: BTreeMap<String, usize>,
    fp8_block: [usize; 2],
    read: Mutex<BTreeSet<String>>,
    digest: OnceLock<String>,
}

impl Checkpoint {
    /// Opens `dir`: reads `config.json`, maps `model.safetensors` or every shard of the index, and the adapter if there is
    /// one, and checks their headers. No tensor is read yet.
    pub fn open(dir: &Path) -> Result<Arc<Self>> {
        let (base, adapters) =
            adapter::open(dir, |dir| dir.join(SINGLE).is_file() || dir.join(INDEX).is_file())?;
        let config = read_json(&base.join("config.json"))?;
        let files: Vec<WeightFile> =
            weight_paths(&base)?.iter().map(|path| WeightFile::open(path)).collect::<Result<_>>()?;
        let mut index = BTreeMap::new();
        for (number, file) in files.iter().enumerate() {
            for name in file.names() {
                if let Some(first) = index.insert(name.clone(), number) {
                    let other = files[first].path().display();
                    return Err(Error::file(file.path(), format!("tensor `{name}` is also in {other}")));
                }
            }
        }
        check_index(&base, &index)?;
        let fp8_block = fp8_block(&config).map_err(|error| Error::model(&base.join("config.json"), error))?;
        let (read, digest) = (Mutex::default(), OnceLock::new());
        let checkpoint =
            Self { dir: dir.to_owned(), base, config, files, adapters, index, fp8_block, read, digest };
        for adapter in &checkpoint.adapters {
            adapter.check(|name| checkpoint.shape(name))?;
        }
        Ok(Arc::new(checkpoint))
    }

    /// The directory this was opened from.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where the file `name` of this model is: in its directory, or else in that of the model that it adapts.
    pub fn file(&self, name: &str) -> PathBuf {
        let own = self.dir.join(name);
        if own.is_file() { own } else { self.base.join(name) }
    }

    /// `config.json`.
    pub fn config(&self) -> &Value {
        &self.config
    }

    /// A view of all tensors for building a model.
    pub fn weights(self: &Arc<Self>, compute: &Compute) -> Weights {
        Weights::new(Arc::clone(self) as Arc<dyn TensorSource>, compute.precision).on(&compute.device)
    }

    /// Names of all stored tensors, in order, scales of quantised ones included.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.index.keys().map(String::as_str)
    }

    /// Type on disk as safetensors writes it (`F32`, `I8`...) and shape.
    pub fn info(&self, name: &str) -> Option<(String, Vec<usize>)> {
        let view = self.files[*self.index.get(name)?].view(name)?;
        Some((format!("{:?}", view.dtype), view.shape.to_vec()))
    }

    /// Bytes of the weight files.
    pub fn size_bytes(&self) -> u64 {
        self.all_files().map(|file| file.bytes().len() as u64).sum()
    }

    /// Parameters of the adapters.
    pub fn adapter_parameters(&self) -> u64 {
        self.adapters.iter().map(Adapter::parameters).sum()
    }

    fn all_files(&self) -> impl Iterator<Item = &WeightFile> {
        self.files.iter().chain(self.adapters.iter().map(Adapter::file))
    }

    /// The tensor as `f32`, whatever shape it has, with what adapters add to it.
    pub fn load(&self, name: &str) -> swinseek_kernels::Result<Tensor> {
        let view = self.view(name)?;
        let values = decode::to_f32(name, &view, |name| self.scale(&name), self.fp8_block)?;
        let tensor = Tensor::from_vec(values, view.shape, &Device::Cpu)?;
        self.mark_read(name);
        self.adapters.iter().try_fold(tensor, |base, adapter| adapter.apply(name, base))
    }

    fn view(&self, name: &str) -> swinseek_kernels::Result<file::View<'_>> {
        let view = self.index.get(name).and_then(|&file| self.files[file].view(name));
        view.ok_or_else(|| KernelError::MissingTensor { name: name.to_owned() })
    }

    /// A scale, which counts as read whether it fits or not: the error is that of its tensor.
    fn scale(&self, name: &str) -> Option<file::View<'_>> {
        self.mark_read(name);
        self.view(name).ok()
    }

    /// Whether `name` is the scale of a quantised tensor, and no parameter (Swin v2 has a `logit_scale`).
    pub fn is_scale(&self, name: &str) -> bool {
        let base = name.strip_suffix("_scale").or_else(|| name.strip_suffix("_scale_inv"));
        base.is_some_and(|base| self.index.contains_key(base))
    }

    fn mark_read(&self, name: &str) {
        self.read.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned());
    }

    /// All parameters by name as `f32`; scales of quantised tensors are applied, not listed.
    pub fn load_all(&self) -> swinseek_kernels::Result<HashMap<String, Tensor>> {
        self.names()
            .filter(|name| !self.is_scale(name))
            .map(|name| Ok((name.to_owned(), self.load(name)?)))
            .collect()
    }

    /// Tensors that no one has asked for so far and that are not known leftovers of older files.
    pub fn unused(&self) -> Vec<String> {
        let read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let unread = self.index.keys().filter(|name| !read.contains(*name));
        unread.filter(|name| !extra::is_known_leftover(name, &self.config)).cloned().collect()
    }

    /// Refuses a checkpoint with tensors that the built model did not ask for.
    pub fn check_unused(&self) -> Result<()> {
        let unused = self.unused();
        let Some(first) = unused.first() else {
            return Ok(());
        };
        let more = if unused.len() > 1 { format!(" (and {} more)", unused.len() - 1) } else { String::new() };
        let file = self.files[self.index[first]].path();
        let message = format!(
            "unexpected tensor `{first}`{more}: the model in config.json has no parameter of that name"
        );
        Err(Error::file(file, message))
    }

    /// BLAKE3 over `config.json` (as parsed: white space does not count), adapters' scales and the weight files (name, length and
    /// bytes of each), as 64 hex digits.
    /// Computed once.
    pub fn digest(&self) -> &str {
        self.digest.get_or_init(|| {
            let mut hasher = blake3::Hasher::new();
            let mut add = |name: &str, bytes: &[u8]| {
                for part in [name.as_bytes(), bytes] {
                    hasher.update(&(part.len() as u64).to_le_bytes());
                    hasher.update(part);
                }
            };
            add("config.json", self.config.to_string().as_bytes());
            for adapter in &self.adapters {
                add("adapter", &adapter.scale().to_le_bytes());
            }
            for file in self.all_files() {
                let name = file.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
                add(&name, file.bytes());
            }
            hasher.finalize().to_hex().to_string()
        })
    }
}

impl TensorSource for Checkpoint {
    fn tensor(&self, name: &str, shape: &[usize], _init: Init) -> swinseek_kernels::Result<Tensor> {
        fits(name, shape, self.shape(name))?;
        self.load(name)
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        Some(self.files[*self.index.get(name)?].view(name)?.shape.to_vec())
    }

    fn is_lasting(&self) -> bool {
        true
    }

    fn check(&self, name: &str, shape: &[usize]) -> swinseek_kernels::Result<()> {
        fits(name, shape, self.shape(name))?;
        decode::check(name, &self.view(name)?, |name| self.scale(&name), self.fp8_block)?;
        self.mark_read(name);
        Ok(())
    }
}

/// A JSON file, with its size checked before it is read.
pub fn read_json(path: &Path) -> Result<Value> {
    let size = std::fs::metadata(path).map_err(|error| Error::file(path, error))?.len();
    if size > JSON_LIMIT {
        return Err(Error::file(path, format!("{size} bytes, expected at most {JSON_LIMIT} of JSON")));
    }
    let bytes = std::fs::read(path).map_err(|error| Error::file(path, error))?;
    serde_json::from_slice(&bytes).map_err(|error| Error::file(path, format!("not valid JSON: {error}")))
}

fn weight_paths(dir: &Path) -> Result<Vec<PathBuf>> {
    let single = dir.join(SINGLE);
    if single.is_file() {
        return Ok(vec![single]);
    }
    if !dir.join(INDEX).is_file() {
        return Err(Error::file(dir, format!("no weights, expected {SINGLE} or {INDEX}")));
    }
    let shards: BTreeSet<String> = weight_map(dir)?.into_values().collect();
    Ok(shards.into_iter().map(|shard| dir.join(shard)).collect())
}

/// The index of a sharded checkpoint: tensor name to file name.
fn weight_map(dir: &Path) -> Result<BTreeMap<String, String>> {
    let path = dir.join(INDEX);
    let json = read_json(&path)?;
    let map = json.get("weight_map").and_then(Value::as_object);
    let map = map.ok_or_else(|| {
        Error::file(&path, "field `weight_map` is missing, expected an object of file names")
    })?;
    let mut files = BTreeMap::new();
    for (name, shard) in map {
        // A shard is a plain file name: an index must not reach outside its directory.
        let plain = shard.as_str().filter(|s| !s.is_empty() && !s.contains(['/', '\\']) && *s != "..");
        let shard = plain.ok_or_else(|| {
            Error::file(
                &path,
                format!("`weight_map.{name}` is {shard}, expected the name of a file beside the index"),
            )
        })?;
        files.insert(name.clone(), shard.to_owned());
    }
    if files.is_empty() {
        return Err(Error::file(&path, "`weight_map` is empty, expected at least one tensor"));
    }
    Ok(files)
}

/// Every tensor that the index promises must exist.
fn check_index(dir: &Path, index: &BTreeMap<String, usize>) -> Result<()> {
    if dir.join(SINGLE).is_file() {
        return Ok(());
    }
    match weight_map(dir)?.iter().find(|(name, _)| !index.contains_key(*name)) {
        None => Ok(()),
        Some((name, shard)) => {
            Err(Error::file(&dir.join(shard), format!("no tensor `{name}`, although {INDEX} places it here")))
        }
    }
}

/// Rows and columns that share one FP8 scale (`quantization_config.weight_block_size`, 128 × 128 by default).
fn fp8_block(config: &Value) -> swinseek_kernels::Result<[usize; 2]> {
    let Some(value) = config.pointer("/quantization_config/weight_block_size").filter(|v| !v.is_null())
    else {
        return Ok([128, 128]);
    };
    let side = |i: usize| value.get(i).and_then(Value::as_u64).filter(|&n| n > 0).map(|n| n as usize);
    match (side(0), side(1), value.get(2)) {
        (Some(rows), Some(columns), None) => Ok([rows, columns]),
        _ => Err(KernelError::config(
            "quantization_config.weight_block_size",
            format!("is {value}, expected two positive integers"),
        )),
    }
}
