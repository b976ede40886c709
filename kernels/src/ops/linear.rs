//! Matrix products with a weight: `y = x Wᵀ + b`, alone or per group of rows (mixture of experts). Weights that may change are
//! not quantised: all precisions but `F32` round operands to `bf16`.

mod grouped;

use std::ops::Deref;

use candle_core::{CpuStorage, CustomOp2, CustomOp3, DType, Layout, Result, Shape, Storage, Tensor, bail};

use crate::Precision;
use crate::gemm::{self, Fresh, Matrix, Operands, Output, PackedWeight, Path, Wanted};

pub use grouped::{grouped_linear, grouped_linear_reference};

/// `x (.., in)`, `weight (out, in)`, `bias (out)` to `(.., out)`. Differentiable in all three.
///
/// A row of the result depends on its row of `x` alone, bit for bit: batch size and thread count do not matter.
///
/// With a constant weight [`projection`](super::projection::projection) computes the same bits faster.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, precision: Precision) -> Result<Tensor> {
    let (out, inner) = weight.dims2()?;
    if x.rank() == 0 || x.dim(x.rank() - 1)? != inner || bias.is_some_and(|bias| bias.dims() != [out]) {
        let bias = bias.map(Tensor::dims);
        bail!("linear: x {:?} and bias {bias:?} do not fit weight {:?}", x.dims(), weight.dims());
    }
    if !x.device().is_cpu() {
        return elsewhere(x, weight, bias, precision);
    }
    let op = LinearOp { precision };
    let (x, weight) = (x.contiguous()?, weight.contiguous()?);
    match bias {
        Some(bias) => x.apply_op3(&weight, &bias.contiguous()?, op),
        None => x.apply_op2(&weight, op),
    }
}

/// Rounds a constant weight `(out, in)` to `bf16` and lays it out with its bias `(out)` for the fused operations.
pub fn pack(weight: &Tensor, bias: Option<&Tensor>) -> Result<PackedWeight> {
    let (out, inner) = weight.dims2()?;
    let weight = weight.contiguous()?;
    let bias = bias.map(Tensor::contiguous).transpose()?;
    let bias = bias.as_ref().map(values).transpose()?;
    Ok(PackedWeight::new(&values(&weight)?, bias.as_deref(), out, inner))
}

/// What [`linear`] computes, from candle's primitives and in `f32`.
pub fn linear_reference(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let mut dims = x.dims().to_vec();
    let inner = dims.pop().unwrap_or(1);
    let y = x.reshape(((), inner))?.matmul(&weight.t()?)?;
    dims.push(weight.dim(0)?);
    let y = y.reshape(dims)?;
    match bias {
        Some(bias) => y.broadcast_add(bias),
        None => Ok(y),
    }
}

/// [`linear`] by the device's own library.
pub(super) fn elsewhere(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    precision: Precision,
) -> Result<Tensor> {
    if x.elem_count() == 0 {
        let dims = [&x.dims()[..x.rank() - 1], &weight.dims()[..1]].concat();
        return Tensor::zeros(dims, DType::F32, x.device());
    }
    if precision == Precision::F32 {
        return linear_reference(x, &weight.to_dtype(DType::F32)?, bias);
    }
    let y = linear_reference(&x.to_dtype(DType::BF16)?, &weight.to_dtype(DType::BF16)?, None)?;
    let y = y.to_dtype(DType::F32)?;
    bias.map_or_else(|| Ok(y.clone()), |bias| y.broadcast_add(bias))
}

/// `left · rightᵀ` in that precision.
fn multiply(
    precision: Precision,
    left: Matrix<'_>,
    right: Matrix<'_>,
    bias: Option<&[f32]>,
    out: Output<'_>,
) {
    match precision {
        Precision::F32 => gemm::product_f32(left, right, bias, out),
        _ => gemm::product(Path::best(), left, right, bias, out),
    }
}

/// The wanted gradients in that precision.
fn backward(precision: Precision, operands: Operands<'_>, wanted: Wanted<'_>) {
    if precision != Precision::F32 {
        return gemm::backward(Path::best(), operands, wanted);
    }
    let Operands { grad, x, weight, rows, out_features, in_features } = operands;
    if let Some(dx) = wanted.x {
        let weight = Matrix::columns(weight, out_features, in_features);
        gemm::product_f32(Matrix::rows(grad, rows, out_features), weight, None, dx);
    }
    if let Some(dw) = wanted.weight {
        let x = Matrix::columns(x, rows, in_features);
        gemm::product_f32(Matrix::columns(grad, rows, out_features), x, None, dw);
    }
    if let Some(db) = wanted.bias {
        db.copy_from(&gemm::column_sums(grad, out_features));
    }
}

struct LinearOp {
    precision: Precision,
}

impl LinearOp {
    fn forward(
        &self,
        (x, x_shape): (&[f32], &Shape),
        (weight, weight_shape): (&[f32], &Shape),
        bias: Option<&[f32]>,
    ) -> Result<(CpuStorage, Shape)> {
        let (out, inner) = weight_shape.dims2()?;
        let mut dims = x_shape.dims().to_vec();
        dims.pop();
        let rows = dims.iter().product();
        dims.push(out);
        let left = Matrix::rows(x, rows, inner);
        let y = Output::build(rows, out, |y| {
            multiply(self.precision, left, Matrix::rows(weight, out, inner), bias, y);
        });
        Ok((CpuStorage::F32(y), dims.into()))
    }

    fn backward(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: Option<&Tensor>,
        grad: &Tensor,
    ) -> Result<[Option<Tensor>; 3]> {
        let (out_features, in_features) = weight.dims2()?;
        let grad = grad.contiguous()?;
        let rows = grad.dims()[..grad.rank() - 1].iter().product();
        let (grad, xs, ws) = (values(&grad)?, values(x)?, values(weight)?);
        let mut dx = x.track_op().then(|| Fresh::new(rows, in_features));
        let mut dw = weight.track_op().then(|| Fresh::new(out_features, in_features));
        let mut db = bias.filter(|bias| bias.track_op()).map(|_| Fresh::new(1, out_features));
        let operands = Operands { grad: &grad, x: &xs, weight: &ws, rows, out_features, in_features };
        let wanted = Wanted {
            x: dx.as_mut().map(Fresh::output),
            weight: dw.as_mut().map(Fresh::output),
            bias: db.as_mut().map(Fresh::output),
        };
        backward(self.precision, operands, wanted);
        Ok([written(dx, x)?, written(dw, weight)?, bias.map_or(Ok(None), |bias| written(db, bias))?])
    }
}

impl CustomOp2 for LinearOp {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        w: &CpuStorage,
        wl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.forward((slice(x, xl)?, xl.shape()), (slice(w, wl)?, wl.shape()), None)
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let [dx, dw, _] = self.backward(x, weight, None, grad)?;
        Ok((dx, dw))
    }
}

impl CustomOp3 for LinearOp {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        w: &CpuStorage,
        wl: &Layout,
        b: &CpuStorage,
        bl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.forward((slice(x, xl)?, xl.shape()), (slice(w, wl)?, wl.shape()), Some(slice(b, bl)?))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [dx, dw, db] = self.backward(x, weight, Some(bias), grad)?;
        Ok((dx, dw, db))
    }
}

/// A gradient that a backward pass has written, in the shape of what it belongs to.
fn written(gradient: Option<Fresh>, of: &Tensor) -> Result<Option<Tensor>> {
    // SAFETY: the backward passes write every element of what is wanted of them.
    let data = gradient.map(|gradient| unsafe { gradient.finish() });
    data.map(|data| Tensor::from_vec(data, of.shape(), of.device())).transpose()
}

/// The elements of a contiguous operand.
fn slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&storage.as_slice::<f32>()?[start..end]),
        None => bail!("linear needs contiguous operands"),
    }
}

/// The elements of a contiguous tensor on the CPU, borrowed.
fn values(tensor: &Tensor) -> Result<Values<impl Deref<Target = Storage>>> {
    let (guard, layout) = tensor.storage_and_layout();
    let Storage::Cpu(storage) = &*guard else { bail!("linear runs on the CPU only") };
    let elements = slice(storage, layout)?;
    let (ptr, len) = (elements.as_ptr(), elements.len());
    Ok(Values { _guard: guard, ptr, len })
}

/// Elements of a tensor, together with the read lock that keeps them in place.
struct Values<G> {
    _guard: G,
    ptr: *const f32,
    len: usize,
}

impl<G> Deref for Values<G> {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        // SAFETY: `ptr` and `len` come from a slice of the storage that the lock keeps alive and unchanged.
        unsafe { std::slice::from_raw_parts(self.ptr, self.len) }
    }
}
