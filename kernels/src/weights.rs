//! Where a layer's parameters come from: a checkpoint, a trainer's variables, or fresh random values.

use std::sync::Arc;

use candle_core::{Device, Tensor};

use crate::{Error, Parameter, Result};

/// How matrix products are computed. Activations stay `f32` in both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// `f32` operands: for comparison with other implementations.
    #[default]
    F32,
    /// Operands rounded to `bf16`, products accumulated in `f32`: for speed.
    Bf16,
    /// As `Bf16`, but the constant weights of a decoder's layers and an encoder's blocks have 8 bits and a scale each output,
    /// and what they meet has 8 bits and a scale each row: a fraction of the memory traffic, and of the accuracy.
    Int8,
    /// As `Int8`, but a decoder's weights have 4 bits and a scale each 32 inputs.
    Int4,
}

impl Precision {
    /// That of layers that are not quantised.
    #[must_use]
    pub fn unquantized(self) -> Self {
        if self == Self::F32 { self } else { Self::Bf16 }
    }

    /// That of an encoder's blocks on `device`: they have so many rows that less than 8 bits gain nothing on a processor, nor
    /// less than 16 on a GPU.
    #[must_use]
    pub fn of_encoders(self, device: &Device) -> Self {
        match self {
            Self::Int8 | Self::Int4 if device.is_cpu() => Self::Int8,
            _ => self.unquantized(),
        }
    }

    /// `f32`, `bf16`, `int8` or `int4`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
            Self::Int4 => "int4",
        }
    }
}

/// How a parameter that no checkpoint holds is filled.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Init {
    /// Every element has this value.
    Const(f64),
    /// Normal with mean 0.
    Normal {
        /// Standard deviation.
        std: f64,
    },
}

/// A named collection of parameters.
pub trait TensorSource: Send + Sync {
    /// The tensor of that full name as `f32` on the CPU; an error names what is missing or mis-shaped.
    /// Sources that create parameters (training) use `init`; checkpoints ignore it.
    fn tensor(&self, name: &str, shape: &[usize], init: Init) -> Result<Tensor>;
    /// Shape on disk, if a tensor of that full name exists.
    fn shape(&self, name: &str) -> Option<Vec<usize>>;
    /// Whether it gives equal tensors whenever it is asked: layers then need not keep what they can ask for again.
    fn is_lasting(&self) -> bool {
        false
    }
    /// The errors of [`Self::tensor`] without its work.
    fn check(&self, name: &str, shape: &[usize]) -> Result<()> {
        fits(name, shape, self.shape(name))
    }
}

/// Whether a tensor is there and has the shape that is expected.
pub fn fits(name: &str, expected: &[usize], found: Option<Vec<usize>>) -> Result<()> {
    match found {
        None => Err(Error::MissingTensor { name: name.to_owned() }),
        Some(found) if found != expected => {
            Err(Error::Shape { name: name.to_owned(), expected: expected.to_vec(), found })
        }
        Some(_) => Ok(()),
    }
}

/// A view into a [`TensorSource`] below a dotted prefix, like a path in the checkpoint.
#[derive(Clone)]
pub struct Weights {
    source: Arc<dyn TensorSource>,
    prefix: String,
    precision: Precision,
    device: Device,
}

impl Weights {
    /// A view of the whole source.
    pub fn new(source: Arc<dyn TensorSource>, precision: Precision) -> Self {
        Self { source, prefix: String::new(), precision, device: Device::Cpu }
    }

    /// This view for layers that compute on `device`.
    #[must_use]
    pub fn on(self, device: &Device) -> Self {
        Self { device: device.clone(), ..self }
    }

    /// Where the layers built from this view compute.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The view below `segment`: `weights.pp("attn").get(.., "weight")` reads `attn.weight`.
    pub fn pp(&self, segment: impl std::fmt::Display) -> Self {
        Self { prefix: self.name(&segment.to_string()), ..self.clone() }
    }

    /// Full name of `leaf` on disk.
    pub fn name(&self, leaf: &str) -> String {
        if self.prefix.is_empty() { leaf.to_owned() } else { format!("{}.{leaf}", self.prefix) }
    }

    /// This view for layers that are not quantised.
    #[must_use]
    pub fn unquantized(&self) -> Self {
        Self { precision: self.precision.unquantized(), ..self.clone() }
    }

    /// This view for the blocks of an encoder.
    #[must_use]
    pub fn for_encoders(&self) -> Self {
        Self { precision: self.precision.of_encoders(&self.device), ..self.clone() }
    }

    /// How the layers built from this view multiply matrices.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Whether a tensor `leaf` exists here.
    pub fn contains(&self, leaf: &str) -> bool {
        self.shape(leaf).is_some()
    }

    /// Shape of `leaf` on disk, if it exists.
    pub fn shape(&self, leaf: &str) -> Option<Vec<usize>> {
        self.source.shape(&self.name(leaf))
    }

    /// The parameter `leaf`; a fresh one is normal with standard deviation 0.02.
    pub fn get(&self, shape: &[usize], leaf: &str) -> Result<Tensor> {
        self.get_init(shape, leaf, Init::Normal { std: 0.02 })
    }

    /// The matrix `leaf`, which may stay where it is stored; a fresh one is filled by `init`.
    pub fn parameter(&self, shape: &[usize], leaf: &str, init: Init) -> Result<Parameter> {
        // What is multiplied in `f32` is not packed, and needed for each product.
        if self.precision == Precision::F32 || !self.source.is_lasting() {
            return Ok(self.get_init(shape, leaf, init)?.into());
        }
        Parameter::stored(&self.source, self.name(leaf), (shape, init), &self.device)
    }

    /// The parameter `leaf`; a fresh one is filled by `init`.
    pub fn get_init(&self, shape: &[usize], leaf: &str, init: Init) -> Result<Tensor> {
        Ok(self.source.tensor(&self.name(leaf), shape, init)?.to_device(&self.device)?)
    }
}
