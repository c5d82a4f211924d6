//! What is known of a block, kept away from the block.
//!
//! # Invariants
//! - I1 (design/safety#I1): fields are written by the one who allocates or frees the block, who
//!   is unique while the program is right: the change of `state` decides a race of two frees.

use heapwright_core::family::Family;
use heapwright_sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use crate::table::Zeroed;

/// Number of a record; 0 is none.
pub type BlockId = u32;

/// Where a block is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// No block.
    Empty = 0,
    /// Being made, or being freed.
    Moving = 1,
    /// The program's.
    Live = 2,
    /// Freed, and still known.
    Freed = 3,
}

/// How a block is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Watch {
    /// On pages of its own that end at a page out of reach.
    Guarded = 0,
    /// Beside others, between canaries.
    Packed = 1,
    /// On pages of its own between canaries: no guard could be had.
    Unguarded = 2,
}

/// A record. All zero: none.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Record {
    /// First byte of the room: whole pages, or a slot.
    pub(crate) home: AtomicUsize,
    /// Bytes of the room; what the block does not cover holds canaries.
    pub(crate) room: AtomicUsize,
    /// First byte of the block.
    pub(crate) start: AtomicUsize,
    /// Bytes requested.
    pub(crate) bytes: AtomicUsize,
    /// State, family, watch and family of the free, a byte each.
    packed: AtomicU32,
    pub(crate) alloc_stack: AtomicU32,
    pub(crate) free_stack: AtomicU32,
    pub(crate) alloc_thread: AtomicU32,
    pub(crate) free_thread: AtomicU32,
    pub(crate) site: AtomicU32,
    /// Next record in whichever list this one is in.
    pub(crate) next: AtomicU32,
    /// Marks of the leak search and of errors told.
    pub(crate) marks: AtomicU32,
}

const _: () = assert!(size_of::<Record>() == 64, "one cache line");

// SAFETY: atomics only; zero is the empty record.
unsafe impl Zeroed for Record {}

/// Bits of [`Record::marks`].
pub(crate) mod marks {
    /// Reached by the leak search.
    pub(crate) const REACHED: u32 = 1;
    /// Reached from another leaked block.
    pub(crate) const INDIRECT: u32 = 2;
    /// Its canaries were found broken and told.
    pub(crate) const TOLD: u32 = 4;
}

impl Record {
    /// Makes the record that of a new block.
    pub(crate) fn begin(&self, family: Family, watch: Watch) {
        self.marks.store(0, Ordering::Relaxed);
        self.free_stack.store(0, Ordering::Relaxed);
        self.free_thread.store(0, Ordering::Relaxed);
        let packed = State::Moving as u32 | (family as u32) << 8 | (watch as u32) << 16;
        self.packed.store(packed, Ordering::Relaxed);
    }

    /// Hands the block to the program.
    pub(crate) fn publish(&self) {
        let packed = self.packed.load(Ordering::Relaxed) & !0xff;
        // Release: pairs with the Acquire in `state`; the other fields are written.
        self.packed.store(packed | State::Live as u32, Ordering::Release);
    }

    /// Says how the block is watched after all.
    pub(crate) fn set_watch(&self, watch: Watch) {
        let packed = self.packed.load(Ordering::Relaxed) & !0x00ff_0000;
        self.packed.store(packed | (watch as u32) << 16, Ordering::Relaxed);
    }

    /// Takes a live block from the program: true for exactly one of those who try.
    pub(crate) fn take(&self, by: Family) -> bool {
        let packed = self.packed.load(Ordering::Relaxed);
        if packed & 0xff != State::Live as u32 {
            return false;
        }
        let moving = packed & 0x00ff_ff00 | State::Moving as u32 | (by as u32) << 24;
        // AcqRel: the winner sees what the allocating thread wrote.
        let order = (Ordering::AcqRel, Ordering::Relaxed);
        self.packed.compare_exchange(packed, moving, order.0, order.1).is_ok()
    }

    /// The block taken by [`Record::take`] is out of reach now.
    pub(crate) fn set_freed(&self) {
        let packed = self.packed.load(Ordering::Relaxed) & !0xff;
        // Release: pairs with the Acquire in `state`.
        self.packed.store(packed | State::Freed as u32, Ordering::Release);
    }

    /// The record is nobody's.
    pub(crate) fn clear(&self) {
        self.packed.store(State::Empty as u32, Ordering::Release);
    }

    pub(crate) fn state(&self) -> State {
        // Acquire: pairs with the Releases above.
        match self.packed.load(Ordering::Acquire) & 0xff {
            1 => State::Moving,
            2 => State::Live,
            3 => State::Freed,
            _ => State::Empty,
        }
    }

    /// Says which functions made the block. Before the program has it.
    pub(crate) fn set_family(&self, family: Family) {
        let packed = self.packed.load(Ordering::Relaxed) & !0xff00;
        self.packed.store(packed | (family as u32) << 8, Ordering::Relaxed);
    }

    pub(crate) fn family(&self) -> Family {
        Family::from_number(self.packed.load(Ordering::Relaxed) >> 8 & 0xff)
    }

    pub(crate) fn freed_by(&self) -> Family {
        Family::from_number(self.packed.load(Ordering::Relaxed) >> 24)
    }

    pub(crate) fn watch(&self) -> Watch {
        match self.packed.load(Ordering::Relaxed) >> 16 & 0xff {
            0 => Watch::Guarded,
            1 => Watch::Packed,
            _ => Watch::Unguarded,
        }
    }

    pub(crate) fn start(&self) -> usize {
        self.start.load(Ordering::Relaxed)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// One past the last byte.
    pub(crate) fn end(&self) -> usize {
        self.start() + self.bytes()
    }

    pub(crate) fn home(&self) -> usize {
        self.home.load(Ordering::Relaxed)
    }

    pub(crate) fn room(&self) -> usize {
        self.room.load(Ordering::Relaxed)
    }

    /// Sets mark bits; returns those set before.
    pub(crate) fn mark(&self, bits: u32) -> u32 {
        self.marks.fetch_or(bits, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::{Family, Record, State, Watch};
    use core::mem::zeroed;

    #[test]
    fn one_of_two_frees_takes_the_block() {
        // SAFETY: a record of zeroes is the empty one.
        let record: Record = unsafe { zeroed() };
        assert_eq!(record.state(), State::Empty);
        record.begin(Family::NewArray, Watch::Packed);
        assert!(!record.take(Family::Malloc), "not published yet");
        record.publish();
        assert_eq!((record.family(), record.watch()), (Family::NewArray, Watch::Packed));
        assert!(record.take(Family::New));
        assert!(!record.take(Family::New));
        record.set_freed();
        assert_eq!((record.state(), record.freed_by()), (State::Freed, Family::New));
        assert_eq!((record.family(), record.watch()), (Family::NewArray, Watch::Packed));
    }
}
