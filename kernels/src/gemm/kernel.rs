//! Walks the blocks of a product and hands them to the kernel of the path.

use std::ops::Range;

use super::matrix::{BLOCK, LINES, Line};
#[cfg(target_arch = "aarch64")]
use super::neon;
use super::{Path, amx, portable, vector};
#[cfg(target_arch = "x86_64")]
use super::{avx512bf16, widened};
#[cfg(target_arch = "x86_64")]
use crate::simd::Unit;

/// Tiles along the depth after which the next block of columns is due: 64 KiB of packed operands.
const STEPS_PER_PASS: usize = 32;

/// Most tiles along the depth of two right panels that stay in the first-level cache from one block of rows to the next.
pub(super) const CACHED_STEPS: usize = 20;

/// 1 to 32 rows by 32 columns of a result. Panel strides count cache lines, leading dimensions elements.
///
/// The kernels need: one panel of `steps` tiles at `left`, or two if `rows` is above 16, a panel at each `right`,
/// readable rows of 32 at `init` (`init_ld` 0 repeats one row, for a bias), writable rows of 32 at `out`. They
/// write whole panels of rows, and may leave out those beyond `rows`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Block {
    pub(super) left: *const Line,
    pub(super) left_stride: usize,
    pub(super) rows: usize,
    pub(super) right: [*const Line; 2],
    /// Whether the right panels, of so few steps that they stay in the first-level cache, are used again soon.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))] // Only AMX needs it.
    pub(super) right_again: bool,
    pub(super) steps: usize,
    pub(super) init: *const f32,
    pub(super) init_ld: usize,
    pub(super) out: *mut f32,
    pub(super) out_ld: usize,
}

/// What sums start from that start from nothing: a block whose `init` is this, repeated.
#[repr(C, align(64))]
pub(crate) struct Zeros(pub(crate) [f32; BLOCK]);
pub(crate) static ZEROS: Zeros = Zeros([0.0; BLOCK]);

/// One thread's share of a product: packed rows times some of the column pairs.
#[derive(Debug)]
pub(super) struct Share<'a> {
    /// Row panels; `rows` of their lines are part of the result.
    pub(super) left: &'a [Line],
    pub(super) rows: usize,
    pub(super) right: &'a [Line],
    pub(super) pairs: Range<usize>,
    pub(super) steps: usize,
    /// What the sums start from, padded to whole pairs; `None` continues from what `out` holds.
    pub(super) bias: Option<&'a [f32]>,
    /// Row 0, column 0 of the result, `columns` wide.
    pub(super) out: *mut f32,
    pub(super) columns: usize,
}

/// The right to use this thread's kernels: AMX tiles are configured while it lives.
pub(crate) struct Session(Path);

impl Session {
    pub(crate) fn new(path: Path) -> Self {
        if path == Path::Amx {
            // SAFETY: the path is only chosen where AMX is available.
            unsafe { amx::configure() };
        }
        Self(path)
    }

    /// Multiplies one block, calling `between` after each step where that hides what it does behind the tiles' work.
    ///
    /// # Safety
    /// As [`Block`] says; `between` multiplies nothing.
    #[inline(always)]
    #[allow(clippy::inline_always)] // `between` is vector code, which must be compiled for the vector unit around it.
    pub(super) unsafe fn block_between(&self, block: &Block, between: &mut impl Between) {
        // SAFETY: the path was found to be available; the rest is the caller's promise.
        unsafe {
            if self.0 != Path::Amx || block.rows <= LINES {
                return self.block(block);
            }
            amx::begin(block);
            for step in 0..block.steps {
                amx::advance(block, step);
                between.step();
            }
            amx::end(block);
        }
    }

    /// Multiplies one block.
    ///
    /// # Safety
    /// As [`Block`] says.
    #[inline]
    pub(super) unsafe fn block(&self, block: &Block) {
        // SAFETY: the path was found to be available; the rest is the caller's promise.
        unsafe {
            match self.0 {
                Path::Amx => amx::block(block),
                #[cfg(target_arch = "x86_64")]
                Path::Avx512Bf16 => avx512bf16::block(block),
                #[cfg(target_arch = "x86_64")]
                Path::Avx512 => widened::block(Unit::Avx512, block),
                #[cfg(target_arch = "x86_64")]
                Path::Avx2 => widened::block(Unit::Avx2, block),
                #[cfg(target_arch = "aarch64")]
                Path::Neon => neon::block(block),
                Path::Portable => portable::block(block),
            }
        }
    }
}

/// What is done between the steps of a block. `#[inline(always)]`.
pub(super) trait Between {
    fn step(&mut self);
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.0 == Path::Amx {
            // SAFETY: as above; no tile is live between blocks.
            unsafe { amx::release() };
        }
    }
}

/// Computes a share. Nothing may wait for other threads while the session lives: this thread could then run
/// another product, whose session would end this one.
///
/// # Safety
/// `out` is valid for `rows * columns` elements, and nobody else uses its columns of `pairs` meanwhile.
pub(super) unsafe fn compute(session: &Session, share: &Share<'_>) {
    let panel = share.steps * LINES;
    assert!(share.left.len() >= share.rows.div_ceil(LINES) * panel);
    assert!(
        share.right.len() >= share.pairs.end * 2 * panel && share.pairs.end <= share.columns.div_ceil(BLOCK)
    );
    assert!(share.bias.is_none_or(|bias| bias.len() >= share.pairs.end * BLOCK));
    // SAFETY: the operands are large enough (asserted); the path was found to be available.
    unsafe {
        match session.0 {
            Path::Amx => walk(share, |b| amx::block(b)),
            #[cfg(target_arch = "x86_64")]
            Path::Avx512Bf16 => walk(share, |b| avx512bf16::block(b)),
            #[cfg(target_arch = "x86_64")]
            Path::Avx512 => walk(share, |b| widened::block(Unit::Avx512, b)),
            #[cfg(target_arch = "x86_64")]
            Path::Avx2 => walk(share, |b| widened::block(Unit::Avx2, b)),
            #[cfg(target_arch = "aarch64")]
            Path::Neon => walk(share, |b| neon::block(b)),
            Path::Portable => walk(share, |b| portable::block(b)),
        }
    }
}

#[inline]
unsafe fn walk(share: &Share<'_>, kernel: impl Fn(&Block)) {
    let stride = share.steps * LINES;
    let mut first = 0;
    loop {
        let steps = (share.steps - first).min(STEPS_PER_PASS);
        for pair in share.pairs.clone() {
            for row in (0..share.rows).step_by(BLOCK) {
                // SAFETY: `compute` checked the operands; the offsets stay inside them.
                unsafe {
                    let out = share.out.add(row * share.columns + pair * BLOCK);
                    let (init, init_ld) = match share.bias {
                        Some(bias) if first == 0 => (bias.as_ptr().add(pair * BLOCK), 0),
                        _ => (out.cast_const(), share.columns),
                    };
                    let right = share.right.as_ptr().add(pair * 2 * stride + first * LINES);
                    let block = Block {
                        left: share.left.as_ptr().add(row / LINES * stride + first * LINES),
                        left_stride: stride,
                        rows: (share.rows - row).min(BLOCK),
                        right: [right, right.add(stride)],
                        right_again: steps <= CACHED_STEPS && share.rows > BLOCK,
                        steps,
                        init,
                        init_ld,
                        out,
                        out_ld: share.columns,
                    };
                    // Rows of the result are often far away: fetch those of the next block in time.
                    vector::prefetch_rows(out.wrapping_add(BLOCK * share.columns), share.columns);
                    let columns = (share.columns - pair * BLOCK).min(BLOCK);
                    if block.rows.is_multiple_of(LINES) && columns == BLOCK {
                        kernel(&block);
                    } else {
                        edge(&block, columns, &kernel);
                    }
                }
            }
        }
        first += steps;
        if first >= share.steps {
            break;
        }
    }
}

/// A block that sticks out of the result is computed aside; what lies inside is copied.
#[inline(never)]
unsafe fn edge(block: &Block, columns: usize, kernel: impl Fn(&Block)) {
    let mut aside = [0f32; BLOCK * BLOCK];
    let rows = block.rows;
    let mut inner = Block { out: aside.as_mut_ptr(), out_ld: BLOCK, ..*block };
    // SAFETY: only the `rows` by `columns` inside the result are read and written.
    unsafe {
        if block.init_ld != 0 {
            vector::copy_rows((block.init, block.init_ld), (inner.out, BLOCK), rows, columns);
            inner.init = inner.out;
            inner.init_ld = BLOCK;
        }
        kernel(&inner);
        vector::copy_rows((inner.out, BLOCK), (block.out, block.out_ld), rows, columns);
    }
}
