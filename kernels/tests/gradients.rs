//! Every fused operation against its plain reference, and every gradient against central differences of that
//! reference in `f64`.

#[path = "gradients/check.rs"]
mod check;

use candle_core::{DType, Device, Result, Tensor};
use check::{Case, Rng, same_on_any_pool};
use proptest::prelude::*;
use swinseek_kernels::Precision;
use swinseek_kernels::ops::activation::{self, gelu, silu_mul, softmax, swiglu};
use swinseek_kernels::ops::attention::{
    Mask, attention, attention_each, attention_each_reference, attention_in, attention_reference,
};
use swinseek_kernels::ops::gather::{
    ZERO_ROW, gather_rows, gather_rows_reference, gather_sums, gather_sums_reference, mean_rows,
    mean_rows_reference,
};
use swinseek_kernels::ops::instance_norm::{instance_norm, instance_norm_reference};
use swinseek_kernels::ops::loss::{IGNORE, cross_entropy, cross_entropy_reference};
use swinseek_kernels::ops::norm::{self, l2_normalize, layer_norm, rms_norm};
use swinseek_kernels::ops::rope::{RopeLayout, rope, rope_reference};
use swinseek_kernels::ops::unfold::{patches, patches_reference, unfold};

const EPS: f64 = 1e-5;

/// Around the sixteen lanes of a vector, and one.
fn dim() -> impl Strategy<Value = usize> {
    prop_oneof![Just(1usize), 2usize..20, 30usize..50]
}

/// Sizes of an attention and what masks it.
#[derive(Debug, Clone)]
struct Attention {
    batch: usize,
    q_len: usize,
    kv_len: usize,
    kv_heads: usize,
    group: usize,
    dim: usize,
    v_dim: usize,
    bias: bool,
    causal: bool,
    windows: Option<usize>,
}

impl Attention {
    fn heads(&self) -> usize {
        self.kv_heads * self.group
    }

    fn check(&self, seed: u64) {
        let Self { batch, q_len, kv_len, kv_heads, dim, v_dim, .. } = *self;
        let shapes = [
            [batch, q_len, self.heads(), dim],
            [batch, kv_len, kv_heads, dim],
            [batch, kv_len, kv_heads, v_dim],
        ];
        let mut shapes: Vec<&[usize]> = shapes.iter().map(<[usize; 4]>::as_slice).collect();
        let bias = [self.heads(), q_len, kv_len];
        if self.bias {
            shapes.push(&bias);
        }
        let mut rng = Rng::new(seed);
        // Like the mask of shifted windows: some pairs may not see one another; a token sees itself.
        let hidden = |i: usize| {
            if !i.is_multiple_of(kv_len + 1) && rng.below(3) == 0 { -100f32 } else { 0.0 }
        };
        let values: Vec<f32> = (0..self.windows.unwrap_or(0) * q_len * kv_len).map(hidden).collect();
        let additive =
            self.windows.map(|m| Tensor::from_vec(values, (m, q_len, kv_len), &Device::Cpu).expect("a mask"));
        let mask = match &additive {
            Some(mask) => Mask::Additive(mask),
            None if self.causal => Mask::Causal { offset: kv_len.saturating_sub(q_len) },
            None => Mask::None,
        };
        let scale = 1.0 / (dim as f64).sqrt();
        // Sums of kv_len products of sums of dim products: some hundred roundings of values of O(1).
        Case::new(seed, &shapes).tolerance(1e-4).check(
            |x| attention(&x[0], &x[1], &x[2], x.get(3), mask, scale),
            |x| attention_reference(&x[0], &x[1], &x[2], x.get(3), mask, scale),
        );
    }
}

prop_compose! {
    fn attentions()(
        batch in 1usize..4, q_len in 1usize..20, kv_len in 1usize..40, kv_heads in 1usize..3, group in 1usize..4,
        dim in prop_oneof![Just(1usize), 2usize..40], v_dim in prop_oneof![Just(1usize), 2usize..40],
        bias: bool, causal: bool, windows: bool,
    ) -> Attention {
        let windows = windows.then_some(if batch == 2 { 2 } else { 1 });
        let kv_len = if causal { kv_len.max(q_len) } else { kv_len };
        Attention { batch, q_len, kv_len, kv_heads, group, dim, v_dim, bias, causal, windows }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 1 } else { 24 }))]

    #[test]
    fn attention_matches(case in attentions(), seed: u64) {
        case.check(seed);
    }

    #[test]
    fn rope_matches(batch in 1usize..4, tokens in 1usize..4, heads in 1usize..4, half in 1usize..20, shared: bool, seed: u64) {
        let angles = [if shared { 1 } else { batch }, tokens, half];
        for layout in [RopeLayout::HalfSplit, RopeLayout::Interleaved] {
            Case::new(seed, &[&[batch, tokens, heads, 2 * half], &angles, &angles]).check(
                |x| rope(&x[0], &x[1], &x[2], layout),
                |x| rope_reference(&x[0], &x[1], &x[2], layout),
            );
        }
    }

    #[test]
    fn cross_entropy_matches(rows in 1usize..8, vocab in 1usize..50, seed: u64) {
        let mut rng = Rng::new(seed);
        let target = |_| if rng.below(4) == 0 { IGNORE } else { rng.below(vocab) as u32 };
        let targets: Vec<u32> = (0..rows).map(target).collect();
        Case::new(seed, &[&[rows, vocab]]).scale(3.0).check(
            |x| cross_entropy(&x[0], &targets),
            |x| cross_entropy_reference(&x[0], &targets),
        );
    }
}

#[test]
fn attention_matches_over_panels_and_tiles() {
    let text = Attention {
        batch: 1,
        q_len: 113,
        kv_len: 141,
        kv_heads: 2,
        group: 2,
        dim: 20,
        v_dim: 17,
        bias: false,
        causal: true,
        windows: None,
    };
    text.check(1);
    // A prefill from an empty cache, and a decode step of absorbed MLA.
    Attention { kv_len: 113, ..text.clone() }.check(2);
    Attention { q_len: 1, kv_len: 200, kv_heads: 1, group: 5, ..text.clone() }.check(3);
    // Windows, more images than parts of the bias' sum.
    let windows = Attention {
        batch: 18,
        q_len: 36,
        kv_len: 36,
        kv_heads: 3,
        group: 1,
        dim: 10,
        v_dim: 10,
        bias: true,
        causal: false,
        windows: Some(9),
    };
    windows.check(4);
    Attention { batch: 2, q_len: 100, kv_len: 100, windows: Some(2), ..windows }.check(5);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 1 } else { 12 }))]

    #[test]
    fn layer_norm_matches(rows in 1usize..6, dim in 2usize..50, seed: u64) {
        let case = Case::new(seed, &[&[rows, 1, dim], &[dim], &[dim]]);
        // Rows of 2 elements have a variance near 0 at times, which magnifies the rounding of x − mean.
        let tolerance = if dim < 6 { 2e-2 } else { 2e-4 };
        case.tolerance(tolerance).check(
            |x| layer_norm(&x[0], &x[1], &x[2], EPS),
            |x| norm::layer_norm_reference(&x[0], &x[1], &x[2], EPS),
        );
    }

    #[test]
    fn instance_norm_matches(images in 1usize..4, positions in 2usize..if cfg!(miri) { 30 } else { 300 }, channels in dim(), seed: u64) {
        // As for the layer norm: two or three positions that are nearly equal magnify rounding.
        Case::new(seed, &[&[images, positions, channels], &[channels], &[channels]]).tolerance(2e-3).check(
            |x| instance_norm(&x[0], &x[1], &x[2], 1e-2),
            |x| instance_norm_reference(&x[0], &x[1], &x[2], 1e-2),
        );
    }

    #[test]
    fn rms_norm_matches(rows in 1usize..6, dim in dim(), seed: u64) {
        Case::new(seed, &[&[rows, dim], &[dim]]).check(
            |x| rms_norm(&x[0], &x[1], 1e-2),
            |x| norm::rms_norm_reference(&x[0], &x[1], 1e-2),
        );
    }

    #[test]
    fn l2_normalize_matches(rows in 1usize..6, dim in 2usize..50, seed: u64) {
        Case::new(seed, &[&[2, rows, dim]]).tolerance(2e-4).check(
            |x| l2_normalize(&x[0], 1e-12),
            |x| norm::l2_normalize_reference(&x[0], 1e-12),
        );
    }

    #[test]
    fn activations_match(rows in 1usize..5, dim in dim(), seed: u64) {
        let pair = Case::new(seed, &[&[rows, dim], &[rows, dim]]);
        pair.check(|x| silu_mul(&x[0], &x[1]), |x| activation::silu_mul_reference(&x[0], &x[1]));
        let one = Case::new(seed, &[&[rows, 2 * dim]]);
        one.check(|x| gelu(&x[0]), |x| activation::gelu_reference(&x[0]));
        one.check(|x| swiglu(&x[0]), |x| activation::swiglu_reference(&x[0]));
        one.check(|x| softmax(&x[0]), |x| activation::softmax_reference(&x[0]));
    }

    #[test]
    fn gather_matches(batch in 1usize..4, rows in 1usize..9, dim in dim(), seed: u64, places in 0usize..20) {
        let mut rng = Rng::new(seed);
        // Runs of neighbours, repeats, rows left out, and zeros.
        let mut index: Vec<u32> = Vec::new();
        while index.len() < places {
            let start = rng.below(rows + 1);
            if start == rows {
                index.push(ZERO_ROW);
            } else {
                index.extend((start..rows.min(start + 1 + rng.below(4))).map(|i| i as u32));
            }
        }
        if !index.is_empty() {
            Case::new(seed, &[&[batch, rows, dim]]).check(
                |x| gather_rows(&x[0], &index),
                |x| gather_rows_reference(&x[0], &index),
            );
            for count in [2, 3] {
                let index = &index[..index.len() / count * count];
                if !index.is_empty() {
                    Case::new(seed, &[&[batch, rows, dim]]).check(
                        |x| gather_sums(&x[0], index, count),
                        |x| gather_sums_reference(&x[0], index, count),
                    );
                }
            }
        }
    }
}

#[test]
fn patches_and_means_of_rows() {
    // Whole patches, patches past both edges, a patch larger than the picture, and patches of four pixels.
    for (shape, patch) in [
        ([2, 3, 8, 12], (4, 4)),
        ([1, 3, 9, 13], (4, 4)),
        ([2, 1, 5, 7], (2, 3)),
        ([1, 2, 3, 2], (4, 4)),
        ([1, 1, 6, 6], (1, 6)),
    ] {
        Case::new(3, &[&shape]).check(|x| patches(&x[0], patch), |x| patches_reference(&x[0], patch));
        Case::new(4, &[&shape]).check(|x| mean_rows(&x[0]), |x| mean_rows_reference(&x[0]));
    }
    let x = Tensor::zeros((1, 1, 4, 4), DType::F32, &Device::Cpu).expect("zeros");
    assert!(patches(&x, (0, 4)).is_err() && patches(&x, (4, 0)).is_err());
    assert!(mean_rows(&x.narrow(2, 0, 0).expect("no rows")).is_err());
}

#[test]
fn gather_refuses_an_index_past_the_rows() -> Result<()> {
    let x = Tensor::zeros((1, 3, 2), DType::F32, &Device::Cpu)?;
    let error = gather_rows(&x, &[0, 3]).expect_err("row 3 of 3").to_string();
    assert!(error.contains("index 3") && error.contains("3 rows"), "{error}");
    let error = gather_sums(&x, &[0, 1, 2], 2).expect_err("three rows two by two").to_string();
    assert!(error.contains("3 rows") && error.contains("2 by 2"), "{error}");
    let (flat, index) = (x.squeeze(0)?, [2, ZERO_ROW, 0]);
    assert_eq!(gather_rows(&flat, &index)?.dims(), [3, 2], "one batch item, without the dimension");
    Ok(())
}

#[test]
fn l2_normalize_of_a_short_row() {
    // Below eps torch divides by eps, and the gradient is that of a division by a constant.
    Case::new(1, &[&[2, 5]])
        .scale(1e-3)
        .check(|x| l2_normalize(&x[0], 0.5), |x| norm::l2_normalize_reference(&x[0], 0.5));
}

#[test]
fn threads_do_not_show() {
    // More rows than a chunk, more elements than the threshold of parallel work.
    let shapes: &[&[usize]] = &[&[3, 700, 40], &[40], &[40]];
    same_on_any_pool(shapes, |x| layer_norm(&x[0], &x[1], &x[2], EPS));
    same_on_any_pool(shapes, |x| instance_norm(&x[0], &x[1], &x[2], EPS));
    same_on_any_pool(&shapes[..2], |x| rms_norm(&x[0], &x[1], EPS));
    same_on_any_pool(&shapes[..1], |x| l2_normalize(&x[0], EPS));
    same_on_any_pool(&shapes[..1], |x| gelu(&x[0]));
    same_on_any_pool(&shapes[..1], |x| swiglu(&x[0]));
    same_on_any_pool(&shapes[..1], |x| softmax(&x[0]));
    let index: Vec<u32> = (0..1500u32).map(|i| i * 7919 % 700).collect();
    same_on_any_pool(&shapes[..1], |x| gather_rows(&x[0], &index));
    same_on_any_pool(&shapes[..1], |x| gather_sums(&x[0], &index, 3));
    let targets: Vec<u32> = (0..600).map(|i| if i % 5 == 0 { IGNORE } else { i % 77 }).collect();
    same_on_any_pool(&[&[600, 77]], |x| cross_entropy(&x[0], &targets));
    let rotated: &[&[usize]] = &[&[3, 50, 8, 36], &[1, 50, 18], &[1, 50, 18]];
    same_on_any_pool(rotated, |x| rope(&x[0], &x[1], &x[2], RopeLayout::Interleaved));
    same_on_any_pool(rotated, |x| rope(&x[0], &x[1], &x[2], RopeLayout::HalfSplit));
    same_on_any_pool(&[&[2, 20, 30, 3]], |x| unfold(&x[0], 3, 2, 1));
    same_on_any_pool(&[&[2, 3, 101, 90]], |x| patches(&x[0], (4, 4)));
    let window = [40, 25, 3, 12];
    same_on_any_pool(&[&window, &window, &window, &[3, 25, 25]], |x| {
        attention(&x[0], &x[1], &x[2], Some(&x[3]), Mask::None, 0.3)
    });
    let text = [2, 130, 2, 24];
    same_on_any_pool(&[&[2, 130, 4, 24], &text, &text], |x| {
        attention(&x[0], &x[1], &x[2], None, Mask::Causal { offset: 0 }, 0.2)
    });
}

#[test]
fn a_row_of_attention_does_not_depend_on_its_batch_nor_on_the_queries_beside_it() -> Result<()> {
    let x = Case::new(6, &[&[3, 150, 4, 24], &[3, 150, 2, 24], &[3, 150, 2, 20]]).tensors()?;
    let causal =
        |q: &Tensor, k: &Tensor, v: &Tensor, offset| attention(q, k, v, None, Mask::Causal { offset }, 0.2);
    let whole = causal(&x[0], &x[1], &x[2], 0)?;
    let item: Vec<Tensor> = x.iter().map(|x| x.narrow(0, 1, 1)).collect::<Result<_>>()?;
    let bits = |x: &Tensor| x.flatten_all()?.to_vec1::<f32>();
    assert_eq!(bits(&causal(&item[0], &item[1], &item[2], 0)?)?, bits(&whole.narrow(0, 1, 1)?)?);
    // Token by token from a cache, as decoding does.
    for at in [0, 1, 63, 64, 97, 149] {
        let (k, v) = (item[1].narrow(1, 0, at + 1)?, item[2].narrow(1, 0, at + 1)?);
        let step = causal(&item[0].narrow(1, at, 1)?, &k, &v, at)?;
        assert_eq!(bits(&step)?, bits(&whole.narrow(0, 1, 1)?.narrow(1, at, 1)?)?, "token {at}");
    }
    Ok(())
}

#[test]
fn attention_reads_views_of_a_fused_projection() -> Result<()> {
    let fused = Case::new(7, &[&[5, 30, 3 * 4 * 10]]).tensors()?.remove(0);
    let run = |copy: bool| -> Result<(Vec<f32>, Vec<f32>)> {
        let var = candle_core::Var::from_tensor(&fused)?;
        let part = |i: usize| -> Result<Tensor> {
            let view = var.as_tensor().reshape((5, 30, 3, 4, 10))?.narrow(2, i, 1)?.squeeze(2)?;
            if copy { view.contiguous() } else { Ok(view) }
        };
        let y = attention(&part(0)?, &part(1)?, &part(2)?, None, Mask::None, 0.3)?;
        let grads = y.sqr()?.sum_all()?.backward()?;
        let grad = grads.get(&var).expect("a gradient").flatten_all()?.to_vec1()?;
        Ok((y.flatten_all()?.to_vec1()?, grad))
    };
    assert!(run(false)? == run(true)?);
    // Heads before tokens, and a last dimension that is not dense.
    let x = Case::new(8, &[&[2, 4, 9, 6], &[2, 6, 9, 4]]).tensors()?;
    let (heads_first, scattered) = (x[0].transpose(1, 2)?, x[1].transpose(1, 3)?.transpose(1, 2)?);
    let y = attention(&heads_first, &scattered, &scattered, None, Mask::None, 0.3)?;
    let (a, b) = (heads_first.contiguous()?, scattered.contiguous()?);
    let expected = attention(&a, &b, &b, None, Mask::None, 0.3)?;
    assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, expected.flatten_all()?.to_vec1::<f32>()?);
    Ok(())
}

#[test]
fn attention_of_frozen_keys_still_gives_the_query_its_gradient() -> Result<()> {
    let x = Case::new(11, &[&[1, 3, 2, 4], &[1, 5, 2, 4]]).tensors()?;
    let q = candle_core::Var::from_tensor(&x[0])?;
    let grad = |y: Tensor| -> Result<Vec<f32>> {
        y.sqr()?.sum_all()?.backward()?.get(&q).expect("a gradient").flatten_all()?.to_vec1()
    };
    let fused = grad(attention(q.as_tensor(), &x[1], &x[1], None, Mask::None, 0.5)?)?;
    let plain = grad(attention_reference(q.as_tensor(), &x[1], &x[1], None, Mask::None, 0.5)?)?;
    // Values of O(1), two matrix products.
    assert!(fused.iter().zip(plain).all(|(a, b)| (a - b).abs() < 1e-5));
    Ok(())
}

#[test]
fn hidden_keys_take_no_part() -> Result<()> {
    // A key behind an infinite mask may hold anything finite; the other rows of the window are as without it.
    let x = Case::new(12, &[&[1, 4, 2, 8], &[1, 6, 2, 8]]).tensors()?;
    let mask: Vec<f32> = (0..24).map(|i| if i % 6 == 5 { f32::NEG_INFINITY } else { 0.0 }).collect();
    let mask = Tensor::from_vec(mask, (1, 4, 6), &Device::Cpu)?;
    let masked = attention(&x[0], &x[1], &x[1], None, Mask::Additive(&mask), 0.5)?;
    let fewer = x[1].narrow(1, 0, 5)?;
    let expected = attention(&x[0], &fewer, &fewer, None, Mask::None, 0.5)?;
    assert_eq!(masked.flatten_all()?.to_vec1::<f32>()?, expected.flatten_all()?.to_vec1::<f32>()?);
    Ok(())
}

#[test]
fn arguments_that_do_not_fit_are_refused() -> Result<()> {
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu);
    let (q, k, odd) = (zeros(&[2, 3, 4, 8])?, zeros(&[2, 5, 2, 8])?, zeros(&[2, 5, 3, 8])?);
    assert!(attention(&q, &k, &k, None, Mask::None, 1.0).is_ok());
    assert!(attention(&q, &odd, &odd, None, Mask::None, 1.0).is_err());
    assert!(attention(&q, &k, &odd, None, Mask::None, 1.0).is_err());
    assert!(attention(&q, &k, &k, Some(&zeros(&[4, 3, 4])?), Mask::None, 1.0).is_err());
    assert!(attention(&q, &k, &k, None, Mask::Additive(&zeros(&[3, 3, 5])?), 1.0).is_err());
    assert!(layer_norm(&q, &zeros(&[7])?, &zeros(&[8])?, EPS).is_err());
    assert!(rope(&q, &zeros(&[1, 3, 3])?, &zeros(&[1, 3, 3])?, RopeLayout::HalfSplit).is_err());
    let logits = zeros(&[2, 5])?;
    assert!(cross_entropy(&logits, &[0]).is_err());
    assert!(cross_entropy(&logits, &[0, 5]).is_err());
    assert_eq!(cross_entropy(&logits, &[IGNORE; 2])?.to_scalar::<f32>()?, 0.0);
    Ok(())
}

#[test]
fn a_row_does_not_depend_on_its_batch() -> Result<()> {
    let x = Case::new(5, &[&[300, 130], &[130], &[130]]).tensors()?;
    let part = x[0].narrow(0, 211, 3)?;
    let same = |whole: Tensor, alone: Tensor| -> Result<()> {
        assert_eq!(whole.narrow(0, 211, 3)?.to_vec2::<f32>()?, alone.to_vec2::<f32>()?);
        Ok(())
    };
    same(layer_norm(&x[0], &x[1], &x[2], EPS)?, layer_norm(&part, &x[1], &x[2], EPS)?)?;
    same(rms_norm(&x[0], &x[1], EPS)?, rms_norm(&part, &x[1], EPS)?)?;
    same(l2_normalize(&x[0], EPS)?, l2_normalize(&part, EPS)?)?;
    same(gelu(&x[0])?, gelu(&part)?)?;
    same(swiglu(&x[0])?, swiglu(&part)?)?;
    same(softmax(&x[0])?, softmax(&part)?)
}

#[test]
fn views_equal_copies() -> Result<()> {
    let x = Case::new(9, &[&[6, 5, 34]]).tensors()?.remove(0);
    let view = x.narrow(2, 3, 20)?.transpose(0, 1)?.narrow(1, 2, 3)?;
    let copy = view.contiguous()?;
    let weight = x.narrow(0, 1, 1)?.narrow(1, 1, 1)?.narrow(2, 5, 20)?.flatten_all()?;
    let same = |a: Tensor, b: Tensor| -> Result<()> {
        assert_eq!(a.flatten_all()?.to_vec1::<f32>()?, b.flatten_all()?.to_vec1::<f32>()?);
        Ok(())
    };
    same(layer_norm(&view, &weight, &weight, EPS)?, layer_norm(&copy, &weight, &weight, EPS)?)?;
    same(rms_norm(&view, &weight, EPS)?, rms_norm(&copy, &weight, EPS)?)?;
    same(gelu(&view)?, gelu(&copy)?)?;
    same(swiglu(&view)?, swiglu(&copy)?)?;
    same(silu_mul(&view, &view)?, silu_mul(&copy, &copy)?)?;
    same(softmax(&view)?, softmax(&copy)?)?;
    let (view4, copy4) = (view.unsqueeze(0)?, copy.unsqueeze(0)?);
    let angles = copy.narrow(1, 0, 1)?.narrow(2, 0, 10)?.transpose(0, 1)?;
    for layout in [RopeLayout::HalfSplit, RopeLayout::Interleaved] {
        same(rope(&view4, &angles, &angles, layout)?, rope(&copy4, &angles, &angles, layout)?)?;
    }
    same(gather_rows(&view, &[2, 0, ZERO_ROW])?, gather_rows(&copy, &[2, 0, ZERO_ROW])?)
}

#[test]
fn queries_with_keys_of_their_own_are_as_each_alone() -> Result<()> {
    // Lengths around the tile of 64 keys; 1 and 3 query heads to a key head, heads of several vectors and one key head for all.
    for (heads, kv_heads, dim, v_dim) in [(4, 4, 16, 16), (6, 2, 10, 7), (3, 3, 70, 132), (100, 1, 24, 20)] {
        for dtype in [DType::F32, DType::BF16] {
            let lengths = [1usize, 2, 63, 64, 65, 130];
            let q = Case::new(13, &[&[lengths.len(), 1, heads, dim]]).tensors()?.remove(0);
            let keys = lengths.iter().map(|&n| {
                let joined = Case::new(n as u64, &[&[1, n, kv_heads, dim + v_dim]]).tensors()?.remove(0);
                let joined = joined.to_dtype(dtype)?;
                Ok((joined.narrow(3, 0, dim)?, joined.narrow(3, dim, v_dim)?))
            });
            let keys = keys.collect::<Result<Vec<_>>>()?;
            let found = attention_each(&q, &keys, 0.3)?;
            let exact = |(k, v): &(Tensor, Tensor)| Ok((k.to_dtype(DType::F32)?, v.to_dtype(DType::F32)?));
            let exact = keys.iter().map(exact).collect::<Result<Vec<_>>>()?;
            let plain = attention_each_reference(&q, &exact, 0.3)?;
            assert_eq!(found.dims(), [lengths.len(), 1, heads, v_dim]);
            // Means of values of O(1): whatever keys are stored as, the rest is in f32.
            assert!((&found - plain)?.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>()? < 1e-5);
            for (row, (k, v)) in keys.iter().enumerate() {
                let q = q.narrow(0, row, 1)?;
                let alone = attention_in(Precision::Bf16, &q, k, v, Mask::None, 0.3)?;
                let bits = |x: &Tensor| -> Result<Vec<u32>> {
                    Ok(x.flatten_all()?.to_vec1::<f32>()?.into_iter().map(f32::to_bits).collect())
                };
                assert_eq!(bits(&found.narrow(0, row, 1)?)?, bits(&alone)?, "row {row}");
            }
            assert!(attention_each(&q, &keys[1..], 0.3).is_err());
            let causal = |q: &Tensor| {
                attention_in(Precision::Bf16, q, &keys[5].0, &keys[5].1, Mask::Causal { offset: 129 }, 0.3)
            };
            let some = causal(&q.narrow(0, 5, 1)?)?;
            assert_eq!(
                some.flatten_all()?.to_vec1::<f32>()?,
                found.narrow(0, 5, 1)?.flatten_all()?.to_vec1::<f32>()?
            );
        }
    }
    Ok(())
}
