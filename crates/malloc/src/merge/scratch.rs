//! Memory to plan in: a mapping of its own, which a child does not get.

use core::ptr::NonNull;

use heapwright_os::{Advice, Protection, advise, release, reserve};

use crate::merge::plan::{BATCH_COUNT, Candidate, Group, Plan};

/// Candidates, groups and orders of one batch.
#[derive(Debug)]
pub(crate) struct Scratch {
    start: NonNull<u8>,
}

// SAFETY: the mapping is reached through this value only.
unsafe impl Send for Scratch {}

const CANDIDATES_BYTES: usize = BATCH_COUNT * size_of::<Candidate>();
const GROUPS_BYTES: usize = BATCH_COUNT * size_of::<Group>();
const SCRATCH_BYTES: usize = CANDIDATES_BYTES + GROUPS_BYTES + BATCH_COUNT * size_of::<u64>();
const _: () = assert!(CANDIDATES_BYTES.is_multiple_of(align_of::<Group>()));
const _: () = assert!(GROUPS_BYTES.is_multiple_of(align_of::<u64>()));

impl Scratch {
    /// Some, untouched; none when there are no addresses.
    pub(crate) fn new() -> Option<Self> {
        let start = reserve(SCRATCH_BYTES, Protection::ReadWrite).ok()?;
        // SAFETY: the mapping just made. A refusal costs children of forks the addresses.
        let _ = unsafe { advise(start, SCRATCH_BYTES, Advice::DontFork) };
        Some(Self { start })
    }

    /// The parts, to plan in.
    pub(crate) fn plan(&mut self) -> Plan<'_> {
        let candidates = self.start.as_ptr().cast::<Candidate>();
        let groups = self.start.as_ptr().wrapping_add(CANDIDATES_BYTES).cast::<Group>();
        let order = self.start.as_ptr().wrapping_add(CANDIDATES_BYTES + GROUPS_BYTES);
        // SAFETY: the first part of the mapping, zeroed at first, which is a valid candidate; page
        // aligned; borrowed like `self`.
        let candidates = unsafe { core::slice::from_raw_parts_mut(candidates, BATCH_COUNT) };
        // SAFETY: likewise the next part, which does not overlap.
        let groups = unsafe { core::slice::from_raw_parts_mut(groups, BATCH_COUNT) };
        // SAFETY: likewise the rest; its place is a multiple of eight, by the assertions above.
        let order = unsafe { core::slice::from_raw_parts_mut(order.cast::<u64>(), BATCH_COUNT) };
        Plan { candidates, groups, order }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // SAFETY: the whole mapping, used through this value only. A refusal leaves it.
        let _ = unsafe { release(self.start, SCRATCH_BYTES) };
    }
}
