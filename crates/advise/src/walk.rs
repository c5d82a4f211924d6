//! One pass over a process's events, as changes of objects.

use heapwright_format::file::{Problem, Recording};
use heapwright_format::merge::{MergedEvents, Module, ThreadSummary, What};
use heapwright_format::objects::{Change, MatchCounts, Objects};
use heapwright_format::stacks::StackTree;

use crate::analysis::AnalyseError;

/// Events between two calls of the progress function.
const PROGRESS_EVENTS: u64 = 1 << 16;

/// A change and where it stands.
pub(crate) struct Step<'a> {
    /// Number of the change in this process, from 0; the same in every pass.
    pub(crate) index: u64,
    /// Events up to here.
    pub(crate) events: u64,
    /// Time, in units.
    pub(crate) time: u64,
    /// Thread of the event.
    pub(crate) thread: u32,
    /// What happened.
    pub(crate) change: &'a Change,
    /// Whether a free was lost here, so that a death's kind is not known.
    pub(crate) is_guess: bool,
    /// The stacks met so far.
    pub(crate) stacks: &'a StackTree,
}

/// What is known when all events have been seen.
pub(crate) struct Walked {
    pub(crate) stacks: StackTree,
    pub(crate) modules: Vec<Module>,
    pub(crate) threads: Vec<ThreadSummary>,
    pub(crate) counts: MatchCounts,
    pub(crate) problems: Vec<Problem>,
    pub(crate) skipped: u64,
    pub(crate) events: u64,
    pub(crate) first_time: u64,
    pub(crate) last_time: u64,
}

/// Passes every change of process number `process` to `visit`, in order. `progress` gets the
/// events done of all, every [`PROGRESS_EVENTS`].
///
/// # Errors
/// [`AnalyseError::NoProcess`] when there is no such process.
pub(crate) fn walk(
    recording: &Recording,
    process: usize,
    progress: &mut dyn FnMut(u64, u64),
    mut visit: impl FnMut(Step<'_>),
) -> Result<Walked, AnalyseError> {
    let record = recording.processes().get(process);
    let record = record
        .ok_or(AnalyseError::NoProcess { process, processes: recording.processes().len() })?;
    let mut merged_events = MergedEvents::new(recording, process);
    let mut objects = Objects::new();
    let mut changes: Vec<Change> = Vec::new();
    let (mut index, mut events) = (0, 0);
    let mut times = None;
    while let Some(merged) = merged_events.next() {
        // A resize is one event, told by two.
        events += u64::from(!matches!(merged.what, What::ResizeStart { .. }));
        let (first, _) = times.unwrap_or((merged.time, merged.time));
        times = Some((first, merged.time));
        let lost_before = objects.counts().lost_frees;
        let stacks = merged_events.stacks();
        objects.feed(&merged, stacks, |change| changes.push(change));
        let is_guess = objects.counts().lost_frees != lost_before;
        for change in &changes {
            let (time, thread) = (merged.time, merged.thread);
            visit(Step { index, events, time, thread, change, is_guess, stacks });
            index += 1;
        }
        changes.clear();
        if events.is_multiple_of(PROGRESS_EVENTS) {
            progress(events, record.events);
        }
    }
    progress(record.events, record.events);
    let (counts, skipped) = (objects.counts(), merged_events.skipped());
    let problems = merged_events.problems().to_vec();
    let (first_time, last_time) = times.unwrap_or_default();
    let (stacks, modules, threads) = merged_events.into_parts();
    Ok(Walked {
        stacks,
        modules,
        threads,
        counts,
        problems,
        skipped,
        events,
        first_time,
        last_time,
    })
}
