//! Giving blocks back: every check, then zeroes, then the quarantine.

use heapwright_core::family::Family;

use crate::class::{Found, Place, class, class_of, find, find_narrow, load, place_of, store};
use crate::fill::{zero, zero_long};
use crate::large;
use crate::refill::push_slow;
use crate::report::{Misuse, Noticed, tell};
use crate::tls;
use crate::word::{State, Word};

/// How a block is given back.
#[derive(Clone, Copy, Debug)]
pub struct Return {
    /// The functions' family.
    pub family: Family,
    /// The size that was told, if the function takes one.
    pub bytes: Option<usize>,
}

/// Takes a block back; null is nothing. An address that is no block's, a block of another family
/// or size, and one that was written past its end are told. O(slot size): the bytes are zeroed.
///
/// # Safety
/// - Nobody uses the block after the call; `ptr` itself is any address.
#[inline(always)]
pub unsafe fn free(ptr: *mut u8, how: Return) {
    let Some(found) = find_narrow(ptr) else {
        free_wide(ptr, how.family, how.bytes);
        return;
    };
    if let Some(bytes) = load(found.word).told_if_live_of(how.family)
        && found.is_start
    {
        check_told(ptr, how, bytes);
        take_back(ptr, found, bytes);
    } else {
        refuse(ptr, how.family);
    }
}

/// [`free`] of what is not in a slot whose word tells all of a block's bytes.
#[cold]
#[inline(never)]
fn free_wide(ptr: *mut u8, family: Family, bytes: Option<usize>) {
    let Some(found) = find(ptr) else {
        large::free(ptr, family, bytes);
        return;
    };
    if let Some(bytes_told) = load(found.word).told_if_live_of(family)
        && found.is_start
    {
        let own_bytes = class_of(found.key).bytes_min() + bytes_told;
        check_told(ptr, Return { family, bytes }, own_bytes);
        take_back(ptr, found, own_bytes);
    } else {
        refuse(ptr, family);
    }
}

/// Tells when a size was told that is not the block's.
#[inline(always)]
fn check_told(ptr: *mut u8, how: Return, bytes: usize) {
    if let Some(told) = how.bytes
        && told != bytes
    {
        tell_wrong_size(ptr, how.family, told);
    }
}

/// Takes back the live block of `bytes` at `ptr`.
#[inline(always)]
fn take_back(ptr: *mut u8, found: Found, bytes: usize) {
    let class = class_of(found.key);
    if cfg!(not(heapwright_hardened_without = "canary")) {
        let end = ptr.wrapping_add(bytes);
        // SAFETY: a live block's canary lies behind it, in its slot.
        let there = unsafe { end.cast::<u64>().read_unaligned() };
        if there != class.canary(end) {
            overwritten(ptr, Noticed::Free);
            return;
        }
    }
    if cfg!(not(heapwright_hardened_without = "zero")) {
        // SAFETY: the slot was given up, and is as long.
        if !unsafe { zero(ptr, class.zeroed_bytes()) } {
            return take_back_long(ptr);
        }
    }
    let_wait(ptr, found);
}

/// The rest of [`take_back`] for a slot of which more is to be zeroed.
#[cold]
#[inline(never)]
fn take_back_long(ptr: *mut u8) {
    // Found once more: what was found before would have to be kept in memory for each block.
    let Some(found) = find(ptr) else { return };
    // SAFETY: as there.
    unsafe { zero_long(ptr, class_of(found.key).zeroed_bytes()) };
    let_wait(ptr, found);
}

/// A zeroed slot is free, and waits.
#[inline(always)]
fn let_wait(ptr: *mut u8, found: Found) {
    store(found.word, Word::FREED);
    if let Some(cache) = tls::cache()
        && cache.push(found.key, ptr)
    {
        return;
    }
    push_slow(found.key, ptr);
}

/// Tells why `ptr` cannot be given back; a block of another family is, if the program goes on.
#[cold]
#[inline(never)]
fn refuse(ptr: *mut u8, taker: Family) {
    let (Some(place), Some(found)) = (place_of(ptr), find(ptr)) else { return };
    let misuse = what_is_wrong(ptr, place, taker);
    let is_of_other_family = matches!(misuse, Misuse::WrongFunction { .. });
    let passes = (is_of_other_family && cfg!(heapwright_hardened_without = "family"))
        || (!is_of_other_family && cfg!(heapwright_hardened_without = "state"));
    if !passes {
        tell(misuse, ptr.addr(), Noticed::Free);
    }
    if is_of_other_family {
        take_back(ptr, found, class_of(found.key).bytes(load(found.word)));
    }
}

/// Why the address at `place` cannot be given to `taker`'s functions.
pub(crate) fn what_is_wrong(ptr: *mut u8, place: Place, taker: Family) -> Misuse {
    let class = class(place.class_index);
    let slot_bytes = class.slot_bytes();
    let word = load(place.word);
    let bytes = class.bytes(word);
    let (distance, start) = (place.distance, ptr.addr() - place.distance);
    match word.state() {
        State::Live(family) if distance == 0 => Misuse::WrongFunction { bytes, family, taker },
        State::Live(family) => Misuse::FreeInside { distance, start, bytes, family },
        State::Freed | State::Retired if distance == 0 => Misuse::DoubleFree { slot_bytes },
        _ => Misuse::FreeOfNoBlock,
    }
}

#[cold]
#[inline(never)]
fn tell_wrong_size(ptr: *mut u8, family: Family, told: usize) {
    if cfg!(heapwright_hardened_without = "size") {
        return;
    }
    let bytes = live_bytes(ptr).unwrap_or_default();
    tell(Misuse::WrongSize { bytes, family, told }, ptr.addr(), Noticed::Free);
}

/// Tells of a live block whose canary is not whole; the slot is out of use then.
#[cold]
#[inline(never)]
pub(crate) fn overwritten(ptr: *mut u8, noticed: Noticed) {
    let Some(found) = find(ptr) else { return };
    let class = class_of(found.key);
    let word = load(found.word);
    let State::Live(family) = word.state() else { return };
    let bytes = class.bytes(word);
    let end = ptr.wrapping_add(bytes);
    // SAFETY: a live block's canary lies behind it, in its slot.
    let there = unsafe { end.cast::<u64>().read_unaligned() };
    let changed = there ^ class.canary(end);
    store(found.word, Word::RETIRED);
    let at = changed.to_le().trailing_zeros() as usize / 8;
    tell(Misuse::Overflow { bytes, family, at }, ptr.addr(), noticed);
}

/// Bytes of the live small block that starts at `ptr`, as requested.
fn live_bytes(ptr: *mut u8) -> Option<usize> {
    let found = find(ptr)?;
    let word = load(found.word);
    let is_live = matches!(word.state(), State::Live(_)) && found.is_start;
    is_live.then(|| class_of(found.key).bytes(word))
}

/// Bytes of a live block, as requested; 0 for null, and for anything else, which is told.
///
/// # Safety
/// - None: `ptr` is any address.
#[inline]
pub unsafe fn usable_bytes(ptr: *mut u8) -> usize {
    if find(ptr).is_none() {
        return large::usable_bytes(ptr);
    }
    live_bytes(ptr).unwrap_or_else(|| {
        tell(Misuse::SizeOfNoBlock, ptr.addr(), Noticed::Size);
        0
    })
}
