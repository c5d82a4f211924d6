//! `advice.json`: the stable face of `heapwright advise --json`, schema 1.
//!
//! Bytes and seconds unless a name says otherwise; ratios below 1 are better. Fields are only
//! ever added. The page of the report reads [`ReportData`], which is this plus what a picture
//! needs (flame graphs, histograms, the live series).

use serde::{Deserialize, Serialize};

/// The whole of `advice.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Advice {
    /// Always 1.
    pub schema: u32,
    /// Version of Heapwright that wrote the file.
    pub heapwright_version: String,
    /// Where it was measured.
    pub machine: Machine,
    /// The command, word by word; empty when redacted.
    pub command: Vec<String>,
    /// Its exit status; none when it was killed or is unknown. 128 + signal for a signal.
    pub exit_status: Option<i32>,
    /// What recording cost.
    pub overhead: Overhead,
    /// Every process recorded; the advice is about the one with `chosen`.
    pub processes: Vec<ProcessInfo>,
    /// The recording's own figures.
    pub recording: RecordingInfo,
    /// One row an allocator, the system's first.
    pub allocators: Vec<AllocatorRow>,
    /// What to do.
    pub verdict: Verdict,
    /// Call sites, largest `bytes` first.
    pub sites: Vec<Site>,
    /// Sites with blocks never freed, largest `live_at_end_bytes` first.
    pub leaks: Vec<Site>,
    /// Sites whose blocks die at once, most numerous first.
    pub temporaries: Vec<Site>,
    /// Sites that hold otherwise free memory, the one that pins most first, at the moment that
    /// `fragmentation` tells. Those beyond the 100 largest are left out.
    pub fragmentation_blame: Vec<Blame>,
    /// What resident memory was for, under the allocator that the program has; null where nothing
    /// was replayed.
    #[serde(default)]
    pub fragmentation: Option<Fragmentation>,
    /// Plain sentences a reader must know before trusting a figure (truncated stacks, drops,
    /// what replay cannot see).
    pub notes: Vec<String>,
}

/// The machine of a measurement.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// CPU model.
    pub cpu: String,
    /// Logical CPUs usable.
    pub cpus: u32,
    /// RAM in bytes.
    pub memory_bytes: u64,
    /// Kernel release.
    pub kernel: String,
    /// C library and version.
    pub libc: String,
    /// `uname -m`.
    pub architecture: String,
}

/// What recording added to the program's CPU time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Overhead {
    /// `estimated` from the calibrated cost of an event, or `measured` by `--rerun`.
    pub method: String,
    /// CPU seconds of the bare program.
    pub native_s: f64,
    /// CPU seconds of the recorded program with all helpers.
    pub recorded_s: f64,
}

/// A recorded process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProcessInfo {
    /// Process id.
    pub pid: u32,
    /// Executable.
    pub exe: String,
    /// What it is called: the link by which `exe` was started, else its file name.
    #[serde(default)]
    pub name: String,
    /// Events.
    pub events: u64,
    /// Share of all events, 0 to 1.
    pub share: f64,
    /// Whether this advice is about it.
    pub chosen: bool,
}

/// Figures of the recording.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RecordingInfo {
    /// Events of the chosen process.
    pub events: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// Threads of the chosen process.
    pub threads: u32,
    /// Events lost.
    pub dropped: u64,
    /// Share of allocations whose stack is complete, 0 to 1.
    pub stacks_complete: f64,
    /// Wall seconds from the first event to the last.
    pub duration_s: f64,
    /// Highest sum of requested bytes alive.
    pub peak_live_bytes: u64,
    /// Requested bytes alive at the end.
    pub end_live_bytes: u64,
    /// All allocations.
    pub allocs: u64,
    /// Sum of requested bytes of all allocations.
    pub allocated_bytes: u64,
    /// Object of the allocator that the program brings itself; null when it uses libc's. What
    /// runs with nothing preloaded, and the verdict, are then compared with this one.
    #[serde(default)]
    pub own_allocator: Option<String>,
    /// The live bytes over time, at most 600 points.
    pub timeline: Vec<LivePoint>,
}

/// A point of the live series.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LivePoint {
    /// Seconds since the first event.
    pub time_s: f64,
    /// Events up to here.
    pub events: u64,
    /// Requested bytes alive.
    pub live_bytes: u64,
}

/// One allocator's figures.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AllocatorRow {
    /// `system`, `heapwright`, `mimalloc`, ..., or the file name of a `.so`.
    pub name: String,
    /// Version as the allocator tells it.
    pub version: String,
    /// `libc`, `crates.io`, `own`, or the path.
    pub origin: String,
    /// Why there are no figures (it crashed, could not be loaded); empty when there are.
    pub failure: String,
    /// Median nanoseconds an operation, the null run taken off.
    pub ns_per_op: f64,
    /// Spread of `ns_per_op` over the repeats: (max - min) / median.
    pub spread: f64,
    /// `ns_per_op` over the system's.
    pub time_ratio: f64,
    /// Highest resident growth, KiB.
    pub peak_rss_kb: u64,
    /// Mean over the events, KiB.
    pub mean_rss_kb: u64,
    /// At the end, KiB.
    pub end_rss_kb: u64,
    /// Page faults of the replay.
    pub page_faults: u64,
    /// 1 - requested / usable at the live peak.
    pub internal_fragmentation: f64,
    /// 1 - usable / resident at the live peak.
    pub external_fragmentation: f64,
    /// Largest resident piece without a live byte at the live peak.
    pub largest_free_bytes: Option<u64>,
    /// Over time.
    pub timeline: Vec<AllocatorPoint>,
    /// The program itself under it, when it was run (`compare`).
    pub run: Option<RunFigures>,
}

/// A point of an allocator's series.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AllocatorPoint {
    /// Events up to here.
    pub events: u64,
    /// Seconds since the first event in the recording.
    pub time_s: f64,
    /// Resident growth, KiB.
    pub rss_kb: u64,
    /// Requested bytes alive, KiB.
    pub live_kb: u64,
    /// 1 - requested / usable.
    pub internal: f64,
    /// 1 - usable / resident.
    pub external: f64,
}

/// The program itself under an allocator.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunFigures {
    /// Median CPU seconds.
    pub cpu_s: f64,
    /// Median wall seconds.
    pub wall_s: f64,
    /// Spread of the CPU seconds: (max - min) / median.
    pub spread: f64,
    /// Median peak resident set, KiB.
    pub peak_rss_kb: u64,
    /// CPU over the system allocator's, median of the paired ratios.
    pub time_ratio: f64,
    /// Peak over the system allocator's, median of the paired ratios.
    pub peak_rss_ratio: f64,
    /// Runs.
    pub repeats: u32,
    /// Whether output and status were the same as under the system's allocator.
    pub same_output: bool,
}

/// What to do, in one place.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Whether a change is worth while.
    pub change: bool,
    /// The allocator to use; the system's when no change is.
    pub allocator: String,
    /// One sentence.
    pub reason: String,
    /// Its time over the system's.
    pub time_ratio: f64,
    /// Its peak resident set over the system's.
    pub peak_rss_ratio: f64,
    /// `low`, `medium` or `high`.
    pub confidence: String,
    /// Repeats behind the figures.
    pub repeats: u32,
    /// `run`, `replay` or `second_recording`.
    pub confirmed_by: String,
}

/// A stack frame; inlined functions are frames of their own with the same `offset`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq, Hash)]
pub struct StackFrame {
    /// File name of the module.
    pub module: String,
    /// Build id in hex; empty when the module has none.
    pub build_id: String,
    /// Offset of the call in the module.
    pub offset: u64,
    /// Demangled function; empty when unknown.
    pub function: String,
    /// Source file; empty when unknown.
    pub file: String,
    /// Source line; 0 when unknown.
    pub line: u32,
}

/// A call site: allocations with one stack (as far as it tells sites apart).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Site {
    /// Stable number within this file; `ReportData` refers to it.
    pub id: u32,
    /// The innermost frame that is not an allocation wrapper.
    pub function: String,
    /// Its source file.
    pub file: String,
    /// Its source line.
    pub line: u32,
    /// Innermost first.
    pub stack: Vec<StackFrame>,
    /// Allocations (a moved or grown block counts as one).
    pub allocs: u64,
    /// Requested bytes in all.
    pub bytes: u64,
    /// Smallest, median and largest request, and how many different ones.
    pub sizes: Sizes,
    /// Threads that allocate here.
    pub threads: u32,
    /// Share of the frees made by the thread that allocated, 0 to 1.
    pub same_thread_share: f64,
    /// Requested bytes alive when the whole program's live bytes peaked.
    pub live_at_peak_bytes: u64,
    /// Requested bytes alive at the end.
    pub live_at_end_bytes: u64,
    /// Blocks alive at the end.
    pub live_at_end_blocks: u64,
    /// Median lifetime in bytes allocated by the whole program between birth and death.
    pub lifetime_median_bytes: u64,
    /// Share of the blocks freed before the same thread allocated again.
    pub temporary_share: f64,
    /// Share of the frees that were last in, first out among this site's blocks.
    pub lifo_share: f64,
    /// Share of the blocks that died together with others in batches.
    pub batch_share: f64,
    /// Share of the blocks reallocated at least once.
    pub realloc_share: f64,
    /// Operation that allocates here (`malloc`, `new`, ...).
    pub kind: String,
    /// `linear`, `stack`, `pool`, `slab`, `buddy` or `general`.
    pub recommend: String,
    /// One sentence with the numbers behind it.
    pub why: String,
    /// What the replay of the candidate on its region showed: `gain`, `no_gain` (within the
    /// noise), `loss` (the candidate was taken back), `not_upheld` (a gain that the second
    /// recording does not show), `not_measured` (`why` says why not); empty where there is no
    /// candidate, or there was no replay.
    #[serde(default)]
    pub proof: String,
    /// The gain that was measured; null where none was.
    pub predicted: Option<Predicted>,
}

/// Requested sizes at a site, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sizes {
    /// Smallest.
    pub min: u64,
    /// Median.
    pub median: u64,
    /// Largest.
    pub max: u64,
    /// Different sizes (exact up to 64, then 65 means "more").
    pub distinct: u32,
}

/// A gain that was measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Predicted {
    /// Whole program's time over today's, as `source` has it.
    pub time_ratio: f64,
    /// Whole program's peak over today's.
    pub peak_ratio: f64,
    /// Most that one long-lived block could hold: of a linear region all that the site ever asks
    /// for, since such a region ends as a whole; of the others what they grew to.
    pub worst_case_held_bytes: u64,
    /// Where `time_ratio` is from: `run`, the program itself with the site on the region and
    /// without, or `replay`, which does not have the program's own use of its blocks; empty in
    /// files of versions that only had replays.
    #[serde(default)]
    pub source: String,
    /// Time over today's as the replay foresees it; 1 where it shows nothing.
    #[serde(default)]
    pub by_replay: Option<f64>,
    /// As the runs show it; null where there were none, or they show nothing above the noise.
    #[serde(default)]
    pub by_run: Option<f64>,
}

/// Memory that a site's live blocks pin.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Blame {
    /// The site.
    #[serde(flatten)]
    pub site: Site,
    /// Its live bytes.
    pub live_bytes: u64,
    /// Free bytes on OS pages kept by it, shared out by live bytes.
    pub pinned_bytes: u64,
    /// What would be freed if this site alone died.
    pub releasable_bytes: u64,
}

/// What every resident byte was for at a moment of the replay, as growth over the moment before
/// the first event. The parts add up to `resident_bytes`, the kernel's figure, within 2 %:
/// requested + slack + pinned + empty + mapped + stacks - earlier.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Fragmentation {
    /// The allocator.
    pub allocator: String,
    /// `worst` (most retained), `peak` (most requested bytes alive), `end`, or `time`.
    pub moment: String,
    /// Events up to then.
    pub events: u64,
    /// Seconds since the first event.
    pub time_s: f64,
    /// Resident growth as the kernel counts it.
    pub resident_bytes: u64,
    /// Requested bytes of live blocks, on resident OS pages.
    pub requested_bytes: u64,
    /// Usable beyond requested bytes there.
    pub slack_bytes: u64,
    /// Free bytes on OS pages where blocks are alive: what `fragmentation_blame` shares out.
    pub pinned_bytes: u64,
    /// OS pages where no block is alive: free, or the allocator's bookkeeping.
    pub empty_bytes: u64,
    /// Memory that the program mapped itself.
    pub mapped_bytes: u64,
    /// Stacks of the replay's threads.
    pub stack_bytes: u64,
    /// Bytes above that were resident before the first event already.
    pub earlier_bytes: u64,
    /// 1 - requested / usable.
    pub internal: f64,
    /// 1 - live / resident bytes of the allocator.
    pub external: f64,
    /// Largest resident piece without a live byte.
    pub largest_free_bytes: u64,
    /// By powers of two of usable bytes, ascending.
    pub classes: Vec<FragmentationClass>,
    /// The same over time.
    pub series: Vec<FragmentationPoint>,
}

/// The live blocks of a power of two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FragmentationClass {
    /// Largest usable size; blocks above half of it belong here.
    pub class_bytes: u64,
    /// Live blocks.
    pub blocks: u64,
    /// Their usable bytes.
    pub live_bytes: u64,
    /// Their share of the free bytes on their OS pages.
    pub pinned_bytes: u64,
    /// 1 - requested / usable.
    pub internal: f64,
    /// Pinned / (live + pinned).
    pub external: f64,
    /// Largest free piece beside such a block.
    pub largest_free_bytes: u64,
}

/// A moment of the series.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FragmentationPoint {
    /// Events up to here.
    pub events: u64,
    /// Seconds since the first event.
    pub time_s: f64,
    /// Resident growth.
    pub resident_bytes: u64,
    /// Free bytes on OS pages where blocks are alive.
    pub pinned_bytes: u64,
    /// OS pages where no block is alive.
    pub empty_bytes: u64,
    /// 1 - requested / usable.
    pub internal: f64,
    /// 1 - live / resident bytes of the allocator.
    pub external: f64,
    /// Largest resident piece without a live byte.
    pub largest_free_bytes: u64,
    /// By powers of two of usable bytes, ascending; only those with live blocks.
    pub classes: Vec<FragmentationClass>,
}

/// What the report's page reads: the advice and the pictures' data.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ReportData {
    /// The same as `advice.json`.
    pub advice: Advice,
    /// The flame graph: a tree of frames, parents before children; node 0 is the root.
    pub flame: Flame,
    /// Request sizes of the whole program.
    pub size_histogram: Vec<HistogramBar>,
    /// Lifetimes of the whole program, in bytes allocated.
    pub lifetime_histogram: Vec<HistogramBar>,
}

/// A tree of stacks, as columns. Values are inclusive (a parent holds its children's).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Flame {
    /// Frame names, each once.
    pub names: Vec<String>,
    /// For each node its parent's index; the root's is 0.
    pub parent: Vec<u32>,
    /// For each node an index into `names`.
    pub name: Vec<u32>,
    /// Requested bytes.
    pub bytes: Vec<u64>,
    /// Allocations.
    pub count: Vec<u64>,
    /// Requested bytes alive at the peak.
    pub peak: Vec<u64>,
    /// Temporary allocations.
    pub temporary: Vec<u64>,
    /// Share of `bytes` in nodes left out for being small, 0 to 1.
    pub pruned_share: f64,
}

/// A bar of a histogram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HistogramBar {
    /// From, inclusive.
    pub low: u64,
    /// To, exclusive.
    pub high: u64,
    /// Blocks.
    pub count: u64,
    /// Their requested bytes.
    pub bytes: u64,
}
