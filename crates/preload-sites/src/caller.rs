//! Trampolines: exported functions that hand their caller's state to the function behind them.

/// Defines exported functions `$name` with `$count` integer arguments that go on in `$inner` with
/// two more: [`heapwright_unwind::ReturnSlot`] and the frame pointer.
macro_rules! trampolines {
    ($($name:ident($count:tt) => $inner:path;)*) => {$(
        #[unsafe(naked)]
        #[unsafe(no_mangle)]
        extern "C" fn $name() {
            $crate::caller::trampoline_body!($name, $count, $inner)
        }
    )*};
}
pub(crate) use trampolines;

/// A second, hidden name of an exported function: its own one may mean another object's.
macro_rules! own_label {
    ($name:ident) => {
        concat!(
            ".globl heapwright_sites_own_",
            stringify!($name),
            "\n.hidden heapwright_sites_own_",
            stringify!($name),
            "\nheapwright_sites_own_",
            stringify!($name),
            ":"
        )
    };
}
pub(crate) use own_label;

#[cfg(target_arch = "x86_64")]
macro_rules! trampoline_body {
    ($name:ident, 1, $inner:path) => {
        $crate::caller::trampoline_body!(@in $name, "rsi", "rdx", $inner)
    };
    ($name:ident, 2, $inner:path) => {
        $crate::caller::trampoline_body!(@in $name, "rdx", "rcx", $inner)
    };
    ($name:ident, 3, $inner:path) => {
        $crate::caller::trampoline_body!(@in $name, "rcx", "r8", $inner)
    };
    (@in $name:ident, $slot:literal, $frame:literal, $inner:path) => {
        core::arch::naked_asm!(
            $crate::caller::own_label!($name),
            concat!("mov ", $slot, ", rsp"),
            concat!("mov ", $frame, ", rbp"),
            "jmp {inner}",
            inner = sym $inner,
        )
    };
}
#[cfg(target_arch = "aarch64")]
macro_rules! trampoline_body {
    ($name:ident, 1, $inner:path) => {
        $crate::caller::trampoline_body!(@in $name, "x1", $inner)
    };
    ($name:ident, 2, $inner:path) => {
        $crate::caller::trampoline_body!(@in $name, "x2", $inner)
    };
    ($name:ident, 3, $inner:path) => {
        $crate::caller::trampoline_body!(@in $name, "x3", $inner)
    };
    (@in $name:ident, $slot:literal, $inner:path) => {
        core::arch::naked_asm!(
            $crate::caller::own_label!($name),
            "stp x29, x30, [sp, #-16]!",
            concat!("mov ", $slot, ", sp"),
            "mov x29, sp",
            "bl {inner}",
            "ldp x29, x30, [sp], #16",
            "ret",
            inner = sym $inner,
        )
    };
}
pub(crate) use trampoline_body;
