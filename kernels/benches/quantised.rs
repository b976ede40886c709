//! Speed of the quantised decoder layers: `cargo bench -p swinseek-kernels --bench quantised`.
//!
//! The layers of a model follow one another in turn, so that weights come from memory as they do in a decoder. Shapes are
//! those of a dense llama of 0.5 B parameters.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use candle_core::{Device, Result, Tensor};
use swinseek_kernels::gemm::{int4_path_name, int8_path_name};
use swinseek_kernels::ops::quant_linear::{linear_int4, linear_int8};
use swinseek_kernels::quant::{Int4Weight, Int8Weight};

const TIME_PER_CASE: Duration = Duration::from_millis(300);
/// Bytes of the copies of a weight that are read in turn: more than a cache holds.
const MEMORY: usize = 512 << 20;

/// Prints the median and the fastest time of a call, and its rates.
fn report(
    name: &str,
    (operations, bytes, copies): (usize, usize, usize),
    mut call: impl FnMut(usize) -> Result<Tensor>,
) -> Result<()> {
    let mut filters = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).peekable();
    if filters.peek().is_some() && !filters.any(|filter| name.contains(&filter)) {
        return Ok(());
    }
    let mut times = Vec::new();
    let start = Instant::now();
    while times.len() < 20 || start.elapsed() < TIME_PER_CASE {
        let begin = Instant::now();
        black_box(call(times.len() % copies)?);
        times.push(begin.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    let (median, fastest) = (times[times.len() / 2], times[0]);
    let rate = |amount: usize| amount as f64 * 1e-9 / median;
    println!(
        "{name:<40} {:>9.3} ms {:>9.3} ms {:>7.1} GB/s {:>7.0} GOP/s",
        median * 1e3,
        fastest * 1e3,
        rate(bytes),
        rate(operations)
    );
    Ok(())
}

fn random(shape: &[usize]) -> Result<Tensor> {
    Tensor::randn(0f32, 0.1, shape, &Device::Cpu)
}

fn main() -> Result<()> {
    swinseek_kernels::memory::keep_freed_memory();
    println!("{} threads, {}, {}", rayon::current_num_threads(), int8_path_name(), int4_path_name());
    println!("{:<40} {:>12} {:>12}", "operation", "median", "fastest");
    for (dim, out) in [(1280, 3840), (1280, 1280), (1280, 3584), (3584, 1280)] {
        let weight = random(&[out, dim])?.flatten_all()?.to_vec1::<f32>()?;
        let int8 = Int8Weight::new(&weight, out, dim);
        let int4 = Int4Weight::new(&weight, out, dim);
        let (bytes8, bytes4) = (int8.bytes(), int4.bytes());
        let (n8, n4) = (MEMORY / bytes8, MEMORY / bytes4);
        let int8: Vec<_> = (0..n8).map(|_| Arc::new(int8.clone())).collect();
        let int4: Vec<_> = (0..n4).map(|_| Arc::new(int4.clone())).collect();
        for rows in [1, 8, 512] {
            let (x, operations) = (random(&[rows, dim])?, 2 * rows * dim * out);
            report(&format!("int8 {rows} x {dim} x {out}"), (operations, bytes8, n8), |i| {
                linear_int8(&x, &int8[i], None)
            })?;
            report(&format!("int4 {rows} x {dim} x {out}"), (operations, bytes4, n4), |i| {
                linear_int4(&x, &int4[i], None)
            })?;
        }
    }
    Ok(())
}
