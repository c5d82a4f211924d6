//! What a heap is asked to be.

use core::time::Duration;

use crate::space::GIVEN_BYTES_MAX;

/// The algorithm that reclaims a heap. All give the same answers; they differ in time, memory and
/// pauses. Names as in Jones, Hosking, Moss, *The Garbage Collection Handbook*.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Collector {
    /// Never collects: the baseline for measuring the others.
    Null,
    /// Marks, then frees unmarked lines and blocks. Objects stay where they are, but for blocks
    /// with little in them ([`Config::evacuate_percent`]).
    MarkSweep,
    /// Marks, then slides all objects together in address order, without a second space.
    MarkCompact,
    /// Copies what is reachable into the other half. Uses at most half of the limit.
    Semispace,
    /// A nursery whose survivors are copied into blocks and lines; the old space is marked and
    /// swept when it has grown. The default.
    Generational,
    /// Mark-sweep in slices between mutations, from a snapshot of the references at the beginning;
    /// blocks with little in them are emptied in slices, too.
    Incremental,
}

impl Collector {
    /// All of them, in the order of their names here.
    pub const ALL: [Self; 6] = [
        Self::Null,
        Self::MarkSweep,
        Self::MarkCompact,
        Self::Semispace,
        Self::Generational,
        Self::Incremental,
    ];

    /// The name in settings and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::MarkSweep => "mark_sweep",
            Self::MarkCompact => "mark_compact",
            Self::Semispace => "copying",
            Self::Generational => "generational",
            Self::Incremental => "incremental",
        }
    }
}

/// What a heap writes to standard error when it is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LogFormat {
    /// Nothing.
    Off,
    /// One line to read.
    Text,
    /// One JSON object on one line.
    Json,
    /// As [`LogFormat::Json`], with every pause: `heapwright gc show` draws them.
    Timeline,
}

/// Above this the extra memory grows with the square root of the live bytes.
const KNEE_BYTES: usize = 80 << 20;

/// The configuration of a heap; each field has a default.
#[derive(Clone, Debug)]
pub struct Config {
    /// The algorithm. Default: generational.
    pub collector: Collector,
    /// Bytes of objects that the heap may hold, live and dead, including the copy reserve of a
    /// collector that copies. 1 MiB to 1 TiB; default 4 GiB.
    pub limit_bytes: usize,
    /// A full collection starts when the heap holds this multiple of what the last one left, in
    /// percent; above 80 MiB the extra grows with the square root only, which is where the sum of
    /// memory and work is least. Above 100; default 200.
    /// Source: Kirisame, Shenoy, Panchekha, "Optimal heap limits for reducing browser memory use",
    /// OOPSLA 2022.
    pub growth_percent: usize,
    /// No full collection starts below this many bytes. Default 8 MiB.
    pub trigger_bytes_min: usize,
    /// Generational: a minor collection starts when this much was allocated. Default 4 MiB.
    pub nursery_bytes: usize,
    /// Adaptive: so many times as large the nursery may become, while minor collections take more
    /// than a 32nd of the time, free most of it and are short: at most a quarter of what triggers a
    /// full collection. 1 for a nursery of fixed size, at most 16; default 4.
    pub nursery_growth: usize,
    /// Mark-sweep, generational and incremental: a full collection or a cycle empties blocks of
    /// which the last one left less than this share, in percent, by copying what is in them
    /// elsewhere. 0 for never, at most 90; default 50.
    pub evacuate_percent: u8,
    /// Incremental: the time a slice aims for, in microseconds. Default 1000.
    pub slice_us: u64,
    /// Adaptive: a pause of a minor collection, CPU time, should take no longer; the nursery
    /// shrinks until it is so. Default: none; a nursery that has grown shrinks at 8 ms.
    pub pause_target: Option<Duration>,
    /// Adaptive: the share of time, in percent below 100, that is left to the mutator; the heap
    /// grows, within its limit, until it is so. Where it conflicts with the pause target the
    /// pause wins, which is counted. Default: none.
    pub throughput_percent: Option<u8>,
    /// Threads that mark and copy where it is worth it, the heap's own included: in full
    /// collections of more than 16 MiB under all plans, and in minor ones that are likely to copy
    /// 4 MiB; never in a slice. The others exist for that time only. 1 to 64; default 1. More than
    /// one asks libc for threads, which may call malloc; a payload's `trace` then runs on any of
    /// them, while the program waits. A panic of it there ends the process.
    pub threads: usize,
    /// What is written when the heap is dropped. Anything but [`LogFormat::Off`] records pauses.
    pub log: LogFormat,
    /// Keeps every pause with its time, 32 bytes each, for [`crate::Heap::with_pauses`].
    pub record_pauses: bool,
    /// Collects after every mutation, each time a full collection. For tests.
    pub stress: bool,
    /// Makes the places that copied objects have left inaccessible, until they are used again. For
    /// tests: a stale reference then ends the process.
    pub guards: bool,
    /// Walks the whole heap before and after each collection and panics when it is broken.
    /// Default: in debug builds.
    pub verify: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            collector: Collector::Generational,
            limit_bytes: 4 << 30,
            growth_percent: 200,
            trigger_bytes_min: 8 << 20,
            nursery_bytes: 4 << 20,
            nursery_growth: 4,
            evacuate_percent: 50,
            slice_us: 1000,
            pause_target: None,
            throughput_percent: None,
            threads: 1,
            log: LogFormat::Off,
            record_pauses: false,
            stress: false,
            guards: false,
            verify: cfg!(debug_assertions),
        }
    }
}

impl Config {
    /// The default configuration with `collector`.
    pub fn with(collector: Collector) -> Self {
        Self { collector, ..Self::default() }
    }

    /// The values in their ranges.
    pub(crate) fn clamped(mut self) -> Self {
        self.limit_bytes = self.limit_bytes.clamp(1 << 20, 1 << 40).next_multiple_of(1 << 20);
        self.growth_percent = self.growth_percent.clamp(101, 100_000);
        self.evacuate_percent = self.evacuate_percent.min(90);
        self.threads = self.threads.clamp(1, 64);
        self.record_pauses |= self.log != LogFormat::Off;
        self.nursery_growth = self.nursery_growth.clamp(1, 16);
        self.nursery_bytes = self.nursery_bytes.clamp(64 << 10, self.limit_bytes / 4);
        self
    }

    /// When the next full collection starts after one that left `live_bytes`, if the heap may grow
    /// to `growth_percent` of them.
    pub(crate) fn trigger_after(&self, live_bytes: usize, growth_percent: usize) -> usize {
        let mut extra = live_bytes.saturating_mul(growth_percent.max(101) - 100) / 100;
        if live_bytes > KNEE_BYTES {
            extra = extra / live_bytes.isqrt() * KNEE_BYTES.isqrt();
        }
        (live_bytes + extra).max(self.trigger_bytes_min).min(self.limit_bytes)
    }

    /// Less than this is little room. Two of the pieces that memory is given out in, which count
    /// twice where all is copied: with less, collections would follow each other for nothing, one
    /// after each piece, and in a heap of a megabyte after each hole.
    pub(crate) fn least_room_bytes(&self) -> usize {
        (self.limit_bytes / 64).max(4 * GIVEN_BYTES_MAX)
    }

    /// How much is close to the limit after a full collection that left `live_bytes`: seven
    /// eighths of it, but never so little that there is no room between the two.
    pub(crate) fn near_limit_after(&self, live_bytes: usize) -> usize {
        (self.limit_bytes / 8 * 7).max(live_bytes + self.least_room_bytes())
    }
}
