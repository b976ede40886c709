//! `linear`, forward and backward, at the shapes of the models: `cargo bench -p swinseek-kernels --bench linear [-- NAME]`.
//! `RAYON_NUM_THREADS` sets the threads.

mod common;

use candle_core::Var;
use common::{bench, group, random};
use criterion::{Criterion, criterion_group, criterion_main};
use swinseek_kernels::Precision;
use swinseek_kernels::layers::Linear;
use swinseek_kernels::ops::linear::{grouped_linear, linear};

/// Rows, input features, output features.
const SHAPES: [(usize, usize, usize); 6] =
    [(6144, 40, 120), (2304, 80, 240), (576, 160, 640), (768, 256, 704), (1024, 1024, 1024), (1, 1280, 1280)];

fn linears(criterion: &mut Criterion) {
    for precision in [Precision::Bf16, Precision::F32] {
        let mut group = group(criterion, &format!("linear {}", precision.name()));
        for (rows, inner, out) in SHAPES {
            let (x, w, b) = (random(&[rows, inner]), random(&[out, inner]), random(&[out]));
            let shape = format!("{rows} x {inner} x {out}");
            let operations = 2 * rows * inner * out;
            if precision == Precision::Bf16 {
                let layer = Linear::from_parts(w.clone(), Some(b.clone()), precision);
                bench(&mut group, format!("constant {shape}"), operations, || {
                    layer.forward(&x).map_err(candle_core::Error::wrap)
                });
            }
            bench(&mut group, format!("forward {shape}"), operations, || linear(&x, &w, Some(&b), precision));
            // Candle's own share, a gradient of ones and the sums into its store, is part of this.
            let [vx, vw, vb] = [&x, &w, &b].map(|value| Var::from_tensor(value).expect("a copy"));
            let y = linear(&vx, &vw, Some(&vb), precision).expect("the shapes fit");
            bench(&mut group, format!("backward {shape}"), 2 * operations, || y.backward());
        }
    }
}

fn experts(criterion: &mut Criterion) {
    let (groups, rows, inner, out) = (8, 1536, 256, 352);
    let (x, w) = (random(&[rows, inner]), random(&[groups, out, inner]));
    let offsets: Vec<usize> = (0..=groups).map(|group| rows * group / groups).collect();
    let mut group = group(criterion, "grouped_linear");
    for precision in [Precision::Bf16, Precision::F32] {
        let name = format!("{}, {groups} experts, {rows} x {inner} x {out}", precision.name());
        bench(&mut group, name, 2 * rows * inner * out, || grouped_linear(&x, &w, &offsets, precision));
    }
}

criterion_group! {
    name = benches;
    config = common::settings();
    targets = linears, experts
}
criterion_main!(benches);
