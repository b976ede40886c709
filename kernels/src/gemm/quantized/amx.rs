//! AMX: `tdpbssd` on bytes and `tdpbf16ps` on `bf16`, with one loop for both.

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub(super) use linux::{available, bf16, configure, int8, release};
#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
pub(super) use other::{available, bf16, configure, int8, release};

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
mod other {
    use super::super::kernel::Sums;

    pub(crate) fn available() -> bool {
        false
    }
    pub(crate) unsafe fn configure(_: usize) {}
    pub(crate) unsafe fn release() {}
    pub(crate) unsafe fn int8(_: &Sums) {}
    pub(crate) unsafe fn bf16(_: &Sums) {}
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod linux {
    use std::arch::asm;

    use super::super::kernel::Sums;
    use crate::gemm::amx;
    use crate::gemm::matrix::{LINES, Line};

    pub(in crate::gemm) use crate::gemm::amx::release;

    /// Whether the processor has AMX for bytes and for `bf16` and the system lets this process use it.
    pub(crate) fn available() -> bool {
        const AMX_INT8: u32 = 1 << 25;
        amx::available() && std::arch::x86_64::__cpuid_count(7, 0).edx & AMX_INT8 != 0
    }

    /// Prepares the tiles of this thread: 16 rows of 64 bytes, but only `rows` for the first row panel and its sums
    /// (tiles 4, 0 and 1), so that a single row is not computed sixteen times.
    ///
    /// # Safety
    /// AMX is [`available`]; `rows` is 1 to 16.
    pub(crate) unsafe fn configure(rows: usize) {
        #[repr(C, align(64))]
        struct Config([u8; 64]);
        let mut config = Config([0; 64]);
        config.0[0] = 1;
        for tile in 0..8 {
            config.0[16 + 2 * tile] = 64;
            config.0[48 + tile] = if matches!(tile, 0 | 1 | 4) { rows as u8 } else { LINES as u8 };
        }
        // SAFETY: the configuration is valid for palette 1.
        unsafe {
            asm!("ldtilecfg [{}]", in(reg) &raw const config, options(nostack, readonly, preserves_flags));
        };
    }

    static ZEROS: [Line; 2] = [Line::ZERO; 2];

    macro_rules! tiles {
        ($name:ident, $multiply:literal) => {
            /// Multiplies one block.
            ///
            /// # Safety
            /// As [`Sums`] says, between [`configure`] and [`release`]; above 16 rows after `configure(16)`.
            #[inline]
            #[allow(clippy::too_many_lines)] // Two loops of one instruction a line.
            pub(crate) unsafe fn $name(s: &Sums) {
                const ROW: usize = 128;
                let (start, start_step) =
                    if s.fresh { (ZEROS.as_ptr(), 0) } else { (s.out.cast_const(), ROW) };
                let second = LINES * start_step;
                // SAFETY: reads and writes only what the block describes.
                unsafe {
                    if s.rows > LINES {
                        asm!(
                            "tileloadd tmm0, [{i0} + {si}]",
                            "tileloadd tmm1, [{i0} + {si} + 64]",
                            "tileloadd tmm2, [{i1} + {si}]",
                            "tileloadd tmm3, [{i1} + {si} + 64]",
                            "2:",
                            "tileloadd tmm6, [{b} + {s}]",
                            "tileloadd tmm4, [{a0} + {s}]",
                            concat!($multiply, " tmm0, tmm4, tmm6"),
                            "tileloadd tmm7, [{b} + {s} + 1024]",
                            concat!($multiply, " tmm1, tmm4, tmm7"),
                            "tileloadd tmm5, [{a1} + {s}]",
                            concat!($multiply, " tmm2, tmm5, tmm6"),
                            concat!($multiply, " tmm3, tmm5, tmm7"),
                            "add {a0}, 1024",
                            "add {a1}, 1024",
                            "add {b}, 2048",
                            "dec {n}",
                            "jnz 2b",
                            "tilestored [{c0} + {sc}], tmm0",
                            "tilestored [{c0} + {sc} + 64], tmm1",
                            "tilestored [{c1} + {sc}], tmm2",
                            "tilestored [{c1} + {sc} + 64], tmm3",
                            a0 = inout(reg) s.left => _,
                            a1 = inout(reg) s.left.add(s.left_stride) => _,
                            b = inout(reg) s.right => _,
                            n = inout(reg) s.steps => _,
                            s = in(reg) 64usize,
                            i0 = in(reg) start,
                            i1 = in(reg) start.byte_add(second),
                            si = in(reg) start_step,
                            c0 = in(reg) s.out,
                            c1 = in(reg) s.out.byte_add(LINES * ROW),
                            sc = in(reg) ROW,
                            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                            options(nostack),
                        );
                    } else {
                        asm!(
                            "tileloadd tmm0, [{i0} + {si}]",
                            "tileloadd tmm1, [{i0} + {si} + 64]",
                            "2:",
                            "tileloadd tmm4, [{a0} + {s}]",
                            "tileloadd tmm6, [{b} + {s}]",
                            concat!($multiply, " tmm0, tmm4, tmm6"),
                            "tileloadd tmm7, [{b} + {s} + 1024]",
                            concat!($multiply, " tmm1, tmm4, tmm7"),
                            "add {a0}, 1024",
                            "add {b}, 2048",
                            "dec {n}",
                            "jnz 2b",
                            "tilestored [{c0} + {sc}], tmm0",
                            "tilestored [{c0} + {sc} + 64], tmm1",
                            a0 = inout(reg) s.left => _,
                            b = inout(reg) s.right => _,
                            n = inout(reg) s.steps => _,
                            s = in(reg) 64usize,
                            i0 = in(reg) start,
                            si = in(reg) start_step,
                            c0 = in(reg) s.out,
                            sc = in(reg) ROW,
                            out("tmm0") _, out("tmm1") _, out("tmm4") _, out("tmm6") _, out("tmm7") _,
                            options(nostack),
                        );
                    }
                }
            }
        };
    }

    tiles!(int8, "tdpbssd");
    tiles!(bf16, "tdpbf16ps");
}
