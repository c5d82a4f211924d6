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
use heapwright_core::family::Family;
use heapwright_os::{Protection, page_bytes, protect};
use heapwright_sync::atomic::{AtomicPtr, AtomicU16, AtomicU32, AtomicUsize, Ordering};

use crate::fill::Fill;
use crate::geometry::{CLASS_PLACES, CUTS, KEY_STEP_BYTES, Key, SPAN_LOG2, slot_at, unit_at};
use crate::random::Seed;
use crate::word::Word;

/// What the hot paths need to know of a class: plain loads from one cache line.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Class {
    /// Its first byte of the region.
    data: *mut u8,
    /// Of its units.
    reciprocal: u64,
    /// The word of its first unit.
    words: *mut u8,
    secret: u64,
    /// Head of its first span.
    heads: *mut u8,
    slot_bytes: u32,
    bytes_min: u32,
    /// Places of the fill's first group.
    fill_second: u32,
    fill_third: u32,
    fill_last: u32,
    zeroed_bytes: u16,
    units_log2: u8,
    meta_log2: u8,
}

impl Class {
    const EMPTY: Self = Self {
        data: null_mut(),
        reciprocal: 0,
        words: null_mut(),
        secret: 0,
        heads: null_mut(),
        slot_bytes: 0,
        bytes_min: 0,
        fill_second: 0,
        fill_third: 0,
        fill_last: 0,
        zeroed_bytes: 0,
        units_log2: 0,
        meta_log2: 0,
    };
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
    /// Start of the region.
    base: AtomicPtr<u8>,
    /// Length of the region; 0 until there is one, so that no address is inside.
    bytes: AtomicUsize,
    /// How far an offset in the region is shifted to be a key: see [`Key::at`].
    key_shift: AtomicU32,
}

const _: () = assert!(size_of::<Table>() == TABLE_BYTES);

// SAFETY: the classes are written once, before any thread has a cache, a span or an address of the
// region, without which nobody asks for a class; the other fields are atomics.
unsafe impl Sync for Table {}

static TABLE: Table = Table {
    classes: UnsafeCell::new([const { Class::EMPTY }; CLASS_PLACES]),
    base: AtomicPtr::new(null_mut()),
    bytes: AtomicUsize::new(0),
    key_shift: AtomicU32::new(0),
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
    /// Bytes of the words of one class of `1 << class_log2` bytes, and of its spans' heads and
    /// bits behind them; each a whole number of cache lines.
    fn meta_parts(class_index: usize, class_log2: u32) -> (usize, usize) {
        let cut = &CUTS[class_index];
        let words_bytes = cut.words_bytes(1 << class_log2).next_multiple_of(KEY_STEP_BYTES);
        (words_bytes, 1 << (class_log2 - SPAN_LOG2 + cut.meta_log2))
    }

    /// Bytes of the metadata of one class of `1 << class_log2` bytes.
    pub(crate) fn meta_bytes(class_index: usize, class_log2: u32) -> usize {
        let (words_bytes, heads_bytes) = Self::meta_parts(class_index, class_log2);
        words_bytes + heads_bytes
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
        let (words_bytes, heads_bytes) = Layout::meta_parts(class_index, layout.class_log2);
        *class = Class {
            data,
            reciprocal: cut.reciprocal,
            words: meta,
            secret: secret_for(data, 1 << layout.class_log2, seed),
            heads: meta.wrapping_add(words_bytes),
            slot_bytes: cut.slot_bytes,
            bytes_min: cut.bytes_min,
            fill_second: fill.second as u32,
            fill_third: fill.third as u32,
            fill_last: fill.last as u32,
            zeroed_bytes: cut.zeroed_bytes as u16,
            units_log2: cut.units_log2 as u8,
            meta_log2: cut.meta_log2 as u8,
        };
        meta = meta.wrapping_add(words_bytes + heads_bytes);
    }
    TABLE.base.store(layout.base.as_ptr(), Ordering::Relaxed);
    TABLE.key_shift.store(Key::shift(layout.class_log2), Ordering::Relaxed);
    // Release: whoever has a block of ours was handed it after this.
    TABLE.bytes.store(CLASS_COUNT << layout.class_log2, Ordering::Release);
    if page_bytes() <= TABLE_PAGE_BYTES {
        let place = NonNull::from(&TABLE).cast::<u8>();
        // SAFETY: the table fills these pages and is not written again. A refusal costs the
        // protection only.
        let _ = unsafe { protect(place, TABLE_BYTES, Protection::Read) };
    }
}

/// A secret for the class of `bytes` from `data`: none of its four high bytes makes one of a canary
/// 0 (see [`canary`]).
fn secret_for(data: *mut u8, bytes: usize, seed: &mut Seed) -> u64 {
    let highs = (data.addr() >> 32)..=((data.addr() + bytes) >> 32);
    loop {
        let secret = seed.next();
        let bytes = |high: usize| (high as u32 ^ (secret >> 32) as u32).to_ne_bytes();
        if highs.clone().all(|high| !bytes(high).contains(&0)) {
            return secret;
        }
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
pub(crate) fn span_count() -> usize {
    (TABLE.bytes.load(Ordering::Relaxed) >> SPAN_LOG2) / CLASS_COUNT
}

/// The class that `address` lies in; none outside the region.
#[inline(always)]
fn key_at(address: *mut u8) -> Option<Key> {
    let offset = address.addr().wrapping_sub(TABLE.base.load(Ordering::Relaxed).addr());
    if offset >= TABLE.bytes.load(Ordering::Relaxed) {
        return None;
    }
    Some(Key::at(offset, TABLE.key_shift.load(Ordering::Relaxed)))
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
    let key = key_at(address)?;
    let class = class_of(key);
    let (unit, is_start) = class.unit_at(address);
    Some(Found { key, is_start, word: class.word_of_unit(unit) })
}

/// All about the slot that `address` lies in; none outside the region.
#[cold]
pub(crate) fn place_of(address: *mut u8) -> Option<Place> {
    let class_index = key_at(address)?.index();
    let class = class(class_index);
    let offset = address.addr() - class.data.addr();
    let (slot, _) = slot_at(offset, &CUTS[class_index]);
    let distance = offset - slot * class.slot_bytes();
    Some(Place { class_index, distance, word: class.word(slot) })
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
            second: self.fill_second as usize,
            third: self.fill_third as usize,
            last: self.fill_last as usize,
        }
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

    /// The span that `address`, one of this class, lies in.
    #[inline]
    pub(crate) fn span_of(&self, address: *mut u8) -> usize {
        (address.addr() - self.data.addr()) >> SPAN_LOG2
    }

    /// The unit that `address`, one of this class, lies in, and whether it is the unit's first
    /// byte.
    #[inline(always)]
    fn unit_at(&self, address: *mut u8) -> (usize, bool) {
        unit_at(address.addr() - self.data.addr(), self.reciprocal)
    }

    /// Start of its `span`.
    #[inline(always)]
    pub(crate) fn span_start(&self, span: usize) -> *mut u8 {
        self.data.wrapping_add(span << SPAN_LOG2)
    }

    /// Head of its `span`.
    #[inline(always)]
    pub(crate) fn span_head(&self, span: usize) -> *mut u8 {
        self.heads.wrapping_add(span << self.meta_log2)
    }

    /// The words of all slots that have a byte in its `span`: start, and length in bytes.
    pub(crate) fn span_words(&self, span: usize) -> (*mut u8, usize) {
        let first = unit_at(span << SPAN_LOG2, self.reciprocal).0;
        let last = unit_at(((span + 1) << SPAN_LOG2) - 1, self.reciprocal).0;
        (self.words.wrapping_add(2 * first), 2 * (last + 1 - first))
    }

    /// The word of `unit`, one of the class.
    #[inline(always)]
    fn word_of_unit(&self, unit: usize) -> &'static AtomicU16 {
        let place = self.words.cast::<AtomicU16>().wrapping_add(unit);
        // SAFETY: inside the class's words, which has one for each unit (`geometry`) and is
        // readable for ever; it is only written for spans that were made writable.
        unsafe { &*place }
    }

    /// The word of `slot`, counted from the class's start.
    fn word(&self, slot: usize) -> &'static AtomicU16 {
        self.word_of_unit(slot << self.units_log2)
    }

    /// The word of the slot that starts at `start`, which is one of this class.
    #[inline(always)]
    pub(crate) fn word_at(&self, start: *mut u8) -> &'static AtomicU16 {
        self.word_of_unit(self.unit_at(start).0)
    }

    /// What stands behind a block whose end is `end`.
    #[inline(always)]
    pub(crate) fn canary(&self, end: *mut u8) -> u64 {
        canary(self.secret, end)
    }
}

/// What stands behind a block whose end is `end`, in a class of that secret. No byte of it is 0, so
/// that a string's end written there is seen: of the low four each has a bit set here, of the
/// others [`secret_for`] chose the secret's.
#[inline(always)]
fn canary(secret: u64, end: *mut u8) -> u64 {
    (end.addr() as u64 ^ secret) | 0x0101_0101
}

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

    use super::{canary, secret_for};
    use crate::random::Seed;

    #[test]
    fn no_byte_of_a_canary_is_zero() {
        const BYTES: usize = 1 << 34;
        let mut seed = Seed::new(core::ptr::null());
        for number in 0..64 {
            // Where classes may lie: at multiples of a span, below the end of user space.
            let data = without_provenance_mut::<u8>(((seed.next() >> 17) as usize >> 18) << 18);
            let secret = secret_for(data, BYTES, &mut seed);
            for step in 0..4096 {
                let end = data.wrapping_add(step * (BYTES / 4096) + number);
                let bytes = canary(secret, end).to_ne_bytes();
                assert!(!bytes.contains(&0), "{data:p} {end:p}");
            }
            assert_ne!(canary(secret, data), canary(secret, data.wrapping_add(32)));
        }
    }
}
