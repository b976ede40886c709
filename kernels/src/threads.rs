//! Which threads compute.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// How many threads share the work of an operation that is called from here: those of rayon's current pool.
pub fn count() -> usize {
    rayon::current_num_threads()
}

/// Stack of a thread that runs what a program's main thread would.
const STACK_BYTES: usize = 16 << 20;

/// Runs `work` as one of the threads of a pool of its own, which has as many as rayon's pools have by default, and waits for it.
///
/// An operation that is called from outside the pool is computed by the caller and by threads of the pool: one thread more
/// than there are processors, and the caller sleeps until the others are done. Inside, the caller is one of them.
/// What `work` spawns outside the pool must not wait for the pool.
pub fn in_pool<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    if rayon::current_thread_index().is_some() {
        return work();
    }
    match rayon::ThreadPoolBuilder::new().stack_size(STACK_BYTES).build() {
        Ok(pool) => pool.install(work),
        // No threads to be had: slower, but not worse.
        Err(_) => work(),
    }
}

/// Whether the threads of some pool are being kept awake.
static AWAKE: AtomicBool = AtomicBool::new(false);

/// Turns that a thread waits for work without giving the processor away.
const TURNS: usize = 64;

/// Keeps the other threads of the current pool awake for their shares of many operations, one after the other, until it is dropped.
///
/// A thread that finds nothing to do sleeps after some microseconds, and waking it takes tens of them: as long as a small operation.
/// Whoever else wants the processor gets it.
#[derive(Debug)]
#[must_use = "the threads stay awake until it is dropped"]
pub struct Awake(Option<Arc<AtomicBool>>);

impl Drop for Awake {
    fn drop(&mut self) {
        if let Some(done) = &self.0 {
            done.store(true, Ordering::Release);
            AWAKE.store(false, Ordering::Release);
        }
    }
}

/// See [`Awake`]. One caller at a time is served; for others, and outside a pool, it does nothing.
pub fn awake() -> Awake {
    let threads = rayon::current_num_threads();
    if threads == 1 || rayon::current_thread_index().is_none() || AWAKE.swap(true, Ordering::AcqRel) {
        return Awake(None);
    }
    let done = Arc::new(AtomicBool::new(false));
    for _ in 1..threads {
        let done = Arc::clone(&done);
        rayon::spawn(move || {
            let mut turns = 0;
            while !done.load(Ordering::Acquire) {
                if rayon::yield_now() == Some(rayon::Yield::Executed) {
                    turns = 0;
                    continue;
                }
                turns += 1;
                if turns % TURNS == 0 { std::thread::yield_now() } else { std::hint::spin_loop() }
            }
        });
    }
    Awake(Some(done))
}

/// Keeps candle's element-wise operations on the thread that asks for them. Call it once, first thing, before any other
/// thread is there; a `CANDLE_NUM_THREADS` of the user's own stays.
///
/// Candle keeps a pool for them whose threads spin between operations: beside the threads of the fused operations (and of
/// a server) they take the processor away from work. What is large enough to share runs in the fused operations here.
pub fn keep_element_operations_on_their_thread() {
    const NAME: &str = "CANDLE_NUM_THREADS";
    if std::env::var_os(NAME).is_none() {
        // SAFETY: no other thread reads or writes the environment yet, as the caller vouches.
        unsafe { std::env::set_var(NAME, "1") };
    }
}
