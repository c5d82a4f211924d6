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
    let builder = PlanBuilder::new(recording, process, shape)?;
    feed(builder, recording, process, progress, |builder, event, change| {
        let (time, thread) = event;
        match site_of_birth(change, site_of) {
            Some(site) => builder.site_change(time, thread, change, site),
            None => builder.change(time, thread, change),
        }
    })
}

/// As [`compile`], and keeps for every block the call site that `site_of` tells for its stack, so
/// that stock can be taken of the live blocks ([`crate::take_stock`]).
///
/// # Errors
/// As for [`compile`].
pub fn compile_with_births(
    recording: &Recording,
    process: usize,
    shape: Shape,
    site_of: &dyn Fn(StackId) -> Option<u32>,
    progress: &mut dyn FnMut(&Progress),
) -> Result<Plan, ReplayError> {
    let builder = PlanBuilder::with_births(recording, process, shape)?;
    feed(builder, recording, process, progress, |builder, event, change| {
        builder.birth_change(event.0, event.1, change, site_of_birth(change, site_of));
    })
}

fn site_of_birth(change: &Change, site_of: &dyn Fn(StackId) -> Option<u32>) -> Option<u32> {
    match change {
        Change::Born { stack, .. } => site_of(*stack),
        _ => None,
    }
}

/// Passes every change of the process, with its time and thread, to `take`.
fn feed(
    mut builder: PlanBuilder,
    recording: &Recording,
    process: usize,
    progress: &mut dyn FnMut(&Progress),
    take: impl Fn(&mut PlanBuilder, (u64, u32), &Change),
) -> Result<Plan, ReplayError> {
    let mut merged = MergedEvents::new(recording, process);
    let mut objects = Objects::new();
    let events_total = recording.processes()[process].events;
    let started = Instant::now();
    let mut events = 0u64;
    while let Some(event) = merged.next() {
        objects.feed(&event, merged.stacks(), |change| {
            take(&mut builder, (event.time, event.thread), &change);
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
