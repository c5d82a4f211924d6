//! The second pass: how each call site's blocks live and die.
//!
//! A *lane* is a site and a thread: the blocks that this thread allocated there. Order of
//! death (last in, first out; together) is judged within lanes, since regions have one owner.

use heapwright_format::AllocKind;
use heapwright_format::objects::{Change, ObjectId};
use heapwright_format::stacks::StackId;
use rustc_hash::FxHashMap;

use crate::grouping::{Grouping, NO_SITE};
use crate::histogram::{LogHistogram, ValueSet};
use crate::live::LiveTable;
use crate::walk::Step;
use crate::weight::Weights;

/// Fewest deaths in a row that are a batch.
const BATCH_DEATHS_MIN: u32 = 4;

/// Threads told apart when temporaries are counted: more than any recorder numbers, and few
/// enough that a damaged recording cannot ask for much memory.
const THREAD_MAX: u32 = 1 << 20;

const NO_BLOCK: u32 = u32::MAX;

/// What a site did. Sums are weighted in a sampled recording; the rest counts blocks as they
/// were recorded.
#[derive(Clone, Debug, Default)]
pub(crate) struct SiteMeasure {
    pub(crate) allocs: f64,
    pub(crate) bytes: f64,
    pub(crate) live_at_peak: f64,
    pub(crate) live_at_end: f64,
    pub(crate) live_blocks_at_end: f64,
    pub(crate) sizes: ValueSet,
    pub(crate) lifetimes: LogHistogram,
    pub(crate) kinds: [u64; AllocKind::ALL.len()],
    pub(crate) threads: u32,
    pub(crate) blocks: u64,
    pub(crate) deaths: u64,
    pub(crate) same_thread: u64,
    pub(crate) lifo: u64,
    pub(crate) batched: u64,
    pub(crate) temporaries: u64,
    pub(crate) resized: u64,
    /// Resizes, and those of the block that its thread allocated last of this site.
    pub(crate) resizes: u64,
    pub(crate) resizes_of_newest: u64,
}

/// What a stack holds at the two moments that pictures show.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct StackMeasure {
    pub(crate) live_at_peak: f64,
    pub(crate) blocks_at_peak: f64,
    pub(crate) live_at_end: f64,
    pub(crate) blocks_at_end: f64,
    pub(crate) temporaries: f64,
}

struct LiveBlock {
    stack: StackId,
    lane: u32,
    thread: u32,
    size: u64,
    weight: f64,
    birth_clock: u64,
    is_resized: bool,
    /// Places of the next older and next younger block of the lane.
    older: u32,
    younger: u32,
}

struct Lane {
    site: u32,
    youngest: u32,
    live: u32,
    /// Deaths since the lane last allocated, and the blocks alive when they began.
    run: u32,
    run_start_live: u32,
}

/// State of the second pass.
pub(crate) struct Measure<'g> {
    pub(crate) sites: Vec<SiteMeasure>,
    pub(crate) stacks: Vec<StackMeasure>,
    grouping: &'g Grouping,
    weights: Weights,
    peak_change: u64,
    blocks: LiveTable<LiveBlock>,
    lanes: Vec<Lane>,
    lane_of: FxHashMap<(u32, u32), u32>,
    /// For each thread the last block it allocated, while it has allocated nothing since.
    last_born: Vec<Option<ObjectId>>,
    clock: u64,
}

impl<'g> Measure<'g> {
    /// `peak_change` is the number of the change after which to take stock.
    pub(crate) fn new(grouping: &'g Grouping, weights: Weights, peak_change: u64) -> Self {
        Self {
            sites: vec![SiteMeasure::default(); grouping.sites.len()],
            stacks: vec![StackMeasure::default(); grouping.site_of_stack.len()],
            grouping,
            weights,
            peak_change,
            blocks: LiveTable::default(),
            lanes: Vec::new(),
            lane_of: FxHashMap::default(),
            last_born: Vec::new(),
            clock: 0,
        }
    }

    /// Takes the next change.
    pub(crate) fn visit(&mut self, step: &Step) {
        match step.change {
            Change::Born { object, size, kind, stack, .. } if kind != AllocKind::Mmap => {
                self.born(object, size, kind, stack, step.thread);
            }
            Change::Resized { object, old_size, size, .. } => {
                self.resized(object, old_size, size, step.thread);
            }
            Change::Died { object, .. } => self.died(object, step.thread),
            _ => {}
        }
        if step.index == self.peak_change {
            self.take_stock(true);
        }
    }

    /// After the last change: ends what is still going on.
    pub(crate) fn finish(&mut self) {
        self.take_stock(false);
        for lane in &mut self.lanes {
            lane.end_run(&mut self.sites);
        }
        let blocks = std::mem::take(&mut self.blocks);
        for block in blocks.values() {
            self.end(block);
        }
    }

    fn born(&mut self, object: ObjectId, size: u64, kind: AllocKind, stack: StackId, thread: u32) {
        let site = self.grouping.site_of_stack[stack.0 as usize];
        debug_assert_ne!(site, NO_SITE, "the first pass saw this allocation");
        let weight = self.weights.of(size);
        let bytes = weight * size as f64;
        self.clock = self.clock.saturating_add(bytes as u64);
        let measure = &mut self.sites[site as usize];
        measure.allocs += weight;
        measure.bytes += bytes;
        measure.blocks += 1;
        measure.sizes.add(size, 1);
        measure.kinds[kind as usize] += 1;
        let lanes = &mut self.lanes;
        let lane_index = *self.lane_of.entry((site, thread)).or_insert_with(|| {
            measure.threads += 1;
            let youngest = NO_BLOCK;
            lanes.push(Lane { site, youngest, live: 0, run: 0, run_start_live: 0 });
            lanes.len() as u32 - 1
        });
        let lane = &mut self.lanes[lane_index as usize];
        lane.end_run(&mut self.sites);
        let older = lane.youngest;
        let block = LiveBlock {
            stack,
            lane: lane_index,
            thread,
            size,
            weight,
            birth_clock: self.clock,
            is_resized: false,
            older,
            younger: NO_BLOCK,
        };
        let place = self.blocks.insert(object, block);
        lane.youngest = place;
        lane.live += 1;
        if older != NO_BLOCK {
            self.blocks.at(older).younger = place;
        }
        *self.last_born_by(thread) = Some(object);
    }

    fn resized(&mut self, object: ObjectId, old_size: u64, size: u64, thread: u32) {
        let last = self.last_born_by(thread);
        if *last != Some(object) {
            *last = None;
        }
        let Some(place) = self.blocks.place(object) else { return };
        let block = self.blocks.at(place);
        block.size = size;
        let growth = block.weight * size.saturating_sub(old_size) as f64;
        let lane = &self.lanes[block.lane as usize];
        let measure = &mut self.sites[lane.site as usize];
        measure.resizes += 1;
        measure.resizes_of_newest += u64::from(lane.youngest == place && block.thread == thread);
        measure.bytes += growth;
        measure.sizes.add(size, 1);
        measure.resized += u64::from(!block.is_resized);
        block.is_resized = true;
        self.clock = self.clock.saturating_add(growth as u64);
    }

    fn died(&mut self, object: ObjectId, thread: u32) {
        let Some((place, block)) = self.blocks.remove(object) else { return };
        let lane = &mut self.lanes[block.lane as usize];
        let measure = &mut self.sites[lane.site as usize];
        let is_same_thread = block.thread == thread;
        measure.deaths += 1;
        measure.same_thread += u64::from(is_same_thread);
        measure.lifo += u64::from(is_same_thread && lane.youngest == place);
        if lane.run == 0 {
            lane.run_start_live = lane.live;
        }
        lane.run += 1;
        lane.live -= 1;
        match block.younger {
            NO_BLOCK => lane.youngest = block.older,
            younger => self.blocks.at(younger).older = block.older,
        }
        if block.older != NO_BLOCK {
            self.blocks.at(block.older).younger = block.younger;
        }
        if *self.last_born_by(thread) == Some(object) {
            self.sites[self.lanes[block.lane as usize].site as usize].temporaries += 1;
            self.stacks[block.stack.0 as usize].temporaries += block.weight;
        }
        self.end(&block);
    }

    fn end(&mut self, block: &LiveBlock) {
        let site = self.lanes[block.lane as usize].site;
        let lifetime = self.clock - block.birth_clock;
        self.sites[site as usize].lifetimes.add(lifetime, block.weight.round() as u64);
    }

    fn take_stock(&mut self, is_peak: bool) {
        for block in self.blocks.values() {
            let bytes = block.weight * block.size as f64;
            let stack = &mut self.stacks[block.stack.0 as usize];
            let site = &mut self.sites[self.lanes[block.lane as usize].site as usize];
            if is_peak {
                stack.live_at_peak += bytes;
                stack.blocks_at_peak += block.weight;
                site.live_at_peak += bytes;
            } else {
                stack.live_at_end += bytes;
                stack.blocks_at_end += block.weight;
                site.live_at_end += bytes;
                site.live_blocks_at_end += block.weight;
            }
        }
    }

    fn last_born_by(&mut self, thread: u32) -> &mut Option<ObjectId> {
        let thread = thread.min(THREAD_MAX) as usize;
        if self.last_born.len() <= thread {
            self.last_born.resize(thread + 1, None);
        }
        &mut self.last_born[thread]
    }
}

impl Lane {
    /// The lane allocates, or the recording ends: a run of deaths is a batch when it is long
    /// enough and took at least half of what was alive.
    fn end_run(&mut self, sites: &mut [SiteMeasure]) {
        if self.run >= BATCH_DEATHS_MIN && 2 * u64::from(self.run) >= u64::from(self.run_start_live)
        {
            sites[self.site as usize].batched += u64::from(self.run);
        }
        self.run = 0;
    }
}
