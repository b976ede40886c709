//! What this machine can do at most: the lines under which measured speeds are read (Williams et al. 2009).

use std::time::Instant;

use crate::gemm;

/// Ceilings of the current thread pool.
#[derive(Debug, Clone, Copy)]
pub struct Roofline {
    /// Multiplications and additions a second of `bf16` products, all threads, operands in the first-level cache.
    pub bf16_flops: f64,
    /// Bytes a second that all threads read from main memory.
    pub read_bytes: f64,
}

/// Bytes that no cache holds.
const MEMORY: usize = 1 << 30;

/// Repetitions; the best one counts, for others' work only takes away.
const ROUNDS: usize = 5;

impl Roofline {
    /// Measures for about a second.
    pub fn measure() -> Self {
        Self { bf16_flops: best(bf16_flops), read_bytes: read_bytes() }
    }
}

fn best(mut rate: impl FnMut() -> f64) -> f64 {
    (0..ROUNDS).map(|_| rate()).fold(0.0, f64::max)
}

/// Runs `task(thread)` on every thread at once and returns how much all of it was a second.
fn together(amount: f64, task: impl Fn(usize) + Sync) -> f64 {
    let threads = rayon::current_num_threads();
    let start = Instant::now();
    gemm::run(threads, task);
    amount * threads as f64 / start.elapsed().as_secs_f64()
}

fn bf16_flops() -> f64 {
    const BLOCKS: usize = 20_000;
    together(BLOCKS as f64 * gemm::CEILING_BLOCK_FLOPS, |_| gemm::ceiling_blocks(BLOCKS))
}

fn read_bytes() -> f64 {
    // Written first: pages that were never written are all the same page of zeros.
    let memory = vec![1u64; MEMORY / size_of::<u64>()];
    let threads = rayon::current_num_threads();
    let rate = || {
        together((MEMORY / threads) as f64, |thread| {
            let part = &memory[gemm::part(memory.len(), threads, thread)];
            let sums = part.chunks_exact(64).fold([0u64; 64], |mut sums, chunk| {
                sums.iter_mut().zip(chunk).for_each(|(sum, x)| *sum = sum.wrapping_add(*x));
                sums
            });
            std::hint::black_box(sums);
        })
    };
    best(rate)
}
