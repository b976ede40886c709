//! Quantised decoder layers: `cargo bench -p swinseek-kernels --bench quantised [-- NAME]`.
//!
//! The layers of a dense llama of 0.5 B parameters follow one another in turn, so that weights come from memory as they do in
//! a decoder. Rates are in operations and in bytes of weights a second.

mod common;

use candle_core::{Result, Tensor};
use common::{group, random};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use swinseek_kernels::ops::activation::Activation;
use swinseek_kernels::ops::projection::NormParameters;
use swinseek_kernels::ops::quant_feed_forward::{QuantFeedForward, quant_feed_forward};
use swinseek_kernels::ops::quant_linear::{QuantWeight, quant_projection};
use swinseek_kernels::quant::{Int4Weight, Int8Weight};
use swinseek_kernels::roofline::Memory;

const LAYERS: usize = 24;
const DIM: usize = 1280;
const HIDDEN: usize = 3584;

/// The weights of a layer, all layers the same but each in memory of its own.
struct Layer<W> {
    qkv: W,
    output: W,
    gate: W,
    up: W,
    down: W,
}

impl<W> Layer<W> {
    fn all(pack: impl Fn(&[f32], usize, usize) -> W) -> Vec<Self> {
        // The largest weight is that of the queries, keys and values.
        let values: Vec<f32> = random(&[3 * DIM * DIM]).to_vec1().expect("f32 numbers");
        let weight = |out: usize, inner: usize| pack(&values[..out * inner], out, inner);
        let layer = |_| Self {
            qkv: weight(3 * DIM, DIM),
            output: weight(DIM, DIM),
            gate: weight(HIDDEN, DIM),
            up: weight(HIDDEN, DIM),
            down: weight(DIM, HIDDEN),
        };
        (0..LAYERS).map(layer).collect()
    }
}

/// Operations and bytes of `rows` through some weights.
fn work(rows: usize, weights: &[QuantWeight]) -> Throughput {
    let multiplications: usize = weights.iter().map(|weight| weight.shape().0 * weight.shape().1).sum();
    let bytes: usize = weights.iter().map(QuantWeight::bytes).sum();
    Throughput::ElementsAndBytes { elements: (2 * rows * multiplications) as u64, bytes: bytes as u64 }
}

/// Times `call`, which is given the layers in turn.
fn bench<W>(
    group: &mut BenchmarkGroup<WallTime>,
    name: String,
    throughput: Throughput,
    layers: &[Layer<W>],
    call: impl Fn(&Layer<W>) -> Result<Tensor>,
) {
    let mut turns = layers.iter().cycle();
    group.throughput(throughput).bench_function(name, |bencher| {
        bencher.iter(|| turns.next().map(|layer| call(layer).expect("the shapes fit")));
    });
}

fn layers<W>(criterion: &mut Criterion, name: &str, layers: &[Layer<W>])
where
    for<'a> &'a W: Into<QuantWeight<'a>>,
{
    let mut group = group(criterion, name);
    let weight = random(&[DIM]);
    let norm = NormParameters { weight: &weight, bias: None, eps: 1e-5 };
    for rows in [1, 8, 512] {
        let x = random(&[rows, DIM]);
        let qkv = |layer: &Layer<W>| quant_projection(&x, Some(norm), (&layer.qkv).into(), None, None, None);
        let output =
            |layer: &Layer<W>| quant_projection(&x, None, (&layer.output).into(), None, None, Some(&x));
        let feed_forward = |layer: &Layer<W>| {
            let weights = QuantFeedForward {
                norm: Some(norm),
                gate: Some(((&layer.gate).into(), None)),
                up: ((&layer.up).into(), None),
                activation: Activation::Silu,
                down: ((&layer.down).into(), None),
                post_norm: None,
                residual: true,
            };
            quant_feed_forward(&x, &weights)
        };
        let Layer { qkv: a, output: b, gate: c, up: d, down: e } = &layers[0];
        let [a, b, c, d, e] = [a, b, c, d, e].map(Into::into);
        bench(&mut group, format!("{rows} rows, qkv"), work(rows, &[a]), layers, qkv);
        bench(&mut group, format!("{rows} rows, output"), work(rows, &[b]), layers, output);
        bench(&mut group, format!("{rows} rows, feed_forward"), work(rows, &[c, d, e]), layers, feed_forward);
        bench(&mut group, format!("{rows} rows, layer"), work(rows, &[a, b, c, d, e]), layers, |layer| {
            qkv(layer)?;
            output(layer)?;
            feed_forward(layer)
        });
    }
}

fn int8(criterion: &mut Criterion) {
    layers(criterion, "int8", &Layer::all(Int8Weight::new));
}

fn int4(criterion: &mut Criterion) {
    layers(criterion, "int4", &Layer::all(Int4Weight::new));
}

/// What reading alone would take.
fn memory(criterion: &mut Criterion) {
    let memory = Memory::default();
    let mut group = group(criterion, "memory");
    group.throughput(Throughput::BytesDecimal(memory.read() as u64));
    group.bench_function("read", |bencher| bencher.iter(|| memory.read()));
}

criterion_group! {
    name = quantised;
    config = common::settings();
    targets = memory, int8, int4
}
criterion_main!(quantised);
