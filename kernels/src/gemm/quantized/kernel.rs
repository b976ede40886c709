//! What the kernels multiply, and the right of a thread to multiply with AMX.

use super::super::matrix::{LINES, Line};
use super::amx;

/// Rows and columns of a block of results: two tiles by two.
pub(super) const BLOCK: usize = 2 * LINES;
/// Depth of a left tile: a line of bytes.
pub(super) const DEPTH: usize = 64;
/// Most rows of a [`Strip`].
pub(super) const STRIP: usize = 8;

/// A few rows by 32 columns over the whole depth: what the kernels of the vector units multiply.
///
/// A row has one line of 64 depths for each step. A right tile is lines of 16 words, a word being the 4 bytes of one
/// column at neighbouring depths.
#[derive(Debug, Clone, Copy)]
pub(super) struct Strip {
    /// The first line of the first row; the others follow.
    pub(super) left: *const Line,
    /// Lines from one step to the next.
    pub(super) height: usize,
    /// 1, 2, 4 or 8.
    pub(super) rows: usize,
    /// Σ x of each row.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))] // Only VNNI needs it.
    pub(super) totals: *const i32,
    /// −8 Σ x of each group of the first row; the other rows follow.
    pub(super) excess: *const i32,
    /// Groups of a row.
    pub(super) groups: usize,
    /// Steps of 64 depths.
    pub(super) steps: usize,
    /// Two tiles a step (8 bits), or a unit a group (4 bits).
    pub(super) right: *const Line,
    /// Whether they have just been used, by other rows.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))] // As above.
    pub(super) again: bool,
    /// Rows of 32 words: integer sums (8 bits), or sums in `f32` but for the scale of the row (4 bits).
    pub(super) out: *mut Line,
}

#[cfg(target_arch = "aarch64")]
impl Strip {
    /// Four of its rows, from `row` on.
    pub(super) fn four(&self, row: usize) -> Self {
        Self {
            left: self.left.wrapping_add(row),
            rows: 4,
            totals: self.totals.wrapping_add(row),
            excess: self.excess.wrapping_add(row * self.groups),
            out: self.out.wrapping_add(2 * row),
            ..*self
        }
    }
}

/// 1 to 32 rows by 32 columns of 8-bit sums over `steps` tiles of depth, for AMX.
///
/// A panel is the tiles of 16 rows, one after the other. Sums are 32 words of `i32` a row; rows past `rows` may be
/// written, up to 32.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))] // Only AMX needs it.
pub(super) struct Sums {
    pub(super) left: *const Line,
    /// Lines of a tile of the first row panel.
    pub(super) height: usize,
    /// Lines from the first row panel to the second, which is there when `rows` is above 16.
    pub(super) left_stride: usize,
    pub(super) rows: usize,
    /// Two tiles a step.
    pub(super) right: *const Line,
    pub(super) steps: usize,
    /// Whether the sums start from zero or from what `out` holds.
    pub(super) fresh: bool,
    pub(super) out: *mut Line,
    /// Lines that will be needed later: so many are fetched with each step.
    pub(super) next: *const Line,
    pub(super) fetch: usize,
}

/// Up to 16 rows by 16 columns of 4-bit products over some groups, for AMX: `out += Σ scale · (integer sum of the group)`.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))] // Only AMX needs it.
pub(super) struct Groups {
    /// The tile that the first group, an even one, lies in; the next group is the other half of it.
    pub(super) left: *const Line,
    /// Lines of a tile.
    pub(super) height: usize,
    /// Half a tile a group: eight lines.
    pub(super) right: *const Line,
    /// 16 a group.
    pub(super) scales: *const f32,
    pub(super) count: usize,
    /// Whether the sums start from zero or from what `out` holds.
    pub(super) fresh: bool,
    /// Rows of 32 `f32`, of which 16 are used.
    pub(super) out: *mut f32,
}

/// Which tiles AMX multiplies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// 64 depths.
    Int8,
    /// 32 depths: a group.
    Int4,
}

/// The right to use AMX on this thread: its tiles are configured while it lives. Nothing may wait for other threads
/// meanwhile: this thread could then run another product, whose session would end this one.
pub(super) struct Session(());

impl Session {
    /// For products of that many rows in all.
    ///
    /// # Safety
    /// AMX is available.
    pub(super) unsafe fn new(kind: Kind, rows: usize) -> Self {
        // SAFETY: the caller's promise.
        unsafe { amx::configure(kind, rows.clamp(1, LINES)) };
        Self(())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // SAFETY: AMX was available to configure it; no tile is live between blocks.
        unsafe { amx::release() };
    }
}

/// Asks for `lines` lines from `from` on.
#[inline]
pub(super) fn fetch(from: *const Line, lines: usize) {
    for line in 0..lines {
        super::super::fetch(from.wrapping_add(line));
    }
}
