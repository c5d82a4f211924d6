//! Between rings and spans: slots come shuffled, and go back oldest first.

use crate::alloc::NO_BLOCK;
use crate::cache::Cache;
use crate::class::{class, load, place_of, store};
use crate::fill::first_set;
use crate::geometry::{CUTS, RING};
use crate::pool::pool;
use crate::random::step;
use crate::report::{Misuse, Noticed, tell};
use crate::thread;
use crate::wait::hold;
use crate::word::{State, Word};

/// A slot of `class_index` whose ring has none to give; null without memory.
#[cold]
pub(crate) fn take_slow(class_index: usize) -> *mut u8 {
    let Some(cache) = thread::cache() else { return take_one(class_index) };
    let cut = &CUTS[class_index];
    let length = cache.length(class_index);
    if length <= cut.kept_count {
        let wished = cut.kept_count - length + cut.batch_count;
        let (random, since) = (cache.random(), cache.tail(class_index));
        let give = |slot| cache.push_since(class_index, slot, since);
        hold(pool(class_index)).take(class_index, wished, random, give);
    }
    // When memory ends, those that should wait are handed out.
    cache.pop_any(class_index).unwrap_or(NO_BLOCK)
}

/// A slot for a thread without a cache: at its end, or when there is no memory for one.
fn take_one(class_index: usize) -> *mut u8 {
    if !thread::is_started() {
        return NO_BLOCK;
    }
    let mut found = NO_BLOCK;
    let random = step(heapwright_os::cycle_counter());
    hold(pool(class_index)).take(class_index, 1, random, |slot| found = slot);
    found
}

/// Takes in a freed slot whose ring is full or too short.
#[cold]
#[inline(never)]
pub(crate) fn push_slow(class_index: usize, slot: *mut u8) {
    let Some(cache) = thread::cache() else {
        give_back(class_index, core::iter::once(slot));
        return;
    };
    if cache.length(class_index) >= RING {
        bring_back(cache, class_index, RING / 2);
    }
    let since = cache.tail(class_index).wrapping_sub(cache.length(class_index));
    cache.push_since(class_index, slot, since);
}

/// Takes the oldest `count` slots of a ring back to their spans.
pub(crate) fn bring_back(cache: &Cache, class_index: usize, count: u32) {
    let oldest = (0..count).map_while(|_| cache.pop_any(class_index));
    give_back(class_index, oldest);
}

/// Gives slots to their spans: those that a block lies in stay where they are.
pub(crate) fn give_back(class_index: usize, slots: impl Iterator<Item = *mut u8>) {
    let mut pool = hold(pool(class_index));
    for slot in slots {
        let Some(place) = place_of(slot) else { continue };
        if !matches!(load(place.word).state(), State::Freed | State::Fresh) || !pool.give(place) {
            // It is in two places: somebody has it already, so nothing is lost.
            let slot_bytes = class(class_index).slot_bytes();
            tell(Misuse::RacingFree { slot_bytes }, slot.addr(), Noticed::Reuse);
        }
    }
}

/// Tells what is wrong with a slot that was about to be handed out, and puts it out of use.
#[cold]
#[inline(never)]
pub(crate) fn reject(class_index: usize, slot: *mut u8) -> Option<Word> {
    let class = class(class_index);
    let word = class.word_at(slot);
    let slot_bytes = class.slot_bytes();
    if load(word) == Word::FREED {
        // SAFETY: a slot of ours.
        let distance = unsafe { first_set(slot, class.zeroed_bytes()) }.unwrap_or(0);
        store(word, Word::RETIRED);
        let misuse = Misuse::WriteToFree { distance, slot_bytes };
        tell(misuse, slot.addr() + distance, Noticed::Reuse);
    } else {
        // Live: handed out by another thread that had it, too. It stays that thread's.
        tell(Misuse::RacingFree { slot_bytes }, slot.addr(), Noticed::Reuse);
    }
    None
}
