//! How the allocator treats large tensors.

/// Makes freed memory stay with the process. Call it once, first thing, in a program that trains or serves.
///
/// glibc gives each block above 32 MiB, and the top of the heap, back to the system when it is freed, and the next tensor
/// of that size is mapped and cleared page by page again: several times the cost of the element-wise operation that
/// fills it. Elsewhere nothing needs doing, and this does nothing.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: `mallopt` takes two integers; these options only set thresholds.
    unsafe {
        libc::mallopt(libc::M_MMAP_MAX, 0);
        libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
        libc::mallopt(libc::M_TOP_PAD, 64 << 20);
    }
}
