//! What merging did, and why it did not.

use heapwright_core::merge_state::MergeState;
use heapwright_sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use crate::merge::homes::gone_bytes;

/// What merging did so far in this process. Each number is right for some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MergeStatistics {
    /// Whether it works, and if not why.
    pub state: MergeState,
    /// Looks over the heap.
    pub pass_count: u64,
    /// Windows of 16 KiB that share pages now.
    pub window_count: usize,
    /// Windows merged since the start.
    pub merged_count: u64,
    /// Windows merged again since the start, because most of what they shared pages with had died.
    pub merged_again_count: u64,
    /// Windows that the kernel did not give: pinned, locked, no mappings left.
    pub refused_count: u64,
    /// Pages of 4 KiB that merging gave back since the start, those of the files that are still
    /// mapped deducted.
    pub freed_pages: i64,
    /// Bytes of the files that were filled since the start.
    pub file_bytes: u64,
    /// CPU time spent, in nanoseconds.
    pub cpu_ns: u64,
    /// The longest time a window was away and its class locked, in nanoseconds of time.
    pub step_ns_max: u64,
    /// The same in nanoseconds of the merging thread's own time.
    pub step_cpu_ns_max: u64,
    /// The longest that a thread of the program itself was held up to merge at a stretch, in
    /// nanoseconds of its own time. 0 where a thread of ours merges.
    pub stretch_cpu_ns_max: u64,
    /// How many such stretches there were.
    pub stretch_count: u64,
}

static STATE: AtomicU32 = AtomicU32::new(MergeState::Off as u32);
static WINDOWS: AtomicUsize = AtomicUsize::new(0);
pub(crate) static PASSES: AtomicU64 = AtomicU64::new(0);
pub(crate) static MERGED: AtomicU64 = AtomicU64::new(0);
pub(crate) static REFUSED: AtomicU64 = AtomicU64::new(0);
pub(crate) static PAGES_BEFORE: AtomicU64 = AtomicU64::new(0);
pub(crate) static FILE_BYTES: AtomicU64 = AtomicU64::new(0);
pub(crate) static CPU_NS: AtomicU64 = AtomicU64::new(0);
static STEP_NS_MAX: AtomicU64 = AtomicU64::new(0);
static STEP_CPU_NS_MAX: AtomicU64 = AtomicU64::new(0);
static STRETCH_CPU_NS_MAX: AtomicU64 = AtomicU64::new(0);
static MERGED_AGAIN: AtomicU64 = AtomicU64::new(0);
static STRETCHES: AtomicU64 = AtomicU64::new(0);

/// Reads the statistics. O(1).
pub fn merge_statistics() -> MergeStatistics {
    let file_bytes = FILE_BYTES.load(Ordering::Relaxed);
    let held_bytes = file_bytes.saturating_sub(gone_bytes());
    let pages_before = PAGES_BEFORE.load(Ordering::Relaxed);
    MergeStatistics {
        state: state(),
        pass_count: PASSES.load(Ordering::Relaxed),
        window_count: WINDOWS.load(Ordering::Relaxed),
        merged_count: MERGED.load(Ordering::Relaxed),
        merged_again_count: MERGED_AGAIN.load(Ordering::Relaxed),
        refused_count: REFUSED.load(Ordering::Relaxed),
        freed_pages: pages_before as i64 - (held_bytes / 4096) as i64,
        file_bytes,
        cpu_ns: CPU_NS.load(Ordering::Relaxed),
        step_ns_max: STEP_NS_MAX.load(Ordering::Relaxed),
        step_cpu_ns_max: STEP_CPU_NS_MAX.load(Ordering::Relaxed),
        stretch_cpu_ns_max: STRETCH_CPU_NS_MAX.load(Ordering::Relaxed),
        stretch_count: STRETCHES.load(Ordering::Relaxed),
    }
}

/// Whether it works, as far as known.
pub(crate) fn state() -> MergeState {
    MergeState::from_number(STATE.load(Ordering::Relaxed))
}

/// Notes whether it works.
pub(crate) fn set_state(state: MergeState) {
    STATE.store(state as u32, Ordering::Relaxed);
}

/// Notes that a window with `pages` pages was merged.
pub(crate) fn note_merged(pages: u32) {
    WINDOWS.fetch_add(1, Ordering::Relaxed);
    MERGED.fetch_add(1, Ordering::Relaxed);
    PAGES_BEFORE.fetch_add(u64::from(pages), Ordering::Relaxed);
}

/// Notes that a merged window was merged again.
pub(crate) fn note_merged_again() {
    MERGED_AGAIN.fetch_add(1, Ordering::Relaxed);
}

/// Windows that share pages now.
pub(crate) fn window_count() -> usize {
    WINDOWS.load(Ordering::Relaxed)
}

/// Notes how long a step took.
pub(crate) fn note_step(ns: u64, cpu_ns: u64) {
    STEP_NS_MAX.fetch_max(ns, Ordering::Relaxed);
    STEP_CPU_NS_MAX.fetch_max(cpu_ns, Ordering::Relaxed);
}

/// Notes how long a thread of the program lent its time.
pub(crate) fn note_stretch(cpu_ns: u64) {
    STRETCH_CPU_NS_MAX.fetch_max(cpu_ns, Ordering::Relaxed);
    STRETCHES.fetch_add(1, Ordering::Relaxed);
}

/// Notes that merged windows became ordinary memory.
pub(crate) fn note_thawed(windows: usize) {
    WINDOWS.fetch_sub(windows, Ordering::Relaxed);
}
