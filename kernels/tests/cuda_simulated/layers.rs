//! Layers whose weights are on the card, against plain references of the same weights in `f32` here.

use std::collections::HashMap;
use std::sync::Arc;

use candle_core::{D, DType, Device, Tensor};
use swinseek_kernels::layers::{Experts, GroupedLinear, LayerNorm, Linear, Norm, RmsNorm};
use swinseek_kernels::ops::activation::Activation;
use swinseek_kernels::ops::attention::{Mask, attention_reference, latent_attention};
use swinseek_kernels::ops::experts::experts_reference;
use swinseek_kernels::ops::gather::{
    ZERO_ROW, gather_rows, gather_rows_reference, gather_sums, gather_sums_reference,
};
use swinseek_kernels::ops::linear::grouped_linear_reference;
use swinseek_kernels::ops::projection::{NormParameters, projection_reference};
use swinseek_kernels::ops::rope::{RopeLayout, rope, rope_reference};
use swinseek_kernels::ops::unfold::{patches, patches_reference};
use swinseek_kernels::quant::{GROUP, Int4Groups, Int8Rows};
use swinseek_kernels::{Init, Precision, Result, TensorSource, Weights};

use crate::{assert_close, card, random};

const PRECISIONS: [Precision; 4] = [Precision::F32, Precision::Bf16, Precision::Int8, Precision::Int4];

/// Products of `bf16` operands that are not what was rounded; results of the largest value's size.
fn tolerance(precision: Precision) -> f32 {
    if precision == Precision::F32 { 3e-6 } else { 1e-2 }
}

/// Tensors by name, given as often as they are asked for.
struct Stored(HashMap<String, Tensor>);

impl TensorSource for Stored {
    fn tensor(&self, name: &str, _: &[usize], _: Init) -> Result<Tensor> {
        Ok(self.0[name].clone())
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.0.get(name).map(|tensor| tensor.dims().to_vec())
    }

    fn is_lasting(&self) -> bool {
        true
    }
}

fn weights(tensors: &[(&str, &Tensor)], precision: Precision, device: &Device) -> Weights {
    let tensors = tensors.iter().map(|(name, tensor)| ((*name).to_owned(), (*tensor).clone())).collect();
    Weights::new(Arc::new(Stored(tensors)), precision).on(device)
}

/// What a weight is after quantisation; rows that are no whole groups take 8 bits.
fn quantized(weight: &Tensor, precision: Precision) -> Tensor {
    let columns = *weight.dims().last().unwrap();
    let values = weight.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let values = match precision {
        Precision::F32 | Precision::Bf16 => values,
        Precision::Int4 if columns.is_multiple_of(GROUP) => {
            Int4Groups::quantize(&values, columns).dequantize()
        }
        Precision::Int8 | Precision::Int4 => Int8Rows::quantize(&values, columns).dequantize(),
    };
    Tensor::from_vec(values, weight.dims(), &Device::Cpu).unwrap()
}

#[test]
fn projections_match_their_reference() {
    let Some(card) = card() else { return };
    let activations = [None, Some(Activation::Gelu), Some(Activation::Silu)];
    for (i, (rows, inner, out)) in
        [(1, 64, 40), (3, 96, 33), (4, 40, 64), (5, 128, 200), (70, 70, 70), (0, 64, 8)]
            .into_iter()
            .enumerate()
    {
        for precision in PRECISIONS {
            let (weight, bias, gain) = (random(&[out, inner]), random(&[out]), random(&[inner]));
            let (x, residual) = (random(&[2, rows, inner]), random(&[2, rows, out]));
            let stored = [("weight", &weight), ("bias", &bias)];
            let layer = Linear::new(inner, out, &weights(&stored, precision, &card)).unwrap();
            let stored = weights(&[("weight", &gain), ("bias", &gain)], precision, &card);
            let norm: Norm = match i % 2 {
                0 => RmsNorm::new(inner, 1e-5, &stored).unwrap().into(),
                _ => LayerNorm::new(inner, 1e-5, &stored).unwrap().into(),
            };
            let parameters = NormParameters { weight: &gain, bias: (i % 2 == 1).then_some(&gain), eps: 1e-5 };
            let meant = quantized(&weight, precision);
            for activation in activations {
                let expected = projection_reference(
                    &x,
                    Some(parameters),
                    (&meant, Some(&bias)),
                    activation,
                    Some(&residual),
                );
                let on = |x: &Tensor| x.to_device(&card).unwrap();
                let found =
                    layer.forward_with(&on(&x), Some(&norm), activation, Some(&on(&residual))).unwrap();
                let what = format!("{precision:?} {activation:?} of {:?} and {:?}", x.dims(), weight.dims());
                assert!(found.device().is_cuda(), "{what}");
                assert_close(&found, &expected.unwrap(), tolerance(precision), &what);
            }
            let plain = layer.forward(&x.to_device(&card).unwrap()).unwrap();
            let expected = projection_reference(&x, None, (&meant, Some(&bias)), None, None).unwrap();
            assert_close(&plain, &expected, tolerance(precision), "plain");
        }
    }
}

#[test]
fn projections_side_by_side_match_their_parts() {
    let Some(card) = card() else { return };
    let (a, b, bias) = (random(&[40, 64]), random(&[24, 64]), random(&[24]));
    let stored = weights(&[("a.weight", &a), ("b.weight", &b), ("b.bias", &bias)], Precision::Bf16, &card);
    let parts =
        [Linear::no_bias(64, 40, &stored.pp("a")).unwrap(), Linear::new(64, 24, &stored.pp("b")).unwrap()];
    let joined = Linear::joined(&parts.each_ref()).unwrap().expect("constants");
    let x = random(&[3, 64]).to_device(&card).unwrap();
    let apart = parts.each_ref().map(|part| part.forward(&x).unwrap());
    let expected = Tensor::cat(&apart, D::Minus1).unwrap().to_device(&Device::Cpu).unwrap();
    // One order of sums, whatever stands beside.
    assert_close(&joined.forward(&x).unwrap(), &expected, 1e-6, "joined");
}

#[test]
fn experts_match_their_reference() {
    let Some(card) = card() else { return };
    for (rows, dim, width, count, choices) in [(1, 64, 32, 4, 2), (9, 96, 40, 6, 3), (130, 32, 64, 3, 1)] {
        for precision in PRECISIONS {
            let (gate_up, down) = (random(&[count, 2 * width, dim]), random(&[count, dim, width]));
            let (x, plus) = (random(&[rows, dim]), random(&[rows, dim]));
            let shares = random(&[rows, choices]);
            // Ascending and without repetition in a row; the last expert has none.
            let chosen = (0..rows * choices).map(|i| ((i / choices + i % choices * 7) % (count - 1)) as u32);
            let chosen: Vec<u32> = chosen.collect();
            let on = |x: &Tensor| x.to_device(&card).unwrap();
            let experts = Experts::from_parts(on(&gate_up), on(&down), precision).unwrap();
            let found = experts.forward(&on(&x), (&chosen, &on(&shares)), Some(&on(&plus))).unwrap();
            // Both take 8 bits where one of them has no whole groups.
            let whole = dim % GROUP == 0 && width % GROUP == 0;
            let few = if whole { Precision::Int4 } else { Precision::Int8 };
            let means = if precision == Precision::Int4 { few } else { precision };
            let (gate_up, down) = (quantized(&gate_up, means), quantized(&down, means));
            let expert = |i: usize| {
                let part = |first: usize| gate_up.get(i).unwrap().narrow(0, first, width).unwrap();
                [part(0), part(width), down.get(i).unwrap()]
            };
            let expected = experts_reference(&x, (&chosen, &shares), expert, Some(&plus)).unwrap();
            let what = format!("{precision:?} experts of {:?}", gate_up.dims());
            assert_close(&found, &expected, tolerance(precision), &what);
        }
    }
}

#[test]
fn groups_match_their_reference() {
    let Some(card) = card() else { return };
    for precision in [Precision::F32, Precision::Bf16] {
        for offsets in [[0, 2, 4, 6], [0, 0, 5, 6], [0, 0, 0, 0], [0, 1, 2, 3]] {
            let (x, weight) = (random(&[offsets[3], 48]), random(&[3, 20, 48]));
            let on = |x: &Tensor| x.to_device(&card).unwrap();
            let layer = GroupedLinear::from_parts(on(&weight), precision).unwrap();
            let found = layer.forward(&on(&x), &offsets).unwrap();
            let expected = grouped_linear_reference(&x, &weight, &offsets).unwrap();
            assert_close(
                &found,
                &expected,
                tolerance(precision),
                &format!("{precision:?} groups {offsets:?}"),
            );
        }
    }
}

#[test]
fn rotations_match_their_reference() {
    let Some(card) = card() else { return };
    for (batch, tokens, heads, dim) in [(1, 1, 1, 2), (2, 5, 3, 64), (3, 7, 2, 10)] {
        for (layout, angle_batch) in [(RopeLayout::HalfSplit, 1), (RopeLayout::Interleaved, batch)] {
            let all = random(&[batch, tokens, heads + 2, dim]);
            let angles = random(&[angle_batch, tokens, dim / 2]);
            let (cos, sin) = (angles.cos().unwrap(), angles.sin().unwrap());
            let on = |x: &Tensor| x.to_device(&card).unwrap();
            let part = |x: &Tensor| x.narrow(2, 1, heads).unwrap();
            let found = rope(&part(&on(&all)), &on(&cos), &on(&sin), layout).unwrap();
            let expected = rope_reference(&part(&all), &cos, &sin, layout).unwrap();
            assert_close(&found, &expected, 2e-6, &format!("{layout:?} of {:?}", all.dims()));
        }
    }
}

#[test]
fn latent_attention_matches_its_reference() {
    let Some(card) = card() else { return };
    for (batch, keys, heads, rank, rope) in [(1, 1, 1, 8, 8), (2, 40, 20, 96, 32), (1, 600, 16, 512, 64)] {
        let (q, joined) = (random(&[batch, 1, heads, rank + rope]), random(&[batch, keys, 1, rank + rope]));
        let values = joined.narrow(3, 0, rank).unwrap();
        let scale = ((rank + rope) as f64).sqrt().recip();
        let expected = attention_reference(&q, &joined, &values, None, Mask::None, scale).unwrap();
        for precision in [Precision::F32, Precision::Bf16] {
            let [q, joined] = [&q, &joined].map(|x| x.to_device(&card).unwrap());
            let dtype = if precision == Precision::F32 { DType::F32 } else { DType::BF16 };
            let kept = joined.to_dtype(dtype).unwrap();
            let found = latent_attention(precision, &q, &kept, rank, Mask::None, scale).unwrap();
            // Queries, keys, probabilities and the result are rounded.
            let tolerance = if precision == Precision::F32 { 3e-6 } else { 2e-2 };
            assert_close(&found, &expected, tolerance, &format!("{precision:?}, {keys} keys, {heads} heads"));
        }
    }
}

#[test]
fn rows_and_patches_match_their_references() {
    let Some(card) = card() else { return };
    let (x, index) = (random(&[2, 5, 6]), [4, ZERO_ROW, 0, 0, 3, ZERO_ROW]);
    let moved = x.to_device(&card).unwrap();
    assert_close(
        &gather_rows(&moved, &index).unwrap(),
        &gather_rows_reference(&x, &index).unwrap(),
        0.0,
        "rows",
    );
    let (found, expected) = (gather_sums(&moved, &index, 3), gather_sums_reference(&x, &index, 3));
    assert_close(&found.unwrap(), &expected.unwrap(), 1e-6, "sums of rows");
    let pixels = random(&[2, 3, 9, 10]);
    let found = patches(&pixels.to_device(&card).unwrap(), (4, 4)).unwrap();
    assert_close(&found, &patches_reference(&pixels, (4, 4)).unwrap(), 0.0, "patches");
}
