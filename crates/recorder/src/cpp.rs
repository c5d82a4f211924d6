//! C++ `operator new` and `operator delete` in all their forms.
//!
//! A throwing form is recorded by way of the nothrow one, so that no exception passes through
//! our frames; when that gives nothing, the trampoline jumps to the real throwing form, which
//! calls the new-handler and throws as the language wants.
//!
//! The C++ runtime may not be in sight (loaded by a plug-in for itself only); then `malloc` and
//! `free` stand in, which is what every runtime's own forms do.

use core::ffi::c_void;

use heapwright_format::{AllocKind, FreeKind};
use heapwright_record::enter;
use heapwright_unwind::ReturnSlot;

use crate::caller::{plain_hooks, trampolines};
use crate::malloc::{log2, plain_free, plain_malloc, record_free, record_in};
use crate::real;

/// `std::nothrow`: an empty object; only its address is passed.
static NOTHROW: u8 = 0;

fn nothrow() -> *const c_void {
    (&raw const NOTHROW).cast()
}

trampolines! {
    _ZnwmRKSt9nothrow_t(2) => new_nothrow_at;
    _ZnamRKSt9nothrow_t(2) => new_array_nothrow_at;
    _ZnwmSt11align_val_tRKSt9nothrow_t(3) => new_aligned_nothrow_at;
    _ZnamSt11align_val_tRKSt9nothrow_t(3) => new_array_aligned_nothrow_at;
}

/// Throwing forms: keep the arguments, call `$inner`, and where it gives null go on in the real
/// form, whose address `$real` tells.
macro_rules! throwing {
    ($($name:ident, $inner:path, $real:path;)*) => {$(
        #[cfg(target_arch = "x86_64")]
        #[unsafe(naked)]
        #[unsafe(no_mangle)]
        extern "C" fn $name() {
            core::arch::naked_asm!(
                $crate::pass::pass_by!($name),
                "push rdi",
                "push rsi",
                "sub rsp, 8",
                "lea rdx, [rsp + 24]",
                "mov rcx, rbp",
                "call {inner}",
                "test rax, rax",
                "je 2f",
                "add rsp, 24",
                "ret",
                "2:",
                "call {real}",
                "add rsp, 8",
                "pop rsi",
                "pop rdi",
                "jmp rax",
                inner = sym $inner,
                real = sym $real,
                awake = sym heapwright_record::CONTROL,
            )
        }
        #[cfg(target_arch = "aarch64")]
        #[unsafe(naked)]
        #[unsafe(no_mangle)]
        extern "C" fn $name() {
            core::arch::naked_asm!(
                $crate::pass::pass_by!($name),
                "stp x29, x30, [sp, #-32]!",
                "stp x0, x1, [sp, #16]",
                "mov x2, sp",
                "mov x29, sp",
                "bl {inner}",
                "cbz x0, 2f",
                "ldp x29, x30, [sp], #32",
                "ret",
                "2:",
                "bl {real}",
                "mov x16, x0",
                "ldp x0, x1, [sp, #16]",
                "ldp x29, x30, [sp], #32",
                "br x16",
                inner = sym $inner,
                real = sym $real,
                awake = sym heapwright_record::CONTROL,
            )
        }
    )*};
}

throwing! {
    _Znwm, new_at, real_new;
    _Znam, new_array_at, real_new_array;
    _ZnwmSt11align_val_t, new_aligned_at, real_new_aligned;
    _ZnamSt11align_val_t, new_array_aligned_at, real_new_array_aligned;
}

macro_rules! real_addresses {
    ($($name:ident: $real:path;)*) => {$(
        /// Where to go on when the nothrow form gave nothing.
        extern "C" fn $name() -> usize {
            if $real().is_none() {
                real::resolve_again();
            }
            match $real() {
                Some(function) => function as *const () as usize,
                // Without a C++ runtime there is nobody to throw `bad_alloc`.
                None => heapwright_os::abort(),
            }
        }
    )*};
}

real_addresses! {
    real_new: real::new_throwing;
    real_new_array: real::new_array_throwing;
    real_new_aligned: real::new_aligned_throwing;
    real_new_array_aligned: real::new_array_aligned_throwing;
}

fn aligned(size: usize, align: usize) -> *mut c_void {
    match real::ready().then(real::memalign).flatten() {
        // SAFETY: the real function checks its arguments.
        Some(memalign) => unsafe { memalign(align, size) },
        None => core::ptr::null_mut(),
    }
}

/// What a form does when its call is not to be recorded.
///
/// A throwing form gives null: its trampoline then goes on in the real one. It must not ask the
/// nothrow form, which in C++ runtimes calls the throwing one, that is, us again.
macro_rules! unrecorded {
    (throwing $throwing:ident, $allocate:ident) => {
        if real::ready() && real::$throwing().is_some() {
            core::ptr::null_mut()
        } else {
            $allocate()
        }
    };
    (nothrow, $allocate:ident) => {
        $allocate()
    };
}

macro_rules! plain_forms {
    ($($inner:ident, $real:ident, $kind:ident, [$($way:tt)*];)*) => {$(
        extern "C" fn $inner(size: usize, _: usize, slot: ReturnSlot, fp: usize) -> *mut c_void {
            let allocate = || match real::ready().then(real::$real).flatten() {
                // SAFETY: the real function takes any size.
                Some(function) => unsafe { function(size, nothrow()) },
                None => plain_malloc(size.max(1)),
            };
            let Some(guard) = enter() else { return unrecorded!($($way)*, allocate) };
            // SAFETY: the trampoline's own values.
            unsafe { record_in(guard, size, AllocKind::$kind, 0, (slot, fp), allocate) }
        }
    )*};
}

plain_forms! {
    new_at, new_nothrow, New, [throwing new_throwing];
    new_array_at, new_array_nothrow, NewArray, [throwing new_array_throwing];
    new_nothrow_at, new_nothrow, NewNothrow, [nothrow];
    new_array_nothrow_at, new_array_nothrow, NewArrayNothrow, [nothrow];
}

macro_rules! aligned_forms {
    ($($inner:ident, ($($tag:ty)?), $real:ident, $kind:ident, [$($way:tt)*];)*) => {$(
        extern "C" fn $inner(
            size: usize,
            align: usize,
            $(_: $tag,)?
            slot: ReturnSlot,
            fp: usize,
        ) -> *mut c_void {
            let allocate = || match real::ready().then(real::$real).flatten() {
                // SAFETY: the real function takes any size; the alignment is the language's.
                Some(function) => unsafe { function(size, align, nothrow()) },
                None => aligned(size.max(1), align),
            };
            let Some(guard) = enter() else { return unrecorded!($($way)*, allocate) };
            // SAFETY: the trampoline's own values.
            unsafe { record_in(guard, size, AllocKind::$kind, log2(align), (slot, fp), allocate) }
        }
    )*};
}

aligned_forms! {
    new_aligned_at, (), new_aligned_nothrow, NewAligned, [throwing new_aligned_throwing];
    new_array_aligned_at, (), new_array_aligned_nothrow, NewArrayAligned,
        [throwing new_array_aligned_throwing];
    new_aligned_nothrow_at, (usize), new_aligned_nothrow, NewAligned, [nothrow];
    new_array_aligned_nothrow_at, (usize), new_array_aligned_nothrow, NewArrayAligned, [nothrow];
}

macro_rules! deletes {
    ($($name:ident => $inner:ident($($arg:ty),*), $real:ident, $kind:ident;)*) => {
        plain_hooks! { $($name => $inner;)* }
        $(extern "C" fn $inner(block: *mut c_void $(, _: $arg)*) {
            record_free(block, FreeKind::$kind, || {
                match real::ready().then(real::$real).flatten() {
                    // SAFETY: the hook's caller owes a live block of the matching new.
                    Some(function) => unsafe { function(block) },
                    None => plain_free(block),
                }
            });
        })*
    };
}

deletes! {
    _ZdlPv => delete_at(), delete, Delete;
    _ZdaPv => delete_array_at(), delete_array, DeleteArray;
    _ZdlPvm => delete_sized_at(usize), delete, DeleteSized;
    _ZdaPvm => delete_array_sized_at(usize), delete_array, DeleteArraySized;
    _ZdlPvRKSt9nothrow_t => delete_nothrow_at(usize), delete, Delete;
    _ZdaPvRKSt9nothrow_t => delete_array_nothrow_at(usize), delete_array, DeleteArray;
}

macro_rules! aligned_deletes {
    ($($inner:ident($($tag:ty)?), $real:ident, $kind:ident;)*) => {$(
        extern "C" fn $inner(block: *mut c_void, align: usize $(, _: $tag)?) {
            delete_aligned_by(real::$real, block, align, FreeKind::$kind);
        }
    )*};
}

type DeleteAligned = unsafe extern "C" fn(*mut c_void, usize);

#[inline(always)]
fn delete_aligned_by(
    real: fn() -> Option<DeleteAligned>,
    block: *mut c_void,
    align: usize,
    kind: FreeKind,
) {
    record_free(block, kind, || match real::ready().then(real).flatten() {
        // SAFETY: the hook's caller owes a live block of the matching new.
        Some(function) => unsafe { function(block, align) },
        None => plain_free(block),
    });
}

plain_hooks! {
    _ZdlPvSt11align_val_t => delete_aligned_at;
    _ZdaPvSt11align_val_t => delete_array_aligned_at;
    _ZdlPvSt11align_val_tRKSt9nothrow_t => delete_aligned_nothrow_at;
    _ZdaPvSt11align_val_tRKSt9nothrow_t => delete_array_aligned_nothrow_at;
}

aligned_deletes! {
    delete_aligned_at(), delete_aligned, DeleteAligned;
    delete_array_aligned_at(), delete_array_aligned, DeleteArrayAligned;
    delete_aligned_nothrow_at(usize), delete_aligned, DeleteAligned;
    delete_array_aligned_nothrow_at(usize), delete_array_aligned, DeleteArrayAligned;
}

// The sized forms have their alignment in another place than the real ones behind them.

#[unsafe(no_mangle)]
extern "C" fn _ZdlPvmSt11align_val_t(block: *mut c_void, _size: usize, align: usize) {
    delete_aligned_by(real::delete_aligned, block, align, FreeKind::DeleteAligned);
}

#[unsafe(no_mangle)]
extern "C" fn _ZdaPvmSt11align_val_t(block: *mut c_void, _size: usize, align: usize) {
    delete_aligned_by(real::delete_array_aligned, block, align, FreeKind::DeleteArrayAligned);
}
