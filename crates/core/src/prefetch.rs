//! Asking the processor for a cache line before it is needed.

/// Asks for the line of `place`, to be read soon. Touches nothing: any address will do, and where
/// there is no such instruction nothing happens.
///
/// Of use where addresses are known some hundred instructions ahead and lie beyond the cache: see
/// the batched look-up of `HandlePool` and its figures in `docs/design/regions.md`.
#[inline(always)]
pub fn prefetch_read<T>(place: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint to the cache; it neither faults nor changes anything.
    unsafe {
        core::arch::asm!("prefetcht0 [{}]", in(reg) place, options(nostack, preserves_flags, readonly));
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above.
    unsafe {
        core::arch::asm!("prfm pldl1keep, [{}]", in(reg) place, options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = place;
}
