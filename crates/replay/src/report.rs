//! What a replay found.
#![forbid(unsafe_code)]

use serde::{Deserialize, Serialize};

use crate::stock::Stock;

/// The replay of one process on several allocators.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ReplayReport {
    /// Number of the process in the recording.
    pub process: usize,
    /// Its process id.
    pub pid: u32,
    /// Its executable.
    pub exe: String,
    /// Events of the recording that were taken.
    pub events: u64,
    /// Allocations, frees and reallocations: what nanoseconds are told for.
    pub operations: u64,
    /// Threads.
    pub threads: usize,
    /// Blocks that one thread passed to another.
    pub handovers: u64,
    /// Highest sum of requested bytes alive.
    pub peak_live_bytes: u64,
    /// Bytes of the compiled recording.
    pub plan_bytes: u64,
    /// Seconds that compiling took.
    pub compile_s: f64,
    /// The same stores without an allocator: the replay's own cost, taken off everywhere.
    pub null: NullFigures,
    /// One row an allocator, in the order asked for.
    pub allocators: Vec<AllocatorFigures>,
    /// Sentences a reader must know before trusting a figure.
    pub notes: Vec<String>,
}

/// What replaying costs by itself.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct NullFigures {
    /// Median nanoseconds of CPU an operation.
    pub ns_per_op: f64,
    /// (max - min) / median over the repeats, runs far out (see [`AllocatorFigures::far_out`])
    /// left out.
    pub spread: f64,
    /// CPU seconds of each run, waiting and the program's own mappings taken off.
    pub cpu_s: Vec<f64>,
    /// Median CPU seconds spent waiting for other threads.
    pub wait_s: f64,
}

/// One allocator's figures.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct AllocatorFigures {
    /// Name.
    pub name: String,
    /// Version as the allocator tells it; empty when it does not.
    pub version: String,
    /// `libc`, `crates.io`, `own`, or the path.
    pub origin: String,
    /// Why figures are missing; empty when none are.
    pub failure: String,
    /// Median nanoseconds of CPU an operation, the null run taken off.
    pub ns_per_op: f64,
    /// (max - min) / median of it over the repeats, those far out left out.
    pub spread: f64,
    /// Timing runs above Tukey's outer fence (third quartile and three times the quartiles'
    /// distance) and a tenth above the median: something else happened in them, mostly in the
    /// kernel.
    #[serde(default)]
    pub far_out: u32,
    /// CPU seconds of each timing run, waiting and the program's own mappings taken off, the
    /// null run not.
    pub cpu_s: Vec<f64>,
    /// Median CPU seconds that a timing run spent in the kernel, as the kernel estimates it.
    #[serde(default)]
    pub kernel_s: f64,
    /// Median wall seconds of a timing run.
    pub wall_s: f64,
    /// Median CPU seconds spent waiting for other threads.
    pub wait_s: f64,
    /// Median page faults of a timing run without a disk.
    pub page_faults_minor: u64,
    /// Median page faults of a timing run with a disk.
    pub page_faults_major: u64,
    /// Threads started.
    pub threads: u64,
    /// Memory; none when the memory run failed.
    pub memory: Option<MemoryFigures>,
    /// What resident memory was for when the requested bytes alive peaked, and at the end; empty
    /// for a plan without call sites.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stocks: Vec<Stock>,
}

/// Memory under an allocator, all bytes as growth over the moment before the first event.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct MemoryFigures {
    /// Highest resident bytes, at samples and right before large blocks went.
    pub peak_bytes: u64,
    /// Mean resident bytes over the events.
    pub mean_bytes: u64,
    /// Resident bytes after the last event.
    pub end_bytes: u64,
    /// Resident bytes when the requested bytes alive peaked.
    pub at_live_peak_bytes: u64,
    /// 1 - requested / usable when they peaked; none when usable sizes are not told.
    pub internal_fragmentation: Option<f64>,
    /// 1 - usable / resident when they peaked, untouched pages and mappings apart.
    pub external_fragmentation: Option<f64>,
    /// The same two after the last event.
    pub end_internal_fragmentation: Option<f64>,
    /// See above.
    pub end_external_fragmentation: Option<f64>,
    /// Largest resident piece without a live byte when they peaked; none for a plan without call
    /// sites.
    pub largest_free_bytes: Option<u64>,
    /// Peak growth of a run that did not keep to the recorded clock; none where there was none.
    /// What differs hangs on moments at which the allocator looked at the clock.
    #[serde(default)]
    pub hasty_peak_bytes: Option<u64>,
    /// Resident bytes before the first event (program, loader, the allocator's own start).
    pub baseline_bytes: u64,
    /// Most threads alive at once.
    pub threads_max: u64,
    /// Highest live bytes that the worker itself counted at the end of an epoch.
    pub counted_peak_live_bytes: u64,
    /// Over time: about 400 points, the live peak and the end among them.
    pub timeline: Vec<MemoryPoint>,
}

/// A point of the series.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MemoryPoint {
    /// Events up to here.
    pub events: u64,
    /// Seconds since the first event in the recording.
    pub time_s: f64,
    /// Resident growth in bytes.
    pub resident_bytes: u64,
    /// Requested bytes alive.
    pub live_bytes: u64,
    /// Usable bytes alive; 0 when not told.
    pub usable_bytes: u64,
    /// Blocks alive.
    pub live_blocks: u64,
    /// Bytes that the program mapped itself and wrote.
    pub mapped_bytes: u64,
    /// 1 - requested / usable; 0 when not told.
    pub internal: f64,
    /// 1 - usable / resident, untouched pages and mappings apart; 0 when not told.
    pub external: f64,
}
