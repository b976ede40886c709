//! Intel AMX: `tdpbf16ps` multiplies a 16 x 32 tile by a 32 x 16 tile.
//!
//! Reference: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 1, chapter 18.

use super::kernel::Block;

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub(super) use linux::{advance, available, begin, block, configure, end, release};

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
mod other {
    use super::Block;

    pub(crate) fn available() -> bool {
        false
    }
    pub(crate) unsafe fn configure() {}
    pub(crate) unsafe fn release() {}
    pub(crate) unsafe fn block(_: &Block) {}
    pub(crate) unsafe fn begin(_: &Block) {}
    pub(crate) unsafe fn advance(_: &Block, _: usize) {}
    pub(crate) unsafe fn end(_: &Block) {}
}
#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
pub(super) use other::{advance, available, begin, block, configure, end, release};

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
#[allow(clippy::inline_always)] // A step is a few instructions of a loop.
mod linux {
    use std::arch::asm;

    use super::Block;
    use crate::gemm::avx512;
    use crate::gemm::kernel::ZEROS;
    use crate::gemm::matrix::{LINES, Line};

    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_long = 18;

    /// All eight tiles 16 rows of 64 bytes, palette 1.
    #[repr(C, align(64))]
    struct Config([u8; 64]);

    static CONFIG: Config = {
        let mut bytes = [0; 64];
        bytes[0] = 1;
        let mut tile = 0;
        while tile < 8 {
            bytes[16 + 2 * tile] = 64;
            bytes[48 + tile] = 16;
            tile += 1;
        }
        Config(bytes)
    };

    /// Whether the processor has AMX for `bf16` and the system lets this process use it.
    pub(crate) fn available() -> bool {
        const AMX_BF16: u32 = 1 << 22;
        const AMX_TILE: u32 = 1 << 24;
        // The packing for AMX uses the AVX-512 conversions, which come with it.
        if !avx512::available() || !std::arch::is_x86_feature_detected!("avx512bf16") {
            return false;
        }
        let features = std::arch::x86_64::__cpuid_count(7, 0).edx;
        if features & AMX_BF16 == 0 || features & AMX_TILE == 0 {
            return false;
        }
        // SAFETY: the call has no effect on memory; it only asks for permission, and may refuse.
        unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
    }

    /// Prepares the tiles of this thread.
    ///
    /// # Safety
    /// AMX is [`available`].
    pub(crate) unsafe fn configure() {
        // SAFETY: the configuration is valid for palette 1.
        unsafe {
            asm!("ldtilecfg [{}]", in(reg) &raw const CONFIG, options(nostack, readonly, preserves_flags));
        };
    }

    /// Gives the tiles back, so that context switches need not save them.
    ///
    /// # Safety
    /// AMX is [`available`].
    pub(crate) unsafe fn release() {
        // SAFETY: no tile is live between blocks.
        unsafe { asm!("tilerelease", options(nostack, nomem, preserves_flags)) };
    }

    /// Multiplies one block.
    ///
    /// # Safety
    /// As [`Block`] says, between [`configure`] and [`release`].
    #[inline]
    pub(crate) unsafe fn block(b: &Block) {
        // SAFETY: the caller's promise.
        unsafe {
            if b.rows <= LINES {
                return one_panel(b);
            }
            begin(b);
            for step in 0..b.steps {
                advance(b, step);
            }
            end(b);
        }
    }

    /// Starts a block of more than 16 rows that the caller carries on step by step, doing something else between the steps:
    /// the tiles work beside the vector units. The tiles hold the sums until [`end`].
    ///
    /// # Safety
    /// As [`Block`] says, between [`configure`] and [`release`]; nothing else uses the tiles before the [`end`].
    #[inline(always)]
    pub(crate) unsafe fn begin(b: &Block) {
        // SAFETY: reads only what the block describes.
        unsafe {
            if std::ptr::eq(b.init, ZEROS.0.as_ptr()) {
                asm!("tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3",
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    options(nostack, nomem, preserves_flags));
                return;
            }
            asm!(
                "tileloadd tmm0, [{i0} + {si}]",
                "tileloadd tmm1, [{i0} + {si} + 64]",
                "tileloadd tmm2, [{i1} + {si}]",
                "tileloadd tmm3, [{i1} + {si} + 64]",
                i0 = in(reg) b.init,
                i1 = in(reg) b.init.add(LINES * b.init_ld),
                si = in(reg) b.init_ld * 4,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                options(nostack, readonly, preserves_flags),
            );
        }
    }

    /// Step `step` of a block that has begun.
    ///
    /// `tileloaddt1` reads past the first-level cache: what is used once a block must not drive out what the next block
    /// needs again. A loop like this one ran at 3.5 TFLOP/s with it and at 2.6 without, on one Sapphire Rapids core.
    ///
    /// # Safety
    /// As [`begin`] says; `step` is one of the block's.
    #[inline(always)]
    pub(crate) unsafe fn advance(b: &Block, step: usize) {
        macro_rules! step {
            ($load_right:literal) => {
                asm!(
                    "tileloaddt1 tmm4, [{a0} + {s}]",
                    concat!($load_right, " tmm6, [{b0} + {s}]"),
                    "tdpbf16ps tmm0, tmm4, tmm6",
                    concat!($load_right, " tmm7, [{b1} + {s}]"),
                    "tdpbf16ps tmm1, tmm4, tmm7",
                    "tileloaddt1 tmm5, [{a1} + {s}]",
                    "tdpbf16ps tmm2, tmm5, tmm6",
                    "tdpbf16ps tmm3, tmm5, tmm7",
                    a0 = in(reg) b.left.add(step * LINES),
                    a1 = in(reg) b.left.add(b.left_stride + step * LINES),
                    b0 = in(reg) b.right[0].add(step * LINES),
                    b1 = in(reg) b.right[1].add(step * LINES),
                    s = in(reg) 64usize,
                    out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nostack, readonly, preserves_flags),
                )
            };
        }
        // SAFETY: reads only what the block describes.
        unsafe {
            if b.right_again {
                step!("tileloadd");
            } else {
                step!("tileloaddt1");
            }
        }
    }

    /// Stores the sums of a block that has begun.
    ///
    /// # Safety
    /// As [`begin`] says.
    #[inline(always)]
    pub(crate) unsafe fn end(b: &Block) {
        // SAFETY: writes only what the block describes.
        unsafe {
            asm!(
                "tilestored [{c0} + {sc}], tmm0",
                "tilestored [{c0} + {sc} + 64], tmm1",
                "tilestored [{c1} + {sc}], tmm2",
                "tilestored [{c1} + {sc} + 64], tmm3",
                c0 = in(reg) b.out,
                c1 = in(reg) b.out.add(LINES * b.out_ld),
                sc = in(reg) b.out_ld * 4,
                options(nostack, preserves_flags),
            );
        }
    }

    /// Bytes between what is multiplied and what is fetched from memory.
    const FETCH_AHEAD: usize = 4096;

    /// Asks for the tile of a right panel that comes [`FETCH_AHEAD`] bytes after `tile`.
    #[inline(always)]
    fn fetch_ahead(tile: *const Line) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let ahead = tile.wrapping_byte_add(FETCH_AHEAD);
        for line in 0..LINES {
            // SAFETY: prefetching has no effect but on the cache, whatever the address.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(ahead.wrapping_add(line).cast()) };
        }
    }

    /// Up to 16 rows. There is little to multiply: where the right panels come from memory, they should come as fast as it
    /// delivers them (31 GB/s on two cores with the fetching ahead, 29 without, 32 for reading alone).
    #[inline]
    unsafe fn one_panel(b: &Block) {
        // SAFETY: reads and writes only what the block describes.
        unsafe {
            asm!(
                "tileloadd tmm0, [{i0} + {si}]",
                "tileloadd tmm1, [{i0} + {si} + 64]",
                i0 = in(reg) b.init,
                si = in(reg) b.init_ld * 4,
                out("tmm0") _, out("tmm1") _,
                options(nostack, readonly, preserves_flags),
            );
            for step in 0..b.steps {
                let right = b.right.map(|panel| panel.wrapping_add(step * LINES));
                if !b.right_again {
                    right.into_iter().for_each(fetch_ahead);
                }
                asm!(
                    "tileloadd tmm4, [{a0} + {s}]",
                    "tileloadd tmm6, [{b0} + {s}]",
                    "tdpbf16ps tmm0, tmm4, tmm6",
                    "tileloadd tmm7, [{b1} + {s}]",
                    "tdpbf16ps tmm1, tmm4, tmm7",
                    a0 = in(reg) b.left.add(step * LINES),
                    b0 = in(reg) right[0],
                    b1 = in(reg) right[1],
                    s = in(reg) 64usize,
                    out("tmm4") _, out("tmm6") _, out("tmm7") _,
                    options(nostack, readonly, preserves_flags),
                );
            }
            asm!(
                "tilestored [{c0} + {sc}], tmm0",
                "tilestored [{c0} + {sc} + 64], tmm1",
                c0 = in(reg) b.out,
                sc = in(reg) b.out_ld * 4,
                options(nostack, preserves_flags),
            );
        }
    }
}
