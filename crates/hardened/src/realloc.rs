//! `realloc`: in place where the slot stays the same, else a new block.

use heapwright_core::family::Family;

use crate::alloc::{NO_BLOCK, alloc};
use crate::class::{Found, class_of, find, load, place_of, store};
use crate::free::{Return, free, overwritten, what_is_wrong};
use crate::geometry::class_for;
use crate::large_realloc;
use crate::report::{Noticed, tell};
use crate::word::State;

/// Changes a block's size, moving it when it must; null without memory, and the block is then as
/// it was. Null acts as [`alloc`]. An address that is no block's is told, and null.
///
/// # Safety
/// - After a non-null result nobody uses the block under its old address; `ptr` itself is any.
pub unsafe fn realloc(ptr: *mut u8, bytes: usize) -> *mut u8 {
    if ptr.is_null() {
        return alloc(bytes, Family::Malloc);
    }
    let Some(found) = find(ptr) else { return large_realloc::realloc(ptr, bytes) };
    let word = load(found.word);
    if !found.is_start || word.told_if_live_of(Family::Malloc).is_none() {
        return refuse(ptr);
    }
    let class = class_of(found.key);
    let old_bytes = class.bytes(word);
    let end = ptr.wrapping_add(old_bytes).cast::<u64>();
    if cfg!(not(heapwright_hardened_without = "canary")) {
        // SAFETY: a live block's canary lies behind it, in its slot.
        if unsafe { end.read_unaligned() } != class.canary(end.cast()) {
            overwritten(ptr, Noticed::Realloc);
            return move_to(ptr, old_bytes, bytes);
        }
    }
    if class_for(bytes) == Some(found.key.index()) {
        resize(ptr, found, old_bytes, bytes);
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
fn resize(ptr: *mut u8, found: Found, old_bytes: usize, bytes: usize) {
    let State::Live(family) = load(found.word).state() else { return };
    let class = class_of(found.key);
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
    store(found.word, class.live(family, bytes));
}

#[cold]
fn refuse(ptr: *mut u8) -> *mut u8 {
    if let Some(place) = place_of(ptr)
        && cfg!(not(heapwright_hardened_without = "state"))
    {
        tell(what_is_wrong(ptr, place, Family::Malloc), ptr.addr(), Noticed::Realloc);
    }
    NO_BLOCK
}
