//! `pool_joint`: joint self-attention over concatenated text and image tokens, averaged to one vector.
//!
//! A compatibility operation: the `CrossModalAttention` class of the article that describes this product, as it is
//! written there. What it does, and does not do:
//!
//! - Text and image attend to each other *and to themselves* under one softmax: it is joint self-attention, not
//!   cross-attention, and a long text takes weight from the image.
//! - `num_heads` only enters the scale, `(dim / num_heads)^-½`; there is a single head over the full width, so the
//!   scores are `√num_heads` larger than a single head's usual ones.
//! - There is no output projection, no mask (padding takes part) and no position: any order of the tokens gives the
//!   same result.
//! - The mean over all tokens leaves one vector per sample: nothing per token, so no text can be generated from it
//!   and no region read off.
//!
//! The model itself uses [`crate::cross_attention`].

use candle_core::{D, Tensor};
use swinseek_kernels::ops::gather::mean_rows;
use swinseek_kernels::{
    Error, Result, Weights,
    layers::Linear,
    ops::attention::{Mask, attention},
};

/// The pooled joint attention of one width.
#[derive(Debug)]
pub struct PoolJoint {
    qkv: Linear,
    scale: f64,
}

impl PoolJoint {
    /// Reads `qkv.weight` `(3·dim, dim)` and `qkv.bias`.
    pub fn new(dim: usize, num_heads: usize, w: &Weights) -> Result<Self> {
        if num_heads == 0 || num_heads > dim {
            return Err(Error::config("num_heads", format!("is {num_heads}, expected 1 to dim = {dim}")));
        }
        // Integer division, as in `dim // num_heads`.
        let scale = ((dim / num_heads) as f64).powf(-0.5);
        Ok(Self { qkv: Linear::new(dim, 3 * dim, &w.pp("qkv"))?, scale })
    }

    /// `text (batch, text_tokens, dim)` and `image (batch, image_tokens, dim)` to `(batch, dim)`.
    pub fn forward(&self, text: &Tensor, image: &Tensor) -> Result<Tensor> {
        let joint = Tensor::cat(&[text, image], 1)?;
        let (batch, tokens, dim) = joint.dims3()?;
        let qkv = self.qkv.forward(&joint)?;
        let part = |i: usize| qkv.narrow(D::Minus1, i * dim, dim)?.reshape((batch, tokens, 1, dim));
        let out = attention(&part(0)?, &part(1)?, &part(2)?, None, Mask::None, self.scale)?;
        Ok(mean_rows(&out.reshape((batch, tokens, dim))?)?)
    }
}
