//! Forks: all locks are carried over, in the order caches, pools, large.
//!
//! The child has one thread. The slots of the others are taken back to the spans: what one of
//! them was doing is cut off at some instruction, which loses at most the slot in hand.
//!
//! Between our handler before the fork and those after it libc calls handlers of others, and takes
//! locks of its own. Whoever has one of those may be allocating, and such a handler may allocate or
//! wait for somebody who does. The thread that forks is in no slow path of ours, so nothing is half
//! changed, and the locks that it holds can be taken:
//! - by itself, one at a time, for as long as the slow path needs it ([`give_up_for_now`]);
//! - by others that have waited for long, all of them ([`look_for_stuck_fork`]). The fork is then
//!   as one without handlers: what others do at its instant is lost to the child.

use heapwright_os::{StdioList, cycle_counter, mincore, page_bytes, thread_pointer, yield_now};
use heapwright_sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use crate::geometry::CLASS_COUNT;
use crate::large::large;
use crate::pool::pool;
use crate::refill::bring_other_back;
use crate::thread::{caches, has_other_threads};
use crate::wait::{Lock, hold};

heapwright_os::forks!("heapwright_hardened_inner_forks_0_1", "heapwright_hardened_signals_0_1");

/// [`HOLDER`] when there is none.
const NOBODY: usize = 0;
/// [`HOLDER`] while somebody frees the locks.
const FREEING: usize = 1;
/// Bit of [`HOLDER`] while the holder has lent locks to itself; thread pointers are aligned.
const LENDS: usize = 1;
/// Cycles that somebody waits before he takes a fork for stuck: about a second, longer than the
/// kernel needs to copy some ten GiB.
const PATIENCE_CYCLES: u64 = 1 << 31;
/// What is added to the number of a thread that borrows a lock from itself: none is as near to
/// another's, and the lock tells the two apart.
const BORROWER: usize = 64;

/// Thread pointer of the thread that holds every lock for a fork.
static HOLDER: AtomicUsize = AtomicUsize::new(NOBODY);
/// Since when.
static SINCE_CYCLES: AtomicU64 = AtomicU64::new(0);
/// A thread that has no cache may have its lock, too, and then wait for ours; it waits for long.
static FILES: StdioList = StdioList::new();
/// Locks that the holder has lent to itself now. Its own, as the next one.
static LENT_COUNT: AtomicU32 = AtomicU32::new(0);
/// 1 when somebody else was quicker than the holder that wanted a lent lock back.
static IS_SPOILT: AtomicU32 = AtomicU32::new(0);

/// A lock, whatever it guards.
trait AnyLock {
    /// Whether the thread `own`, the calling one, has it or is about to, by itself or as
    /// [`borrower`].
    fn is_reentered_by(&self, own: usize) -> bool;
    /// Frees it if the thread `holder` holds it, one that forgot the guard.
    ///
    /// # Safety
    /// - That thread is the caller, or leaves it to the caller.
    unsafe fn free_of(&self, holder: usize);
    /// Frees it, whoever holds it.
    ///
    /// # Safety
    /// - The caller is the only thread, and holds it by no guard.
    unsafe fn free(&self);
}

impl<T> AnyLock for Lock<T> {
    fn is_reentered_by(&self, own: usize) -> bool {
        [own, own + BORROWER].into_iter().any(|me| Lock::is_reentered_by(self, me))
    }

    unsafe fn free_of(&self, holder: usize) {
        if self.is_held_by(holder) {
            // SAFETY: the caller's promise.
            unsafe { self.force_unlock() };
        }
    }

    unsafe fn free(&self) {
        if self.is_held() {
            // SAFETY: the caller's promise.
            unsafe { self.force_unlock() };
        }
    }
}

/// Calls `each` with all locks, the one that is taken last first.
fn for_each_lock(mut each: impl FnMut(&dyn AnyLock)) {
    each(large());
    (0..CLASS_COUNT).for_each(|class_index| each(pool(class_index)));
    each(caches());
}

/// Whether the calling thread is inside: a signal handler has interrupted a slow path or a fork.
fn is_inside() -> bool {
    let own = thread_pointer();
    let mut is_inside = false;
    for_each_lock(|lock| is_inside |= lock.is_reentered_by(own));
    is_inside
}

pub(crate) unsafe extern "C" fn before() {
    if forks::begins(is_inside()) {
        return;
    }
    FILES.before_fork(has_other_threads());
    // Kept over the fork; freed after it, by the same thread, in both processes.
    core::mem::forget(hold(caches()));
    for class_index in 0..CLASS_COUNT {
        core::mem::forget(hold(pool(class_index)));
    }
    core::mem::forget(hold(large()));
    SINCE_CYCLES.store(cycle_counter(), Ordering::Relaxed);
    // Release: pairs with the Acquire in `free_locks_of`, whose thread changes what we locked.
    HOLDER.store(thread_pointer(), Ordering::Release);
}

pub(crate) unsafe extern "C" fn after_in_parent() {
    let Some(_signals) = forks::ends() else { return };
    if !free_locks_of(thread_pointer()) {
        // Acquire: pairs with the Release in `free_locks_of`.
        while HOLDER.load(Ordering::Acquire) == FREEING {
            yield_now();
        }
    }
    FILES.after_fork_in_parent();
}

pub(crate) unsafe extern "C" fn after_in_child() {
    let Some(_signals) = forks::ends() else { return };
    FILES.after_fork_in_child();
    HOLDER.store(NOBODY, Ordering::Relaxed);
    // SAFETY: this is the only thread; it holds them for the fork, or who took them from it is not
    // here.
    for_each_lock(|lock| unsafe { lock.free() });
    hold(large()).waiting.forget_loans();
    let own = thread_pointer();
    let mut caches = hold(caches());
    let mut next = caches.all;
    // SAFETY: caches live for ever; the list ends with null.
    while let Some(cache) = unsafe { next.as_ref() } {
        next = cache.next.load(Ordering::Relaxed);
        let owner = cache.owner.load(Ordering::Relaxed);
        if owner == 0 || owner == own {
            continue;
        }
        bring_other_back(cache);
        caches.keep(cache);
    }
}

/// Frees the locks that the thread `holder` has for a fork, in its name; false when it has none, or
/// somebody else is at it.
fn free_locks_of(holder: usize) -> bool {
    // Acquire: pairs with the Release in `before`.
    let is_ours =
        HOLDER.compare_exchange(holder, FREEING, Ordering::Acquire, Ordering::Relaxed).is_ok();
    if is_ours {
        if holder != thread_pointer() {
            wait_for_copies();
        }
        // SAFETY: that thread took them, and leaves it to whoever made this exchange.
        for_each_lock(|lock| unsafe { lock.free_of(holder) });
        // Release: pairs with the Acquire in `after_in_parent`.
        HOLDER.store(NOBODY, Ordering::Release);
    }
    is_ours
}

/// Returns when no fork copies this process's memory any more that did when this was called. The
/// kernel then has the lock of the address space, which a look at what is resident waits for.
fn wait_for_copies() {
    let page = core::ptr::from_ref(&HOLDER).addr() & !(page_bytes() - 1);
    let _ = mincore(page, &mut [0]);
}

/// Called before each sleep on a lock: whoever holds it for a fork may wait for something that the
/// caller has.
#[cold]
pub(crate) fn look_for_stuck_fork() {
    let holder = HOLDER.load(Ordering::Relaxed);
    let waited_cycles = cycle_counter().wrapping_sub(SINCE_CYCLES.load(Ordering::Relaxed));
    let is_held = holder != NOBODY && holder & LENDS == 0 && holder != thread_pointer();
    if is_held && waited_cycles > PATIENCE_CYCLES {
        free_locks_of(holder);
    }
}

/// The number of a thread that borrows a lock from itself.
pub(crate) fn borrower() -> usize {
    thread_pointer() + BORROWER
}

/// Frees a lock that this thread holds, if that is for a fork, until [`take_for_fork`]; whether it
/// is. Nobody else takes the others away meanwhile.
pub(crate) fn give_up_for_now<T>(lock: &Lock<T>) -> bool {
    let me = thread_pointer();
    // Acquire, Release: only this thread writes to what it lends; a holder's change is seen above.
    let lends = HOLDER
        .compare_exchange(me, me | LENDS, Ordering::Acquire, Ordering::Relaxed)
        .map_or_else(|now| now == me | LENDS, |_| true);
    if !lends || !lock.is_held_by(me) {
        return false;
    }
    LENT_COUNT.fetch_add(1, Ordering::Relaxed);
    // SAFETY: this thread holds it for the fork.
    unsafe { lock.force_unlock() };
    true
}

/// Takes a lock that was lent back for the fork. If somebody was quicker, who may wait for others
/// of ours, all are given up.
pub(crate) fn take_for_fork<T>(lock: &Lock<T>) {
    let me = thread_pointer();
    match lock.try_lock(me) {
        Some(guard) => core::mem::forget(guard),
        None => IS_SPOILT.store(1, Ordering::Relaxed),
    }
    if LENT_COUNT.fetch_sub(1, Ordering::Relaxed) == 1 {
        // Release: as in `before`.
        HOLDER.store(me, Ordering::Release);
        if IS_SPOILT.swap(0, Ordering::Relaxed) == 1 {
            free_locks_of(me);
        }
    }
}
