//! Norms, activations and rotations.

use candle_core::backend::BackendStorage;
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, CudaView, DeviceRepr, PushKernelArg};
use candle_core::cuda_backend::{CudaDType, CudaDevice, CudaStorage};
use candle_core::{Result, Tensor, bail};
use half::bf16;

use super::{
    ACTIVATION, Argument, Locked, NORMS, NULL, Output, ROPE, contiguous, device_of, elementwise_grid, fresh,
    grid, launch, optional, tensor,
};
use crate::ops::rope::RopeLayout;

/// A type that kernels write, and what it is called in their names.
pub(super) trait Number: DeviceRepr + CudaDType {
    const NAME: &'static str;
}

impl Number for f32 {
    const NAME: &'static str = "f32";
}

impl Number for bf16 {
    const NAME: &'static str = "bf16";
}

/// Layer norm with a bias, RMS norm without, of the rows of `x`.
pub(super) fn norm<Y: Number>(
    device: &CudaDevice,
    x: &CudaView<f32>,
    weight: &CudaView<f32>,
    bias: Option<&CudaView<f32>>,
    eps: f32,
) -> Result<CudaSlice<Y>> {
    let dim = weight.len();
    if !x.len().is_multiple_of(dim.max(1)) || bias.is_some_and(|bias| bias.len() != dim) {
        bail!("norm: {} elements for a weight of {dim} and a bias of {:?}", x.len(), bias.map(CudaView::len));
    }
    let mut y = fresh::<Y>(device, x.len())?;
    if !x.is_empty() {
        let name = if bias.is_some() { "layer_norm" } else { "rms_norm" };
        let shared_bytes = (dim + 32) * 4;
        let function = NORMS.kernel(device, &format!("{name}_f32_{}", Y::NAME), shared_bytes)?;
        let (columns, rows) = (dim as i32, x.len() / dim);
        let mut arguments = function.builder();
        arguments.arg(x).arg(&NULL).arg(&NULL).arg(weight);
        optional(&mut arguments, bias);
        arguments.arg(&mut y).arg(&columns).arg(&eps);
        let threads = dim.div_ceil(4).next_multiple_of(32).clamp(32, 1024);
        // SAFETY: the contract in norms.cu; all views have `rows` rows of `dim`.
        unsafe { launch(arguments, grid((rows, 1, 1), threads, shared_bytes)) }?;
    }
    Ok(y)
}

/// Layer norm with a bias, RMS norm without.
pub(crate) fn launch_norm(x: Argument, weight: Argument, bias: Option<Argument>, eps: f32) -> Output {
    let (device, shape) = (x.0.device().clone(), x.1.shape().clone());
    let bias = bias.map(contiguous).transpose()?;
    let y = norm::<f32>(&device, &contiguous(x)?, &contiguous(weight)?, bias.as_ref(), eps)?;
    Ok((CudaStorage::wrap_cuda_slice(y, device), shape))
}

/// `gate_up (.., 2·inner)` to `(.., inner)`.
pub(crate) fn launch_swiglu(gate_up: Argument, shape: Vec<usize>) -> Output {
    let device = gate_up.0.device().clone();
    let count: usize = shape.iter().product();
    let mut y = fresh::<f32>(&device, count)?;
    if count > 0 {
        let gate_up = contiguous::<f32>(gate_up)?;
        let inner = *shape.last().unwrap_or(&1);
        let (rows, width) = ((count / inner) as i64, inner as i32);
        let function = ACTIVATION.kernel(&device, "swiglu_f32_f32", 0)?;
        let mut arguments = function.builder();
        arguments.arg(&gate_up).arg(&mut y).arg(&rows).arg(&width);
        // SAFETY: the contract in activation.cu; the input has two elements for each of the output.
        unsafe { launch(arguments, elementwise_grid(count)) }?;
    }
    Ok((CudaStorage::wrap_cuda_slice(y, device), shape.into()))
}

/// `SiLU(gate) ⊙ up`.
pub(crate) fn launch_silu_mul(gate: Argument, up: Argument) -> Output {
    let (device, shape) = (gate.0.device().clone(), gate.1.shape().clone());
    let mut y = fresh::<f32>(&device, shape.elem_count())?;
    if shape.elem_count() > 0 {
        let (gate, up) = (contiguous::<f32>(gate)?, contiguous::<f32>(up)?);
        let count = shape.elem_count() as i64;
        let function = ACTIVATION.kernel(&device, "silu_mul_f32_f32", 0)?;
        let mut arguments = function.builder();
        arguments.arg(&gate).arg(&up).arg(&mut y).arg(&count);
        // SAFETY: the contract in activation.cu; all three have `count` elements.
        unsafe { launch(arguments, elementwise_grid(shape.elem_count())) }?;
    }
    Ok((CudaStorage::wrap_cuda_slice(y, device), shape))
}

/// `u Φ(u)` with `u = x + bias`, the bias `(dim)` repeated over the rows.
pub(super) fn biased_gelu(
    device: &CudaDevice,
    x: &CudaView<f32>,
    bias: Option<&CudaView<f32>>,
) -> Result<CudaSlice<f32>> {
    let mut y = fresh::<f32>(device, x.len())?;
    if !x.is_empty() {
        // Without a bias the width of a row does not matter.
        let dim = bias.map_or(1, CudaView::len);
        let (rows, columns) = ((x.len() / dim) as i64, dim as i32);
        let function = ACTIVATION.kernel(device, "gelu_f32_f32", 0)?;
        let mut arguments = function.builder();
        arguments.arg(x);
        optional(&mut arguments, bias);
        arguments.arg(&mut y).arg(&rows).arg(&columns);
        // SAFETY: the contract in activation.cu; `x` has whole rows of the bias's length.
        unsafe { launch(arguments, elementwise_grid(x.len())) }?;
    }
    Ok(y)
}

/// `x Φ(x)`.
pub(crate) fn launch_gelu(x: Argument) -> Output {
    let (device, shape) = (x.0.device().clone(), x.1.shape().clone());
    let y = biased_gelu(&device, &contiguous(x)?, None)?;
    Ok((CudaStorage::wrap_cuda_slice(y, device), shape))
}

/// See [`crate::ops::rope::rope`], which has checked the shapes. The last dimension of `x` is dense.
pub(crate) fn launch_rope(x: &Tensor, cos: &Tensor, sin: &Tensor, layout: RopeLayout) -> Result<Tensor> {
    let (device, shape) = (device_of(x)?, x.shape().clone());
    let (batch, tokens, heads, dim) = x.dims4()?;
    let mut y = fresh::<f32>(&device, shape.elem_count())?;
    if shape.elem_count() > 0 {
        let [x_batch, x_token, x_head] = [0, 1, 2].map(|axis| x.stride()[axis] as i64);
        let angle_batch = if cos.dim(0)? == 1 { 0i64 } else { (tokens * dim / 2) as i64 };
        let (cos, sin) = (cos.contiguous()?, sin.contiguous()?);
        let [x, cos, sin] = [Locked::of(x)?, Locked::of(&cos)?, Locked::of(&sin)?];
        let (x, cos, sin) = (x.strided::<f32>()?, cos.elements::<f32>()?, sin.elements::<f32>()?);
        let function = ROPE.kernel(&device, "rope_f32", 0)?;
        let [batch, tokens, heads, dim] = [batch, tokens, heads, dim].map(|size| size as i32);
        let interleaved = i32::from(layout == RopeLayout::Interleaved);
        let mut arguments = function.builder();
        arguments.arg(&x).arg(&x_batch).arg(&x_token).arg(&x_head).arg(&cos).arg(&sin).arg(&angle_batch);
        arguments.arg(&mut y).arg(&batch).arg(&tokens).arg(&heads).arg(&dim).arg(&interleaved);
        // SAFETY: the contract in rope.cu; sizes and strides are those of the arguments.
        unsafe { launch(arguments, elementwise_grid(shape.elem_count() / 2)) }?;
    }
    Ok(tensor(y, shape, &device))
}
