//! One file per operation. Every function here is differentiable: gradients flow to all tensor
//! arguments that are documented as such, and are checked against finite differences.

pub mod activation;
pub mod attention;
pub mod gather;
pub mod instance_norm;
pub mod linear;
pub mod loss;
pub mod norm;
pub mod quant_linear;
pub mod rope;
mod support;
pub mod unfold;
