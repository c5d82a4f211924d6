//! Which slot a block's pointer is kept in, chosen at compile time.
//!
//! A *version* of a block is its life between two operations on it: one thread puts the
//! pointer into a slot, one thread takes it out. When both are the same thread the slot is
//! local, and may be used again at once. When they differ the taker waits until the slot is
//! filled, so it must never see what was in the slot before.
//!
//! # Invariants
//! - I1: a slot in a thread's own list was last emptied by that thread, or by an operation
//!   that all threads have passed when this thread uses it.
//! - I2: a slot handed to a version between two threads was last emptied at least
//!   `window + 1` epochs before the version's birth; and no thread is ever more than `window`
//!   epochs ahead of the slowest. So both threads find it empty until the version fills it
//!   (design/replay#I2).
#![forbid(unsafe_code)]

use std::collections::VecDeque;

/// Slots that a thread keeps for itself; more go to the pool for all threads.
const OWN_SLOTS_MAX: usize = 2048;

#[derive(Clone, Copy, Debug)]
struct Emptied {
    slot: u32,
    epoch: u32,
}

/// Hands out slots.
#[derive(Debug)]
pub(crate) struct Slots {
    window: u32,
    count: u32,
    pool: VecDeque<Emptied>,
    own: Vec<Vec<u32>>,
}

impl Slots {
    /// No slots yet; threads may be `window` epochs apart.
    pub(crate) fn new(window: u32, thread_count: usize) -> Self {
        Self { window, count: 0, pool: VecDeque::new(), own: vec![Vec::new(); thread_count] }
    }

    /// Slots ever handed out; all are below.
    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// A slot for a version that `thread` begins in `epoch` and will end itself.
    pub(crate) fn take_own(&mut self, thread: usize, epoch: u32) -> u32 {
        match self.own[thread].pop() {
            Some(slot) => slot,
            None => self.take_between(epoch),
        }
    }

    /// A slot for a version that was begun in `epoch` by one thread and is ended by another,
    /// also when `epoch` is past: I2 has held all the time for what lies in the pool.
    pub(crate) fn take_between(&mut self, epoch: u32) -> u32 {
        if let Some(oldest) = self.pool.front()
            && oldest.epoch + self.window < epoch
        {
            let slot = oldest.slot;
            self.pool.pop_front();
            return slot;
        }
        self.count += 1;
        self.count - 1
    }

    /// `thread` emptied `slot` in `epoch`, or gives back a slot of its own unused.
    pub(crate) fn give(&mut self, thread: usize, slot: u32, epoch: u32) {
        let own = &mut self.own[thread];
        own.push(slot);
        if own.len() > OWN_SLOTS_MAX {
            // The oldest go: the newest are the warmest.
            let shared = own.drain(..OWN_SLOTS_MAX / 2).map(|slot| Emptied { slot, epoch });
            self.pool.extend(shared);
        }
    }

    /// `thread` ended in `epoch`: others may have its slots.
    pub(crate) fn end_thread(&mut self, thread: usize, epoch: u32) {
        let own = std::mem::take(&mut self.own[thread]);
        self.pool.extend(own.into_iter().map(|slot| Emptied { slot, epoch }));
    }
}

#[cfg(test)]
mod tests {
    use super::{OWN_SLOTS_MAX, Slots};

    #[test]
    fn a_thread_reuses_its_own_slot_at_once() {
        let mut slots = Slots::new(8, 1);
        for _ in 0..100 {
            let slot = slots.take_own(0, 3);
            slots.give(0, slot, 3);
        }
        assert_eq!(slots.count(), 1);
    }

    #[test]
    fn a_slot_between_threads_rests_for_the_window() {
        let mut slots = Slots::new(2, 2);
        for _ in 0..=OWN_SLOTS_MAX {
            let slot = slots.take_between(0);
            slots.give(0, slot, 10);
        }
        let used = slots.count();
        // Given in epoch 10 with a window of 2: free for others from epoch 13 on.
        assert_eq!(slots.take_between(12), used);
        assert!(slots.take_between(13) < used);
    }

    #[test]
    fn slots_of_an_ended_thread_serve_others() {
        let mut slots = Slots::new(1, 2);
        let slot = slots.take_own(0, 0);
        slots.give(0, slot, 5);
        slots.end_thread(0, 6);
        assert_eq!(slots.take_own(1, 8), slot);
    }
}
