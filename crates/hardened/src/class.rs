//! The classes' addresses and secrets, and the way from an address to its slot's word.
//!
//! The table is written once, before the first block, and made read-only then: whoever can write
//! to one address cannot turn a check off.
//!
//! # Invariants
//! design/hardened.md#I1: an address belongs to one class for ever.

use core::cell::UnsafeCell;
use core::ptr::{NonNull, null_mut};

use crate::geometry::CLASS_COUNT;
use heapwright_os::{Protection, page_bytes, protect};
use heapwright_sync::atomic::{AtomicPtr, AtomicU16, AtomicU32, AtomicUsize, Ordering};

use crate::fill::Fill;
use crate::geometry::{
    CLASS_PLACES, CUTS, HEAD_BYTES, SPAN_BYTES, SPAN_LOG2, slot_and_start, slot_at,
};
use crate::random::Seed;
use crate::word::Word;

/// What the hot paths need to know of a class: plain loads from one cache line.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Class {
    /// Metadata of its first span, less that of as many spans as lie below its addresses.
    meta_bias: *mut u8,
    reciprocal: u64,
    secret: u64,
    factor: u64,
    /// Its first byte of the region.
    data: *mut u8,
    slot_bytes: u32,
    zeroed_bytes: u16,
    stack_count: u16,
    /// Places of the fill's first group.
    fill_second: u8,
    fill_third: u8,
    fill_last: u8,
    meta_log2: u8,
    word_step: u8,
    kept_mask: u8,
}

impl Class {
    const EMPTY: Self = Self {
        meta_bias: null_mut(),
        reciprocal: 0,
        secret: 0,
        factor: 0,
        data: null_mut(),
        slot_bytes: 0,
        zeroed_bytes: 0,
        stack_count: 0,
        fill_second: 0,
        fill_third: 0,
        fill_last: 0,
        meta_log2: 0,
        word_step: 0,
        kept_mask: 0,
    };
}

const _: () = assert!(size_of::<Class>() == 64);

/// Pages that are made read-only together; where OS pages are larger they stay writable.
const TABLE_BYTES: usize = 12288;
const TABLE_PAGE_BYTES: usize = 4096;

/// All classes, and where the region is.
#[repr(C, align(4096))]
struct Table {
    /// More than there are, so that seven bits need no check. Written by [`set`] only.
    classes: UnsafeCell<[Class; CLASS_PLACES]>,
    /// Start of the region.
    base: AtomicPtr<u8>,
    /// Length of the region; 0 until there is one, so that no address is inside.
    bytes: AtomicUsize,
    /// log2 of the bytes of one class.
    class_log2: AtomicU32,
}

const _: () = assert!(size_of::<Table>() == TABLE_BYTES);

// SAFETY: the classes are written once, before any thread has a cache, a span or an address of the
// region, without which nobody asks for a class; the other fields are atomics.
unsafe impl Sync for Table {}

static TABLE: Table = Table {
    classes: UnsafeCell::new([const { Class::EMPTY }; CLASS_PLACES]),
    base: AtomicPtr::new(null_mut()),
    bytes: AtomicUsize::new(0),
    class_log2: AtomicU32::new(0),
};

/// Where the classes lie: what `space` reserved.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    /// Start of the region.
    pub(crate) base: NonNull<u8>,
    /// log2 of the bytes of one class.
    pub(crate) class_log2: u32,
    /// Start of the metadata; readable, zero.
    pub(crate) meta: NonNull<u8>,
    /// Start of the places of all depots; writable, zero.
    pub(crate) depots: NonNull<u8>,
}

impl Layout {
    /// Bytes of the metadata of one class of `1 << class_log2` bytes.
    pub(crate) fn meta_bytes(class_index: usize, class_log2: u32) -> usize {
        1 << (class_log2 - SPAN_LOG2 + CUTS[class_index].meta_log2)
    }

    /// Bytes of the depot of one class.
    pub(crate) fn depot_bytes(class_index: usize) -> usize {
        CUTS[class_index].depot_count as usize * size_of::<*mut u8>()
    }
}

/// A slot that an address leads to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// Its class.
    pub(crate) class_index: usize,
    /// The address's distance from the slot's start.
    pub(crate) distance: usize,
    /// Its word.
    pub(crate) word: &'static AtomicU16,
}

/// Fills the table and makes it read-only. Once, before any other function here: under the lock of
/// the start, and nobody has a class yet.
pub(crate) fn set(layout: Layout, seed: &mut Seed) {
    let mut meta = layout.meta.as_ptr();
    // SAFETY: nobody has the classes yet (the caller's promise; see `Table`).
    let classes = unsafe { &mut *TABLE.classes.get() };
    for (class_index, class) in classes.iter_mut().enumerate().take(CLASS_COUNT) {
        let cut = &CUTS[class_index];
        let fill = Fill::of(cut.zeroed_bytes as usize);
        let data = layout.base.as_ptr().wrapping_add(class_index << layout.class_log2);
        let below = (data.addr() >> SPAN_LOG2) << cut.meta_log2;
        *class = Class {
            meta_bias: meta.wrapping_sub(below),
            reciprocal: cut.reciprocal,
            secret: seed.next(),
            factor: seed.next() | 1,
            data,
            slot_bytes: cut.slot_bytes,
            zeroed_bytes: cut.zeroed_bytes as u16,
            stack_count: cut.stack_count as u16,
            fill_second: fill.second as u8,
            fill_third: fill.third as u8,
            fill_last: fill.last as u8,
            meta_log2: cut.meta_log2 as u8,
            word_step: cut.word_step as u8,
            kept_mask: (cut.kept_count - 1) as u8,
        };
        meta = meta.wrapping_add(Layout::meta_bytes(class_index, layout.class_log2));
    }
    TABLE.base.store(layout.base.as_ptr(), Ordering::Relaxed);
    TABLE.class_log2.store(layout.class_log2, Ordering::Relaxed);
    // Release: whoever has a block of ours was handed it after this.
    TABLE.bytes.store(CLASS_COUNT << layout.class_log2, Ordering::Release);
    if page_bytes() <= TABLE_PAGE_BYTES {
        let place = NonNull::from(&TABLE).cast::<u8>();
        // SAFETY: the table fills these pages and is not written again. A refusal costs the
        // protection only.
        let _ = unsafe { protect(place, TABLE_BYTES, Protection::Read) };
    }
}

/// The class of `class_index`.
#[inline(always)]
pub(crate) fn class(class_index: usize) -> &'static Class {
    // SAFETY: nobody writes to the classes any more (see `Table`).
    let classes = unsafe { &*TABLE.classes.get() };
    &classes[class_index % CLASS_PLACES]
}

/// Spans that a class has addresses for; 0 before the start.
pub(crate) fn span_count() -> usize {
    let class_log2 = TABLE.class_log2.load(Ordering::Relaxed);
    if class_log2 == 0 { 0 } else { 1 << (class_log2 - SPAN_LOG2) }
}

/// The class that `address` lies in; none outside the region.
#[inline(always)]
fn class_of(address: *mut u8) -> Option<usize> {
    let offset = address.addr().wrapping_sub(TABLE.base.load(Ordering::Relaxed).addr());
    if offset >= TABLE.bytes.load(Ordering::Relaxed) {
        return None;
    }
    Some(offset >> TABLE.class_log2.load(Ordering::Relaxed))
}

/// A slot as the hot path of a free needs it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    /// Its class.
    pub(crate) class_index: usize,
    /// Whether the address is its start.
    pub(crate) is_start: bool,
    /// Its word.
    pub(crate) word: &'static AtomicU16,
}

/// The slot that `address` lies in; none outside the region.
#[inline(always)]
pub(crate) fn find(address: *mut u8) -> Option<Found> {
    let class_index = class_of(address)?;
    let class = class(class_index);
    // The region starts at a multiple of a span.
    let in_span = address.addr() & (SPAN_BYTES - 1);
    let (slot, is_start) = slot_and_start(in_span, class.reciprocal);
    Some(Found { class_index, is_start, word: class.word_near(address, slot) })
}

/// All about the slot that `address` lies in; none outside the region.
#[cold]
pub(crate) fn place_of(address: *mut u8) -> Option<Place> {
    let class_index = class_of(address)?;
    let class = class(class_index);
    let in_span = address.addr() & (SPAN_BYTES - 1);
    let (span, slot) = class.span_and_slot(address);
    let distance = in_span - slot * class.slot_bytes();
    Some(Place { class_index, distance, word: class.word(span, slot) })
}

impl Class {
    /// Bytes of a slot.
    #[inline(always)]
    pub(crate) fn slot_bytes(&self) -> usize {
        self.slot_bytes as usize
    }

    /// Bytes of a slot that are zeroed at its free.
    #[inline(always)]
    pub(crate) fn zeroed_bytes(&self) -> usize {
        self.zeroed_bytes as usize
    }

    /// What to zero, and to look at.
    #[inline(always)]
    pub(crate) fn fill(&self) -> Fill {
        Fill {
            bytes: self.zeroed_bytes(),
            second: usize::from(self.fill_second),
            third: usize::from(self.fill_third),
            last: usize::from(self.fill_last),
        }
    }

    /// Slots that wait in a thread's quarantine, less one; they are a power of two.
    #[inline(always)]
    pub(crate) fn kept_mask(&self) -> usize {
        usize::from(self.kept_mask)
    }

    /// Slots of a thread's full stack.
    #[inline(always)]
    pub(crate) fn stack_count(&self) -> usize {
        self.stack_count as usize
    }

    /// The span and the slot that `address`, one of this class, lies in.
    #[inline]
    pub(crate) fn span_and_slot(&self, address: *mut u8) -> (usize, usize) {
        let span = (address.addr() - self.data.addr()) >> SPAN_LOG2;
        let reciprocal = self.reciprocal;
        (span, slot_at(address.addr() & (SPAN_BYTES - 1), reciprocal))
    }

    /// Start of its `span`.
    #[inline(always)]
    pub(crate) fn span_start(&self, span: usize) -> *mut u8 {
        self.data.wrapping_add(span << SPAN_LOG2)
    }

    /// Metadata of its `span`.
    #[inline(always)]
    pub(crate) fn span_meta(&self, span: usize) -> *mut u8 {
        self.meta_near(self.span_start(span))
    }

    /// Metadata of the span that `address`, one of this class, lies in.
    #[inline(always)]
    fn meta_near(&self, address: *mut u8) -> *mut u8 {
        let meta_log2 = self.meta_log2;
        let above = (address.addr() >> SPAN_LOG2) << meta_log2;
        self.meta_bias.wrapping_add(above)
    }

    /// The word of `slot` in the span that `address`, one of this class, lies in.
    #[inline(always)]
    fn word_near(&self, address: *mut u8, slot: usize) -> &'static AtomicU16 {
        let step = self.word_step as usize;
        let place = self.meta_near(address).wrapping_add(HEAD_BYTES + slot * step);
        // SAFETY: inside the metadata, which has a word for any address of a span (`geometry`)
        // and is readable for ever; it is only written for spans that were made writable.
        unsafe { &*place.cast::<AtomicU16>() }
    }

    /// The word of `slot` in `span`.
    pub(crate) fn word(&self, span: usize, slot: usize) -> &'static AtomicU16 {
        self.word_near(self.span_start(span), slot)
    }

    /// The word of the slot that starts at `start`, which is one of this class.
    #[inline(always)]
    pub(crate) fn word_at(&self, start: *mut u8) -> &'static AtomicU16 {
        let reciprocal = self.reciprocal;
        let slot = slot_at(start.addr() & (SPAN_BYTES - 1), reciprocal);
        self.word_near(start, slot)
    }

    /// What stands behind a block whose end is `end`. No byte of it is 0, so that a string's end
    /// written there is seen.
    #[inline(always)]
    pub(crate) fn canary(&self, end: *mut u8) -> u64 {
        let mixed = (end.addr() as u64 ^ self.secret).wrapping_mul(self.factor);
        mixed | 0x0101_0101_0101_0101
    }
}

/// The word as a value.
#[inline(always)]
pub(crate) fn load(word: &AtomicU16) -> Word {
    Word(word.load(Ordering::Relaxed))
}

/// Stores a word.
#[inline(always)]
pub(crate) fn store(place: &AtomicU16, word: Word) {
    // Release: pairs with the Acquire in `sweep`, which looks at other threads' blocks.
    place.store(word.0, Ordering::Release);
}
