//! A thread of our own in a process that has threads already.

use core::ffi::{c_int, c_void};
use core::mem::MaybeUninit;

use crate::SignalsHeld;
use crate::libc_hooks::weak;

/// What a thread runs.
pub type ThreadMain = unsafe extern "C" fn(*mut c_void) -> *mut c_void;

type Attributes = MaybeUninit<libc::pthread_attr_t>;
type AttrInit = unsafe extern "C" fn(*mut Attributes) -> c_int;
type AttrSetStack = unsafe extern "C" fn(*mut Attributes, usize) -> c_int;
type AttrSetDetach = unsafe extern "C" fn(*mut Attributes, c_int) -> c_int;
type Create = unsafe extern "C" fn(*mut usize, *const Attributes, ThreadMain, *mut c_void) -> c_int;

/// Stacks tried, as multiples of what was asked for: libc puts all thread-local storage of the
/// program there, and refuses a stack that has no room for it (`EINVAL`).
const STACK_FACTORS: [usize; 3] = [1, 8, 64];

/// Starts a detached thread that runs `main` with all of the program's signals blocked; whether it
/// runs.
///
/// For housekeeping threads: they get no signal of the program's, and are part of libc's list of
/// threads, so that calls which concern all threads (`setuid`) concern them too; libc's own signals
/// reach them, which such a call waits for. The stack has `stack_bytes`, or up to 64 times as many
/// where the program has much thread-local storage, which lies there. Refused when libc
/// has no threads, or a limit or a sandbox forbids one more. libc may allocate inside.
pub fn spawn_helper(main: ThreadMain, stack_bytes: usize) -> bool {
    // SAFETY: `main` is code, which needs no argument.
    unsafe { spawn_helper_with(main, core::ptr::null_mut(), stack_bytes) }
}

/// As [`spawn_helper`], with an argument for `main`.
///
/// # Safety
/// - `main` may be called with `argument` by another thread, now or later.
pub unsafe fn spawn_helper_with(
    main: ThreadMain,
    argument: *mut c_void,
    stack_bytes: usize,
) -> bool {
    let (create, init) = (weak::create(), weak::attr_init());
    let (set_stack, set_detach) = (weak::attr_set_stack(), weak::attr_set_detach());
    if [create, init, set_stack, set_detach].iter().any(|address| address.is_null()) {
        return false;
    }
    // SAFETY: the address of libc's pthread_create, which has this type.
    let create = unsafe { core::mem::transmute::<*const (), Create>(create) };
    // SAFETY: likewise pthread_attr_init.
    let init = unsafe { core::mem::transmute::<*const (), AttrInit>(init) };
    // SAFETY: likewise pthread_attr_setstacksize.
    let set_stack = unsafe { core::mem::transmute::<*const (), AttrSetStack>(set_stack) };
    // SAFETY: likewise pthread_attr_setdetachstate.
    let set_detach = unsafe { core::mem::transmute::<*const (), AttrSetDetach>(set_detach) };
    let mut attributes = Attributes::uninit();
    // SAFETY: libc fills the structure.
    if unsafe { init(&raw mut attributes) } != 0 {
        return false;
    }
    // SAFETY: filled above.
    if unsafe { set_detach(&raw mut attributes, libc::PTHREAD_CREATE_DETACHED) } != 0 {
        return false;
    }
    let signals = SignalsHeld::of_the_program();
    let mut thread = 0;
    let mut result = libc::EINVAL;
    for factor in STACK_FACTORS {
        if result != libc::EINVAL {
            break;
        }
        // SAFETY: filled above. A refused size leaves the one before.
        unsafe { set_stack(&raw mut attributes, stack_bytes.saturating_mul(factor)) };
        // SAFETY: the attributes are filled; the caller lets a thread run `main` with the argument.
        result = unsafe { create(&raw mut thread, &raw const attributes, main, argument) };
    }
    drop(signals);
    result == 0
}

#[cfg(test)]
mod tests {
    use core::ffi::c_void;
    use core::sync::atomic::{AtomicU32, Ordering};

    use super::spawn_helper;
    use crate::{futex_wait, futex_wake};

    static RAN: AtomicU32 = AtomicU32::new(0);

    unsafe extern "C" fn main(_: *mut c_void) -> *mut c_void {
        RAN.store(1, Ordering::Release);
        futex_wake(&RAN, 1);
        core::ptr::null_mut()
    }

    static STATE: AtomicU32 = AtomicU32::new(0);

    unsafe extern "C" fn sleeps(_: *mut c_void) -> *mut c_void {
        STATE.store(1, Ordering::Release);
        futex_wake(&STATE, 1);
        while STATE.load(Ordering::Acquire) != 2 {
            let _ = futex_wait(&STATE, 1, None);
        }
        core::ptr::null_mut()
    }

    #[test]
    fn a_call_that_concerns_all_threads_does_not_wait_for_a_helper() {
        assert!(spawn_helper(sleeps, 64 * 1024));
        while STATE.load(Ordering::Acquire) == 0 {
            let _ = futex_wait(&STATE, 0, None);
        }
        // libc has every thread do it, and waits for all of them.
        // SAFETY: no memory.
        let group = unsafe { libc::getgid() };
        // SAFETY: no memory; the group is the one that the process has.
        assert_eq!(unsafe { libc::setgid(group) }, 0);
        STATE.store(2, Ordering::Release);
        futex_wake(&STATE, 1);
    }

    #[test]
    fn a_helper_runs() {
        assert!(spawn_helper(main, 64 * 1024));
        while RAN.load(Ordering::Acquire) == 0 {
            let _ = futex_wait(&RAN, 0, None);
        }
    }
}
