//! 8-bit weights, multiplied with activations in 8 bits.
#![allow(clippy::inline_always)]

use std::ops::Range;

use rayon::prelude::*;

use super::super::matrix::{LINES, Line};
use super::kernel::{BLOCK, DEPTH};
use super::rows::QuantizedRows;
use super::walk::{Finish, Row, int8_tiles, strips};
use super::{Path, Weight, as_bytes, as_bytes_mut, kernels};
use crate::memory::Packed;
use crate::quant::Int8Rows;
use crate::simd::Simd;

/// Depths of a column that stand side by side in a right tile.
const QUAD: usize = 4;

/// Most rows for which the vector units are faster than AMX.
const FEW_ROWS: usize = 4;

/// A weight `(out, in)` in 8 bits with a scale for each output, in the tiles of the products.
#[derive(Debug)]
pub struct Int8Weight {
    lines: Packed<Line>,
    /// Padded to whole pairs of panels.
    scales: Vec<f32>,
    out_features: usize,
    in_features: usize,
}

impl Int8Weight {
    /// Quantises a row-major weight.
    ///
    /// # Panics
    /// If `weight` does not have `out_features · in_features` elements.
    pub fn new(weight: &[f32], out_features: usize, in_features: usize) -> Self {
        assert_eq!(weight.len(), out_features * in_features, "weight of {out_features} x {in_features}");
        let mut rows = Int8Rows::quantize(weight, in_features);
        rows.scales.resize(out_features, 0.0);
        Self::pack(&rows)
    }

    /// Lays out a quantised weight, one row an output.
    pub fn pack(rows: &Int8Rows) -> Self {
        let (out_features, in_features) = (rows.scales.len(), rows.columns);
        let (pairs, steps) = (out_features.div_ceil(BLOCK), in_features.div_ceil(DEPTH));
        let mut scales = rows.scales.clone();
        scales.resize(pairs * BLOCK, 0.0);
        let mut lines = Packed::filled(pairs * steps * BLOCK, Line::ZERO);
        let panels = lines.par_chunks_mut((steps * BLOCK).max(1));
        panels.zip(rows.values.par_chunks((BLOCK * in_features).max(1))).for_each(|(lines, values)| {
            let bytes = as_bytes_mut(lines);
            for (row, values) in values.chunks_exact(in_features).enumerate() {
                for (quad, values) in values.chunks(QUAD).enumerate() {
                    let at = byte_of(steps, row, quad * QUAD);
                    for (byte, value) in bytes[at..at + QUAD].iter_mut().zip(values) {
                        *byte = value.cast_unsigned();
                    }
                }
            }
        });
        Self { lines, scales, out_features, in_features }
    }

    /// `(out, in)`.
    pub fn shape(&self) -> (usize, usize) {
        (self.out_features, self.in_features)
    }

    /// Memory that the weight takes.
    pub fn bytes(&self) -> usize {
        size_of_val(&self.lines[..]) + size_of_val(&self.scales[..])
    }

    /// Tiles along the depth.
    fn steps(&self) -> usize {
        self.in_features.div_ceil(DEPTH)
    }

    /// The values, row-major `(out, in)`.
    pub fn dequantize(&self) -> Vec<f32> {
        let (bytes, steps) = (as_bytes(&self.lines), self.steps());
        let row = |row: usize| {
            let value = move |depth| f32::from(bytes[byte_of(steps, row, depth)].cast_signed());
            (0..self.in_features).map(move |depth| value(depth) * self.scales[row])
        };
        (0..self.out_features).flat_map(row).collect()
    }
}

impl Weight for Int8Weight {
    fn shape(&self) -> (usize, usize) {
        Self::shape(self)
    }

    #[inline(always)]
    fn sums<S: Simd>(&self, s: S, path: Path, x: &QuantizedRows, pairs: Range<usize>, then: impl Finish) {
        let steps = self.steps();
        if path == Path::Amx && x.rows() > FEW_ROWS && steps > 0 {
            return int8_tiles(s, self.out_features, x, pairs, &self.lines, then);
        }
        let right = |pair: usize| self.lines[pair * steps * BLOCK..].as_ptr();
        // SAFETY: the kernel of the path takes tiles of bytes.
        unsafe { strips(s, self.out_features, x, pairs, right, kernels(path).0, then) };
    }

    /// Of integers.
    #[inline(always)]
    fn scale(&self, column: usize, scales: &[f32], bias: &Row, rows: &mut [Row]) {
        let columns = &self.scales[column..column + BLOCK].as_chunks::<BLOCK>().0[0];
        for (row, &scale) in rows.iter_mut().zip(scales) {
            for column in 0..BLOCK {
                let sum = row[column].to_bits().cast_signed() as f32;
                row[column] = sum * (scale * columns[column]) + bias[column];
            }
        }
    }
}

/// The place of a value in the tiles: pair of panels, step, panel, line of four depths, column.
fn byte_of(steps: usize, row: usize, depth: usize) -> usize {
    let tile = (row / BLOCK * steps + depth / DEPTH) * 2 + row % BLOCK / LINES;
    ((tile * LINES + depth % DEPTH / QUAD) * LINES + row % LINES) * QUAD + depth % QUAD
}
