//! Speed of the fused operations at the shapes of the models: `cargo bench -p swinseek-kernels --bench fused`.

use std::hint::black_box;
use std::time::{Duration, Instant};

use candle_core::{Device, Result, Tensor};
use swinseek_kernels::Precision;
use swinseek_kernels::gemm::path_name;
use swinseek_kernels::ops::activation::Activation;
use swinseek_kernels::ops::attention::{Mask, attention_in};
use swinseek_kernels::ops::feed_forward::{FeedForward, feed_forward};
use swinseek_kernels::ops::linear::pack;
use swinseek_kernels::ops::projection::{NormParameters, projection};
use swinseek_kernels::ops::window_attention::{WindowWeights, Windows, window_attention};

const TIME_PER_CASE: Duration = Duration::from_millis(300);

/// Prints the median time of a call and its rate.
fn report(name: &str, gflop: f64, mut call: impl FnMut() -> Result<Tensor>) -> Result<()> {
    let mut filters = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).peekable();
    if filters.peek().is_some() && !filters.any(|filter| name.contains(&filter)) {
        return Ok(());
    }
    let mut times = Vec::new();
    let start = Instant::now();
    while times.len() < 5 || start.elapsed() < TIME_PER_CASE {
        let begin = Instant::now();
        black_box(call()?);
        times.push(begin.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    let (median, fastest) = (times[times.len() / 2], times[0]);
    let rate = gflop / median;
    println!("{name:<44} {:>9.3} ms {:>9.3} ms {rate:>8.0} GFLOP/s", median * 1e3, fastest * 1e3);
    Ok(())
}

fn random(shape: &[usize]) -> Result<Tensor> {
    Tensor::randn(0f32, 0.1, shape, &Device::Cpu)
}

fn main() -> Result<()> {
    swinseek_kernels::memory::keep_freed_memory();
    println!("{} threads, {}", rayon::current_num_threads(), path_name());
    println!("{:<44} {:>12} {:>12}", "operation", "median", "fastest");
    for (rows, dim, out) in [
        (196, 512, 2048),
        (1568, 512, 2048),
        (1568, 2048, 512),
        (512, 1280, 3840),
        (512, 3584, 1280),
        (1, 1280, 3584),
    ] {
        let (x, weight) = (random(&[rows, dim])?, pack(&random(&[out, dim])?, None)?);
        let gflop = 2e-9 * (rows * dim * out) as f64;
        report(&format!("projection {rows} x {dim} x {out}"), gflop, || {
            projection(&x, None, &weight, None, None)
        })?;
    }
    for (rows, dim, hidden, gated) in [
        (3136, 128, 512, false),
        (196, 512, 2048, false),
        (1568, 512, 2048, false),
        (49, 1024, 4096, false),
        (512, 1280, 3584, true),
        (1, 1280, 3584, true),
    ] {
        let x = random(&[rows, dim])?;
        let (up, gate, down) = (
            pack(&random(&[hidden, dim])?, None)?,
            pack(&random(&[hidden, dim])?, None)?,
            pack(&random(&[dim, hidden])?, None)?,
        );
        let (weight, bias) = (random(&[dim])?, random(&[dim])?);
        let norm = NormParameters { weight: &weight, bias: Some(&bias), eps: 1e-5 };
        let activation = if gated { Activation::Silu } else { Activation::Gelu };
        let weights = FeedForward {
            norm: Some(norm),
            gate: gated.then_some(&gate),
            up: &up,
            activation,
            down: &down,
            post_norm: None,
            residual: true,
        };
        let matrices = if gated { 3.0 } else { 2.0 };
        let gflop = 2e-9 * matrices * (rows * dim * hidden) as f64;
        report(&format!("feed_forward {rows} x {dim} x {hidden}, gate {gated}"), gflop, || {
            feed_forward(&x, &weights)
        })?;
    }
    for (windows, dim) in [(64, 128), (16, 256), (4, 512), (32, 512), (1, 1024)] {
        let heads = dim / 32;
        let linear = || random(&[dim, dim]);
        let [q, k, v, o] = [linear()?, linear()?, linear()?, linear()?];
        let (x, bias) = (random(&[1, windows * 49, dim])?, random(&[heads, 49, 49])?);
        let weights = WindowWeights::new([(&q, None), (&k, None), (&v, None)], (&o, None), &bias)?;
        let (weight, b) = (random(&[dim])?, random(&[dim])?);
        let index: Vec<u32> = (0..windows as u32 * 49).collect();
        let plan = Windows { index: &index, area: 49, mask: None };
        let norm = NormParameters { weight: &weight, bias: Some(&b), eps: 1e-5 };
        let gflop = 2e-9 * (windows * 49 * dim * (4 * dim + 2 * 49)) as f64;
        report(&format!("window_attention {windows} windows, {dim}"), gflop, || {
            window_attention(&x, (Some(norm), None), &weights, plan, None)
        })?;
    }
    let [q, k, v] = [random(&[1, 512, 20, 64])?, random(&[1, 512, 20, 64])?, random(&[1, 512, 20, 64])?];
    let gflop = 2e-9 * (512 * 256 * 20 * 128) as f64;
    report("attention 512 x 20 x 64, causal", gflop, || {
        attention_in(Precision::Bf16, &q, &k, &v, Mask::Causal { offset: 0 }, 0.125)
    })
}
