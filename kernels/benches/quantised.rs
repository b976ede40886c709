//! Speed of quantised decoder layers: `cargo bench -p swinseek-kernels --bench quantised`.
//!
//! The layers of a dense llama of 0.5 B parameters follow one another in turn, so that weights come from memory as they do in
//! a decoder.

use std::hint::black_box;
use std::time::{Duration, Instant};

use candle_core::{Device, Result, Tensor};
use swinseek_kernels::gemm::int8_path_name;
use swinseek_kernels::ops::activation::Activation;
use swinseek_kernels::ops::projection::NormParameters;
use swinseek_kernels::ops::quant_feed_forward::{QuantFeedForward, quant_feed_forward};
use swinseek_kernels::ops::quant_linear::{QuantWeight, quant_projection};
use swinseek_kernels::quant::{Int4Weight, Int8Weight};
use swinseek_kernels::roofline::Memory;

const TIME_PER_CASE: Duration = Duration::from_millis(400);
const LAYERS: usize = 24;
const DIM: usize = 1280;
const HIDDEN: usize = 3584;

/// Prints the median and the fastest time of a call, and the rates of the latter.
fn report(name: &str, (gflop, bytes): (f64, f64), mut call: impl FnMut(usize) -> Result<()>) -> Result<()> {
    let mut filters = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).peekable();
    if filters.peek().is_some() && !filters.any(|filter| name.contains(&filter)) {
        return Ok(());
    }
    let mut times = Vec::new();
    let start = Instant::now();
    while times.len() < 5 || start.elapsed() < TIME_PER_CASE {
        let begin = Instant::now();
        call(times.len() % LAYERS)?;
        times.push(begin.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    let (median, fastest) = (times[times.len() / 2], times[0]);
    println!(
        "{name:<40} {:>9.3} ms {:>9.3} ms {:>7.1} GB/s {:>7.0} GOP/s",
        median * 1e3,
        fastest * 1e3,
        bytes * 1e-9 / fastest,
        gflop / fastest
    );
    Ok(())
}

fn random(shape: &[usize]) -> Result<Tensor> {
    Tensor::randn(0f32, 0.1, shape, &Device::Cpu)
}

/// The weights of a layer, all layers the same but each in memory of its own.
#[derive(Clone)]
struct Layer<W> {
    qkv: W,
    output: W,
    gate: W,
    up: W,
    down: W,
}

impl<W: Clone> Layer<W> {
    fn all(pack: impl Fn(&[f32], usize, usize) -> W) -> Result<Vec<Self>> {
        let weight = |out: usize, inner: usize| {
            random(&[out, inner])?.flatten_all()?.to_vec1().map(|values: Vec<f32>| pack(&values, out, inner))
        };
        let up = weight(HIDDEN, DIM)?;
        let (qkv, output, down) = (weight(3 * DIM, DIM)?, weight(DIM, DIM)?, weight(DIM, HIDDEN)?);
        Ok(vec![Self { qkv, output, gate: up.clone(), up, down }; LAYERS])
    }
}

fn measure<W>(name: &str, layers: &[Layer<W>]) -> Result<()>
where
    for<'a> &'a W: Into<QuantWeight<'a>>,
{
    let weight = random(&[DIM])?;
    let norm = NormParameters { weight: &weight, bias: None, eps: 1e-5 };
    let of = |weights: &[&W]| {
        let all = || weights.iter().map(|&weight| weight.into());
        let gflop = all().map(|weight: QuantWeight| 2e-9 * (weight.shape().0 * weight.shape().1) as f64);
        (gflop.sum::<f64>(), all().map(|weight| weight.bytes() as f64).sum::<f64>())
    };
    for rows in [1, 8, 512] {
        let x = random(&[rows, DIM])?;
        let times = |(gflop, bytes): (f64, f64), layers: usize| {
            (gflop * (rows * layers) as f64, bytes * layers as f64)
        };
        let qkv = |layer: &Layer<W>| {
            quant_projection(&x, Some(norm), (&layer.qkv).into(), None, None, None)
                .map(|y| drop(black_box(y)))
        };
        let output = |layer: &Layer<W>| {
            let y = quant_projection(&x, None, (&layer.output).into(), None, None, Some(&x));
            y.map(|y| drop(black_box(y)))
        };
        let feed_forward = |layer: &Layer<W>| {
            let weights = QuantFeedForward {
                norm: Some(norm),
                gate: Some(((&layer.gate).into(), None)),
                up: ((&layer.up).into(), None),
                activation: Activation::Silu,
                down: ((&layer.down).into(), None),
                residual: true,
            };
            quant_feed_forward(&x, &weights).map(|y| drop(black_box(y)))
        };
        let Layer { qkv: a, output: b, gate: c, up: d, down: e } = &layers[0];
        report(&format!("{name}, {rows} rows: qkv"), times(of(&[a]), 1), |i| qkv(&layers[i]))?;
        report(&format!("{name}, {rows} rows: output"), times(of(&[b]), 1), |i| output(&layers[i]))?;
        report(&format!("{name}, {rows} rows: feed_forward"), times(of(&[c, d, e]), 1), |i| {
            feed_forward(&layers[i])
        })?;
        report(&format!("{name}, {rows} rows: all layers"), times(of(&[a, b, c, d, e]), LAYERS), |_| {
            layers.iter().try_for_each(|layer| {
                qkv(layer)?;
                output(layer)?;
                feed_forward(layer)
            })
        })?;
    }
    Ok(())
}

fn main() -> Result<()> {
    swinseek_kernels::memory::keep_freed_memory();
    println!(
        "{} threads, {}; rates are those of the fastest",
        rayon::current_num_threads(),
        int8_path_name()
    );
    println!("{:<40} {:>12} {:>12}", "operation", "median", "fastest");
    let memory = Memory::default();
    report("memory", (0.0, memory.read()), |_| {
        black_box(memory.read());
        Ok(())
    })?;
    drop(memory);
    measure("int8", &Layer::all(Int8Weight::new)?)?;
    measure("int4", &Layer::all(Int4Weight::new)?)
}
