//! What the direct caller of the allocator says already: one look-up for most allocations.
//!
//! # Invariants
//! - I1: an entry is 0 or an address and what it says; it is written once and only ever set back
//!   to 0, all of them at once, when code is unloaded.
//! - I2: at least a quarter of the entries are 0.
#![forbid(unsafe_code)]

use heapwright_sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::table::Verdict;

const SLOT_BITS: u32 = 12;
const SLOT_COUNT: usize = 1 << SLOT_BITS;
/// A program has some hundred callers of its allocator; those beyond are other sites' unseen.
const USED_MAX: u32 = SLOT_COUNT as u32 / 4 * 3;
const VERDICT_BITS: u32 = 2;

/// A table of return addresses.
#[derive(Debug)]
pub(crate) struct Callers {
    slots: [AtomicU64; SLOT_COUNT],
    used: AtomicU32,
}

/// What is known of a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// Never seen.
    New,
    /// As the site's table says.
    As(Verdict),
}

impl Callers {
    pub(crate) const fn new() -> Self {
        Self { slots: [const { AtomicU64::new(0) }; SLOT_COUNT], used: AtomicU32::new(0) }
    }

    /// What is known of the caller at `pc`. A load or two.
    #[inline(always)]
    pub(crate) fn get(&self, pc: usize) -> Known {
        let mut slot = place(pc);
        loop {
            // Relaxed: an entry is one word and all that there is to know.
            let entry = self.slots[slot].load(Ordering::Relaxed);
            if entry >> VERDICT_BITS == pc as u64 {
                return Known::As(match entry & 3 {
                    1 => Verdict::Other,
                    2 => Verdict::Site,
                    _ => Verdict::Deeper,
                });
            }
            if entry == 0 {
                return Known::New;
            }
            slot = (slot + 1) % SLOT_COUNT;
        }
    }

    /// Keeps what the caller at `pc` says, if there is room.
    pub(crate) fn put(&self, pc: usize, verdict: Verdict) -> bool {
        if self.used.fetch_add(1, Ordering::Relaxed) >= USED_MAX {
            self.used.fetch_sub(1, Ordering::Relaxed);
            return false;
        }
        let number = match verdict {
            Verdict::Other => 1,
            Verdict::Site => 2,
            Verdict::Deeper => 3,
        };
        let entry = (pc as u64) << VERDICT_BITS | number;
        let mut slot = place(pc);
        // Relaxed: as in `get`. Two threads may both write it; the second entry is never found.
        while self.slots[slot]
            .compare_exchange(0, entry, Ordering::Relaxed, Ordering::Relaxed)
            .is_err()
        {
            slot = (slot + 1) % SLOT_COUNT;
        }
        true
    }

    /// Forgets all: addresses may come to mean something else.
    pub(crate) fn clear(&self) {
        for slot in &self.slots {
            slot.store(0, Ordering::Relaxed);
        }
        self.used.store(0, Ordering::Relaxed);
    }
}

#[inline(always)]
fn place(pc: usize) -> usize {
    ((pc as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - SLOT_BITS)) as usize
}

#[cfg(test)]
mod tests {
    use super::{Callers, Known, USED_MAX};
    use crate::table::Verdict;
    use std::boxed::Box;

    #[test]
    fn callers_are_kept_until_there_is_no_room() {
        let callers = Box::new(Callers::new());
        let verdicts = [Verdict::Other, Verdict::Site, Verdict::Deeper];
        let pc = |index: u32| 0x7f12_3456_7000 + index as usize * 5;
        for index in 0..USED_MAX {
            assert_eq!(callers.get(pc(index)), Known::New);
            assert!(callers.put(pc(index), verdicts[index as usize % 3]));
        }
        assert!(!callers.put(1, Verdict::Site));
        for index in 0..USED_MAX {
            assert_eq!(callers.get(pc(index)), Known::As(verdicts[index as usize % 3]));
        }
        callers.clear();
        assert_eq!(callers.get(pc(7)), Known::New);
        assert!(callers.put(pc(7), Verdict::Site));
    }
}
