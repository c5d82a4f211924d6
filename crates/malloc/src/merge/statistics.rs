//! What merging did, and why it did not.

use core::ffi::CStr;

use heapwright_sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// Why windows are not merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
#[non_exhaustive]
pub enum MergeState {
    /// The mode is not compact, or `HEAPWRIGHT_MERGE=0`.
    Off = 0,
    /// It was not tried yet.
    Untried = 1,
    /// It works.
    Works = 2,
    /// The kernel's pages are not of 4 KiB.
    PageSize = 3,
    /// No userfaultfd: forbidden (a sandbox), or older than Linux 6.8.
    NoUserFaults = 4,
    /// The process has threads, and lacks the right (`CAP_SYS_PTRACE`) to let their system calls
    /// wait.
    NoRightWithThreads = 5,
    /// No helper thread, or it cannot have descriptors of its own (before Linux 5.9).
    NoHelper = 6,
    /// No memfd: forbidden, or the length of files is limited.
    NoMemoryFile = 7,
    /// The mappings are used up to the share that merging may take.
    NoMappings = 8,
}

impl MergeState {
    /// In a few words, what it is.
    pub fn name(self) -> &'static str {
        self.c_name().to_str().unwrap_or_default()
    }

    /// The same for C.
    pub fn c_name(self) -> &'static CStr {
        match self {
            Self::Off => c"off",
            Self::Untried => c"not tried yet",
            Self::Works => c"works",
            Self::PageSize => c"refused: the page size is not 4 KiB",
            Self::NoUserFaults => c"refused: no userfaultfd that moves pages (Linux 6.8)",
            Self::NoRightWithThreads => c"refused: threads, and no CAP_SYS_PTRACE",
            Self::NoHelper => c"refused: no helper thread with descriptors of its own",
            Self::NoMemoryFile => c"refused: no memfd",
            Self::NoMappings => c"paused: mappings used up",
        }
    }

    fn from_number(number: u32) -> Self {
        match number {
            1 => Self::Untried,
            2 => Self::Works,
            3 => Self::PageSize,
            4 => Self::NoUserFaults,
            5 => Self::NoRightWithThreads,
            6 => Self::NoHelper,
            7 => Self::NoMemoryFile,
            8 => Self::NoMappings,
            _ => Self::Off,
        }
    }
}

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
    /// Windows that the kernel did not give: pinned, locked, no mappings left.
    pub refused_count: u64,
    /// Pages of 4 KiB that merging gave back since the start, those of the files deducted.
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
static STRETCHES: AtomicU64 = AtomicU64::new(0);

/// Reads the statistics. O(1).
pub fn merge_statistics() -> MergeStatistics {
    let file_bytes = FILE_BYTES.load(Ordering::Relaxed);
    let pages_before = PAGES_BEFORE.load(Ordering::Relaxed);
    MergeStatistics {
        state: state(),
        pass_count: PASSES.load(Ordering::Relaxed),
        window_count: WINDOWS.load(Ordering::Relaxed),
        merged_count: MERGED.load(Ordering::Relaxed),
        refused_count: REFUSED.load(Ordering::Relaxed),
        freed_pages: pages_before as i64 - (file_bytes / 4096) as i64,
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
pub(crate) fn note_merged(pages: usize) {
    WINDOWS.fetch_add(1, Ordering::Relaxed);
    MERGED.fetch_add(1, Ordering::Relaxed);
    PAGES_BEFORE.fetch_add(pages as u64, Ordering::Relaxed);
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
