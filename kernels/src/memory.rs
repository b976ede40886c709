//! The memory of packed weights.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError};

use crate::gemm::Line;
use crate::heap::{HUGE_PAGE, advise_huge_pages};

/// Bytes of a block from which [`Packed`] weights are cut, unless one needs more.
const BLOCK: usize = 16 << 20;

/// Memory that the system is asked to map with huge pages.
#[derive(Debug)]
struct Block {
    memory: NonNull<Line>,
    layout: Layout,
}

// SAFETY: a block only owns the memory; who may write which part is up to [`Packed`].
unsafe impl Send for Block {}
// SAFETY: as above.
unsafe impl Sync for Block {}

impl Block {
    fn new(bytes: usize) -> Self {
        let bytes = bytes.next_multiple_of(HUGE_PAGE);
        let layout = Layout::from_size_align(bytes, HUGE_PAGE).expect("weights fit the address space");
        // SAFETY: the layout is not empty: a block has at least one page.
        let Some(memory) = NonNull::new(unsafe { alloc(layout) }) else { handle_alloc_error(layout) };
        advise_huge_pages(memory.as_ptr(), bytes);
        Self { memory: memory.cast(), layout }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout.
        unsafe { dealloc(self.memory.as_ptr().cast(), self.layout) };
    }
}

/// Packed weights, next to those packed before, on huge pages where the system has them: products walk through weights
/// fast enough for the translation of addresses to show (a tenth of the time with pages of 4 KiB).
#[derive(Debug)]
pub(crate) struct Packed<T> {
    block: Arc<Block>,
    /// In lines.
    first: usize,
    len: usize,
    elements: PhantomData<T>,
}

impl<T: Copy> Packed<T> {
    /// `len` times `value`, which is one or more whole lines.
    pub(crate) fn filled(len: usize, value: T) -> Self {
        static CURRENT: Mutex<Option<(Arc<Block>, usize)>> = Mutex::new(None);
        const {
            assert!(
                size_of::<T>().is_multiple_of(size_of::<Line>()) && align_of::<T>() <= align_of::<Line>()
            );
        };
        let lines = len * (size_of::<T>() / size_of::<Line>());
        let bytes = lines * size_of::<Line>();
        let mut current = CURRENT.lock().unwrap_or_else(PoisonError::into_inner);
        let (block, first) = match &mut *current {
            Some((block, used)) if *used * size_of::<Line>() + bytes <= block.layout.size() => {
                let first = *used;
                *used += lines;
                (Arc::clone(block), first)
            }
            // What is larger than a block gets one of its own, and the current one goes on.
            _ if bytes > BLOCK => (Arc::new(Block::new(bytes)), 0),
            current => {
                let block = Arc::new(Block::new(BLOCK));
                *current = Some((Arc::clone(&block), lines));
                (block, 0)
            }
        };
        drop(current);
        let packed = Self { block, first, len, elements: PhantomData };
        for index in 0..len {
            // SAFETY: these lines are inside the block, and nobody else has them.
            unsafe { packed.as_ptr().add(index).write(value) };
        }
        packed
    }

    fn as_ptr(&self) -> *mut T {
        // SAFETY: inside the block.
        unsafe { self.block.memory.as_ptr().add(self.first).cast() }
    }
}

impl<T: Copy> Deref for Packed<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: the elements are initialised, and theirs alone while the block lives.
        unsafe { std::slice::from_raw_parts(self.as_ptr(), self.len) }
    }
}

impl<T: Copy> DerefMut for Packed<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.as_ptr(), self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_apart() {
        let sizes = [0, 1, 1000, BLOCK / size_of::<Line>() + 1, 3, BLOCK / size_of::<Line>(), 7];
        let mut all: Vec<Packed<Line>> = sizes.iter().map(|&len| Packed::filled(len, Line::ZERO)).collect();
        for (index, lines) in all.iter_mut().enumerate() {
            assert_eq!(lines.len(), sizes[index]);
            assert!(lines.iter().all(|line| line.bits() == [0; 32]));
            lines.fill(Line::filled(index as u16 + 1));
        }
        for (index, lines) in all.iter().enumerate() {
            assert!(lines.iter().all(|line| line.bits() == [index as u16 + 1; 32]), "{index}");
        }
    }
}
