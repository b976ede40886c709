//! From `f32` matrices to `bf16` tiles.
//!
//! A tile holds 16 lines by 32 depths, 1 KiB. The left operand stores it line by line; the right one
//! stores it as 16 pairs of neighbouring depths, each pair for all 16 lines (the layout that AMX calls
//! VNNI). Taken as 16 x 16 words of two `bf16`, one is the transpose of the other. A panel is the tiles
//! of 16 lines along the depth; lines and depths beyond the matrix are zero.

use std::ops::Range;

use super::Path;
#[cfg(target_arch = "x86_64")]
use super::avx512;
use super::matrix::{BLOCK, DEPTH, LINES, Line, Matrix};
use super::parallel::{self, Shared};
use super::portable;

/// Which operand a tile is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Right,
}

/// Packs a whole right operand, over several threads if it is large.
pub(super) fn right(path: Path, source: Matrix<'_>, tiles: &mut [Line]) {
    // Packing runs at about the speed of memory: read four bytes, write two.
    let threads = parallel::threads_for((source.lines * source.depth) as f64 / 3.0);
    let panels = source.lines.div_ceil(BLOCK) * 2;
    let panel_len = source.steps() * LINES;
    assert!(tiles.len() >= panels * panel_len);
    let shared = Shared::new(tiles.as_mut_ptr());
    parallel::run(threads, |index| {
        let range = parallel::part(panels, threads, index);
        // SAFETY: the parts are disjoint and end within `tiles`.
        let part = unsafe {
            std::slice::from_raw_parts_mut(shared.get().add(range.start * panel_len), range.len() * panel_len)
        };
        panels_of(path, Side::Right, source, range, part);
    });
}

/// Packs the panels `range` of `source` into `tiles`.
pub(super) fn panels_of(path: Path, side: Side, source: Matrix<'_>, range: Range<usize>, tiles: &mut [Line]) {
    let steps = source.steps();
    assert!(tiles.len() >= range.len() * steps * LINES);
    let dst = tiles.as_mut_ptr();
    let tile = |panel: usize, step: usize| {
        let spot = Spot::new(&source, panel * LINES, step * DEPTH);
        // SAFETY: the tile lies within `tiles` (asserted), the spot within the source.
        unsafe {
            let dst = dst.add(((panel - range.start) * steps + step) * LINES);
            match path {
                #[cfg(target_arch = "x86_64")]
                Path::Amx | Path::Avx512Bf16 => avx512::pack_tile(spot, side, dst),
                #[cfg(target_arch = "x86_64")]
                Path::Avx512 => avx512::pack_tile_basic(spot, side, dst),
                _ => portable::pack_tile(spot, side, dst),
            }
        }
    };
    // Walk the source along its rows.
    if source.strided {
        (0..steps).for_each(|step| range.clone().for_each(|panel| tile(panel, step)));
    } else {
        range.clone().for_each(|panel| (0..steps).for_each(|step| tile(panel, step)));
    }
}

/// Where a tile comes from: the part of it that lies inside the matrix.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spot {
    pub(super) ptr: *const f32,
    pub(super) ld: usize,
    pub(super) strided: bool,
    /// At most 16; 0 when the panel is padding.
    pub(super) lines: usize,
    /// At most 32.
    pub(super) depth: usize,
}

impl Spot {
    fn new(source: &Matrix<'_>, line: usize, depth: usize) -> Self {
        let (line_step, depth_step) = if source.strided { (1, source.ld) } else { (source.ld, 1) };
        let ptr = source.data.as_ptr().wrapping_add(line * line_step + depth * depth_step);
        Self {
            ptr,
            ld: source.ld,
            strided: source.strided,
            lines: source.lines.saturating_sub(line).min(LINES),
            depth: source.depth.saturating_sub(depth).min(DEPTH),
        }
    }
}
