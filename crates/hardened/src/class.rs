//! The classes' addresses and secrets, and the way from an address to its slot's word.
//!
//! The table is written once, before the first block, and made read-only then: whoever can write
//! to one address cannot turn a check off.
//!
//! # Invariants
//! design/hardened.md#I1: an address belongs to one class for ever.

use core::ptr::{NonNull, null_mut};

use crate::geometry::CLASS_COUNT;
use heapwright_os::{Protection, page_bytes, protect};
use heapwright_sync::atomic::{AtomicPtr, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use crate::geometry::{
    CLASS_PLACES, CUTS, HEAD_BYTES, SPAN_BYTES, SPAN_LOG2, slot_and_start, slot_at,
};
use crate::random::Seed;
use crate::word::Word;

/// What the hot paths need to know of a class. All fields are relaxed atomics, plain loads.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Class {
    /// Metadata of its first span, less that of as many spans as lie below its addresses.
    meta_bias: AtomicPtr<u8>,
    reciprocal: AtomicU64,
    secret: AtomicU64,
    factor: AtomicU64,
    /// Its first byte of the region.
    data: AtomicPtr<u8>,
    slot_bytes: AtomicU32,
    zeroed_bytes: AtomicU32,
    meta_log2: AtomicU32,
    kept_count: AtomicU32,
    stack_count: AtomicU32,
}

const _: () = assert!(size_of::<Class>() == 64);

/// Pages that are made read-only together; where OS pages are larger they stay writable.
const TABLE_BYTES: usize = 12288;
const TABLE_PAGE_BYTES: usize = 4096;

/// All classes, and where the region is.
#[repr(C, align(4096))]
struct Table {
    /// More than there are, so that seven bits need no check.
    classes: [Class; CLASS_PLACES],
    /// Start of the region.
    base: AtomicPtr<u8>,
    /// Length of the region; 0 until there is one, so that no address is inside.
    bytes: AtomicUsize,
    /// log2 of the bytes of one class.
    class_log2: AtomicU32,
}

const _: () = assert!(size_of::<Table>() == TABLE_BYTES);

static TABLE: Table = Table {
    classes: [const {
        Class {
            meta_bias: AtomicPtr::new(null_mut()),
            reciprocal: AtomicU64::new(0),
            secret: AtomicU64::new(0),
            factor: AtomicU64::new(0),
            data: AtomicPtr::new(null_mut()),
            slot_bytes: AtomicU32::new(0),
            zeroed_bytes: AtomicU32::new(0),
            meta_log2: AtomicU32::new(0),
            kept_count: AtomicU32::new(0),
            stack_count: AtomicU32::new(0),
        }
    }; CLASS_PLACES],
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

/// Fills the table and makes it read-only. Once, before any other function here.
pub(crate) fn set(layout: Layout, seed: &mut Seed) {
    let mut meta = layout.meta.as_ptr();
    for (class_index, class) in TABLE.classes.iter().enumerate().take(CLASS_COUNT) {
        let cut = &CUTS[class_index];
        class.reciprocal.store(cut.reciprocal, Ordering::Relaxed);
        class.secret.store(seed.next(), Ordering::Relaxed);
        class.factor.store(seed.next() | 1, Ordering::Relaxed);
        let data = layout.base.as_ptr().wrapping_add(class_index << layout.class_log2);
        class.data.store(data, Ordering::Relaxed);
        let below = (data.addr() >> SPAN_LOG2) << cut.meta_log2;
        class.meta_bias.store(meta.wrapping_sub(below), Ordering::Relaxed);
        class.slot_bytes.store(cut.slot_bytes, Ordering::Relaxed);
        class.zeroed_bytes.store(cut.zeroed_bytes, Ordering::Relaxed);
        class.meta_log2.store(cut.meta_log2, Ordering::Relaxed);
        class.kept_count.store(cut.kept_count, Ordering::Relaxed);
        class.stack_count.store(2 * cut.batch_count, Ordering::Relaxed);
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
    &TABLE.classes[class_index % CLASS_PLACES]
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
    let (slot, is_start) = slot_and_start(in_span, class.reciprocal.load(Ordering::Relaxed));
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
        self.slot_bytes.load(Ordering::Relaxed) as usize
    }

    /// Bytes of a slot that are zeroed at its free.
    #[inline(always)]
    pub(crate) fn zeroed_bytes(&self) -> usize {
        self.zeroed_bytes.load(Ordering::Relaxed) as usize
    }

    /// Slots that wait in a thread's quarantine.
    #[inline(always)]
    pub(crate) fn kept_count(&self) -> usize {
        self.kept_count.load(Ordering::Relaxed) as usize
    }

    /// Slots of a thread's full stack.
    #[inline(always)]
    pub(crate) fn stack_count(&self) -> usize {
        self.stack_count.load(Ordering::Relaxed) as usize
    }

    /// The span and the slot that `address`, one of this class, lies in.
    #[inline]
    pub(crate) fn span_and_slot(&self, address: *mut u8) -> (usize, usize) {
        let span = (address.addr() - self.data.load(Ordering::Relaxed).addr()) >> SPAN_LOG2;
        let reciprocal = self.reciprocal.load(Ordering::Relaxed);
        (span, slot_at(address.addr() & (SPAN_BYTES - 1), reciprocal))
    }

    /// Start of its `span`.
    #[inline(always)]
    pub(crate) fn span_start(&self, span: usize) -> *mut u8 {
        self.data.load(Ordering::Relaxed).wrapping_add(span << SPAN_LOG2)
    }

    /// Metadata of its `span`.
    #[inline(always)]
    pub(crate) fn span_meta(&self, span: usize) -> *mut u8 {
        self.meta_near(self.span_start(span))
    }

    /// Metadata of the span that `address`, one of this class, lies in.
    #[inline(always)]
    fn meta_near(&self, address: *mut u8) -> *mut u8 {
        let meta_log2 = self.meta_log2.load(Ordering::Relaxed);
        let above = (address.addr() >> SPAN_LOG2) << meta_log2;
        self.meta_bias.load(Ordering::Relaxed).wrapping_add(above)
    }

    /// The word of `slot` in the span that `address`, one of this class, lies in.
    #[inline(always)]
    fn word_near(&self, address: *mut u8, slot: usize) -> &'static AtomicU16 {
        let place = self.meta_near(address).wrapping_add(HEAD_BYTES + slot * size_of::<u16>());
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
        let reciprocal = self.reciprocal.load(Ordering::Relaxed);
        let slot = slot_at(start.addr() & (SPAN_BYTES - 1), reciprocal);
        self.word_near(start, slot)
    }

    /// What stands behind a block whose end is `end`. No byte of it is 0, so that a string's end
    /// written there is seen.
    #[inline(always)]
    pub(crate) fn canary(&self, end: *mut u8) -> u64 {
        let mixed = (end.addr() as u64 ^ self.secret.load(Ordering::Relaxed))
            .wrapping_mul(self.factor.load(Ordering::Relaxed));
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
