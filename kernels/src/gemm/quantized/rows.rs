//! Activations in 8 bits.
#![allow(clippy::inline_always)]

use std::ops::Range;

use super::super::matrix::{LINES, Line};
use super::super::parallel::{self, Scratch, Shared};
use super::kernel::{DEPTH, Strip};
use crate::quant::{GROUP, quantize_into};
use crate::simd::{Kernel, Simd, dispatch};

/// Activations in 8 bits with a scale each row, as left tiles. Each row is quantised as `quantize_row` does.
pub(crate) struct QuantizedRows {
    /// Panels of 16 rows, each a tile of 64 depths after the other. A lone panel has no more rows than there are, so that
    /// one row is contiguous.
    tiles: Scratch,
    scales: Vec<f32>,
    /// Σ x of each row.
    totals: Vec<i32>,
    /// −8 Σ x for each group of each row, for products with 4-bit weights: 4-bit values are multiplied as numbers from 0 to 15.
    excess: Vec<i32>,
    in_features: usize,
    /// Groups of a row whose sums are there.
    groups: usize,
}

impl QuantizedRows {
    /// Quantises rows, on the threads of the current pool if `split` and worth it. Products with 4-bit weights need the sums
    /// of groups, too.
    pub(crate) fn build(
        rows: usize,
        in_features: usize,
        (split, sums): (bool, bool),
        source: &impl RowSource,
    ) -> Self {
        let (steps, groups) = (in_features.div_ceil(DEPTH), in_features.div_ceil(GROUP));
        let groups = if sums { groups } else { 0 };
        let (panels, height) = (rows.div_ceil(LINES), rows.clamp(1, LINES));
        let mut tiles = Scratch::take(panels * steps * height);
        let (mut scales, mut totals, mut excess) = (vec![0.0; rows], vec![0; rows], vec![0; rows * groups]);
        // Some passes over the values, all but the first one from cache.
        let estimate = if split { (rows * in_features) as f64 / 4.0 } else { 0.0 };
        let threads = parallel::threads_for(estimate).min(panels.max(1));
        let tile_lines = Shared::new(tiles.as_mut_ptr());
        let row_scales = Shared::new(scales.as_mut_ptr());
        let [row_totals, row_sums] = [&mut totals, &mut excess].map(|sums| Shared::new(sums.as_mut_ptr()));
        parallel::run(threads, |index| {
            let part = parallel::part(panels, threads, index);
            let rows = part.start * LINES..(part.end * LINES).min(rows);
            let (tiles, scales) = (tile_lines.get(), row_scales.get());
            let (totals, sums) = (row_totals.get(), row_sums.get());
            dispatch(Quantize { source, rows, in_features, groups, height, tiles, scales, totals, sums });
        });
        Self { tiles, scales, totals, excess, in_features, groups }
    }

    pub(super) fn rows(&self) -> usize {
        self.scales.len()
    }

    pub(super) fn in_features(&self) -> usize {
        self.in_features
    }

    /// Groups of a row whose sums are there.
    pub(super) fn groups(&self) -> usize {
        self.groups
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
    pub(super) fn strip(
        &self,
        row: usize,
        rows: usize,
        (right, again): (*const Line, bool),
        out: *mut Line,
    ) -> Strip {
        assert!(row + rows <= self.rows() && row % LINES + rows <= LINES);
        let (steps, groups) = (self.in_features.div_ceil(DEPTH), self.groups);
        let left = if steps == 0 {
            std::ptr::null()
        } else {
            self.tiles[row / LINES * self.panel() + row % LINES..].as_ptr()
        };
        let (totals, excess) = (self.totals[row..].as_ptr(), self.excess[row * groups..].as_ptr());
        Strip { left, height: self.height(), rows, totals, excess, groups, steps, right, again, out }
    }
}

/// Where activations come from.
pub(crate) trait RowSource: Sync {
    /// Row `row`: where it lies, or written to `to`. `#[inline(always)]`.
    fn row<'a, S: Simd>(&'a self, s: S, row: usize, to: &'a mut [f32]) -> &'a [f32];
}

/// Some rows, from a multiple of 16 on, to where the rows of all threads lie.
struct Quantize<'a, R> {
    source: &'a R,
    rows: Range<usize>,
    in_features: usize,
    groups: usize,
    height: usize,
    tiles: *mut Line,
    scales: *mut f32,
    totals: *mut i32,
    /// −8 times the sums of groups of bytes.
    sums: *mut i32,
}

impl<R: RowSource> Kernel for Quantize<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { source, rows, in_features, groups, height, tiles, scales, totals, sums } = self;
        let steps = in_features.div_ceil(DEPTH);
        let (mut numbers, mut bytes) = (vec![0.0; in_features], vec![0; steps * DEPTH]);
        for row in rows {
            let numbers = source.row(s, row, &mut numbers);
            assert_eq!(numbers.len(), in_features);
            // SAFETY: rows lie inside the scales, the sums and the panels, and belong to one task.
            unsafe {
                scales.add(row).write(quantize_into(numbers, &mut bytes[..in_features]));
                totals.add(row).write(bytes.iter().map(|&x| i32::from(x)).sum());
                for (index, group) in bytes.as_chunks::<GROUP>().0.iter().take(groups).enumerate() {
                    let sum: i32 = group.iter().map(|&x| i32::from(x)).sum();
                    sums.add(row * groups + index).write(-8 * sum);
                }
                let to = tiles.add(row / LINES * steps * height + row % LINES);
                for (step, depths) in bytes.as_chunks::<DEPTH>().0.iter().enumerate() {
                    to.add(step * height).cast::<[i8; DEPTH]>().write(*depths);
                }
            }
        }
    }
}
