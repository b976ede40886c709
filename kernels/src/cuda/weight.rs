//! Constant weights in the memory of a GPU, and the products with them.

use std::fmt;

use candle_core::cuda_backend::CudaDevice;
use candle_core::cuda_backend::cudarc::driver::{
    CudaSlice, CudaView, DevicePtr, DeviceRepr, LaunchArgs, PushKernelArg,
};
use candle_core::{DType, Device, Result, Tensor, bail};
use half::{bf16, f16};

use super::elementwise::{biased_gelu, norm};
use super::{Locked, MOE, QUANT_LINEAR, elementwise_grid, fresh, grid, launch, optional, products, tensor};
use crate::Precision;
use crate::ops::activation::Activation;
use crate::ops::experts::Grouped;
use crate::ops::projection::NormParameters;
use crate::quant::{GROUP, Int4Groups, Int8Rows};

/// Rows and columns of a block of a product.
const BLOCK: usize = 64;

/// Shared bytes of a product's block (gemm.cuh).
const SHARED_BYTES: usize = 37888;

/// Rows for which each weight is unpacked where it is used.
const FEW_ROWS: usize = 4;

/// One weight `(out, in)`, or those of many experts one below the other.
pub(crate) struct Weight {
    device: CudaDevice,
    numbers: Numbers,
    out: usize,
    inner: usize,
}

/// As weights.cuh describes them.
enum Numbers {
    Bf16(CudaSlice<bf16>),
    Int8(CudaSlice<i8>, CudaSlice<f32>),
    Int4(CudaSlice<u8>, CudaSlice<f16>),
}

/// `Epilogue` of quant_linear.cu.
#[repr(C)]
#[derive(Clone, Copy)]
struct Epilogue {
    bias: u64,
    residual: u64,
    activation: i32,
}

// SAFETY: the C struct has the same members in the same order, and so the same padding.
unsafe impl DeviceRepr for Epilogue {}

impl Weight {
    /// From `weight (.., in)` in main memory. Groups of 4 bits need rows of whole groups; others take 8 bits.
    pub(crate) fn new(weight: &Tensor, precision: Precision, device: &Device) -> Result<Self> {
        let device = device.as_cuda_device()?.clone();
        let inner = *weight.dims().last().unwrap_or(&1);
        let values = || weight.flatten_all()?.to_vec1::<f32>();
        let numbers = match precision {
            Precision::Int4 if inner.is_multiple_of(GROUP) => {
                let groups = Int4Groups::quantize(&values()?, inner);
                Numbers::Int4(
                    device.clone_htod(&nibbles(&groups.values))?,
                    device.clone_htod(&groups.scales)?,
                )
            }
            Precision::Int8 | Precision::Int4 => {
                let rows = Int8Rows::quantize(&values()?, inner);
                Numbers::Int8(device.clone_htod(&rows.values)?, device.clone_htod(&rows.scales)?)
            }
            Precision::F32 | Precision::Bf16 => {
                let rounded = weight.to_dtype(DType::BF16)?.flatten_all()?.to_vec1::<bf16>()?;
                Numbers::Bf16(device.clone_htod(&rounded)?)
            }
        };
        Ok(Self { device, numbers, out: weight.elem_count().checked_div(inner).unwrap_or(0), inner })
    }

    fn argument<'a>(&'a self, arguments: &mut LaunchArgs<'a>) {
        match &self.numbers {
            Numbers::Bf16(values) => arguments.arg(values),
            Numbers::Int8(values, scales) => arguments.arg(values).arg(scales),
            Numbers::Int4(values, scales) => arguments.arg(values).arg(scales),
        };
    }

    /// What names of kernels call the format.
    fn format(&self) -> &'static str {
        match self.numbers {
            Numbers::Bf16(_) => "bf16",
            Numbers::Int8(..) => "i8",
            Numbers::Int4(..) => "i4",
        }
    }

    /// `[residual +] activation(norm(x) Wᵀ + bias)`, `x (.., in)` to `(.., out)`.
    pub(crate) fn project(
        &self,
        x: &Tensor,
        norm: Option<NormParameters>,
        bias: Option<&Tensor>,
        activation: Option<Activation>,
        residual: Option<&Tensor>,
    ) -> Result<Tensor> {
        let mut dims = x.dims().to_vec();
        if dims.pop() != Some(self.inner) {
            bail!("projection: x {:?} does not fit a weight ({}, {})", x.dims(), self.out, self.inner);
        }
        let rows: usize = dims.iter().product();
        dims.push(self.out);
        if residual.is_some_and(|residual| residual.dims() != dims) {
            bail!("projection: a residual {:?} for a result {dims:?}", residual.map(Tensor::dims));
        }
        if rows == 0 {
            return Tensor::zeros(dims, DType::F32, x.device());
        }
        let x = x.to_dtype(DType::F32)?.contiguous()?;
        match &self.numbers {
            Numbers::Bf16(weight) => {
                let x = self.normalized::<bf16>(&x, norm)?;
                let x = Locked::of(&x)?;
                let sizes = (1, rows, self.out, self.inner);
                let y = products(&self.device, (&x.elements()?, &weight.as_view()), sizes)?;
                finish(&self.device, y, dims, bias, activation, residual)
            }
            Numbers::Int8(..) | Numbers::Int4(..) => {
                let x = self.normalized::<f32>(&x, norm)?;
                let x = Locked::of(&x)?;
                let fused = activation.is_none_or(|activation| activation == Activation::Gelu);
                let inside = if fused { (activation, residual) } else { (None, None) };
                let y = tensor(self.quantized(&x.elements()?, rows, bias, inside)?, dims, &self.device);
                let Some(activation) = activation.filter(|_| !fused) else { return Ok(y) };
                let y = activation.apply(&y)?;
                residual.map_or_else(|| Ok(y.clone()), |residual| residual + &y)
            }
        }
    }

    /// The rows of `x` as the products take them.
    fn normalized<Y: super::elementwise::Number + candle_core::WithDType>(
        &self,
        x: &Tensor,
        parameters: Option<NormParameters>,
    ) -> Result<Tensor> {
        let Some(NormParameters { weight, bias, eps }) = parameters else {
            return x.to_dtype(Y::DTYPE);
        };
        let (weight, bias) = (weight.contiguous()?, bias.map(Tensor::contiguous).transpose()?);
        let (rows, weight) = (Locked::of(x)?, Locked::of(&weight)?);
        let bias = bias.as_ref().map(Locked::of).transpose()?;
        let bias = bias.as_ref().map(Locked::elements::<f32>).transpose()?;
        let y = norm::<Y>(&self.device, &rows.elements()?, &weight.elements()?, bias.as_ref(), eps as f32)?;
        Ok(tensor(y, x.shape(), &self.device))
    }

    /// A product with a weight in few bits, in one launch.
    fn quantized(
        &self,
        x: &CudaView<f32>,
        rows: usize,
        bias: Option<&Tensor>,
        (activation, residual): (Option<Activation>, Option<&Tensor>),
    ) -> Result<CudaSlice<f32>> {
        let bias = bias.map(Tensor::contiguous).transpose()?;
        let residual = residual.map(Tensor::contiguous).transpose()?;
        let (bias, residual) =
            (bias.as_ref().map(Locked::of).transpose()?, residual.as_ref().map(Locked::of).transpose()?);
        let bias = bias.as_ref().map(Locked::elements::<f32>).transpose()?;
        let residual = residual.as_ref().map(Locked::elements::<f32>).transpose()?;
        let stream = self.device.cuda_stream();
        let bias = bias.as_ref().map(|bias| bias.device_ptr(&stream));
        let residual = residual.as_ref().map(|residual| residual.device_ptr(&stream));
        let epilogue = Epilogue {
            bias: bias.as_ref().map_or(0, |(address, _)| *address),
            residual: residual.as_ref().map_or(0, |(address, _)| *address),
            activation: i32::from(activation == Some(Activation::Gelu)),
        };
        let few = rows <= FEW_ROWS;
        let (kind, shared_bytes) = if few { ("vector", 0) } else { ("linear", SHARED_BYTES) };
        let name = format!("{kind}_{}_f32", self.format());
        let function = QUANT_LINEAR.kernel(&self.device, &name, shared_bytes)?;
        let mut y = fresh::<f32>(&self.device, rows * self.out)?;
        let [row_count, inner, out] = [rows, self.inner, self.out].map(|size| size as i32);
        let mut arguments = function.builder();
        arguments.arg(x);
        self.argument(&mut arguments);
        arguments.arg(&epilogue).arg(&mut y).arg(&row_count).arg(&inner).arg(&out);
        let blocks = if few {
            (self.out.div_ceil(16), 1, 1)
        } else {
            (self.out.div_ceil(BLOCK), rows.div_ceil(BLOCK), 1)
        };
        // SAFETY: the contract in quant_linear.cu; bias and residual have been checked, or fit as the layer's parameters.
        unsafe { launch(arguments, grid(blocks, 128, shared_bytes)) }?;
        Ok(y)
    }

    /// The routed experts of a mixture, see [`crate::ops::experts::experts`]: `gate_up` has the rows of `(experts, 2 · width, dim)`,
    /// `down` those of `(experts, dim, width)`, both in one format.
    pub(crate) fn experts(
        [gate_up, down]: [&Self; 2],
        x: &Tensor,
        (chosen, weights): (&[u32], &Tensor),
        plus: Option<&Tensor>,
    ) -> Result<Tensor> {
        let ((rows, dim), (_, choices)) = (x.dims2()?, weights.dims2()?);
        let (device, width, count) = (&gate_up.device, down.inner, down.out / dim);
        if gate_up.inner != dim || gate_up.out != count * 2 * width || gate_up.format() != down.format() {
            bail!("experts: weights for rows of {} with rows of {dim}", gate_up.inner);
        }
        let Grouped { pairs, offsets } = Grouped::new(chosen, count)?;
        let host = |numbers: &[usize]| numbers.iter().map(|&n| n as i32).collect::<Vec<i32>>();
        let (order, offsets) = (device.clone_htod(&host(&pairs))?, device.clone_htod(&host(&offsets))?);
        let pair_count = pairs.len();
        let mut inner = fresh::<bf16>(device, pair_count * width)?;
        let mut results = fresh::<f32>(device, pair_count * dim)?;
        let mut y = fresh::<f32>(device, rows * dim)?;
        if pair_count == 0 {
            return plus.map_or_else(|| x.zeros_like(), |plus| Ok(plus.clone()));
        }
        let (x, weights) = (x.contiguous()?, weights.contiguous()?);
        let plus = plus.map(Tensor::contiguous).transpose()?;
        let (x, weights) = (Locked::of(&x)?, Locked::of(&weights)?);
        let (x, weights) = (x.elements::<f32>()?, weights.elements::<f32>()?);
        let plus = plus.as_ref().map(Locked::of).transpose()?;
        let plus = plus.as_ref().map(Locked::elements::<f32>).transpose()?;
        let format = gate_up.format();
        let tiles = pair_count.div_ceil(BLOCK) + count;
        let [experts, choice_count, columns, hidden] = [count, choices, dim, width].map(|size| size as i32);
        let function = MOE.kernel(device, &format!("moe_gate_up_{format}_f32"), SHARED_BYTES)?;
        let mut arguments = function.builder();
        arguments.arg(&x);
        gate_up.argument(&mut arguments);
        arguments.arg(&order).arg(&offsets).arg(&weights).arg(&mut inner);
        arguments.arg(&experts).arg(&choice_count).arg(&columns).arg(&hidden);
        // SAFETY: the contract in moe.cu; the offsets are those of the pairs, and the sizes those of the weights.
        unsafe { launch(arguments, grid((width.div_ceil(BLOCK / 2), tiles, 1), 128, SHARED_BYTES)) }?;
        let function = MOE.kernel(device, &format!("moe_down_{format}"), SHARED_BYTES)?;
        let mut arguments = function.builder();
        arguments.arg(&inner);
        down.argument(&mut arguments);
        arguments.arg(&order).arg(&offsets).arg(&mut results).arg(&experts).arg(&hidden).arg(&columns);
        // SAFETY: as above.
        unsafe { launch(arguments, grid((dim.div_ceil(BLOCK), tiles, 1), 128, SHARED_BYTES)) }?;
        let function = MOE.kernel(device, "moe_combine_f32", 0)?;
        let token_count = rows as i64;
        let mut arguments = function.builder();
        arguments.arg(&results);
        optional(&mut arguments, plus.as_ref());
        arguments.arg(&mut y).arg(&token_count).arg(&choice_count).arg(&columns);
        // SAFETY: as above.
        unsafe { launch(arguments, elementwise_grid(rows * dim)) }?;
        Ok(tensor(y, (rows, dim), device))
    }
}

/// Bias, activation and residual of a product of `bf16`.
fn finish(
    device: &CudaDevice,
    y: CudaSlice<f32>,
    dims: Vec<usize>,
    bias: Option<&Tensor>,
    activation: Option<Activation>,
    residual: Option<&Tensor>,
) -> Result<Tensor> {
    let y = if activation == Some(Activation::Gelu) {
        let bias = bias.map(Tensor::contiguous).transpose()?;
        let bias = bias.as_ref().map(Locked::of).transpose()?;
        let bias = bias.as_ref().map(Locked::elements::<f32>).transpose()?;
        tensor(biased_gelu(device, &y.as_view(), bias.as_ref())?, dims, device)
    } else {
        let y = tensor(y, dims, device);
        let y = bias.map_or_else(|| Ok(y.clone()), |bias| y.broadcast_add(bias))?;
        activation.map_or_else(|| Ok(y.clone()), |activation| activation.apply(&y))?
    };
    residual.map_or_else(|| Ok(y.clone()), |residual| residual + &y)
}

/// Groups of 32 values, −8 to 7, as 16 bytes each: weights.cuh.
fn nibbles(values: &[i8]) -> Vec<u8> {
    let byte = |low: i8, high: i8| (low + 8) as u8 | ((high + 8) as u8) << 4;
    let group =
        |group: &[i8]| -> Vec<u8> { (0..GROUP / 2).map(|i| byte(group[i], group[i + GROUP / 2])).collect() };
    values.chunks_exact(GROUP).flat_map(group).collect()
}

impl fmt::Debug for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Weight({}, [{}, {}])", self.format(), self.out, self.inner)
    }
}
