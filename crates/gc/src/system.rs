//! What the heap asks of the operating system.
//!
//! Under Miri, which has no system calls of its own making, memory comes from the standard
//! allocator and time passes by a microsecond a look: enough for the collectors, which is what is
//! interpreted.

#[cfg(not(miri))]
pub(crate) use heapwright_os::Futex;
pub(crate) use heapwright_os::{Advice, Fd, OpenFlags, Protection, write_all};
#[cfg(not(miri))]
pub(crate) use heapwright_os::{
    advise, commit, env_var, futex_wait, monotonic_ns, move_pages, page_bytes, protect, release,
    remap, reserve, spawn_helper_with, thread_cpu_ns,
};

/// Helpers that have counted themselves out end by themselves.
#[cfg(not(miri))]
pub(crate) fn join_helpers() {}

#[cfg(miri)]
pub(crate) use interpreted::*;

#[cfg(miri)]
mod interpreted {
    extern crate std;

    use core::ffi::{CStr, c_void};
    use core::ptr::NonNull;
    use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
    use core::time::Duration;
    use std::alloc::{Layout, alloc_zeroed, dealloc};
    use std::sync::Mutex;
    use std::thread;
    use std::vec::Vec;

    use heapwright_os::{Advice, Errno, Protection};
    use heapwright_sync::Wait;

    const PAGE_BYTES: usize = 4096;
    static NOW_NS: AtomicU64 = AtomicU64::new(0);

    pub(crate) fn page_bytes() -> usize {
        PAGE_BYTES
    }

    pub(crate) fn monotonic_ns() -> u64 {
        NOW_NS.fetch_add(1000, Ordering::Relaxed)
    }

    pub(crate) fn thread_cpu_ns() -> u64 {
        monotonic_ns()
    }

    fn layout(bytes: usize) -> Layout {
        Layout::from_size_align(bytes, PAGE_BYTES).expect("a size that fits")
    }

    pub(crate) fn reserve(bytes: usize, _: Protection) -> Result<NonNull<u8>, Errno> {
        // SAFETY: callers reserve at least a page.
        NonNull::new(unsafe { alloc_zeroed(layout(bytes)) }).ok_or(Errno::ENOMEM)
    }

    /// # Safety
    /// - All of what [`reserve`] gave, which nobody uses any more.
    pub(crate) unsafe fn release(start: NonNull<u8>, bytes: usize) -> Result<(), Errno> {
        // SAFETY: the caller's promise.
        unsafe { dealloc(start.as_ptr(), layout(bytes)) };
        Ok(())
    }

    /// # Safety
    /// - As for [`release`]; the contents move.
    pub(crate) unsafe fn remap(
        start: NonNull<u8>,
        old_bytes: usize,
        new_bytes: usize,
        _: bool,
    ) -> Result<NonNull<u8>, Errno> {
        let moved = reserve(new_bytes, Protection::ReadWrite)?;
        // SAFETY: both are as long, and different.
        unsafe { moved.copy_from_nonoverlapping(start, old_bytes.min(new_bytes)) };
        // SAFETY: the caller's promise.
        unsafe { release(start, old_bytes) }?;
        Ok(moved)
    }

    /// # Safety
    /// - A part of what [`reserve`] gave; of [`Advice::DontNeed`], whose contents nobody needs.
    pub(crate) unsafe fn advise(
        start: NonNull<u8>,
        bytes: usize,
        advice: Advice,
    ) -> Result<(), Errno> {
        if matches!(advice, Advice::DontNeed) {
            // SAFETY: the caller's promise.
            unsafe { start.write_bytes(0, bytes) };
        }
        Ok(())
    }

    /// # Safety
    /// - None here.
    pub(crate) unsafe fn commit(_: NonNull<u8>, _: usize) -> Result<(), Errno> {
        Ok(())
    }

    /// # Safety
    /// - None here.
    pub(crate) unsafe fn protect(_: NonNull<u8>, _: usize, _: Protection) -> Result<(), Errno> {
        Ok(())
    }

    /// # Safety
    /// - None here: it refuses.
    pub(crate) unsafe fn move_pages(_: NonNull<u8>, _: NonNull<u8>, _: usize) -> Result<(), Errno> {
        Err(Errno::EINVAL)
    }

    pub(crate) fn env_var(_: &str) -> Option<&'static CStr> {
        None
    }

    pub(crate) fn futex_wait(_: &AtomicU32, _: u32, _: Option<Duration>) -> Result<(), Errno> {
        thread::yield_now();
        Ok(())
    }

    /// How locks wait: they look again.
    pub(crate) struct Futex;

    impl Wait for Futex {
        fn wait(_: &AtomicU32, _: u32) {
            thread::yield_now();
        }
        fn wake_one(_: &AtomicU32) {}
    }

    static HELPERS: Mutex<Vec<thread::JoinHandle<()>>> = Mutex::new(Vec::new());

    struct Argument(*mut c_void);

    // SAFETY: whoever starts a helper lets it use the argument.
    unsafe impl Send for Argument {}

    /// # Safety
    /// - `main` may be called with `argument` by another thread, now or later.
    pub(crate) unsafe fn spawn_helper_with(
        main: unsafe extern "C" fn(*mut c_void) -> *mut c_void,
        argument: *mut c_void,
        _: usize,
    ) -> bool {
        let argument = Argument(argument);
        let helper = thread::spawn(move || {
            let argument = argument;
            // SAFETY: the caller's promise.
            unsafe { main(argument.0) };
        });
        HELPERS.lock().expect("no helper panics").push(helper);
        true
    }

    /// The interpreter wants to see threads end.
    pub(crate) fn join_helpers() {
        let helpers: Vec<_> = HELPERS.lock().expect("no helper panics").drain(..).collect();
        helpers.into_iter().for_each(|helper| helper.join().expect("helpers do not panic"));
    }
}
