//! Stacks, stored as a tree: a stack is the number of its innermost frame's node, and stacks
//! share the frames that they have in common.
//!
//! # Invariants
//! - I4 (design/safety#I4): a node's parent has a lower number, so walks outward end. Node 0 is
//!   the empty stack.
//! - Nodes are written once, under the lock, before their number is known to anyone.

use heapwright_sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use crate::Lock;
use crate::table::{Table, Zeroed};

/// Number of a stack; 0 is the empty one.
pub type StackId = u32;

/// Most nodes: 16 bytes each. Stacks beyond are cut at their outer part's last known node.
const NODE_COUNT_MAX: usize = 1 << 25;
const BUCKET_COUNT_AT_FIRST: usize = 1 << 12;
const BUCKET_COUNT_MAX: usize = 1 << 26;

#[repr(C)]
struct Node {
    pc: AtomicUsize,
    parent: AtomicU32,
    unused: AtomicU32,
}

// SAFETY: atomics only; zero is the empty stack's node.
unsafe impl Zeroed for Node {}

/// The tree.
pub(crate) struct Depot {
    nodes: Table<Node>,
    index: Lock<Index>,
    count: AtomicUsize,
}

/// From parent and pc to the node; open addressing, at most half full.
struct Index {
    /// Tables of rising size; the last one in use is `level`.
    buckets: [Table<AtomicU32>; LEVEL_COUNT],
    level: usize,
}

const LEVEL_COUNT: usize =
    (BUCKET_COUNT_MAX.trailing_zeros() - BUCKET_COUNT_AT_FIRST.trailing_zeros() + 1) as usize;

fn hash(parent: StackId, pc: usize) -> usize {
    let mixed = (pc as u64 ^ u64::from(parent).wrapping_mul(0x9e37_79b9_7f4a_7c15))
        .wrapping_mul(0xd6e8_feb8_6659_fd93);
    (mixed ^ mixed >> 32) as usize
}

impl Depot {
    pub(crate) const fn new() -> Self {
        Self {
            nodes: Table::new(),
            index: Lock::new(Index { buckets: [const { Table::new() }; LEVEL_COUNT], level: 0 }),
            count: AtomicUsize::new(0),
        }
    }

    /// Takes addresses for the nodes.
    pub(crate) fn begin(&self) -> bool {
        self.nodes.reserve_up_to(NODE_COUNT_MAX, 1 << 16)
    }

    /// Numbers the stack `parent` with the frame `pc` inside; `me` is the calling thread's own
    /// number. `parent` itself when there is no room, or from inside the same work.
    pub(crate) fn push(&self, parent: StackId, pc: usize, me: usize) -> StackId {
        let Ok(mut index) = self.index.lock(me) else { return parent };
        self.push_in(&mut index, parent, pc)
    }

    fn push_in(&self, index: &mut Index, parent: StackId, pc: usize) -> StackId {
        let count = self.count.load(Ordering::Relaxed);
        if !index.make_room(self, count) {
            return parent;
        }
        let table = &index.buckets[index.level];
        let mask = table.len() - 1;
        let mut at = hash(parent, pc) & mask;
        loop {
            let Some(bucket) = table.get(at) else { return parent };
            let id = bucket.load(Ordering::Relaxed);
            if id == 0 {
                let id = count + 1;
                let Some(node) = self.nodes.get(id) else { return parent };
                node.pc.store(pc, Ordering::Relaxed);
                node.parent.store(parent, Ordering::Relaxed);
                self.count.store(id, Ordering::Relaxed);
                bucket.store(id as u32, Ordering::Relaxed);
                return id as u32;
            }
            if self.frame(id) == Some((pc, parent)) {
                return id;
            }
            at = (at + 1) & mask;
        }
    }

    /// The innermost frame of a stack, and the stack without it.
    pub(crate) fn frame(&self, stack: StackId) -> Option<(usize, StackId)> {
        if stack == 0 {
            return None;
        }
        let node = self.nodes.get(stack as usize)?;
        Some((node.pc.load(Ordering::Relaxed), node.parent.load(Ordering::Relaxed)))
    }

    /// The return addresses of a stack, innermost first.
    pub(crate) fn frames(&self, stack: StackId) -> impl Iterator<Item = usize> + '_ {
        let mut at = stack;
        core::iter::from_fn(move || {
            let (pc, parent) = self.frame(at)?;
            debug_assert!(parent < at, "I4");
            at = parent;
            Some(pc)
        })
    }

    /// The memory of the tree.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        // The buckets hold numbers, which are no addresses.
        core::iter::once(self.nodes.range())
    }

    /// Whether the calling thread, `me`, is inside.
    pub(crate) fn is_reentered_by(&self, me: usize) -> bool {
        self.index.is_reentered_by(me)
    }

    /// Takes the lock for a fork; see [`Depot::after_fork`].
    pub(crate) fn before_fork(&self, me: usize) {
        if let Ok(guard) = self.index.lock(me) {
            core::mem::forget(guard);
        }
    }

    /// Frees the lock on either side of a fork.
    ///
    /// # Safety
    /// - The calling thread, or in a child its parent's, called [`Depot::before_fork`].
    pub(crate) unsafe fn after_fork(&self) {
        // SAFETY: the caller's promise.
        unsafe { self.index.force_unlock() };
    }
}

impl Index {
    /// Grows so that at most half of the buckets are used; false when that is impossible.
    fn make_room(&mut self, depot: &Depot, count: usize) -> bool {
        let len = self.buckets[self.level].len();
        if len == 0 {
            return self.buckets[0].reserve(BUCKET_COUNT_AT_FIRST);
        }
        if count * 2 < len {
            return true;
        }
        if self.level + 1 == LEVEL_COUNT {
            return count + 1 < len;
        }
        let new = &self.buckets[self.level + 1];
        if !new.reserve(len * 2) {
            return count + 1 < len;
        }
        let mask = new.len() - 1;
        for id in 1..=count as u32 {
            let Some((pc, parent)) = depot.frame(id) else { continue };
            let mut at = hash(parent, pc) & mask;
            while let Some(bucket) = new.get(at)
                && bucket.load(Ordering::Relaxed) != 0
            {
                at = (at + 1) & mask;
            }
            if let Some(bucket) = new.get(at) {
                bucket.store(id, Ordering::Relaxed);
            }
        }
        self.level += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::Depot;

    extern crate std;
    use std::vec::Vec;

    #[test]
    fn equal_stacks_have_one_number_and_give_their_frames_back() {
        let depot = Depot::new();
        assert!(depot.begin());
        let mut seed = 7usize;
        let mut known: Vec<(Vec<usize>, u32)> = Vec::new();
        for _ in 0..20_000 {
            let mut stack = 0;
            let mut frames = Vec::new();
            for _ in 0..6 {
                seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let pc = 0x40_0000 + (seed >> 40) % 9;
                stack = depot.push(stack, pc, 1);
                frames.push(pc);
            }
            frames.reverse();
            assert!(depot.frames(stack).eq(frames.iter().copied()));
            match known.iter().find(|(other, _)| *other == frames) {
                Some((_, id)) => assert_eq!(*id, stack),
                None if known.len() < 500 => known.push((frames, stack)),
                None => {}
            }
        }
    }
}
