//! The element-wise operations, norms and attentions on shapes that the models use, each beside its reference, and forward with
//! backward: `cargo bench -p swinseek-kernels --bench ops [-- NAME]`. Rates are elements of the result (of a loss, of its input)
//! a second; `RAYON_NUM_THREADS` sets the threads.

mod common;

use candle_core::{DType, Device, Result, Tensor, Var};
use common::{bench, group};
use criterion::{Criterion, criterion_group, criterion_main};
use swinseek_kernels::ops::activation::{gelu, gelu_reference, swiglu, swiglu_reference};
use swinseek_kernels::ops::attention::{Mask, attention, attention_reference};
use swinseek_kernels::ops::gather::{gather_rows, gather_rows_reference};
use swinseek_kernels::ops::loss::{cross_entropy, cross_entropy_reference};
use swinseek_kernels::ops::norm::{layer_norm, layer_norm_reference, rms_norm, rms_norm_reference};
use swinseek_kernels::ops::rope::{RopeLayout, rope, rope_reference};

type Operation<'a> = &'a dyn Fn(&[Tensor]) -> Result<Tensor>;

/// The fused operation, its reference, and a step of training through it.
fn compare(
    criterion: &mut Criterion,
    (name, shape): (&str, &str),
    inputs: &[&[usize]],
    fused: Operation,
    reference: Operation,
) {
    let random =
        |shape: &&[usize]| Var::randn(0f32, 1.0, *shape, &Device::Cpu).expect("memory for the inputs");
    let vars: Vec<Var> = inputs.iter().map(random).collect();
    let trained: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
    let constant: Vec<Tensor> = trained.iter().map(Tensor::detach).collect();
    let elements = fused(&constant).expect("the shapes fit").elem_count();
    let elements = if elements == 1 { constant[0].elem_count() } else { elements };
    let mut group = group(criterion, name);
    bench(&mut group, format!("{shape}: fused"), elements, || fused(&constant));
    bench(&mut group, format!("{shape}: reference"), elements, || reference(&constant));
    bench(&mut group, format!("{shape}: fused, trained"), elements, || {
        fused(&trained)?.sum_all()?.backward()
    });
}

/// An attention without a bias.
fn attend(criterion: &mut Criterion, shape: &str, inputs: [[usize; 4]; 3], mask: Mask) {
    let inputs: Vec<&[usize]> = inputs.iter().map(<[usize; 4]>::as_slice).collect();
    compare(
        criterion,
        ("attention", shape),
        &inputs,
        &|x| attention(&x[0], &x[1], &x[2], None, mask, 0.125),
        &|x| attention_reference(&x[0], &x[1], &x[2], None, mask, 0.125),
    );
}

/// Window attention with a bias and a mask.
fn windows(criterion: &mut Criterion, [batch, tokens, heads, dim]: [usize; 4]) {
    let qkv: &[usize] = &[batch, tokens, heads, dim];
    let mask = Tensor::zeros((16, tokens, tokens), DType::F32, &Device::Cpu).expect("memory for a mask");
    let mask = Mask::Additive(&mask);
    compare(
        criterion,
        ("attention", &format!("windows {batch}x{tokens}x{heads}x{dim}")),
        &[qkv, qkv, qkv, &[heads, tokens, tokens]],
        &|x| attention(&x[0], &x[1], &x[2], Some(&x[3]), mask, 0.18),
        &|x| attention_reference(&x[0], &x[1], &x[2], Some(&x[3]), mask, 0.18),
    );
}

fn norms(criterion: &mut Criterion) {
    compare(
        criterion,
        ("layer_norm", "12544x192"),
        &[&[16, 784, 192], &[192], &[192]],
        &|x| layer_norm(&x[0], &x[1], &x[2], 1e-5),
        &|x| layer_norm_reference(&x[0], &x[1], &x[2], 1e-5),
    );
    compare(
        criterion,
        ("rms_norm", "2048x256"),
        &[&[8, 256, 256], &[256]],
        &|x| rms_norm(&x[0], &x[1], 1e-6),
        &|x| rms_norm_reference(&x[0], &x[1], 1e-6),
    );
}

fn activations(criterion: &mut Criterion) {
    compare(criterion, ("gelu", "12544x768"), &[&[16, 784, 768]], &|x| gelu(&x[0]), &|x| {
        gelu_reference(&x[0])
    });
    let swiglus: [Operation; 2] = [&|x| swiglu(&x[0]), &|x| swiglu_reference(&x[0])];
    compare(criterion, ("swiglu", "2048x2x704"), &[&[8, 256, 1408]], swiglus[0], swiglus[1]);
}

fn gathers(criterion: &mut Criterion) {
    let place = |i: u32| (i % 56 / 7 * 7 + i / 448 * 56 + i % 7 + i / 56 % 8 * 7) % 3136;
    let index: Vec<u32> = (0..3136).map(place).collect();
    compare(
        criterion,
        ("gather_rows", "16x3136x96"),
        &[&[16, 3136, 96]],
        &|x| gather_rows(&x[0], &index),
        &|x| gather_rows_reference(&x[0], &index),
    );
}

fn losses(criterion: &mut Criterion) {
    let targets: Vec<u32> = (0..2048).map(|i| i * 31 % 4096).collect();
    compare(
        criterion,
        ("cross_entropy", "2048x4096"),
        &[&[2048, 4096]],
        &|x| cross_entropy(&x[0], &targets),
        &|x| cross_entropy_reference(&x[0], &targets),
    );
}

fn ropes(criterion: &mut Criterion) {
    for layout in [RopeLayout::HalfSplit, RopeLayout::Interleaved] {
        let angles: &[usize] = &[1, 256, 32];
        compare(
            criterion,
            ("rope", &format!("8x256x4x64 {layout:?}")),
            &[&[8, 256, 4, 64], angles, angles],
            &|x| rope(&x[0], &x[1].detach(), &x[2].detach(), layout),
            &|x| rope_reference(&x[0], &x[1].detach(), &x[2].detach(), layout),
        );
    }
}

fn attentions(criterion: &mut Criterion) {
    for shape in [[512, 36, 4, 10], [256, 49, 3, 32], [64, 144, 8, 32]] {
        windows(criterion, shape);
    }
    let causal = Mask::Causal { offset: 0 };
    attend(criterion, "causal 8x128x4x64", [[8, 128, 4, 64], [8, 128, 4, 64], [8, 128, 4, 48]], causal);
    attend(criterion, "causal 2x512x4x64", [[2, 512, 4, 64], [2, 512, 4, 64], [2, 512, 4, 48]], causal);
    let past = [[1, 1, 4, 64], [1, 2000, 4, 64], [1, 2000, 4, 48]];
    attend(criterion, "decode 1x2000x4x64", past, Mask::None);
    let latent = [[1, 1, 8, 112], [1, 2000, 1, 112], [1, 2000, 1, 96]];
    attend(criterion, "decode latent 1x2000x8x112", latent, Mask::None);
    attend(criterion, "cross 8x128 on 196", [[8, 128, 4, 64], [8, 196, 4, 64], [8, 196, 4, 64]], Mask::None);
}

criterion_group! {
    name = ops;
    config = common::settings();
    targets = norms, activations, gathers, losses, ropes, attentions
}
criterion_main!(ops);
