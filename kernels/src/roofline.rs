//! Work that no operation here can do faster: whoever has a clock measures a machine's ceilings with it (Williams et al. 2009).

use crate::gemm;
use crate::memory::Packed;

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

/// A cache line.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
struct Words([u64; 8]);

/// Memory to read from, mapped as packed weights are.
#[derive(Debug)]
pub struct Memory(Packed<Words>);

/// Lines that are read together, and how far ahead of them lines are fetched.
const TOGETHER: usize = 8;
const AHEAD: usize = 64;

impl Default for Memory {
    fn default() -> Self {
        // Written first: pages that were never written are all the same page of zeros.
        Self(Packed::filled(MEMORY / size_of::<Words>(), Words([1; 8])))
    }
}

impl Memory {
    /// Reads all of it, each thread of the current pool a part. Returns the bytes read.
    pub fn read(&self) -> f64 {
        let threads = rayon::current_num_threads();
        gemm::run(threads, |thread| {
            let part = &self.0[gemm::part(self.0.len(), threads, thread)];
            let mut sums = [[0u64; 8]; TOGETHER];
            for lines in part.chunks_exact(TOGETHER) {
                let ahead = lines.as_ptr().wrapping_add(AHEAD);
                for (index, (sums, line)) in sums.iter_mut().zip(lines).enumerate() {
                    gemm::fetch(ahead.wrapping_add(index));
                    sums.iter_mut().zip(line.0).for_each(|(sum, word)| *sum = sum.wrapping_add(word));
                }
            }
            std::hint::black_box(sums);
        });
        size_of_val(&self.0[..]) as f64
    }
}
