//! Which segment each merged window maps, and what of each segment is still alive.
//!
//! A segment's memory goes when its last window does. One that is mostly dead is emptied: its
//! windows are merged again, into others.
//!
//! One word a window and three a segment, in a mapping that is made at the first merge and of which
//! only what is written is resident. Without it nothing is merged twice.
//!
//! # Invariants
//! - S1: `window_count` of a segment is the number of windows whose home it is.

use heapwright_sync::atomic::{AtomicI32, AtomicPtr, AtomicU16, AtomicU32, AtomicU64, Ordering};

use crate::descriptor::SliceIndex;
use crate::merge::mask::SLICE_WINDOWS;
use crate::region::{SLICE_BYTES, region_bytes, reserve_metadata};
use crate::span::PAGE_UNIT_BYTES;

/// Number of a segment; 0 is none.
pub(crate) type SegmentId = u16;
/// No segment, or one that is not known.
pub(crate) const NO_SEGMENT: SegmentId = 0;
const SEGMENT_COUNT: usize = SegmentId::MAX as usize + 1;

/// What is known of a segment; all zero is a number that is free.
#[derive(Debug)]
#[repr(C)]
struct Record {
    /// Windows that map it.
    window_count: AtomicU32,
    /// Pages of memory that it takes.
    taken_pages: AtomicU16,
    /// 1 when a window cannot leave it: it was written, and maps the rest of its pages still.
    is_stuck: AtomicU16,
    /// Live bytes in its windows, by the last count.
    live_bytes: AtomicI32,
}

/// The records, then a word a window; null before the first merge.
static TABLE: AtomicPtr<Record> = AtomicPtr::new(core::ptr::null_mut());
/// The number given last, and the highest one ever given.
static LATEST: AtomicU32 = AtomicU32::new(0);
static HIGHEST: AtomicU32 = AtomicU32::new(0);
/// Bytes of files that went with their last window.
static GONE_BYTES: AtomicU64 = AtomicU64::new(0);

/// Bytes of files that nobody maps any more, since the start.
pub(crate) fn gone_bytes() -> u64 {
    GONE_BYTES.load(Ordering::Relaxed)
}

fn record(id: SegmentId) -> Option<&'static Record> {
    // Acquire: pairs with the Release in `begin`; the table is mapped.
    let table = TABLE.load(Ordering::Acquire);
    if table.is_null() || id == NO_SEGMENT {
        return None;
    }
    // SAFETY: one of the table's records, of which there are as many as numbers; mapped for ever,
    // zeroed at first, which is valid.
    Some(unsafe { &*table.wrapping_add(usize::from(id)) })
}

fn home(slice: SliceIndex, window: usize) -> Option<&'static AtomicU16> {
    // Acquire: as above.
    let table = TABLE.load(Ordering::Acquire);
    if table.is_null() {
        return None;
    }
    let homes = table.wrapping_add(SEGMENT_COUNT).cast::<AtomicU16>();
    // SAFETY: the table has a word for each window of the region; as above.
    Some(unsafe { &*homes.wrapping_add(slice as usize * SLICE_WINDOWS + window) })
}

/// A number for a new segment, which has no window yet; [`NO_SEGMENT`] when there is none. Whoever
/// merges is one thread at a time.
pub(crate) fn begin() -> SegmentId {
    if TABLE.load(Ordering::Relaxed).is_null() {
        let windows = region_bytes() / SLICE_BYTES * SLICE_WINDOWS;
        let bytes = SEGMENT_COUNT * size_of::<Record>() + windows * size_of::<AtomicU16>();
        let table = reserve_metadata(bytes.next_multiple_of(PAGE_UNIT_BYTES)).cast::<Record>();
        // Release: pairs with the Acquire above.
        TABLE.store(table, Ordering::Release);
    }
    let (latest, highest) = (LATEST.load(Ordering::Relaxed), HIGHEST.load(Ordering::Relaxed));
    let is_free = |id: &u32| {
        record(*id as SegmentId)
            .is_some_and(|record| record.window_count.load(Ordering::Relaxed) == 0)
    };
    let fresh = (highest + 1).min(u32::from(SegmentId::MAX));
    let found = (latest + 1..=highest).chain(1..=latest.min(highest)).chain([fresh]).find(is_free);
    let Some(id) = found else { return NO_SEGMENT };
    LATEST.store(id, Ordering::Relaxed);
    HIGHEST.fetch_max(id, Ordering::Relaxed);
    if let Some(record) = record(id as SegmentId) {
        record.taken_pages.store(0, Ordering::Relaxed);
        record.is_stuck.store(0, Ordering::Relaxed);
        // Until it is counted for the first time it is as good as full.
        record.live_bytes.store(i32::MAX / 2, Ordering::Relaxed);
    }
    id as SegmentId
}

/// Notes that the segment takes `pages` more pages.
pub(crate) fn note_taken(id: SegmentId, pages: usize) {
    if let Some(record) = record(id) {
        record.taken_pages.fetch_add(pages as u16, Ordering::Relaxed);
    }
}

/// Notes that a window maps the segment `id` from now on, and no other.
pub(crate) fn settle(slice: SliceIndex, window: usize, id: SegmentId) {
    leave(slice, window);
    if let (Some(home), Some(record)) = (home(slice, window), record(id)) {
        home.store(id, Ordering::Relaxed);
        record.window_count.fetch_add(1, Ordering::Relaxed);
    }
}

/// Notes that a window maps no segment any more.
pub(crate) fn leave(slice: SliceIndex, window: usize) {
    let Some(home) = home(slice, window) else { return };
    if let Some(record) = record(home.swap(NO_SEGMENT, Ordering::Relaxed))
        && record.window_count.fetch_sub(1, Ordering::Relaxed) == 1
    {
        let pages = record.taken_pages.swap(0, Ordering::Relaxed);
        GONE_BYTES.fetch_add(u64::from(pages) * PAGE_UNIT_BYTES as u64, Ordering::Relaxed);
    }
}

/// Begins to count what is alive.
pub(crate) fn begin_count() {
    for id in 1..=HIGHEST.load(Ordering::Relaxed) {
        match record(id as SegmentId) {
            Some(record) if record.window_count.load(Ordering::Relaxed) > 0 => {
                record.live_bytes.store(0, Ordering::Relaxed);
            }
            _ => {}
        }
    }
}

/// Counts so many live bytes of a merged window.
pub(crate) fn count_live(slice: SliceIndex, window: usize, bytes: usize) {
    if let Some(home) = home(slice, window)
        && let Some(record) = record(home.load(Ordering::Relaxed))
    {
        record.live_bytes.fetch_add(bytes as i32, Ordering::Relaxed);
    }
}

/// The share, in sixteenths of a page, that a merged window has in a segment that is to be emptied:
/// less than half of it is alive, and no window is stuck. None for windows that are to stay.
pub(crate) fn share_of_thin(slice: SliceIndex, window: usize) -> Option<u32> {
    let record = record(home(slice, window)?.load(Ordering::Relaxed))?;
    let taken = u32::from(record.taken_pages.load(Ordering::Relaxed));
    let live_bytes = record.live_bytes.load(Ordering::Relaxed).max(0) as usize;
    let is_thin = live_bytes * 2 < taken as usize * PAGE_UNIT_BYTES;
    (is_thin && record.is_stuck.load(Ordering::Relaxed) == 0)
        .then(|| taken * 16 / record.window_count.load(Ordering::Relaxed).max(1))
}

/// Notes that the window cannot leave its segment.
pub(crate) fn note_stuck(slice: SliceIndex, window: usize) {
    if let Some(home) = home(slice, window)
        && let Some(record) = record(home.load(Ordering::Relaxed))
    {
        record.is_stuck.store(1, Ordering::Relaxed);
    }
}
