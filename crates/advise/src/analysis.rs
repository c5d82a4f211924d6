//! A recording's process, analysed: two passes over its events with the choice of call sites
//! between.

use std::fmt;

use heapwright_format::AllocKind;
use heapwright_format::FreeKind;
use heapwright_format::file::Recording;
use heapwright_format::objects::MatchCounts;
use heapwright_format::stacks::StackId;
use heapwright_symbols::Symbolizer;

use crate::blame::{FragmentationFacts, blame};
use crate::grouping::{Grouping, NO_SITE, SiteStacks};
use crate::measure::{Measure, SiteMeasure, StackMeasure};
use crate::names::NamedStacks;
use crate::own_allocator::own_allocator;
use crate::recommend::{Shares, recommend};
use crate::schema::{Blame, HistogramBar, LivePoint, RecordingInfo, Site, Sizes};
use crate::survey::{StackSurvey, Survey};
use crate::walk::{Walked, walk};
use crate::weight::Weights;

/// Functions of a site's stack that are kept.
const SITE_FRAMES_MAX: usize = 32;

/// Why a process cannot be analysed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AnalyseError {
    /// The recording has no process with this number.
    NoProcess {
        /// The number asked for.
        process: usize,
        /// Processes in the recording.
        processes: usize,
    },
    /// No allocation of the process could be read.
    NoAllocations {
        /// Its executable.
        exe: String,
    },
}

impl fmt::Display for AnalyseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoProcess { process, processes } => write!(
                f,
                "the recording has {processes} processes and none with number {process}; \
                 choose one with --process"
            ),
            Self::NoAllocations { exe } => write!(
                f,
                "the recording holds no allocation of {exe}; if the program uses an allocator \
                 of its own, link it in with heapwright::Recorded"
            ),
        }
    }
}

impl std::error::Error for AnalyseError {}

/// Figures of the whole process. Weighted sums in a sampled recording. Bytes are requested
/// bytes; memory that the program maps itself is apart.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Totals {
    /// Allocations; a resized block counts once.
    pub allocs: u64,
    /// Bytes asked for, growth of resized blocks included.
    pub bytes: u64,
    /// Most bytes alive at once.
    pub peak_live_bytes: u64,
    /// Bytes alive at the end.
    pub end_live_bytes: u64,
    /// Blocks alive at the end.
    pub end_live_blocks: u64,
    /// Blocks freed by their thread before it allocated again.
    pub temporaries: u64,
    /// Threads with events.
    pub threads: u32,
    /// Mappings that the program made itself.
    pub mapped_allocs: u64,
    /// Most bytes in such mappings at once.
    pub mapped_peak_bytes: u64,
    /// Failed allocations.
    pub failed: u64,
    /// Largest request that failed.
    pub failed_bytes_max: u64,
}

/// A pair of operations that do not belong together, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// How the blocks were allocated.
    pub alloc: AllocKind,
    /// How they were freed.
    pub free: FreeKind,
    /// How many.
    pub blocks: u64,
    /// The function that allocated one of them.
    pub function: String,
}

/// What one stack allocated; weighted sums in a sampled recording.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StackTotals {
    /// Allocations.
    pub allocs: u64,
    /// Bytes.
    pub bytes: u64,
    /// Bytes alive at the peak.
    pub peak_bytes: u64,
    /// Blocks alive at the peak.
    pub peak_blocks: u64,
    /// Bytes alive at the end.
    pub end_bytes: u64,
    /// Blocks alive at the end.
    pub end_blocks: u64,
    /// Temporary blocks.
    pub temporaries: u64,
}

/// A process of a recording, analysed.
#[derive(Debug)]
pub struct Analysis {
    /// The whole process.
    pub totals: Totals,
    /// The recording's own figures; `bytes` is the file's.
    pub info: RecordingInfo,
    /// Call sites, largest `bytes` first; `id` is the position.
    pub sites: Vec<Site>,
    /// Request sizes.
    pub size_histogram: Vec<HistogramBar>,
    /// Lifetimes in bytes allocated; blocks alive at the end with their lives so far.
    pub lifetime_histogram: Vec<HistogramBar>,
    /// Frees by the wrong operation, most frequent first.
    pub mismatches: Vec<Mismatch>,
    /// What could not be matched.
    pub counts: MatchCounts,
    /// Sections that could not be read.
    pub unreadable_sections: u64,
    /// Whether the recording is a sample.
    pub is_sampled: bool,
    /// Stacks with their symbols.
    pub(crate) stacks: NamedStacks,
    /// By stack.
    pub(crate) stack_totals: Vec<StackTotals>,
    /// For each stack the id of its site; [`NO_SITE`] for none.
    pub(crate) site_of_stack: Vec<u32>,
}

impl Analysis {
    /// Analyses process number `process` of `recording`, with names from `symbolizer`.
    ///
    /// Two passes over the events (a few tenths of a microsecond an event in all). Memory: some
    /// 150 bytes a live block, a few hundred a stack, a few KiB a site. `progress` gets the
    /// events done and to do, over both passes.
    ///
    /// # Errors
    /// [`AnalyseError`] when there is nothing to analyse.
    pub fn new(
        recording: &Recording,
        process: usize,
        symbolizer: &mut Symbolizer,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Self, AnalyseError> {
        let record = recording.processes().get(process);
        let events = record.map_or(0, |record| record.events);
        let units = recording.units_per_second();
        let weights = Weights::new(recording.session().sample_bytes);
        let mut survey = Survey::new(events, units);
        let mut first_half = |done, all| progress(done, 2 * all);
        let walked = walk(recording, process, &mut first_half, |step| {
            survey.visit(step, weights);
        })?;
        survey.finish(walked.events, walked.last_time);
        if survey.allocs == 0.0 {
            let exe = record.map_or(String::new(), |record| record.info.exe.clone());
            return Err(AnalyseError::NoAllocations { exe });
        }
        let Walked { stacks: tree, modules, .. } = walked;
        let own_allocator = own_allocator(&modules);
        let stacks = NamedStacks::new(tree, &modules, symbolizer);
        let grouping = Grouping::new(&stacks, &survey.stacks);
        let mut measure = Measure::new(&grouping, weights, survey.peak_change);
        let mut second_half = |done, all| progress(all + done, 2 * all);
        walk(recording, process, &mut second_half, |step| measure.visit(step))?;
        measure.finish();

        let truncated_share = survey.truncated / survey.allocs;
        let duration = walked.last_time.saturating_sub(walked.first_time) as f64 / units;
        let threads = walked.threads.len() as u32;
        let dropped = record
            .and_then(|record| record.end.as_ref())
            .map_or(walked.skipped, |end| end.dropped.max(walked.skipped));
        let info = RecordingInfo {
            events: walked.events,
            bytes: recording.file_bytes(),
            threads,
            dropped,
            stacks_complete: 1.0 - truncated_share,
            duration_s: duration,
            peak_live_bytes: round(survey.peak),
            end_live_bytes: round(survey.live),
            allocs: round(survey.allocs),
            allocated_bytes: round(survey.bytes),
            own_allocator,
            timeline: std::mem::take(&mut survey.timeline),
        };
        let stack_totals = stack_totals(&survey.stacks, &measure.stacks);
        let totals = totals(&survey, &info, &stack_totals);
        let mismatches = mismatches(&survey, &stacks);
        let (sites, site_of_stack) = sites(&grouping, &measure.sites, &stacks, weights);
        Ok(Self {
            totals,
            info,
            sites,
            size_histogram: survey.sizes.bars(),
            lifetime_histogram: survey.lifetimes.bars(),
            mismatches,
            counts: walked.counts,
            unreadable_sections: walked.problems.len() as u64,
            is_sampled: weights.is_sampled(),
            stacks,
            stack_totals,
            site_of_stack,
        })
    }

    /// What the stack `stack` allocated.
    pub fn stack_totals(&self, stack: StackId) -> StackTotals {
        self.stack_totals.get(stack.0 as usize).copied().unwrap_or_default()
    }

    /// The id of the site that `stack` belongs to; none for stacks that allocate nothing.
    pub fn site_of(&self, stack: StackId) -> Option<u32> {
        let site = self.site_of_stack.get(stack.0 as usize).copied()?;
        (site != NO_SITE).then_some(site)
    }

    /// The call sites that hold most of the free memory that `facts` tells of.
    pub fn blame(&self, facts: &FragmentationFacts) -> Vec<Blame> {
        blame(&self.sites, &facts.shares)
    }

    /// Live points of the whole recording.
    pub fn timeline(&self) -> &[LivePoint] {
        &self.info.timeline
    }
}

fn round(value: f64) -> u64 {
    value.max(0.0).round() as u64
}

fn stack_totals(survey: &[StackSurvey], measure: &[StackMeasure]) -> Vec<StackTotals> {
    let mut totals = vec![StackTotals::default(); measure.len()];
    for (total, stack) in totals.iter_mut().zip(survey) {
        total.allocs = round(stack.allocs);
        total.bytes = round(stack.bytes);
    }
    for (total, stack) in totals.iter_mut().zip(measure) {
        total.peak_bytes = round(stack.live_at_peak);
        total.peak_blocks = round(stack.blocks_at_peak);
        total.end_bytes = round(stack.live_at_end);
        total.end_blocks = round(stack.blocks_at_end);
        total.temporaries = round(stack.temporaries);
    }
    totals
}

fn totals(survey: &Survey, info: &RecordingInfo, stacks: &[StackTotals]) -> Totals {
    Totals {
        allocs: info.allocs,
        bytes: info.allocated_bytes,
        peak_live_bytes: info.peak_live_bytes,
        end_live_bytes: info.end_live_bytes,
        end_live_blocks: stacks.iter().map(|stack| stack.end_blocks).sum(),
        temporaries: stacks.iter().map(|stack| stack.temporaries).sum(),
        threads: info.threads,
        mapped_allocs: survey.mapped_allocs,
        mapped_peak_bytes: survey.mapped_peak,
        failed: survey.failed.values().map(|failed| failed.0).sum(),
        failed_bytes_max: survey.failed.values().map(|failed| failed.1).max().unwrap_or(0),
    }
}

fn mismatches(survey: &Survey, stacks: &NamedStacks) -> Vec<Mismatch> {
    let mut mismatches: Vec<Mismatch> = survey
        .mismatched
        .iter()
        .map(|(&(alloc, free), &(blocks, stack))| {
            let caller = stacks.frames(stack).nth(stacks.wrapper_count(stack));
            let function = caller.map_or(String::new(), |frame| stacks.name(frame.name).into());
            Mismatch { alloc, free, blocks, function }
        })
        .collect();
    mismatches.sort_by_key(|entry| {
        (std::cmp::Reverse(entry.blocks), entry.alloc as u8, entry.free as u8)
    });
    mismatches
}

/// The sites, largest first, and the site of each stack by its new number.
fn sites(
    grouping: &Grouping,
    measures: &[SiteMeasure],
    stacks: &NamedStacks,
    weights: Weights,
) -> (Vec<Site>, Vec<u32>) {
    let mut order: Vec<usize> = (0..measures.len()).collect();
    order.sort_by(|&a, &b| measures[b].bytes.total_cmp(&measures[a].bytes).then(a.cmp(&b)));
    let mut new_number = vec![NO_SITE; measures.len()];
    let mut sites = Vec::with_capacity(order.len());
    for (id, &index) in order.iter().enumerate() {
        new_number[index] = id as u32;
        sites.push(site(id as u32, &grouping.sites[index], &measures[index], stacks, weights));
    }
    let site_of_stack = grouping
        .site_of_stack
        .iter()
        .map(|&site| if site == NO_SITE { NO_SITE } else { new_number[site as usize] })
        .collect();
    (sites, site_of_stack)
}

fn site(
    id: u32,
    group: &SiteStacks,
    measure: &SiteMeasure,
    stacks: &NamedStacks,
    weights: Weights,
) -> Site {
    let named = stacks.frames(group.main_stack).nth(group.frame);
    let function = named.map_or(String::new(), |frame| stacks.name(frame.name).to_owned());
    let kind = (0..measure.kinds.len())
        .max_by_key(|&kind| (measure.kinds[kind], std::cmp::Reverse(kind)))
        .map_or(AllocKind::Malloc, |kind| AllocKind::ALL[kind]);
    let (recommend, why) = recommend(measure, weights.is_sampled());
    let shares = Shares::of(measure);
    // The order of events is not in a sample.
    let ordered = |share: f64| if weights.is_sampled() { 0.0 } else { share };
    Site {
        id,
        function,
        file: named.map_or(String::new(), |frame| frame.frame.file.to_string()),
        line: named.map_or(0, |frame| frame.frame.line),
        stack: stacks.stack_frames(group.main_stack, SITE_FRAMES_MAX),
        allocs: round(measure.allocs),
        bytes: round(measure.bytes),
        sizes: Sizes {
            min: measure.sizes.min(),
            median: measure.sizes.median(),
            max: measure.sizes.max(),
            distinct: measure.sizes.distinct(),
        },
        threads: measure.threads,
        same_thread_share: shares.same_thread,
        live_at_peak_bytes: round(measure.live_at_peak),
        live_at_end_bytes: round(measure.live_at_end),
        live_at_end_blocks: round(measure.live_blocks_at_end),
        lifetime_median_bytes: measure.lifetimes.median(),
        temporary_share: ordered(shares.temporary),
        lifo_share: ordered(shares.lifo),
        batch_share: ordered(shares.batched),
        realloc_share: shares.resized,
        kind: kind.name().into(),
        recommend: recommend.into(),
        why,
        proof: String::new(),
        predicted: None,
    }
}
