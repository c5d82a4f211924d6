//! Allocation: a slot off the thread's stack, looked at and armed.

use core::ptr::null_mut;

use heapwright_core::family::Family;
use heapwright_sync::atomic::AtomicU16;

use crate::class::{class, class_of, load, store};
use crate::fill::{is_zero, is_zero_long};
use crate::geometry::{Key, class_for, class_for_aligned, class_for_tiny};
use crate::large::{self, Pages};
use crate::refill::{offer_slow, reject, take_slow};
use crate::tls;
use crate::word::Word;

/// A block of `bytes`, aligned to 16; null without memory. 0 bytes are a block whose every byte is
/// out of bounds. Some 50 instructions for a small block.
#[inline(always)]
pub fn alloc(bytes: usize, family: Family) -> *mut u8 {
    match class_for(bytes) {
        Some(class_index) => alloc_small(class_index, bytes, family).0,
        None => large::alloc(bytes, 1, family, Pages::Soon),
    }
}

/// A block of `bytes` if a slot for it is at hand, else null, and [`alloc`] is to be asked: the
/// part that is worth inlining. Calls nothing: where anything is not as it mostly is, nothing has
/// changed yet, and `alloc` meets it again.
#[inline(always)]
pub fn alloc_at_once(bytes: usize, family: Family) -> *mut u8 {
    let Some(key) = class_for_tiny(bytes) else { return NO_BLOCK };
    let Some(cache) = tls::cache() else { return NO_BLOCK };
    let Some(top) = cache.top(key) else { return NO_BLOCK };
    let word = class_of(key).word_at(top.slot);
    let Seen::Ready(_) = look(key, top.slot, word) else { return NO_BLOCK };
    let slot = cache.take(key, top);
    make_live(key, slot, word, bytes, family, 0);
    slot
}

/// A block of `bytes` that are all 0; else as [`alloc`].
#[inline]
pub fn alloc_zeroed(bytes: usize, family: Family) -> *mut u8 {
    let Some(class_index) = class_for(bytes) else {
        return large::alloc(bytes, 1, family, Pages::Later);
    };
    let (block, was) = alloc_small(class_index, bytes, family);
    let zeroed_bytes = if cfg!(heapwright_hardened_without = "zero") {
        0
    } else {
        class(class_index).zeroed_bytes()
    };
    if bytes > zeroed_bytes && was != Word::FRESH && !block.is_null() {
        let rest = block.wrapping_add(zeroed_bytes);
        // SAFETY: a block of ours of more than so many bytes that nobody else has.
        unsafe { rest.write_bytes(0, bytes - zeroed_bytes) };
    }
    block
}

/// A block of `bytes` at a multiple of `align_bytes`, a power of two; else as [`alloc`].
pub fn alloc_aligned(align_bytes: usize, bytes: usize, family: Family) -> *mut u8 {
    match class_for_aligned(bytes, align_bytes) {
        Some(class_index) => alloc_small(class_index, bytes, family).0,
        None => large::alloc(bytes, align_bytes, family, Pages::Later),
    }
}

/// A block in a slot, and what the slot's word said before.
#[inline(always)]
fn alloc_small(class_index: usize, bytes: usize, family: Family) -> (*mut u8, Word) {
    let key = Key::of(class_index);
    if let Some(cache) = tls::cache()
        && let Some(slot) = cache.pop(key)
        && let Some(was) = arm(key, slot, bytes, family, class_of(key).bytes_min())
    {
        return (slot, was);
    }
    alloc_slow(class_index, bytes, family)
}

#[cold]
#[inline(never)]
fn alloc_slow(class_index: usize, bytes: usize, family: Family) -> (*mut u8, Word) {
    let align_bytes = 1 << class_align_log2(class_index);
    let guarded = offer_slow(class_index, bytes, align_bytes, family);
    if !guarded.is_null() {
        return (guarded, Word::FRESH);
    }
    loop {
        let slot = take_slow(class_index);
        if slot.is_null() {
            // No address or memory left in the class; a mapping may still be had.
            return (large::alloc(bytes, align_bytes, family, Pages::Later), Word::FRESH);
        }
        let key = Key::of(class_index);
        if let Some(was) = arm(key, slot, bytes, family, class_of(key).bytes_min()) {
            return (slot, was);
        }
    }
}

/// log2 of what all slots of a class are aligned to.
fn class_align_log2(class_index: usize) -> u32 {
    class(class_index).slot_bytes().max(16).trailing_zeros()
}

/// What a slot that is about to be handed out shows.
enum Seen {
    /// It may be; its word said so much.
    Ready(Word),
    /// Something is wrong with it.
    Wrong,
    /// More of it is to be looked at, by [`arm_long`].
    Long,
}

/// Looks at a slot off a stack or a span, and at its `word`.
#[inline(always)]
fn look(key: Key, slot: *mut u8, word: &AtomicU16) -> Seen {
    let was = load(word);
    let looks = cfg!(not(heapwright_hardened_without = "reuse"))
        && cfg!(not(heapwright_hardened_without = "zero"));
    if was == Word::FREED {
        if looks {
            // SAFETY: a freed slot off a stack: it is this thread's alone.
            match unsafe { is_zero(slot, class_of(key).zeroed_bytes()) } {
                Some(true) => {}
                Some(false) => return Seen::Wrong,
                None => return Seen::Long,
            }
        }
    } else if !is_fresh(was) {
        return Seen::Wrong;
    }
    Seen::Ready(was)
}

/// Whether a slot whose word says `was` was never handed out. Cold, so that what is asked for more
/// often, whether it is free, is asked for first.
#[cold]
#[inline(always)]
fn is_fresh(was: Word) -> bool {
    was == Word::FRESH
}

/// Makes a slot, taken from a stack or a span, a live block of a class whose blocks have at least
/// `bytes_min`; what its word said before. None when something is wrong with it: that is told,
/// and the slot is out of use.
#[inline(always)]
fn arm(key: Key, slot: *mut u8, bytes: usize, family: Family, bytes_min: usize) -> Option<Word> {
    let word = class_of(key).word_at(slot);
    match look(key, slot, word) {
        Seen::Ready(was) => {
            make_live(key, slot, word, bytes, family, bytes_min);
            Some(was)
        }
        Seen::Wrong => reject(key.index(), slot),
        Seen::Long => {
            let block = arm_long(key, slot, bytes, family, bytes_min);
            (!block.is_null()).then_some(Word::FREED)
        }
    }
}

/// [`arm`] of a freed slot of which more is to be looked at: the slot, or null when it is out of use.
#[cold]
#[inline(never)]
fn arm_long(key: Key, slot: *mut u8, bytes: usize, family: Family, bytes_min: usize) -> *mut u8 {
    // SAFETY: as in `look`.
    if !unsafe { is_zero_long(slot, class_of(key).zeroed_bytes()) } {
        reject(key.index(), slot);
        return NO_BLOCK;
    }
    make_live(key, slot, class_of(key).word_at(slot), bytes, family, bytes_min);
    slot
}

/// Writes the word and the canary of a slot that becomes a block.
#[inline(always)]
fn make_live(
    key: Key,
    slot: *mut u8,
    word: &AtomicU16,
    bytes: usize,
    family: Family,
    bytes_min: usize,
) {
    store(word, Word::live(family, bytes - bytes_min));
    if cfg!(not(heapwright_hardened_without = "canary")) {
        let end = slot.wrapping_add(bytes);
        // SAFETY: the class has room for a canary behind `bytes` (`geometry`).
        unsafe { end.cast::<u64>().write_unaligned(class_of(key).canary(end)) };
    }
}

/// No block.
pub(crate) const NO_BLOCK: *mut u8 = null_mut();
