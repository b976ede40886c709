//! One block of tiles, and the right of a thread to multiply it.

use super::super::matrix::{LINES, Line};
use super::{Path, amx};

/// Rows and columns of a block of sums: two tiles by two.
pub(super) const BLOCK: usize = 2 * LINES;

/// What a tile holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// 16 lines by 64 depths of `i8`, sums in `i32`.
    Int8,
    /// 16 lines by 32 depths of `bf16`, sums in `f32`.
    Bf16,
}

/// 1 to 32 rows by 32 columns of sums over `steps` tiles of depth.
///
/// A left tile is 16 rows of 64 bytes along the depth; a panel is the tiles of 16 rows, one after the other. A right
/// tile is 16 lines of 16 words, a word being the 4 bytes of one column at neighbouring depths. `right` holds two
/// tiles (32 columns) for each step. Sums are 32 words a row; rows past `rows` may be written, up to 32.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sums {
    pub(super) left: *const Line,
    /// Lines from the first row panel to the second, which is there when `rows` is above 16.
    pub(super) left_stride: usize,
    pub(super) rows: usize,
    pub(super) right: *const Line,
    pub(super) steps: usize,
    /// Whether the sums start from zero or from what `out` holds.
    pub(super) fresh: bool,
    pub(super) out: *mut Line,
}

/// The right to use this thread's kernels: AMX tiles are configured while it lives. Nothing may wait for other threads
/// meanwhile: this thread could then run another product, whose session would end this one.
pub(super) struct Session {
    path: Path,
    kind: Kind,
}

impl Session {
    /// For products of that many rows in all.
    pub(super) fn new(path: Path, kind: Kind, rows: usize) -> Self {
        if path == Path::Amx {
            // SAFETY: the path is only chosen where AMX is available.
            unsafe { amx::configure(rows.clamp(1, LINES)) };
        }
        Self { path, kind }
    }

    /// Multiplies one block.
    ///
    /// # Safety
    /// As [`Sums`] says, with no more rows than this session is for.
    #[inline]
    pub(super) unsafe fn add(&self, sums: &Sums) {
        // SAFETY: the caller's promise; the path was found to be available, and its tiles are configured.
        unsafe {
            match (self.path, self.kind) {
                (Path::Amx, Kind::Int8) => amx::int8(sums),
                (Path::Amx, Kind::Bf16) => amx::bf16(sums),
                #[cfg(target_arch = "x86_64")]
                (Path::Vnni, Kind::Int8) => super::vnni::int8(sums),
                #[cfg(target_arch = "x86_64")]
                (Path::Avx2, Kind::Int8) => super::avx2::int8(sums),
                (_, Kind::Int8) => super::portable::int8(sums),
                (_, Kind::Bf16) => super::portable::bf16(sums),
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.path == Path::Amx {
            // SAFETY: as above; no tile is live between blocks.
            unsafe { amx::release() };
        }
    }
}
