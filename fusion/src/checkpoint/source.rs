//! Parameters that are already in memory.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use swinseek_kernels::{Error, Init, Result, TensorSource};

/// Tensors by full name, with the checks of a checkpoint.
#[derive(Debug, Clone, Default)]
pub struct MapSource(pub HashMap<String, Tensor>);

impl TensorSource for MapSource {
    fn tensor(&self, name: &str, shape: &[usize], _init: Init) -> Result<Tensor> {
        let tensor = self.0.get(name).ok_or_else(|| Error::MissingTensor { name: name.to_owned() })?;
        if tensor.dims() != shape {
            let found = tensor.dims().to_vec();
            return Err(Error::Shape { name: name.to_owned(), expected: shape.to_vec(), found });
        }
        Ok(tensor.to_dtype(DType::F32)?.to_device(&Device::Cpu)?)
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.0.get(name).map(|tensor| tensor.dims().to_vec())
    }
}
