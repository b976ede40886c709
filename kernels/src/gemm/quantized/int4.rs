//! 4-bit weights, multiplied with activations in 8 bits.
#![allow(clippy::inline_always)]

use std::ops::Range;

use half::f16;
use rayon::prelude::*;

use super::super::matrix::{LINES, Line};
use super::kernel::{BLOCK, STRIP};
use super::rows::QuantizedRows;
use super::walk::{Finish, Row, int4_tiles, strips};
use super::{Path, Weight, kernels};
use crate::memory::Packed;
use crate::quant::{GROUP, Int4Groups};
use crate::simd::Simd;

/// Bytes of a group in a row of activations: half a line.
pub(super) const HALF: usize = GROUP;
/// Lines of half a group: its depths `4 k` to `4 k + 3`, and as many later on.
pub(super) const QUADS: usize = GROUP / 8;

/// 32 columns by 32 depths, one group deep: nine lines.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Unit {
    /// `f16`
    scales: [u16; BLOCK],
    /// By panel, line `k`, column, and `i`: `value + 8` at depth `4 k + i` in the low half of a byte, at `16 + 4 k + i` in
    /// its high half.
    values: [[[[u8; 4]; LINES]; QUADS]; 2],
}

impl Unit {
    /// Zeros.
    const ZERO: Self = Self { scales: [0; BLOCK], values: [[[[0x88; 4]; LINES]; QUADS]; 2] };

    /// The byte of a column and a depth, and how far its value is shifted.
    fn place(column: usize, depth: usize) -> ([usize; 4], usize) {
        let within = depth % (GROUP / 2);
        ([column / LINES, within / 4, column % LINES, within % 4], depth / (GROUP / 2) * 4)
    }

    pub(super) fn value(&self, column: usize, depth: usize) -> i8 {
        let ([panel, line, lane, i], shift) = Self::place(column, depth);
        (self.values[panel][line][lane][i] >> shift & 15).cast_signed() - 8
    }

    fn set(&mut self, column: usize, depth: usize, value: i8) {
        let ([panel, line, lane, i], shift) = Self::place(column, depth);
        let byte = &mut self.values[panel][line][lane][i];
        *byte = *byte & !(15 << shift) | (value + 8).cast_unsigned() << shift;
    }

    pub(super) fn scale(&self, column: usize) -> f16 {
        f16::from_bits(self.scales[column])
    }
}

/// Most rows for which the vector units are faster than AMX.
const FEW_ROWS: usize = 24;

/// A weight `(out, in)` in 4 bits with a scale for every 32 inputs of an output, laid out for the products.
#[derive(Debug)]
pub struct Int4Weight {
    /// By pair of panels and group.
    units: Packed<Unit>,
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
    pub fn pack(weight: &Int4Groups, out_features: usize) -> Self {
        let in_features = weight.columns;
        let groups = in_features.div_ceil(GROUP);
        assert_eq!(weight.values.len(), out_features * in_features, "values");
        assert_eq!(weight.scales.len(), out_features * groups, "scales");
        let mut units = Packed::filled(out_features.div_ceil(BLOCK) * groups, Unit::ZERO);
        units.par_iter_mut().enumerate().for_each(|(index, unit)| {
            let (pair, group) = (index / groups, index % groups);
            for column in 0..BLOCK.min(out_features - pair * BLOCK) {
                let row = pair * BLOCK + column;
                unit.scales[column] = weight.scales[row * groups + group].to_bits();
                let row = &weight.values[row * in_features..(row + 1) * in_features];
                for (depth, value) in row[group * GROUP..].iter().take(GROUP).enumerate() {
                    unit.set(column, depth, *value);
                }
            }
        });
        Self { units, out_features, in_features }
    }

    /// `(out, in)`.
    pub fn shape(&self) -> (usize, usize) {
        (self.out_features, self.in_features)
    }

    /// Memory that the weight takes.
    pub fn bytes(&self) -> usize {
        size_of_val(&self.units[..])
    }

    fn groups(&self) -> usize {
        self.in_features.div_ceil(GROUP)
    }

    /// The values, row-major.
    pub fn dequantize(&self) -> Vec<f32> {
        let value = |row: usize, depth: usize| {
            let unit = &self.units[row / BLOCK * self.groups() + depth / GROUP];
            f32::from(unit.value(row % BLOCK, depth % GROUP)) * unit.scale(row % BLOCK).to_f32()
        };
        (0..self.out_features)
            .flat_map(|row| (0..self.in_features).map(move |depth| value(row, depth)))
            .collect()
    }
}

impl Weight for Int4Weight {
    fn shape(&self) -> (usize, usize) {
        Self::shape(self)
    }

    #[inline(always)]
    fn sums<S: Simd>(&self, s: S, path: Path, x: &QuantizedRows, pairs: Range<usize>, then: impl Finish) {
        let groups = self.groups();
        if path == Path::Amx && x.rows() > FEW_ROWS && groups > 0 {
            return int4_tiles(s, self.out_features, (x, groups), pairs, &self.units, then);
        }
        assert_eq!(x.groups(), groups, "activations without the sums of their groups");
        let right = |pair: usize| self.units[pair * groups..].as_ptr().cast::<Line>();
        // SAFETY: the kernel of the path takes units.
        unsafe { strips(s, self.out_features, x, pairs, right, kernels(path).1, then) };
    }

    #[inline(always)]
    fn scale(&self, _: usize, scales: &[f32], bias: &Row, rows: &mut [Row]) {
        for (row, &scale) in rows.iter_mut().zip(scales) {
            for column in 0..BLOCK {
                row[column] = row[column] * scale + bias[column];
            }
        }
    }
}

const _: () = assert!(size_of::<Unit>() == 9 * size_of::<Line>() && LINES.is_multiple_of(STRIP));
