//! Forks: the heap's locks are carried over, in the order books, depot.

use heapwright_os::{StdioList, at_fork, thread_ids};
use heapwright_sync::atomic::{AtomicU32, Ordering};

use crate::heap::HEAP;
use crate::thread::{self, me};
use crate::{end, fault, plain};

/// Registers with libc. It may allocate.
pub(crate) fn begin() {
    at_fork(before, after_in_parent, after_in_child);
}

heapwright_os::forks!("heapwright_guard_inner_forks_0_1", "heapwright_guard_signals_0_1");

/// 1 when the process that forks has more than one thread.
static OTHER_THREADS: AtomicU32 = AtomicU32::new(0);
static FILES: StdioList = StdioList::new();

/// Whether the calling thread is inside: a signal handler has interrupted us, or a fork.
fn is_inside() -> bool {
    let me = me();
    HEAP.books.is_reentered_by(me)
        || HEAP.depot.is_reentered_by(me)
        || plain::is_reentered_by(me)
        || HEAP.reporter.is_reentered_by(me)
        || thread::is_busy()
}

unsafe extern "C" fn before() {
    if forks::begins(is_inside()) {
        return;
    }
    // 0 where they cannot be counted.
    let count = thread_ids(&mut []);
    OTHER_THREADS.store(u32::from(count > 1), Ordering::Relaxed);
    FILES.before_fork(count != 1);
    if let Ok(guard) = HEAP.books.lock(me()) {
        core::mem::forget(guard);
    }
    HEAP.depot.before_fork(me());
    plain::before_fork();
}

unsafe extern "C" fn after_in_parent() {
    let Some(_signals) = forks::ends() else { return };
    // SAFETY: locked by `before`, in this thread.
    unsafe { free_locks() };
    FILES.after_fork_in_parent();
}

/// # Safety
/// - Locked by `before`, in this thread or the parent's.
unsafe fn free_locks() {
    // SAFETY: locked by `before`, in this thread.
    unsafe { plain::after_fork() };
    // SAFETY: as above.
    unsafe { HEAP.depot.after_fork() };
    // SAFETY: as above.
    unsafe { HEAP.books.force_unlock() };
}

unsafe extern "C" fn after_in_child() {
    let Some(_signals) = forks::ends() else { return };
    // SAFETY: the child has this thread only, and it is in no capture.
    unsafe { heapwright_unwind::reset_after_fork() };
    // SAFETY: as in the parent.
    unsafe { free_locks() };
    FILES.after_fork_in_child();
    // SAFETY: as above, and in no report.
    unsafe { HEAP.reporter.after_fork() };
    thread::after_fork();
    fault::after_fork();
    end::after_fork(OTHER_THREADS.load(Ordering::Relaxed) != 0);
}
