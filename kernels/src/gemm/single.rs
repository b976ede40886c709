//! `f32` products, for comparison with other implementations. The left operand is read in place; the right
//! one is packed into panels of 32 columns, depth by depth.

use super::matrix::{BLOCK, DEPTH, LINES, Line, Matrix, Output};
use super::parallel::{self, Scratch, Shared};
use super::vector;

/// Depths packed at a time: a panel of 32 columns then takes 32 KiB of the first-level cache.
const PASS: usize = 256;
/// Rows of a block.
pub(super) const ROWS: usize = 8;

/// Blocks of rows that share a panel while it is in the first-level cache; more would touch too many pages.
const GROUP: usize = 8;

/// 1 to 8 rows by 32 columns of a result. Steps and leading dimensions count elements.
///
/// The kernels need: `rows` lines of `depth` elements at `left`, `depth` rows of 32 at `right`, readable rows
/// of 32 at `init` (`init_ld` 0 repeats one row, for a bias), writable rows of 32 at `out`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Block {
    pub(super) left: *const f32,
    pub(super) line_step: usize,
    pub(super) depth_step: usize,
    pub(super) rows: usize,
    pub(super) right: *const f32,
    pub(super) depth: usize,
    pub(super) init: *const f32,
    pub(super) init_ld: usize,
    pub(super) out: *mut f32,
    pub(super) out_ld: usize,
}

/// `out = left · rightᵀ` (both as lines by depth), plus `bias` per column. The depth is summed in order,
/// starting from the bias, whatever the number of rows and threads.
pub(crate) fn product_f32(left: Matrix<'_>, right: Matrix<'_>, bias: Option<&[f32]>, out: Output<'_>) {
    assert!(left.depth == right.depth && out.rows == left.lines && out.columns == right.lines);
    let (m, n, k) = (left.lines, right.lines, left.depth);
    if m == 0 || n == 0 {
        return;
    }
    let panels = n.div_ceil(BLOCK);
    let start = super::matrix::padded_bias(bias, n);
    // An AVX-512 core does about 100 operations per nanosecond.
    let threads = parallel::threads_for(2.0 * m as f64 * n as f64 * k as f64 / 100.0);
    let row_blocks = m.div_ceil(ROWS);
    let by_rows = row_blocks >= 2 * threads;
    let tasks = threads.min(if by_rows { row_blocks } else { panels });
    let mut packed = Scratch::take(panels * BLOCK * PASS.min(k) * 2 / DEPTH);
    let shared = Shared::new(packed.as_mut_ptr());
    let ptr = Shared::new(out.into_ptr());
    let mut first = 0;
    loop {
        let depth = PASS.min(k - first);
        parallel::run(threads.min(panels), |index| {
            for panel in parallel::part(panels, threads.min(panels), index) {
                // SAFETY: each task packs the panels of its own part; the buffer holds all.
                let panel_ptr = panel_at(shared.get(), panel, depth);
                unsafe { pack_panel(right, panel * BLOCK, first, depth, panel_ptr) };
            }
        });
        let pass = Pass { left, first, depth, start: (first == 0).then_some(&start), columns: n };
        parallel::run(tasks, |index| {
            let (rows, columns) = if by_rows {
                (parallel::part(row_blocks, tasks, index), 0..panels)
            } else {
                (0..row_blocks, parallel::part(panels, tasks, index))
            };
            for group in rows.clone().step_by(GROUP) {
                for panel in columns.clone() {
                    for block in group..(group + GROUP).min(rows.end) {
                        let right = panel_at(shared.get(), panel, depth).cast_const();
                        // SAFETY: each task writes the rows or the columns of its own part.
                        unsafe { pass.block(block * ROWS, panel * BLOCK, right, ptr.get()) };
                    }
                }
            }
        });
        first += depth;
        if first >= k {
            break;
        }
    }
}

fn panel_at(packed: *mut Line, panel: usize, depth: usize) -> *mut f32 {
    packed.cast::<f32>().wrapping_add(panel * BLOCK * depth)
}

/// Packs 32 columns from `line` on, depths `first..first + depth`.
///
/// # Safety
/// `dst` has room for `32 * depth` elements.
unsafe fn pack_panel(source: Matrix<'_>, line: usize, first: usize, depth: usize, dst: *mut f32) {
    let lines = (source.lines - line).min(BLOCK);
    // SAFETY: the caller's promise.
    let panel = unsafe { std::slice::from_raw_parts_mut(dst, BLOCK * depth) };
    if lines < BLOCK {
        panel.fill(0.0);
    }
    if source.strided {
        for (index, row) in panel.chunks_exact_mut(BLOCK).enumerate() {
            let from = (first + index) * source.ld + line;
            row[..lines].copy_from_slice(&source.data[from..from + lines]);
        }
    } else {
        let from = source.data[line * source.ld + first..].as_ptr();
        // SAFETY: the lines and depths lie inside the source, their transpose inside the panel.
        unsafe { transpose((from, source.ld), (dst, BLOCK), lines, depth) };
    }
}

/// Writes the transpose of a matrix of `rows` by `columns` between leading dimensions.
///
/// # Safety
/// The matrix is readable at `from` and its transpose writable at `to`.
pub(super) unsafe fn transpose(
    from: (*const f32, usize),
    to: (*mut f32, usize),
    rows: usize,
    columns: usize,
) {
    for row in (0..rows).step_by(LINES) {
        for column in (0..columns).step_by(LINES) {
            let from = (from.0.wrapping_add(row * from.1 + column), from.1);
            let to = (to.0.wrapping_add(column * to.1 + row), to.1);
            let (height, width) = ((rows - row).min(LINES), (columns - column).min(LINES));
            // SAFETY: both squares lie inside the matrices.
            unsafe { vector::transpose_square(from, to, height, width) };
        }
    }
}

/// One pass over part of the depth.
struct Pass<'a> {
    left: Matrix<'a>,
    first: usize,
    depth: usize,
    /// The padded bias in the first pass; later ones continue from the result.
    start: Option<&'a Vec<f32>>,
    columns: usize,
}

impl Pass<'_> {
    /// # Safety
    /// `right` is a packed panel, `out` the whole result, of which nobody else uses this block.
    unsafe fn block(&self, row: usize, column: usize, right: *const f32, out: *mut f32) {
        let (line_step, depth_step) = if self.left.strided { (1, self.left.ld) } else { (self.left.ld, 1) };
        let rows = (self.left.lines - row).min(ROWS);
        let columns = (self.columns - column).min(BLOCK);
        let mut aside = [0f32; ROWS * BLOCK];
        // SAFETY: the block lies inside the result; what sticks out of it is computed aside.
        unsafe {
            let out = out.add(row * self.columns + column);
            let (init, init_ld) = match self.start {
                Some(start) => (start.as_ptr().add(column), 0),
                None => (out.cast_const(), self.columns),
            };
            let mut block = Block {
                left: self.left.data.as_ptr().wrapping_add(row * line_step + self.first * depth_step),
                line_step,
                depth_step,
                rows,
                right,
                depth: self.depth,
                init,
                init_ld,
                out,
                out_ld: self.columns,
            };
            if columns < BLOCK {
                if init_ld != 0 {
                    vector::copy_rows((init, init_ld), (aside.as_mut_ptr(), BLOCK), rows, columns);
                    (block.init, block.init_ld) = (aside.as_ptr(), BLOCK);
                }
                (block.out, block.out_ld) = (aside.as_mut_ptr(), BLOCK);
            }
            vector::block_f32(&block);
            if columns < BLOCK {
                vector::copy_rows((aside.as_ptr(), BLOCK), (out, self.columns), rows, columns);
            }
        }
    }
}
