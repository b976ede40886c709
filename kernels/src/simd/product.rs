//! A small matrix product on strided operands, for matrices that fit in the cache.
#![allow(clippy::inline_always)]

use super::{Kernel, LANES, Simd, Tile, dispatch};

/// A matrix whose element (row, column) is at `at + row · row_stride + column · column_stride`.
#[derive(Clone, Copy)]
pub(crate) struct Matrix {
    pub(crate) at: *const f32,
    pub(crate) row_stride: usize,
    pub(crate) column_stride: usize,
}

/// Rows of a matrix to write.
#[derive(Clone, Copy)]
pub(crate) struct TileMut {
    pub(crate) at: *mut f32,
    pub(crate) stride: usize,
}

/// `c = a b`, or `c += a b` when it accumulates: `a (rows, depth)`, `b (depth, columns)`, `c (rows, columns)`.
///
/// An element of `c` is summed over `depth` in order, one fused multiply-add each: its value does not depend on how many
/// rows and columns are computed along with it.
pub(crate) struct Product {
    pub(crate) rows: usize,
    pub(crate) depth: usize,
    pub(crate) columns: usize,
    pub(crate) a: Matrix,
    pub(crate) b: Tile,
    pub(crate) c: TileMut,
    pub(crate) accumulate: bool,
}

impl Product {
    /// Computes it. All elements named must be inside their allocations, and those of `c` not in `a` or `b`.
    pub(crate) unsafe fn compute(self) {
        dispatch(self);
    }

    /// Blocks of `R` rows while there are as many, all of `C` vectors at `column`; returns the rows done.
    #[inline(always)]
    unsafe fn blocks<S: Simd, const R: usize, const C: usize>(
        &self,
        s: S,
        first: usize,
        column: usize,
    ) -> usize {
        let mut row = first;
        while row + R <= self.rows {
            // SAFETY: the block is inside the matrices.
            unsafe { self.block::<S, R, C>(s, row, column) };
            row += R;
        }
        row
    }

    #[inline(always)]
    unsafe fn block<S: Simd, const R: usize, const C: usize>(&self, s: S, row: usize, column: usize) {
        let last = self.columns - column - (C - 1) * LANES;
        let lanes = |c: usize| if c + 1 == C { last } else { LANES };
        let mut sums = [[s.splat(0.0); C]; R];
        // SAFETY: rows `row..row + R` and columns from `column`, of which the last vector has `last`, exist.
        unsafe {
            let c_at = self.c.at.add(row * self.c.stride + column);
            if self.accumulate {
                for r in 0..R {
                    for c in 0..C {
                        sums[r][c] = s.load(c_at.add(r * self.c.stride + c * LANES), lanes(c));
                    }
                }
            }
            let mut a = self.a.at.add(row * self.a.row_stride);
            let mut b = self.b.at.add(column);
            for _ in 0..self.depth {
                let mut vectors = [s.splat(0.0); C];
                for c in 0..C {
                    vectors[c] = s.load(b.add(c * LANES), lanes(c));
                }
                for r in 0..R {
                    let x = s.splat(*a.add(r * self.a.row_stride));
                    for c in 0..C {
                        sums[r][c] = s.fma(x, vectors[c], sums[r][c]);
                    }
                }
                a = a.wrapping_add(self.a.column_stride);
                b = b.wrapping_add(self.b.stride);
            }
            for r in 0..R {
                for c in 0..C {
                    s.store(c_at.add(r * self.c.stride + c * LANES), sums[r][c], lanes(c));
                }
            }
        }
    }
}

impl Kernel for Product {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let mut column = 0;
        while column < self.columns {
            let vectors = (self.columns - column).div_ceil(LANES).min(if S::WIDE { 4 } else { 1 });
            // Eight to sixteen sums in flight cover the latency of the multiply-add.
            // SAFETY: `vectors` are what is left of the columns, at most.
            unsafe {
                match vectors {
                    1 if S::WIDE => {
                        let row = self.blocks::<S, 8, 1>(s, 0, column);
                        let row = self.blocks::<S, 4, 1>(s, row, column);
                        self.blocks::<S, 1, 1>(s, row, column);
                    }
                    1 => {
                        let row = self.blocks::<S, 4, 1>(s, 0, column);
                        self.blocks::<S, 1, 1>(s, row, column);
                    }
                    2 => {
                        let row = self.blocks::<S, 8, 2>(s, 0, column);
                        let row = self.blocks::<S, 4, 2>(s, row, column);
                        self.blocks::<S, 1, 2>(s, row, column);
                    }
                    3 => {
                        let row = self.blocks::<S, 4, 3>(s, 0, column);
                        self.blocks::<S, 1, 3>(s, row, column);
                    }
                    _ => {
                        let row = self.blocks::<S, 4, 4>(s, 0, column);
                        self.blocks::<S, 1, 4>(s, row, column);
                    }
                }
            }
            column += vectors * LANES;
        }
    }
}

/// The transpose of `from (rows, columns)` into `to`, which gets `columns` rows of `rows` elements, the row length
/// rounded up to 16 with zeros.
pub(crate) struct Transpose {
    pub(crate) from: Tile,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) to: TileMut,
}

impl Transpose {
    /// Computes it. All elements named must be inside their allocations.
    pub(crate) unsafe fn compute(self) {
        dispatch(self);
    }
}

impl Kernel for Transpose {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for row in (0..self.rows).step_by(LANES) {
            for column in (0..self.columns).step_by(LANES) {
                // SAFETY: the part of the tile that is left, at most 16 × 16.
                unsafe {
                    let from = Tile { at: self.from.at.add(row * self.from.stride + column), ..self.from };
                    let to = self.to.at.add(column * self.to.stride + row);
                    let (rows, columns) = ((self.rows - row).min(LANES), (self.columns - column).min(LANES));
                    s.transpose(from, rows, columns, to, self.to.stride);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::on_each_unit;
    use super::*;

    /// Integers of O(10), so that every product is exact and all paths agree bit for bit.
    fn integers(len: usize, seed: usize) -> Vec<f32> {
        (0..len).map(|i| ((i * 31 + seed * 17) % 13) as f32 - 6.0).collect()
    }

    #[test]
    fn equals_the_plain_product() {
        for (rows, depth, columns) in
            [(1, 1, 1), (3, 5, 7), (8, 4, 16), (13, 9, 33), (21, 3, 40), (17, 6, 130), (9, 0, 5)]
        {
            let (a, b) = (integers(rows * depth + 1, 1), integers(depth * columns + 1, 2));
            let start = integers(rows * columns, 3);
            let plain =
                |i: usize, j: usize| (0..depth).map(|k| a[k * rows + i] * b[k * columns + j]).sum::<f32>();
            for accumulate in [false, true] {
                on_each_unit(|unit| {
                    let mut c = start.clone();
                    // `a` is stored by columns here.
                    let a = Matrix { at: a.as_ptr(), row_stride: 1, column_stride: rows };
                    let b = Tile { at: b.as_ptr(), stride: columns };
                    let to = TileMut { at: c.as_mut_ptr(), stride: columns };
                    // SAFETY: the vectors are as long as the matrices.
                    unsafe {
                        Product { rows, depth, columns, a, b, c: to, accumulate }.compute();
                    }
                    for (i, j) in (0..rows).flat_map(|i| (0..columns).map(move |j| (i, j))) {
                        let before = if accumulate { start[i * columns + j] } else { 0.0 };
                        assert_eq!(
                            c[i * columns + j],
                            before + plain(i, j),
                            "{unit:?} {rows}×{depth}×{columns} {i},{j}"
                        );
                    }
                });
            }
        }
    }

    #[test]
    fn transposes_with_padding() {
        let (rows, columns, stride) = (21, 35, 40);
        let from = integers(rows * stride, 5);
        on_each_unit(|_| {
            let mut to = vec![9.0; columns * 48];
            let tile = Tile { at: from.as_ptr(), stride };
            let target = TileMut { at: to.as_mut_ptr(), stride: 48 };
            // SAFETY: 21 rows are padded to 32, less than the stride.
            unsafe {
                Transpose { from: tile, rows, columns, to: target }.compute();
            }
            for (c, r) in (0..columns).flat_map(|c| (0..48).map(move |r| (c, r))) {
                let expected = match r {
                    _ if r < rows => from[r * stride + c],
                    _ if r < 32 => 0.0,
                    _ => 9.0,
                };
                assert_eq!(to[c * 48 + r], expected);
            }
        });
    }
}
