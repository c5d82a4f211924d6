//! The classes' addresses and secrets, and the way from an address to its slot's word.
//!
//! The table is written once, before the first block, and made read-only then: whoever can write
//! to one address cannot turn a check off.
//!
//! # Invariants
//! design/hardened.md#I1: an address belongs to one class for ever.

use core::cell::UnsafeCell;
use core::ptr::{NonNull, null_mut};

use heapwright_core::family::Family;
use heapwright_os::{Protection, page_bytes, protect};
use heapwright_sync::atomic::{AtomicPtr, AtomicU16, AtomicU32, AtomicUsize, Ordering};

use crate::geometry::{
    CLASS_COUNT, CLASS_LOG2_MAX, CLASS_PLACES, CUTS, Cut, HEAD_BYTES, KEY_STEP_BYTES, Key,
    NARROW_COUNT, SPAN_BYTES, SPAN_LOG2, slot_at, unit_at,
};
use crate::options::zeroes_all;
use crate::random::Seed;
use crate::word::Word;

/// What the hot paths need to know of a class: plain loads from one cache line.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Class {
    /// Of its units.
    reciprocal: u64,
    /// The word of the unit at address 0, if that were one of this class.
    words: *mut u8,
    /// What its canaries are mixed from: see [`Class::canary`].
    secret: u64,
    factor: u64,
    /// A bit of each byte of a canary: none is 0.
    set_bits: u64,
    bytes_min: u32,
    zeroed_bytes: u32,
}

/// What the other paths need to know of a class.
#[derive(Debug)]
struct Lay {
    /// Its first byte of the region.
    data: *mut u8,
    /// Bits of its first span.
    bits: *mut u8,
    /// The first span that is used.
    first_span: u32,
}

impl Class {
    const EMPTY: Self = Self {
        reciprocal: 0,
        words: null_mut(),
        secret: 0,
        factor: 0,
        set_bits: 0,
        bytes_min: 0,
        zeroed_bytes: 0,
    };
}

impl Lay {
    const EMPTY: Self = Self { data: null_mut(), bits: null_mut(), first_span: 0 };
}

const _: () = assert!(size_of::<Class>() == KEY_STEP_BYTES);

/// Pages that are made read-only together; where OS pages are larger they stay writable.
const TABLE_BYTES: usize = 12288;
const TABLE_PAGE_BYTES: usize = 4096;

/// All classes, and where the region is.
#[repr(C, align(4096))]
struct Table {
    /// More than there are, so that seven bits need no check. Written by [`set`] only.
    classes: UnsafeCell<[Class; CLASS_PLACES]>,
    lays: UnsafeCell<[Lay; CLASS_PLACES]>,
    /// What is added to an address to have its offset; at first such that none is in the region.
    origin: AtomicUsize,
    /// The same where classes are as large as they get, so that [`find_narrow`] need not ask how
    /// large they are; elsewhere such that it finds nothing.
    origin_of_largest: AtomicUsize,
    /// How far an offset is shifted to be a key: see [`Key::at`].
    key_shift: AtomicU32,
    /// Spans that a class has addresses for.
    span_count: AtomicU32,
    /// Heads of the spans: of all classes' first ones, then of their second ones, and so on.
    heads: AtomicPtr<u8>,
}

const _: () = assert!(size_of::<Table>() == TABLE_BYTES);

// SAFETY: classes and lays are written once, before any thread has a cache, a span or an address
// of the region, without which nobody asks for a class; the other fields are atomics.
unsafe impl Sync for Table {}

/// An origin for which no address is in the region.
const NO_ORIGIN: usize = 1 << (usize::BITS - 1);

static TABLE: Table = Table {
    classes: UnsafeCell::new([const { Class::EMPTY }; CLASS_PLACES]),
    lays: UnsafeCell::new([const { Lay::EMPTY }; CLASS_PLACES]),
    origin: AtomicUsize::new(NO_ORIGIN),
    origin_of_largest: AtomicUsize::new(NO_ORIGIN),
    key_shift: AtomicU32::new(0),
    span_count: AtomicU32::new(0),
    heads: AtomicPtr::new(null_mut()),
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

/// Bytes of the heads of one span of each class.
pub(crate) const HEADS_BYTES: usize = CLASS_COUNT * HEAD_BYTES;

impl Layout {
    /// Bytes of the heads of all spans of all classes of `1 << class_log2` bytes.
    fn heads_bytes(class_log2: u32) -> usize {
        HEADS_BYTES << (class_log2 - SPAN_LOG2)
    }

    /// Bytes of the bits of all spans of one class, whole cache lines.
    fn bits_bytes(cut: &Cut, class_log2: u32) -> usize {
        (1usize << (class_log2 - SPAN_LOG2 + cut.bits_log2)).next_multiple_of(KEY_STEP_BYTES)
    }

    /// Bytes of the metadata of all classes of `1 << class_log2` bytes from address `base` on:
    /// heads, and for each class its words and its spans' bits.
    pub(crate) fn meta_bytes(base: usize, class_log2: u32) -> usize {
        let parts = CUTS.iter().enumerate().map(|(class_index, cut)| {
            let start = base + (class_index << class_log2);
            let (_, words_bytes) = cut.words_of(start, 1 << class_log2);
            words_bytes + Self::bits_bytes(cut, class_log2)
        });
        Self::heads_bytes(class_log2) + parts.sum::<usize>()
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
    let class_log2 = layout.class_log2;
    let span_count = 1u32 << (class_log2 - SPAN_LOG2);
    let zeroes_all = zeroes_all();
    let mut meta = layout.meta.as_ptr().wrapping_add(Layout::heads_bytes(class_log2));
    // SAFETY: nobody has the classes yet (the caller's promise; see `Table`).
    let classes = unsafe { &mut *TABLE.classes.get() };
    // SAFETY: as above.
    let lays = unsafe { &mut *TABLE.lays.get() };
    for (class_index, cut) in CUTS.iter().enumerate() {
        let data = layout.base.as_ptr().wrapping_add(class_index << class_log2);
        let (first_word, words_bytes) = cut.words_of(data.addr(), 1 << class_log2);
        classes[class_index] = Class {
            reciprocal: cut.reciprocal,
            words: meta.wrapping_sub(first_word),
            secret: seed.next(),
            factor: seed.next() | 1,
            set_bits: SET_BITS,
            bytes_min: cut.bytes_min,
            zeroed_bytes: if zeroes_all { cut.slot_bytes } else { cut.zeroed_bytes },
        };
        lays[class_index] = Lay {
            data,
            bits: meta.wrapping_add(words_bytes),
            // Anywhere in the first half of the class.
            first_span: (seed.next() % u64::from(span_count / 2)) as u32,
        };
        meta = meta.wrapping_add(words_bytes + Layout::bits_bytes(cut, class_log2));
    }
    TABLE.key_shift.store(Key::shift(class_log2), Ordering::Relaxed);
    TABLE.span_count.store(span_count, Ordering::Relaxed);
    TABLE.heads.store(layout.meta.as_ptr(), Ordering::Relaxed);
    let origin = layout.base.addr().get().wrapping_neg();
    // Release: whoever has a block of ours was handed it after this.
    TABLE.origin.store(origin, Ordering::Release);
    if class_log2 == CLASS_LOG2_MAX {
        TABLE.origin_of_largest.store(origin, Ordering::Release);
    }
    if page_bytes() <= TABLE_PAGE_BYTES {
        let place = NonNull::from(&TABLE).cast::<u8>();
        // SAFETY: the table fills these pages and is not written again. A refusal costs the
        // protection only.
        let _ = unsafe { protect(place, TABLE_BYTES, Protection::Read) };
    }
}

/// The class of `class_index`.
#[inline]
pub(crate) fn class(class_index: usize) -> &'static Class {
    class_of(Key::of(class_index))
}

/// The class of `key`.
#[inline(always)]
pub(crate) fn class_of(key: Key) -> &'static Class {
    let class = TABLE.classes.get().cast::<Class>().wrapping_byte_add(key.offset());
    // SAFETY: one of the table's classes (K1), and nobody writes to them any more (see `Table`).
    unsafe { &*class }
}

/// Spans that a class has addresses for; 0 before the start.
pub(crate) fn span_count() -> u32 {
    TABLE.span_count.load(Ordering::Relaxed)
}

/// Distance of `address` from the region's start.
#[inline(always)]
fn offset_of(address: *mut u8) -> usize {
    address.addr().wrapping_add(TABLE.origin.load(Ordering::Relaxed))
}

/// The class that the byte at `address` lies in; none outside the region.
#[inline(always)]
fn key_at(address: *mut u8) -> Option<Key> {
    Key::at::<CLASS_COUNT>(offset_of(address), TABLE.key_shift.load(Ordering::Relaxed))
}

/// Heads of the spans with that `number`, counted from the first one used, of all classes.
pub(crate) fn heads(number: usize) -> *mut u8 {
    TABLE.heads.load(Ordering::Relaxed).wrapping_add(number * HEADS_BYTES)
}

/// A slot as the hot path of a free needs it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    /// Its class.
    pub(crate) key: Key,
    /// Whether the address may be its start: it is the start of one of the slot's units. The
    /// others have words that never say live.
    pub(crate) is_start: bool,
    /// The word there.
    pub(crate) word: &'static AtomicU16,
}

/// The slot that starts at `address`, if one does; none outside the region.
#[inline(always)]
pub(crate) fn find(address: *mut u8) -> Option<Found> {
    key_at(address).map(|key| found(key, address))
}

/// [`find`] in the classes whose words tell all of a block's bytes; none in others, nor where an
/// address limit has made classes smaller.
#[inline(always)]
pub(crate) fn find_narrow(address: *mut u8) -> Option<Found> {
    let origin = TABLE.origin_of_largest.load(Ordering::Relaxed);
    let offset = address.addr().wrapping_add(origin);
    let key = Key::at::<NARROW_COUNT>(offset, const { Key::shift(CLASS_LOG2_MAX) })?;
    Some(found(key, address))
}

/// The slot of the class of `key` that starts at `address`, which is one of the class's.
#[inline(always)]
fn found(key: Key, address: *mut u8) -> Found {
    let class = class_of(key);
    let (unit, is_start) = unit_at(address.addr(), class.reciprocal);
    Found { key, is_start, word: class.word_of_unit(unit) }
}

/// All about the slot that `address` lies in; none outside the region.
#[cold]
pub(crate) fn place_of(address: *mut u8) -> Option<Place> {
    let class_index = key_at(address)?.index();
    let (class, cut) = (class(class_index), &CUTS[class_index]);
    let (slot, _) = slot_at(address.addr(), cut);
    let distance = address.addr() - slot * cut.slot_bytes as usize;
    let word = class.word_of_unit(slot << cut.units_log2);
    Some(Place { class_index, distance, word })
}

impl Class {
    /// Its number.
    fn index(&self) -> usize {
        let distance = core::ptr::from_ref(self).addr() - TABLE.classes.get().addr();
        distance / KEY_STEP_BYTES
    }

    fn lay(&self) -> &'static Lay {
        let lay = TABLE.lays.get().cast::<Lay>().wrapping_add(self.index());
        // SAFETY: of one of the table's classes, written before anybody had that (see `Table`).
        unsafe { &*lay }
    }

    /// Bytes of a slot.
    pub(crate) fn slot_bytes(&self) -> usize {
        CUTS[self.index()].slot_bytes as usize
    }

    /// Bytes of a slot that are zeroed at its free.
    #[inline(always)]
    pub(crate) fn zeroed_bytes(&self) -> usize {
        self.zeroed_bytes as usize
    }

    /// The least bytes that a live block may have.
    #[inline(always)]
    pub(crate) fn bytes_min(&self) -> usize {
        self.bytes_min as usize
    }

    /// The bytes of a live block whose word is `word`.
    #[inline(always)]
    pub(crate) fn bytes(&self, word: Word) -> usize {
        self.bytes_min() + word.bytes_told()
    }

    /// The word of a live block of so many bytes.
    #[inline(always)]
    pub(crate) fn live(&self, family: Family, bytes: usize) -> Word {
        Word::live(family, bytes - self.bytes_min())
    }

    /// The first span that is used.
    pub(crate) fn first_span(&self) -> u32 {
        self.lay().first_span
    }

    /// The span that `address`, one of this class, lies in.
    pub(crate) fn span_of(&self, address: *mut u8) -> usize {
        (address.addr() - self.lay().data.addr()) >> SPAN_LOG2
    }

    /// Start of its `span`.
    pub(crate) fn span_start(&self, span: usize) -> *mut u8 {
        self.lay().data.wrapping_add(span << SPAN_LOG2)
    }

    /// Head of its `span`, one from the first used on.
    pub(crate) fn span_head(&self, span: usize) -> *mut u8 {
        let number = span - self.first_span() as usize;
        heads(number).wrapping_add(self.index() * HEAD_BYTES)
    }

    /// Bits of its `span`.
    pub(crate) fn span_bits(&self, span: usize) -> *mut u8 {
        self.lay().bits.wrapping_add(span << CUTS[self.index()].bits_log2)
    }

    /// The number of its `span`'s first slot, and how many the span has.
    pub(crate) fn span_slots(&self, span: usize) -> (usize, usize) {
        CUTS[self.index()].slots_of(self.span_start(span).addr())
    }

    /// The number of the slot that `address`, one of this class, lies in.
    pub(crate) fn slot_of(&self, address: *mut u8) -> usize {
        slot_at(address.addr(), &CUTS[self.index()]).0
    }

    /// The words of all slots that have a byte in its `span`: start, and length in bytes.
    pub(crate) fn span_words(&self, span: usize) -> (*mut u8, usize) {
        let start = self.span_start(span).addr();
        let (first, bytes) = CUTS[self.index()].words_of(start, SPAN_BYTES);
        (self.words.wrapping_add(first), bytes)
    }

    /// The word of `unit`, one of the class.
    #[inline(always)]
    fn word_of_unit(&self, unit: usize) -> &'static AtomicU16 {
        let place = self.words.cast::<AtomicU16>().wrapping_add(unit);
        // SAFETY: inside the class's words, which has one for each unit (`geometry`) and is
        // readable for ever; it is only written for spans that were made writable.
        unsafe { &*place }
    }

    /// The word of the slot that starts at `start`, which is one of this class.
    #[inline(always)]
    pub(crate) fn word_at(&self, start: *mut u8) -> &'static AtomicU16 {
        self.word_of_unit(unit_at(start.addr(), self.reciprocal).0)
    }

    /// What stands behind a block whose end is `end`. No byte of it is 0, so that a string's end
    /// written there is seen. Two secrets, of which neither follows from a canary that was read:
    /// with one of them only, any canary of the class would tell all others.
    #[inline(always)]
    pub(crate) fn canary(&self, end: *mut u8) -> u64 {
        (end.addr() as u64 ^ self.secret).wrapping_mul(self.factor) | self.set_bits
    }
}

/// A bit of each byte.
const SET_BITS: u64 = 0x0101_0101_0101_0101;

/// The word as a value.
#[inline(always)]
pub(crate) fn load(word: &AtomicU16) -> Word {
    Word(u32::from(word.load(Ordering::Relaxed)))
}

/// Stores a word.
#[inline(always)]
pub(crate) fn store(place: &AtomicU16, word: Word) {
    // Release: pairs with the Acquire in `sweep`, which looks at other threads' blocks.
    place.store(word.0 as u16, Ordering::Release);
}

#[cfg(test)]
mod tests {
    use core::ptr::without_provenance_mut;

    use super::{Class, SET_BITS};
    use crate::random::Seed;

    #[test]
    fn no_byte_of_a_canary_is_zero_and_one_does_not_tell_the_next() {
        let mut seed = Seed::new(core::ptr::null());
        let (mut told, mut seen) = (0, 0);
        for _ in 0..64 {
            let class = Class {
                secret: seed.next(),
                factor: seed.next() | 1,
                set_bits: SET_BITS,
                ..Class::EMPTY
            };
            let ends: [usize; 64] = core::array::from_fn(|number| 0x7f12_3456_0008 + 32 * number);
            let canaries = ends.map(|end| class.canary(without_provenance_mut(end)));
            assert!(canaries.iter().all(|canary| !canary.to_ne_bytes().contains(&0)));
            for pair in 1..ends.len() {
                // What would hold if a canary were its address beside one secret.
                let (ends, canaries) = (ends[0] ^ ends[pair], canaries[0] ^ canaries[pair]);
                told += usize::from(canaries & !SET_BITS == ends as u64 & !SET_BITS);
                seen += 1;
            }
        }
        assert!(told * 100 < seen, "{told} of {seen}");
    }
}
