//! The statistics page: what a watched process writes into a private file and a reader beside it
//! reads, as 64-bit words, so that neither needs the other's compiler.
//!
//! # Layout
//! ```text
//! words 0 to 15    head: who writes, sequence, requests          (offsets below)
//! words 16 to 63   figures, in the order of [`Figures`]
//! then             for each class 4 words: slot bytes, span bytes, used slots, slots
//! then             for each heap 10 words: kind, number, span bytes, used bytes, large bytes, limit,
//!                  name (4 words of bytes, ended by a zero or the last word)
//! then             for each NUMA node 6 words: number + 1, span bytes, used bytes, large bytes,
//!                  free and maybe resident, free and given back
//! then             the heap map, a byte a cell, eight to a word
//! ```
//! The writer makes the sequence odd, writes figures, classes, heaps and map, and makes it even; a
//! reader that saw an odd number, or another one after reading, reads again. A new field takes a
//! spare word; anything else is a new version, which old readers name and refuse.
//!
//! # Requests
//! A reader stores [`request`] into [`WORD_REQUEST`]; the process does it at its next heartbeat and
//! then stores the same word into [`WORD_ANSWERED`], after its result in [`WORD_RESULT`]. That is
//! the only word that a reader writes.

use crate::size_class::CLASS_COUNT;

/// The first word: the letters `hwLIVE01`.
pub const MAGIC: u64 = u64::from_le_bytes(*b"hwLIVE01");
/// Of this layout.
pub const VERSION: u64 = 2;

/// Word of [`MAGIC`].
pub const WORD_MAGIC: usize = 0;
/// Word of [`VERSION`].
pub const WORD_VERSION: usize = 1;
/// Word of the page's length in bytes.
pub const WORD_PAGE_BYTES: usize = 2;
/// Word of the writer's process id.
pub const WORD_PROCESS: usize = 3;
/// Word of the sequence; odd while the writer writes.
pub const WORD_SEQUENCE: usize = 4;
/// Word that a reader stores a request in.
pub const WORD_REQUEST: usize = 5;
/// Word with the request answered last.
pub const WORD_ANSWERED: usize = 6;
/// Word with its result: 0 for done, else the kernel's error number.
pub const WORD_RESULT: usize = 7;

/// Word of the first figure.
pub const WORD_FIGURES: usize = 16;
/// Word of the first class.
pub const WORD_CLASSES: usize = 64;
/// Words of a class.
pub const CLASS_WORDS: usize = 4;
/// Word of the first heap.
pub const WORD_HEAPS: usize = WORD_CLASSES + CLASS_COUNT * CLASS_WORDS;
/// Heaps that the page has room for; the rest are summed up in the last one.
pub const HEAP_COUNT_MAX: usize = 64;
/// Words of a heap.
pub const HEAP_WORDS: usize = 6 + HEAP_NAME_WORDS;
/// Of these, the name.
pub const HEAP_NAME_WORDS: usize = 4;
/// Word of the first NUMA node.
pub const WORD_NODES: usize = WORD_HEAPS + HEAP_COUNT_MAX * HEAP_WORDS;
/// NUMA nodes that the page has room for; the rest are summed up in the last one.
pub const NODE_ROWS: usize = 16;
/// Words of a node.
pub const NODE_WORDS: usize = 6;
/// Word where the map starts.
pub const WORD_MAP: usize = WORD_NODES + NODE_ROWS * NODE_WORDS;
/// Cells of the map; with a slice of 64 KiB each they show 4 GiB of addresses.
pub const CELL_COUNT: usize = 65_536;
/// Length of the page in words.
pub const PAGE_WORDS: usize = (WORD_MAP + CELL_COUNT / 8).next_multiple_of(512);
/// Length of the page in bytes.
pub const PAGE_BYTES: usize = PAGE_WORDS * 8;

const _: () = assert!(WORD_FIGURES + FIGURE_COUNT <= WORD_CLASSES);

/// Asked for: the figures, now.
pub const REQUEST_FIGURES: u64 = 1;
/// Asked for: give free memory back to the kernel.
pub const REQUEST_RELEASE: u64 = 2;
/// Asked for: write the profile beside the page.
pub const REQUEST_PROFILE: u64 = 3;
/// Asked for: sample from now on.
pub const REQUEST_PROFILE_ON: u64 = 4;
/// Asked for: sample no more.
pub const REQUEST_PROFILE_OFF: u64 = 5;

/// The word for request `kind` with a number that differs from the last request's.
pub const fn request(kind: u64, number: u64) -> u64 {
    kind | number << 8
}

/// The kind of a request word.
pub const fn request_kind(word: u64) -> u64 {
    word & 0xff
}

/// What a cell of the map holds, as its low four bits; the high four tell how full it is, in
/// fifteenths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Cell {
    /// Never used.
    Unused = 0,
    /// Small blocks.
    Small = 1,
    /// A large block.
    Large = 2,
    /// Free, maybe resident.
    FreeDirty = 3,
    /// Free and given back.
    FreeClean = 4,
}

impl Cell {
    /// The cell's byte for `fifteenths` (at most 15) of it in use.
    pub const fn byte(self, fifteenths: u8) -> u8 {
        let full = if fifteenths > 15 { 15 } else { fifteenths };
        self as u8 | full << 4
    }

    /// What a byte of the map says: the cell and fifteenths in use.
    pub const fn of_byte(byte: u8) -> (Self, u8) {
        let cell = match byte & 15 {
            1 => Self::Small,
            2 => Self::Large,
            3 => Self::FreeDirty,
            4 => Self::FreeClean,
            _ => Self::Unused,
        };
        (cell, byte >> 4)
    }
}

/// The kinds of entries in the list of heaps.
pub const HEAP_OF_THREAD: u64 = 1;
/// Spans of no thread.
pub const HEAP_SHARED: u64 = 2;
/// A zone: a first-class heap.
pub const HEAP_ZONE: u64 = 3;

macro_rules! figures {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// The figures of the page. Bytes unless the name says otherwise.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Figures {
            $($(#[doc = $doc])+ pub $name: u64,)+
        }

        /// How many figures there are.
        pub const FIGURE_COUNT: usize = [$(stringify!($name)),+].len();

        /// The figures' names, in order.
        pub const FIGURE_NAMES: [&str; FIGURE_COUNT] = [$(stringify!($name)),+];

        impl Figures {
            /// The figures as words, in order.
            pub const fn to_words(&self) -> [u64; FIGURE_COUNT] {
                [$(self.$name),+]
            }

            /// The figures that `words` are.
            pub const fn from_words(words: &[u64; FIGURE_COUNT]) -> Self {
                let [$($name),+] = *words;
                Self { $($name),+ }
            }
        }
    };
}

figures! {
    /// When this was written, in nanoseconds of the machine's monotonic clock.
    written_ns,
    /// How long writing took, in nanoseconds.
    cost_ns,
    /// How often it was written.
    write_count,
    /// Usable bytes of blocks in use; those in threads' lists and on their way home included.
    live_bytes,
    /// Of these, small blocks.
    live_small_bytes,
    /// Of these, large blocks and blocks with a mapping of their own.
    live_large_bytes,
    /// How many large blocks.
    large_count,
    /// Spans of small blocks.
    small_span_bytes,
    /// Runs of large blocks.
    large_run_bytes,
    /// Free runs that may be resident.
    free_dirty_bytes,
    /// Free runs that are not resident.
    free_clean_bytes,
    /// Addresses in use or free between the first and the last slice ever used.
    committed_bytes,
    /// The longest free run.
    largest_free_bytes,
    /// Addresses of the region that were never used.
    untouched_bytes,
    /// What allocations may hold at most; all ones for no limit.
    limit_bytes,
    /// What counts towards the limit.
    held_bytes,
    /// Start of the region.
    region_start,
    /// Its length in addresses.
    region_bytes,
    /// Bytes of a slice.
    slice_bytes,
    /// The first slice that blocks can lie in; metadata lies before.
    first_slice,
    /// Behind the last slice ever used.
    end_slice,
    /// Slices a cell of the map stands for.
    slices_per_cell,
    /// Cells of the map that mean something.
    cell_count,
    /// Bytes handed to programs and threads' lists since the start.
    handed_bytes,
    /// Bytes given back to the kernel since the start.
    purged_bytes,
    /// Threads that have a heap.
    thread_count,
    /// Mappings of the process, as far as they are counted.
    mapping_count,
    /// Pages freed by merging since the start, those of the files that it filled deducted.
    merged_pages,
    /// Nanoseconds spent on merging since the start.
    merge_ns,
    /// Mean bytes between samples of the profile; 0 when it is off.
    profile_rate_bytes,
    /// Samples taken since the start.
    sample_count,
    /// Samples that live.
    live_sample_count,
    /// Samples that could not be kept.
    lost_sample_count,
    /// Bytes of the profile's own tables.
    profile_bytes,
    /// Whether merging works, and if not why: a number of [`MergeState`](crate::merge_state::MergeState).
    merge_state,
    /// Windows of 16 KiB that share pages now.
    merged_windows,
    /// Windows that the kernel refused to merge, since the start.
    merge_refused_count,
    /// The longest time a window was away, in nanoseconds.
    merge_step_ns_max,
}

#[cfg(test)]
mod tests {
    use super::{Cell, FIGURE_COUNT, Figures, request, request_kind};

    #[test]
    fn figures_and_words_are_the_same() {
        let mut words = [0; FIGURE_COUNT];
        for (index, word) in words.iter_mut().enumerate() {
            *word = index as u64 + 1;
        }
        let figures = Figures::from_words(&words);
        assert_eq!(figures.to_words(), words);
        assert_eq!((figures.written_ns, figures.live_bytes), (1, 4));
    }

    #[test]
    fn cells_and_requests_keep_their_parts() {
        for cell in [Cell::Unused, Cell::Small, Cell::Large, Cell::FreeDirty, Cell::FreeClean] {
            for full in 0..=15 {
                assert_eq!(Cell::of_byte(cell.byte(full)), (cell, full));
            }
        }
        assert_eq!(request_kind(request(super::REQUEST_PROFILE, 77)), super::REQUEST_PROFILE);
        assert_ne!(request(1, 5), request(1, 6));
    }
}
