//! One file per operation: its contract, a plain reference, and the fused path that is tested against it. Gradients flow to
//! all tensor arguments that are documented as differentiable, and are checked against finite differences.

pub mod activation;
pub mod attention;
pub mod experts;
pub mod feed_forward;
pub mod gather;
pub mod instance_norm;
pub mod linear;
pub mod loss;
pub mod norm;
pub mod projection;
pub mod quant_feed_forward;
pub mod quant_linear;
pub mod rope;
pub mod round;
mod support;
#[cfg(test)]
mod tests;
pub mod unfold;
pub mod window_attention;
