//! The thread that holds every lock for a fork that libc announces: from our handler before it to
//! our handlers after it.
//!
//! libc does more in between: it calls the handlers that were registered before ours, and takes
//! locks of its own (of its list of open files, of its name services), whose holders may be
//! allocating and wait for us. So the locks can be given up:
//! - by the thread itself, when a handler of somebody else's allocates ([`give_way`]);
//! - by one that has waited for them for long, who frees them in the name of the thread that forks
//!   ([`look_for_forks`]). That thread is in no slow path, so nothing is half changed.
//!
//! The fork is then as good as unannounced: what other threads are doing at its instant is lost to
//! the child, and nothing breaks. The kernel copies memory page by page while other threads run; so
//! who takes the locks away says so first, and waits until no copy is on its way that does not show
//! it. glibc's lock of open files is taken before ours, since libc would
//! wait for it often: `fflush(NULL)` keeps it while it waits for a file in which `getline` allocates.

use heapwright_os::{StdioList, cycle_counter, mincore, page_bytes, process_id, yield_now};
use heapwright_sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::{
    break_locks, forks, is_inside, lock_everything, look_for_raw_fork, note_process, orphan_others,
    unlock_everything_of, witness,
};
use crate::life::thread_count;
use crate::merge;
use crate::purger;
use crate::thread_block::ThreadBlock;

/// [`HOLDER`] when there is none.
const NOBODY: usize = 0;
/// [`HOLDER`] while somebody frees the locks.
const FREEING: usize = 1;
/// Cycles that somebody waits before he takes a fork for stuck: about a second, longer than the
/// kernel needs to copy some ten GiB.
const PATIENCE_CYCLES: u64 = 1 << 31;

/// Token of the thread that holds every lock for a fork.
static HOLDER: AtomicUsize = AtomicUsize::new(NOBODY);
/// Since when.
static SINCE_CYCLES: AtomicU64 = AtomicU64::new(0);
/// A thread that has no heap may have its lock, too, and then wait for ours; it waits for long.
static FILES: StdioList = StdioList::new();

/// Before a fork: takes every lock.
pub(crate) unsafe extern "C" fn before_fork() {
    if forks::begins(is_inside()) {
        return;
    }
    FILES.before_fork(thread_count() > 1);
    // SAFETY: libc calls this outside of our functions, and one of those below after the fork.
    unsafe { lock_everything() };
    ThreadBlock::current().forking_process.set(process_id());
    SINCE_CYCLES.store(cycle_counter(), Ordering::Relaxed);
    // Release: pairs with the Acquire in `free_locks_of`, whose thread changes what we locked.
    HOLDER.store(ThreadBlock::token(), Ordering::Release);
}

/// After a fork, in the parent: frees them, or sees to it that whoever does so is through.
pub(crate) unsafe extern "C" fn after_fork_in_parent() {
    let Some(_signals) = forks::ends() else { return };
    free_own_locks();
    ThreadBlock::current().forking_process.set(0);
    FILES.after_fork_in_parent();
}

/// After a fork, in the child.
pub(crate) unsafe extern "C" fn after_fork_in_child() {
    // A child with other threads' locks finds out as after an unannounced fork.
    let Some(_signals) = forks::ends() else { return };
    FILES.after_fork_in_child();
    begin_child();
}

/// In the child: frees the locks and makes nobody's what was other threads'. Does nothing when that
/// is done, by a handler of somebody else's that allocated.
fn begin_child() {
    if ThreadBlock::current().forking_process.replace(0) == 0 {
        return;
    }
    let me = ThreadBlock::token();
    let is_whole = HOLDER.swap(NOBODY, Ordering::Relaxed) == me;
    // Those that somebody in the parent had not freed yet are not half changed either.
    // SAFETY: this thread held them and forgot the guards, and it is the only one.
    unsafe { unlock_everything_of(me) };
    if is_whole {
        note_process();
        purger::forget();
        merge::after_fork();
        orphan_others();
        return;
    }
    match witness() {
        // Does nothing when it was done, by a handler of somebody else's.
        Some(_) => look_for_raw_fork(),
        None => break_locks(),
    }
    note_process();
    merge::after_fork();
}

/// Frees the locks that the thread `holder` has for a fork, in its name; false when it has none, or
/// somebody else is at it.
fn free_locks_of(holder: usize) -> bool {
    // Acquire: pairs with the Release in `before_fork`.
    let claimed =
        HOLDER.compare_exchange(holder, FREEING, Ordering::Acquire, Ordering::Relaxed).is_ok();
    if claimed {
        if holder != ThreadBlock::token() {
            wait_for_copies();
        }
        // SAFETY: that thread took them, and leaves it to whoever made this exchange.
        unsafe { unlock_everything_of(holder) };
        // Release: pairs with the Acquire in `free_own_locks`.
        HOLDER.store(NOBODY, Ordering::Release);
    }
    claimed
}

/// Returns when no fork copies this process's memory any more that did when this was called. The
/// kernel then has the lock of the address space, which a look at what is resident waits for.
fn wait_for_copies() {
    let page = core::ptr::from_ref(&HOLDER).addr() & !(page_bytes() - 1);
    let _ = mincore(page, &mut [0]);
}

fn free_own_locks() {
    if !free_locks_of(ThreadBlock::token()) {
        // Acquire: pairs with the Release in `free_locks_of`.
        while HOLDER.load(Ordering::Acquire) == FREEING {
            yield_now();
        }
    }
}

/// For a thread that meets a lock of its own: gives up those that it has for a fork, if it has any.
#[cold]
pub(crate) fn give_way() {
    match ThreadBlock::current().forking_process.get() {
        0 => {}
        process if process == process_id() => free_own_locks(),
        _ => begin_child(),
    }
}

/// Called before each sleep on a lock: whoever holds it may not be in this process, or wait for
/// something that the caller has.
#[cold]
pub(crate) fn look_for_forks() {
    look_for_raw_fork();
    let holder = HOLDER.load(Ordering::Relaxed);
    let waited_cycles = cycle_counter().wrapping_sub(SINCE_CYCLES.load(Ordering::Relaxed));
    if holder > FREEING && waited_cycles > PATIENCE_CYCLES {
        free_locks_of(holder);
    }
}
