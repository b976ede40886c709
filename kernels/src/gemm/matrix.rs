//! Operands and results of the products.

use super::{Path, pack};
use crate::memory::Packed;

/// Lines of a tile: rows of the left operand or columns of the right one.
pub(super) const LINES: usize = 16;
/// Depth of a tile, in elements.
pub(super) const DEPTH: usize = 32;
/// The kernels compute two tiles side by side, so right operands hold an even number of panels.
pub(super) const BLOCK: usize = 2 * LINES;

/// One cache line of packed `bf16` bit patterns, 16 to a tile: packed buffers are aligned for the tile loads.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Line([u16; DEPTH]);

impl Line {
    pub(crate) const ZERO: Self = Self([0; DEPTH]);

    /// Of the bits of `bf16` numbers.
    pub(super) fn of(bits: [u16; DEPTH]) -> Self {
        Self(bits)
    }

    #[cfg(test)]
    pub(crate) fn bits(&self) -> [u16; DEPTH] {
        self.0
    }

    #[cfg(test)]
    pub(crate) fn filled(bits: u16) -> Self {
        Self([bits; DEPTH])
    }
}

/// An operand as the product sees it: `lines` vectors of length `depth`, the summed dimension.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Matrix<'a> {
    pub(super) data: &'a [f32],
    pub(super) lines: usize,
    pub(super) depth: usize,
    /// Distance in elements between neighbouring lines, or between depths when `strided`.
    pub(super) ld: usize,
    /// Whether the lines, not the depth, are contiguous in memory.
    pub(super) strided: bool,
}

impl<'a> Matrix<'a> {
    /// Row-major `(lines, depth)`: every line is contiguous.
    pub(crate) fn rows(data: &'a [f32], lines: usize, depth: usize) -> Self {
        assert_eq!(data.len(), lines * depth, "operand of {lines} x {depth}");
        Self { data, lines, depth, ld: depth, strided: false }
    }

    /// Row-major `(depth, lines)`: the operand is the transpose of what memory holds.
    pub(crate) fn columns(data: &'a [f32], depth: usize, lines: usize) -> Self {
        assert_eq!(data.len(), lines * depth, "operand of {depth} x {lines}");
        Self { data, lines, depth, ld: lines, strided: true }
    }

    /// Lines `start..start + lines` of an operand made by [`Self::rows`].
    pub(super) fn line_range(self, start: usize, lines: usize) -> Self {
        debug_assert!(!self.strided && start + lines <= self.lines);
        Self { data: &self.data[start * self.ld..(start + lines) * self.ld], lines, ..self }
    }

    /// Tiles along the depth.
    pub(super) fn steps(&self) -> usize {
        self.depth.div_ceil(DEPTH)
    }
}

/// A row-major result `(rows, columns)`, possibly not initialised yet.
#[derive(Debug)]
pub(crate) struct Output<'a> {
    pub(super) ptr: *mut f32,
    pub(super) rows: usize,
    pub(super) columns: usize,
    lifetime: std::marker::PhantomData<&'a mut [f32]>,
}

impl Output<'_> {
    /// A fresh result; `fill` must write every element, as all products do.
    pub(crate) fn build(rows: usize, columns: usize, fill: impl FnOnce(Output<'_>)) -> Vec<f32> {
        let mut fresh = Fresh::new(rows, columns);
        fill(fresh.output());
        // SAFETY: products write every element of their result.
        unsafe { fresh.finish() }
    }

    /// Address of the first element; whoever takes it writes the result.
    pub(super) fn into_ptr(self) -> *mut f32 {
        self.ptr
    }

    /// Splits off the first `rows` rows.
    pub(crate) fn split_rows(self, rows: usize) -> (Self, Self) {
        assert!(rows <= self.rows);
        // SAFETY: `rows * columns` elements from `ptr` on belong to this result.
        let rest = unsafe { self.ptr.add(rows * self.columns) };
        (Self { rows, ..self }, Self { ptr: rest, rows: self.rows - rows, ..self })
    }

    pub(crate) fn copy_from(self, data: &[f32]) {
        assert_eq!(data.len(), self.rows * self.columns);
        // SAFETY: all `rows * columns` elements belong to this result.
        unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), self.ptr, data.len()) };
    }

    pub(crate) fn fill_zero(self) {
        // SAFETY: all `rows * columns` elements belong to this result; zero bytes are `0.0f32`.
        unsafe { std::ptr::write_bytes(self.ptr, 0, self.rows * self.columns) };
    }
}

/// Memory for a result that is not written yet.
#[derive(Debug)]
pub(crate) struct Fresh {
    data: Vec<f32>,
    rows: usize,
    columns: usize,
}

impl Fresh {
    pub(crate) fn new(rows: usize, columns: usize) -> Self {
        Self { data: Vec::with_capacity(rows * columns), rows, columns }
    }

    pub(crate) fn output(&mut self) -> Output<'_> {
        let (ptr, rows, columns) = (self.data.as_mut_ptr(), self.rows, self.columns);
        Output { ptr, rows, columns, lifetime: std::marker::PhantomData }
    }

    /// The written result.
    ///
    /// # Safety
    /// Every element has been written.
    pub(crate) unsafe fn finish(mut self) -> Vec<f32> {
        // SAFETY: the capacity is `rows * columns`, and the caller wrote it all.
        unsafe { self.data.set_len(self.rows * self.columns) };
        self.data
    }
}

/// A right operand in tiles, borrowed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PackedRight<'a> {
    pub(super) tiles: &'a [Line],
    pub(super) columns: usize,
    pub(super) depth: usize,
}

impl PackedRight<'_> {
    pub(super) fn steps(&self) -> usize {
        self.depth.div_ceil(DEPTH)
    }

    /// Pairs of column panels, each 32 columns wide.
    pub(super) fn pairs(&self) -> usize {
        self.columns.div_ceil(BLOCK)
    }
}

/// Number of cache lines that `lines` lines of `steps` tiles take, a whole number of panel pairs.
pub(super) fn packed_len(lines: usize, steps: usize) -> usize {
    lines.div_ceil(BLOCK) * BLOCK * steps
}

/// A constant weight `(out, in)` rounded to `bf16` and laid out in tiles once, with its bias, for inference.
#[derive(Debug)]
pub struct PackedWeight {
    tiles: Packed<Line>,
    /// Zeros where there is none, padded to whole pairs of panels.
    bias: Vec<f32>,
    out_features: usize,
    in_features: usize,
}

impl PackedWeight {
    /// Packs a row-major weight `(out, in)` and a bias `(out)`.
    pub(crate) fn new(weight: &[f32], bias: Option<&[f32]>, out_features: usize, in_features: usize) -> Self {
        let source = Matrix::rows(weight, out_features, in_features);
        let mut tiles = Packed::filled(packed_len(out_features, source.steps()), Line::ZERO);
        pack::right(Path::best(), source, &mut tiles);
        Self { tiles, bias: padded_bias(bias, out_features), out_features, in_features }
    }

    /// Columns of the product.
    pub(crate) fn out_features(&self) -> usize {
        self.out_features
    }

    /// Depth of the product.
    pub(crate) fn in_features(&self) -> usize {
        self.in_features
    }

    /// Tiles along the depth.
    pub(crate) fn steps(&self) -> usize {
        self.in_features.div_ceil(DEPTH)
    }

    /// Pairs of column panels, each 32 columns wide.
    pub(crate) fn pairs(&self) -> usize {
        self.out_features.div_ceil(BLOCK)
    }

    /// Bytes of the tiles.
    pub(crate) fn bytes(&self) -> usize {
        size_of_val(&self.tiles[..])
    }

    /// Panel `index` of 16 columns, and their biases.
    pub(super) fn panel(&self, index: usize) -> (*const Line, &[f32]) {
        let len = LINES * self.steps();
        (self.tiles[index * len..(index + 1) * len].as_ptr(), &self.bias[index * LINES..(index + 1) * LINES])
    }
}

/// The bias, or zeros, padded to whole blocks of columns.
pub(super) fn padded_bias(bias: Option<&[f32]>, columns: usize) -> Vec<f32> {
    let mut padded = vec![0.0; columns.next_multiple_of(BLOCK)];
    if let Some(bias) = bias {
        padded[..columns].copy_from_slice(bias);
    }
    padded
}

// SAFETY: an output is an exclusive borrow, like `&mut [f32]`.
unsafe impl Send for Output<'_> {}
