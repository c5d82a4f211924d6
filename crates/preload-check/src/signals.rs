//! The program's handlers for the signals that we handle: kept, and called when a fault is not
//! ours.

use core::ffi::{c_int, c_void};

use heapwright_guard::{exchange_action, is_kept};
use heapwright_os::{SIGBUS, SIGSEGV, SignalAction};

use crate::real;

/// glibc's `struct sigaction`.
#[repr(C)]
struct Action {
    handler: usize,
    mask: [u64; 16],
    flags: c_int,
    restorer: usize,
}

const SIG_BLOCK: c_int = 0;
const SIG_SETMASK: c_int = 2;
/// Signals that stay unblocked, so that a fault can be told in any thread.
const KEPT: u64 = 1 << (SIGSEGV - 1) | 1 << (SIGBUS - 1);

#[unsafe(no_mangle)]
unsafe extern "C" fn sigaction(signal: c_int, new: *const c_void, old: *mut c_void) -> c_int {
    if !is_kept(signal) {
        // SAFETY: the caller's promise.
        return unsafe { real::sigaction()(signal, new, old) };
    }
    // SAFETY: the caller's promise: null or an action.
    let new = unsafe { new.cast::<Action>().as_ref() };
    let before = exchange_action(
        signal,
        new.map(|new| SignalAction {
            handler: new.handler,
            flags: new.flags as u32 as u64,
            mask: new.mask[0],
        }),
    );
    let old = old.cast::<Action>();
    if !old.is_null() {
        let mut mask = [0; 16];
        mask[0] = before.mask;
        let action =
            Action { handler: before.handler, mask, flags: before.flags as c_int, restorer: 0 };
        // SAFETY: the caller's promise: a place for an action.
        unsafe { old.write(action) };
    }
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn signal(signal: c_int, handler: usize) -> usize {
    if !is_kept(signal) {
        // SAFETY: the caller's promise.
        return unsafe { real::signal()(signal, handler) };
    }
    let flags = SignalAction::RESTART;
    exchange_action(signal, Some(SignalAction { handler, flags, mask: 0 })).handler
}

/// `set` without the kept signals, for the functions that block what it holds.
///
/// # Safety
/// - `set` is null or a signal set.
unsafe fn without_kept(how: c_int, set: *const u64) -> Option<[u64; 16]> {
    if set.is_null() || how != SIG_BLOCK && how != SIG_SETMASK {
        return None;
    }
    let mut copy = [0; 16];
    // SAFETY: the caller's promise; the kernel looks at the first word only.
    copy[0] = unsafe { set.read() } & !KEPT;
    Some(copy)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn sigprocmask(how: c_int, set: *const u64, old: *mut u64) -> c_int {
    // SAFETY: the caller's promise.
    let copy = unsafe { without_kept(how, set) };
    let set = copy.as_ref().map_or(set, |copy| copy.as_ptr());
    // SAFETY: the caller's promise; the copy lives through the call.
    unsafe { real::sigprocmask()(how, set, old) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn pthread_sigmask(how: c_int, set: *const u64, old: *mut u64) -> c_int {
    // SAFETY: the caller's promise.
    let copy = unsafe { without_kept(how, set) };
    let set = copy.as_ref().map_or(set, |copy| copy.as_ptr());
    // SAFETY: the caller's promise; the copy lives through the call.
    unsafe { real::pthread_sigmask()(how, set, old) }
}
