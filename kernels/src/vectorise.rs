//! Plain loops, compiled for wider vectors than the build promises.

/// Runs `work` compiled with AVX2 where the processor has it, else as the build is.
///
/// Only what is inlined into `work` gains: give it as `#[inline(always)] || ..`, calling `#[inline(always)]` functions and
/// plain loops. No fused multiply-add is enabled, so that floating-point results are the same everywhere.
pub fn vectorised<R>(work: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
        fn with_avx2<R>(work: impl FnOnce() -> R) -> R {
            work()
        }
        if is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("bmi2")
            && is_x86_feature_detected!("lzcnt")
            && is_x86_feature_detected!("popcnt")
        {
            // SAFETY: the processor has every feature that the function enables.
            return unsafe { with_avx2(work) };
        }
    }
    work()
}
