//! AMX: `tdpbssd` multiplies a tile of 16 rows by up to 64 depths of bytes with one of as many depths by 16 columns.

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub(super) use linux::{available, configure, int4, int8, release};
#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
pub(super) use other::{available, configure, int4, int8, release};

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
mod other {
    use super::super::super::kernel::Between;
    use super::super::kernel::{Groups, Kind, Sums};

    pub(crate) fn available() -> bool {
        false
    }
    pub(crate) unsafe fn configure(_: Kind, _: usize) {}
    pub(crate) unsafe fn release() {}
    pub(crate) unsafe fn int8(_: &Sums, _: &mut impl Between) {}
    pub(crate) unsafe fn int4(_: &Groups) {}
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod linux {
    use std::arch::asm;
    use std::arch::x86_64::{
        __m512, _mm512_cvtepi32_ps, _mm512_fmadd_ps, _mm512_load_ps, _mm512_load_si512, _mm512_setzero_ps,
        _mm512_store_ps,
    };

    use super::super::super::kernel::Between;
    use super::super::int4::HALF;
    use super::super::kernel::{BLOCK, Groups, Kind, Sums, fetch};
    use super::super::vnni;
    use crate::gemm::amx;
    use crate::gemm::matrix::{LINES, Line};

    pub(in crate::gemm) use crate::gemm::amx::release;

    /// Whether the processor has AMX for bytes and the system lets this process use it.
    pub(crate) fn available() -> bool {
        const AMX_INT8: u32 = 1 << 25;
        amx::available() && vnni::available() && std::arch::x86_64::__cpuid_count(7, 0).edx & AMX_INT8 != 0
    }

    /// Prepares the tiles of this thread, with `rows` rows for the first row panel and its sums, so that a few rows are
    /// not computed as sixteen.
    ///
    /// - 8 bits: sums 0 to 3, left 4 and 5, right 6 and 7, all of 64 bytes; 0, 1 and 4 belong to the first row panel.
    /// - 4 bits: sums 0 to 3, left 4 and 5 of 32 bytes, right 6 and 7 of 8 lines.
    ///
    /// # Safety
    /// AMX is [`available`]; `rows` is 1 to 16.
    pub(crate) unsafe fn configure(kind: Kind, rows: usize) {
        #[repr(C, align(64))]
        struct Config([u8; 64]);
        let mut config = Config([0; 64]);
        config.0[0] = 1;
        for tile in 0..8 {
            let (bytes, lines) = match (kind, tile) {
                (Kind::Int8, 0 | 1 | 4) | (Kind::Int4, 0..4) => (64, rows),
                (Kind::Int8, _) => (64, LINES),
                (Kind::Int4, 4 | 5) => (HALF, rows),
                (Kind::Int4, _) => (64, LINES / 2),
            };
            config.0[16 + 2 * tile] = bytes as u8;
            config.0[48 + tile] = lines as u8;
        }
        // SAFETY: the configuration is valid for palette 1.
        unsafe {
            asm!("ldtilecfg [{}]", in(reg) &raw const config, options(nostack, readonly, preserves_flags));
        };
    }

    /// Bytes of a row of sums.
    const ROW: usize = 128;

    /// Multiplies one block of bytes, and calls `between` after each step.
    ///
    /// # Safety
    /// As [`Sums`] says, after `configure` for bytes and as many rows (16 if there are more), before [`release`].
    #[inline(always)]
    #[allow(clippy::inline_always)] // As for `begin` and its like in `gemm::amx`: what runs between is vector code.
    pub(crate) unsafe fn int8(s: &Sums, between: &mut impl Between) {
        let two = s.rows > LINES;
        let second = s.out.wrapping_byte_add(LINES * ROW);
        // SAFETY: reads and writes only what the block describes.
        unsafe {
            if s.fresh {
                asm!("tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3",
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _, options(nostack));
            } else {
                asm!("tileloadd tmm0, [{c} + {r}]", "tileloadd tmm1, [{c} + {r} + 64]",
                    c = in(reg) s.out, r = in(reg) ROW, out("tmm0") _, out("tmm1") _, options(nostack));
                if two {
                    asm!("tileloadd tmm2, [{c} + {r}]", "tileloadd tmm3, [{c} + {r} + 64]",
                        c = in(reg) second, r = in(reg) ROW, out("tmm2") _, out("tmm3") _, options(nostack));
                }
            }
            for step in 0..s.steps {
                let (left, right) = (s.left.add(step * s.height), s.right.add(step * BLOCK));
                asm!(
                    "tileloadd tmm6, [{b} + {s}]",
                    "tileloaddt1 tmm4, [{a} + {s}]",
                    "tdpbssd tmm0, tmm4, tmm6",
                    "tileloadd tmm7, [{b} + {s} + 1024]",
                    "tdpbssd tmm1, tmm4, tmm7",
                    a = in(reg) left, b = in(reg) right, s = in(reg) 64usize,
                    out("tmm0") _, out("tmm1") _, out("tmm4") _, out("tmm6") _, out("tmm7") _,
                    options(nostack),
                );
                if two {
                    asm!(
                        "tileloaddt1 tmm5, [{a} + {s}]",
                        "tdpbssd tmm2, tmm5, tmm6",
                        "tdpbssd tmm3, tmm5, tmm7",
                        a = in(reg) left.add(s.left_stride), s = in(reg) 64usize,
                        out("tmm2") _, out("tmm3") _, out("tmm5") _,
                        options(nostack),
                    );
                }
                fetch(s.next.wrapping_add(step * s.fetch), s.fetch);
                between.step();
            }
            asm!("tilestored [{c} + {r}], tmm0", "tilestored [{c} + {r} + 64], tmm1",
                c = in(reg) s.out, r = in(reg) ROW, options(nostack));
            if two {
                asm!("tilestored [{c} + {r}], tmm2", "tilestored [{c} + {r} + 64], tmm3",
                    c = in(reg) second, r = in(reg) ROW, options(nostack));
            }
        }
    }

    /// Integer sums of a group on their way from the tiles to the vector unit.
    #[repr(C, align(64))]
    struct Sixteen([Line; LINES]);

    /// Multiplies some groups.
    ///
    /// # Safety
    /// As [`Groups`] says, after `configure` for groups and before [`release`].
    pub(crate) unsafe fn int4(g: &Groups) {
        // SAFETY: the caller's promise; AVX-512 is there, as `available` says.
        unsafe { if g.height > LINES / 2 { rows::<LINES>(g) } else { rows::<{ LINES / 2 }>(g) } }
    }

    /// Four groups are under way at a time, each with tiles and memory of its own for its sums: while the tiles multiply
    /// one, the sums of the one before are multiplied by the vector unit, and those of the two between are stored.
    #[target_feature(enable = "avx512f")]
    unsafe fn rows<const R: usize>(g: &Groups) {
        let mut ring = [const { Sixteen([Line::ZERO; LINES]) }; 4];
        let ring = ring.each_mut().map(|sums| sums.0.as_mut_ptr());
        let mut sums = [_mm512_setzero_ps(); R];
        // SAFETY: the caller's promise.
        unsafe {
            if !g.fresh {
                for row in 0..R {
                    sums[row] = _mm512_load_ps(g.out.add(row * BLOCK));
                }
            }
            macro_rules! multiply {
                ($group:expr, $half:literal, $sums:tt, $left:tt, $right:tt) => {
                    asm!(
                        concat!("tilezero ", $sums),
                        concat!("tileloadd ", $left, ", [{a} + {s} + ", $half, "]"),
                        concat!("tileloadd ", $right, ", [{b} + {s}]"),
                        concat!("tdpbssd ", $sums, ", ", $left, ", ", $right),
                        a = in(reg) g.left.add($group / 2 * g.height),
                        b = in(reg) g.right.add($group * LINES / 2),
                        s = in(reg) 64usize,
                        out($sums) _, out($left) _, out($right) _,
                        options(nostack),
                    )
                };
            }
            macro_rules! store {
                ($sums:tt, $to:expr) => {
                    asm!(
                        concat!("tilestored [{c} + {s}], ", $sums),
                        c = in(reg) $to, s = in(reg) 64usize, options(nostack),
                    )
                };
            }
            // Group `at` is multiplied, `at - 3` stored and `at - 4` added; there are four empty turns at the end.
            let mut at = 0;
            while at < g.count + 4 {
                macro_rules! turn {
                    ($turn:literal, $half:literal, $sums:tt, $left:tt, $right:tt, $stored:tt) => {
                        let group = at + $turn;
                        if (3..g.count + 3).contains(&group) {
                            store!($stored, ring[($turn + 1) % 4]);
                        }
                        if (4..g.count + 4).contains(&group) {
                            add(ring[$turn], g.scales.add((group - 4) * LINES), &mut sums);
                        }
                        if group < g.count {
                            multiply!(group, $half, $sums, $left, $right);
                        }
                    };
                }
                turn!(0, 0, "tmm0", "tmm4", "tmm6", "tmm1");
                turn!(1, 32, "tmm1", "tmm5", "tmm7", "tmm2");
                turn!(2, 0, "tmm2", "tmm4", "tmm6", "tmm3");
                turn!(3, 32, "tmm3", "tmm5", "tmm7", "tmm0");
                at += 4;
            }
            for row in 0..R {
                _mm512_store_ps(g.out.add(row * BLOCK), sums[row]);
            }
        }
    }

    /// `sums += from · scales`
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn add<const R: usize>(from: *const Line, scales: *const f32, sums: &mut [__m512; R]) {
        // SAFETY: the caller has sixteen scales and as many lines of sixteen words.
        unsafe {
            let scales = _mm512_load_ps(scales);
            for row in 0..R {
                let of_group = _mm512_cvtepi32_ps(_mm512_load_si512(from.add(row).cast()));
                sums[row] = _mm512_fmadd_ps(of_group, scales, sums[row]);
            }
        }
    }
}
