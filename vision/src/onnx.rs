//! Encoders from ONNX files, run by ONNX Runtime, whose library is loaded while the program runs (feature `onnx`).
//!
//! The contract: one `f32` input `(batch, channels, height, width)` of normalised pixels; an output `last_hidden_state
//! (batch, tokens, dim)`; if exported, `pooler_output (batch, dim)` and the stages' maps `stages.0`, `stages.1`, ..
//! `(batch, dim, height, width)`, with the meanings of [`EncoderOutput`]. Other outputs are not asked for.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use candle_core::{DType, Device, Tensor};
use ort::environment::Environment;
use ort::session::{Session, SessionOutputs};
use ort::value::TensorRef;
use swinseek_kernels::ops::gather::mean_rows;
use swinseek_kernels::{Error, Result};

use crate::encoder::{EncoderOutput, FeatureMap};

/// File name that the system's loader is asked for when no path is given.
const LIBRARY: &str = if cfg!(windows) {
    "onnxruntime.dll"
} else if cfg!(target_vendor = "apple") {
    "libonnxruntime.dylib"
} else {
    "libonnxruntime.so"
};

/// ONNX Runtime allows one environment in a process, and it must outlive its sessions.
static RUNTIME: Mutex<Option<Environment>> = Mutex::new(None);

/// An encoder in an ONNX file.
#[derive(Debug)]
pub struct OnnxEncoder {
    /// A session runs one batch at a time.
    session: Mutex<Session>,
    /// Number of `stages.N` outputs.
    stages: usize,
    /// Whether the file pools.
    pools: bool,
}

impl OnnxEncoder {
    /// Reads a model from the `bytes` of an `.onnx` file, to be run by `threads` threads (0: as many as there are cores).
    ///
    /// `library` is the shared library of ONNX Runtime 1.17 or newer; without it the system's loader is asked for
    /// `libonnxruntime`. The first library that was loaded serves the whole process.
    ///
    /// # Errors
    /// The library is not found or too old, the bytes are no model, or the model does not keep the contract of this module.
    pub fn new(bytes: &[u8], library: Option<&Path>, threads: usize) -> Result<Self> {
        let session = session(bytes, &runtime(library)?, threads)
            .map_err(|error| Error::Input(format!("ONNX model cannot be loaded: {}", one_line(&error))))?;
        if let [input] = session.inputs() {
            // Names of the axes may be free; their number is not.
            if input.dtype().tensor_shape().is_none_or(|shape| shape.len() != 4) {
                let found = input.dtype();
                return Err(Error::Input(format!(
                    "ONNX model takes {found}, expected f32 (batch, channels, height, width)"
                )));
            }
        } else {
            let count = session.inputs().len();
            return Err(Error::Input(format!("ONNX model has {count} inputs, expected the pixels alone")));
        }
        let has = |name: &str| session.outputs().iter().any(|output| output.name() == name);
        if !has("last_hidden_state") {
            let names: Vec<&str> = session.outputs().iter().map(ort::value::Outlet::name).collect();
            let found = names.join(", ");
            return Err(Error::Input(format!("ONNX model has outputs {found}, expected last_hidden_state")));
        }
        let stages = (0..session.outputs().len()).take_while(|stage| has(&stage_name(*stage))).count();
        Ok(Self { stages, pools: has("pooler_output"), session: Mutex::new(session) })
    }

    /// Sizes of the pixels, `(batch, channels, height, width)`; `None` where the file leaves one free.
    pub fn input_shape(&self) -> [Option<usize>; 4] {
        let session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        let shape = session.inputs().first().and_then(|input| input.dtype().tensor_shape());
        std::array::from_fn(|axis| {
            let size = shape.and_then(|shape| shape.get(axis)).copied();
            size.and_then(|size| usize::try_from(size).ok())
        })
    }

    /// Encodes normalised `pixels (batch, channels, height, width)`. `stages` holds what the file exports, and there are no
    /// logits or feature maps.
    ///
    /// # Errors
    /// The pixels do not fit the model, or an output has another shape than its name promises.
    pub fn forward(&self, pixels: &Tensor) -> Result<EncoderOutput> {
        let shape = pixels.dims().to_vec();
        let values: Vec<f32> = pixels.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?;
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        let run = || -> ort::Result<_> {
            let input = TensorRef::from_array_view((shape, &values[..]))?;
            session.run(ort::inputs![input])
        };
        let fail = |error: ort::Error| {
            Error::Input(format!(
                "ONNX model refused pixels of shape {:?}: {}",
                pixels.dims(),
                one_line(&error)
            ))
        };
        let outputs = run().map_err(fail)?;
        let last_hidden_state = tensor(&outputs, "last_hidden_state", 3)?;
        let pooled =
            if self.pools { tensor(&outputs, "pooler_output", 2)? } else { mean_rows(&last_hidden_state)? };
        let stages = (0..self.stages).map(|stage| feature_map(&tensor(&outputs, &stage_name(stage), 4)?));
        let stages = stages.collect::<Result<_>>()?;
        Ok(EncoderOutput { last_hidden_state, pooled, stages, logits: None, feature_maps: Vec::new() })
    }
}

fn stage_name(stage: usize) -> String {
    format!("stages.{stage}")
}

/// The process's environment, made with the first library.
fn runtime(library: Option<&Path>) -> Result<Environment> {
    let mut runtime = RUNTIME.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(environment) = &*runtime {
        return Ok(environment.clone());
    }
    let library = library.unwrap_or(Path::new(LIBRARY));
    let missing = |error: &dyn std::fmt::Display| {
        let library = library.display();
        Error::Input(format!(
            "ONNX Runtime (1.17 or newer) cannot be loaded from `{library}`: {}",
            one_line(error)
        ))
    };
    let builder = ort::init_from(library).map_err(|error| missing(&error))?;
    let environment =
        builder.with_name("swinseek").with_telemetry(false).build().map_err(|error| missing(&error))?;
    Ok(runtime.insert(environment).clone())
}

fn session(bytes: &[u8], environment: &Environment, threads: usize) -> ort::Result<Session> {
    Session::builder(environment)?.with_intra_threads(threads)?.commit_from_memory(bytes)
}

/// An output as a tensor of `rank` dimensions.
fn tensor(outputs: &SessionOutputs, name: &str, rank: usize) -> Result<Tensor> {
    let wrong = |message: String| Error::Input(format!("ONNX output `{name}` {message}"));
    let value = outputs.get(name).ok_or_else(|| wrong("is missing".into()))?;
    let (shape, values) = value.try_extract_tensor::<f32>().map_err(|error| wrong(one_line(&error)))?;
    let dims: Vec<usize> = shape.iter().map(|&dim| dim as usize).collect();
    if dims.len() != rank {
        return Err(wrong(format!("has shape {dims:?}, expected {rank} dimensions")));
    }
    Ok(Tensor::from_slice(values, dims, &Device::Cpu)?)
}

/// `(batch, dim, height, width)` with the channels last.
fn feature_map(map: &Tensor) -> Result<FeatureMap> {
    let (_, _, height, width) = map.dims4()?;
    Ok(FeatureMap { tokens: map.flatten_from(2)?.transpose(1, 2)?.contiguous()?, height, width })
}

fn one_line(message: &(impl std::fmt::Display + ?Sized)) -> String {
    message.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}
