//! Element-wise activations and softmax. Differentiable.

use candle_core::{D, Result, Tensor};

/// `x Φ(x)` with the exact error function (Hendrycks & Gimpel 2016).
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    x.gelu_erf()
}

/// `SiLU(gate) ⊙ up`, both of one shape.
pub fn silu_mul(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    gate.silu()? * up
}

/// SwiGLU of a fused projection: `gate_up (.., 2·I)` holds the gate first; the result is `(.., I)`.
pub fn swiglu(gate_up: &Tensor) -> Result<Tensor> {
    let inner = gate_up.dim(D::Minus1)? / 2;
    let gate = gate_up.narrow(D::Minus1, 0, inner)?;
    silu_mul(&gate, &gate_up.narrow(D::Minus1, inner, inner)?)
}

/// Softmax over the last dimension.
pub fn softmax(x: &Tensor) -> Result<Tensor> {
    let shifted = x.broadcast_sub(&x.max_keepdim(D::Minus1)?.detach())?.exp()?;
    shifted.broadcast_div(&shifted.sum_keepdim(D::Minus1)?)
}
