//! From a recording to a plan: each thread's operations in its own array, blocks by slot.
//!
//! The changes come in one order, the recording's (time, across threads). That order is cut
//! into *epochs* of some hundred events. At run time no thread is more than a few epochs ahead
//! of the slowest one, and an operation on a block that another thread made waits for it.
//! `docs/design/replay.md` has the argument why this never hangs.

mod blocks;
mod builder;
mod slots;
mod threads;
mod touch;

pub use builder::{PlanBuilder, Shape};
pub(crate) use threads::ThreadWords;
pub(crate) use touch::TouchLists;

use std::time::Instant;

use heapwright_format::file::Recording;
use heapwright_format::merge::MergedEvents;
use heapwright_format::objects::{Change, Objects};
use heapwright_format::stacks::StackId;

use crate::error::ReplayError;
use crate::plan::Plan;
use crate::progress::{Phase, Progress};

/// Compiles process number `process` of `recording`.
///
/// About 100 ns an event; memory is the plan (8 to 9 bytes an event) and what lives at once.
///
/// # Errors
/// [`ReplayError`] when the recording is sampled, the process does not exist or has no events,
/// or memory for the plan cannot be had.
pub fn compile(
    recording: &Recording,
    process: usize,
    shape: Shape,
    progress: &mut dyn FnMut(&Progress),
) -> Result<Plan, ReplayError> {
    compile_with_sites(recording, process, shape, &|_| None, progress)
}

/// As [`compile`], and lets the blocks born with a stack of which `site_of` tells a number be
/// served by a region ([`crate::measure_sites`]).
///
/// # Errors
/// As for [`compile`].
pub fn compile_with_sites(
    recording: &Recording,
    process: usize,
    shape: Shape,
    site_of: &dyn Fn(StackId) -> Option<u32>,
    progress: &mut dyn FnMut(&Progress),
) -> Result<Plan, ReplayError> {
    let mut builder = PlanBuilder::new(recording, process, shape)?;
    let mut merged = MergedEvents::new(recording, process);
    let mut objects = Objects::new();
    let events_total = recording.processes()[process].events;
    let started = Instant::now();
    let mut events = 0u64;
    while let Some(event) = merged.next() {
        objects.feed(&event, merged.stacks(), |change| {
            let site = match change {
                Change::Born { stack, .. } => site_of(stack),
                _ => None,
            };
            match site {
                Some(site) => builder.site_change(event.time, event.thread, &change, site),
                None => builder.change(event.time, event.thread, &change),
            }
        });
        events += 1;
        if events.is_multiple_of(1 << 17) {
            let (what, phase) = ("reading the recording".to_owned(), Phase::Compile);
            progress(&Progress::new(phase, what, events, events_total, started.elapsed()));
        }
    }
    for problem in merged.problems() {
        builder.note(format!("part of the recording could not be read: {problem}"));
    }
    if merged.skipped() > 0 {
        builder.note(format!("{} events were lost while recording", merged.skipped()));
    }
    builder.matched(objects.counts());
    builder.finish()
}
