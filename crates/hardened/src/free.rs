//! Giving blocks back: every check, then zeroes, then the ring.

use crate::class::{Place, class, load, place_of, store};
use crate::fill::zero;
use crate::large;
use crate::refill::push_slow;
use crate::report::{Misuse, Noticed, tell};
use crate::tls;
use crate::word::{Family, State, Word};

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
    let Some(place) = place_of(ptr) else {
        large::free(ptr, how);
        return;
    };
    let word = load(place.word);
    if !word.is_live_of(how.family) || place.distance != 0 {
        refuse(ptr, place, how);
        return;
    }
    let slot_bytes = class(place.class_index).slot_bytes();
    if how.bytes.is_some_and(|told| told != slot_bytes - word.slack_bytes()) {
        tell_wrong_size(ptr, place, how);
    }
    take_back(ptr, place, word);
}

/// Takes back the live block at the slot `place` whose word is `word`.
#[inline(always)]
pub(crate) fn take_back(ptr: *mut u8, place: Place, word: Word) {
    let class = class(place.class_index);
    if cfg!(not(heapwright_hardened_without = "canary")) {
        let end = ptr.wrapping_add(class.slot_bytes() - word.slack_bytes());
        // SAFETY: a live block's canary lies behind it, in its slot.
        let found = unsafe { end.cast::<u64>().read_unaligned() };
        if found != class.canary(end) {
            overwritten(ptr, place, Noticed::Free);
            return;
        }
    }
    if cfg!(not(heapwright_hardened_without = "zero")) {
        // SAFETY: the slot was given up, and is as long.
        unsafe { zero(ptr, class.zeroed_bytes()) };
    }
    store(place.word, Word::FREED);
    let kept = class.kept_count();
    if !tls::cache().is_some_and(|cache| cache.push(place.class_index, ptr, kept)) {
        push_slow(place.class_index, ptr);
    }
}

/// Tells why `ptr` cannot be given back; a block of another family is, if the program goes on.
#[cold]
#[inline(never)]
fn refuse(ptr: *mut u8, place: Place, how: Return) {
    let slot_bytes = class(place.class_index).slot_bytes();
    let word = load(place.word);
    let bytes = slot_bytes.saturating_sub(word.slack_bytes());
    let misuse = match word.state() {
        State::Live(family) if place.distance == 0 => {
            if cfg!(heapwright_hardened_without = "family") {
                take_back(ptr, place, word);
                return;
            }
            Misuse::WrongFunction { bytes, family, taker: how.family }
        }
        State::Live(family) => Misuse::FreeInside {
            distance: place.distance,
            start: ptr.addr() - place.distance,
            bytes,
            family,
        },
        State::Freed | State::Retired if place.distance == 0 => Misuse::DoubleFree { slot_bytes },
        _ => Misuse::FreeOfNoBlock,
    };
    if cfg!(not(heapwright_hardened_without = "state")) {
        tell(misuse, ptr.addr(), Noticed::Free);
    }
    if matches!(misuse, Misuse::WrongFunction { .. }) {
        take_back(ptr, place, word);
    }
}

#[cold]
#[inline(never)]
fn tell_wrong_size(ptr: *mut u8, place: Place, how: Return) {
    if cfg!(heapwright_hardened_without = "size") {
        return;
    }
    let bytes = class(place.class_index).slot_bytes() - load(place.word).slack_bytes();
    let misuse =
        Misuse::WrongSize { bytes, family: how.family, told: how.bytes.unwrap_or_default() };
    tell(misuse, ptr.addr(), Noticed::Free);
}

/// Tells of a live block whose canary is not whole; the slot is out of use then.
#[cold]
#[inline(never)]
pub(crate) fn overwritten(ptr: *mut u8, place: Place, noticed: Noticed) {
    let class = class(place.class_index);
    let word = load(place.word);
    let State::Live(family) = word.state() else { return };
    let bytes = class.slot_bytes() - word.slack_bytes();
    let end = ptr.wrapping_add(bytes);
    // SAFETY: a live block's canary lies behind it, in its slot.
    let found = unsafe { end.cast::<u64>().read_unaligned() };
    let changed = found ^ class.canary(end);
    store(place.word, Word::RETIRED);
    let at = changed.to_le().trailing_zeros() as usize / 8;
    tell(Misuse::Overflow { bytes, family, at }, ptr.addr(), noticed);
}

/// Bytes of a live block, as requested; 0 for null, and for anything else, which is told.
///
/// # Safety
/// - None: `ptr` is any address.
#[inline]
pub unsafe fn usable_bytes(ptr: *mut u8) -> usize {
    let Some(place) = place_of(ptr) else { return large::usable_bytes(ptr) };
    let word = load(place.word);
    if !matches!(word.state(), State::Live(_)) || place.distance != 0 {
        tell(Misuse::SizeOfNoBlock, ptr.addr(), Noticed::Size);
        return 0;
    }
    class(place.class_index).slot_bytes() - word.slack_bytes()
}
