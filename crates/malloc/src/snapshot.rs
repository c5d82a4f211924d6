//! Where a walk notes what it sees: for each slice that heads a run what the run is, for each 16
//! bytes of addresses whether a free slot starts there, and the blocks with mappings of their own.
//!
//! One mapping of the kernel's, 1/128 of the addresses in use plus 32 bytes a slice, of which only
//! what is written becomes resident: where there are runs, and where there are free slots.
//!
//! # Invariants
//! - W1: a slice is known by its ordinal, its place among the slices ever used of all parts.

use core::ops::Range;

use crate::descriptor::SliceIndex;
use crate::region::{
    BIT_BYTES, SLICE_BYTES, WORD_COVERS_BYTES, release_metadata, reserve_metadata, slice_of,
};

/// Parts of the region at most.
pub(crate) const RANGES_MAX: usize = heapwright_os::NODE_COUNT_MAX;
/// Words of free bits of a slice.
const SLICE_WORDS: usize = SLICE_BYTES / WORD_COVERS_BYTES;

/// What a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum RunKind {
    /// Free, interior, or not looked at.
    Nothing = 0,
    /// A span of small slots.
    Small = 1,
    /// A large block.
    Large = 2,
}

/// What is noted of a run, at its first slice; all zero is nothing.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct RunRecord {
    pub(crate) kind: RunKind,
    pub(crate) class_index: u16,
    /// Small: slots that were ever handed out.
    pub(crate) extended_count: u16,
    /// Number of the zone; 0 for none.
    pub(crate) zone_id: u64,
    /// Its place; null for none.
    pub(crate) zone_place: *const (),
    /// Large: usable bytes.
    pub(crate) usable_bytes: u64,
}

impl RunRecord {
    /// Nothing yet, of a zone or of none.
    pub(crate) const fn of_zone((zone_place, zone_id): (*const (), u64)) -> Self {
        Self {
            kind: RunKind::Nothing,
            class_index: 0,
            extended_count: 0,
            zone_id,
            zone_place,
            usable_bytes: 0,
        }
    }
}

/// A block with a mapping of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DirectRecord {
    pub(crate) block: *mut u8,
    pub(crate) usable_bytes: usize,
}

/// The notes of one walk.
#[derive(Debug)]
pub(crate) struct Snapshot {
    mapping: *mut u8,
    mapping_bytes: usize,
    ranges: [(SliceIndex, SliceIndex); RANGES_MAX],
    slice_count: usize,
    direct_capacity: usize,
    /// How many direct blocks were noted.
    pub(crate) direct_count: usize,
}

impl Snapshot {
    /// Room for slices of `ranges` and `direct_capacity` direct blocks; none when the kernel has
    /// no memory, with the bytes asked for.
    pub(crate) fn new(
        ranges: impl Iterator<Item = Range<SliceIndex>>,
        direct_capacity: usize,
    ) -> Result<Self, usize> {
        let mut made = Self {
            mapping: core::ptr::null_mut(),
            mapping_bytes: 0,
            ranges: [(0, 0); RANGES_MAX],
            slice_count: 0,
            direct_capacity,
            direct_count: 0,
        };
        for (place, range) in made.ranges.iter_mut().zip(ranges) {
            *place = (range.start, range.end);
            made.slice_count += range.len();
        }
        let slice_bytes = size_of::<RunRecord>() + SLICE_WORDS * size_of::<u64>();
        let bytes = made.slice_count * slice_bytes + direct_capacity * size_of::<DirectRecord>();
        made.mapping_bytes = bytes.max(1).next_multiple_of(heapwright_os::page_bytes());
        made.mapping = reserve_metadata(made.mapping_bytes);
        if made.mapping.is_null() { Err(made.mapping_bytes) } else { Ok(made) }
    }

    /// Slices that there is room for.
    pub(crate) fn slice_count(&self) -> usize {
        self.slice_count
    }

    /// Whether there is room for slice `index`.
    pub(crate) fn has_slice(&self, index: SliceIndex) -> bool {
        self.ordinal_of(index).is_some()
    }

    /// [`Snapshot::is_free`] for a slice.
    pub(crate) fn is_free_at(&self, index: SliceIndex, offset: usize) -> bool {
        self.ordinal_of(index).is_some_and(|ordinal| self.is_free(ordinal, offset))
    }

    /// The ordinal of slice `index`; none for one that came into use later.
    fn ordinal_of(&self, index: SliceIndex) -> Option<usize> {
        let mut before = 0;
        for (first, end) in &self.ranges {
            if (*first..*end).contains(&index) {
                return Some(before + (index - first) as usize);
            }
            before += (end - first) as usize;
        }
        None
    }

    /// The slice of an ordinal below [`Snapshot::slice_count`].
    pub(crate) fn slice_at(&self, ordinal: usize) -> SliceIndex {
        let mut rest = ordinal;
        for (first, end) in &self.ranges {
            let length = (end - first) as usize;
            if rest < length {
                return first + rest as SliceIndex;
            }
            rest -= length;
        }
        debug_assert!(false, "W1: no such ordinal");
        0
    }

    fn record_place(&self, ordinal: usize) -> *mut RunRecord {
        debug_assert!(ordinal < self.slice_count);
        let words = self.slice_count * SLICE_WORDS * size_of::<u64>();
        self.mapping.wrapping_add(words).cast::<RunRecord>().wrapping_add(ordinal)
    }

    fn direct_place(&self, number: usize) -> *mut DirectRecord {
        debug_assert!(number < self.direct_capacity);
        self.record_place(0)
            .wrapping_add(self.slice_count)
            .cast::<DirectRecord>()
            .wrapping_add(number)
    }

    /// Notes what the run is whose head is slice `index`.
    pub(crate) fn note_run(&mut self, index: SliceIndex, record: RunRecord) {
        if let Some(ordinal) = self.ordinal_of(index) {
            // SAFETY: inside the mapping, which is ours; the records come behind the bits, whose
            // length is a multiple of their alignment.
            unsafe { self.record_place(ordinal).write(record) };
        }
    }

    /// What was noted of the run whose head has `ordinal`.
    pub(crate) fn run(&self, ordinal: usize) -> RunRecord {
        // SAFETY: as in `note_run`; zeroed memory is a record of nothing.
        unsafe { self.record_place(ordinal).read() }
    }

    /// Notes a direct block; beyond the capacity it is left out.
    pub(crate) fn note_direct(&mut self, record: DirectRecord) {
        if self.direct_count < self.direct_capacity {
            // SAFETY: inside the mapping, behind the records.
            unsafe { self.direct_place(self.direct_count).write(record) };
            self.direct_count += 1;
        }
    }

    /// The direct block of `number`, below [`Snapshot::direct_count`].
    pub(crate) fn direct(&self, number: usize) -> DirectRecord {
        // SAFETY: as in `note_direct`, which wrote it.
        unsafe { self.direct_place(number).read() }
    }

    fn word(&self, ordinal: usize, word: usize) -> *mut u64 {
        debug_assert!(ordinal < self.slice_count && word < SLICE_WORDS);
        self.mapping.cast::<u64>().wrapping_add(ordinal * SLICE_WORDS + word)
    }

    /// Notes free bits of slice `index`, of its word `word`.
    pub(crate) fn add_free_bits(&mut self, index: SliceIndex, word: usize, bits: u64) {
        if let Some(ordinal) = self.ordinal_of(index) {
            let place = self.word(ordinal, word);
            // SAFETY: inside the mapping, which is ours.
            let before = unsafe { place.read() };
            // SAFETY: as above.
            unsafe { place.write(before | bits) };
        }
    }

    /// Notes that the slot at `address` is free.
    pub(crate) fn add_free(&mut self, address: *mut u8) {
        if let Some(index) = slice_of(address) {
            let offset = address.addr() % SLICE_BYTES;
            let bit = 1 << (offset / BIT_BYTES % u64::BITS as usize);
            self.add_free_bits(index, offset / WORD_COVERS_BYTES, bit);
        }
    }

    /// Whether a free slot starts `offset` bytes behind the start of the slice of `ordinal`; the
    /// offset may reach into the slices that follow.
    pub(crate) fn is_free(&self, ordinal: usize, offset: usize) -> bool {
        let place =
            self.word(ordinal + offset / SLICE_BYTES, offset % SLICE_BYTES / WORD_COVERS_BYTES);
        // SAFETY: inside the mapping; zero where nothing was noted.
        let bits = unsafe { place.read() };
        bits >> (offset / BIT_BYTES % u64::BITS as usize) & 1 == 1
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        // SAFETY: a whole mapping of our own, not used any more.
        unsafe { release_metadata(self.mapping, self.mapping_bytes) };
    }
}
