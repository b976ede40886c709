//! How much the tests of this room do. Miri (`kernels/miri.sh`) takes thousands of times as long as the machine; there,
//! one case of sizes just past a vector goes through every line.

/// Of `count` random cases, those that are run.
pub(crate) const fn cases(count: u32) -> u32 {
    if cfg!(miri) { 1 } else { count }
}

/// Of random sizes up to `largest`, the largest.
pub(crate) const fn size(largest: usize) -> usize {
    if cfg!(miri) && largest > 20 { 20 } else { largest }
}
