//! One pointer a thread, in initial-exec thread-local storage: two instructions to read, no
//! call, no allocation, valid before constructors and after destructors.

use core::ptr;

use crate::thread::ThreadBlock;

core::arch::global_asm!(
    ".pushsection .tbss,\"awT\",@nobits",
    ".p2align 3",
    ".globl heapwright_guard_thread_0_1",
    ".hidden heapwright_guard_thread_0_1",
    ".type heapwright_guard_thread_0_1, @object",
    "heapwright_guard_thread_0_1:",
    ".zero 8",
    ".size heapwright_guard_thread_0_1, 8",
    ".popsection",
);

/// What the pointer says of a thread that has no block any more.
pub(crate) const ENDED: *mut ThreadBlock = ptr::without_provenance_mut(1);

/// The calling thread's pointer: null at first.
#[inline(always)]
pub(crate) fn get() -> *mut ThreadBlock {
    let value: *mut ThreadBlock;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: reads the calling thread's own copy of the variable defined above.
    unsafe {
        core::arch::asm!(
            "mov {0}, qword ptr [rip + heapwright_guard_thread_0_1@GOTTPOFF]",
            "mov {0}, qword ptr fs:[{0}]",
            out(reg) value,
            options(readonly, nostack, preserves_flags),
        );
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above.
    unsafe {
        core::arch::asm!(
            "mrs {0}, tpidr_el0",
            "adrp {1}, :gottprel:heapwright_guard_thread_0_1",
            "ldr {1}, [{1}, :gottprel_lo12:heapwright_guard_thread_0_1]",
            "ldr {0}, [{0}, {1}]",
            out(reg) value,
            out(reg) _,
            options(readonly, nostack, preserves_flags),
        );
    }
    value
}

/// Sets the calling thread's pointer.
#[inline]
pub(crate) fn set(value: *mut ThreadBlock) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: writes the calling thread's own copy of the variable defined above.
    unsafe {
        core::arch::asm!(
            "mov {0}, qword ptr [rip + heapwright_guard_thread_0_1@GOTTPOFF]",
            "mov qword ptr fs:[{0}], {1}",
            out(reg) _,
            in(reg) value,
            options(nostack, preserves_flags),
        );
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above.
    unsafe {
        core::arch::asm!(
            "mrs {0}, tpidr_el0",
            "adrp {1}, :gottprel:heapwright_guard_thread_0_1",
            "ldr {1}, [{1}, :gottprel_lo12:heapwright_guard_thread_0_1]",
            "str {2}, [{0}, {1}]",
            out(reg) _,
            out(reg) _,
            in(reg) value,
            options(nostack, preserves_flags),
        );
    }
}
