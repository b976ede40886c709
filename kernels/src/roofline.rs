//! Work that no operation here can do faster: whoever has a clock measures a machine's ceilings with it (Williams et al. 2009).

use crate::gemm;

/// Blocks that each thread multiplies in a round: some tens of milliseconds.
const BLOCKS: usize = 20_000;

/// Bytes that no cache holds.
const MEMORY: usize = 1 << 30;

/// Multiplies in `bf16` on every thread of the current pool, operands in the caches. Returns the floating-point operations done.
pub fn multiply() -> f64 {
    let threads = rayon::current_num_threads();
    gemm::run(threads, |_| gemm::ceiling_blocks(BLOCKS));
    (threads * BLOCKS) as f64 * gemm::CEILING_BLOCK_FLOPS
}

/// Memory to read from.
#[derive(Debug)]
pub struct Memory(Vec<u64>);

impl Default for Memory {
    fn default() -> Self {
        // Written first: pages that were never written are all the same page of zeros.
        Self(vec![1; MEMORY / size_of::<u64>()])
    }
}

impl Memory {
    /// Reads all of it, each thread of the current pool a part. Returns the bytes read.
    pub fn read(&self) -> f64 {
        let threads = rayon::current_num_threads();
        gemm::run(threads, |thread| {
            let part = &self.0[gemm::part(self.0.len(), threads, thread)];
            let sums = part.chunks_exact(64).fold([0u64; 64], |mut sums, chunk| {
                sums.iter_mut().zip(chunk).for_each(|(sum, x)| *sum = sum.wrapping_add(*x));
                sums
            });
            std::hint::black_box(sums);
        });
        size_of_val(&self.0[..]) as f64
    }
}
