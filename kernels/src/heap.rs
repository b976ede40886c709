//! The memory of tensors, as vector units like it, for programs that make [`Heap`] their global allocator: products of large
//! matrices took up to a tenth less time.

use std::alloc::{GlobalAlloc, Layout, System};

/// Bytes from which blocks begin with a cache line.
const LARGE: usize = 4 << 10;
/// A cache line: a vector of 64 bytes that does not begin with one takes two accesses.
const LINE: usize = 64;
/// Bytes from which huge pages are asked for.
#[cfg_attr(miri, allow(dead_code))]
const HUGE: usize = 256 << 10;
/// A huge page.
pub(crate) const HUGE_PAGE: usize = 2 << 20;

/// The system's allocator, with large blocks at the beginning of a cache line and, on Linux, on huge pages.
///
/// ```
/// #[global_allocator]
/// static HEAP: swinseek_kernels::heap::Heap = swinseek_kernels::heap::Heap;
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Heap;

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

/// As the system's allocator is asked for it. What depends on the layout alone is the same when memory is given back.
fn aligned(layout: Layout) -> Layout {
    if layout.size() < LARGE { layout } else { layout.align_to(LINE).unwrap_or(layout) }
}

/// Asks for huge pages around a block. Neighbours that share them do not mind.
#[cfg_attr(any(not(target_os = "linux"), miri), allow(unused_variables))]
pub(crate) fn advise_huge_pages(block: *mut u8, bytes: usize) {
    #[cfg(all(target_os = "linux", not(miri)))]
    if bytes >= HUGE && !block.is_null() {
        let first = block.map_addr(|address| address / HUGE_PAGE * HUGE_PAGE);
        let end = (block.addr() + bytes).next_multiple_of(HUGE_PAGE);
        // SAFETY: the advice changes nothing but how memory is mapped; where nothing is mapped it does nothing.
        unsafe { libc::madvise(first.cast(), end - first.addr(), libc::MADV_HUGEPAGE) };
    }
}

// SAFETY: the system's allocator does the work, with layouts that are as large and at least as aligned.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        let block = unsafe { System.alloc(aligned(layout)) };
        advise_huge_pages(block, layout.size());
        block
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if layout.size() < LARGE {
            // SAFETY: the caller's promise.
            return unsafe { System.alloc_zeroed(layout) };
        }
        // SAFETY: the caller's promise; the block has so many bytes.
        unsafe {
            let block = self.alloc(layout);
            if !block.is_null() {
                block.write_bytes(0, layout.size());
            }
            block
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if layout.size().max(size) < LARGE {
            // SAFETY: the caller's promise.
            return unsafe { System.realloc(block, layout, size) };
        }
        // SAFETY: the caller vouches for a size that fits the alignment, and for both blocks.
        unsafe {
            let grown = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            if !grown.is_null() {
                grown.copy_from_nonoverlapping(block, layout.size().min(size));
                self.dealloc(block, layout);
            }
            grown
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: allocated with this layout.
        unsafe { System.dealloc(block, aligned(layout)) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Random sequences of what a program does with memory; blocks keep what was written, and large ones begin with a line.
    #[test]
    fn blocks_keep_their_bytes() {
        let mut random = 1u64;
        let mut next = |bound: usize| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) as usize % bound
        };
        let mut blocks: Vec<(*mut u8, Layout, u8)> = Vec::new();
        // SAFETY: blocks are used inside their layouts, which are not empty, and given back once.
        unsafe {
            // An interpreter takes a minute for a megabyte.
            let (steps, largest) = if cfg!(miri) { (40, 4 * LARGE) } else { (600, 2 * HUGE) };
            for step in 0..steps {
                let value = u8::try_from(step % 256).expect("a byte");
                let bound = [64, 3 * LARGE, largest][next(3)];
                let size = 1 + next(bound);
                let layout = Layout::from_size_align(size, 1 << next(8)).expect("a layout");
                if next(3) > 0 || blocks.is_empty() {
                    let zeroed = next(2) == 0;
                    let block = if zeroed { Heap.alloc_zeroed(layout) } else { Heap.alloc(layout) };
                    assert!(!zeroed || std::slice::from_raw_parts(block, size).iter().all(|&byte| byte == 0));
                    block.write_bytes(value, size);
                    blocks.push((block, layout, value));
                } else {
                    let index = next(blocks.len());
                    let (block, layout, value) = blocks.swap_remove(index);
                    let kept = layout.size().min(size);
                    let block = Heap.realloc(block, layout, size);
                    assert!(std::slice::from_raw_parts(block, kept).iter().all(|&byte| byte == value));
                    block.write_bytes(value, size);
                    blocks.push((
                        block,
                        Layout::from_size_align(size, layout.align()).expect("a layout"),
                        value,
                    ));
                }
                if next(4) == 0 {
                    let index = next(blocks.len());
                    let (block, layout, _) = blocks.swap_remove(index);
                    Heap.dealloc(block, layout);
                }
            }
            for (block, layout, value) in blocks {
                let least = if layout.size() < LARGE { layout.align() } else { layout.align().max(LINE) };
                assert!(block.addr().is_multiple_of(least), "{layout:?}");
                assert!(std::slice::from_raw_parts(block, layout.size()).iter().all(|&byte| byte == value));
                Heap.dealloc(block, layout);
            }
        }
    }
}
