//! One pointer a thread, in initial-exec thread-local storage: two instructions to read, no
//! call, no allocation, valid before constructors and after destructors (zero by then).
//!
//! Stable Rust has no other way to ask for this access model; plain `thread_local!` in a shared
//! object calls the loader.

use core::ptr;

use crate::thread::ThreadRecorder;

core::arch::global_asm!(
    ".pushsection .tbss,\"awT\",@nobits",
    ".p2align 3",
    ".globl heapwright_record_thread_0_1",
    ".hidden heapwright_record_thread_0_1",
    ".type heapwright_record_thread_0_1, @object",
    "heapwright_record_thread_0_1:",
    ".zero 8",
    ".size heapwright_record_thread_0_1, 8",
    ".popsection",
);

/// What the pointer says of a thread whose exit has been recorded.
pub(crate) const ENDED: *mut ThreadRecorder = ptr::without_provenance_mut(1);

/// The calling thread's pointer: null at first.
#[inline(always)]
pub(crate) fn get() -> *mut ThreadRecorder {
    let value: *mut ThreadRecorder;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: reads the calling thread's own copy of the variable defined above.
    unsafe {
        core::arch::asm!(
            "mov {0}, qword ptr [rip + heapwright_record_thread_0_1@GOTTPOFF]",
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
            "adrp {1}, :gottprel:heapwright_record_thread_0_1",
            "ldr {1}, [{1}, :gottprel_lo12:heapwright_record_thread_0_1]",
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
pub(crate) fn set(value: *mut ThreadRecorder) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: writes the calling thread's own copy of the variable defined above.
    unsafe {
        core::arch::asm!(
            "mov {0}, qword ptr [rip + heapwright_record_thread_0_1@GOTTPOFF]",
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
            "adrp {1}, :gottprel:heapwright_record_thread_0_1",
            "ldr {1}, [{1}, :gottprel_lo12:heapwright_record_thread_0_1]",
            "str {2}, [{0}, {1}]",
            out(reg) _,
            out(reg) _,
            in(reg) value,
            options(nostack, preserves_flags),
        );
    }
}
