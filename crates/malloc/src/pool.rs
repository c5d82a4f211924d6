//! What all threads share, under one lock: the runs, abandoned spans, heaps without a thread.

use heapwright_core::size_class::CLASS_COUNT;
use heapwright_os::{futex_wait, futex_wake};
use heapwright_sync::atomic::{AtomicU32, Ordering};
use heapwright_sync::{Guard, Lock, Wait};

use crate::descriptor::{ABANDONED, INTERIOR, NO_SLICE, Place, SliceIndex};
use crate::direct::DirectMappings;
use crate::fatal::fatal;
use crate::heap::Heap;
use crate::region::{descriptor, reserve_metadata, reserve_region};
use crate::runs::Runs;
use crate::span_list;
use crate::thread_block::ThreadBlock;

/// Heaps are cut from metadata of this size.
const HEAP_CHUNK_BYTES: usize = 64 * 1024;

/// Sleeping by futex.
#[derive(Debug)]
pub(crate) struct Futex;

impl Wait for Futex {
    fn wait(word: &AtomicU32, value: u32) {
        // Any reason to return is a reason to look again.
        let _ = futex_wait(word, value, None);
    }

    fn wake_one(word: &AtomicU32) {
        futex_wake(word, 1);
    }
}

/// The shared state.
pub(crate) struct Pool {
    pub(crate) runs: Runs,
    pub(crate) direct: DirectMappings,
    /// Abandoned spans with free slots, by class.
    abandoned: [SliceIndex; CLASS_COUNT],
    /// Heaps without a thread, linked; their queues are closed.
    idle_heaps: *const Heap,
    /// Rest of the chunk that heaps are cut from.
    heap_chunk: *mut u8,
    heap_chunk_bytes: usize,
    is_started: bool,
    /// Slices in small spans.
    pub(crate) small_slices: usize,
    /// Usable bytes of large blocks.
    pub(crate) large_bytes: usize,
    /// Large blocks.
    pub(crate) large_count: usize,
}

// SAFETY: the pointers lead to heaps and metadata that live for ever, and are used under the
// lock only.
unsafe impl Send for Pool {}

static POOL: Lock<Pool, Futex> = Lock::new(Pool::new());

/// The pool, locked. Ends the process when this thread holds it already.
pub(crate) fn lock() -> Guard<'static, Pool, Futex> {
    match POOL.lock(ThreadBlock::current().token()) {
        Ok(mut pool) => {
            if !pool.is_started {
                pool.start();
            }
            pool
        }
        Err(_) => fatal(b"heapwright: malloc called in a signal handler that interrupted malloc\n"),
    }
}

/// Frees the lock in the parent or child of a fork.
///
/// # Safety
/// - The forking thread locked the pool before the fork and forgot the guard.
pub(crate) unsafe fn unlock_after_fork() {
    // SAFETY: the caller's promise.
    unsafe { POOL.force_unlock() };
}

impl Pool {
    const fn new() -> Self {
        Self {
            runs: Runs::new(),
            direct: DirectMappings::new(),
            abandoned: [NO_SLICE; CLASS_COUNT],
            idle_heaps: core::ptr::null(),
            heap_chunk: core::ptr::null_mut(),
            heap_chunk_bytes: 0,
            is_started: false,
            small_slices: 0,
            large_bytes: 0,
            large_count: 0,
        }
    }

    #[cold]
    fn start(&mut self) {
        self.is_started = true;
        self.runs.set_limit(reserve_region());
    }

    /// A heap for a thread, its queue open; none when there is no memory.
    pub(crate) fn take_heap<'a>(&mut self) -> Option<&'a Heap> {
        // SAFETY: idle heaps live for ever, and this one leaves the list here.
        if let Some(heap) = unsafe { self.idle_heaps.as_ref() } {
            self.idle_heaps = heap.next_idle.get();
            heap.remote.open();
            return Some(heap);
        }
        if self.heap_chunk_bytes < size_of::<Heap>() {
            self.heap_chunk = reserve_metadata(HEAP_CHUNK_BYTES);
            self.heap_chunk_bytes = if self.heap_chunk.is_null() { 0 } else { HEAP_CHUNK_BYTES };
        }
        let place = self.heap_chunk.cast::<Heap>();
        if place.is_null() {
            return None;
        }
        self.heap_chunk = self.heap_chunk.wrapping_add(size_of::<Heap>());
        self.heap_chunk_bytes -= size_of::<Heap>();
        // SAFETY: inside the chunk, whose start is a page's and heaps are 64 bytes aligned and
        // sized; nobody has it yet.
        unsafe { place.write(Heap::new()) };
        // SAFETY: written above; never freed.
        Some(unsafe { &*place })
    }

    /// Keeps a heap whose thread has ended. Its queue is closed and it owns nothing.
    pub(crate) fn keep_heap(&mut self, heap: &'static Heap) {
        heap.next_idle.set(self.idle_heaps);
        self.idle_heaps = heap;
    }

    /// An abandoned span of `class_index` with free slots, out of its list; still abandoned.
    pub(crate) fn take_abandoned(&mut self, class_index: usize) -> Option<SliceIndex> {
        let head = self.abandoned.get_mut(class_index)?;
        let index = *head;
        if index == NO_SLICE {
            return None;
        }
        // SAFETY: in the list, under the lock.
        *head = unsafe { span_list::remove(index, index) };
        Some(index)
    }

    /// Takes an abandoned span out of the list it may be in.
    pub(crate) fn unlist_abandoned(&mut self, index: SliceIndex) {
        // SAFETY: spans lie below the frontier.
        let span = unsafe { descriptor(index) };
        debug_assert_eq!(span.owner.load(Ordering::Relaxed), ABANDONED);
        if Place::from_number(span.place.load(Ordering::Relaxed)) != Place::Listed {
            return;
        }
        let class_index = usize::from(span.class_index.load(Ordering::Relaxed));
        if let Some(head) = self.abandoned.get_mut(class_index) {
            // SAFETY: listed, under the lock.
            *head = unsafe { span_list::remove(*head, index) };
        }
    }

    /// Makes a span that is in no list abandoned.
    pub(crate) fn abandon(&mut self, index: SliceIndex, has_free_slots: bool) {
        // SAFETY: spans lie below the frontier.
        let span = unsafe { descriptor(index) };
        let place = if has_free_slots { Place::Listed } else { Place::Unlisted };
        span.place.store(place as u8, Ordering::Relaxed);
        let class_index = usize::from(span.class_index.load(Ordering::Relaxed));
        if has_free_slots && let Some(head) = self.abandoned.get_mut(class_index) {
            // SAFETY: in no list (the caller's word), under the lock.
            *head = unsafe { span_list::append(*head, index) };
        }
        // Release: pairs with the Acquire in `free_slow`, which then comes for the lock.
        span.owner.store(ABANDONED, Ordering::Release);
    }

    /// Gives a span without live blocks back to the runs.
    pub(crate) fn give_span(&mut self, index: SliceIndex) {
        // SAFETY: spans lie below the frontier.
        let span = unsafe { descriptor(index) };
        debug_assert_eq!(span.used_count.load(Ordering::Relaxed), 0);
        let slices = span.run_slices.load(Ordering::Relaxed);
        span.owner.store(INTERIOR, Ordering::Relaxed);
        self.small_slices -= slices as usize;
        self.runs.give(index, slices, true);
    }
}
