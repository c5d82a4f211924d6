//! The three registers that a walk starts from.

/// Where a frame stands: the state of a caller right after the callee has returned to it.
///
/// For a hook entered by `call`: `pc` is its return address, `sp` the address just above the
/// slot of that return address, `fp` the frame pointer register (rbp, x29) at the hook's entry.
/// For code interrupted by a signal `pc` is one byte past the address of the next instruction, so
/// that in every case `pc - 1` lies in the instruction that was being executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Registers {
    /// The address that execution continues at.
    pub pc: usize,
    /// The stack pointer.
    pub sp: usize,
    /// The frame pointer register, whatever the program uses it for.
    pub fp: usize,
}

impl Registers {
    /// The registers of the function that this is called from, at this call.
    ///
    /// A walk from here is right as long as that function runs. About 2 ns.
    ///
    /// ```
    /// use heapwright_unwind::{Memo, Registers};
    ///
    /// let mut memo = Box::new(Memo::new());
    /// // SAFETY: these are this thread's own registers, and this function goes on running.
    /// let capture = unsafe { memo.capture(Registers::current()) };
    /// assert!(capture.depth > 1);
    /// ```
    #[inline(always)]
    pub fn current() -> Self {
        let mut registers = Self { pc: 0, sp: 0, fp: 0 };
        store_callers_registers(&mut registers);
        registers
    }
}

/// Stores the caller's registers as they are after this call.
#[cfg(target_arch = "x86_64")]
#[unsafe(naked)]
extern "C" fn store_callers_registers(registers: &mut Registers) {
    core::arch::naked_asm!(
        "mov rax, [rsp]",
        "mov [rdi], rax",
        "lea rax, [rsp + 8]",
        "mov [rdi + 8], rax",
        "mov [rdi + 16], rbp",
        "ret",
    );
}

/// Stores the caller's registers as they are after this call.
#[cfg(target_arch = "aarch64")]
#[unsafe(naked)]
extern "C" fn store_callers_registers(registers: &mut Registers) {
    core::arch::naked_asm!("mov x9, sp", "stp x30, x9, [x0]", "str x29, [x0, #16]", "ret",);
}

const _: () = assert!(core::mem::offset_of!(Registers, sp) == 8);
const _: () = assert!(core::mem::offset_of!(Registers, fp) == 16);
