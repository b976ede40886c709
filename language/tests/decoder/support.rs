//! Weights from memory, golden files, comparison.

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    sync::{Arc, Mutex},
};

use candle_core::{DType, Device, Tensor, Var};
use rand::{Rng, RngExt, SeedableRng, rngs::ChaCha8Rng};
use serde_json::Value;
use swinseek_kernels::{Error, Init, Precision, Result, TensorSource, Trace, Weights};
use swinseek_language::{Context, Decoder, LanguageConfig, LayerHook, NoHook};

/// Absolute, fp32: what the golden files were accepted with (their README); rounding moves a value by half of it.
pub const TOLERANCE: f32 = 2e-5;

/// Tensors of one safetensors file.
pub struct Memory(pub HashMap<String, Tensor>);

impl TensorSource for Memory {
    fn tensor(&self, name: &str, shape: &[usize], _init: Init) -> Result<Tensor> {
        let tensor = self.0.get(name).ok_or_else(|| Error::MissingTensor { name: name.to_owned() })?;
        if tensor.dims() != shape {
            let (expected, found) = (shape.to_vec(), tensor.dims().to_vec());
            return Err(Error::Shape { name: name.to_owned(), expected, found });
        }
        Ok(tensor.clone())
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.0.get(name).map(|tensor| tensor.dims().to_vec())
    }
}

/// Creates variables as they are asked for, as a trainer does.
pub struct Fresh {
    pub vars: Mutex<BTreeMap<String, Var>>,
    rng: Mutex<ChaCha8Rng>,
    /// What the standard deviation of fresh values is multiplied by.
    spread: f64,
}

impl Fresh {
    pub fn new(seed: u64, spread: f64) -> Arc<Self> {
        let rng = Mutex::new(ChaCha8Rng::seed_from_u64(seed));
        Arc::new(Self { vars: Mutex::default(), rng, spread })
    }
}

impl TensorSource for Fresh {
    fn tensor(&self, name: &str, shape: &[usize], init: Init) -> Result<Tensor> {
        let mut rng = self.rng.lock().unwrap();
        let values: Vec<f32> = (0..shape.iter().product())
            .map(|_| match init {
                Init::Const(value) => value as f32,
                Init::Normal { std } => (std * self.spread * f64::from(normal(&mut *rng))) as f32,
            })
            .collect();
        let var = Var::from_vec(values, shape, &Device::Cpu)?;
        let tensor = var.as_tensor().clone();
        self.vars.lock().unwrap().insert(name.to_owned(), var);
        Ok(tensor)
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.vars.lock().unwrap().get(name).map(|var| var.dims().to_vec())
    }
}

/// Approximately normal: the sum of twelve uniform numbers.
pub fn normal(rng: &mut impl Rng) -> f32 {
    (0..12).map(|_| rng.random::<f32>()).sum::<f32>() - 6.0
}

/// One folder of golden files.
pub struct Case {
    pub config: LanguageConfig,
    pub decoder: Decoder,
    pub golden: HashMap<String, Tensor>,
}

impl Case {
    pub fn load(name: &str) -> Self {
        Self::load_with(name, Precision::F32)
    }

    pub fn load_with(name: &str, precision: Precision) -> Self {
        let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/goldens")).join(name);
        let load = |file: &str| candle_core::safetensors::load(folder.join(file), &Device::Cpu).unwrap();
        let config: Value =
            serde_json::from_slice(&std::fs::read(folder.join("config.json")).unwrap()).unwrap();
        let config = LanguageConfig::from_json(&config).unwrap();
        let weights = Weights::new(Arc::new(Memory(load("model.safetensors"))), precision);
        let decoder = Decoder::new(&config, &weights).unwrap();
        Self { config, decoder, golden: load("golden.safetensors") }
    }

    pub fn ids(&self, name: &str) -> Tensor {
        self.golden[name].to_dtype(DType::U32).unwrap()
    }
}

/// Final hidden states of one pass without a cache.
pub fn full_pass(decoder: &Decoder, ids: &Tensor, context: &Context, trace: &mut Trace) -> Tensor {
    full_pass_with(decoder, ids, context, &NoHook, trace)
}

pub fn full_pass_with(
    decoder: &Decoder,
    ids: &Tensor,
    context: &Context,
    hook: &dyn LayerHook,
    trace: &mut Trace,
) -> Tensor {
    decoder.forward(&decoder.embed(ids).unwrap(), context, None, hook, trace).unwrap()
}

/// The largest absolute difference; a NaN counts as infinite.
pub fn distance(a: &Tensor, b: &Tensor) -> f32 {
    assert_eq!(a.dims(), b.dims());
    let values =
        |t: &Tensor| t.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let gap = |(x, y): (f32, f32)| {
        if (x - y).is_nan() { f32::INFINITY } else { (x - y).abs() }
    };
    values(a).into_iter().zip(values(b)).map(gap).fold(0.0, f32::max)
}

pub fn assert_close(what: &str, found: &Tensor, expected: &Tensor) {
    let limit = if expected.dtype() == DType::F32 { TOLERANCE } else { 0.0 };
    assert_eq!(found.dtype(), expected.dtype(), "{what}");
    assert_eq!(found.dims(), expected.dims(), "{what}");
    let gap = distance(found, expected);
    assert!(gap <= limit, "{what} differs by {gap:e}");
}

/// Rows of `(batch, tokens, ..)` at real tokens must agree.
pub fn assert_close_where_real(what: &str, found: &Tensor, expected: &Tensor, mask: &Tensor) {
    let mask: Vec<Vec<u32>> = mask.to_dtype(DType::U32).unwrap().to_vec2().unwrap();
    for (b, row) in mask.iter().enumerate() {
        for t in (0..row.len()).filter(|&t| row[t] == 1) {
            let at = |x: &Tensor| x.get(b).unwrap().get(t).unwrap();
            assert_close(&format!("{what}[{b}, {t}]"), &at(found), &at(expected));
        }
    }
}
