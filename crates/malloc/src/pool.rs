//! What all threads share, under one lock: the runs, heaps without a thread, direct mappings. It is
//! the innermost lock; who holds it calls nothing but the kernel.

use core::time::Duration;

use heapwright_os::{futex_wait, futex_wake};
use heapwright_sync::atomic::{AtomicPtr, AtomicU32, Ordering};
use heapwright_sync::{Guard, Lock, Wait};

use crate::descriptor::INTERIOR;
use crate::direct::DirectMappings;
use crate::fatal::fatal;
use crate::heap::Heap;
use crate::life;
use crate::limits::limits;
use crate::nodes::{NodeRuns, NodeWish};
use crate::region::{SLICE_BYTES, descriptor, reserve_metadata, reserve_region};
use crate::span::Span;
use crate::thread_block::ThreadBlock;
use crate::zone_place::ZonePlace;

/// Heaps are cut from metadata of this size.
const HEAP_CHUNK_BYTES: usize = 64 * 1024;

/// Sleep of those who may have missed being woken.
const LOOK_AGAIN: Duration = Duration::from_millis(1);
/// Sleep of those who may have to free what a fork holds.
const LOOK_FOR_FORK: Duration = Duration::from_millis(100);

/// Sleeping by futex.
#[derive(Debug)]
pub(crate) struct Futex;

impl Wait for Futex {
    fn wait(word: &AtomicU32, value: u32) {
        // Any reason to return is a reason to look again.
        let _ = futex_wait(word, value, Some(LOOK_FOR_FORK));
    }

    fn wake_one(word: &AtomicU32) {
        futex_wake(word, 1);
    }

    fn before_wait() {
        life::look_for_forks();
    }
}

/// Sleeping on a lock that is nearly always its owner's alone, and is freed without an atomic
/// exchange for that: half of what a refill costs. Whoever waits looks again by itself.
#[derive(Debug)]
pub(crate) struct OwnersFutex;

impl Wait for OwnersFutex {
    const IS_WAKE_LOSABLE: bool = true;

    fn wait(word: &AtomicU32, value: u32) {
        let _ = futex_wait(word, value, Some(LOOK_AGAIN));
    }

    fn wake_one(word: &AtomicU32) {
        futex_wake(word, 1);
    }

    fn before_wait() {
        life::look_for_forks();
    }
}

/// The shared state.
pub(crate) struct Pool {
    pub(crate) runs: NodeRuns,
    pub(crate) direct: DirectMappings,
    /// How many of the first heaps were ever used.
    first_heap_count: usize,
    /// Heaps without a thread, linked; their queues are closed.
    idle_heaps: *mut Heap,
    /// Places without a zone, linked.
    idle_zones: *mut ZonePlace,
    /// The last number given to a zone.
    last_zone_id: u64,
    /// Rest of the chunk that heaps are cut from.
    heap_chunk: *mut u8,
    heap_chunk_bytes: usize,
    is_started: bool,
    /// Bytes of slices in small spans.
    pub(crate) small_bytes: usize,
    /// Usable bytes of large blocks.
    pub(crate) large_bytes: usize,
    /// Large blocks.
    pub(crate) large_count: usize,
    /// Usable bytes of all large blocks since the start.
    pub(crate) handed_large_bytes: u64,
}

// SAFETY: the pointers lead to heaps and metadata that live for ever, and are used under the
// lock only.
unsafe impl Send for Pool {}

static POOL: Lock<Pool, Futex> = Lock::new(Pool::new());

/// A heap that one thread at a time has, and that others reach by its parts that allow it.
struct FirstHeap(Heap);

// SAFETY: as for the heaps made later, which are shared by pointer: the outbox is the owner's
// alone, everything else is atomic or behind a lock.
unsafe impl Sync for FirstHeap {}

/// The first threads', on a page that is written anyway.
static FIRST_HEAPS: [FirstHeap; FIRST_HEAP_COUNT] =
    [const { FirstHeap(Heap::new()) }; FIRST_HEAP_COUNT];
const FIRST_HEAP_COUNT: usize = 1;

/// All heaps there ever were, linked by `Heap::next`, the latest first.
static HEAPS: AtomicPtr<Heap> = AtomicPtr::new(core::ptr::null_mut());

/// The pool, locked, as by [`take`].
pub(crate) fn lock() -> Guard<'static, Pool, Futex> {
    life::before_shared_lock();
    let mut pool = take(&POOL);
    if !pool.is_started {
        pool.start();
    }
    pool
}

/// Takes `lock`. Ends the process when this thread holds it, except for a fork.
#[inline]
pub(crate) fn take<T, W: Wait>(lock: &'static Lock<T, W>) -> Guard<'static, T, W> {
    let me = ThreadBlock::token();
    match lock.lock(me) {
        Ok(guard) => guard,
        Err(_) => take_from_fork(lock, me),
    }
}

/// [`take`] of a lock that this thread holds: when it does so for a fork, a handler that libc calls
/// between ours has allocated.
#[cold]
fn take_from_fork<T, W: Wait>(lock: &'static Lock<T, W>, me: usize) -> Guard<'static, T, W> {
    life::give_way();
    lock.lock(me).unwrap_or_else(|_| in_signal_handler())
}

/// The pool's lock itself, for forks.
pub(crate) fn pool_lock() -> &'static Lock<Pool, Futex> {
    &POOL
}

/// Ends the process: a thread meets a lock that it holds.
#[cold]
#[inline(never)]
pub(crate) fn in_signal_handler() -> ! {
    fatal(b"heapwright: malloc called in a signal handler that interrupted malloc\n")
}

/// All heaps there ever were, the latest first.
pub(crate) fn all_heaps() -> impl Iterator<Item = &'static Heap> {
    // Acquire: pairs with the Release in `take_heap`; the heap is complete.
    let mut next = HEAPS.load(Ordering::Acquire);
    core::iter::from_fn(move || {
        // SAFETY: heaps live for ever; the last one's link is null.
        let heap = unsafe { next.as_ref() }?;
        next = heap.next.load(Ordering::Relaxed);
        Some(heap)
    })
}

impl Pool {
    const fn new() -> Self {
        Self {
            runs: NodeRuns::new(),
            direct: DirectMappings::new(),
            first_heap_count: 0,
            idle_heaps: core::ptr::null_mut(),
            idle_zones: core::ptr::null_mut(),
            last_zone_id: 0,
            heap_chunk: core::ptr::null_mut(),
            heap_chunk_bytes: 0,
            is_started: false,
            small_bytes: 0,
            large_bytes: 0,
            large_count: 0,
            handed_large_bytes: 0,
        }
    }

    #[cold]
    fn start(&mut self) {
        self.is_started = true;
        if let Some(extent) = reserve_region() {
            self.runs.set_extent(extent);
        }
    }

    /// A heap for a thread, its queue open; none when there is no memory.
    pub(crate) fn take_heap(&mut self) -> Option<&'static Heap> {
        // SAFETY: idle heaps live for ever, and this one leaves the list here.
        if let Some(heap) = unsafe { self.idle_heaps.as_ref() } {
            self.idle_heaps = heap.next_idle.load(Ordering::Relaxed);
            heap.remote.open();
            return Some(heap);
        }
        let heap = match FIRST_HEAPS.get(self.first_heap_count) {
            Some(heap) => {
                self.first_heap_count += 1;
                &heap.0
            }
            None => self.new_heap()?,
        };
        heap.next.store(HEAPS.load(Ordering::Relaxed), Ordering::Relaxed);
        // Release: pairs with the Acquire in `all_heaps`.
        HEAPS.store(core::ptr::from_ref(heap).cast_mut(), Ordering::Release);
        Some(heap)
    }

    fn new_heap(&mut self) -> Option<&'static Heap> {
        let place = self.cut_metadata(size_of::<Heap>()).cast::<Heap>();
        if place.is_null() {
            return None;
        }
        // SAFETY: fresh metadata of that size, aligned to 64; nobody has it yet.
        unsafe { place.write(Heap::new()) };
        // SAFETY: written above; never freed.
        Some(unsafe { &*place })
    }

    /// `bytes`, a multiple of 64, of metadata that is never given back, aligned to 64; null when
    /// there is none.
    pub(crate) fn cut_metadata(&mut self, bytes: usize) -> *mut u8 {
        debug_assert!(bytes.is_multiple_of(64) && bytes <= HEAP_CHUNK_BYTES);
        if self.heap_chunk_bytes < bytes {
            self.heap_chunk = reserve_metadata(HEAP_CHUNK_BYTES);
            self.heap_chunk_bytes = if self.heap_chunk.is_null() { 0 } else { HEAP_CHUNK_BYTES };
        }
        let place = self.heap_chunk;
        if !place.is_null() {
            self.heap_chunk = place.wrapping_add(bytes);
            self.heap_chunk_bytes -= bytes;
        }
        place
    }

    /// A place for a zone and a number that no zone had before; none when there is no memory.
    pub(crate) fn take_zone(&mut self) -> Option<(&'static ZonePlace, u64)> {
        self.last_zone_id += 1;
        // SAFETY: idle places live for ever, and this one leaves the list here.
        if let Some(place) = unsafe { self.idle_zones.as_ref() } {
            self.idle_zones = place.next.load(Ordering::Relaxed);
            return Some((place, self.last_zone_id));
        }
        let bytes = size_of::<ZonePlace>().next_multiple_of(64);
        let place = self.cut_metadata(bytes).cast::<ZonePlace>();
        if place.is_null() {
            return None;
        }
        // SAFETY: fresh metadata of that size, aligned to 64; nobody has it yet.
        unsafe { place.write(ZonePlace::new()) };
        // SAFETY: written above; never freed.
        let place: &'static ZonePlace = unsafe { &*place };
        place.register();
        Some((place, self.last_zone_id))
    }

    /// Keeps the place of a zone that was destroyed.
    pub(crate) fn keep_zone(&mut self, place: &'static ZonePlace) {
        place.next.store(self.idle_zones, Ordering::Relaxed);
        self.idle_zones = core::ptr::from_ref(place).cast_mut();
    }

    /// Keeps a heap whose thread has ended. Its queue is closed and it owns nothing.
    pub(crate) fn keep_heap(&mut self, heap: &'static Heap) {
        heap.next_idle.store(self.idle_heaps, Ordering::Relaxed);
        self.idle_heaps = core::ptr::from_ref(heap).cast_mut();
    }

    /// A block with a mapping of its own; null when there is no memory or the limit forbids it.
    pub(crate) fn alloc_direct(&mut self, bytes: usize, align_bytes: usize) -> *mut u8 {
        let held = self.runs.held_bytes(0).saturating_add(self.direct.usable_bytes);
        if held.saturating_add(bytes) > limits().hard_bytes {
            return core::ptr::null_mut();
        }
        self.direct.alloc(bytes, align_bytes)
    }

    /// Whether a span could be had whose pages may be resident already.
    pub(crate) fn has_resident_run(&mut self) -> bool {
        self.runs.has_dirty(1)
    }

    /// A span of `class_index` without used slots for the thread of `heap`, whose thread pointer is
    /// `owner`: active, in no list. None when there is no memory.
    pub(crate) fn new_span(
        &mut self,
        class_index: usize,
        heap: &'static Heap,
        owner: usize,
    ) -> Option<Span> {
        let span = self.new_span_on(class_index, NodeWish::Local)?;
        span.become_active(heap, owner);
        Some(span)
    }

    /// A span of `class_index` near `node`, without used slots: passive, in no list. None when
    /// there is no memory.
    pub(crate) fn new_span_on(&mut self, class_index: usize, node: NodeWish) -> Option<Span> {
        let run = self.runs.take_on(1, node)?;
        descriptor(run.index).node.store(self.runs.part_of(run.index), Ordering::Relaxed);
        self.small_bytes += SLICE_BYTES;
        Some(Span::init(run.index, class_index))
    }

    /// Gives a span without used slots, in no list, back to the runs.
    pub(crate) fn give_span(&mut self, span: Span) {
        span.clear_bits();
        let head = span.head();
        head.owner.store(INTERIOR, Ordering::Relaxed);
        self.small_bytes -= SLICE_BYTES;
        self.runs.give(span.index(), 1, span.touched() != 0);
    }
}
