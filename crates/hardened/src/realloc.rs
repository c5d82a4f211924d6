//! `realloc`: in place where the slot stays the same, else a new block.

use crate::alloc::{NO_BLOCK, alloc};
use crate::class::{Place, class, load, place_of, store};
use crate::free::{Return, free, overwritten};
use crate::geometry::class_for;
use crate::large;
use crate::report::{Misuse, Noticed, tell};
use crate::word::{Family, State, Word};

/// Changes a block's size, moving it when it must; null without memory, and the block is then as
/// it was. Null acts as [`alloc`]. An address that is no block's is told, and null.
///
/// # Safety
/// - After a non-null result nobody uses the block under its old address; `ptr` itself is any.
pub unsafe fn realloc(ptr: *mut u8, bytes: usize) -> *mut u8 {
    if ptr.is_null() {
        return alloc(bytes, Family::Malloc);
    }
    let Some(place) = place_of(ptr) else { return large::realloc(ptr, bytes) };
    let word = load(place.word);
    if place.distance != 0 || !word.is_live_of(Family::Malloc) {
        return refuse(ptr, place);
    }
    let class = class(place.class_index);
    let old_bytes = class.slot_bytes() - word.slack_bytes();
    let end = ptr.wrapping_add(old_bytes).cast::<u64>();
    if cfg!(not(heapwright_hardened_without = "canary")) {
        // SAFETY: a live block's canary lies behind it, in its slot.
        if unsafe { end.read_unaligned() } != class.canary(end.cast()) {
            overwritten(ptr, place, Noticed::Realloc);
            return move_to(ptr, old_bytes, bytes);
        }
    }
    if class_for(bytes) == Some(place.class_index) {
        resize(ptr, place, old_bytes, bytes);
        return ptr;
    }
    let new = move_to(ptr, old_bytes, bytes);
    if !new.is_null() {
        // SAFETY: the caller gave the old block up.
        unsafe { free(ptr, Return { family: Family::Malloc, bytes: None }) };
    }
    new
}

/// A new block with the contents of the one at `ptr`, which stays.
fn move_to(ptr: *mut u8, old_bytes: usize, bytes: usize) -> *mut u8 {
    let new = alloc(bytes, Family::Malloc);
    if !new.is_null() {
        // SAFETY: both are live blocks with so many bytes, and not the same.
        unsafe { core::ptr::copy_nonoverlapping(ptr, new, old_bytes.min(bytes)) };
    }
    new
}

/// Moves the canary of a block that stays in its slot. What lies behind it stays 0.
fn resize(ptr: *mut u8, place: Place, old_bytes: usize, bytes: usize) {
    let State::Live(family) = load(place.word).state() else { return };
    let class = class(place.class_index);
    let (old_end, end) = (ptr.wrapping_add(old_bytes), ptr.wrapping_add(bytes));
    if cfg!(not(heapwright_hardened_without = "canary")) {
        if bytes < old_bytes {
            // SAFETY: bytes of the block that the program gives up.
            unsafe { end.write_bytes(0, old_bytes - bytes) };
        }
        // SAFETY: the old canary, in the slot.
        unsafe { old_end.cast::<u64>().write_unaligned(0) };
        // SAFETY: behind the block's new end, in the slot, since its class is that of `bytes`.
        unsafe { end.cast::<u64>().write_unaligned(class.canary(end)) };
    }
    store(place.word, Word::live(family, class.slot_bytes() - bytes));
}

#[cold]
fn refuse(ptr: *mut u8, place: Place) -> *mut u8 {
    let slot_bytes = class(place.class_index).slot_bytes();
    let word = load(place.word);
    let bytes = slot_bytes.saturating_sub(word.slack_bytes());
    let misuse = match word.state() {
        State::Live(family) if place.distance != 0 => Misuse::FreeInside {
            distance: place.distance,
            start: ptr.addr() - place.distance,
            bytes,
            family,
        },
        State::Live(family) => Misuse::WrongFunction { bytes, family, taker: Family::Malloc },
        State::Freed | State::Retired if place.distance == 0 => Misuse::DoubleFree { slot_bytes },
        _ => Misuse::FreeOfNoBlock,
    };
    tell(misuse, ptr.addr(), Noticed::Realloc);
    NO_BLOCK
}
