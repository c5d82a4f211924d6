//! Direct system calls.

use crate::Errno;

/// Makes system call `number` with six arguments.
///
/// # Safety
/// - The call, with these arguments, must not break memory that safe code relies on: the caller
///   argues for each pointer and length it passes.
#[inline]
pub(crate) unsafe fn syscall6(number: i64, args: [usize; 6]) -> Result<usize, Errno> {
    let value: isize;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the kernel's x86_64 convention: number in rax, arguments in these registers, rcx
    // and r11 clobbered; what the call does with the arguments is the caller's promise.
    unsafe {
        core::arch::asm!(
            "syscall",
            inlateout("rax") number as isize => value,
            in("rdi") args[0],
            in("rsi") args[1],
            in("rdx") args[2],
            in("r10") args[3],
            in("r8") args[4],
            in("r9") args[5],
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: the kernel's aarch64 convention: number in x8, arguments in x0 to x5.
    unsafe {
        core::arch::asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") args[0] => value,
            in("x1") args[1],
            in("x2") args[2],
            in("x3") args[3],
            in("x4") args[4],
            in("x5") args[5],
            options(nostack),
        );
    }
    if (-4095..0).contains(&value) { Err(Errno(-value as i32)) } else { Ok(value as usize) }
}

/// [`syscall6`] with up to three arguments.
///
/// # Safety
/// As for [`syscall6`].
#[inline]
pub(crate) unsafe fn syscall3(number: i64, a: usize, b: usize, c: usize) -> Result<usize, Errno> {
    // SAFETY: the caller's promise, passed on.
    unsafe { syscall6(number, [a, b, c, 0, 0, 0]) }
}
