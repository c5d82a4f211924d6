//! The slow end of C++ `operator new`: the program's new handler, then `std::bad_alloc`.
//!
//! A C++ exception may not cross a Rust frame, and the handler may throw one. So `operator new`
//! and this loop are naked functions: their frames are described for the unwinder by hand, and
//! `bad_alloc` is thrown by a jump that leaves no frame of ours. `std::get_new_handler` and
//! libstdc++'s throwing helper are weak: a C program has neither.
//!
//! # Not here
//! The allocation itself: each form of `operator new` brings its own function to try again.

use core::ffi::c_void;

use heapwright_os::{any_symbol, next_symbol};

use crate::{CAllocator, Entry};

/// Calls the new handler until memory is found or there is no handler; then throws
/// `std::bad_alloc`, or aborts in a program without libstdc++.
///
/// Not for Rust to call: it is jumped to with the size, the alignment and the function to try
/// again (which takes both) as its three C arguments, and returns to the jumper's caller.
#[cfg(target_arch = "x86_64")]
#[unsafe(naked)]
pub extern "C" fn failed(
    bytes: usize,
    align_bytes: usize,
    again: unsafe extern "C" fn(usize, usize) -> *mut u8,
) -> *mut u8 {
    core::arch::naked_asm!(
        ".weak _ZSt15get_new_handlerv",
        ".weak _ZSt17__throw_bad_allocv",
        ".cfi_startproc",
        "push rbx",
        ".cfi_adjust_cfa_offset 8",
        ".cfi_rel_offset rbx, 0",
        "push r12",
        ".cfi_adjust_cfa_offset 8",
        ".cfi_rel_offset r12, 0",
        "push r13",
        ".cfi_adjust_cfa_offset 8",
        ".cfi_rel_offset r13, 0",
        "mov rbx, rdi",
        "mov r12, rsi",
        "mov r13, rdx",
        "2:",
        "mov rax, [rip + _ZSt15get_new_handlerv@GOTPCREL]",
        "test rax, rax",
        "je 3f",
        "call rax",
        "test rax, rax",
        "je 3f",
        "call rax",
        "mov rdi, rbx",
        "mov rsi, r12",
        "call r13",
        "test rax, rax",
        "je 2b",
        ".cfi_remember_state",
        "pop r13",
        ".cfi_adjust_cfa_offset -8",
        ".cfi_restore r13",
        "pop r12",
        ".cfi_adjust_cfa_offset -8",
        ".cfi_restore r12",
        "pop rbx",
        ".cfi_adjust_cfa_offset -8",
        ".cfi_restore rbx",
        "ret",
        "3:",
        ".cfi_restore_state",
        "pop r13",
        ".cfi_adjust_cfa_offset -8",
        ".cfi_restore r13",
        "pop r12",
        ".cfi_adjust_cfa_offset -8",
        ".cfi_restore r12",
        "pop rbx",
        ".cfi_adjust_cfa_offset -8",
        ".cfi_restore rbx",
        "mov rax, [rip + _ZSt17__throw_bad_allocv@GOTPCREL]",
        "test rax, rax",
        "je 4f",
        "jmp rax",
        "4:",
        "jmp {abort}",
        ".cfi_endproc",
        abort = sym no_memory,
    )
}

/// As on x86_64, but without handler and exception: the program is aborted.
#[cfg(not(target_arch = "x86_64"))]
pub extern "C" fn failed(
    _bytes: usize,
    _align_bytes: usize,
    _again: unsafe extern "C" fn(usize, usize) -> *mut u8,
) -> *mut u8 {
    no_memory()
}

/// An aligned block, or null when there is no memory or `align_bytes` is no power of two (which
/// C++ forbids).
#[inline]
pub fn aligned<A: CAllocator>(bytes: usize, align_bytes: usize, entry: Entry) -> *mut u8 {
    if !align_bytes.is_power_of_two() {
        return core::ptr::null_mut();
    }
    // SAFETY: the alignment was checked above.
    unsafe { A::memalign(align_bytes, bytes, entry) }
}

/// A nothrow `operator new` without memory: while a new handler is set, libstdc++'s own nothrow
/// form is asked, which calls our throwing one, and so the handler, and catches what it throws.
/// That needs a frame that can catch, which is C++'s business. Null otherwise.
#[cold]
#[inline(never)]
pub fn nothrow_failed(bytes: usize, align_bytes: Option<usize>) -> *mut u8 {
    type Plain = unsafe extern "C" fn(usize, *const c_void) -> *mut u8;
    type Aligned = unsafe extern "C" fn(usize, usize, *const c_void) -> *mut u8;
    if !has_handler() {
        return core::ptr::null_mut();
    }
    let nothrow = next_symbol(c"_ZSt7nothrow").cast::<c_void>();
    let form = match align_bytes {
        None => next_symbol(c"_ZnwmRKSt9nothrow_t"),
        Some(_) => next_symbol(c"_ZnwmSt11align_val_tRKSt9nothrow_t"),
    };
    if nothrow.is_null() || form.is_null() {
        return core::ptr::null_mut();
    }
    match align_bytes {
        None => {
            // SAFETY: the function of that name has this type.
            let form = unsafe { core::mem::transmute::<*const (), Plain>(form) };
            // SAFETY: any size may be asked for; it does not throw.
            unsafe { form(bytes, nothrow) }
        }
        Some(align_bytes) => {
            // SAFETY: the function of that name has this type.
            let form = unsafe { core::mem::transmute::<*const (), Aligned>(form) };
            // SAFETY: any size may be asked for; it does not throw.
            unsafe { form(bytes, align_bytes, nothrow) }
        }
    }
}

/// Whether the program has set a new handler.
fn has_handler() -> bool {
    type GetHandler = unsafe extern "C" fn() -> *const ();
    let get = any_symbol(c"_ZSt15get_new_handlerv");
    if get.is_null() {
        return false;
    }
    // SAFETY: the function of that name has this type.
    let get = unsafe { core::mem::transmute::<*const (), GetHandler>(get) };
    // SAFETY: takes nothing.
    !unsafe { get() }.is_null()
}

#[cold]
extern "C" fn no_memory() -> ! {
    // Nobody can be told if even this fails.
    let _ = heapwright_os::write_all(
        &heapwright_os::Fd::STDERR,
        b"heapwright: operator new: out of memory, and no std::bad_alloc to throw\n",
    );
    heapwright_os::abort()
}
