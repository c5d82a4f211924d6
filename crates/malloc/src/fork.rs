//! Forks, announced and not.
//!
//! libc's `fork` takes every lock before and frees it after, in both processes (`holder`), in the one
//! order that all slow paths keep: zones, heaps, classes, pool. So the child finds every structure whole; what
//! other threads were doing in hot paths is cut off at some instruction, which loses at most the
//! block in hand (design/malloc.md#pending). Their heaps are orphans in the child, whose spans
//! whoever frees into them or runs out of its own takes over.
//!
//! `_Fork` and raw fork system calls announce nothing. Their child notices when it would have to
//! wait for a lock: no thread that could free it came along. It then breaks the locks that are
//! held and forgets what they guard, since it may be half changed. A fork shows by a page that the
//! kernel wipes in a child; a process id would not do, since the child of a vfork has another one
//! and runs in our memory, beside our threads. A thread that has never allocated and forks unannounced
//! while the very first allocation of another goes on is not helped.

heapwright_os::forks!("heapwright_malloc_inner_forks_0_1", "heapwright_malloc_signals_0_1");
mod holder;

use heapwright_core::size_class::CLASS_COUNT;
use heapwright_os::{
    Advice, Protection, advise, page_bytes, process_id, release, reserve, yield_now,
};
use heapwright_sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering};
use heapwright_sync::{Lock, Wait};

use crate::class_pool::{class_lock, lock_class};
use crate::descriptor::{Descriptor, NO_SLICE, ORPHANED, PASSIVE, Place, SliceIndex};
use crate::free::free_all_redirected;
use crate::heap::{Heap, Inside};
use crate::life::set_thread_count;
use crate::pending::settle;
use crate::pool::{Futex, all_heaps, lock, pool_lock, take};
use crate::purger;
use crate::quick::{keep_owners_out, let_owners_in};
use crate::region::descriptor;
use crate::span::Span;
use crate::span_list;
use crate::thread_block::ThreadBlock;
use crate::walk::InHand;
use crate::zone_place;

pub(crate) use holder::{
    after_fork_in_child, after_fork_in_parent, before_fork, give_way, look_for_forks,
};

/// `Heap::owner` of a heap whose thread is not in this process.
const ORPHAN: usize = 1;
/// How often a busy orphan is tried before a block freed into it is given up.
const ORPHAN_TRIES: u32 = 1000;

/// A word that is 1 in the process that the structures belong to, and 0 in a copy of it that a
/// fork made and that has not noticed yet. Null where the kernel wipes no pages (before 4.14, or
/// a sandbox): unannounced forks then go unnoticed.
static WITNESS: AtomicPtr<AtomicU32> = AtomicPtr::new(core::ptr::null_mut());
/// Heaps that are orphans.
static ORPHAN_COUNT: AtomicU32 = AtomicU32::new(0);

/// 1 when the kernel was asked for a witness and had none.
static REFUSED: AtomicU32 = AtomicU32::new(0);
/// Token of the one thread that may take shared locks without a witness; 0 before there is one.
static FIRST: AtomicUsize = AtomicUsize::new(0);
/// The process that libc knows to be itself: the one that was started, or the child of an announced
/// fork. 0 before it is known.
static PROCESS: AtomicU32 = AtomicU32::new(0);
/// [`PROCESS`] in the child of an unannounced fork.
const UNKNOWN_TO_LIBC: u32 = u32::MAX;

/// Called before a lock is taken that several threads share. A process whose threads can hold one
/// while another forks must have its witness by then: a child whose parent had none would wait for
/// a thread that is not there. One thread, the first to come here, makes none, since a process with
/// one thread can save the page. A later thread may have its token when it has ended.
#[inline]
pub(crate) fn before_shared_lock() {
    if WITNESS.load(Ordering::Relaxed).is_null()
        && FIRST.load(Ordering::Relaxed) != ThreadBlock::token()
    {
        note_thread();
    }
}

#[cold]
fn note_thread() {
    let me = ThreadBlock::token();
    // Relaxed: who loses needs nothing that the first has written.
    if FIRST.compare_exchange(0, me, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
        return;
    }
    if REFUSED.load(Ordering::Relaxed) != 0 {
        return;
    }
    let Some(fresh) = new_witness() else {
        REFUSED.store(1, Ordering::Relaxed);
        return;
    };
    // Release: whoever sees the page sees the 1 in it. A 0 would be a fork, and break the locks
    // that others hold. Of two threads that come here at once one wastes its page; neither goes on
    // to a lock before there is a witness.
    let null = core::ptr::null_mut();
    let _ = WITNESS.compare_exchange(null, fresh, Ordering::Release, Ordering::Relaxed);
}

/// Notes that the structures belong to this process, which libc knows of.
pub(crate) fn note_process() {
    PROCESS.store(process_id(), Ordering::Relaxed);
    if let Some(witness) = witness() {
        witness.store(1, Ordering::Relaxed);
    }
}

/// Whether this is the child of a fork that libc does not know of, or of a vfork: libc's own locks
/// may be held by threads that are not here, so no thread may be started.
pub fn is_unannounced_child() -> bool {
    look_for_raw_fork();
    let known = PROCESS.load(Ordering::Relaxed);
    known != 0 && known != process_id()
}

fn witness() -> Option<&'static AtomicU32> {
    // Acquire: pairs with the Release in `note_thread`.
    // SAFETY: null, or a word of a page that is never given back.
    unsafe { WITNESS.load(Ordering::Acquire).as_ref() }
}

/// A word in a page of its own that is 1 here and that the kernel wipes in the child of a fork.
#[cold]
fn new_witness() -> Option<*mut AtomicU32> {
    let bytes = page_bytes();
    let page = reserve(bytes, Protection::ReadWrite).ok()?;
    // SAFETY: the page was just reserved and is nobody else's.
    if unsafe { advise(page, bytes, Advice::WipeOnFork) }.is_err() {
        // SAFETY: as above; nobody has seen it. A refusal loses one page.
        let _ = unsafe { release(page, bytes) };
        return None;
    }
    let witness = page.as_ptr().cast::<AtomicU32>();
    // SAFETY: a page of our own, aligned and large enough; any word is a valid value.
    unsafe { &*witness }.store(1, Ordering::Relaxed);
    Some(witness)
}

fn is_orphan(heap: &Heap) -> bool {
    heap.owner.load(Ordering::Relaxed) == ORPHAN
}

/// Locks all heaps that came after `before`; returns the latest.
fn lock_heaps_after(before: *mut Heap) -> *mut Heap {
    let mut latest = before;
    for heap in all_heaps() {
        let place = core::ptr::from_ref(heap).cast_mut();
        if place == before {
            break;
        }
        if latest == before {
            latest = place;
        }
        if !is_orphan(heap) {
            core::mem::forget(heap.lock_inside());
        }
    }
    latest
}

/// Held by who holds every lock or is about to. Two threads that take all heaps at once would take
/// them in different orders when a heap is made meanwhile, and wait for each other for ever.
static EVERYTHING: Lock<(), Futex> = Lock::new(());

/// Whether the calling thread is inside: a signal handler has interrupted a slow path, a walk, or
/// another fork.
fn is_inside() -> bool {
    let me = ThreadBlock::token();
    EVERYTHING.is_reentered_by(me)
        || pool_lock().is_reentered_by(me)
        || (0..CLASS_COUNT).any(|class_index| class_lock(class_index).is_reentered_by(me))
        || all_heaps().any(|heap| heap.inside.is_reentered_by(me))
        || zone_place::all_places().any(|place| place.inside_lock().is_reentered_by(me))
}

/// Takes every lock, for a fork or a walk.
///
/// # Safety
/// - The calling thread holds none, and calls [`unlock_everything`] later.
pub(crate) unsafe fn lock_everything() {
    core::mem::forget(take(&EVERYTHING));
    // Kept over the fork; freed after it, by the same thread, in both processes.
    let mut latest_zone = zone_place::lock_places_after(core::ptr::null());
    let mut latest = lock_heaps_after(core::ptr::null_mut());
    loop {
        for class_index in 0..CLASS_COUNT {
            core::mem::forget(lock_class(class_index));
        }
        core::mem::forget(lock());
        let newest = all_heaps()
            .next()
            .map_or(core::ptr::null_mut(), |heap| core::ptr::from_ref(heap).cast_mut());
        if newest == latest && zone_place::latest_place() == latest_zone {
            break;
        }
        // Heaps and zones are made under the pool's lock; some were before we had it.
        // SAFETY: taken above.
        unsafe { unlock_classes_and_pool(ThreadBlock::token()) };
        latest_zone = zone_place::lock_places_after(latest_zone);
        latest = lock_heaps_after(latest);
    }
    keep_owners_out();
}

/// Frees `lock` if the thread `holder` holds it, one of those whose guards it forgot.
///
/// # Safety
/// - That thread is the caller, has left it to the caller, or forked while it held everything, and
///   this is the only thread of the child.
unsafe fn free_if_held_by<T, W: Wait>(lock: &Lock<T, W>, holder: usize) {
    if lock.is_held_by(holder) {
        // SAFETY: the caller's promise.
        unsafe { lock.force_unlock() };
    }
}

/// # Safety
/// - As for [`free_if_held_by`].
unsafe fn unlock_classes_and_pool(holder: usize) {
    // SAFETY: the caller's promise.
    unsafe { free_if_held_by(pool_lock(), holder) };
    for class_index in 0..CLASS_COUNT {
        // SAFETY: the caller's promise.
        unsafe { free_if_held_by(class_lock(class_index), holder) };
    }
}

/// Frees what the thread `holder` locked by [`lock_everything`].
///
/// # Safety
/// - As for [`free_if_held_by`].
unsafe fn unlock_everything_of(holder: usize) {
    // SAFETY: the caller's promise.
    zone_place::all_places()
        .for_each(|place| unsafe { free_if_held_by(place.inside_lock(), holder) });
    let_owners_in();
    // SAFETY: the caller's promise.
    all_heaps().for_each(|heap| unsafe { free_if_held_by(&heap.inside, holder) });
    // The pool last: while it is locked no heap and no zone is made whose lock is not ours.
    // SAFETY: the caller's promise.
    unsafe { unlock_classes_and_pool(holder) };
    // SAFETY: the caller's promise.
    unsafe { free_if_held_by(&EVERYTHING, holder) };
}

/// Frees what [`lock_everything`] locked.
///
/// # Safety
/// - The calling thread locked everything.
pub(crate) unsafe fn unlock_everything() {
    // SAFETY: the caller's promise.
    unsafe { unlock_everything_of(ThreadBlock::token()) };
}

/// In the child of an announced fork, when all locks are free: what was other threads' is nobody's.
fn orphan_others() {
    let own = ThreadBlock::current().heap.get();
    set_thread_count(u32::from(!own.is_null()));
    for heap in all_heaps() {
        let owner = heap.owner.load(Ordering::Relaxed);
        if owner == ORPHAN && heap.inside.is_held() {
            // Its adopter is not here. What it left half changed is lost to the child.
            // SAFETY: this is the only thread.
            unsafe { heap.inside.force_unlock() };
            heap.forget();
        }
        if owner > ORPHAN && !core::ptr::eq(heap, own) {
            make_orphan(heap);
        }
    }
}

/// Calls `each` with every span of the heap.
fn for_each_span(heap: &Heap, inside: &Inside, mut each: impl FnMut(Span)) {
    let heads = inside.lists.iter().flat_map(|lists| [lists.available, lists.full]);
    for head in heads.chain([inside.pending]) {
        let mut next = (head != NO_SLICE).then_some(head);
        while let Some(index) = next {
            each(Span::at(index));
            next = span_list::after(head, index);
        }
    }
    let currents = (0..CLASS_COUNT).map(|class_index| heap.current(class_index));
    currents.filter(|index| *index != NO_SLICE).for_each(|index| each(Span::at(index)));
}

/// Notes that the thread of `heap` is not in this process. The thread pointer of its spans' owner
/// may be that of a new thread soon, so they get another owner at once.
fn make_orphan(heap: &'static Heap) {
    let inside = heap.lock_inside();
    for_each_span(heap, &inside, |span| span.head().owner.store(ORPHANED, Ordering::Relaxed));
    heap.outbox.forget_if_cut();
    heap.owner.store(ORPHAN, Ordering::Relaxed);
    ORPHAN_COUNT.fetch_add(1, Ordering::Relaxed);
}

/// Makes the spans of one orphan passive, if there is one; whether there was.
pub(crate) fn adopt_an_orphan() -> bool {
    if ORPHAN_COUNT.load(Ordering::Relaxed) == 0 {
        return false;
    }
    all_heaps().any(|heap| is_orphan(heap) && dissolve(heap))
}

/// Makes the spans of the orphan that `head` belongs to passive.
#[cold]
pub(crate) fn adopt_orphans_of(head: &Descriptor) {
    // SAFETY: heaps live for ever.
    let Some(heap) = (unsafe { head.heap.load(Ordering::Relaxed).as_ref() }) else {
        yield_now();
        return;
    };
    for _ in 0..ORPHAN_TRIES {
        if dissolve(heap) || head.owner.load(Ordering::Relaxed) != ORPHANED {
            return;
        }
        yield_now();
    }
    // The heap's structure was lost in a fork of a fork. The span stays as it is, passive, in no
    // list, and its free slots are lost.
    head.bit_count.store(0, Ordering::Relaxed);
    head.local_free.store(core::ptr::null_mut(), Ordering::Relaxed);
    head.owner.store(PASSIVE, Ordering::Relaxed);
}

/// Makes all spans of an orphan passive and keeps the heap for another thread; false when
/// somebody else is at it. Never waits: the caller may hold a heap's lock.
fn dissolve(heap: &'static Heap) -> bool {
    let _in_hand = InHand::new();
    let Some(mut inside) = heap.inside.try_lock(ThreadBlock::token()) else { return false };
    if !is_orphan(heap) {
        return false;
    }
    while let Some(index) = take_any(heap, &mut inside) {
        let span = Span::at(index);
        let mut pool = lock_class(span.class_index());
        if span.place().is_pending() {
            span.settle_links();
        } else {
            span.links_to_bits();
        }
        span.head().owner.store(PASSIVE, Ordering::Relaxed);
        settle(&mut pool, span);
    }
    heap.owner.store(0, Ordering::Relaxed);
    // Its thread may have been in the middle of one.
    heap.quick.leave();
    ORPHAN_COUNT.fetch_sub(1, Ordering::Relaxed);
    let list = heap.remote.close();
    drop(inside);
    free_all_redirected(list);
    lock().keep_heap(heap);
    true
}

fn take_any(heap: &Heap, inside: &mut Inside) -> Option<SliceIndex> {
    if inside.pending != NO_SLICE {
        let index = inside.pending;
        inside.pending = span_list::remove(index, index);
        return Some(index);
    }
    (0..CLASS_COUNT).find_map(|class_index| heap.take_span(inside, class_index))
}

/// In the child of a fork that was not announced: breaks the locks that are held, since their
/// holders are not here. Called before each sleep on a lock, and before looking for the purger.
#[cold]
pub(crate) fn look_for_raw_fork() {
    let Some(witness) = witness() else { return };
    // The first of the child's threads to come here does it.
    if witness.load(Ordering::Relaxed) != 0 || witness.swap(1, Ordering::Relaxed) != 0 {
        return;
    }
    PROCESS.store(UNKNOWN_TO_LIBC, Ordering::Relaxed);
    break_locks();
}

/// In the child of a fork whose parent's other threads may have held locks: breaks them.
fn break_locks() {
    let me = ThreadBlock::token();
    EVERYTHING.break_if_held_by_other(me);
    purger::forget();
    set_thread_count(u32::from(!ThreadBlock::current().heap.get().is_null()));
    if pool_lock().break_if_held_by_other(me) {
        lock().runs.forget();
    }
    for class_index in 0..CLASS_COUNT {
        if class_lock(class_index).break_if_held_by_other(me) {
            let mut pool = lock_class(class_index);
            pool.forget(class_index);
            unlist_spans_of(class_index);
        }
    }
    zone_place::break_locks(me);
    // Whoever had announced himself is not here.
    let_owners_in();
    let own = ThreadBlock::current().heap.get();
    for heap in all_heaps() {
        if core::ptr::eq(heap, own) {
            // A purger was visiting it.
            if heap.inside.break_if_held_by_other(me) {
                heap.forget();
                heap.outbox.forget();
                disown_spans_of(me);
            }
            continue;
        }
        if heap.owner.load(Ordering::Relaxed) <= ORPHAN {
            continue;
        }
        if heap.inside.break_if_held_by_other(me) {
            // Its spans keep their owner: blocks freed to them wait for ever.
            heap.forget();
        } else {
            make_orphan(heap);
        }
    }
}

/// Makes the passive spans of a class look like ones in no list, which they are in no more, with as
/// many free slots as the bitmap tells of: a vanished thread was changing one of them. The class's
/// lock is held. The next free into one lists it again.
fn unlist_spans_of(class_index: usize) {
    each_slice(|index| {
        let head = descriptor(index);
        if head.owner.load(Ordering::Relaxed) == PASSIVE {
            let span = Span::at(index);
            if span.class_index() == class_index && span.place().is_adoptable() {
                span.set_place(Place::Packed);
                span.count_bits();
            }
        }
    });
}

/// Makes the spans of this thread nobody's: the lists that they are in were lost.
fn disown_spans_of(me: usize) {
    each_slice(|index| {
        let head = descriptor(index);
        if head.owner.load(Ordering::Relaxed) == me {
            head.owner.store(ORPHANED, Ordering::Relaxed);
        }
    });
}

fn each_slice(mut visit: impl FnMut(SliceIndex)) {
    let mut part = 0;
    loop {
        let slices = lock().runs.ranges().nth(part);
        let Some(slices) = slices else { return };
        slices.for_each(&mut visit);
        part += 1;
    }
}
