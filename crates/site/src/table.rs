//! What a process is told of the site: words of 64 bits, written by `heapwright advise`, mapped by
//! the program, which counts in them.
//!
//! | words | what |
//! |---|---|
//! | 0 to 15 | the head: see the constants |
//! | 16 to 16 + 8 × [`LANE_COUNT`] | a cache line a lane; its first word counts blocks |
//! | then | pairs of a path and what it says, `slot count` of them, open addressing |
//!
//! # Invariants
//! - I1: the slot count is a power of two, and at least half of the slots are empty (path 0).
#![forbid(unsafe_code)]

use heapwright_core::region_kind::RegionKind;
use heapwright_sync::atomic::{AtomicU64, Ordering};

use crate::path::SitePath;

/// `HWSITE` and the version of this layout.
const MAGIC: u64 = u64::from_le_bytes(*b"HWSITE01");
/// Threads that can be served at the same time.
pub const LANE_COUNT: usize = 256;

const WORD_MAGIC: usize = 0;
const WORD_KIND: usize = 1;
const WORD_FLAGS: usize = 2;
const WORD_CAPACITY: usize = 3;
const WORD_SIZE_MIN: usize = 4;
const WORD_SIZE_MAX: usize = 5;
const WORD_EXE: usize = 6;
const WORD_SLOTS: usize = 7;
/// Blocks of the site that the region did not take.
const WORD_REFUSED: usize = 8;
/// Blocks of the region whose usable size the program asked for where it is not known.
const WORD_SIZES_ASKED: usize = 9;
/// Processes that went by this table.
const WORD_PROCESSES: usize = 10;
const HEAD_WORDS: usize = 16;
const LANE_WORDS: usize = 8;
const SLOTS_START: usize = HEAD_WORDS + LANE_COUNT * LANE_WORDS;

const FLAG_RESIZED: u64 = 1;

/// What serves the site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Served {
    /// The program's own allocator: what a region is compared with.
    Allocator,
    /// A region: an arena is reset when its last block ends, a pool has blocks of the largest size.
    Region(RegionKind),
}

/// What is known of a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SiteFacts {
    /// By what its blocks are to be served.
    pub served: Served,
    /// Whether blocks are resized.
    pub is_resized: bool,
    /// For stack, slab and buddy, which have a fixed length: room for a thread's blocks.
    pub capacity_bytes: usize,
    /// The smallest request.
    pub size_min: usize,
    /// The largest; what is larger stays with the program's allocator.
    pub size_max: usize,
    /// [`crate::FrameKey::of_file`] of the executable: other processes are left alone.
    pub exe: u64,
}

/// What the inner part of a stack says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Another site, whatever comes outside.
    Other,
    /// The site, whatever comes outside.
    Site,
    /// The next frame outside tells.
    Deeper,
}

/// What was counted while the program ran.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SiteCounts {
    /// Processes that went by the table.
    pub processes: u64,
    /// Blocks of the site that its region took (or that were known, when the program's allocator
    /// serves it).
    pub blocks: u64,
    /// Blocks of the site that the region did not take.
    pub refused: u64,
    /// Calls for the usable size of a region's block that got the least the site asks for.
    pub sizes_asked: u64,
}

impl Served {
    /// 0 for the allocator, else one more than the kind's place among all.
    fn to_number(self) -> u64 {
        match self {
            Self::Allocator => 0,
            Self::Region(kind) => kind as u64 + 1,
        }
    }

    fn from_number(number: u64) -> Option<Self> {
        let Some(place) = number.checked_sub(1) else { return Some(Self::Allocator) };
        RegionKind::ALL.get(usize::try_from(place).ok()?).copied().map(Self::Region)
    }
}

/// Words of a table with room for `path_count` paths.
pub fn table_words(path_count: usize) -> usize {
    SLOTS_START + slot_count(path_count) * 2
}

fn slot_count(path_count: usize) -> usize {
    (path_count * 2 + 2).next_power_of_two()
}

/// Fills `words`, [`table_words`] of them and all 0, with `facts` and the paths that say something
/// else than [`Verdict::Other`].
///
/// # Panics
/// If there are not as many words.
pub fn write_table(words: &mut [u64], facts: &SiteFacts, paths: &[(u64, Verdict)]) {
    assert_eq!(words.len(), table_words(paths.len()), "the length for so many paths");
    words[WORD_MAGIC] = MAGIC;
    words[WORD_KIND] = facts.served.to_number();
    words[WORD_FLAGS] = if facts.is_resized { FLAG_RESIZED } else { 0 };
    words[WORD_CAPACITY] = facts.capacity_bytes as u64;
    words[WORD_SIZE_MIN] = facts.size_min as u64;
    words[WORD_SIZE_MAX] = facts.size_max as u64;
    words[WORD_EXE] = facts.exe;
    let slots = slot_count(paths.len());
    words[WORD_SLOTS] = slots as u64;
    for &(path, verdict) in paths.iter().filter(|(_, verdict)| *verdict != Verdict::Other) {
        let mut slot = path as usize & (slots - 1);
        while words[SLOTS_START + slot * 2] != 0 {
            slot = (slot + 1) & (slots - 1);
        }
        words[SLOTS_START + slot * 2] = path;
        words[SLOTS_START + slot * 2 + 1] = u64::from(verdict == Verdict::Site);
    }
}

/// What `words`, those of a table after runs, have counted.
pub fn read_counts(words: &[u64]) -> SiteCounts {
    let word = |index: usize| words.get(index).copied().unwrap_or(0);
    let blocks = (0..LANE_COUNT).map(|lane| word(HEAD_WORDS + lane * LANE_WORDS)).sum();
    SiteCounts {
        processes: word(WORD_PROCESSES),
        blocks,
        refused: word(WORD_REFUSED),
        sizes_asked: word(WORD_SIZES_ASKED),
    }
}

/// A table in a process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Table<'a> {
    words: &'a [AtomicU64],
    slot_mask: usize,
}

impl<'a> Table<'a> {
    /// The table in `words`, if it is one.
    pub(crate) fn of(words: &'a [AtomicU64]) -> Option<Self> {
        // Relaxed, here and below: what was written before the process began; counts order
        // nothing.
        let word = |index: usize| words.get(index).map(|word| word.load(Ordering::Relaxed));
        let slots = usize::try_from(word(WORD_SLOTS)?).ok()?;
        let is_whole = word(WORD_MAGIC) == Some(MAGIC)
            && slots.is_power_of_two()
            && words.len() >= SLOTS_START
            && (words.len() - SLOTS_START) / 2 >= slots;
        is_whole.then_some(Self { words, slot_mask: slots - 1 })
    }

    fn word(&self, index: usize) -> u64 {
        self.words[index].load(Ordering::Relaxed)
    }

    /// What is known of the site.
    pub(crate) fn facts(&self) -> Option<SiteFacts> {
        Some(SiteFacts {
            served: Served::from_number(self.word(WORD_KIND))?,
            is_resized: self.word(WORD_FLAGS) & FLAG_RESIZED != 0,
            capacity_bytes: self.word(WORD_CAPACITY) as usize,
            size_min: self.word(WORD_SIZE_MIN) as usize,
            size_max: self.word(WORD_SIZE_MAX) as usize,
            exe: self.word(WORD_EXE),
        })
    }

    /// What `path` says.
    pub(crate) fn verdict(&self, path: SitePath) -> Verdict {
        let path = path.bits();
        let mut slot = path as usize & self.slot_mask;
        for _ in 0..=self.slot_mask {
            match self.word(SLOTS_START + slot * 2) {
                0 => break,
                found if found == path => {
                    let is_site = self.word(SLOTS_START + slot * 2 + 1) != 0;
                    return if is_site { Verdict::Site } else { Verdict::Deeper };
                }
                _ => slot = (slot + 1) & self.slot_mask,
            }
        }
        Verdict::Other
    }

    /// Where lane number `lane` counts its blocks.
    pub(crate) fn lane_count(&self, lane: usize) -> &'a AtomicU64 {
        &self.words[HEAD_WORDS + lane * LANE_WORDS]
    }

    /// Counts a block that the region did not take.
    #[cold]
    pub(crate) fn count_refused(&self) {
        self.words[WORD_REFUSED].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a question for the size of a block that is not known.
    #[cold]
    pub(crate) fn count_size_asked(&self) {
        self.words[WORD_SIZES_ASKED].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a process.
    pub(crate) fn count_process(&self) {
        self.words[WORD_PROCESSES].fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::vec;
    use std::vec::Vec;

    use heapwright_sync::atomic::AtomicU64;

    use super::{
        RegionKind, Served, SiteFacts, Table, Verdict, read_counts, slot_count, table_words,
        write_table,
    };
    use crate::path::{FrameKey, SitePath};

    const FACTS: SiteFacts = SiteFacts {
        served: Served::Region(RegionKind::Slab),
        is_resized: true,
        capacity_bytes: 1 << 20,
        size_min: 3,
        size_max: 700,
        exe: 77,
    };

    fn table_of(paths: &[(u64, Verdict)]) -> Vec<AtomicU64> {
        let mut words = vec![0; table_words(paths.len())];
        write_table(&mut words, &FACTS, paths);
        words.into_iter().map(AtomicU64::new).collect()
    }

    #[test]
    fn a_table_says_of_each_path_what_was_written() {
        let path = |number| SitePath::NONE.outwards(FrameKey::new(b"/a", number));
        let paths: Vec<(u64, Verdict)> = (0..1000)
            .map(|number| {
                let verdict = if number % 3 == 0 { Verdict::Site } else { Verdict::Deeper };
                (path(number).bits(), verdict)
            })
            .collect();
        let words = table_of(&paths);
        let table = Table::of(&words).expect("a table");
        assert_eq!(table.facts(), Some(FACTS));
        for number in 0..1000 {
            assert_eq!(table.verdict(path(number)), paths[number as usize].1);
        }
        assert!((1000..9000).all(|number| table.verdict(path(number)) == Verdict::Other));
    }

    #[test]
    fn whatever_serves_a_site_has_a_number_of_its_own() {
        let served = RegionKind::ALL.map(Served::Region).into_iter().chain([Served::Allocator]);
        for (count, one) in served.enumerate() {
            assert_eq!(Served::from_number(one.to_number()), Some(one), "{count}");
        }
        assert_eq!(Served::from_number(6), None);
        assert_eq!(Served::from_number(u64::MAX), None);
    }

    #[test]
    fn counts_are_read_back() {
        let words = table_of(&[]);
        let table = Table::of(&words).expect("a table");
        for lane in 0..super::LANE_COUNT {
            table.lane_count(lane).fetch_add(lane as u64, super::Ordering::Relaxed);
        }
        table.count_refused();
        table.count_process();
        table.count_size_asked();
        let words: Vec<u64> = words.into_iter().map(AtomicU64::into_inner).collect();
        let counts = read_counts(&words);
        assert_eq!((counts.blocks, counts.refused), (255 * 128, 1));
        assert_eq!((counts.processes, counts.sizes_asked), (1, 1));
    }

    #[test]
    fn what_is_no_table_is_refused() {
        let whole = table_of(&[]);
        assert!(Table::of(&whole).is_some());
        assert!(Table::of(&whole[..whole.len() - 1]).is_none());
        assert!(Table::of(&[]).is_none());
        let many = table_of(&[(1, Verdict::Site)]);
        many[super::WORD_SLOTS].store(3, super::Ordering::Relaxed);
        assert!(Table::of(&many).is_none(), "no power of two");
        many[super::WORD_SLOTS].store(slot_count(1) as u64, super::Ordering::Relaxed);
        many[super::WORD_MAGIC].store(1, super::Ordering::Relaxed);
        assert!(Table::of(&many).is_none());
    }
}
