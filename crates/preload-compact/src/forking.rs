//! `fork`, with the program's signals held back.
//!
//! The thread that merges is one more in a program that may have only one. With two, glibc's `fork`
//! takes locks that it leaves alone with one; a signal handler that interrupts it and forks, which is
//! well with one thread, would wait for them for ever.

use core::ffi::c_int;

use heapwright_os::{SignalsHeld, next_symbol};
use heapwright_sync::atomic::{AtomicPtr, Ordering};

type Fork = unsafe extern "C" fn() -> c_int;

/// libc's `fork`; null before it was looked for.
static FORK: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());

/// Looks for libc's `fork`, whose name this object has taken.
pub(crate) fn begin() -> *const () {
    let fork = next_symbol(c"fork");
    FORK.store(fork.cast_mut(), Ordering::Relaxed);
    fork
}

/// C's `fork`. Signals that come meanwhile are handled when it is over, in the parent.
///
/// # Safety
/// - As for libc's.
#[unsafe(export_name = "fork")]
pub unsafe extern "C" fn fork() -> c_int {
    let mut address = FORK.load(Ordering::Relaxed).cast_const();
    if address.is_null() {
        address = begin();
    }
    if address.is_null() {
        heapwright_os::set_errno(heapwright_os::Errno::ENOSYS);
        return -1;
    }
    let _signals = SignalsHeld::of_the_program();
    // SAFETY: the address of libc's fork, which has this type.
    let fork = unsafe { core::mem::transmute::<*const (), Fork>(address) };
    // SAFETY: the caller's promise.
    unsafe { fork() }
}
