//! What the tests of this room share: random values, threads, and how much they do. Miri (`kernels/miri.sh`) takes thousands of
//! times as long as the machine; there, one case of sizes just past a vector goes through every line.

/// Of `count` random cases, those that are run.
pub(crate) const fn cases(count: u32) -> u32 {
    if cfg!(miri) { 1 } else { count }
}

/// Of random sizes up to `largest`, the largest.
pub(crate) const fn size(largest: usize) -> usize {
    if cfg!(miri) && largest > 20 { 20 } else { largest }
}

/// Uniform values in (-1, 1) from a small generator.
pub(crate) fn values(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// Threads of its own.
pub(crate) fn pool(threads: usize) -> rayon::ThreadPool {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap()
}
