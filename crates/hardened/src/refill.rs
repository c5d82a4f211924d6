//! Between a thread's rows, depots and spans: slots come shuffled, and go back oldest first.

use core::cell::Cell;

use crate::geometry::CLASS_COUNT;
use heapwright_core::family::Family;

use crate::alloc::NO_BLOCK;
use crate::cache::Cache;
use crate::class::{class, load, store};
use crate::depot::Depot;
use crate::fill::first_set;
use crate::geometry::{CUTS, Key};
use crate::pool::{Pool, pool};
use crate::random::step;
use crate::report::{Misuse, Noticed, tell};
use crate::wait::hold;
use crate::word::Word;
use crate::{sampling, thread};

/// A guarded block in place of one of `class_index`, when it is time for one; null else.
#[cold]
pub(crate) fn offer_slow(
    class_index: usize,
    bytes: usize,
    align_bytes: usize,
    family: Family,
) -> *mut u8 {
    match thread::cache() {
        Some(cache) => {
            sampling::offer(cache, CUTS[class_index].batch_count, bytes, align_bytes, family)
        }
        None => NO_BLOCK,
    }
}

/// A slot of `class_index` whose stack has none to give; null without memory.
#[cold]
pub(crate) fn take_slow(class_index: usize) -> *mut u8 {
    let Some(cache) = thread::cache() else { return take_one(class_index) };
    if CUTS[class_index].is_wide() {
        return take_wide(class_index, cache.random());
    }
    if cache.length(class_index) == 0 {
        cache.stir(class_index);
        let batch = CUTS[class_index].batch_count;
        let mut pool = hold(pool(class_index));
        let put = |slot, since| cache.put_above(class_index, slot, since);
        if !cache.take_batch(class_index, batch as usize, &mut pool.depot)
            && !pool.take_fresh(class_index, batch, put)
        {
            pool.take(class_index, batch, cache.random(), |slot| put(slot, 0));
        }
    }
    // When memory ends, those that should wait are handed out.
    cache.pop_any(class_index).unwrap_or(NO_BLOCK)
}

/// A slot of a class whose slots threads do not keep.
fn take_wide(class_index: usize, random: u64) -> *mut u8 {
    let mut pool = hold(pool(class_index));
    if let Some(slot) = pool.depot.take_waited() {
        return slot;
    }
    let mut found = NO_BLOCK;
    if !pool.take_fresh(class_index, 1, |slot, _| found = slot) {
        pool.take(class_index, 1, random, |slot| found = slot);
    }
    // When memory ends, the one that should wait is handed out.
    let last = [Cell::new(found)];
    if found.is_null() && pool.depot.take(&last) { last[0].get() } else { found }
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

/// Takes in a freed slot whose stack is full.
#[cold]
#[inline(never)]
pub(crate) fn push_slow(key: Key, slot: *mut u8) {
    let class_index = key.index();
    let cut = &CUTS[class_index];
    let Some(cache) = thread::cache() else {
        give_back(class_index, |giver| giver.give(slot));
        return;
    };
    if cut.is_wide() {
        give_back(class_index, |giver| giver.leave(slot));
        return;
    }
    if cache.keep(key, slot) {
        return;
    }
    if cache.length(class_index) >= cut.stack_count as usize {
        let batch = cut.batch_count as usize;
        let half = cut.stack_count as usize / 2;
        give_back(class_index, |giver| {
            if !giver.pool.depot.has_room(half) {
                // Half of it, since a batch at a time would come here each time.
                giver.empty_depot((giver.pool.depot.len() / batch).div_ceil(2) * batch);
            }
            cache.leave_lowest(class_index, half, &mut giver.pool.depot);
        });
        cache.stir(class_index);
    }
    let is_taken = cache.push(key, slot);
    debug_assert!(is_taken, "half of the stack is free");
}

/// Takes all slots of a thread back to their spans.
pub(crate) fn bring_all_back(cache: &Cache) {
    for class_index in 0..CLASS_COUNT {
        if let Some(first) = cache.pop_any(class_index) {
            give_back(class_index, |giver| {
                giver.give(first);
                while let Some(slot) = cache.pop_any(class_index) {
                    giver.give(slot);
                }
            });
        }
    }
}

/// Takes the slots of a thread that is not here, after a fork, back to their spans.
pub(crate) fn bring_other_back(cache: &Cache) {
    for class_index in 0..CLASS_COUNT {
        let mut pool = hold(pool(class_index));
        while let Some(slot) = cache.pop_any(class_index) {
            // What is live was handed out when its thread was cut off; what has a bit was on its
            // way back: both stay as they are.
            pool.give(class_index, slot);
        }
    }
}

/// Takes all slots of a depot back to their spans.
pub(crate) fn bring_depot_back(class_index: usize) {
    give_back(class_index, |giver| giver.empty_depot(giver.pool.depot.len()));
}

/// Who gives slots of one class back, under its lock.
struct Giver<'a> {
    pool: &'a mut Pool,
    class_index: usize,
    /// A slot that was not free.
    doubted: *mut u8,
}

impl Giver<'_> {
    #[inline]
    fn give(&mut self, slot: *mut u8) {
        if !self.pool.give(self.class_index, slot) {
            self.doubted = slot;
        }
    }

    /// Leaves a slot in the depot of its class; the oldest ones there make room.
    fn leave(&mut self, slot: *mut u8) {
        if !self.pool.depot.has_room(1) {
            self.empty_depot(self.pool.depot.len().div_ceil(2));
        }
        if self.pool.depot.has_room(1) {
            self.pool.depot.put(&[Cell::new(slot)]);
        } else {
            self.give(slot);
        }
    }

    /// Gives the oldest `count` slots of the depot back, whole batches.
    #[cold]
    fn empty_depot(&mut self, count: usize) {
        let Self { pool, class_index, doubted } = self;
        // The pool needs itself to take them.
        let mut depot = core::mem::replace(&mut pool.depot, Depot::new());
        depot.empty_lowest(count, |slot| {
            if !pool.give(*class_index, slot) {
                *doubted = slot;
            }
        });
        pool.depot = depot;
    }
}

/// Gives the slots that `bring` brings to their spans: one in which a block lies stays there.
fn give_back(class_index: usize, bring: impl FnOnce(&mut Giver<'_>)) {
    let mut pool = hold(pool(class_index));
    let mut giver = Giver { pool: &mut pool, class_index, doubted: NO_BLOCK };
    bring(&mut giver);
    let doubted = giver.doubted;
    drop(pool);
    if !doubted.is_null() {
        // It is in two places: somebody has it already, so nothing is lost.
        let slot_bytes = class(class_index).slot_bytes();
        tell(Misuse::RacingFree { slot_bytes }, doubted.addr(), Noticed::Reuse);
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
