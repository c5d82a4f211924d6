//! C++ `operator new` and `operator delete` in all their forms.
//!
//! A form that is not the site's jumps to the real one with the program's arguments and return
//! address in place, so that exceptions pass by us. The C++ runtime may not be in sight (loaded by
//! a plug-in for itself only); then `malloc` and `free` stand in.

use core::ffi::c_void;

use heapwright_unwind::ReturnSlot;

use crate::malloc::{free_served, of_site, plain_free, plain_malloc};
use crate::real;

macro_rules! news {
    ($($name:ident, $inner:path, $go_on:path;)*) => {$(
        #[cfg(target_arch = "x86_64")]
        #[unsafe(naked)]
        #[unsafe(no_mangle)]
        extern "C" fn $name() {
            core::arch::naked_asm!(
                "push rdi",
                "push rsi",
                "push rdx",
                "lea rdx, [rsp + 24]",
                "mov rcx, rbp",
                "call {inner}",
                "test rax, rax",
                "je 2f",
                "add rsp, 24",
                "ret",
                "2:",
                "call {go_on}",
                "pop rdx",
                "pop rsi",
                "pop rdi",
                "jmp rax",
                inner = sym $inner,
                go_on = sym $go_on,
            )
        }
        #[cfg(target_arch = "aarch64")]
        #[unsafe(naked)]
        #[unsafe(no_mangle)]
        extern "C" fn $name() {
            core::arch::naked_asm!(
                "stp x29, x30, [sp, #-48]!",
                "stp x0, x1, [sp, #16]",
                "str x2, [sp, #32]",
                "mov x2, sp",
                "mov x29, sp",
                "bl {inner}",
                "cbz x0, 2f",
                "ldp x29, x30, [sp], #48",
                "ret",
                "2:",
                "bl {go_on}",
                "mov x16, x0",
                "ldr x2, [sp, #32]",
                "ldp x0, x1, [sp, #16]",
                "ldp x29, x30, [sp], #48",
                "br x16",
                inner = sym $inner,
                go_on = sym $go_on,
            )
        }
    )*};
}

news! {
    _Znwm, new_at, real_new;
    _Znam, new_at, real_new_array;
    _ZnwmRKSt9nothrow_t, new_at, real_new_nothrow;
    _ZnamRKSt9nothrow_t, new_at, real_new_array_nothrow;
    _ZnwmSt11align_val_t, new_aligned_at, real_new_aligned;
    _ZnamSt11align_val_t, new_aligned_at, real_new_array_aligned;
    _ZnwmSt11align_val_tRKSt9nothrow_t, new_aligned_at, real_new_aligned_nothrow;
    _ZnamSt11align_val_tRKSt9nothrow_t, new_aligned_at, real_new_array_aligned_nothrow;
}

/// The site's block, or null: then the trampoline goes on in the real form.
extern "C" fn new_at(size: usize, _: usize, slot: ReturnSlot, fp: usize) -> *mut c_void {
    // SAFETY: the trampoline's own values.
    unsafe { of_site(size, 1, (slot, fp)) }
}

/// As [`new_at`]; the alignment is the language's, so a power of two.
extern "C" fn new_aligned_at(
    size: usize,
    align: usize,
    slot: ReturnSlot,
    fp: usize,
) -> *mut c_void {
    if !align.is_power_of_two() {
        return core::ptr::null_mut();
    }
    // SAFETY: the trampoline's own values.
    unsafe { of_site(size, align, (slot, fp)) }
}

/// In place of a form that no object has.
extern "C" fn plain_new(size: usize) -> *mut c_void {
    plain_malloc(size.max(1))
}

/// In place of an aligned form that no object has.
extern "C" fn plain_new_aligned(size: usize, align: usize) -> *mut c_void {
    match real::memalign() {
        // SAFETY: the real function checks its arguments.
        Some(memalign) => unsafe { memalign(align, size.max(1)) },
        None => core::ptr::null_mut(),
    }
}

macro_rules! real_addresses {
    ($($name:ident: $real:path, $plain:path;)*) => {$(
        /// Where to go on.
        extern "C" fn $name() -> usize {
            match $real() {
                Some(function) => function as *const () as usize,
                None => $plain as *const () as usize,
            }
        }
    )*};
}

real_addresses! {
    real_new: real::new, plain_new;
    real_new_array: real::new_array, plain_new;
    real_new_nothrow: real::new_nothrow, plain_new;
    real_new_array_nothrow: real::new_array_nothrow, plain_new;
    real_new_aligned: real::new_aligned, plain_new_aligned;
    real_new_array_aligned: real::new_array_aligned, plain_new_aligned;
    real_new_aligned_nothrow: real::new_aligned_nothrow, plain_new_aligned;
    real_new_array_aligned_nothrow: real::new_array_aligned_nothrow, plain_new_aligned;
}

macro_rules! deletes {
    ($($name:ident($($argument:ident),*) => $real:ident;)*) => {$(
        /// # Safety
        /// - The language's rules.
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name(block: *mut c_void $(, $argument: usize)*) {
            if free_served(block) {
                return;
            }
            match real::$real() {
                // SAFETY: the caller's promise.
                Some(function) => unsafe { function(block $(, $argument)*) },
                None => plain_free(block),
            }
        }
    )*};
}

deletes! {
    _ZdlPv() => delete;
    _ZdaPv() => delete_array;
    _ZdlPvm(size) => delete_sized;
    _ZdaPvm(size) => delete_array_sized;
    _ZdlPvRKSt9nothrow_t(tag) => delete_nothrow;
    _ZdaPvRKSt9nothrow_t(tag) => delete_array_nothrow;
    _ZdlPvSt11align_val_t(align) => delete_aligned;
    _ZdaPvSt11align_val_t(align) => delete_array_aligned;
    _ZdlPvSt11align_val_tRKSt9nothrow_t(align, tag) => delete_aligned_nothrow;
    _ZdaPvSt11align_val_tRKSt9nothrow_t(align, tag) => delete_array_aligned_nothrow;
    _ZdlPvmSt11align_val_t(size, align) => delete_sized_aligned;
    _ZdaPvmSt11align_val_t(size, align) => delete_array_sized_aligned;
}
