//! The body of an exported function that calls another one first and then jumps to the function
//! whose address that gave, with all arguments and the return address in place: for functions that
//! look at who calls them, or that return twice.

/// The body of a naked function of up to `$count` (2 or 7) words of arguments: calls `$before`,
/// which gets the same arguments and returns where to jump.
#[cfg(target_arch = "x86_64")]
#[macro_export]
macro_rules! jump_after {
    (2, $before:path) => {
        ::core::arch::naked_asm!(
            "push rdi",
            "push rsi",
            "sub rsp, 8",
            "call {before}",
            "add rsp, 8",
            "pop rsi",
            "pop rdi",
            "jmp rax",
            before = sym $before,
        )
    };
    (7, $before:path) => {
        ::core::arch::naked_asm!(
            "push rdi",
            "push rsi",
            "push rdx",
            "push rcx",
            "push r8",
            "push r9",
            "sub rsp, 8",
            "call {before}",
            "add rsp, 8",
            "pop r9",
            "pop r8",
            "pop rcx",
            "pop rdx",
            "pop rsi",
            "pop rdi",
            "jmp rax",
            before = sym $before,
        )
    };
}

/// As on x86_64.
#[cfg(target_arch = "aarch64")]
#[macro_export]
macro_rules! jump_after {
    (2, $before:path) => {
        ::core::arch::naked_asm!(
            "stp x29, x30, [sp, #-32]!",
            "stp x0, x1, [sp, #16]",
            "bl {before}",
            "mov x16, x0",
            "ldp x0, x1, [sp, #16]",
            "ldp x29, x30, [sp], #32",
            "br x16",
            before = sym $before,
        )
    };
    (7, $before:path) => {
        ::core::arch::naked_asm!(
            "stp x29, x30, [sp, #-80]!",
            "stp x0, x1, [sp, #16]",
            "stp x2, x3, [sp, #32]",
            "stp x4, x5, [sp, #48]",
            "str x6, [sp, #64]",
            "bl {before}",
            "mov x16, x0",
            "ldp x0, x1, [sp, #16]",
            "ldp x2, x3, [sp, #32]",
            "ldp x4, x5, [sp, #48]",
            "ldr x6, [sp, #64]",
            "ldp x29, x30, [sp], #80",
            "br x16",
            before = sym $before,
        )
    };
}
