//! Word map: a bit for each live word of a bump space, and where each group of 64 words goes.
//!
//! Source: Kermany, Petrank, "The Compressor", PLDI 2006; here one group is one word of bits, so
//! an object's target is one look-up and one population count.
//!
//! # Invariants
//! - W1: after marking, exactly the words of live objects have their bit.
//! - W2: after [`WordMap::plan`], `base` of a group is the offset that its first live word moves to.

use core::ptr::NonNull;

use heapwright_sync::atomic::{AtomicU64, Ordering};

use crate::memory::Reserve;
use crate::object::{ObjectRef, WORD_BYTES, prefetch};
use crate::space::AddressRange;

/// Words that one group of bits covers.
const GROUP_WORDS: usize = 64;
const GROUP_BYTES: usize = GROUP_WORDS * WORD_BYTES;

#[derive(Clone, Copy, Debug)]
struct Group {
    bits: u64,
    base: usize,
}

/// The map of one space, in memory that its owner keeps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WordMap {
    range: AddressRange,
    start: NonNull<u8>,
    groups: NonNull<Group>,
}

impl WordMap {
    /// The map of the `bytes` from `start`, and its memory: 1/32 of the part of the space in use.
    pub(crate) fn new(
        start: NonNull<u8>,
        bytes: usize,
    ) -> Result<(Self, Reserve), crate::HeapError> {
        let map_bytes = bytes.div_ceil(GROUP_BYTES) * size_of::<Group>();
        let memory = Reserve::new(map_bytes)?;
        memory.want_huge_pages(0, map_bytes);
        let groups = memory.start().cast();
        Ok((Self { range: AddressRange::new(start, bytes), start, groups }, memory))
    }

    /// The groups of the first `bytes` of the space.
    fn groups(&mut self, bytes: usize) -> &mut [Group] {
        // SAFETY: the map has a group for each 512 bytes of the space, zero at first; copies of
        // this value write through their pointer, but not while this borrow lasts.
        unsafe {
            core::slice::from_raw_parts_mut(self.groups.as_ptr(), bytes.div_ceil(GROUP_BYTES))
        }
    }

    /// Asks for the group of the word at `address`.
    #[inline]
    pub(crate) fn prefetch(&self, address: usize) {
        let offset = address.wrapping_sub(self.range.start);
        prefetch(self.groups.as_ptr().wrapping_add(offset / GROUP_BYTES).cast());
    }

    /// Sets the bit of the word at the payload of `object`; returns whether it was not set. Always
    /// true for objects of other spaces. Of several threads one is told so if `is_shared`.
    #[inline]
    pub(crate) fn claim(&mut self, object: ObjectRef, is_shared: bool) -> bool {
        let offset = object.address().wrapping_sub(self.range.start);
        if offset >= self.range.bytes {
            return true;
        }
        let bits = self.bits(offset / GROUP_BYTES);
        let bit = 1 << (offset / WORD_BYTES % GROUP_WORDS);
        // Relaxed, here and below: the map is read when marking has ended.
        let before = bits.load(Ordering::Relaxed);
        if before & bit != 0 {
            return false;
        }
        if is_shared {
            return bits.fetch_or(bit, Ordering::Relaxed) & bit == 0;
        }
        bits.store(before | bit, Ordering::Relaxed);
        true
    }

    /// The bits of a group, which several threads may set while they mark.
    #[inline]
    fn bits(&self, group: usize) -> &AtomicU64 {
        debug_assert!(group < self.range.bytes.div_ceil(GROUP_BYTES));
        // SAFETY: the map has a group for each 512 bytes of the space; callers stay inside.
        let group = unsafe { self.groups.add(group) };
        // SAFETY: as above.
        let bits = unsafe { &raw mut (*group.as_ptr()).bits };
        // SAFETY: a live, aligned word; during marking it is used through here only.
        unsafe { AtomicU64::from_ptr(bits) }
    }

    /// As [`WordMap::record`], while other threads do so, too.
    pub(crate) fn record_shared(&mut self, start: NonNull<u8>, bytes: usize) {
        let offset = start.addr().get().wrapping_sub(self.range.start);
        if offset >= self.range.bytes {
            return;
        }
        let (mut word, end) = (offset / WORD_BYTES, (offset + bytes) / WORD_BYTES);
        while word < end {
            let bit = word % GROUP_WORDS;
            let count = (end - word).min(GROUP_WORDS - bit);
            let mask = (u64::MAX >> (GROUP_WORDS - count)) << bit;
            self.bits(word / GROUP_WORDS).fetch_or(mask, Ordering::Relaxed);
            word += count;
        }
    }

    /// Records `bytes` from `start` as live, if they lie in the space.
    #[inline]
    pub(crate) fn record(&mut self, start: NonNull<u8>, bytes: usize) {
        let offset = start.addr().get().wrapping_sub(self.range.start);
        if offset >= self.range.bytes {
            return;
        }
        let (mut word, end) = (offset / WORD_BYTES, (offset + bytes) / WORD_BYTES);
        let groups = self.groups(offset + bytes);
        while word < end {
            let bit = word % GROUP_WORDS;
            let count = (end - word).min(GROUP_WORDS - bit);
            groups[word / GROUP_WORDS].bits |= (u64::MAX >> (GROUP_WORDS - count)) << bit;
            word += count;
        }
    }

    /// Decides where everything in the first `used_bytes` goes (W2); returns the bytes that remain.
    pub(crate) fn plan(&mut self, used_bytes: usize) -> usize {
        let mut base = 0;
        for group in self.groups(used_bytes) {
            group.base = base;
            base += group.bits.count_ones() as usize * WORD_BYTES;
        }
        base
    }

    /// Where `object` goes; itself, if it is of another space.
    #[inline]
    pub(crate) fn target(&self, object: ObjectRef) -> ObjectRef {
        let offset = object.address().wrapping_sub(self.range.start);
        if offset >= self.range.bytes {
            return object;
        }
        // SAFETY: the offset lies in the space, which has a group for each 512 bytes.
        let group = unsafe { self.groups.add(offset / GROUP_BYTES) };
        // SAFETY: as above; nobody writes the map while references are replaced.
        let Group { bits, base } = unsafe { group.read() };
        let below = bits & !(u64::MAX << (offset / WORD_BYTES % GROUP_WORDS));
        let target = base + below.count_ones() as usize * WORD_BYTES;
        // SAFETY: objects slide towards the start, so the target lies in the space.
        let payload = unsafe { self.start.add(target) };
        // SAFETY: the object is there when sliding has ended, before anyone uses the reference.
        unsafe { ObjectRef::new(payload) }
    }

    /// The offset of the first live word at or after `from`, below `used_bytes`.
    pub(crate) fn next_live(&mut self, from: usize, used_bytes: usize) -> Option<usize> {
        let mut word = from / WORD_BYTES;
        let groups = self.groups(used_bytes);
        while word / GROUP_WORDS < groups.len() {
            let bits = groups[word / GROUP_WORDS].bits >> (word % GROUP_WORDS);
            if bits != 0 {
                return Some((word + bits.trailing_zeros() as usize) * WORD_BYTES);
            }
            word = (word / GROUP_WORDS + 1) * GROUP_WORDS;
        }
        None
    }

    /// The live words from `from` on that follow each other without a gap: where they begin and
    /// end, at most at `limit`.
    pub(crate) fn next_run(&mut self, from: usize, limit: usize) -> Option<(usize, usize)> {
        let begin = self.next_live(from, limit).filter(|begin| *begin < limit)?;
        let mut word = begin / WORD_BYTES;
        let end = limit / WORD_BYTES;
        let groups = self.groups(limit);
        while word < end {
            let ones = (groups[word / GROUP_WORDS].bits >> (word % GROUP_WORDS)).trailing_ones();
            let rest = GROUP_WORDS - word % GROUP_WORDS;
            word += ones as usize;
            if (ones as usize) < rest {
                break;
            }
        }
        Some((begin, word.min(end) * WORD_BYTES))
    }

    /// Forgets everything about the first `used_bytes`.
    pub(crate) fn clear(&mut self, used_bytes: usize) {
        self.groups(used_bytes).fill(Group { bits: 0, base: 0 });
    }
}
