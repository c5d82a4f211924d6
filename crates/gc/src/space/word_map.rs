//! Word map: a bit for each live word of a bump space, and where the words of each block of 512
//! bits go.
//!
//! Marking reads and sets bits only, 1/64 of the space, so that fewer of its looks miss the caches
//! than with the targets between them. An object's target is the word of its bit, the block's rank,
//! and one population count.
//!
//! Sources: Kermany, Petrank, "The Compressor", PLDI 2006; for the ranks Vigna, "Broadword
//! implementation of rank/select queries", WEA 2008.
//!
//! # Invariants
//! - W1: after marking, exactly the words of live objects have their bit.
//! - W2: after [`WordMap::plan`], a block's rank tells the offset that its first live word moves to,
//!   and how many live words of the block lie before each of its groups.

use core::ptr::NonNull;

use heapwright_sync::atomic::{AtomicU64, Ordering};

use crate::memory::Reserve;
use crate::object::{ObjectRef, WORD_BYTES, prefetch};
use crate::space::AddressRange;

/// Words that one group of bits covers.
const GROUP_WORDS: usize = 64;
const GROUP_BYTES: usize = GROUP_WORDS * WORD_BYTES;
/// Groups of a block: one cache line of bits.
const BLOCK_GROUPS: usize = 8;
const BLOCK_BYTES: usize = BLOCK_GROUPS * GROUP_BYTES;
/// Bits of a count of live words before a group in its block.
const COUNT_BITS: usize = 9;
const _: () = assert!((BLOCK_GROUPS - 1) * GROUP_WORDS < 1 << COUNT_BITS);
const _: () = assert!((BLOCK_GROUPS - 1) * COUNT_BITS < u64::BITS as usize);

/// Where the live words of a block go.
#[derive(Clone, Copy, Debug)]
struct Rank {
    /// The offset of the first, in bytes.
    base: usize,
    /// For group `g` above 0, the live words of the block before it, `COUNT_BITS` from bit
    /// `shift(g)` on; for group 0 there is one bit left, which is 0.
    before: u64,
}

impl Rank {
    #[inline]
    fn shift(group: usize) -> usize {
        (BLOCK_GROUPS - 1 - group) * COUNT_BITS
    }

    /// The rank of a block whose live words go to `base`, and where those of the next one go.
    fn of(base: usize, groups: &[u64]) -> (Self, usize) {
        let (mut before, mut count) = (0, 0);
        for (group, bits) in groups.iter().enumerate() {
            before |= (count as u64) << Self::shift(group);
            count += bits.count_ones() as usize;
        }
        (Self { base, before }, base + count * WORD_BYTES)
    }

    /// The live words of the block before its `group`.
    #[inline]
    fn count_before(self, group: usize) -> usize {
        (self.before >> Self::shift(group)) as usize & ((1 << COUNT_BITS) - 1)
    }
}

/// The map of one space, in memory that its owner keeps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WordMap {
    range: AddressRange,
    start: NonNull<u8>,
    groups: NonNull<u64>,
    ranks: NonNull<Rank>,
}

impl WordMap {
    /// The map of the `bytes` from `start`, and its memory: 5/256 of the part of the space in use.
    pub(crate) fn new(
        start: NonNull<u8>,
        bytes: usize,
    ) -> Result<(Self, Reserve), crate::HeapError> {
        let block_count = bytes.div_ceil(BLOCK_BYTES);
        let group_bytes = block_count * BLOCK_GROUPS * size_of::<u64>();
        let rank_bytes = block_count * size_of::<Rank>();
        let memory = Reserve::new(group_bytes + rank_bytes)?;
        memory.want_huge_pages(0, group_bytes);
        memory.want_huge_pages(group_bytes, rank_bytes);
        let groups = memory.start().cast();
        // SAFETY: inside the reserve; whole lines of bits keep the ranks aligned.
        let ranks = unsafe { memory.start().add(group_bytes) }.cast();
        Ok((Self { range: AddressRange::new(start, bytes), start, groups, ranks }, memory))
    }

    /// The groups of the first `bytes` of the space.
    fn groups(&mut self, bytes: usize) -> &mut [u64] {
        // SAFETY: the map has a group for each 512 bytes of the space, zero at first; copies of
        // this value write through their pointer, but not while this borrow lasts.
        unsafe {
            core::slice::from_raw_parts_mut(self.groups.as_ptr(), bytes.div_ceil(GROUP_BYTES))
        }
    }

    /// Asks for the bit of the word at `address`.
    #[inline]
    pub(crate) fn prefetch(&self, address: usize) {
        let offset = address.wrapping_sub(self.range.start);
        prefetch(self.groups.as_ptr().wrapping_add(offset / GROUP_BYTES).cast());
    }

    /// As [`WordMap::prefetch`], and for the rank.
    #[inline]
    pub(crate) fn prefetch_target(&self, address: usize) {
        self.prefetch(address);
        let offset = address.wrapping_sub(self.range.start);
        prefetch(self.ranks.as_ptr().wrapping_add(offset / BLOCK_BYTES).cast());
    }

    /// Whether `object` is one of the space.
    #[inline]
    pub(crate) fn covers(&self, object: ObjectRef) -> bool {
        self.range.contains(object.address())
    }

    /// Whether the bit of `object`, which is one of the space, is set.
    #[inline]
    pub(crate) fn is_claimed(&self, object: ObjectRef) -> bool {
        let word = (object.address() - self.range.start) / WORD_BYTES;
        // Relaxed: see `claim`.
        self.bits(word / GROUP_WORDS).load(Ordering::Relaxed) & 1 << (word % GROUP_WORDS) != 0
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
        let bits = unsafe { self.groups.add(group) };
        // SAFETY: a live, aligned word; during marking it is used through here only.
        unsafe { AtomicU64::from_ptr(bits.as_ptr()) }
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
            groups[word / GROUP_WORDS] |= (u64::MAX >> (GROUP_WORDS - count)) << bit;
            word += count;
        }
    }

    /// Decides where everything in the first `used_bytes` goes (W2); returns the bytes that remain.
    pub(crate) fn plan(&mut self, used_bytes: usize) -> usize {
        let ranks = self.ranks;
        let mut base = 0;
        for (block, groups) in self.groups(used_bytes).chunks(BLOCK_GROUPS).enumerate() {
            let (rank, next) = Rank::of(base, groups);
            // SAFETY: the map has a rank for each block of groups.
            let place = unsafe { ranks.add(block) };
            // SAFETY: as above; nobody else uses the ranks now.
            unsafe { place.write(rank) };
            base = next;
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
        let group = offset / GROUP_BYTES;
        // SAFETY: the offset lies in the space, which has a group for each 512 bytes.
        let bits = unsafe { self.groups.add(group) };
        // SAFETY: as above; nobody writes the map while references are replaced.
        let bits = unsafe { bits.read() };
        // SAFETY: as above, and a rank for each block.
        let rank = unsafe { self.ranks.add(group / BLOCK_GROUPS) };
        // SAFETY: as above; `plan` wrote it.
        let rank = unsafe { rank.read() };
        let below = bits & !(u64::MAX << (offset / WORD_BYTES % GROUP_WORDS));
        let words = rank.count_before(group % BLOCK_GROUPS) + below.count_ones() as usize;
        // SAFETY: objects slide towards the start, so the target lies in the space.
        let payload = unsafe { self.start.add(rank.base + words * WORD_BYTES) };
        // SAFETY: the object is there when sliding has ended, before anyone uses the reference.
        unsafe { ObjectRef::new(payload) }
    }

    /// The first live words at or after the offset `from`, below `used_bytes`, that follow each other
    /// without a gap: where they begin and end. After `most_bytes` or a little more they end.
    pub(crate) fn next_run(
        &mut self,
        from: usize,
        used_bytes: usize,
        most_bytes: usize,
    ) -> Option<(usize, usize)> {
        let groups = self.groups(used_bytes);
        let mut group = from / GROUP_BYTES;
        let mut first = from / WORD_BYTES % GROUP_WORDS;
        let mut rest = groups.get(group)? >> first;
        while rest == 0 {
            group += 1;
            first = 0;
            rest = *groups.get(group)?;
        }
        let skip = rest.trailing_zeros() as usize;
        let begin = group * GROUP_WORDS + first + skip;
        let mut end = begin + (rest >> skip).trailing_ones() as usize;
        // The run goes on if it reaches the end of its group.
        while end.is_multiple_of(GROUP_WORDS) && (end - begin) * WORD_BYTES < most_bytes {
            match groups.get(end / GROUP_WORDS).map(|bits| bits.trailing_ones()) {
                None | Some(0) => break,
                Some(count) => end += count as usize,
            }
        }
        Some((begin * WORD_BYTES, end * WORD_BYTES))
    }

    /// Forgets everything about the first `used_bytes`; the next plan writes the ranks.
    pub(crate) fn clear(&mut self, used_bytes: usize) {
        self.groups(used_bytes).fill(0);
    }
}

#[cfg(test)]
mod tests {
    use super::{BLOCK_BYTES, BLOCK_GROUPS, GROUP_BYTES, Rank, WordMap};
    use crate::memory::Reserve;
    use crate::object::{ObjectRef, WORD_BYTES};

    #[test]
    fn a_full_block_counts_all_words_before_each_group() {
        let (rank, next) = Rank::of(24, &[u64::MAX; BLOCK_GROUPS]);
        for group in 0..BLOCK_GROUPS {
            assert_eq!(rank.count_before(group), 64 * group);
        }
        assert_eq!(next, 24 + BLOCK_BYTES);
    }

    #[test]
    fn targets_and_runs_are_those_of_a_count_word_by_word() {
        const BYTES: usize = 3 * BLOCK_BYTES + GROUP_BYTES;
        let bytes = BYTES;
        let space = Reserve::new(bytes).expect("addresses");
        let (mut map, _memory) = WordMap::new(space.start(), bytes).expect("addresses");
        let at = |offset: usize| {
            // SAFETY: inside the reserve.
            let place = unsafe { space.start().add(offset) };
            // SAFETY: the map only looks at the address.
            (place, unsafe { ObjectRef::new(place) })
        };
        // Pieces of 1 to 90 words with gaps of 0 to 12, so some cross groups and blocks.
        let mut live = [false; BYTES / WORD_BYTES];
        let (mut word, mut step) = (1, 0);
        loop {
            let count = 1 + step * 37 % 90;
            if word + count > live.len() {
                break;
            }
            map.record(at(word * WORD_BYTES).0, count * WORD_BYTES);
            live[word..word + count].fill(true);
            word += count + step * 5 % 13;
            step += 1;
        }
        assert_eq!(map.plan(bytes), live.iter().filter(|live| **live).count() * WORD_BYTES);
        let mut before = 0;
        for (word, is_live) in live.iter().enumerate() {
            let (_, object) = at(word * WORD_BYTES);
            assert_eq!(map.is_claimed(object), *is_live);
            if *is_live {
                assert_eq!(map.target(object).payload(), at(before * WORD_BYTES).0);
                before += 1;
            }
        }
        let mut seen = [false; BYTES / WORD_BYTES];
        let mut from = 0;
        while let Some((begin, end)) = map.next_run(from, bytes, GROUP_BYTES) {
            assert!(from <= begin && begin < end && end - begin < 2 * GROUP_BYTES);
            seen[begin / WORD_BYTES..end / WORD_BYTES].fill(true);
            from = end;
        }
        assert!(seen == live, "the runs are what is live");
        map.clear(bytes);
        assert_eq!((map.next_run(0, bytes, GROUP_BYTES), map.plan(bytes)), (None, 0));
    }
}
