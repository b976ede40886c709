//! The fused operations at the shapes of the models: `cargo bench -p swinseek-kernels --bench fused [-- NAME]`.

mod common;

use common::{bench, group, random};
use criterion::{Criterion, criterion_group, criterion_main};
use swinseek_kernels::Precision;
use swinseek_kernels::gemm::PackedWeight;
use swinseek_kernels::ops::activation::Activation;
use swinseek_kernels::ops::attention::{Mask, attention_in};
use swinseek_kernels::ops::feed_forward::{FeedForward, feed_forward};
use swinseek_kernels::ops::linear::pack;
use swinseek_kernels::ops::projection::{NormParameters, projection};
use swinseek_kernels::ops::window_attention::{WindowWeights, Windows, window_attention};

fn packed(out: usize, inner: usize) -> PackedWeight {
    pack(&random(&[out, inner]), None).expect("a matrix")
}

fn projections(criterion: &mut Criterion) {
    let mut group = group(criterion, "projection");
    for (rows, dim, out) in [
        (196, 512, 2048),
        (1568, 512, 2048),
        (1568, 2048, 512),
        (512, 1280, 3840),
        (512, 3584, 1280),
        (1, 1280, 3584),
    ] {
        let (x, weight) = (random(&[rows, dim]), packed(out, dim));
        bench(&mut group, format!("{rows} x {dim} x {out}"), 2 * rows * dim * out, || {
            projection(&x, None, &weight, None, None)
        });
    }
}

fn feed_forwards(criterion: &mut Criterion) {
    let mut group = group(criterion, "feed_forward");
    for (rows, dim, hidden, gated) in [
        (3136, 128, 512, false),
        (196, 512, 2048, false),
        (1568, 512, 2048, false),
        (49, 1024, 4096, false),
        (512, 1280, 3584, true),
        (1, 1280, 3584, true),
    ] {
        let x = random(&[rows, dim]);
        let (up, gate, down) = (packed(hidden, dim), packed(hidden, dim), packed(dim, hidden));
        let (weight, bias) = (random(&[dim]), random(&[dim]));
        let weights = FeedForward {
            norm: Some(NormParameters { weight: &weight, bias: Some(&bias), eps: 1e-5 }),
            gate: gated.then_some(&gate),
            up: &up,
            activation: if gated { Activation::Silu } else { Activation::Gelu },
            down: &down,
            post_norm: None,
            residual: true,
        };
        let matrices = if gated { 3 } else { 2 };
        let gate = if gated { ", gated" } else { "" };
        bench(
            &mut group,
            format!("{rows} x {dim} x {hidden}{gate}"),
            2 * matrices * rows * dim * hidden,
            || feed_forward(&x, &weights),
        );
    }
}

fn window_attentions(criterion: &mut Criterion) {
    let mut group = group(criterion, "window_attention");
    let shapes = [(64, 128), (16, 256), (4, 512), (32, 512), (1, 1024)];
    let precisions = [Precision::Bf16, Precision::Int8];
    for ((windows, dim), precision) in shapes.into_iter().flat_map(|shape| precisions.map(|p| (shape, p))) {
        let heads = dim / 32;
        let [q, k, v, o] = std::array::from_fn(|_| random(&[dim, dim]));
        let (x, bias) = (random(&[1, windows * 49, dim]), random(&[heads, 49, 49]));
        let weights = WindowWeights::new([(&q, None), (&k, None), (&v, None)], (&o, None), &bias, precision);
        let weights = weights.expect("the shapes fit");
        let (weight, b) = (random(&[dim]), random(&[dim]));
        let index: Vec<u32> = (0..windows as u32 * 49).collect();
        let plan = Windows { index: &index, area: 49, mask: None };
        let norm = NormParameters { weight: &weight, bias: Some(&b), eps: 1e-5 };
        let operations = 2 * windows * 49 * dim * (4 * dim + 2 * 49);
        bench(&mut group, format!("{windows} windows, {dim}, {}", precision.name()), operations, || {
            window_attention(&x, (Some(norm), None), &weights, plan, None)
        });
    }
}

fn prompt_attention(criterion: &mut Criterion) {
    let mut group = group(criterion, "prompt_attention");
    let [q, k, v] = std::array::from_fn(|_| random(&[1, 512, 20, 64]));
    bench(&mut group, "512 x 20 x 64, causal", 2 * 512 * 256 * 20 * 128, || {
        attention_in(Precision::Bf16, &q, &k, &v, Mask::Causal { offset: 0 }, 0.125)
    });
}

criterion_group! {
    name = fused;
    config = common::settings();
    targets = projections, feed_forwards, window_attentions, prompt_attention
}
criterion_main!(fused);
