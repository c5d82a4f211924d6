//! A pass over the heap: finds the windows that may share pages, plans, merges, within the budget
//! of mappings and the one of time. It can be made in slices: [`Pass::advance`] goes on where the
//! last one stopped. What it knew may be old by then; each step looks again.

use core::ops::Range;

use heapwright_os::{Errno, monotonic_ns, thread_cpu_ns};
use heapwright_sync::atomic::Ordering;

use crate::descriptor::SliceIndex;
use crate::merge::MergeState;
use crate::merge::barrier::Barrier;
use crate::merge::budget::Budget;
use crate::merge::collect::{collect, count_live, count_written, may_be_merged};
use crate::merge::homes;
use crate::merge::mappings::{MAPPINGS_OF_A_WINDOW, mappings_left};
use crate::merge::mask::SLICE_WINDOWS;
use crate::merge::plan::{BATCH_COUNT, PAGE_COST, Worth};
use crate::merge::scratch::Scratch;
use crate::merge::segment::Segment;
use crate::merge::statistics::{
    CPU_NS, FILE_BYTES, PASSES, REFUSED, note_merged, note_merged_again, note_step, set_state,
};
use crate::merge::step::{Outcome, merge_window};
use crate::pool::lock;
use crate::span::Span;

/// What a window has to free, in quarters of a page, from the first round on when mappings are
/// scarce; the last when they are not.
const WORTHS: [u32; 3] = [10, 6, 2];
/// Slices counted, slices collected, windows planned between two looks at the budget: some ten
/// microseconds each.
const COUNT_STRIDE: u32 = 128;
const COLLECT_STRIDE: u32 = 8;
const PLAN_STRIDE: usize = 16;

/// One span in so many is asked whether its merged windows were written since; enough to tell, and
/// no more than cost a millisecond or so in all.
const WRITTEN_SAMPLE: SliceIndex = 4;
const WRITTEN_COUNT_MIN: u32 = 16;
const WRITTEN_COUNT_MAX: u32 = 2048;

/// What a pass did.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Done {
    /// Windows merged for the first time.
    pub(crate) merged: usize,
    /// Whether something stops all merging for now.
    pub(crate) is_stopped: bool,
}

/// What is next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// How many windows there may be: whether mappings are scarce.
    Count,
    /// Windows into the batch.
    Collect,
    /// The batch, fullest first.
    Sort,
    /// From the candidate that comes at `next` on.
    Place,
    /// From the group `next` on.
    Unite,
    /// What is worth it.
    Choose,
    /// From the candidate that comes at `next` on.
    Merge,
    /// Everything was done.
    Over,
}

/// A pass that is under way.
#[derive(Debug)]
pub(crate) struct Pass {
    scratch: Scratch,
    phase: Phase,
    /// Whether somebody asked for it.
    is_asked: bool,
    /// Spans with windows, while they are counted.
    sparse_count: usize,
    /// Merged windows looked at, and those of them that were written since.
    written: (u32, u32),
    worths: &'static [u32],
    /// The NUMA node's part that is looked at, so that no window's memory moves to another node,
    /// and its slices that are left.
    part: usize,
    slices: Range<SliceIndex>,
    /// Candidates of the batch, groups of it, candidates that are worth it.
    count: usize,
    group_count: usize,
    taken: usize,
    next: usize,
    done: Done,
}

impl Pass {
    /// One that has not begun; none without memory to plan in. One that nobody asked for ends at
    /// once when most of what is merged was written again.
    pub(crate) fn new(is_asked: bool) -> Option<Self> {
        homes::begin_count();
        Some(Self {
            scratch: Scratch::new()?,
            phase: Phase::Count,
            is_asked,
            sparse_count: 0,
            written: (0, 0),
            worths: &WORTHS,
            part: 0,
            slices: slices_of(0).unwrap_or(0..0),
            count: 0,
            group_count: 0,
            taken: 0,
            next: 0,
            done: Done::default(),
        })
    }

    /// Goes on until the budget is used up; what the whole pass did, once it is over. The longest
    /// time that anybody else waits is a step's.
    pub(crate) fn advance(&mut self, barrier: &Barrier, budget: &mut Budget) -> Option<Done> {
        let cpu_start_ns = thread_cpu_ns();
        // Closed at the end of the stretch: no descriptor of ours is open while the program runs.
        let mut segment = None;
        while self.phase != Phase::Over && !budget.is_spent() {
            self.go_on(barrier, &mut segment, budget);
        }
        drop(segment);
        CPU_NS.fetch_add(thread_cpu_ns().saturating_sub(cpu_start_ns), Ordering::Relaxed);
        (self.phase == Phase::Over).then(|| {
            PASSES.fetch_add(1, Ordering::Relaxed);
            self.done
        })
    }

    fn go_on(&mut self, barrier: &Barrier, segment: &mut Option<Segment>, budget: &mut Budget) {
        match self.phase {
            Phase::Count => self.count_sparse(barrier, budget),
            Phase::Collect => self.collect(),
            Phase::Sort => {
                self.scratch.plan().sort(self.count);
                self.group_count = 0;
                self.begin(Phase::Place);
            }
            Phase::Place => {
                let places = self.stride(self.count);
                self.group_count = self.scratch.plan().place(places, self.group_count);
                if self.next == self.count {
                    self.begin(Phase::Unite);
                }
            }
            Phase::Unite => {
                let laters = self.stride(self.group_count);
                self.scratch.plan().unite(laters);
                if self.next == self.group_count {
                    self.begin(Phase::Choose);
                }
            }
            Phase::Choose => {
                let worth = Worth { pages_per_four: self.worths.first().copied().unwrap_or(0) };
                self.taken = self.scratch.plan().choose(self.count, worth);
                self.begin(Phase::Merge);
            }
            Phase::Merge if self.next == self.taken => self.end_batch(),
            Phase::Merge => self.merge_group(barrier, segment, budget),
            Phase::Over => {}
        }
        if self.done.is_stopped {
            self.phase = Phase::Over;
        }
    }

    fn begin(&mut self, phase: Phase) {
        self.phase = phase;
        self.next = 0;
    }

    /// The next few of what is counted up to `end`.
    fn stride(&mut self, end: usize) -> Range<usize> {
        let start = self.next;
        self.next = (start + PLAN_STRIDE).min(end);
        start..self.next
    }

    /// The next few slices of the part; none when all were seen.
    fn next_slices(&mut self, stride: u32) -> Option<Range<SliceIndex>> {
        let start = self.slices.start;
        self.slices.start = start.saturating_add(stride).min(self.slices.end);
        (start < self.slices.start).then_some(start..self.slices.start)
    }

    /// Goes on to the next part; after the last one to the first, and returns false.
    fn next_part(&mut self) -> bool {
        self.part += 1;
        let slices = slices_of(self.part);
        let is_there = slices.is_some();
        if !is_there {
            self.part = 0;
        }
        self.slices = slices.or_else(|| slices_of(0)).unwrap_or(0..0);
        is_there
    }

    fn count_sparse(&mut self, barrier: &Barrier, budget: &Budget) {
        if let Some(slices) = self.next_slices(COUNT_STRIDE) {
            for span in slices.map(Span::at) {
                self.sparse_count += usize::from(may_be_merged(span));
                count_live(span);
                if span.index().is_multiple_of(WRITTEN_SAMPLE) && self.written.0 < WRITTEN_COUNT_MAX
                {
                    let (seen, written) = count_written(barrier, span);
                    self.written = (self.written.0 + seen, self.written.1 + written);
                }
            }
        } else if !self.next_part() {
            let (seen, written) = self.written;
            if !self.is_asked && seen >= WRITTEN_COUNT_MIN && written * 2 > seen {
                // What is merged here costs its page again, and its share of a file besides.
                set_state(MergeState::WrittenAgain);
                self.done.is_stopped = true;
                return;
            }
            let wanted = MAPPINGS_OF_A_WINDOW * self.sparse_count * SLICE_WINDOWS;
            if wanted <= mappings_left(budget.is_unlimited) {
                self.worths = &WORTHS[WORTHS.len() - 1..];
            }
            self.begin(Phase::Collect);
        }
    }

    /// Fills the batch, which has windows of one part only.
    fn collect(&mut self) {
        let has_room = self.count + COLLECT_STRIDE as usize * SLICE_WINDOWS <= BATCH_COUNT;
        let slices = if has_room { self.next_slices(COLLECT_STRIDE) } else { None };
        let Some(slices) = slices else {
            self.begin(Phase::Sort);
            return;
        };
        for index in slices {
            let plan = self.scratch.plan();
            self.count += collect(index, &mut plan.candidates[self.count..]);
        }
    }

    /// What comes after a batch: the rest of the part, the next part, or a round over the whole
    /// heap for what is worth less.
    fn end_batch(&mut self) {
        self.count = 0;
        self.begin(Phase::Collect);
        if self.slices.is_empty() && !self.next_part() {
            self.worths = self.worths.get(1..).unwrap_or(&[]);
            if self.worths.is_empty() {
                self.begin(Phase::Over);
            }
        }
    }

    /// Merges the windows of the next group.
    fn merge_group(
        &mut self,
        barrier: &Barrier,
        segment: &mut Option<Segment>,
        budget: &mut Budget,
    ) {
        let mut plan = self.scratch.plan();
        let end = plan.group_end(self.next, self.taken);
        let places = self.next..end;
        self.next = end;
        budget.use_windows(places.len());
        let left = mappings_left(false);
        if left < places.len() * MAPPINGS_OF_A_WINDOW
            // Windows next to each other cost less than was thought.
            && mappings_left(budget.is_unlimited) < places.len() * MAPPINGS_OF_A_WINDOW
        {
            set_state(MergeState::NoMappings);
            self.done.is_stopped = true;
            return;
        }
        let Some(number) = begin_group(segment) else {
            set_state(MergeState::NoMemoryFile);
            self.done.is_stopped = true;
            return;
        };
        let Some(segment) = segment else { return };
        let before = segment.taken_bytes();
        for place in places {
            let candidate = plan.at(place);
            let (start_ns, cpu_start_ns) = (monotonic_ns(), thread_cpu_ns());
            let outcome = merge_window(barrier, segment, number, candidate);
            note_step(monotonic_ns() - start_ns, thread_cpu_ns() - cpu_start_ns);
            match outcome {
                Outcome::Merged => {
                    note_merged(u32::from(candidate.cost) / PAGE_COST);
                    self.done.merged += 1;
                }
                Outcome::MergedAgain => note_merged_again(),
                Outcome::Changed => {}
                Outcome::Refused(errno) => {
                    REFUSED.fetch_add(1, Ordering::Relaxed);
                    if errno == Errno::ENOMEM {
                        break;
                    }
                }
            }
        }
        FILE_BYTES.fetch_add((segment.taken_bytes() - before) as u64, Ordering::Relaxed);
    }
}

/// The slices ever used of the region's part `part`; none when there is no such part.
fn slices_of(part: usize) -> Option<Range<SliceIndex>> {
    lock().runs.ranges().nth(part)
}

/// Begins a group, in a new segment when the old one is full.
fn begin_group(segment: &mut Option<Segment>) -> Option<usize> {
    if let Some(number) = segment.as_mut().and_then(Segment::begin_group) {
        return Some(number);
    }
    *segment = Segment::new().ok();
    segment.as_mut().and_then(Segment::begin_group)
}
