//! Trampolines: exported functions that hand their caller's state to the function behind them.

/// Defines exported functions `$name` with `$count` integer arguments that go on in `$inner`
/// with two more: [`heapwright_unwind::ReturnSlot`] and the frame pointer; those with up to three arguments pass by
/// the recorder while it does not record ([`crate::pass`]).
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

/// Defines exported functions `$name` that go on in `$inner` with the arguments they have, or
/// pass by the recorder.
macro_rules! plain_hooks {
    ($($name:ident => $inner:path;)*) => {$(
        #[unsafe(naked)]
        #[unsafe(no_mangle)]
        extern "C" fn $name() {
            $crate::caller::plain_body!($name, $inner)
        }
    )*};
}
pub(crate) use plain_hooks;

/// A second, hidden name of an exported function: its own one may mean another object's.
macro_rules! own_label {
    ($name:ident) => {
        concat!(
            ".globl heapwright_recorder_own_",
            stringify!($name),
            "\n.hidden heapwright_recorder_own_",
            stringify!($name),
            "\nheapwright_recorder_own_",
            stringify!($name),
            ":"
        )
    };
}
pub(crate) use own_label;

#[cfg(target_arch = "x86_64")]
macro_rules! trampoline_body {
    // Five and six arguments leave no two registers: the last two go over the stack. (With five
    // the sixth register is passed on unused.)
    ($name:ident, 6, $inner:path) => {
        core::arch::naked_asm!(
            $crate::caller::own_label!($name),
            "mov rax, rsp",
            "sub rsp, 8",
            "push rbp",
            "push rax",
            "call {inner}",
            "add rsp, 24",
            "ret",
            inner = sym $inner,
        )
    };
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
            $crate::pass::pass_by!($name),
            concat!("mov ", $slot, ", rsp"),
            concat!("mov ", $frame, ", rbp"),
            "jmp {inner}",
            inner = sym $inner,
            awake = sym heapwright_record::CONTROL,
        )
    };
}
#[cfg(target_arch = "aarch64")]
macro_rules! trampoline_body {
    ($name:ident, 6, $inner:path) => {
        core::arch::naked_asm!(
            $crate::caller::own_label!($name),
            "stp x29, x30, [sp, #-16]!",
            "mov x6, sp",
            "mov x29, sp",
            "bl {inner}",
            "ldp x29, x30, [sp], #16",
            "ret",
            inner = sym $inner,
        )
    };
    ($name:ident, 1, $inner:path) => {
        $crate::caller::trampoline_body!(@in $name, "x1", $inner)
    };
    ($name:ident, 2, $inner:path) => {
        $crate::caller::trampoline_body!(@in $name, "x2", $inner)
    };
    ($name:ident, 3, $inner:path) => {
        $crate::caller::trampoline_body!(@in $name, "x3", $inner)
    };
    (@in $name:ident, $register:literal, $inner:path) => {
        core::arch::naked_asm!(
            $crate::caller::own_label!($name),
            $crate::pass::pass_by!($name),
            "stp x29, x30, [sp, #-16]!",
            concat!("mov ", $register, ", sp"),
            "mov x29, sp",
            "bl {inner}",
            "ldp x29, x30, [sp], #16",
            "ret",
            inner = sym $inner,
            awake = sym heapwright_record::CONTROL,
        )
    };
}
pub(crate) use trampoline_body;

#[cfg(target_arch = "x86_64")]
macro_rules! plain_body {
    ($name:ident, $inner:path) => {
        core::arch::naked_asm!(
            $crate::caller::own_label!($name),
            $crate::pass::pass_by!($name),
            "jmp {inner}",
            inner = sym $inner,
            awake = sym heapwright_record::CONTROL,
        )
    };
}
#[cfg(target_arch = "aarch64")]
macro_rules! plain_body {
    ($name:ident, $inner:path) => {
        core::arch::naked_asm!(
            $crate::caller::own_label!($name),
            $crate::pass::pass_by!($name),
            "b {inner}",
            inner = sym $inner,
            awake = sym heapwright_record::CONTROL,
        )
    };
}
pub(crate) use plain_body;
