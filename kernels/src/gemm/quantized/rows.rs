//! Activations in 8 bits.
#![allow(clippy::inline_always)]

use super::super::matrix::{LINES, Line};
use super::super::parallel::{self, Scratch, Shared};
use super::kernel::{DEPTH, Strip};
use crate::quant::{GROUP, quantize_row};
use crate::simd::{Kernel, Simd, dispatch};

/// Activations in 8 bits with a scale each row, as left tiles. Each row is quantised as [`quantize_row`] does.
pub(crate) struct QuantizedRows {
    /// Panels of 16 rows, each a tile of 64 depths after the other. A lone panel has no more rows than there are, so that
    /// one row is contiguous.
    tiles: Scratch,
    scales: Vec<f32>,
    /// −8 Σ x for each group of each row: 4-bit values are multiplied as numbers from 0 to 15.
    excess: Vec<i32>,
    in_features: usize,
}

impl QuantizedRows {
    /// Quantises rows that `write` gives, on the threads of the current pool if `split` and worth it.
    pub(crate) fn build(
        rows: usize,
        in_features: usize,
        split: bool,
        write: impl Fn(usize, &mut [f32]) + Sync,
    ) -> Self {
        let (steps, groups) = (in_features.div_ceil(DEPTH), in_features.div_ceil(GROUP));
        let (panels, height) = (rows.div_ceil(LINES), rows.clamp(1, LINES));
        let panel = steps * height;
        let mut tiles = Scratch::take(panels * panel);
        let (mut scales, mut excess) = (vec![0.0; rows], vec![0; rows * groups]);
        // Some passes over the values, all but the first one from cache.
        let estimate = if split { (rows * in_features) as f64 / 4.0 } else { 0.0 };
        let threads = parallel::threads_for(estimate).min(panels.max(1));
        let lines = Shared::new(tiles.as_mut_ptr());
        let (scale, sums) = (Shared::new(scales.as_mut_ptr()), Shared::new(excess.as_mut_ptr()));
        parallel::run(threads, |index| {
            let (mut numbers, mut bytes) = (vec![0.0; in_features], vec![0; steps * DEPTH]);
            let part = parallel::part(panels, threads, index);
            for row in part.start * LINES..(part.end * LINES).min(rows) {
                write(row, &mut numbers);
                // SAFETY: rows lie inside the scales, the sums and the panels, and belong to one task.
                unsafe {
                    scale.get().add(row).write(quantize_row(&numbers, &mut bytes[..in_features]));
                    let sums = std::slice::from_raw_parts_mut(sums.get().add(row * groups), groups);
                    dispatch(Excess(&bytes, sums));
                    let to = lines.get().add(row / LINES * panel + row % LINES);
                    for (step, depths) in bytes.as_chunks::<DEPTH>().0.iter().enumerate() {
                        to.add(step * height).cast::<[i8; DEPTH]>().write(*depths);
                    }
                }
            }
        });
        Self { tiles, scales, excess, in_features }
    }

    pub(super) fn rows(&self) -> usize {
        self.scales.len()
    }

    pub(super) fn in_features(&self) -> usize {
        self.in_features
    }

    /// Scales of the rows from `row` on.
    pub(super) fn scales(&self, row: usize) -> &[f32] {
        &self.scales[row..]
    }

    /// Lines of a tile.
    pub(super) fn height(&self) -> usize {
        self.rows().clamp(1, LINES)
    }

    /// Lines of a panel.
    pub(super) fn panel(&self) -> usize {
        self.in_features.div_ceil(DEPTH) * self.height()
    }

    /// The first line of the row panel of `row`, a multiple of 16.
    pub(super) fn panel_of(&self, row: usize) -> *const Line {
        self.tiles[row / LINES * self.panel()..].as_ptr()
    }

    /// Rows `row` to `row + rows`, which lie in one panel.
    pub(super) fn strip(&self, row: usize, rows: usize, right: *const Line, out: *mut Line) -> Strip {
        assert!(row + rows <= self.rows() && row % LINES + rows <= LINES);
        let (steps, groups) = (self.in_features.div_ceil(DEPTH), self.in_features.div_ceil(GROUP));
        let left = if steps == 0 {
            std::ptr::null()
        } else {
            self.tiles[row / LINES * self.panel() + row % LINES..].as_ptr()
        };
        let excess = self.excess[row * groups..].as_ptr();
        Strip { left, height: self.height(), rows, excess, groups, steps, right, out }
    }
}

/// −8 times the sums of groups of bytes.
struct Excess<'a>(&'a [i8], &'a mut [i32]);

impl Kernel for Excess<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        for (sum, group) in self.1.iter_mut().zip(self.0.as_chunks::<GROUP>().0) {
            *sum = -8 * group.iter().map(|&x| i32::from(x)).sum::<i32>();
        }
    }
}
