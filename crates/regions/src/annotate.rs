//! Telling sanitizers and valgrind which bytes of ours may be touched.
//!
//! Without either, a call is a few instructions: valgrind's request is a sequence that does
//! nothing on a processor, and the sanitizer's functions are weak symbols that are not there.
//! Linux on x86_64; elsewhere nothing.

use core::ptr::NonNull;

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
core::arch::global_asm!(".weak __asan_poison_memory_region", ".weak __asan_unpoison_memory_region");

/// Request numbers of valgrind's memcheck.
const MEMCHECK: usize = 0x4d43_0000;
const MAKE_NO_ACCESS: usize = MEMCHECK;
const MAKE_UNDEFINED: usize = MEMCHECK + 1;
const MAKE_DEFINED: usize = MEMCHECK + 2;

/// Nobody may touch these bytes.
pub(crate) fn forbid(start: NonNull<u8>, bytes: usize) {
    request(MAKE_NO_ACCESS, start, bytes);
    sanitizer(true, start, bytes);
}

/// These bytes are a block's and hold nothing yet.
pub(crate) fn fresh(start: NonNull<u8>, bytes: usize) {
    sanitizer(false, start, bytes);
    request(MAKE_UNDEFINED, start, bytes);
}

/// These bytes are read by ourselves.
pub(crate) fn permit(start: NonNull<u8>, bytes: usize) {
    sanitizer(false, start, bytes);
    request(MAKE_DEFINED, start, bytes);
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn request(code: usize, start: NonNull<u8>, bytes: usize) {
    let arguments = [code, start.as_ptr().addr(), bytes, 0, 0, 0];
    // SAFETY: the rotations add up to two whole turns and the exchange is with itself: nothing
    // changes but flags; valgrind reads the arguments, which are there, and writes rdx.
    unsafe {
        core::arch::asm!(
            "rol rdi, 3", "rol rdi, 13", "rol rdi, 61", "rol rdi, 51", "xchg rbx, rbx",
            inout("rdi") 0usize => _,
            in("rax") arguments.as_ptr(),
            inout("rdx") 0usize => _,
            options(nostack),
        );
    }
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
fn request(_: usize, _: NonNull<u8>, _: usize) {}

/// Marks bytes in the sanitizer's shadow, if there is one.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn sanitizer(poison: bool, start: NonNull<u8>, bytes: usize) {
    type Mark = unsafe extern "C" fn(*const u8, usize);
    let (poisoner, unpoisoner): (*const (), *const ());
    // SAFETY: loads what the linker put for a weak symbol: null or the function.
    unsafe {
        core::arch::asm!(
            "mov {}, qword ptr [rip + __asan_poison_memory_region@GOTPCREL]",
            out(reg) poisoner,
            options(nostack, pure, readonly),
        );
    }
    // SAFETY: as above.
    unsafe {
        core::arch::asm!(
            "mov {}, qword ptr [rip + __asan_unpoison_memory_region@GOTPCREL]",
            out(reg) unpoisoner,
            options(nostack, pure, readonly),
        );
    }
    let mark = if poison { poisoner } else { unpoisoner };
    // SAFETY: null, or the address of a function of that type.
    let mark = unsafe { core::mem::transmute::<*const (), Option<Mark>>(mark) };
    if let Some(mark) = mark {
        // SAFETY: the sanitizer's function, which only writes its shadow of our bytes.
        unsafe { mark(start.as_ptr(), bytes) };
    }
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
fn sanitizer(_: bool, _: NonNull<u8>, _: usize) {}
