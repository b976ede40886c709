//! What the benches share: short runs, random inputs, and rates in operations a second (`elem/s` is FLOP/s).
#![allow(dead_code)] // No bench needs all of it.

use std::hint::black_box;
use std::time::Duration;

use candle_core::{Device, Result, Tensor};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, SamplingMode, Throughput};

#[global_allocator]
static HEAP: swinseek_kernels::heap::Heap = swinseek_kernels::heap::Heap;

/// Short, so that all benches take about a minute; `--measurement-time` and `--sample-size` make them longer.
pub(crate) fn settings() -> Criterion {
    swinseek_kernels::heap::keep_freed_memory();
    Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(300))
        .without_plots()
        .configure_from_args()
}

pub(crate) fn group<'a>(criterion: &'a mut Criterion, name: &str) -> BenchmarkGroup<'a, WallTime> {
    let mut group = criterion.benchmark_group(name);
    // Every sample has as many calls: what takes long is not called 55 times for ten samples.
    group.sampling_mode(SamplingMode::Flat);
    group
}

/// Times `call`, which does so many floating-point operations (or element-wise results, where products are not its work).
pub(crate) fn bench<T>(
    group: &mut BenchmarkGroup<WallTime>,
    name: impl Into<String>,
    operations: usize,
    mut call: impl FnMut() -> Result<T>,
) {
    group.throughput(Throughput::Elements(operations as u64));
    group.bench_function(name.into(), |bencher| {
        bencher.iter(|| black_box(call().expect("the shapes fit")));
    });
}

/// Normal numbers of standard deviation 0.1.
pub(crate) fn random(shape: &[usize]) -> Tensor {
    Tensor::randn(0f32, 0.1, shape, &Device::Cpu).expect("memory for the inputs")
}
