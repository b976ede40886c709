//! Threads and scratch memory.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut, Range};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::matrix::Line;
use crate::simd::fence_streams;

/// Below this estimate a product runs on the calling thread: waking another costs some microseconds.
const MIN_SPLIT_NS: f64 = 30_000.0;

/// Threads worth using for work of that estimated duration on one thread.
pub(super) fn threads_for(estimate_ns: f64) -> usize {
    if estimate_ns < MIN_SPLIT_NS { 1 } else { rayon::current_num_threads() }
}

/// Runs `task(0..tasks)` on the current pool, the first one on the calling thread, and waits for all. What tasks stream is
/// written when they end.
pub(crate) fn run(tasks: usize, task: impl Fn(usize) + Sync) {
    let task = |index: usize| {
        task(index);
        fence_streams();
    };
    if tasks == 1 {
        return task(0);
    }
    rayon::in_place_scope(|scope| {
        let task = &task;
        for index in 1..tasks {
            scope.spawn(move |_| task(index));
        }
        task(0);
    });
}

/// Runs `task(0..count)` on `threads` threads, each taking the next one when it is free.
pub(crate) fn run_chunks(threads: usize, count: usize, task: impl Fn(usize) + Sync) {
    let next = AtomicUsize::new(0);
    run(threads.clamp(1, count.max(1)), |_| {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= count {
                break;
            }
            task(index);
        }
    });
}

/// The `index`-th of `parts` nearly equal parts of `0..len`.
pub(crate) fn part(len: usize, parts: usize, index: usize) -> Range<usize> {
    len * index / parts..len * (index + 1) / parts
}

/// A raw pointer that tasks share; each task writes a part of its own.
#[derive(Clone, Copy)]
pub(super) struct Shared<T>(*mut T);

// SAFETY: users hand disjoint ranges to different tasks.
unsafe impl<T> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Shared<T> {}

impl<T> Shared<T> {
    pub(super) fn new(ptr: *mut T) -> Self {
        Self(ptr)
    }

    pub(super) fn get(&self) -> *mut T {
        self.0
    }
}

thread_local! {
    static FREE: RefCell<Vec<Vec<Line>>> = const { RefCell::new(Vec::new()) };
}

/// Packing memory that goes back to its thread when dropped. It is taken out of the thread's store
/// while in use, because a thread that waits for others may run another product meanwhile.
pub(crate) struct Scratch {
    buffer: Vec<Line>,
    len: usize,
}

impl Scratch {
    pub(crate) fn take(len: usize) -> Self {
        let mut buffer = FREE.with_borrow_mut(Vec::pop).unwrap_or_default();
        if buffer.len() < len {
            buffer.resize(len, Line::ZERO);
        }
        Self { buffer, len }
    }
}

impl Deref for Scratch {
    type Target = [Line];
    fn deref(&self) -> &[Line] {
        &self.buffer[..self.len]
    }
}

impl DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut [Line] {
        &mut self.buffer[..self.len]
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.buffer);
        FREE.with_borrow_mut(|free| free.push(buffer));
    }
}
