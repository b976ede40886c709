//! Speed of `linear`, forward and backward, at the shapes of the models: `cargo bench -p swinseek-kernels`.

use std::hint::black_box;
use std::time::{Duration, Instant};

use candle_core::{Device, Result, Tensor, Var};
use swinseek_kernels::Precision;
use swinseek_kernels::layers::Linear;
use swinseek_kernels::ops::linear::{grouped_linear, linear};

/// Rows, input features, output features.
const SHAPES: [(usize, usize, usize); 7] = [
    (6144, 40, 120),
    (2304, 80, 240),
    (576, 160, 640),
    (768, 256, 256),
    (768, 256, 704),
    (1024, 1024, 1024),
    (1, 1280, 1280),
];
const TIME_PER_CASE: Duration = Duration::from_millis(300);

/// Median seconds of a call.
fn median(mut call: impl FnMut() -> Result<()>) -> Result<f64> {
    let mut times = Vec::new();
    let start = Instant::now();
    while times.len() < 5 || start.elapsed() < TIME_PER_CASE {
        let begin = Instant::now();
        call()?;
        times.push(begin.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}

fn shape_table(precision: Precision) -> Result<()> {
    let random = |shape: &[usize]| Tensor::randn(0f32, 1.0, shape, &Device::Cpu);
    println!(
        "{:>22} {:>12} {:>12} {:>12} {:>12}   GFLOP/s (ms)",
        "rows x in x out", "constant", "forward", "d input", "d weight, bias"
    );
    for (rows, inner, out) in SHAPES {
        let (x, w, b) = (random(&[rows, inner])?, random(&[out, inner])?, random(&[out])?);
        let layer = Linear::from_parts(w.clone(), Some(b.clone()), precision);
        let constant =
            median(|| layer.forward(&x).map(|y| drop(black_box(y))).map_err(candle_core::Error::wrap))?;
        let forward = median(|| linear(&x, &w, Some(&b), precision).map(|y| drop(black_box(y))))?;
        // Candle's own share, a gradient of ones and the sums into its store, is part of these.
        let gradient = |y: &Tensor| median(|| y.backward().map(|grads| drop(black_box(grads))));
        let (vx, vw, vb) = (Var::from_tensor(&x)?, Var::from_tensor(&w)?, Var::from_tensor(&b)?);
        let dx = gradient(&linear(&vx, &w, Some(&b), precision)?)?;
        let dw = gradient(&linear(&x, &vw, Some(&vb), precision)?)?;
        let flops = 2.0 * (rows * inner * out) as f64;
        print!("{:>22}", format!("{rows} x {inner} x {out}"));
        for time in [constant, forward, dx, dw] {
            print!(" {:>12}", format!("{:.0} ({:.3})", flops / time / 1e9, time * 1e3));
        }
        println!();
    }
    Ok(())
}

fn experts(precision: Precision) -> Result<()> {
    let (groups, rows, inner, out) = (8, 1536, 256, 352);
    let x = Tensor::randn(0f32, 1.0, (rows, inner), &Device::Cpu)?;
    let w = Tensor::randn(0f32, 1.0, (groups, out, inner), &Device::Cpu)?;
    let offsets: Vec<usize> = (0..=groups).map(|group| rows * group / groups).collect();
    let time = median(|| grouped_linear(&x, &w, &offsets, precision).map(|y| drop(black_box(y))))?;
    let rate = 2.0 * (rows * inner * out) as f64 / time / 1e9;
    println!("{groups} experts, {rows} x {inner} x {out}: {rate:.0} GFLOP/s ({:.3} ms)", time * 1e3);
    Ok(())
}

fn main() -> Result<()> {
    println!("bf16 path: {}", swinseek_kernels::gemm::path_name());
    for threads in [1, 2] {
        let pool =
            rayon::ThreadPoolBuilder::new().num_threads(threads).build().map_err(candle_core::Error::wrap)?;
        for precision in [Precision::Bf16, Precision::F32] {
            println!("\n{precision:?}, {threads} threads");
            pool.install(|| shape_table(precision).and_then(|()| experts(precision)))?;
        }
    }
    Ok(())
}
