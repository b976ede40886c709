//! Medians of the fused operations and of their references, forward and forward + backward, on shapes that the models
//! use. `cargo bench -p swinseek-kernels --bench ops [-- NAME]`, with `--forward` the fused forward alone;
//! `RAYON_NUM_THREADS` sets the threads.

use std::time::{Duration, Instant};

use candle_core::{DType, Device, Result, Tensor, Var};
use swinseek_kernels::ops::activation::{gelu, gelu_reference, swiglu, swiglu_reference};
use swinseek_kernels::ops::attention::{Mask, attention, attention_reference};
use swinseek_kernels::ops::gather::{gather_rows, gather_rows_reference};
use swinseek_kernels::ops::loss::{cross_entropy, cross_entropy_reference};
use swinseek_kernels::ops::norm::{layer_norm, layer_norm_reference, rms_norm, rms_norm_reference};
use swinseek_kernels::ops::rope::{RopeLayout, rope, rope_reference};

/// Time spent on each measurement.
const BUDGET: Duration = Duration::from_millis(600);

type Operation<'a> = &'a dyn Fn(&[Tensor]) -> Result<Tensor>;

fn median(mut run: impl FnMut() -> Result<()>) -> Result<f64> {
    run()?;
    let (start, mut times) = (Instant::now(), Vec::new());
    while times.len() < 3 || start.elapsed() < BUDGET {
        let begin = Instant::now();
        run()?;
        times.push(begin.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2] * 1e6)
}

fn forward(inputs: &[Tensor], operation: Operation) -> Result<f64> {
    median(|| operation(inputs).map(drop))
}

fn training(inputs: &[Tensor], operation: Operation) -> Result<f64> {
    let vars: Vec<Var> = inputs.iter().map(Var::from_tensor).collect::<Result<_>>()?;
    let inputs: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
    median(|| operation(&inputs)?.sum_all()?.backward().map(drop))
}

/// Prints one line, unless the command line names other operations.
fn compare(name: &str, shapes: &[&[usize]], fused: Operation, reference: Operation) -> Result<()> {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    if !wanted.is_empty() && !wanted.iter().any(|part| name.contains(part.as_str())) {
        return Ok(());
    }
    let inputs = shapes.iter().map(|&shape| Tensor::randn(0f32, 1.0, shape, &Device::Cpu));
    let inputs: Vec<Tensor> = inputs.collect::<Result<_>>()?;
    if std::env::args().any(|arg| arg == "--forward") {
        println!("{name:<34} {:>10.0}", forward(&inputs, fused)?);
        return Ok(());
    }
    let (a, b) = (forward(&inputs, fused)?, forward(&inputs, reference)?);
    let (c, d) = (training(&inputs, fused)?, training(&inputs, reference)?);
    println!("{name:<34} {a:>10.0} {b:>10.0} {:>6.1}x {c:>10.0} {d:>10.0} {:>6.1}x", b / a, d / c);
    Ok(())
}

/// An attention without a bias.
fn attend(name: &str, shapes: [[usize; 4]; 3], mask: Mask) -> Result<()> {
    let shapes: Vec<&[usize]> = shapes.iter().map(<[usize; 4]>::as_slice).collect();
    compare(name, &shapes, &|x| attention(&x[0], &x[1], &x[2], None, mask, 0.125), &|x| {
        attention_reference(&x[0], &x[1], &x[2], None, mask, 0.125)
    })
}

/// Window attention with a bias and a mask.
fn windows(name: &str, batch: usize, tokens: usize, heads: usize, dim: usize) -> Result<()> {
    let qkv: &[usize] = &[batch, tokens, heads, dim];
    let mask = Tensor::zeros((16, tokens, tokens), DType::F32, &Device::Cpu)?;
    let mask = Mask::Additive(&mask);
    compare(
        name,
        &[qkv, qkv, qkv, &[heads, tokens, tokens]],
        &|x| attention(&x[0], &x[1], &x[2], Some(&x[3]), mask, 0.18),
        &|x| attention_reference(&x[0], &x[1], &x[2], Some(&x[3]), mask, 0.18),
    )
}

fn main() -> Result<()> {
    swinseek_kernels::memory::keep_freed_memory();
    let threads = rayon::current_num_threads();
    println!(
        "{threads} threads, median µs   {:>14} {:>10} {:>7} {:>10} {:>10}",
        "fused", "plain", "", "train", "plain"
    );
    let tokens: &[usize] = &[16, 784, 192];
    compare(
        "layer_norm 12544x192",
        &[tokens, &[192], &[192]],
        &|x| layer_norm(&x[0], &x[1], &x[2], 1e-5),
        &|x| layer_norm_reference(&x[0], &x[1], &x[2], 1e-5),
    )?;
    let text: &[usize] = &[8, 256, 256];
    compare("rms_norm 2048x256", &[text, &[256]], &|x| rms_norm(&x[0], &x[1], 1e-6), &|x| {
        rms_norm_reference(&x[0], &x[1], 1e-6)
    })?;
    compare("gelu 12544x768", &[&[16, 784, 768]], &|x| gelu(&x[0]), &|x| gelu_reference(&x[0]))?;
    compare("swiglu 2048x2x704", &[&[8, 256, 1408]], &|x| swiglu(&x[0]), &|x| swiglu_reference(&x[0]))?;
    let index: Vec<u32> =
        (0..3136u32).map(|i| (i % 56 / 7 * 7 + i / 448 * 56 + i % 7 + i / 56 % 8 * 7) % 3136).collect();
    compare("gather_rows 16x3136x96", &[&[16, 3136, 96]], &|x| gather_rows(&x[0], &index), &|x| {
        gather_rows_reference(&x[0], &index)
    })?;
    let targets: Vec<u32> = (0..2048).map(|i| i * 31 % 4096).collect();
    compare("cross_entropy 2048x4096", &[&[2048, 4096]], &|x| cross_entropy(&x[0], &targets), &|x| {
        cross_entropy_reference(&x[0], &targets)
    })?;
    for layout in [RopeLayout::HalfSplit, RopeLayout::Interleaved] {
        let angles: &[usize] = &[1, 256, 32];
        compare(
            &format!("rope 8x256x4x64 {layout:?}"),
            &[&[8, 256, 4, 64], angles, angles],
            &|x| rope(&x[0], &x[1].detach(), &x[2].detach(), layout),
            &|x| rope_reference(&x[0], &x[1].detach(), &x[2].detach(), layout),
        )?;
    }
    windows("attention windows 512x36x4x10", 512, 36, 4, 10)?;
    windows("attention windows 256x49x3x32", 256, 49, 3, 32)?;
    windows("attention windows 64x144x8x32", 64, 144, 8, 32)?;
    let causal = Mask::Causal { offset: 0 };
    attend("attention causal 8x128x4x64", [[8, 128, 4, 64], [8, 128, 4, 64], [8, 128, 4, 48]], causal)?;
    attend("attention causal 2x512x4x64", [[2, 512, 4, 64], [2, 512, 4, 64], [2, 512, 4, 48]], causal)?;
    attend("attention decode 1x2000x4x64", [[1, 1, 4, 64], [1, 2000, 4, 64], [1, 2000, 4, 48]], Mask::None)?;
    attend(
        "attention decode mla 1x2000x8x112",
        [[1, 1, 8, 112], [1, 2000, 1, 112], [1, 2000, 1, 96]],
        Mask::None,
    )?;
    attend("attention cross 8x128 on 196", [[8, 128, 4, 64], [8, 196, 4, 64], [8, 196, 4, 64]], Mask::None)
}
