//! 4-bit weights, multiplied with activations in `bf16`.

use std::ops::Range;

use half::f16;
use rayon::prelude::*;

use super::super::matrix::{LINES, Line, Matrix};
use super::super::pack::{self, Side};
use super::super::parallel::{self, Scratch, Shared};
use super::kernel::{BLOCK, Kind};
use super::unpack::{self, UNIT, VALUES};
use super::walk::{Block, Place, Weight, share_columns, walk};
use super::{Path, as_words, as_words_mut};
use crate::quant::{GROUP, Int4Groups};

/// A weight `(out, in)` in 4 bits with a scale for every 32 inputs of an output, in the units of `unpack`.
#[derive(Debug, Clone)]
pub struct Int4Weight {
    lines: Vec<Line>,
    out_features: usize,
    in_features: usize,
}

impl Int4Weight {
    /// Quantises a row-major weight.
    ///
    /// # Panics
    /// If `weight` does not have `out_features · in_features` elements.
    pub fn new(weight: &[f32], out_features: usize, in_features: usize) -> Self {
        assert_eq!(weight.len(), out_features * in_features, "weight of {out_features} x {in_features}");
        Self::pack(&Int4Groups::quantize(weight, in_features), out_features)
    }

    /// Lays out a quantised weight, one row an output.
    ///
    /// # Panics
    /// If there are not `out_features` rows of values and scales.
    pub fn pack(groups: &Int4Groups, out_features: usize) -> Self {
        let in_features = groups.columns;
        let (pairs, steps) = (out_features.div_ceil(BLOCK), in_features.div_ceil(GROUP));
        assert_eq!(groups.values.len(), out_features * in_features, "values");
        assert_eq!(groups.scales.len(), out_features * steps, "scales");
        let mut lines = vec![Line::ZERO; pairs * steps * UNIT];
        lines.par_chunks_exact_mut(UNIT).enumerate().for_each(|(index, unit)| {
            let (pair, step) = (index / steps, index % steps);
            let (scales, words) = as_words_mut(unit).split_at_mut(LINES);
            words.fill(unpack::pack_word([0; VALUES]));
            for column in 0..BLOCK.min(out_features - pair * BLOCK) {
                let row = pair * BLOCK + column;
                let bits = u32::from(groups.scales[row * steps + step].to_bits());
                scales[column / 2] |= bits << (column % 2 * 16);
                let row = &groups.values[row * in_features..(row + 1) * in_features];
                let group = &row[step * GROUP..in_features.min((step + 1) * GROUP)];
                for (part, group) in group.chunks(VALUES).enumerate() {
                    let mut values = [0; VALUES];
                    values[..group.len()].copy_from_slice(group);
                    words[unpack::word_of(column, part * VALUES)] = unpack::pack_word(values);
                }
            }
        });
        Self { lines, out_features, in_features }
    }

    /// `(out, in)`.
    pub fn shape(&self) -> (usize, usize) {
        (self.out_features, self.in_features)
    }

    /// Memory that the weight takes.
    pub fn bytes(&self) -> usize {
        size_of_val(&self.lines[..])
    }

    /// The values, row-major `(out, in)`.
    pub fn dequantize(&self) -> Vec<f32> {
        self.map(|q, scale| f32::from(q) * scale.to_f32())
    }

    /// A function of every value and its scale, row-major.
    pub(super) fn map(&self, function: impl Fn(i8, f16) -> f32) -> Vec<f32> {
        let mut values = Vec::with_capacity(self.out_features * self.in_features);
        for row in 0..self.out_features {
            for depth in 0..self.in_features {
                let unit = row / BLOCK * self.size().1 + depth / GROUP;
                let words = as_words(&self.lines[unit * UNIT..(unit + 1) * UNIT]);
                let (scales, words) = words.split_at(LINES);
                let word = words[unpack::word_of(row % BLOCK, depth % GROUP)];
                values
                    .push(function(unpack::value(word, depth % VALUES), unpack::scale(scales, row % BLOCK)));
            }
        }
        values
    }

    /// `out (rows, out) = x (rows, in) · Wᵀ + bias`; `x` is rounded to `bf16`, and so are the values of the weight (to
    /// within two thirds of a unit in the last place). Sums are in `f32`.
    ///
    /// # Panics
    /// If the lengths of the slices do not fit `rows` and the weight.
    pub fn product(&self, x: &[f32], rows: usize, bias: Option<&[f32]>, out: &mut [f32]) {
        self.product_on(Path::best(), x, rows, bias, out);
    }

    pub(super) fn product_on(
        &self,
        path: Path,
        x: &[f32],
        rows: usize,
        bias: Option<&[f32]>,
        out: &mut [f32],
    ) {
        let x = RoundedRows::new(x, rows, self.in_features);
        assert!(bias.is_none_or(|bias| bias.len() == self.out_features), "bias of {}", self.out_features);
        share_columns(path, self, rows, out, |pairs, write| self.columns(path, &x, pairs, bias, write));
    }

    /// The columns of `pairs` (32 each), block by block, to an epilogue. It must not wait for other threads.
    pub(crate) fn columns(
        &self,
        path: Path,
        x: &RoundedRows,
        pairs: Range<usize>,
        bias: Option<&[f32]>,
        mut epilogue: impl FnMut(Place, &Block),
    ) {
        assert_eq!(x.in_features, self.in_features, "activations and weight differ in depth");
        walk(path, self, (&x.tiles, x.rows), pairs, |place, block| {
            if let Some(bias) = bias {
                let bias = &bias[place.column..place.column + place.columns];
                for row in &mut block.rows_mut()[..place.rows] {
                    row.iter_mut().zip(bias).for_each(|(value, bias)| *value += bias);
                }
            }
            epilogue(place, block);
        });
    }
}

impl Weight for Int4Weight {
    const KIND: Kind = Kind::Bf16;
    const LINES_PER_STEP: usize = UNIT;

    fn lines(&self) -> &[Line] {
        &self.lines
    }

    fn size(&self) -> (usize, usize) {
        (self.out_features, self.in_features.div_ceil(GROUP))
    }

    fn tiles<'a>(path: Path, stored: &'a [Line], scratch: &'a mut [Line]) -> &'a [Line] {
        unpack::units(path, stored, scratch);
        scratch
    }
}

/// Activations rounded to `bf16`, as left tiles.
pub(crate) struct RoundedRows {
    tiles: Scratch,
    rows: usize,
    in_features: usize,
}

impl RoundedRows {
    /// Rounds `x (rows, in)`.
    pub(crate) fn new(x: &[f32], rows: usize, in_features: usize) -> Self {
        let source = Matrix::rows(x, rows, in_features);
        let (panel, panels) = (source.steps() * LINES, rows.div_ceil(LINES));
        let mut tiles = Scratch::take(panels * panel);
        let threads = parallel::threads_for(x.len() as f64 / 5.0).min(panels.max(1));
        let lines = Shared::new(tiles.as_mut_ptr());
        parallel::run(threads, |index| {
            let part = parallel::part(panels, threads, index);
            // SAFETY: the panels of a part lie inside the tiles and belong to one task.
            let to = unsafe {
                std::slice::from_raw_parts_mut(lines.get().add(part.start * panel), part.len() * panel)
            };
            pack::panels_of(super::super::Path::best(), Side::Left, source, part, to);
        });
        Self { tiles, rows, in_features }
    }
}
