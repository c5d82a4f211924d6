//! What a zone's lock guards: its spans by class, its large blocks, its account.
//!
//! As in a thread's heap, a class has one current span, spans with room and full ones; free slots
//! go from the current span into a list some KiB at a time. A span whose last block is freed goes
//! back to the pool.
//!
//! # Invariants
//! - Z1: a span of the zone is current or in one of the two lists of its class, as its place says.
//! - Z2: `live_bytes` is the sum of the usable bytes of live blocks, never above the limit;
//!   `held_slices` the slices of all runs.

use core::alloc::Layout;
use core::ptr::NonNull;

use heapwright_core::size_class::{
    CLASS_COUNT, QUANTUM_BYTES, SMALL_BYTES_MAX, class_bytes, class_of,
};
use heapwright_sync::atomic::Ordering;

use crate::block::{self, Block};
use crate::descriptor::{Descriptor, NO_SLICE, Place, SliceIndex, ZONE};
use crate::free::push_local;
use crate::geometry::{Geometry, class_of_aligned};
use crate::large;
use crate::pool::lock;
use crate::region::{SLICE_BYTES, descriptor, index_of, slice_of};
use crate::span::Span;
use crate::span_list;
use crate::zone::{ZoneError, ZoneOptions, ZoneStatistics};
use crate::zone_place::ZonePlace;

/// A full span has room again when slots / this are free.
const WAKE_SHARE: i32 = 16;

/// Spans of one class.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ZoneLists {
    current: SliceIndex,
    available: SliceIndex,
    full: SliceIndex,
}

const NONE: ZoneLists = ZoneLists { current: NO_SLICE, available: NO_SLICE, full: NO_SLICE };

/// What a zone's lock guards.
pub(crate) struct Inside {
    /// Number of the zone that lives here; never used again, 0 when there is none.
    pub(crate) id: u64,
    pub(crate) options: ZoneOptions,
    /// Free slots to hand out, linked, by class; their spans count them as used.
    free: [Block; CLASS_COUNT],
    lists: [ZoneLists; CLASS_COUNT],
    large: SliceIndex,
    live_count: usize,
    live_bytes: usize,
    peak_live_bytes: usize,
    held_slices: usize,
    allocated_count: u64,
    failure_count: u64,
}

// SAFETY: the free blocks are reached under the lock only.
unsafe impl Send for Inside {}

/// The class of a layout; none for a large block.
fn class_of_layout(layout: Layout) -> Option<usize> {
    if layout.align() <= QUANTUM_BYTES {
        (layout.size() <= SMALL_BYTES_MAX).then(|| class_of(layout.size()))
    } else {
        class_of_aligned(layout.size(), layout.align())
    }
}

impl Inside {
    pub(crate) const fn new() -> Self {
        Self {
            id: 0,
            options: ZoneOptions::new(),
            free: [core::ptr::null_mut(); CLASS_COUNT],
            lists: [NONE; CLASS_COUNT],
            large: NO_SLICE,
            live_count: 0,
            live_bytes: 0,
            peak_live_bytes: 0,
            held_slices: 0,
            allocated_count: 0,
            failure_count: 0,
        }
    }

    /// Makes the place a zone's.
    pub(crate) fn begin(&mut self, id: u64, options: ZoneOptions) {
        *self = Self { id, options, ..Self::new() };
    }

    /// Forgets all spans and blocks, which are then lost unless they were given back.
    pub(crate) fn forget(&mut self) {
        *self = Self { id: self.id, options: self.options, ..Self::new() };
    }

    pub(crate) fn statistics(&self) -> ZoneStatistics {
        ZoneStatistics {
            live_count: self.live_count,
            live_bytes: self.live_bytes,
            peak_live_bytes: self.peak_live_bytes,
            held_bytes: self.held_slices * SLICE_BYTES,
            limit_bytes: self.options.limit_bytes(),
            allocated_count: self.allocated_count,
            failure_count: self.failure_count,
        }
    }

    /// Whether `bytes` more would be within the limit.
    fn check_limit(&mut self, bytes: usize) -> Result<(), ZoneError> {
        let limit_bytes = self.options.limit_bytes();
        if bytes <= limit_bytes.saturating_sub(self.live_bytes) {
            return Ok(());
        }
        self.failure_count += 1;
        Err(ZoneError::OverLimit { usable_bytes: bytes, live_bytes: self.live_bytes, limit_bytes })
    }

    fn refuse(&mut self, requested_bytes: usize) -> ZoneError {
        self.failure_count += 1;
        ZoneError::OutOfMemory { requested_bytes }
    }

    fn add_live(&mut self, bytes: usize) {
        self.live_bytes += bytes;
        self.peak_live_bytes = self.peak_live_bytes.max(self.live_bytes);
    }

    /// A block for `layout`; whether all its bytes are zero.
    pub(crate) fn alloc(
        &mut self,
        layout: Layout,
        place: &'static ZonePlace,
    ) -> Result<(NonNull<u8>, bool), ZoneError> {
        let (block, usable_bytes, is_zeroed) = match class_of_layout(layout) {
            Some(class_index) => {
                self.check_limit(class_bytes(class_index))?;
                let block = self.alloc_small(class_index, place);
                (block, class_bytes(class_index), false)
            }
            None => {
                self.check_limit(large::usable(layout.size()))?;
                self.alloc_large(layout, place)
            }
        };
        let Some(block) = NonNull::new(block) else { return Err(self.refuse(layout.size())) };
        self.live_count += 1;
        self.allocated_count += 1;
        self.add_live(usable_bytes);
        Ok((block, is_zeroed))
    }

    fn alloc_small(&mut self, class_index: usize, place: &'static ZonePlace) -> *mut u8 {
        let mut block = self.free[class_index];
        if block.is_null() {
            block = self.refill(class_index, place);
            if block.is_null() {
                return core::ptr::null_mut();
            }
        }
        // SAFETY: the head of a list of ours, under the lock.
        self.free[class_index] = unsafe { block::next(block) };
        block.cast()
    }

    /// Free slots, linked; null when there is no memory.
    fn refill(&mut self, class_index: usize, place: &'static ZonePlace) -> Block {
        let wished = usize::from(Geometry::of(class_index).hand_out_count);
        loop {
            let index = self.lists[class_index].current;
            if index != NO_SLICE {
                let span = Span::at(index);
                let used_before = span.used();
                let list = span.take_slots(wished, 0, || 0);
                if !list.is_null() {
                    if span.used() == used_before + 1 {
                        // It may have no link yet.
                        // SAFETY: a slot that has just left the span and is nobody else's.
                        unsafe { block::set_next(list, core::ptr::null_mut()) };
                    }
                    return list;
                }
                span.set_place(Place::Full);
                let lists = &mut self.lists[class_index];
                lists.full = span_list::append(lists.full, index);
                lists.current = NO_SLICE;
            }
            let Some(span) = self.take_with_room(class_index, place) else {
                return core::ptr::null_mut();
            };
            span.set_place(Place::Current);
            self.lists[class_index].current = span.index();
        }
    }

    /// A span with room, in no list: one of ours or a new one.
    fn take_with_room(&mut self, class_index: usize, place: &'static ZonePlace) -> Option<Span> {
        let lists = &mut self.lists[class_index];
        let index = lists.available;
        if index != NO_SLICE {
            lists.available = span_list::remove(index, index);
            return Some(Span::at(index));
        }
        let span = lock().new_span_on(class_index, self.options.wished_node())?;
        span.start_counting();
        span.head().heap.store(place.as_heap(), Ordering::Relaxed);
        // Release: pairs with the Acquire in `free_slow`, which then reads `heap`.
        span.head().owner.store(ZONE, Ordering::Release);
        self.held_slices += 1;
        Some(span)
    }

    fn alloc_large(&mut self, layout: Layout, place: &'static ZonePlace) -> (*mut u8, usize, bool) {
        let node = self.options.wished_node();
        let block = large::alloc_in_region(layout.size(), layout.align(), node);
        let Some(index) = slice_of(block.start) else { return (core::ptr::null_mut(), 0, false) };
        let head = descriptor(index);
        head.heap.store(place.as_heap(), Ordering::Relaxed);
        self.large = span_list::append(self.large, index);
        self.held_slices += head.run_slices.load(Ordering::Relaxed) as usize;
        (block.start, head.extra.load(Ordering::Relaxed) as usize, block.is_zeroed)
    }

    /// Takes `block`, given up by the program, of the span of `head` back.
    pub(crate) fn free_small(&mut self, head: &'static Descriptor, block: Block) {
        let span = Span::of(head);
        self.live_count = self.live_count.saturating_sub(1);
        self.live_bytes = self.live_bytes.saturating_sub(class_bytes(span.class_index()));
        self.push(span, block);
    }

    /// Puts a free slot into its span, and the span where it belongs.
    fn push(&mut self, span: Span, block: Block) {
        // SAFETY: the zone's lock makes us the owner; the caller's free slot.
        unsafe { push_local(span.head(), block) };
        let count = span.slot_count();
        let lists = &mut self.lists[span.class_index()];
        if span.place() == Place::Full && span.used() <= count - (count / WAKE_SHARE).max(1) {
            lists.full = span_list::remove(lists.full, span.index());
            lists.available = span_list::append(lists.available, span.index());
            span.set_place(Place::Available);
        }
        if span.place() == Place::Available && span.used() == 0 {
            lists.available = span_list::remove(lists.available, span.index());
            self.give(span);
        }
    }

    /// Gives a span in no list back to the pool.
    fn give(&mut self, span: Span) {
        self.held_slices -= 1;
        lock().give_span(span);
    }

    /// Takes a large block out, which is to be freed.
    pub(crate) fn forget_large(&mut self, head: &'static Descriptor) {
        head.heap.store(core::ptr::null_mut(), Ordering::Relaxed);
        self.large = span_list::remove(self.large, index_of(head));
        self.live_count = self.live_count.saturating_sub(1);
        let usable_bytes = head.extra.load(Ordering::Relaxed) as usize;
        self.live_bytes = self.live_bytes.saturating_sub(usable_bytes);
        let slices = head.run_slices.load(Ordering::Relaxed) as usize;
        self.held_slices = self.held_slices.saturating_sub(slices);
    }

    /// Resizes a large block of ours in place; whether it could be done within the limit.
    ///
    /// # Safety
    /// - `ptr` is a live large block of this zone; `bytes` is above the small sizes.
    pub(crate) unsafe fn resize_large(&mut self, ptr: NonNull<u8>, bytes: usize) -> bool {
        let Some(index) = slice_of(ptr.as_ptr()) else { return false };
        let head = descriptor(index);
        let old_bytes = head.extra.load(Ordering::Relaxed) as usize;
        let old_slices = head.run_slices.load(Ordering::Relaxed) as usize;
        let more = large::usable(bytes).saturating_sub(old_bytes);
        if more > self.options.limit_bytes().saturating_sub(self.live_bytes) {
            return false;
        }
        // SAFETY: the caller's promise. A zone's block is never moved by it.
        if unsafe { large::resize(ptr.as_ptr(), bytes) }.is_null() {
            return false;
        }
        self.live_bytes = self.live_bytes.saturating_sub(old_bytes);
        self.add_live(head.extra.load(Ordering::Relaxed) as usize);
        let slices = head.run_slices.load(Ordering::Relaxed) as usize;
        self.held_slices = self.held_slices + slices - old_slices;
        true
    }

    /// Gives free slots back to their spans, and spans without blocks to the pool.
    pub(crate) fn trim(&mut self) {
        for class_index in 0..CLASS_COUNT {
            let mut list = core::mem::replace(&mut self.free[class_index], core::ptr::null_mut());
            while !list.is_null() {
                let block = list;
                // SAFETY: a list of ours.
                list = unsafe { block::next(block) };
                if let Some(head) = crate::free::head_of(block.cast()) {
                    self.push(Span::of(head), block);
                }
            }
            let index = self.lists[class_index].current;
            if index != NO_SLICE && Span::at(index).used() == 0 {
                self.lists[class_index].current = NO_SLICE;
                self.give(Span::at(index));
            }
        }
    }

    /// Gives all spans and large blocks back, whatever is in them.
    pub(crate) fn give_everything(&mut self) {
        for class_index in 0..CLASS_COUNT {
            let lists = core::mem::replace(&mut self.lists[class_index], NONE);
            if lists.current != NO_SLICE {
                lock().give_span(Span::at(lists.current));
            }
            for mut head in [lists.available, lists.full] {
                while head != NO_SLICE {
                    let index = head;
                    head = span_list::remove(index, index);
                    lock().give_span(Span::at(index));
                }
            }
        }
        while self.large != NO_SLICE {
            let index = self.large;
            self.large = span_list::remove(index, index);
            descriptor(index).heap.store(core::ptr::null_mut(), Ordering::Relaxed);
            large::free(index);
        }
        self.forget();
    }

    /// The free slots at hand of `class_index`, linked.
    pub(crate) fn free_list(&self, class_index: usize) -> Block {
        self.free[class_index]
    }
}
