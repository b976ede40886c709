//! The ceilings of this machine, under which the rows are read.

use std::time::Instant;

use swinseek_kernels::roofline::{Memory, multiply};

/// Repetitions; the best one counts, for others' work only takes away.
const ROUNDS: usize = 5;

/// What all threads reach together.
#[derive(Debug, Clone, Copy)]
pub(super) struct Roofline {
    /// Floating-point operations a second in `bf16`, operands in the caches.
    pub(super) bf16_flops: f64,
    /// Bytes a second from main memory.
    pub(super) read_bytes: f64,
}

impl Roofline {
    /// Takes about a second.
    pub(super) fn measure() -> Self {
        Self { bf16_flops: best(multiply), read_bytes: read_bytes() }
    }
}

/// [`Roofline::read_bytes`] of this moment: on a shared machine, memory may be half as fast some seconds later.
pub(super) fn read_bytes() -> f64 {
    let memory = Memory::default();
    best(|| memory.read())
}

/// The greatest rate of some rounds of `work`, which returns how much it did.
fn best(work: impl Fn() -> f64) -> f64 {
    let rate = |_| {
        let start = Instant::now();
        work() / start.elapsed().as_secs_f64()
    };
    (0..ROUNDS).map(rate).fold(0.0, f64::max)
}
