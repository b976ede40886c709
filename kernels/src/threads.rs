//! Which threads compute.

/// How many threads share the work of an operation that is called from here: those of rayon's current pool.
pub fn count() -> usize {
    rayon::current_num_threads()
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
