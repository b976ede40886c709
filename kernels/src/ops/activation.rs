//! Element-wise activations and softmax. Differentiable.
#![allow(clippy::inline_always)]

use candle_core::{CpuStorage, CustomOp1, CustomOp2, D, Layout, Result, Shape, Tensor, bail};

use super::support::{
    Elements, Lanes, Out, Rows, elements, for_chunks, map, map_rows, output, rows_per_chunk, tensor, written,
};
use crate::simd::math::{erf, exp, fast_gelu, fast_sigmoid, sigmoid};
use crate::simd::{Kernel, LANES, Simd, dispatch};

/// The activation between the two projections of an MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `x Φ(x)`
    Gelu,
    /// GELU by its approximation with tanh.
    GeluTanh,
    /// `x σ(1.702 x)`
    QuickGelu,
    /// `max(x, 0)`
    Relu,
    /// `x σ(x)`
    Silu,
}

impl Activation {
    /// Of each element. Differentiable.
    pub fn apply(self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Gelu => gelu(x),
            Self::GeluTanh => x.gelu(),
            Self::QuickGelu => {
                // σ(x) = (1 + tanh(x / 2)) / 2, which neither overflows nor divides by infinity in its gradient.
                let sigma = (((x * (1.702 / 2.0))?.tanh()? + 1.0)? * 0.5)?;
                x * sigma
            }
            Self::Relu => x.relu(),
            Self::Silu => x.silu(),
        }
    }

    /// [`Self::apply`] of candle primitives.
    pub(crate) fn reference(self, x: &Tensor) -> Result<Tensor> {
        if self == Self::Gelu { gelu_reference(x) } else { self.apply(x) }
    }

    /// Of several vectors, to 7e-5 absolute and 1e-5 relative: less than a rounding of the result to `bf16` loses.
    #[inline(always)]
    pub(crate) fn lanes<S: Simd, const N: usize>(self, s: S, mut x: [S::V; N]) -> [S::V; N] {
        let mut gate = x;
        match self {
            Self::Gelu => return fast_gelu(s, x),
            Self::Relu => {
                for x in &mut x {
                    *x = s.max(*x, s.splat(0.0));
                }
                return x;
            }
            Self::GeluTanh => {
                // ½ (1 + tanh u) = σ(2 u) with u = √(2/π) (x + 0.044715 x³).
                for gate in &mut gate {
                    let inner = s.fma(s.splat(0.044_715), s.mul(*gate, s.mul(*gate, *gate)), *gate);
                    *gate = s.mul(s.splat(1.595_769_2), inner);
                }
            }
            Self::QuickGelu => {
                for gate in &mut gate {
                    *gate = s.mul(s.splat(1.702), *gate);
                }
            }
            Self::Silu => {}
        }
        let gate = fast_sigmoid(s, gate);
        for i in 0..N {
            x[i] = s.mul(x[i], gate[i]);
        }
        x
    }
}

/// `x Φ(x)` with the exact error function (Hendrycks & Gimpel 2016).
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    x.contiguous()?.apply_op1(Gelu)
}

/// `SiLU(gate) ⊙ up`, both of one shape.
pub fn silu_mul(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    if gate.shape() != up.shape() {
        bail!("silu_mul: gate has shape {:?}, up has {:?}", gate.shape(), up.shape());
    }
    gate.contiguous()?.apply_op2(&up.contiguous()?, SiluMul)
}

/// SwiGLU of a fused projection: `gate_up (.., 2·I)` holds the gate first; the result is `(.., I)`.
pub fn swiglu(gate_up: &Tensor) -> Result<Tensor> {
    if gate_up.dim(D::Minus1)? % 2 == 1 {
        bail!("swiglu: the last dimension of {:?} is odd", gate_up.shape());
    }
    gate_up.contiguous()?.apply_op1(SwiGlu)
}

/// Softmax over the last dimension.
pub fn softmax(x: &Tensor) -> Result<Tensor> {
    if !x.device().is_cpu() {
        return softmax_reference(x);
    }
    x.contiguous()?.apply_op1(Softmax)
}

/// [`gelu`] of candle primitives.
pub fn gelu_reference(x: &Tensor) -> Result<Tensor> {
    x.gelu_erf()
}

/// [`silu_mul`] of candle primitives.
pub fn silu_mul_reference(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    gate.silu()? * up
}

/// [`swiglu`] of candle primitives.
pub fn swiglu_reference(gate_up: &Tensor) -> Result<Tensor> {
    let inner = gate_up.dim(D::Minus1)? / 2;
    let gate = gate_up.narrow(D::Minus1, 0, inner)?;
    silu_mul_reference(&gate, &gate_up.narrow(D::Minus1, inner, inner)?)
}

/// [`softmax`] of candle primitives.
pub fn softmax_reference(x: &Tensor) -> Result<Tensor> {
    let shifted = x.broadcast_sub(&x.max_keepdim(D::Minus1)?.detach())?.exp()?;
    shifted.broadcast_div(&shifted.sum_keepdim(D::Minus1)?)
}

/// `Φ(x)`, the normal distribution function.
#[inline(always)]
fn normal_cdf<S: Simd>(s: S, x: S::V) -> S::V {
    let half = s.splat(0.5);
    s.fma(half, erf(s, s.mul(x, s.splat(std::f32::consts::FRAC_1_SQRT_2))), half)
}

struct Gelu;

impl Lanes<1, 1> for Gelu {
    #[inline(always)]
    fn apply<S: Simd>(&self, s: S, [x]: [S::V; 1]) -> [S::V; 1] {
        [s.mul(x, normal_cdf(s, x))]
    }
}

/// `(x, ∂y) → ∂y (Φ(x) + x φ(x))`.
struct GeluBackward;

impl Lanes<2, 1> for GeluBackward {
    #[inline(always)]
    fn apply<S: Simd>(&self, s: S, [x, grad]: [S::V; 2]) -> [S::V; 1] {
        // 1 / √(2π)
        let norm = s.splat(0.398_942_3);
        let density = s.mul(norm, exp(s, s.mul(s.mul(x, x), s.splat(-0.5))));
        [s.mul(grad, s.fma(x, density, normal_cdf(s, x)))]
    }
}

impl CustomOp1 for Gelu {
    fn name(&self) -> &'static str {
        "gelu"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let [y] = map(self, [elements(x, layout)?]);
        Ok(output(y, layout.shape()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        x: &candle_core::CudaStorage,
        layout: &Layout,
    ) -> Result<(candle_core::CudaStorage, Shape)> {
        crate::cuda::launch_gelu((x, layout))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let grad = grad.contiguous()?;
        let [dx] = map(&GeluBackward, [&Elements::of(x)?, &Elements::of(&grad)?]);
        tensor(dx, x.shape(), x).map(Some)
    }
}

struct SiluMul;

impl Lanes<2, 1> for SiluMul {
    #[inline(always)]
    fn apply<S: Simd>(&self, s: S, [gate, up]: [S::V; 2]) -> [S::V; 1] {
        [s.mul(s.mul(gate, sigmoid(s, gate)), up)]
    }
}

/// `(gate, up, ∂y) → (∂gate, ∂up)`, with `SiLU′(g) = σ (1 + g (1 − σ))`.
struct SiluMulBackward;

impl Lanes<3, 2> for SiluMulBackward {
    #[inline(always)]
    fn apply<S: Simd>(&self, s: S, [gate, up, grad]: [S::V; 3]) -> [S::V; 2] {
        let one = s.splat(1.0);
        let sigma = sigmoid(s, gate);
        let slope = s.mul(sigma, s.fma(gate, s.sub(one, sigma), one));
        [s.mul(s.mul(grad, up), slope), s.mul(grad, s.mul(gate, sigma))]
    }
}

impl CustomOp2 for SiluMul {
    fn name(&self) -> &'static str {
        "silu_mul"
    }

    fn cpu_fwd(
        &self,
        gate: &CpuStorage,
        lg: &Layout,
        up: &CpuStorage,
        lu: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let [y] = map(self, [elements(gate, lg)?, elements(up, lu)?]);
        Ok(output(y, lg.shape()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        gate: &candle_core::CudaStorage,
        lg: &Layout,
        up: &candle_core::CudaStorage,
        lu: &Layout,
    ) -> Result<(candle_core::CudaStorage, Shape)> {
        crate::cuda::launch_silu_mul((gate, lg), (up, lu))
    }

    fn bwd(
        &self,
        gate: &Tensor,
        up: &Tensor,
        _y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let [dg, du] =
            map(&SiluMulBackward, [&Elements::of(gate)?, &Elements::of(up)?, &Elements::of(&grad)?]);
        Ok((Some(tensor(dg, gate.shape(), gate)?), Some(tensor(du, up.shape(), up)?)))
    }
}

struct SwiGlu;

impl CustomOp1 for SwiGlu {
    fn name(&self) -> &'static str {
        "swiglu"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = elements(x, layout)?;
        let mut shape = layout.dims().to_vec();
        let (last, inner) = halves(&mut shape);
        let rows = Rows {
            count: x.len() / last.max(1),
            len: inner,
            inputs: [(0, last), (inner, last)],
            outputs: [(0, inner)],
        };
        // SAFETY: rows × inner is all of the output.
        let y = unsafe { written(x.len() / 2, |y| map_rows(&SiluMul, &rows, [x, x], [y])) };
        Ok(output(y, shape))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        x: &candle_core::CudaStorage,
        layout: &Layout,
    ) -> Result<(candle_core::CudaStorage, Shape)> {
        let mut shape = layout.dims().to_vec();
        halves(&mut shape);
        crate::cuda::launch_swiglu((x, layout), shape)
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let grad = grad.contiguous()?;
        let (elements, grad) = (Elements::of(x)?, Elements::of(&grad)?);
        let (last, inner) = halves(&mut x.dims().to_vec());
        let rows = Rows {
            count: elements.len() / last.max(1),
            len: inner,
            inputs: [(0, last), (inner, last), (0, inner)],
            outputs: [(0, last), (inner, last)],
        };
        // SAFETY: the two halves of each row are all of the output.
        let dx = unsafe {
            written(elements.len(), |dx| {
                map_rows(&SiluMulBackward, &rows, [&elements, &elements, &grad], [dx, dx]);
            })
        };
        tensor(dx, x.shape(), x).map(Some)
    }
}

/// Halves the last dimension; gives it as it was and as it is.
fn halves(shape: &mut [usize]) -> (usize, usize) {
    match shape.last_mut() {
        Some(last) => {
            let whole = *last;
            *last /= 2;
            (whole, whole / 2)
        }
        None => (0, 0),
    }
}

struct Softmax;

struct SoftmaxRow {
    x: *const f32,
    y: *mut f32,
    len: usize,
}

impl Kernel for SoftmaxRow {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        // SAFETY: both rows have `len` elements.
        unsafe {
            let total = exp_row(s, self.x, self.y, self.len);
            scale_row(s, self.y, self.len, 1.0 / total);
        }
    }
}

/// Writes `exp(x − max x)` to `y` and returns its sum; `x` may be `y`.
#[inline(always)]
pub(super) unsafe fn exp_row<S: Simd>(s: S, x: *const f32, y: *mut f32, len: usize) -> f32 {
    let lowest = s.splat(f32::NEG_INFINITY);
    let mut greatest = lowest;
    for at in (0..len).step_by(LANES) {
        // SAFETY: `at < len`.
        let row = unsafe { s.load(x.add(at), len - at) };
        greatest = s.max(greatest, s.keep(row, len - at, lowest));
    }
    let greatest = s.splat(s.greatest(greatest));
    let mut total = s.splat(0.0);
    for at in (0..len).step_by(LANES) {
        // SAFETY: `at < len`.
        unsafe {
            let power = exp(s, s.sub(s.load(x.add(at), len - at), greatest));
            s.store(y.add(at), power, len - at);
            total = s.add(total, s.keep(power, len - at, s.splat(0.0)));
        }
    }
    s.sum(total)
}

/// Multiplies a row by `factor`.
#[inline(always)]
pub(super) unsafe fn scale_row<S: Simd>(s: S, y: *mut f32, len: usize, factor: f32) {
    for at in (0..len).step_by(LANES) {
        // SAFETY: `at < len`.
        unsafe {
            s.store(y.add(at), s.mul(s.load(y.add(at), len - at), s.splat(factor)), len - at);
        }
    }
}

/// `y ⊙ (∂y − Σ y ∂y)` of one row.
struct SoftmaxRowBackward {
    y: *const f32,
    grad: *const f32,
    dx: *mut f32,
    len: usize,
}

impl Kernel for SoftmaxRowBackward {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let mut dot = s.splat(0.0);
        for at in (0..self.len).step_by(LANES) {
            let n = self.len - at;
            // SAFETY: all three rows have `len` elements.
            dot = unsafe { s.fma(s.load(self.y.add(at), n), s.load(self.grad.add(at), n), dot) };
        }
        let dot = s.splat(s.sum(dot));
        for at in (0..self.len).step_by(LANES) {
            let n = self.len - at;
            // SAFETY: as above.
            unsafe {
                let dx = s.mul(s.load(self.y.add(at), n), s.sub(s.load(self.grad.add(at), n), dot));
                s.store(self.dx.add(at), dx, n);
            }
        }
    }
}

/// Calls `task` with the offset of each row of `len` elements.
fn for_rows(elements: usize, len: usize, task: impl Fn(usize) + Sync + Send) {
    let rows = elements / len.max(1);
    for_chunks(rows, rows_per_chunk(len), elements * 4, |_, chunk| {
        chunk.for_each(|row| task(row * len));
    });
}

/// `elements` outputs in rows of `len`, each written by `task` (offset, address).
unsafe fn rows_written(
    elements: usize,
    len: usize,
    task: impl Fn(usize, *mut f32) + Sync + Send,
) -> Vec<f32> {
    let fill = |out: Out| {
        // SAFETY: rows are disjoint.
        for_rows(elements, len, |at| task(at, unsafe { out.part(at, len) }));
    };
    // SAFETY: `elements` is a whole number of rows, and the caller vouches that each is written.
    unsafe { written(elements, fill) }
}

impl CustomOp1 for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = elements(x, layout)?;
        let len = layout.dims().last().copied().unwrap_or(1);
        // SAFETY: the kernel writes its row.
        let y = unsafe {
            rows_written(x.len(), len, |at, y| {
                dispatch(SoftmaxRow { x: x[at..at + len].as_ptr(), y, len });
            })
        };
        Ok(output(y, layout.shape()))
    }

    fn bwd(&self, x: &Tensor, y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let grad = grad.contiguous()?;
        let (y, grad) = (Elements::of(y)?, Elements::of(&grad)?);
        let (y, grad): (&[f32], &[f32]) = (&y, &grad);
        let len = x.dims().last().copied().unwrap_or(1);
        // SAFETY: the kernel writes its row.
        let dx = unsafe {
            rows_written(y.len(), len, |at, dx| {
                let (y, grad) = (y[at..at + len].as_ptr(), grad[at..at + len].as_ptr());
                dispatch(SoftmaxRowBackward { y, grad, dx, len });
            })
        };
        tensor(dx, x.shape(), x).map(Some)
    }
}
