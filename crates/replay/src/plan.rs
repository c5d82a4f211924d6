//! A compiled recording: what the parent keeps of it, and the file that workers map.
//!
//! The file is one array of 64-bit words in memory (a memfd): a head, then threads, segments,
//! marks, times, touch lists and operations. Workers map it read-only; nothing in it is changed.

use std::fs::File;
use std::io::{BufWriter, Write};

use crate::compile::{ThreadWords, TouchLists};
use crate::error::ReplayError;
use crate::site::SITE_SIZES_MAX;
use crate::sys;

/// First word of a plan: "HWPLAN" and the layout's version.
pub(crate) const PLAN_MAGIC: u64 = 0x4857_504c_414e_0003;

/// Words of the head.
pub(crate) const HEAD_WORDS: usize = 20;
/// Words of a thread: first segment, segments, first word, words, flags, first word of births,
/// births.
pub(crate) const THREAD_WORDS: usize = 7;
/// Flag of a thread: the program's main thread.
pub(crate) const THREAD_MAIN: u64 = 1;
/// Flag of a thread: it ends within the recording.
pub(crate) const THREAD_ENDS: u64 = 2;

/// Where things are in the head.
pub(crate) mod head {
    pub(crate) const MAGIC: usize = 0;
    pub(crate) const TOTAL_WORDS: usize = 1;
    pub(crate) const THREADS: usize = 2;
    pub(crate) const EPOCHS: usize = 3;
    pub(crate) const SLOTS: usize = 4;
    pub(crate) const WINDOW: usize = 5;
    pub(crate) const PAGE_BYTES: usize = 6;
    pub(crate) const SEGMENTS: usize = 7;
    pub(crate) const MARKS: usize = 8;
    pub(crate) const LISTS: usize = 9;
    pub(crate) const RUNS: usize = 10;
    pub(crate) const OP_WORDS: usize = 11;
    pub(crate) const OPERATIONS: usize = 12;
    pub(crate) const ALIGNED: usize = 13;
    pub(crate) const EVENTS: usize = 14;
    pub(crate) const BIRTHS: usize = 15;
}

/// The number of the call site of a block of which none is known.
pub const SITE_UNKNOWN: u32 = u32::MAX;
/// In the place of a call site: memory that the program mapped itself.
pub(crate) const SITE_MAPPED: u32 = u32::MAX - 1;

/// What recording adds to an event: 35 to 130 ns on real programs (`docs/measured.md`).
const RECORDING_NS_PER_EVENT: f64 = 60.0;

/// Samples of a memory run, the live peak and the end apart.
const SAMPLES: u64 = 400;

/// The state at the end of an epoch, all earlier events done.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct EpochEnd {
    pub(crate) events: u64,
    pub(crate) time_s: f64,
    pub(crate) live_bytes: u64,
    pub(crate) live_blocks: u64,
    pub(crate) mapped_bytes: u64,
}

/// What the recording says at a moment where memory is sampled.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SamplePoint {
    /// The epoch that ends here.
    pub(crate) epoch: u32,
    /// Events up to here.
    pub events: u64,
    /// Seconds since the first event in the recording.
    pub time_s: f64,
    /// Requested bytes alive.
    pub live_bytes: u64,
    /// Blocks alive.
    pub live_blocks: u64,
    /// Bytes that the program mapped itself.
    pub mapped_bytes: u64,
}

/// What is known of a plan.
#[derive(Clone, Debug, Default)]
pub struct PlanFacts {
    /// Number of the process in the recording.
    pub process: usize,
    /// Its process id.
    pub pid: u32,
    /// Its executable.
    pub exe: String,
    /// Threads with operations.
    pub threads: usize,
    /// Events of the recording that were taken.
    pub events: u64,
    /// Allocations, frees and reallocations.
    pub operations: u64,
    /// Blocks that one thread passed to another.
    pub handovers: u64,
    /// Epochs.
    pub epochs: usize,
    /// Epochs that a thread may be ahead of the slowest in timing runs.
    pub window: u32,
    /// Slots for pointers.
    pub slots: u32,
    /// Bytes of the plan.
    pub plan_bytes: u64,
    /// Highest sum of requested bytes alive, mappings apart.
    pub peak_live_bytes: u64,
    /// Memory that a run needs at least, with the plan, in bytes.
    pub needed_bytes: u64,
    /// Whether there are over-aligned blocks.
    pub aligned: bool,
    /// Whether the call site of every block is kept.
    pub keeps_births: bool,
    /// Where memory is sampled.
    pub samples: Vec<SamplePoint>,
    /// Which of them is the highest sum of requested bytes alive.
    pub peak_sample: usize,
    /// Sentences for the reader of the report.
    pub notes: Vec<String>,
    /// The call sites whose blocks can be served by regions, in the order of their numbers.
    pub sites: Vec<SiteFacts>,
}

/// What is known of a routed call site.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SiteFacts {
    /// Blocks that a region can serve.
    pub blocks: u64,
    /// Blocks that another thread ended: their region is one that threads share.
    pub handed_over: u64,
    /// Highest sum of requested bytes alive.
    pub peak_live_bytes: u64,
    /// The first different sizes, 0 for unused places.
    pub sizes: [usize; SITE_SIZES_MAX],
    /// Blocks of yet other sizes.
    pub other_sizes: u64,
    live_bytes: u64,
}

impl SiteFacts {
    pub(crate) fn begin(&mut self, size: u64) {
        self.blocks += 1;
        self.live_bytes += size;
        self.peak_live_bytes = self.peak_live_bytes.max(self.live_bytes);
        // Sites like their first size best.
        let size = (size as usize).max(1);
        match self.sizes.iter_mut().find(|place| **place == size || **place == 0) {
            Some(place) => *place = size,
            None => self.other_sizes += 1,
        }
    }

    pub(crate) fn end(&mut self, size: u64) {
        self.live_bytes = self.live_bytes.saturating_sub(size);
    }
}

/// What the builder hands over.
pub(crate) struct Gathered {
    pub(crate) threads: Vec<ThreadWords>,
    pub(crate) slot_count: u32,
    pub(crate) touches: TouchLists,
    pub(crate) epochs: Vec<EpochEnd>,
    pub(crate) peak_epoch: u32,
    pub(crate) touched_bytes_max: u64,
    /// OS page of the recorded process.
    pub(crate) page_bytes: u64,
}

/// A compiled recording, ready for any number of runs.
#[derive(Debug)]
pub struct Plan {
    facts: PlanFacts,
    file: File,
}

impl Plan {
    /// What is known of it.
    pub fn facts(&self) -> &PlanFacts {
        &self.facts
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Writes the file.
    pub(crate) fn lay_down(mut facts: PlanFacts, gathered: Gathered) -> Result<Self, ReplayError> {
        let Gathered { mut threads, slot_count, touches, epochs, .. } = gathered;
        threads.retain(|thread| !thread.segments.is_empty());
        threads.sort_by_key(|thread| thread.segments[0].epoch);
        facts.threads = threads.len();
        facts.epochs = epochs.len();
        facts.slots = slot_count;
        facts.events = epochs.last().map_or(0, |end| end.events);
        let peak_epoch = if facts.operations > 0 { gathered.peak_epoch } else { 0 };
        facts.peak_live_bytes = epochs.get(peak_epoch as usize).map_or(0, |end| end.live_bytes);
        (facts.samples, facts.peak_sample) = samples(&epochs, peak_epoch);

        let segment_count: usize = threads.iter().map(|thread| thread.segments.len()).sum();
        let op_words: usize = threads.iter().map(|thread| thread.words.len()).sum();
        let (lists, runs) = (touches.starts(), touches.runs());
        let mut head = [0u64; HEAD_WORDS];
        let births = |thread: &ThreadWords| thread.births.len().div_ceil(2);
        let birth_words: usize = threads.iter().map(births).sum();
        let tables = segment_count
            + facts.samples.len()
            + epochs.len()
            + lists.len()
            + 2 * runs.len()
            + birth_words;
        let total_words = HEAD_WORDS + threads.len() * THREAD_WORDS + tables + op_words;
        head[head::MAGIC] = PLAN_MAGIC;
        head[head::TOTAL_WORDS] = total_words as u64;
        head[head::THREADS] = threads.len() as u64;
        head[head::EPOCHS] = epochs.len() as u64;
        head[head::SLOTS] = u64::from(slot_count);
        head[head::WINDOW] = u64::from(facts.window);
        head[head::PAGE_BYTES] = gathered.page_bytes;
        head[head::SEGMENTS] = segment_count as u64;
        head[head::MARKS] = facts.samples.len() as u64;
        head[head::LISTS] = lists.len() as u64;
        head[head::RUNS] = runs.len() as u64;
        head[head::OP_WORDS] = op_words as u64;
        head[head::OPERATIONS] = facts.operations;
        head[head::ALIGNED] = u64::from(facts.aligned);
        head[head::EVENTS] = facts.events;
        head[head::BIRTHS] = birth_words as u64;
        facts.plan_bytes = 8 * total_words as u64;
        facts.needed_bytes = facts.plan_bytes
            + 8 * u64::from(slot_count)
            + gathered.touched_bytes_max
            + gathered.touched_bytes_max / 4;

        let system = |error| ReplayError::System { doing: "keep the compiled recording", error };
        let file = sys::memory_file("heapwright-plan").map_err(system)?;
        let mut out = BufWriter::with_capacity(1 << 20, &file);
        let mut put = |words: &mut dyn Iterator<Item = u64>| -> Result<(), ReplayError> {
            for word in words {
                out.write_all(&word.to_ne_bytes()).map_err(system)?;
            }
            Ok(())
        };
        put(&mut head.into_iter())?;
        let (mut first_segment, mut first_word, mut first_birth) = (0u64, 0u64, 0u64);
        for thread in &threads {
            let flags = if thread.is_main { THREAD_MAIN } else { 0 }
                | if thread.ended { THREAD_ENDS } else { 0 };
            let (segments, words) = (thread.segments.len() as u64, thread.words.len() as u64);
            let count = thread.births.len() as u64;
            let births_at = [first_birth, count];
            put(&mut [first_segment, segments, first_word, words, flags].into_iter())?;
            put(&mut births_at.into_iter())?;
            first_segment += segments;
            first_word += words;
            first_birth += births(thread) as u64;
        }
        let segments = threads.iter().flat_map(|thread| &thread.segments);
        let pack = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
        put(&mut segments.map(|segment| pack(segment.epoch, segment.word_end)))?;
        put(&mut facts.samples.iter().map(|sample| u64::from(sample.epoch)))?;
        put(&mut own_times(&epochs, facts.threads).into_iter())?;
        put(&mut lists.iter().map(|&start| u64::from(start)))?;
        put(&mut runs.iter().flat_map(|run| [pack(run.first, run.stride), u64::from(run.count)]))?;
        for thread in &mut threads {
            let sites = std::mem::take(&mut thread.births);
            put(&mut sites
                .chunks(2)
                .map(|pair| pack(pair[0], pair.get(1).copied().unwrap_or_default())))?;
        }
        for thread in &mut threads {
            put(&mut std::mem::take(&mut thread.words).into_iter())?;
        }
        out.flush().map_err(system)?;
        drop(out);
        Ok(Self { facts, file })
    }
}

/// When the program would have come to the end of each epoch without the recorder, ns from the
/// first event: its clock less what recording cost, which threads bear side by side.
fn own_times(epochs: &[EpochEnd], threads: usize) -> Vec<u64> {
    let event_ns = RECORDING_NS_PER_EVENT / threads.max(1) as f64;
    let mut before = EpochEnd::default();
    let mut own_ns = 0.0;
    let own_time = |end: &EpochEnd| {
        let recording_ns = end.events.saturating_sub(before.events) as f64 * event_ns;
        own_ns += ((end.time_s - before.time_s) * 1e9 - recording_ns).max(0.0);
        before = *end;
        own_ns as u64
    };
    epochs.iter().map(own_time).collect()
}

/// Chooses epochs whose ends lie evenly among the events, the peak and the end; and which of
/// them the peak is.
fn samples(epochs: &[EpochEnd], peak_epoch: u32) -> (Vec<SamplePoint>, usize) {
    let total = epochs.last().map_or(0, |end| end.events);
    let mut due = 0;
    let mut chosen = Vec::new();
    let mut peak_sample = 0;
    for (epoch, end) in epochs.iter().enumerate() {
        let is_peak = epoch as u32 == peak_epoch;
        let is_last = epoch + 1 == epochs.len();
        let is_due = end.events * SAMPLES >= due * total && total > 0;
        if is_due || is_peak || is_last {
            if is_peak {
                peak_sample = chosen.len();
            }
            if is_due {
                due = end.events * SAMPLES / total + 1;
            }
            chosen.push(SamplePoint {
                epoch: epoch as u32,
                events: end.events,
                time_s: end.time_s,
                live_bytes: end.live_bytes,
                live_blocks: end.live_blocks,
                mapped_bytes: end.mapped_bytes,
            });
        }
    }
    (chosen, peak_sample)
}

#[cfg(test)]
mod tests {
    use super::{EpochEnd, SAMPLES, own_times, samples};

    #[test]
    fn the_programs_own_time_is_the_recorded_one_without_the_recording() {
        let end = |events, time_s| EpochEnd { events, time_s, ..EpochEnd::default() };
        let epochs = [end(100, 16e-6), end(200, 17e-6), end(210, 1.0)];
        assert_eq!(own_times(&epochs, 1), [10_000, 10_000, 999_992_400]);
        assert_eq!(own_times(&epochs, 1000)[2], 999_999_987);
    }

    #[test]
    fn samples_are_even_and_hold_peak_and_end() {
        let end = |events| EpochEnd { events, live_bytes: events % 977, ..EpochEnd::default() };
        let epochs: Vec<EpochEnd> = (1..=5000).map(|epoch| end(epoch * 7)).collect();
        let (chosen, peak) = samples(&epochs, 4321);
        assert_eq!(chosen[peak].epoch, 4321);
        assert_eq!(chosen.last().map(|sample| sample.events), Some(35_000));
        assert!(chosen.len() as u64 >= SAMPLES && chosen.len() as u64 <= SAMPLES + 3);
        let gap = chosen.windows(2).map(|pair| pair[1].events - pair[0].events).max();
        assert!(gap.is_some_and(|gap| gap <= 35_000 / SAMPLES + 7));
    }
}
