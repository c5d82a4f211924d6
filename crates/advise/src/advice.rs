//! Everything put together: `advice.json` and the page's data.

use heapwright_format::file::Recording;

use crate::analysis::Analysis;
use crate::blame::{self, FragmentationFacts};
use crate::notes::notes;
use crate::own_allocator::decide_against;
use crate::prove::{self, SiteProof};
use crate::recommend::percent;
use crate::schema::{
    Advice, Flame, Machine, Overhead, ProcessInfo, RecordingInfo, ReportData, Site,
};
use crate::verdict::{AllocatorResult, ProgramFigures, SYSTEM};

/// Version of the schema of `advice.json`.
const SCHEMA: u32 = 1;
/// Call sites, leaks and temporaries kept; `advice.json` stays below a few MB.
const SITES_MAX: usize = 1000;
const LISTED_MAX: usize = 100;
/// Least share of the recorded CPU time that the bare program is taken to need.
const NATIVE_SHARE_MIN: f64 = 0.05;

/// How the bare program's CPU time is known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum OverheadFacts {
    /// From the calibrated cost of recording one event.
    Estimated {
        /// Nanoseconds an event.
        ns_per_event: f64,
    },
    /// The program was run again without the recorder.
    Measured {
        /// Its CPU seconds.
        native_s: f64,
    },
}

impl Default for OverheadFacts {
    fn default() -> Self {
        Self::Estimated { ns_per_event: 0.0 }
    }
}

/// What the tool knows besides the recording.
#[derive(Clone, Debug, Default)]
pub struct AdviceFacts {
    /// Version of Heapwright.
    pub heapwright_version: String,
    /// Where the replay ran.
    pub machine: Machine,
    /// The recording's cost.
    pub overhead: OverheadFacts,
    /// What the allocators did; empty before any replay.
    pub allocators: Vec<AllocatorResult>,
    /// Repeats of the replay.
    pub replay_repeats: u32,
    /// Peak resident memory of the bare program under the system's allocator, KiB; 0 when
    /// unknown. What is beyond the replay's peak no allocator can change.
    pub program_peak_rss_kb: u64,
    /// What the replay of single call sites on their regions showed.
    pub proofs: Vec<SiteProof>,
    /// What resident memory was for; none before any replay.
    pub fragmentation: Option<FragmentationFacts>,
    /// Value of `PYTHONMALLOC` for the recorded command, when it was set.
    pub python_malloc: Option<String>,
}

/// Assembles the advice about process number `process` of `recording`.
///
/// # Panics
/// When `analysis` is not about that process of that recording (the process must exist).
pub fn advice(
    recording: &Recording,
    process: usize,
    analysis: &Analysis,
    facts: &AdviceFacts,
) -> Advice {
    let overhead = overhead(recording, facts.overhead);
    let all_notes = notes(recording, process, analysis, facts);
    let system_peak_kb = facts
        .allocators
        .iter()
        .find(|result| result.row.name == SYSTEM)
        .map_or(0, |result| result.row.peak_rss_kb);
    let program = ProgramFigures {
        cpu_s: overhead.native_s,
        operations: analysis.info.events,
        other_resident_kb: facts.program_peak_rss_kb.saturating_sub(system_peak_kb),
        replay_repeats: facts.replay_repeats,
        life_s: analysis.info.duration_s,
        peak_live_bytes: analysis.info.peak_live_bytes,
    };
    let mut advice = Advice {
        schema: SCHEMA,
        heapwright_version: facts.heapwright_version.clone(),
        machine: facts.machine.clone(),
        command: recording.session().command.clone(),
        exit_status: recording.end().and_then(|end| end.exit_status),
        overhead,
        processes: processes(recording, process),
        recording: RecordingInfo { bytes: recording.file_bytes(), ..analysis.info.clone() },
        allocators: rows(&facts.allocators),
        verdict: decide_against(
            analysis.info.own_allocator.as_deref(),
            &facts.allocators,
            &program,
        ),
        sites: largest(&analysis.sites, SITES_MAX, |site| site.bytes),
        leaks: largest(&analysis.sites, LISTED_MAX, |site| site.live_at_end_bytes),
        temporaries: largest(&analysis.sites, LISTED_MAX, temporaries),
        fragmentation_blame: Vec::new(),
        fragmentation: None,
        notes: all_notes,
    };
    if let Some(facts) = &facts.fragmentation {
        advice.fragmentation = Some(facts.fragmentation.clone());
        advice.fragmentation_blame = analysis.blame(facts);
        advice.notes.extend(blame::left_out(facts, &advice.fragmentation_blame));
    }
    let other_bytes = program.other_resident_kb * 1024;
    for proof in &facts.proofs {
        let lists = [&mut advice.sites, &mut advice.leaks, &mut advice.temporaries];
        let blamed = advice.fragmentation_blame.iter_mut().map(|blame| &mut blame.site);
        let all = lists.into_iter().flatten().chain(blamed);
        for site in all.filter(|site| site.id == proof.site) {
            prove::enter(site, proof, advice.overhead.native_s, other_bytes);
        }
    }
    if analysis.sites.len() > SITES_MAX {
        let kept: f64 = advice.sites.iter().map(|site| site.bytes as f64).sum();
        advice.notes.push(format!(
            "Of {} call sites the largest {SITES_MAX} are listed, with {} of the bytes.",
            analysis.sites.len(),
            percent(kept / analysis.totals.bytes.max(1) as f64)
        ));
    }
    advice
}

/// The page's data: `advice`, the flame graph and the histograms.
pub fn report_data(advice: Advice, analysis: &Analysis) -> ReportData {
    ReportData {
        advice,
        flame: Flame::new(analysis),
        size_histogram: analysis.size_histogram.clone(),
        lifetime_histogram: analysis.lifetime_histogram.clone(),
    }
}

fn overhead(recording: &Recording, facts: OverheadFacts) -> Overhead {
    let (program_s, collector_s) =
        recording.end().map_or((0.0, 0.0), |end| (end.program_cpu_s, end.collector_cpu_s));
    let (method, native_s) = match facts {
        OverheadFacts::Measured { native_s } => ("measured", native_s),
        OverheadFacts::Estimated { ns_per_event } => {
            let events: u64 = recording.processes().iter().map(|process| process.events).sum();
            let recording_s = events as f64 * ns_per_event * 1e-9;
            ("estimated", (program_s - recording_s).max(program_s * NATIVE_SHARE_MIN))
        }
    };
    Overhead { method: method.into(), native_s, recorded_s: program_s + collector_s }
}

fn processes(recording: &Recording, chosen: usize) -> Vec<ProcessInfo> {
    let all: u64 = recording.processes().iter().map(|process| process.events).sum();
    recording
        .processes()
        .iter()
        .enumerate()
        .map(|(index, process)| ProcessInfo {
            pid: process.info.pid,
            exe: process.info.exe.clone(),
            name: process.info.display_name().to_owned(),
            events: process.events,
            share: process.events as f64 / all.max(1) as f64,
            chosen: index == chosen,
        })
        .collect()
}

/// The rows with the system's first, and their times as ratios to its.
fn rows(results: &[AllocatorResult]) -> Vec<crate::schema::AllocatorRow> {
    let mut rows: Vec<_> = results.iter().map(|result| result.row.clone()).collect();
    rows.sort_by_key(|row| row.name != SYSTEM);
    let system_ns = rows.first().filter(|row| row.name == SYSTEM).map_or(0.0, |row| row.ns_per_op);
    for row in &mut rows {
        let has_figures = row.failure.is_empty() && system_ns > 0.0;
        row.time_ratio = if has_figures { row.ns_per_op / system_ns } else { 0.0 };
    }
    rows
}

fn temporaries(site: &Site) -> u64 {
    (site.temporary_share * site.allocs as f64).round() as u64
}

/// The `count` sites with the highest `figure`, none with 0.
fn largest(sites: &[Site], count: usize, figure: impl Fn(&Site) -> u64) -> Vec<Site> {
    let mut order: Vec<&Site> = sites.iter().filter(|site| figure(site) > 0).collect();
    order.sort_by_key(|site| (std::cmp::Reverse(figure(site)), site.id));
    order.into_iter().take(count).cloned().collect()
}
