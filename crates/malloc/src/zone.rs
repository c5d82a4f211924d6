//! First-class heaps: blocks that any thread allocates and frees, and that can all be destroyed at
//! once.
//!
//! A zone has spans of its own, so destroying it is giving them back, whatever lives in them. It
//! is one lock with free lists behind it: slower than the threads' own heaps (two atomics an
//! operation), and meant for data that dies together. Its blocks are freed and resized like all
//! others.
//!
//! # Invariants
//! design/malloc.md#I8.

use core::fmt;

use heapwright_core::size_class::{
    CLASS_COUNT, QUANTUM_BYTES, SMALL_BYTES_MAX, class_of, class_of_aligned,
};
use heapwright_sync::atomic::{AtomicPtr, Ordering};
use heapwright_sync::{Guard, Lock};

use crate::block::{self, Block};
use crate::descriptor::{Descriptor, LARGE, NO_SLICE, SliceIndex, ZONE};
use crate::geometry::Geometry;
use crate::heap::Heap;
use crate::large;
use crate::life::before_shared_lock;
use crate::pool::{Futex, in_signal_handler, lock};
use crate::region::{descriptor, index_of, slice_of};
use crate::sampling;
use crate::span::Span;
use crate::span_list;
use crate::thread_block::ThreadBlock;

/// What a zone's lock guards.
struct Inside {
    /// Number of the zone that lives here; never used again, 0 when there is none.
    id: u64,
    free: [Block; CLASS_COUNT],
    /// The span of each class that new slots come from.
    current: [SliceIndex; CLASS_COUNT],
    /// All spans, and all large blocks.
    spans: SliceIndex,
    large: SliceIndex,
    live_count: usize,
}

// SAFETY: the free blocks are reached under the lock only.
unsafe impl Send for Inside {}

/// Where a zone lives; kept for another one after its end.
pub(crate) struct ZonePlace {
    inside: Lock<Inside, Futex>,
    /// Next in the pool's list of free places; under its lock.
    pub(crate) next: AtomicPtr<ZonePlace>,
    /// Next in the list of all places there ever were.
    next_place: AtomicPtr<ZonePlace>,
}

/// All places there ever were, the latest first.
static PLACES: AtomicPtr<ZonePlace> = AtomicPtr::new(core::ptr::null_mut());

/// All places there ever were, the latest first.
fn all_places() -> impl Iterator<Item = &'static ZonePlace> {
    // Acquire: pairs with the Release in `register`; the place is complete.
    let mut next = PLACES.load(Ordering::Acquire);
    core::iter::from_fn(move || {
        // SAFETY: places live for ever; the last one's link is null.
        let place = unsafe { next.as_ref() }?;
        next = place.next_place.load(Ordering::Relaxed);
        Some(place)
    })
}

/// The place made last.
pub(crate) fn latest_place() -> *const ZonePlace {
    PLACES.load(Ordering::Acquire)
}

/// Locks all places that came after `before`, for a fork; returns the latest.
pub(crate) fn lock_places_after(before: *const ZonePlace) -> *const ZonePlace {
    let latest: *const ZonePlace = PLACES.load(Ordering::Acquire);
    for place in all_places() {
        if core::ptr::eq(place, before) {
            break;
        }
        core::mem::forget(place.lock());
    }
    latest
}

/// Frees what [`lock_places_after`] locked, on either side of a fork.
pub(crate) fn unlock_places() {
    for place in all_places() {
        // SAFETY: taken by this thread before the fork, the guard forgotten; in a child this is
        // the only thread.
        unsafe { place.inside.force_unlock() };
    }
}

/// In the child of a fork that was not announced: breaks the locks that are held. What is in the
/// zones concerned cannot be destroyed any more.
pub(crate) fn break_locks(me: usize) {
    for place in all_places() {
        if place.inside.break_if_held_by_other(me) {
            place.lock().forget();
        }
    }
}

/// A heap of one's own.
///
/// A copyable name: using it after [`Zone::destroy`] is noticed and fails.
#[derive(Clone, Copy)]
pub struct Zone {
    place: &'static ZonePlace,
    id: u64,
}

/// The zone was destroyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Destroyed;

impl fmt::Display for Destroyed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the zone was destroyed")
    }
}

impl core::error::Error for Destroyed {}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Zone").field("id", &self.id).finish()
    }
}

impl ZonePlace {
    pub(crate) const fn new() -> Self {
        Self {
            inside: Lock::new(Inside {
                id: 0,
                free: [core::ptr::null_mut(); CLASS_COUNT],
                current: [NO_SLICE; CLASS_COUNT],
                spans: NO_SLICE,
                large: NO_SLICE,
                live_count: 0,
            }),
            next: AtomicPtr::new(core::ptr::null_mut()),
            next_place: AtomicPtr::new(core::ptr::null_mut()),
        }
    }

    fn lock(&'static self) -> Guard<'static, Inside, Futex> {
        before_shared_lock();
        match self.inside.lock(ThreadBlock::token()) {
            Ok(guard) => guard,
            Err(_) => in_signal_handler(),
        }
    }

    /// Adds the place to the list of all; under the pool's lock.
    pub(crate) fn register(&'static self) {
        self.next_place.store(PLACES.load(Ordering::Relaxed), Ordering::Relaxed);
        // Release: pairs with the Acquire in `all_places`.
        PLACES.store(core::ptr::from_ref(self).cast_mut(), Ordering::Release);
    }

    fn as_heap(&'static self) -> *mut Heap {
        core::ptr::from_ref(self).cast_mut().cast()
    }
}

/// The place of the zone that `head`, whose owner is [`ZONE`] or a large block's, belongs to.
fn place_of(head: &Descriptor) -> Option<&'static ZonePlace> {
    let place = head.heap.load(Ordering::Relaxed).cast::<ZonePlace>();
    // SAFETY: set by `as_heap` for runs of zones; null for others. Places live for ever.
    unsafe { place.as_ref() }
}

impl Zone {
    /// A zone without blocks; none when there is no memory. One lock; some KiB when it is used.
    pub fn create() -> Option<Self> {
        let (place, id) = lock().take_zone()?;
        place.lock().id = id;
        Some(Self { place, id })
    }

    /// Where it lives.
    pub(crate) fn place(&self) -> &'static ZonePlace {
        self.place
    }

    /// Its number.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// The zone with that number in that place.
    pub(crate) fn named(place: &'static ZonePlace, id: u64) -> Self {
        Self { place, id }
    }

    fn enter(&self) -> Result<Guard<'static, Inside, Futex>, Destroyed> {
        let inside = self.place.lock();
        if inside.id == self.id { Ok(inside) } else { Err(Destroyed) }
    }

    /// A block of at least `bytes` at a multiple of `align_bytes`, from any thread. Null when
    /// there is no memory or `align_bytes` is no power of two.
    ///
    /// # Errors
    /// [`Destroyed`].
    pub fn alloc(&self, align_bytes: usize, bytes: usize) -> Result<*mut u8, Destroyed> {
        let mut inside = self.enter()?;
        if !align_bytes.is_power_of_two() {
            return Ok(core::ptr::null_mut());
        }
        let class_index = if align_bytes <= QUANTUM_BYTES {
            (bytes <= SMALL_BYTES_MAX).then(|| class_of(bytes))
        } else {
            class_of_aligned(bytes, align_bytes)
        };
        let block = match class_index {
            Some(class_index) => inside.alloc_small(class_index, self.place),
            None => inside.alloc_large(align_bytes, bytes, self.place),
        };
        if !block.is_null() {
            inside.live_count += 1;
        }
        Ok(block)
    }

    /// How many blocks are live.
    ///
    /// # Errors
    /// [`Destroyed`].
    pub fn live_count(&self) -> Result<usize, Destroyed> {
        Ok(self.enter()?.live_count)
    }

    /// Frees all blocks at once: O(spans), not O(blocks).
    ///
    /// # Errors
    /// [`Destroyed`] already.
    ///
    /// # Safety
    /// - Nobody uses a block of the zone any more, nor frees one.
    pub unsafe fn destroy(self) -> Result<(), Destroyed> {
        let mut inside = self.enter()?;
        inside.id = 0;
        inside.live_count = 0;
        while inside.spans != NO_SLICE {
            let index = inside.spans;
            inside.spans = span_list::remove(index, index);
            lock().give_span(Span::at(index));
        }
        while inside.large != NO_SLICE {
            let index = inside.large;
            inside.large = span_list::remove(index, index);
            descriptor(index).heap.store(core::ptr::null_mut(), Ordering::Relaxed);
            large::free(index);
        }
        inside.forget();
        drop(inside);
        lock().keep_zone(self.place);
        Ok(())
    }
}

impl Inside {
    fn forget(&mut self) {
        self.free = [core::ptr::null_mut(); CLASS_COUNT];
        self.current = [NO_SLICE; CLASS_COUNT];
        self.spans = NO_SLICE;
        self.large = NO_SLICE;
    }

    fn alloc_small(&mut self, class_index: usize, place: &'static ZonePlace) -> *mut u8 {
        if self.free[class_index].is_null() {
            let list = self.new_slots(class_index, place);
            if list.is_null() {
                return core::ptr::null_mut();
            }
            self.free[class_index] = list;
        }
        let block = self.free[class_index];
        // SAFETY: the head of a list of ours, under the lock.
        self.free[class_index] = unsafe { block::next(block) };
        block.cast()
    }

    fn new_slots(&mut self, class_index: usize, place: &'static ZonePlace) -> Block {
        let all = usize::from(Geometry::of(class_index).slot_count);
        let index = self.current[class_index];
        if index != NO_SLICE {
            let list = Span::at(index).take_slots(all);
            if !list.is_null() {
                return list;
            }
        }
        let Some(span) = lock().new_span(class_index) else { return core::ptr::null_mut() };
        span.start_counting();
        span.head().heap.store(place.as_heap(), Ordering::Relaxed);
        // Release: pairs with the Acquire in `free_slow`, which then reads `heap`.
        span.head().owner.store(ZONE, Ordering::Release);
        self.spans = span_list::append(self.spans, span.index());
        self.current[class_index] = span.index();
        span.take_slots(all)
    }

    fn alloc_large(&mut self, align: usize, bytes: usize, place: &'static ZonePlace) -> *mut u8 {
        let block = large::alloc_in_region(bytes, align);
        if let Some(index) = slice_of(block) {
            descriptor(index).heap.store(place.as_heap(), Ordering::Relaxed);
            self.large = span_list::append(self.large, index);
        }
        block
    }
}

/// Frees `block`, given up by the program, of a zone's span.
pub(crate) fn free_small(head: &'static Descriptor, block: Block) {
    let Some(place) = place_of(head) else { return };
    if !sampling::is_samples(place) {
        give_back(head, block);
        return;
    }
    // Before somebody else can have the address.
    let held = sampling::freed(block);
    give_back(head, block);
    // SAFETY: null, or a place that was held for this block and that nobody has seen.
    unsafe { crate::free::free(held) };
}

/// [`free_small`] of what nobody is told of.
pub(crate) fn give_back(head: &'static Descriptor, block: Block) {
    let Some(place) = place_of(head) else { return };
    let mut inside = place.lock();
    let class_index = usize::from(head.class_index.load(Ordering::Relaxed));
    // SAFETY: the block was given up; the lists are ours under the lock.
    unsafe { block::set_next(block, inside.free[class_index]) };
    inside.free[class_index] = block;
    inside.live_count = inside.live_count.saturating_sub(1);
}

/// Takes a large block that is to be freed or moved out of its zone's list, if it has a zone.
pub(crate) fn forget_large(head: &'static Descriptor) {
    debug_assert_eq!(head.owner.load(Ordering::Relaxed), LARGE);
    let Some(place) = place_of(head) else { return };
    let mut inside = place.lock();
    head.heap.store(core::ptr::null_mut(), Ordering::Relaxed);
    inside.large = span_list::remove(inside.large, index_of(head));
    inside.live_count = inside.live_count.saturating_sub(1);
}
