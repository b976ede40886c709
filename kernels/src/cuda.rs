//! Launches of the kernels in `cuda/*.cu` on candle's CUDA storage. Their contracts stand in those files.

use candle_core::backend::BackendStorage;
use candle_core::cuda_backend::cudarc::driver::sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
use candle_core::cuda_backend::cudarc::driver::{
    CudaSlice, CudaView, DeviceRepr, LaunchConfig, PushKernelArg,
};
use candle_core::cuda_backend::{CudaDevice, CudaStorage, WrapErr};
use candle_core::{Layout, Result, Shape, bail};

/// A pointer argument that is not given.
const NULL: u64 = 0;

/// A source file's PTX, and the name that candle's device keeps it under.
struct Module {
    name: &'static str,
    ptx: &'static str,
}

macro_rules! module {
    ($name:literal) => {
        Module {
            name: concat!("swinseek_", $name),
            ptx: include_str!(concat!(env!("OUT_DIR"), "/", $name, ".ptx")),
        }
    };
}

const NORMS: Module = module!("norms");
const ACTIVATION: Module = module!("activation");
const CAUSAL_ATTENTION: Module = module!("causal_attention");

/// An argument of a custom operation.
pub(crate) type Argument<'a> = (&'a CudaStorage, &'a Layout);

/// A result of a custom operation.
pub(crate) type Output = Result<(CudaStorage, Shape)>;

fn contiguous((storage, layout): Argument<'_>) -> Result<CudaView<'_, f32>> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(storage.as_cuda_slice::<f32>()?.slice(start..end)),
        None => bail!("a fused operation was given a tensor that is not contiguous"),
    }
}

/// Enough blocks of 256 threads for `count` elements, up to a few for each multiprocessor; kernels loop over the rest.
fn elementwise(count: usize) -> LaunchConfig {
    let blocks = count.div_ceil(256).clamp(1, 4096) as u32;
    LaunchConfig { grid_dim: (blocks, 1, 1), block_dim: (256, 1, 1), shared_mem_bytes: 0 }
}

/// Uninitialised output.
fn output(device: &CudaDevice, count: usize) -> Result<CudaSlice<f32>> {
    // SAFETY: every kernel here writes all of its output before anything reads it.
    unsafe { device.alloc::<f32>(count) }
}

/// Layer norm with a bias, RMS norm without.
pub(crate) fn launch_norm(x: Argument, weight: Argument, bias: Option<Argument>, eps: f32) -> Output {
    let (device, shape) = (x.0.device().clone(), x.1.shape().clone());
    let dim = *weight.1.dims().last().unwrap_or(&1);
    let mut y = output(&device, shape.elem_count())?;
    if shape.elem_count() > 0 {
        let (x, weight) = (contiguous(x)?, contiguous(weight)?);
        let bias = bias.map(contiguous).transpose()?;
        let name = if bias.is_some() { "layer_norm_f32_f32" } else { "rms_norm_f32_f32" };
        let function = device.get_or_load_custom_func(name, NORMS.name, NORMS.ptx)?;
        let (columns, rows) = (dim as i32, (shape.elem_count() / dim) as u32);
        let mut launch = function.builder();
        launch.arg(&x).arg(&NULL).arg(&NULL).arg(&weight);
        match &bias {
            Some(bias) => launch.arg(bias),
            None => launch.arg(&NULL),
        };
        launch.arg(&mut y).arg(&columns).arg(&eps);
        let threads = dim.div_ceil(4).next_multiple_of(32).clamp(32, 1024) as u32;
        let shared_mem_bytes = (dim as u32 + 32) * 4;
        function
            .set_attribute(CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, shared_mem_bytes as i32)
            .w()?;
        let config = LaunchConfig { grid_dim: (rows, 1, 1), block_dim: (threads, 1, 1), shared_mem_bytes };
        // SAFETY: arguments and launch are those of the contract in norms.cu; all views have `rows` rows of `dim`.
        unsafe { launch.launch(config) }.w()?;
    }
    Ok((CudaStorage::wrap_cuda_slice(y, device), shape))
}

/// `gate_up (.., 2·inner)` to `(.., inner)`.
pub(crate) fn launch_swiglu(gate_up: Argument, shape: Vec<usize>) -> Output {
    let device = gate_up.0.device().clone();
    let count: usize = shape.iter().product();
    let mut y = output(&device, count)?;
    if count > 0 {
        let gate_up = contiguous(gate_up)?;
        let inner = *shape.last().unwrap_or(&1);
        let (rows, width) = ((count / inner) as i64, inner as i32);
        let function = device.get_or_load_custom_func("swiglu_f32_f32", ACTIVATION.name, ACTIVATION.ptx)?;
        let mut launch = function.builder();
        launch.arg(&gate_up).arg(&mut y).arg(&rows).arg(&width);
        // SAFETY: the contract in activation.cu; the input has two elements for each of the output.
        unsafe { launch.launch(elementwise(count)) }.w()?;
    }
    Ok((CudaStorage::wrap_cuda_slice(y, device), shape.into()))
}

/// `SiLU(gate) ⊙ up`.
pub(crate) fn launch_silu_mul(gate: Argument, up: Argument) -> Output {
    let (device, shape) = (gate.0.device().clone(), gate.1.shape().clone());
    let mut y = output(&device, shape.elem_count())?;
    if shape.elem_count() > 0 {
        let (gate, up, count) = (contiguous(gate)?, contiguous(up)?, shape.elem_count() as i64);
        let function = device.get_or_load_custom_func("silu_mul_f32_f32", ACTIVATION.name, ACTIVATION.ptx)?;
        let mut launch = function.builder();
        launch.arg(&gate).arg(&up).arg(&mut y).arg(&count);
        // SAFETY: the contract in activation.cu; all three have `count` elements.
        unsafe { launch.launch(elementwise(shape.elem_count())) }.w()?;
    }
    Ok((CudaStorage::wrap_cuda_slice(y, device), shape))
}

/// `x Φ(x)`.
pub(crate) fn launch_gelu(x: Argument) -> Output {
    let (device, shape) = (x.0.device().clone(), x.1.shape().clone());
    let mut y = output(&device, shape.elem_count())?;
    if shape.elem_count() > 0 {
        let (x, rows, dim) = (contiguous(x)?, shape.elem_count() as i64, 1i32);
        let function = device.get_or_load_custom_func("gelu_f32_f32", ACTIVATION.name, ACTIVATION.ptx)?;
        let mut launch = function.builder();
        launch.arg(&x).arg(&NULL).arg(&mut y).arg(&rows).arg(&dim);
        // SAFETY: the contract in activation.cu; without a bias the width of a row does not matter.
        unsafe { launch.launch(elementwise(shape.elem_count())) }.w()?;
    }
    Ok((CudaStorage::wrap_cuda_slice(y, device), shape))
}

/// `Strides` of heads.cuh.
#[repr(C)]
#[derive(Clone, Copy)]
struct Strides([i64; 3]);

/// `Sizes` of heads.cuh.
#[repr(C)]
#[derive(Clone, Copy)]
struct Sizes([i32; 6]);

// SAFETY: plain numbers in the order of the C structs, whose members have one type each and so no padding.
unsafe impl DeviceRepr for Strides {}
// SAFETY: as above.
unsafe impl DeviceRepr for Sizes {}

/// A `(batch, tokens, heads, dim)` argument, rows dense.
fn heads((storage, layout): Argument<'_>) -> Result<(CudaView<'_, f32>, Strides)> {
    let &[batch, token, head, dim] = layout.stride() else {
        bail!("attention: {:?} has not four dimensions", layout.shape())
    };
    if dim != 1 && layout.dims()[3] > 1 {
        bail!("attention: rows of {:?} are not dense", layout.shape());
    }
    let view = storage.as_cuda_slice::<f32>()?.slice(layout.start_offset()..);
    Ok((view, Strides([batch, token, head].map(|stride| stride as i64))))
}

/// Attention without bias or mask beyond causality; operands are rounded to bf16. `offset` as in
/// `Mask::Causal`, `None` for all keys.
pub(crate) fn launch_attention(
    q: Argument,
    k: Argument,
    v: Argument,
    offset: Option<usize>,
    scale: f32,
) -> Output {
    let (batch, tokens, query_heads, dim) = q.1.shape().dims4()?;
    let (_, keys, kv_heads, v_dim) = v.1.shape().dims4()?;
    let (name, padded) = match dim.max(v_dim) {
        0..=64 => ("causal_attention_f32_d64", 64),
        65..=128 => ("causal_attention_f32_d128", 128),
        larger => bail!("attention: heads of {larger} elements, at most 128 on CUDA"),
    };
    if dim % 2 == 1 || v_dim % 2 == 1 {
        bail!("attention: heads of {dim} and {v_dim} elements, an even number on CUDA");
    }
    let (device, shape) = (q.0.device().clone(), Shape::from((batch, tokens, query_heads, v_dim)));
    let mut y = output(&device, shape.elem_count())?;
    if shape.elem_count() > 0 {
        let ((q, q_strides), (k, k_strides), (v, v_strides)) = (heads(q)?, heads(k)?, heads(v)?);
        let sizes = Sizes([tokens, keys, query_heads, kv_heads, dim, v_dim].map(|size| size as i32));
        let offset = offset.map_or(i32::MAX, |offset| i32::try_from(offset).unwrap_or(i32::MAX));
        let function = device.get_or_load_custom_func(name, CAUSAL_ATTENTION.name, CAUSAL_ATTENTION.ptx)?;
        let mut launch = function.builder();
        launch.arg(&q).arg(&q_strides).arg(&k).arg(&k_strides).arg(&v).arg(&v_strides);
        launch.arg(&NULL).arg(&NULL).arg(&mut y).arg(&sizes).arg(&offset).arg(&scale);
        let shared_mem_bytes = 3 * 64 * (padded + 8) * 2 + 512;
        function
            .set_attribute(CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, shared_mem_bytes as i32)
            .w()?;
        let panels = (tokens * query_heads / kv_heads).div_ceil(64) as u32;
        let grid_dim = (panels, kv_heads as u32, batch as u32);
        let config = LaunchConfig { grid_dim, block_dim: (128, 1, 1), shared_mem_bytes };
        // SAFETY: the contract in causal_attention.cu; sizes and strides are those of the arguments.
        unsafe { launch.launch(config) }.w()?;
    }
    Ok((CudaStorage::wrap_cuda_slice(y, device), shape))
}

/// The result of an operation that is only a link in the graph.
pub(crate) fn empty(beside: &CudaStorage) -> Output {
    let device = beside.device();
    Ok((CudaStorage::wrap_cuda_slice(device.alloc_zeros::<f32>(1)?, device.clone()), 1.into()))
}
