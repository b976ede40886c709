//! `pool_joint` against the article's own lines.

use std::sync::Arc;

use candle_core::{D, Tensor};
use swinseek_fusion::{checkpoint::MapSource, pool_joint::PoolJoint};
use swinseek_kernels::{Precision, Weights};

use crate::support::{max_abs_diff, noise};

/// The article's class, line by line (`x = torch.cat((text, image), 1)` ...).
fn article(
    text: &Tensor,
    image: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    num_heads: usize,
) -> candle_core::Result<Tensor> {
    let x = Tensor::cat(&[text, image], 1)?;
    let (b, n, c) = x.dims3()?;
    let qkv = x.reshape((b * n, c))?.matmul(&weight.t()?)?.broadcast_add(bias)?.reshape((b, n, 3 * c))?;
    let chunks = qkv.chunk(3, D::Minus1)?;
    let scale = ((c / num_heads) as f64).powf(-0.5);
    let scores = (chunks[0].contiguous()?.matmul(&chunks[1].t()?.contiguous()?)? * scale)?;
    let exp = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?)?.exp()?;
    let attention = exp.broadcast_div(&exp.sum_keepdim(D::Minus1)?)?;
    attention.matmul(&chunks[2].contiguous()?)?.mean(1)
}

fn parameters() -> (Tensor, Tensor) {
    (noise(&[36, 12], 1), noise(&[36], 2))
}

fn layer(num_heads: usize) -> PoolJoint {
    let (weight, bias) = parameters();
    let map = [("qkv.weight".to_owned(), weight), ("qkv.bias".to_owned(), bias)].into();
    PoolJoint::new(12, num_heads, &Weights::new(Arc::new(MapSource(map)), Precision::F32)).unwrap()
}

#[test]
fn it_is_the_articles_class() {
    let (text, image) = (noise(&[2, 5, 12], 3), noise(&[2, 7, 12], 4));
    let (weight, bias) = parameters();
    for heads in [1, 3, 5] {
        let expected = article(&text, &image, &weight, &bias, heads).unwrap();
        let found = layer(heads).forward(&text, &image).unwrap();
        assert_eq!(found.dims(), [2, 12]);
        // Two f32 summation orders of 12 terms of order 10.
        assert!(max_abs_diff(&found, &expected) < 1e-5);
    }
}

#[test]
fn its_defects_are_as_documented() {
    let (text, image) = (noise(&[1, 5, 12], 3), noise(&[1, 7, 12], 4));
    let joint = layer(3);
    // No position, and no difference between text and image: swapping them changes nothing.
    let (a, b) = (joint.forward(&text, &image).unwrap(), joint.forward(&image, &text).unwrap());
    assert!(max_abs_diff(&a, &b) < 1e-5);
    // No mask: padding takes part.
    let padded = text.pad_with_zeros(1, 0, 3).unwrap();
    assert!(max_abs_diff(&a, &joint.forward(&padded, &image).unwrap()) > 1e-3);
}
