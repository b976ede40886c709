//! Writing tensors: atomically, in the type asked for.

use std::{collections::BTreeMap, io::Write as _, path::Path};

use candle_core::{DType, Tensor};
use half::f16;
use safetensors::{Dtype, tensor::TensorView};
use serde_json::Value;
use swinseek_kernels::quant::Int8Rows;

use crate::{Error, Result};

/// How weights are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StoredType {
    /// Exact.
    #[default]
    F32,
    /// Half precision for every tensor.
    F16,
    /// 8-bit rows with a scale each for the matrices that [`quantizable`] names, `F32` for the rest.
    Int8,
}

/// Whether [`StoredType::Int8`] stores this tensor in 8 bits: weight matrices and stacked experts that are large
/// enough to matter, but no router (a top-k must not move), no bias network and no positions.
pub fn quantizable(name: &str, shape: &[usize]) -> bool {
    let exact =
        ["mlp.gate.weight", "cpb_mlp", "continuous_position_bias_mlp", "position", "indexer", "_head."];
    let matrix = match shape.len() {
        2 => name.ends_with(".weight"),
        3 => name.contains("experts"),
        _ => false,
    };
    let wide = shape.last().is_some_and(|&row| row >= 32);
    matrix && wide && shape.iter().product::<usize>() >= 1024 && !exact.iter().any(|part| name.contains(part))
}

/// Writes `config.json` and `model.safetensors` into `dir`, which is created if it does not exist. Each file
/// appears whole or not at all.
pub fn save(
    dir: &Path,
    config: &Value,
    tensors: &BTreeMap<String, Tensor>,
    stored: StoredType,
) -> Result<()> {
    std::fs::create_dir_all(dir).map_err(|error| Error::file(dir, error))?;
    write_tensors(&dir.join("model.safetensors"), tensors, stored)?;
    write_json(&dir.join("config.json"), config)
}

/// Writes a JSON file for people to read, atomically.
pub fn write_json(path: &Path, value: &Value) -> Result<()> {
    let mut json = serde_json::to_vec_pretty(value).map_err(|error| Error::file(path, error))?;
    json.push(b'\n');
    write_atomic(path, &json)
}

/// Writes one safetensors file. The same tensors give the same bytes.
pub fn write_tensors(path: &Path, tensors: &BTreeMap<String, Tensor>, stored: StoredType) -> Result<()> {
    let mut entries: BTreeMap<String, Entry> = BTreeMap::new();
    for (name, tensor) in tensors {
        add_entries(&mut entries, name, tensor, stored)?;
    }
    let views: Vec<(&String, TensorView)> = entries
        .iter()
        .map(|(name, entry)| Ok((name, TensorView::new(entry.dtype, entry.shape.clone(), &entry.bytes)?)))
        .collect::<std::result::Result<_, safetensors::SafeTensorError>>()
        .map_err(|error| Error::file(path, error))?;
    let metadata = [("format".to_owned(), "pt".to_owned())].into();
    let bytes = safetensors::serialize(views, Some(metadata)).map_err(|error| Error::file(path, error))?;
    write_atomic(path, &bytes)
}

/// A tensor's bytes and, for 8-bit rows, their scales.
fn add_entries(
    entries: &mut BTreeMap<String, Entry>,
    name: &str,
    tensor: &Tensor,
    stored: StoredType,
) -> Result<()> {
    let values = tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
    let shape = tensor.dims().to_vec();
    let entry = match (stored, shape.split_last()) {
        (StoredType::F16, _) => {
            let bytes = values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect();
            Entry { dtype: Dtype::F16, shape, bytes }
        }
        (StoredType::Int8, Some((&row_len, rows))) if quantizable(name, &shape) => {
            let quantized = Int8Rows::quantize(&values, row_len);
            let bytes = quantized.values.iter().map(|q| q.cast_unsigned()).collect();
            entries.insert(format!("{name}_scale"), Entry::f32(rows.to_vec(), &quantized.scales));
            Entry { dtype: Dtype::I8, shape, bytes }
        }
        _ => Entry::f32(shape, &values),
    };
    entries.insert(name.to_owned(), entry);
    Ok(())
}

/// Writes `bytes` to a temporary file beside `path`, flushes it to disk and renames it.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}.tmp", std::process::id()));
    let temporary = Path::new(&temporary);
    let write = || -> std::io::Result<()> {
        let mut file = std::fs::File::create(temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(temporary, path)
    };
    write().map_err(|error| {
        // The error that matters is the first one.
        let _ = std::fs::remove_file(temporary);
        Error::file(path, error)
    })
}

struct Entry {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Entry {
    fn f32(shape: Vec<usize>, values: &[f32]) -> Self {
        Self { dtype: Dtype::F32, shape, bytes: values.iter().flat_map(|v| v.to_le_bytes()).collect() }
    }
}
