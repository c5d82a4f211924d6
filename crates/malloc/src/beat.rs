//! Who else wants to be called now and then: at the ends of slow paths, and by the purger.

use core::ffi::c_void;

use heapwright_sync::atomic::{AtomicPtr, Ordering};

/// What is called; a structure, so that a pointer to it can be kept.
#[derive(Debug)]
pub struct HeartbeatHook {
    /// Called without a lock of the allocator's, very often, from any thread: it has to decide in
    /// a few instructions that there is nothing to do. It may allocate, and is then called from
    /// inside itself.
    pub beat: fn(),
}

static HOOK: AtomicPtr<c_void> = AtomicPtr::new(core::ptr::null_mut());

/// Has `hook` called from now on.
pub fn set_heartbeat(hook: &'static HeartbeatHook) {
    // Release: pairs with the Acquire in `beat`.
    HOOK.store(core::ptr::from_ref(hook).cast_mut().cast(), Ordering::Release);
}

/// Calls the hook, if there is one.
#[inline]
pub(crate) fn beat() {
    let hook = HOOK.load(Ordering::Acquire).cast::<HeartbeatHook>();
    // SAFETY: null, or stored from a static reference by `set_heartbeat`.
    if let Some(hook) = unsafe { hook.as_ref() } {
        (hook.beat)();
    }
}
