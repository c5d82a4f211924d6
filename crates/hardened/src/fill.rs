//! Bytes of a slot: zeroed, and looked at.

/// Bytes that are worked on at a time; all slots are multiples of it.
const STEP: usize = 16;

/// Zeroes `bytes`, a multiple of 16 above 0, from `start`.
///
/// # Safety
/// - The range may be written and is nobody else's; `start` is aligned to 16.
#[inline(always)]
pub(crate) unsafe fn zero(start: *mut u8, bytes: usize) {
    debug_assert!(bytes > 0 && bytes.is_multiple_of(STEP) && start.addr().is_multiple_of(STEP));
    #[cfg(not(target_arch = "x86_64"))]
    // SAFETY: the caller's promise.
    unsafe {
        start.write_bytes(0, bytes);
    }
    #[cfg(target_arch = "x86_64")]
    // SAFETY: stores 16 bytes at a time from the range's start to its end, which is a whole number
    // of steps away. In assembly since a compiler makes a call of memset of any other loop, and a call
    // costs the hot path its frame.
    unsafe {
        core::arch::asm!(
            "xorps {zero}, {zero}",
            "2:",
            "movaps xmmword ptr [{at}], {zero}",
            "add {at}, 16",
            "cmp {at}, {end}",
            "jb 2b",
            zero = out(xmm_reg) _,
            at = inout(reg) start => _,
            end = in(reg) start.wrapping_add(bytes),
            options(nostack),
        );
    }
}

/// Whether all of `bytes`, a multiple of 16 above 0, from `start` are 0.
///
/// # Safety
/// - The range may be read, and nobody writes to it now; `start` is aligned to 16.
#[inline(always)]
pub(crate) unsafe fn is_zero(start: *const u8, bytes: usize) -> bool {
    debug_assert!(bytes > 0 && bytes.is_multiple_of(STEP) && start.addr().is_multiple_of(STEP));
    #[cfg(target_arch = "x86_64")]
    {
        let unset: u32;
        // SAFETY: reads 16 bytes at a time from the range's start to its end, which is a whole
        // number of steps away, at least one.
        unsafe {
            core::arch::asm!(
                "pxor {seen}, {seen}",
                "pxor {zero}, {zero}",
                "2:",
                "por {seen}, xmmword ptr [{at}]",
                "add {at}, 16",
                "cmp {at}, {end}",
                "jb 2b",
                "pcmpeqb {seen}, {zero}",
                "pmovmskb {unset:e}, {seen}",
                seen = out(xmm_reg) _,
                zero = out(xmm_reg) _,
                unset = lateout(reg) unset,
                at = inout(reg) start => _,
                end = in(reg) start.wrapping_add(bytes),
                options(nostack, readonly),
            );
        }
        unset == 0xFFFF
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let mut at = start.cast::<[u64; 2]>();
        let end = start.wrapping_add(bytes).cast::<[u64; 2]>();
        let mut seen = [0u64; 2];
        while at < end {
            // SAFETY: inside the range, aligned to 16.
            let here = unsafe { at.read() };
            seen[0] |= here[0];
            seen[1] |= here[1];
            at = at.wrapping_add(1);
        }
        seen[0] | seen[1] == 0
    }
}

/// Distance of the first byte from `start` that is not 0, among `bytes`.
///
/// # Safety
/// - The range may be read.
#[cold]
pub(crate) unsafe fn first_set(start: *const u8, bytes: usize) -> Option<usize> {
    (0..bytes).find(|distance| {
        // SAFETY: inside the range. Volatile: another thread may be writing there, wrongly.
        (unsafe { start.wrapping_add(*distance).read_volatile() }) != 0
    })
}

#[cfg(test)]
mod tests {
    use super::{first_set, is_zero, zero};

    #[repr(align(16))]
    struct Slot([u8; 1024 + 16]);

    #[test]
    fn whole_ranges_are_zeroed_and_one_byte_is_seen() {
        for bytes in [16, 32, 48, 64, 256, 512, 528, 1024] {
            let mut slot = Slot([7; 1024 + 16]);
            let start = slot.0.as_mut_ptr();
            // SAFETY: the range is inside the array.
            unsafe { zero(start, bytes) };
            assert!(slot.0[..bytes].iter().all(|byte| *byte == 0));
            assert_eq!(slot.0[bytes], 7, "{bytes}");
            for distance in [0, 7, bytes / 2, bytes - 1] {
                slot.0[distance] = 1;
                let start = slot.0.as_ptr();
                // SAFETY: inside the array.
                assert!(!unsafe { is_zero(start, bytes) });
                // SAFETY: inside the array.
                assert_eq!(unsafe { first_set(start, bytes) }, Some(distance));
                slot.0[distance] = 0;
            }
            // SAFETY: inside the array.
            assert!(unsafe { is_zero(slot.0.as_ptr(), bytes) });
        }
    }
}
