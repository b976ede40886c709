//! Launches of the kernels in `cuda/*.cu` on candle's CUDA storage, and products by cuBLAS. The contracts of the kernels stand in their
//! files. What has no kernel here is computed by the plain references of the operations, from candle's own kernels.

mod attention;
mod elementwise;
mod weight;

use std::sync::Arc;

use candle_core::cuda_backend::cudarc::cublas::result::gemm_strided_batched_ex;
use candle_core::cuda_backend::cudarc::cublas::sys::{
    cublasComputeType_t, cublasGemmAlgo_t, cublasOperation_t, cudaDataType_t,
};
use candle_core::cuda_backend::cudarc::driver::sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
use candle_core::cuda_backend::cudarc::driver::{
    CudaFunction, CudaSlice, CudaStream, CudaView, DevicePtr, DevicePtrMut, DeviceRepr, LaunchArgs,
    LaunchConfig, PushKernelArg,
};
use candle_core::cuda_backend::{CudaDType, CudaDevice, CudaStorage, WrapErr};
use candle_core::op::BackpropOp;
use candle_core::{Layout, Result, Shape, Storage, StorageRef, Tensor, bail};
use half::bf16;

pub(crate) use attention::{Map, latent_decode, latent_fits, launch_attention, window_attention};
pub(crate) use elementwise::{launch_gelu, launch_norm, launch_rope, launch_silu_mul, launch_swiglu};
pub(crate) use weight::Weight;

/// A pointer argument that is not given.
const NULL: u64 = 0;

/// A source file's PTX, and the name that candle's device keeps it under.
struct Module {
    name: &'static str,
    ptx: &'static str,
}

macro_rules! modules {
    ($($module:ident = $name:literal),*) => {
        $(const $module: Module = Module {
            name: concat!("swinseek_", $name),
            ptx: include_str!(concat!(env!("OUT_DIR"), "/", $name, ".ptx")),
        };)*
    };
}

modules!(
    ACTIVATION = "activation",
    ATTENTION_COMBINE = "attention_combine",
    CAUSAL_ATTENTION = "causal_attention",
    MLA_DECODE = "mla_decode",
    MOE = "moe",
    NORMS = "norms",
    QUANT_LINEAR = "quant_linear",
    ROPE = "rope",
    WINDOW_ATTENTION = "window_attention"
);

impl Module {
    /// Its kernel of that name, allowed so much dynamic shared memory.
    fn kernel(&self, device: &CudaDevice, name: &str, shared_bytes: usize) -> Result<Function> {
        let function = device.get_or_load_custom_func(name, self.name, self.ptx)?.into_cuda_function();
        function.set_attribute(CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, shared_bytes as i32).w()?;
        Ok(Function { function, stream: device.cuda_stream() })
    }
}

/// A kernel, ready for its arguments.
struct Function {
    function: CudaFunction,
    stream: Arc<CudaStream>,
}

impl Function {
    fn builder(&self) -> LaunchArgs<'_> {
        self.stream.launch_builder(&self.function)
    }
}

/// Blocks, threads and shared bytes of a launch.
fn grid((x, y, z): (usize, usize, usize), threads: usize, shared_bytes: usize) -> LaunchConfig {
    let grid_dim = (x as u32, y as u32, z as u32);
    LaunchConfig { grid_dim, block_dim: (threads as u32, 1, 1), shared_mem_bytes: shared_bytes as u32 }
}

/// Enough blocks of 256 threads for `count` elements, up to a few for each multiprocessor; kernels loop over the rest.
fn elementwise_grid(count: usize) -> LaunchConfig {
    grid((count.div_ceil(256).clamp(1, 4096), 1, 1), 256, 0)
}

/// # Safety
/// Arguments and launch are those of the kernel's contract.
unsafe fn launch(mut arguments: LaunchArgs<'_>, config: LaunchConfig) -> Result<()> {
    // SAFETY: the caller's promise.
    unsafe { arguments.launch(config) }.w()?;
    Ok(())
}

/// The next argument, a null pointer where it is not given.
fn optional<'a, 'b: 'a>(arguments: &mut LaunchArgs<'a>, view: Option<&'b CudaView<'b, f32>>) {
    match view {
        Some(view) => arguments.arg(view),
        None => arguments.arg(&NULL),
    };
}

/// An argument of a custom operation.
pub(crate) type Argument<'a> = (&'a CudaStorage, &'a Layout);

/// A result of a custom operation.
pub(crate) type Output = Result<(CudaStorage, Shape)>;

/// The elements of a contiguous argument.
fn contiguous<T: CudaDType + DeviceRepr>((storage, layout): Argument<'_>) -> Result<CudaView<'_, T>> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(storage.as_cuda_slice::<T>()?.slice(start..end)),
        None => bail!("a fused operation was given a tensor that is not contiguous"),
    }
}

/// A tensor of a GPU, read-locked.
struct Locked<'a> {
    storage: StorageRef<'a>,
    layout: &'a Layout,
}

impl<'a> Locked<'a> {
    fn of(x: &'a Tensor) -> Result<Self> {
        let (storage, layout) = x.storage_and_layout();
        let locked = Self { storage, layout };
        locked.argument()?;
        Ok(locked)
    }

    fn argument(&self) -> Result<Argument<'_>> {
        match &*self.storage {
            Storage::Cuda(storage) => Ok((storage, self.layout)),
            _ => bail!("an argument of an operation on a GPU is in main memory"),
        }
    }

    /// The elements of a contiguous tensor.
    fn elements<T: CudaDType + DeviceRepr>(&self) -> Result<CudaView<'_, T>> {
        contiguous(self.argument()?)
    }

    /// The elements from the first on, wherever they are.
    fn strided<T: CudaDType + DeviceRepr>(&self) -> Result<CudaView<'_, T>> {
        let (storage, layout) = self.argument()?;
        Ok(storage.as_cuda_slice::<T>()?.slice(layout.start_offset()..))
    }
}

/// The GPU that a tensor is on.
fn device_of(x: &Tensor) -> Result<CudaDevice> {
    Ok(x.device().as_cuda_device()?.clone())
}

/// Output that a kernel writes all of.
fn fresh<T: DeviceRepr>(device: &CudaDevice, count: usize) -> Result<CudaSlice<T>> {
    // SAFETY: every kernel here writes all of its output before anything reads it.
    unsafe { device.alloc::<T>(count.max(1)) }
}

/// A kernel's output as a tensor.
fn tensor<T: CudaDType>(elements: CudaSlice<T>, shape: impl Into<Shape>, device: &CudaDevice) -> Tensor {
    let storage = Storage::Cuda(CudaStorage::wrap_cuda_slice(elements, device.clone()));
    Tensor::from_storage(storage, shape, BackpropOp::none(), false)
}

/// `batch` products `x (rows, in) · weight (out, in)ᵀ`, one behind the other: `(batch, rows, out)`, sums and result in `f32`.
fn products(
    device: &CudaDevice,
    (x, weight): (&CudaView<bf16>, &CudaView<bf16>),
    (batch, rows, out, inner): (usize, usize, usize, usize),
) -> Result<CudaSlice<f32>> {
    assert!(x.len() == batch * rows * inner && weight.len() == batch * out * inner);
    let mut y = fresh::<f32>(device, batch * rows * out)?;
    if batch * rows * out == 0 {
        return Ok(y);
    }
    let (blas, stream) = (device.cublas_handle(), device.cuda_stream());
    let (one, zero) = (1f32, 0f32);
    {
        let (x, _x_guard) = x.device_ptr(&stream);
        let (weight, _weight_guard) = weight.device_ptr(&stream);
        let (y, _y_guard) = y.device_ptr_mut(&stream);
        // cuBLAS counts columns first: what is row-major here is transposed there.
        // SAFETY: the sizes are those of the buffers, as was checked.
        unsafe {
            gemm_strided_batched_ex(
                *blas.handle(),
                cublasOperation_t::CUBLAS_OP_T,
                cublasOperation_t::CUBLAS_OP_N,
                out as i32,
                rows as i32,
                inner as i32,
                (&raw const one).cast(),
                weight as *const _,
                cudaDataType_t::CUDA_R_16BF,
                inner as i32,
                (out * inner) as i64,
                x as *const _,
                cudaDataType_t::CUDA_R_16BF,
                inner as i32,
                (rows * inner) as i64,
                (&raw const zero).cast(),
                y as *mut _,
                cudaDataType_t::CUDA_R_32F,
                out as i32,
                (rows * out) as i64,
                batch as i32,
                cublasComputeType_t::CUBLAS_COMPUTE_32F,
                cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT_TENSOR_OP,
            )
        }
        .w()?;
    }
    Ok(y)
}

/// One product a group of rows of equal size, of `x (groups · rows, in)` and `weight (groups, out, in)`, both in `bf16`:
/// `(groups · rows, out)` in `f32`.
pub(crate) fn grouped_product(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    let ((rows, inner), (groups, out, _)) = (x.dims2()?, weight.dims3()?);
    let (device, x, weight) = (device_of(x)?, x.contiguous()?, weight.contiguous()?);
    let (locked_x, locked_weight) = (Locked::of(&x)?, Locked::of(&weight)?);
    let operands = (&locked_x.elements()?, &locked_weight.elements()?);
    let y = products(&device, operands, (groups, rows / groups, out, inner))?;
    Ok(tensor(y, (rows, out), &device))
}
