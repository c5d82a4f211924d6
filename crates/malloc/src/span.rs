//! One small span: a slab of slots of one class, and the three places where its free slots can be:
//! linked in `local_free`, told of by the bitmap, or never handed out yet.
//!
//! The caller of everything here owns the span: it is the owner thread in a slow path with its
//! heap's lock, or the holder of the class's lock when the span is passive.
//!
//! # Invariants
//! design/malloc.md#I1 and #I2: `extended_count` = used slots + slots in `local_free` +
//! `bit_count`.

mod bits;
mod pages;
mod taking;

use heapwright_sync::atomic::Ordering;

use crate::descriptor::{Descriptor, PASSIVE, Place, SliceIndex};
use crate::geometry::{Geometry, UNIT_BYTES};
use crate::heap::Heap;
use crate::nodes::Part;
use crate::region::{SLICE_BYTES, WORD_COVERS_BYTES, descriptor, index_of};

pub(crate) use pages::POPULATE_SHARE;

/// `wake_at` of a span that no free has to look at: `until_wake` then never comes down to 0.
const NEVER: i32 = i32::MIN / 2;
/// What one bit of `extra` stands for.
pub(crate) const PAGE_UNIT_BYTES: usize = 4096;
/// Pages of a span.
const SLICE_PAGES: usize = SLICE_BYTES / PAGE_UNIT_BYTES;
const PAGE_UNIT_WORDS: usize = PAGE_UNIT_BYTES / WORD_COVERS_BYTES;
/// Words of the bitmap that tell of a span.
const SPAN_WORDS: usize = SLICE_BYTES / WORD_COVERS_BYTES;

const _: () = assert!(UNIT_BYTES.is_multiple_of(PAGE_UNIT_BYTES));

/// A small span, by its descriptor and class.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    index: SliceIndex,
    class_index: usize,
    head: &'static Descriptor,
}

impl Span {
    /// The span whose first slice is `index`.
    #[inline]
    pub(crate) fn at(index: SliceIndex) -> Self {
        let head = descriptor(index);
        Self { index, class_index: usize::from(head.class_index.load(Ordering::Relaxed)), head }
    }

    /// The span that `head` describes.
    #[inline]
    pub(crate) fn of(head: &'static Descriptor) -> Self {
        Self::at(index_of(head))
    }

    /// Makes a fresh span of `class_index` from a run; passive, in no list.
    pub(crate) fn init(index: SliceIndex, class_index: usize) -> Self {
        let span = Self { index, class_index, head: descriptor(index) };
        let head = span.head;
        head.local_free.store(core::ptr::null_mut(), Ordering::Relaxed);
        head.until_wake.store(0, Ordering::Relaxed);
        head.wake_at.store(0, Ordering::Relaxed);
        head.heap.store(core::ptr::null_mut(), Ordering::Relaxed);
        head.run_slices.store(1, Ordering::Relaxed);
        head.extended_count.store(0, Ordering::Relaxed);
        head.bit_count.store(0, Ordering::Relaxed);
        head.class_index.store(class_index as u8, Ordering::Relaxed);
        head.place.store(Place::Packed as u8, Ordering::Relaxed);
        head.is_dirty.store(0, Ordering::Relaxed);
        head.epoch.store(0, Ordering::Relaxed);
        // What an earlier span's slots reached into will have been written.
        span.set_touched(span.touched());
        head.owner.store(PASSIVE, Ordering::Relaxed);
        span
    }

    /// Its first slice.
    #[inline]
    pub(crate) fn index(self) -> SliceIndex {
        self.index
    }

    /// Its descriptor.
    #[inline]
    pub(crate) fn head(self) -> &'static Descriptor {
        self.head
    }

    /// The NUMA node's part that it lies in.
    #[inline]
    pub(crate) fn part(self) -> Part {
        self.head.node.load(Ordering::Relaxed)
    }

    /// Its class.
    #[inline]
    pub(crate) fn class_index(self) -> usize {
        self.class_index
    }

    /// How it is cut.
    #[inline]
    pub(crate) fn geometry(self) -> &'static Geometry {
        Geometry::of(self.class_index)
    }

    /// Where slot `number` starts, from the start of the span.
    #[inline]
    pub(crate) fn slot_offset(self, number: usize) -> usize {
        self.geometry().slot_offset(self.index, number)
    }

    /// The slot that holds the byte at `offset`, or the first one after it.
    #[inline]
    pub(crate) fn slot_at(self, offset: usize) -> usize {
        self.geometry().slot_at(self.index, offset)
    }

    /// Where it stands.
    #[inline]
    pub(crate) fn place(self) -> Place {
        Place::from_number(self.head.place.load(Ordering::Relaxed))
    }

    /// Notes where it stands.
    #[inline]
    pub(crate) fn set_place(self, place: Place) {
        self.head.place.store(place as u8, Ordering::Relaxed);
    }

    /// Slots of an active span that are live, in a thread's list or on their way home.
    #[inline]
    pub(crate) fn used(self) -> i32 {
        self.head.until_wake.load(Ordering::Relaxed) + self.head.wake_at.load(Ordering::Relaxed)
    }

    #[inline]
    fn set_used(self, used: i32) {
        debug_assert!(used >= 0 && used <= i32::from(self.extended()));
        let wake_at = self.head.wake_at.load(Ordering::Relaxed);
        self.head.until_wake.store(used - wake_at, Ordering::Relaxed);
    }

    /// Slots of a passive span that are live, in a thread's list or on their way home.
    #[inline]
    pub(crate) fn passive_used(self) -> i32 {
        i32::from(self.extended()) - i32::from(self.head.bit_count.load(Ordering::Relaxed))
    }

    /// Slots that were ever linked or handed out.
    #[inline]
    pub(crate) fn extended(self) -> u16 {
        self.head.extended_count.load(Ordering::Relaxed)
    }

    /// Slots of the span.
    #[inline]
    pub(crate) fn slot_count(self) -> i32 {
        i32::from(self.geometry().slot_count)
    }

    /// Whether the span, an active one, was full before, as far as it is known.
    #[inline]
    pub(crate) fn was_full(self) -> bool {
        self.head.is_dirty.load(Ordering::Relaxed) != 0
    }

    /// Notes that it is full.
    #[inline]
    pub(crate) fn note_full(self) {
        self.head.is_dirty.store(1, Ordering::Relaxed);
    }

    /// Lets the free that brings `used` down to `used_count` look at the span; one that takes the
    /// last used slot away always does.
    #[inline]
    pub(crate) fn wake_at(self, used_count: i32) {
        let used = self.used();
        debug_assert!(used_count < used);
        self.head.wake_at.store(used_count, Ordering::Relaxed);
        self.head.until_wake.store(used - used_count, Ordering::Relaxed);
    }

    /// Lets no free look at the span.
    #[inline]
    pub(crate) fn wake_never(self) {
        let used = self.used();
        self.head.wake_at.store(NEVER, Ordering::Relaxed);
        self.head.until_wake.store(used - NEVER, Ordering::Relaxed);
    }

    /// Makes the counters of an active span right, which passive ones do not keep.
    pub(crate) fn start_counting(self) {
        self.head.wake_at.store(NEVER, Ordering::Relaxed);
        self.head.until_wake.store(self.passive_used() - NEVER, Ordering::Relaxed);
    }

    /// Makes the span the one of the thread of `heap`, whose thread pointer is `owner`; its counters
    /// are right then, and no free looks at it. Passive until now, with its class's lock held, or a
    /// span without blocks that nobody else knows.
    pub(crate) fn become_active(self, heap: &'static Heap, owner: usize) {
        self.start_counting();
        self.head.heap.store(core::ptr::from_ref(heap).cast_mut(), Ordering::Relaxed);
        // Release: pairs with the Acquire in `free_slow`; a thread that sees the owner sees the
        // heap.
        self.head.owner.store(owner, Ordering::Release);
    }

    /// Whether a slot is free.
    #[inline]
    pub(crate) fn has_free_slots(self) -> bool {
        self.has_old_slots() || self.extended() < self.geometry().slot_count
    }

    /// Whether a slot is free that was handed out before.
    #[inline]
    pub(crate) fn has_old_slots(self) -> bool {
        !self.head.local_free.load(Ordering::Relaxed).is_null()
            || self.head.bit_count.load(Ordering::Relaxed) > 0
    }
}
