//! A pass over the heap: finds the windows that may share pages, plans, merges, within the budget
//! of mappings and the one of time.

use core::ops::Range;
use core::ptr::NonNull;

use heapwright_os::{
    Advice, Errno, Protection, advise, mappings_now, max_mapping_count, monotonic_ns, release,
    reserve, thread_cpu_ns,
};
use heapwright_sync::atomic::Ordering;

use crate::class_pool::lock_class;
use crate::descriptor::{PASSIVE, SliceIndex};
use crate::merge::barrier::Barrier;
use crate::merge::live::live_mask;
use crate::merge::mask::{Mask, SLICE_WINDOWS};
use crate::merge::plan::{Candidate, Group, NO_GROUP, Worth, pack};
use crate::merge::segment::Segment;
use crate::merge::statistics::{
    CPU_NS, FILE_BYTES, MergeState, PASSES, REFUSED, STEP_NS_MAX, note_merged, set_state,
};
use crate::merge::step::{Outcome, is_open, merge_window};
use crate::pool::lock;
use crate::purge::purge_pages;
use crate::span::{PAGE_UNIT_BYTES, Span};

/// Windows planned at a time.
const BATCH_COUNT: usize = 8192;
/// A merged window costs up to two mappings: its own, and the rest of what it was cut from.
const MAPPINGS_OF_A_WINDOW: usize = 2;
/// Windows that are fuller than this share of their pages are left alone.
const DENSE_SHARE: (usize, usize) = (3, 4);
/// What a window has to free, in quarters of a page, from the first round on when mappings are
/// scarce; the last when they are not.
const WORTHS: [u32; 3] = [10, 6, 2];

/// What a pass did.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Done {
    /// Windows merged.
    pub(crate) merged: usize,
    /// Whether something stops all merging for now.
    pub(crate) is_stopped: bool,
}

/// Memory to plan in.
struct Scratch {
    start: NonNull<u8>,
}

const CANDIDATES_BYTES: usize = BATCH_COUNT * size_of::<Candidate>();
const SCRATCH_BYTES: usize = CANDIDATES_BYTES + BATCH_COUNT * size_of::<Group>();
const _: () = assert!(CANDIDATES_BYTES.is_multiple_of(align_of::<Group>()));

impl Scratch {
    fn new() -> Option<Self> {
        let start = reserve(SCRATCH_BYTES, Protection::ReadWrite).ok()?;
        // SAFETY: the mapping just made. A refusal costs children of forks the addresses.
        let _ = unsafe { advise(start, SCRATCH_BYTES, Advice::DontFork) };
        Some(Self { start })
    }

    fn parts(&mut self) -> (&mut [Candidate], &mut [Group]) {
        let candidates = self.start.as_ptr().cast::<Candidate>();
        let groups = self.start.as_ptr().wrapping_add(CANDIDATES_BYTES).cast::<Group>();
        // SAFETY: the first part of the mapping, zeroed at first, which is a valid candidate; page
        // aligned; borrowed like `self`.
        let candidates = unsafe { core::slice::from_raw_parts_mut(candidates, BATCH_COUNT) };
        // SAFETY: likewise the rest, which does not overlap.
        let groups = unsafe { core::slice::from_raw_parts_mut(groups, BATCH_COUNT) };
        (candidates, groups)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // SAFETY: the whole mapping, used through this value only. A refusal leaves it.
        let _ = unsafe { release(self.start, SCRATCH_BYTES) };
    }
}

/// Passes over the whole heap. Milliseconds per thousand windows; the longest time that anybody
/// else waits is a step's.
pub(crate) fn pass(barrier: &Barrier) -> Done {
    let cpu_start_ns = thread_cpu_ns();
    let mut done = Done::default();
    if let Some(mut scratch) = Scratch::new() {
        let wanted = MAPPINGS_OF_A_WINDOW * count_sparse() * SLICE_WINDOWS;
        let worths = if wanted <= mappings_left() { &WORTHS[WORTHS.len() - 1..] } else { &WORTHS };
        for pages_per_four in worths {
            let worth = Worth { pages_per_four: *pages_per_four };
            whole_heap(barrier, &mut scratch, worth, &mut done);
            if done.is_stopped {
                break;
            }
        }
    }
    PASSES.fetch_add(1, Ordering::Relaxed);
    CPU_NS.fetch_add(thread_cpu_ns().saturating_sub(cpu_start_ns), Ordering::Relaxed);
    done
}

fn whole_heap(barrier: &Barrier, scratch: &mut Scratch, worth: Worth, done: &mut Done) {
    // A NUMA node's part by itself, so that no window's memory moves to another node.
    let mut part = 0;
    while let Some(slices) = slices_of(part) {
        let mut next = slices.start;
        while next < slices.end && !done.is_stopped {
            let (candidates, groups) = scratch.parts();
            let mut count = 0;
            while next < slices.end && count + SLICE_WINDOWS <= BATCH_COUNT {
                count += collect(next, &mut candidates[count..]);
                next += 1;
            }
            let taken = pack(&mut candidates[..count], &mut groups[..count], worth);
            execute(barrier, &candidates[..taken], done);
        }
        part += 1;
    }
}

/// The slices ever used of the region's part `part`; none when there is no such part.
fn slices_of(part: usize) -> Option<Range<SliceIndex>> {
    lock().runs.ranges().nth(part)
}

/// Mappings that merging may still make.
fn mappings_left() -> usize {
    let limit = max_mapping_count();
    let used = mappings_now().unwrap_or(limit);
    (limit - limit / 4).saturating_sub(used)
}

/// A guess, without a lock: whether the slice is a span that has windows to merge.
fn may_be_merged(span: Span) -> bool {
    let head = span.head();
    head.owner.load(Ordering::Relaxed) == PASSIVE
        && head.bit_count.load(Ordering::Relaxed) > 0
        && (0..SLICE_WINDOWS).any(|window| is_open(span, window))
}

/// How many spans may have windows to merge.
fn count_sparse() -> usize {
    let parts = (0..).map_while(slices_of);
    parts.flatten().filter(|index| may_be_merged(Span::at(*index))).count()
}

/// Writes the windows of the span at `index` that may be merged to `candidates`, of which there
/// are at least [`SLICE_WINDOWS`]; returns how many.
fn collect(index: SliceIndex, candidates: &mut [Candidate]) -> usize {
    let guess = Span::at(index);
    if !may_be_merged(guess) {
        return 0;
    }
    let pool = lock_class(guess.class_index());
    let span = Span::at(index);
    if span.class_index() != guess.class_index() || !may_be_merged(span) {
        return 0;
    }
    if span.head().is_dirty.load(Ordering::Relaxed) != 0 {
        if !span.place().is_merged() {
            // Something was freed since a purger came by.
            return 0;
        }
        purge_pages(span);
    }
    let mut count = 0;
    for window in (0..SLICE_WINDOWS).filter(|window| is_open(span, *window)) {
        let mask = live_mask(span, window);
        let (live_bytes, page_count) = (mask.live_bytes(), mask.page_count());
        let (part, whole) = DENSE_SHARE;
        if mask == Mask::EMPTY || live_bytes * whole > page_count * PAGE_UNIT_BYTES * part {
            continue;
        }
        candidates[count] = Candidate {
            mask,
            slice: index,
            window: window as u8,
            class_index: span.class_index() as u8,
            page_count: page_count as u16,
            live_bytes: live_bytes as u16,
            group: NO_GROUP,
        };
        count += 1;
    }
    drop(pool);
    count
}

/// Merges the windows of each group, which are next to each other.
fn execute(barrier: &Barrier, candidates: &[Candidate], done: &mut Done) {
    let mut left = mappings_left();
    let mut segment: Option<Segment> = None;
    for group in candidates.chunk_by(|a, b| a.group == b.group) {
        if left < group.len() * MAPPINGS_OF_A_WINDOW {
            // Windows next to each other cost less than was thought.
            left = mappings_left();
            if left < group.len() * MAPPINGS_OF_A_WINDOW {
                set_state(MergeState::NoMappings);
                done.is_stopped = true;
                break;
            }
        }
        left -= group.len() * MAPPINGS_OF_A_WINDOW;
        let Some(number) = begin_group(&mut segment) else {
            set_state(MergeState::NoMemoryFile);
            done.is_stopped = true;
            break;
        };
        let Some(segment) = &mut segment else { break };
        let before = segment.taken_bytes();
        for candidate in group {
            let start_ns = monotonic_ns();
            let outcome = merge_window(barrier, segment, number, candidate);
            STEP_NS_MAX.fetch_max(monotonic_ns().saturating_sub(start_ns), Ordering::Relaxed);
            match outcome {
                Outcome::Merged => {
                    note_merged(usize::from(candidate.page_count));
                    done.merged += 1;
                }
                Outcome::Changed => {}
                Outcome::Refused(errno) => {
                    REFUSED.fetch_add(1, Ordering::Relaxed);
                    if errno == Errno::ENOMEM {
                        left = 0;
                    }
                }
            }
        }
        FILE_BYTES.fetch_add((segment.taken_bytes() - before) as u64, Ordering::Relaxed);
    }
}

/// Begins a group, in a new segment when the old one is full.
fn begin_group(segment: &mut Option<Segment>) -> Option<usize> {
    if let Some(number) = segment.as_mut().and_then(Segment::begin_group) {
        return Some(number);
    }
    *segment = Segment::new().ok();
    segment.as_mut().and_then(Segment::begin_group)
}
