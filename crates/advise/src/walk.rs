//! One pass over a process's events, as changes of objects.
//!
//! Two threads work on it: one reads, merges and matches, the caller's looks at the changes.

use std::sync::mpsc::sync_channel;

use heapwright_format::file::{Problem, Recording};
use heapwright_format::merge::{MergedEvents, Module, ThreadSummary, What};
use heapwright_format::objects::{Change, MatchCounts, Objects};
use heapwright_format::stacks::StackTree;

use crate::analysis::AnalyseError;

/// Changes handed over at once: their memory stays in the caches.
const BATCH_CHANGES: usize = 1024;

/// Batches under way: enough that neither thread waits for a hiccup of the other.
const BATCHES_MAX: usize = 16;

/// Batches between two calls of the progress function.
const PROGRESS_BATCHES: usize = 64;

/// A change and where it stands.
pub(crate) struct Step {
    /// Number of the change in this process, from 0; the same in every pass.
    pub(crate) index: u64,
    /// Events up to here.
    pub(crate) events: u64,
    /// Time, in units.
    pub(crate) time: u64,
    /// Thread of the event.
    pub(crate) thread: u32,
    /// Whether a free was lost here, so that a death's kind is not known.
    pub(crate) is_guess: bool,
    /// Whether the change is a birth whose stack lacks outer frames.
    pub(crate) is_truncated: bool,
    /// What happened.
    pub(crate) change: Change,
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

/// Passes every change of process number `process` to `visit`, in order, on this thread.
/// `progress` gets the events done and all.
///
/// # Errors
/// [`AnalyseError::NoProcess`] when there is no such process.
pub(crate) fn walk(
    recording: &Recording,
    process: usize,
    progress: &mut dyn FnMut(u64, u64),
    mut visit: impl FnMut(&Step),
) -> Result<Walked, AnalyseError> {
    let record = recording.processes().get(process);
    let record = record
        .ok_or(AnalyseError::NoProcess { process, processes: recording.processes().len() })?;
    let walked = std::thread::scope(|scope| {
        let (full_sender, full) = sync_channel::<Vec<Step>>(BATCHES_MAX);
        let (empty_sender, empty) = sync_channel::<Vec<Step>>(BATCHES_MAX);
        let reader = scope.spawn(move || {
            read(recording, process, |batch| {
                let next = empty.try_recv().unwrap_or_default();
                // The other side goes away only by a panic, which the scope passes on.
                let _ = full_sender.send(std::mem::replace(batch, next));
            })
        });
        for (number, mut batch) in full.into_iter().enumerate() {
            batch.iter().for_each(&mut visit);
            if number.is_multiple_of(PROGRESS_BATCHES)
                && let Some(last) = batch.last()
            {
                progress(last.events, record.events);
            }
            batch.clear();
            let _ = empty_sender.try_send(batch);
        }
        reader.join()
    });
    progress(record.events, record.events);
    Ok(walked.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
}

/// Reads all events; gives full batches to `hand_over`, which leaves an empty one.
fn read(
    recording: &Recording,
    process: usize,
    mut hand_over: impl FnMut(&mut Vec<Step>),
) -> Walked {
    let mut merged_events = MergedEvents::new(recording, process);
    let mut objects = Objects::new();
    let mut batch: Vec<Step> = Vec::with_capacity(BATCH_CHANGES);
    let (mut index, mut events) = (0, 0);
    let mut times = None;
    while let Some(merged) = merged_events.next() {
        // A resize is one event, told by two.
        events += u64::from(!matches!(merged.what, What::ResizeStart { .. }));
        let (time, thread) = (merged.time, merged.thread);
        let (first, _) = times.unwrap_or((time, time));
        times = Some((first, time));
        let lost_before = objects.counts().lost_frees;
        let stacks = merged_events.stacks();
        let start = batch.len();
        objects.feed(&merged, stacks, |change| {
            let is_truncated =
                matches!(change, Change::Born { stack, .. } if stacks.leaf(stack).truncated);
            let is_guess = false;
            batch.push(Step { index, events, time, thread, is_guess, is_truncated, change });
            index += 1;
        });
        if objects.counts().lost_frees != lost_before {
            batch[start..].iter_mut().for_each(|step| step.is_guess = true);
        }
        if batch.len() >= BATCH_CHANGES {
            hand_over(&mut batch);
        }
    }
    hand_over(&mut batch);
    let (counts, skipped) = (objects.counts(), merged_events.skipped());
    let problems = merged_events.problems().to_vec();
    let (first_time, last_time) = times.unwrap_or_default();
    let (stacks, modules, threads) = merged_events.into_parts();
    Walked { stacks, modules, threads, counts, problems, skipped, events, first_time, last_time }
}
