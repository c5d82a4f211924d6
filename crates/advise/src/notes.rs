//! What a reader must know before trusting a figure, in plain sentences.

use heapwright_format::file::{ProcessRecord, Recording};

use crate::advice::AdviceFacts;
use crate::analysis::Analysis;
use crate::recommend::percent;
use crate::text::{bytes_text, count_text};

/// Share of complete stacks below which a note says so.
const STACKS_COMPLETE_MIN: f64 = 0.999;

/// Shares of a recording's events below which the chosen process is not the whole story.
const CHOSEN_SHARE_MIN: f64 = 0.9;

/// Kinds of wrong frees that are listed.
const MISMATCHES_MAX: usize = 3;

/// The notes on process number `process` of `recording`.
pub(crate) fn notes(
    recording: &Recording,
    process: usize,
    analysis: &Analysis,
    facts: &AdviceFacts,
) -> Vec<String> {
    let mut notes = Vec::new();
    let record = &recording.processes()[process];
    about_the_recording(recording, record, analysis, &mut notes);
    about_the_program(recording, record, analysis, facts, &mut notes);
    about_the_replay(recording, record, analysis, facts, &mut notes);
    notes
}

fn about_the_recording(
    recording: &Recording,
    record: &ProcessRecord,
    analysis: &Analysis,
    notes: &mut Vec<String>,
) {
    if analysis.is_sampled {
        notes.push(format!(
            "The recording is a sample, one block in {} on average: counts and bytes are \
             estimates, and orders of events (temporaries, last in first out, batches) are not \
             known.",
            bytes_text(recording.session().sample_bytes)
        ));
    }
    let cut = 1.0 - analysis.info.stacks_complete;
    if analysis.info.stacks_complete < STACKS_COMPLETE_MIN {
        notes.push(format!(
            "{} of the allocations have a stack whose outer frames are unknown.",
            percent(cut)
        ));
    }
    if analysis.info.dropped > 0 {
        notes.push(format!(
            "Events lost while recording: {}; every figure lacks them.",
            count_text(analysis.info.dropped)
        ));
    }
    let unwritten = recording.end().map_or(0, |end| end.unwritten_events);
    if unwritten > 0 {
        notes.push(format!(
            "Events that could not be written to the file (the disk was full): {}.",
            count_text(unwritten)
        ));
    }
    if let Some(problem) = recording.problems().first() {
        notes.push(format!("The recording is damaged {problem}."));
    }
    if analysis.unreadable_sections > 0 {
        let count = analysis.unreadable_sections;
        notes.push(format!("Sections of the recording that could not be read: {count}."));
    }
    let counts = analysis.counts;
    if record.info.attached {
        notes.push(format!(
            "Recording began in the middle of the process's life: {} frees were of older objects, \
             whose sizes and call sites are not known; all figures are of what came after.",
            count_text(counts.unknown_frees)
        ));
    } else if counts.unknown_frees > 0 {
        notes.push(format!(
            "Frees of blocks that are older than this process's part of the recording (inherited by \
             fork), or were allocated out of its sight: {}.",
            count_text(counts.unknown_frees)
        ));
    }
    if counts.lost_frees > 0 {
        notes.push(format!(
            "Frees missing from the recording: {}; their blocks ended when the address was given \
             out again.",
            count_text(counts.lost_frees)
        ));
    }
    if record.end.as_ref().is_some_and(|end| end.running) {
        notes.push(
            "The process was still running when the recording stopped: its blocks alive at the \
             end are no leaks yet."
                .into(),
        );
    }
}

/// Says so when the program that was asked about is a script or starts others, and the figures are
/// about one of those.
fn another_program(recording: &Recording, record: &ProcessRecord) -> Option<String> {
    let command = recording.session().command.first()?;
    let asked = command.rsplit('/').next().unwrap_or_default();
    let (name, pid) = (record.info.display_name(), record.info.pid);
    let exe = record.info.exe.rsplit('/').next().unwrap_or_default();
    let is_it = asked == name || asked == exe || exe.starts_with(asked);
    let as_script = || {
        let word = record.info.command.iter().skip(1).find(|word| !word.starts_with('-'));
        word.and_then(|word| word.rsplit('/').next()) == Some(asked)
    };
    if asked.is_empty() || name.is_empty() || is_it {
        return None;
    }
    Some(if as_script() {
        format!("{asked} is a script; the figures are about {name}, which runs it (process {pid}).")
    } else {
        format!("{asked} started {name} (process {pid}), which the figures are about.")
    })
}

fn about_the_program(
    recording: &Recording,
    record: &ProcessRecord,
    analysis: &Analysis,
    facts: &AdviceFacts,
    notes: &mut Vec<String>,
) {
    if let Some(note) = another_program(recording, record) {
        notes.push(note);
    }
    let totals = &analysis.totals;
    let exe = record.info.exe.rsplit('/').next().unwrap_or_default();
    let uses_malloc = facts.python_malloc.as_deref().is_some_and(|kind| kind.starts_with("malloc"));
    if exe.starts_with("python") && !uses_malloc {
        notes.push(
            "Python serves its objects from pools of its own: PYTHONMALLOC=malloc is needed to \
             see them here, and it changes the program."
                .into(),
        );
    }
    if totals.mapped_allocs > 0 {
        notes.push(format!(
            "The program maps memory itself (mappings: {}, at most {} at once): that is no \
             allocator's business and is in no call site, but the replay maps the same.",
            count_text(totals.mapped_allocs),
            bytes_text(totals.mapped_peak_bytes)
        ));
    }
    if totals.failed > 0 {
        notes.push(format!(
            "Failed allocations: {}, the largest of {}.",
            count_text(totals.failed),
            bytes_text(totals.failed_bytes_max)
        ));
    }
    for wrong in analysis.mismatches.iter().take(MISMATCHES_MAX) {
        notes.push(format!(
            "Freed by the wrong operation, an error in the program: {} blocks of {} by {} \
             (allocated in {}).",
            count_text(wrong.blocks),
            wrong.alloc.name(),
            wrong.free.name(),
            if wrong.function.is_empty() { "an unknown function" } else { &wrong.function }
        ));
    }
}

fn about_the_replay(
    recording: &Recording,
    record: &ProcessRecord,
    analysis: &Analysis,
    facts: &AdviceFacts,
    notes: &mut Vec<String>,
) {
    let events: u64 = recording.processes().iter().map(|process| process.events).sum();
    let share = record.events as f64 / events.max(1) as f64;
    if share < CHOSEN_SHARE_MIN {
        notes.push(format!(
            "The figures are about one of {} processes, with {} of all events; --process chooses \
             another.",
            recording.processes().len(),
            percent(share)
        ));
    }
    for result in &facts.allocators {
        if !result.row.failure.is_empty() {
            notes.push(format!("{} has no replay: {}.", result.row.name, result.row.failure));
        }
        if result.row.run.as_ref().is_some_and(|run| !run.same_output) {
            notes.push(format!(
                "Under {} the program's output was not the same, so it is not recommended; \
                 output that differs from run to run has the same effect.",
                result.row.name
            ));
        }
    }
    if !facts.allocators.is_empty() {
        notes.push(
            "A replay repeats allocations and touches, not the program's own use of its memory: \
             it cannot see what closeness of blocks does to the caches. `heapwright compare` can."
                .into(),
        );
        if analysis.info.threads > 1 {
            notes.push(
                "A replay keeps each thread's order and the order between threads, not the exact \
                 time between operations."
                    .into(),
            );
        }
    }
}
