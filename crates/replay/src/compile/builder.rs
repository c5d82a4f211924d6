//! Takes changes in the recording's order and builds the plan in one pass.
//!
//! Two things are known only later and are filled in then: that a block will be ended by
//! another thread than the one that made it (its slot, see [`super::slots`]), and which of its
//! pages get written (its touch list, see [`super::touch`]).
#![forbid(unsafe_code)]

use std::collections::HashMap;

use heapwright_format::AllocKind;
use heapwright_format::file::Recording;
use heapwright_format::objects::{Change, MatchCounts, ObjectId};

use super::blocks::{Block, Blocks, Large, Version};
use super::slots::Slots;
use super::threads::{Place, Threads};
use super::touch::{TouchLists, WrittenPages};
use crate::error::ReplayError;
use crate::op::{self, How};
use crate::plan::{EpochEnd, Gathered, Plan, PlanFacts, SITE_UNKNOWN, SiteFacts};

/// Bytes born in one epoch at most, at a small heap; else a share of the peak so far.
const EPOCH_BYTES_MIN: u64 = 256 << 10;
/// The share: drift between threads so cannot move the live bytes by more than some percent.
const EPOCH_PEAK_DIVISOR: u64 = 256;
/// Alignment that every allocator gives without being asked, as log2.
const NATURAL_ALIGN_LOG2: u8 = 4;
/// What `valloc` and `pvalloc` align to, as log2.
const OS_PAGE_LOG2: u8 = 12;

/// How closely replayed threads keep together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Events of an epoch; none chooses 16 to 512 by the length of the recording.
    pub epoch_events: Option<u32>,
    /// Epochs that a thread may be ahead of the slowest in timing runs. 0 with one event an
    /// epoch gives exactly the recorded order.
    pub window: u32,
}

impl Default for Shape {
    fn default() -> Self {
        Self { epoch_events: None, window: 8 }
    }
}

impl Shape {
    /// Exactly the recorded order: one event at a time, over all threads. Slow with threads.
    pub fn strict() -> Self {
        Self { epoch_events: Some(1), window: 0 }
    }
}

/// Builds a [`Plan`] from changes; for callers that pass over the recording anyway.
#[derive(Debug)]
pub struct PlanBuilder {
    facts: PlanFacts,
    epoch_events: u32,
    touch_bytes_min: u64,
    page_bytes: u64,
    threads: Threads,
    slots: Slots,
    blocks: Blocks,
    touches: TouchLists,
    epochs: Vec<EpochEnd>,
    epoch: u32,
    events_in_epoch: u32,
    bytes_in_epoch: u64,
    now: EpochEnd,
    peak: EpochEnd,
    peak_epoch: u32,
    /// Bytes that are surely touched, to foresee the memory a run needs.
    touched_bytes: u64,
    touched_bytes_max: u64,
    first_time: Option<u64>,
    units_per_second: f64,
    unseen_mappings: u64,
    /// Live blocks of routed sites: the site, and the thread that made the block.
    routed: HashMap<ObjectId, Routed>,
    /// Whether the call site of every block is kept, and that of the block born next.
    keeps_births: bool,
    birth_site: u32,
}

/// A live block of a routed call site.
#[derive(Clone, Copy, Debug)]
struct Routed {
    site: u32,
    maker: usize,
    align_log2: u8,
}

impl Routed {
    /// For the word of a large operation on the block.
    fn detail(self) -> u64 {
        op::large_detail(self.align_log2, Some(self.site))
    }
}

impl PlanBuilder {
    /// Begins a plan for process number `process` of `recording`.
    ///
    /// # Errors
    /// [`ReplayError::Sampled`], [`ReplayError::NoProcess`], [`ReplayError::NoEvents`].
    pub fn new(recording: &Recording, process: usize, shape: Shape) -> Result<Self, ReplayError> {
        let session = recording.session();
        let path = recording.path().to_owned();
        if session.sample_bytes > 0 {
            return Err(ReplayError::Sampled { path, sample_bytes: session.sample_bytes });
        }
        let processes = recording.processes();
        let Some(record) = processes.get(process) else {
            return Err(ReplayError::NoProcess { path, process, count: processes.len() });
        };
        if record.events == 0 {
            return Err(ReplayError::NoEvents { path, pid: record.info.pid });
        }
        let mut threads = Threads::default();
        let mut numbers: Vec<(u32, u32)> = (0..record.section_count())
            .map(|index| record.section_head(index))
            .map(|head| (head.thread, head.thread_id))
            .collect();
        numbers.sort_unstable();
        numbers.dedup();
        for &(number, thread_id) in &numbers {
            threads.enter(number, thread_id == record.info.pid);
        }
        let by_length = (record.events / 1024).clamp(16, 512) as u32;
        let facts = PlanFacts {
            process,
            pid: record.info.pid,
            exe: record.info.exe.clone(),
            window: shape.window,
            ..PlanFacts::default()
        };
        Ok(Self {
            facts,
            epoch_events: shape.epoch_events.unwrap_or(by_length).max(1),
            touch_bytes_min: session.touch_bytes_min,
            page_bytes: u64::from(record.info.page_bytes.max(4096)),
            slots: Slots::new(shape.window, threads.all.len()),
            threads,
            blocks: Blocks::default(),
            touches: TouchLists::default(),
            epochs: Vec::new(),
            epoch: 0,
            events_in_epoch: 0,
            bytes_in_epoch: 0,
            now: EpochEnd::default(),
            peak: EpochEnd::default(),
            peak_epoch: 0,
            touched_bytes: 0,
            touched_bytes_max: 0,
            first_time: None,
            units_per_second: recording.units_per_second(),
            unseen_mappings: 0,
            routed: HashMap::new(),
            keeps_births: false,
            birth_site: SITE_UNKNOWN,
        })
    }

    /// As [`PlanBuilder::new`], for a plan that keeps the call site of every block, so that stock
    /// can be taken ([`crate::take_stock`]). 4 bytes a block more.
    ///
    /// # Errors
    /// As for [`PlanBuilder::new`].
    pub fn with_births(
        recording: &Recording,
        process: usize,
        shape: Shape,
    ) -> Result<Self, ReplayError> {
        let mut builder = Self::new(recording, process, shape)?;
        builder.keeps_births = true;
        builder.facts.keeps_births = true;
        Ok(builder)
    }

    /// As [`PlanBuilder::change`]; the block that is born by it, if one is, is of call site number
    /// `site` (of no known one where there is none).
    pub fn birth_change(&mut self, time: u64, thread: u32, change: &Change, site: Option<u32>) {
        self.birth_site = site.unwrap_or(SITE_UNKNOWN);
        self.change(time, thread, change);
    }

    /// As [`PlanBuilder::change`] for the birth of a block of routed call site number `site`.
    pub fn site_change(&mut self, time: u64, thread: u32, change: &Change, site: u32) {
        if let Change::Born { object, .. } = change {
            let thread = self.threads.position(thread);
            self.routed.insert(*object, Routed { site, maker: thread, align_log2: 0 });
        }
        self.change(time, thread, change);
    }

    /// Adds a sentence for the reader of the report.
    pub fn note(&mut self, text: String) {
        self.facts.notes.push(text);
    }

    /// Tells what could not be matched ([`heapwright_format::objects::Objects::counts`]).
    pub fn matched(&mut self, counts: MatchCounts) {
        if counts.unknown_frees > 0 {
            let text = format!(
                "{} frees of blocks from before the recording are left out",
                counts.unknown_frees
            );
            self.note(text);
        }
        if counts.lost_frees > 0 {
            self.note(format!("{} lost frees were made up for", counts.lost_frees));
        }
    }

    /// Takes the next change, at `time` (in units) by the thread that numbers itself `thread`.
    pub fn change(&mut self, time: u64, thread: u32, change: &Change) {
        let first_time = *self.first_time.get_or_insert(time);
        self.now.time_s = time.saturating_sub(first_time) as f64 / self.units_per_second;
        let thread = self.threads.position(thread);
        match change {
            Change::Born { object, size, align_log2, kind, .. } => {
                self.born(thread, *object, *size, *align_log2, *kind);
            }
            Change::Resized { object, size, .. } => self.resized(thread, *object, *size),
            Change::Died { object, .. } => self.died(thread, *object),
            Change::Trimmed { object, offset, bytes } => {
                self.trimmed(thread, *object, *offset, *bytes);
            }
            Change::Touched { object, resident_pages, page_count, runs } => {
                self.touched(thread, *object, *resident_pages, *page_count, runs);
            }
            Change::ThreadEnd => {
                self.threads.append(thread, self.epoch, &[]);
                self.threads.all[thread].ended = true;
                self.slots.end_thread(thread, self.epoch);
            }
            _ => {}
        }
        self.now.events += 1;
        self.events_in_epoch += 1;
        let bytes_max = (self.peak.live_bytes / EPOCH_PEAK_DIVISOR).max(EPOCH_BYTES_MIN);
        if self.events_in_epoch >= self.epoch_events || self.bytes_in_epoch >= bytes_max {
            self.end_epoch();
        }
    }

    /// Completes the plan and lays it down in memory that workers can map.
    ///
    /// # Errors
    /// [`ReplayError::TooLong`] or [`ReplayError::System`].
    pub fn finish(mut self) -> Result<Plan, ReplayError> {
        if self.events_in_epoch > 0 {
            self.end_epoch();
        }
        self.resolve_survivors();
        if self.threads.too_long {
            return Err(ReplayError::TooLong { events: self.now.events });
        }
        if self.facts.operations > 0 && self.threads.split_at_peak(self.peak_epoch) {
            self.epochs.insert(self.peak_epoch as usize, self.peak);
        }
        if self.unseen_mappings > 0 {
            let text = format!(
                "{} mappings of the program were never looked at; replay leaves their pages \
                 untouched",
                self.unseen_mappings
            );
            self.note(text);
        }
        let gathered = Gathered {
            threads: self.threads.all,
            slot_count: self.slots.count(),
            touches: self.touches,
            epochs: self.epochs,
            peak_epoch: self.peak_epoch,
            touched_bytes_max: self.touched_bytes_max,
            page_bytes: self.page_bytes,
        };
        Plan::lay_down(self.facts, gathered)
    }

    fn end_epoch(&mut self) {
        self.epochs.push(self.now);
        self.epoch += 1;
        self.events_in_epoch = 0;
        self.bytes_in_epoch = 0;
    }

    fn is_large(&self, size: u64) -> bool {
        size > op::SIZE_MAX || self.touch_bytes_min > 0 && size >= self.touch_bytes_min
    }

    fn born(
        &mut self,
        thread: usize,
        object: ObjectId,
        size: u64,
        align_log2: u8,
        kind: AllocKind,
    ) {
        let align_log2 = match kind {
            AllocKind::Valloc | AllocKind::Pvalloc => align_log2.max(OS_PAGE_LOG2),
            _ => align_log2.min(47),
        };
        let how = match kind {
            AllocKind::Mmap => How::Mapped,
            _ if align_log2 > NATURAL_ALIGN_LOG2 => How::Aligned,
            _ if kind.is_zeroed() => How::Calloc,
            _ => How::Malloc,
        };
        let slot = self.slots.take_own(thread, self.epoch);
        let is_large = how == How::Mapped || self.is_large(size);
        if self.keeps_births && how != How::Mapped {
            self.threads.all[thread].births.push(self.birth_site);
        }
        if how == How::Mapped {
            // No allocator's block, so no region's either.
            self.routed.remove(&object);
        }
        let site = self.routed.get_mut(&object).map(|routed| {
            routed.align_log2 = align_log2;
            routed.site
        });
        if let Some(site) = site {
            self.site(site).begin(size);
            if !is_large {
                let place = self.site_born(thread, slot, size, site, align_log2, how);
                self.enter(object, slot, place, size, None);
                self.facts.aligned |= how == How::Aligned;
                self.facts.operations += 1;
                self.now.live_blocks += 1;
                self.grow(size);
                return;
            }
        }
        if is_large {
            let field = how as u64 | op::large_detail(align_log2, site);
            let head = op::pack(op::LARGE_BORN, slot, field);
            let place = self.append(thread, &[head, op::halves(0, op::TOUCH_NONE), size]);
            let mut large = Large::new(place, WrittenPages::default(), 0);
            if how == How::Mapped {
                large.is_mapped = true;
                large.parts.push((0, size));
            }
            self.enter(object, slot, place, size, Some(Box::new(large)));
        } else {
            let code = match how {
                How::Calloc => op::CALLOC,
                How::Aligned => op::ALIGNED,
                _ => op::MALLOC,
            };
            let words = [op::pack(code, slot, size), u64::from(align_log2)];
            let count = op::word_count(code).unwrap_or(1);
            let place = self.append(thread, &words[..count]);
            self.enter(object, slot, place, size, None);
            self.touch_more(size);
        }
        self.facts.aligned |= how == How::Aligned;
        if how == How::Mapped {
            self.now.mapped_bytes += size;
        } else {
            self.facts.operations += 1;
            self.now.live_blocks += 1;
            self.grow(size);
        }
    }

    fn site(&mut self, site: u32) -> &mut SiteFacts {
        let index = site as usize;
        if self.facts.sites.len() <= index {
            self.facts.sites.resize(index + 1, SiteFacts::default());
        }
        &mut self.facts.sites[index]
    }

    fn site_born(
        &mut self,
        thread: usize,
        slot: u32,
        size: u64,
        site: u32,
        align_log2: u8,
        how: How,
    ) -> Place {
        self.touch_more(size);
        let zeroed = if how == How::Calloc { op::ZEROED } else { 0 };
        let detail = op::halves(site, u32::from(align_log2) | zeroed);
        self.append(thread, &[op::pack(op::SITE_BORN, slot, size), detail])
    }

    fn site_died(&mut self, thread: usize, slot: u32, size: u64, routed: Routed) {
        let Routed { site, align_log2, .. } = routed;
        self.touch_less(size);
        self.append(
            thread,
            &[op::pack(op::SITE_DIED, slot, size), op::halves(site, u32::from(align_log2))],
        );
    }

    /// Counts the end of a routed block of `size` bytes by `thread`.
    fn site_ends(&mut self, thread: usize, size: u64, routed: Routed) {
        let facts = self.site(routed.site);
        facts.end(size);
        facts.handed_over += u64::from(routed.maker != thread);
    }

    /// A routed block becomes one of `size` bytes, made by `thread`; what it was before.
    fn site_passes(
        &mut self,
        thread: usize,
        object: ObjectId,
        old_size: u64,
        size: u64,
    ) -> Option<Routed> {
        let routed = *self.routed.get(&object)?;
        self.site_ends(thread, old_size, routed);
        self.site(routed.site).begin(size);
        let now = Routed { maker: thread, align_log2: 0, ..routed };
        self.routed.insert(object, now);
        Some(routed)
    }

    /// A small block of a site is resized by whatever serves the site, as well as that can.
    fn site_resized(&mut self, thread: usize, object: ObjectId, size: u64) {
        let Some((slot, block)) = self.take_version(thread, object) else { return };
        let old_size = std::mem::replace(&mut block.size, size);
        let Some(routed) = self.site_passes(thread, object, old_size, size) else { return };
        let head = op::pack(op::SITE_RESIZED, slot, size);
        let detail = op::halves(routed.site, u32::from(routed.align_log2));
        let place = self.append(thread, &[head, op::halves(slot, old_size as u32), detail]);
        self.touch_less(old_size);
        self.touch_more(size);
        self.begin_version(object, slot, place);
        self.facts.operations += 1;
        self.now.live_bytes -= old_size;
        self.grow(size);
    }

    fn resized(&mut self, thread: usize, object: ObjectId, size: u64) {
        if self.routed.contains_key(&object)
            && !self.is_large(size)
            && self.blocks.get_mut(object).is_some_and(|block| block.large.is_none())
        {
            self.site_resized(thread, object, size);
            return;
        }
        let Some((source, block)) = self.take_version(thread, object) else { return };
        let (old_size, is_large) = (block.size, block.large.is_some());
        let routed = self.site_passes(thread, object, old_size, size);
        let large = self.blocks.get_mut(object).and_then(|block| block.large.take());
        let place = if is_large || self.is_large(size) {
            let old_pages = self.pages(old_size.min(size));
            let pages = match large {
                Some(large) => {
                    let bytes = self.resolve(&large, old_size);
                    self.touch_more(bytes);
                    self.touch_less(bytes);
                    let mut pages = large.pages;
                    pages.shrink(old_pages);
                    pages
                }
                None => {
                    let mut pages = WrittenPages::default();
                    pages.see_runs(&[(0, old_pages)], old_pages);
                    pages
                }
            };
            let was_large = if is_large { op::WAS_LARGE } else { 0 };
            let detail = routed.map_or(0, |routed| routed.detail());
            let head = op::pack(op::LARGE_RESIZED, source, was_large | detail);
            let target = op::halves(source, op::TOUCH_NONE);
            let place = self.append(thread, &[head, target, size, old_size]);
            if self.is_large(size) {
                let large = Large::new(place, pages, old_size);
                self.set_large(object, Some(Box::new(large)));
            }
            place
        } else {
            let head = op::pack(op::REALLOC, source, size);
            let place = self.append(thread, &[head, op::halves(source, old_size as u32)]);
            self.touch_less(old_size);
            self.touch_more(size);
            place
        };
        self.begin_version(object, source, place);
        if let Some(block) = self.blocks.get_mut(object) {
            block.size = size;
        }
        self.facts.operations += 1;
        self.now.live_bytes -= old_size;
        self.grow(size);
    }

    fn died(&mut self, thread: usize, object: ObjectId) {
        let Some((slot, _)) = self.take_version(thread, object) else { return };
        let Some(block) = self.blocks.remove(object) else { return };
        let is_mapped = block.is_mapped();
        let routed = self.routed.remove(&object);
        if let Some(routed) = routed {
            self.site_ends(thread, block.size, routed);
        }
        if let (Some(routed), None) = (routed, &block.large) {
            self.site_died(thread, slot, block.size, routed);
            self.slots.give(thread, slot, self.epoch);
            self.facts.operations += 1;
            self.now.live_bytes -= block.size;
            self.now.live_blocks -= 1;
            return;
        }
        match &block.large {
            Some(large) => {
                let bytes = self.resolve(large, block.size);
                self.touch_more(bytes);
                self.touch_less(bytes);
                let (start, end) = large.last_part(block.size);
                let detail = routed.map_or(0, |routed| routed.detail());
                let head = op::pack(op::LARGE_DIED, slot, u64::from(is_mapped) | detail);
                self.append(thread, &[head, 0, end - start, start]);
                self.touch_less(large.pages.count() * self.page_bytes);
                if is_mapped {
                    self.now.mapped_bytes -= end - start;
                }
            }
            None => {
                self.append(thread, &[op::pack(op::FREE, slot, block.size)]);
                self.touch_less(block.size);
            }
        }
        self.slots.give(thread, slot, self.epoch);
        if !is_mapped {
            self.facts.operations += 1;
            self.now.live_bytes -= block.size;
            self.now.live_blocks -= 1;
        }
    }

    fn trimmed(&mut self, thread: usize, object: ObjectId, offset: u64, bytes: u64) {
        let Some((source, _)) = self.take_version(thread, object) else { return };
        let head = op::pack(op::TRIM, source, 0);
        let place = self.append(thread, &[head, op::halves(source, 0), offset, bytes]);
        self.begin_version(object, source, place);
        let Some(large) = self.blocks.get_mut(object).and_then(|block| block.large.as_mut()) else {
            return;
        };
        let end = offset + bytes;
        let cut = |&(part_start, part_end): &(u64, u64)| {
            let before = (part_start, part_end.min(offset));
            let after = (part_start.max(end), part_end);
            [before, after].into_iter().filter(|part| part.0 < part.1)
        };
        large.parts = large.parts.iter().flat_map(cut).collect();
        self.now.mapped_bytes -= bytes;
    }

    fn touched(
        &mut self,
        thread: usize,
        object: ObjectId,
        resident_pages: u32,
        page_count: u32,
        runs: &[(u32, u32)],
    ) {
        let (is_mapped, size) = match self.blocks.get_mut(object) {
            Some(block) if block.large.is_some() => (block.is_mapped(), block.size),
            _ => return,
        };
        // A block that begins amid an OS page touches one more than its length says; replay
        // counts pages from the block's first byte.
        let page_limit = self.pages(size);
        let Some((source, _)) = self.take_version(thread, object) else { return };
        let head = op::pack(op::TOUCH, source, u64::from(is_mapped));
        let place = self.append(thread, &[head, op::halves(source, op::TOUCH_NONE)]);
        self.begin_version(object, source, place);
        let Some(large) = self.blocks.get_mut(object).and_then(|block| block.large.as_mut()) else {
            return;
        };
        let fresh = match runs {
            [] => large.pages.see_count(resident_pages, page_count.min(page_limit)),
            runs => large.pages.see_runs(runs, page_limit),
        };
        let look = std::mem::replace(&mut large.look, place);
        large.was_looked_at = true;
        let fresh_pages: u64 = fresh.iter().map(|run| u64::from(run.count)).sum();
        if !fresh.is_empty() {
            let list = match self.threads.touch_list(look) {
                op::TOUCH_NONE => self.touches.add(fresh),
                known => {
                    let all = [self.touches.get(known).to_vec(), fresh].concat();
                    self.touches.add(all)
                }
            };
            self.threads.set_touch_list(look, list);
        }
        self.touch_more(fresh_pages * self.page_bytes);
    }

    /// What `thread` needs in order to operate on a block: its slot, waited for if another
    /// thread filled it.
    fn take_version(&mut self, thread: usize, object: ObjectId) -> Option<(u32, &mut Block)> {
        let block = self.blocks.get_mut(object)?;
        let version = block.version;
        let maker = version.place.thread as usize;
        if maker != thread {
            let slot = self.slots.take_between(version.epoch);
            self.threads.set_target(version.place, slot);
            self.slots.give(maker, version.slot, self.epoch);
            if self.threads.all[maker].ended {
                self.slots.end_thread(maker, self.epoch);
            }
            block.version.slot = slot;
            self.facts.handovers += 1;
        }
        Some((block.version.slot, block))
    }

    fn begin_version(&mut self, object: ObjectId, slot: u32, place: Place) {
        let epoch = self.epoch;
        if let Some(block) = self.blocks.get_mut(object) {
            block.version = Version { slot, place, epoch };
        }
    }

    fn set_large(&mut self, object: ObjectId, large: Option<Box<Large>>) {
        if let Some(block) = self.blocks.get_mut(object) {
            block.large = large;
        }
    }

    fn enter(
        &mut self,
        object: ObjectId,
        slot: u32,
        place: Place,
        size: u64,
        large: Option<Box<Large>>,
    ) {
        let version = Version { slot, place, epoch: self.epoch };
        self.blocks.insert(object, Block { version, size, large });
    }

    /// Decides about the pages of a large block of `size` bytes that nobody looked at while it
    /// had this size: a block counts as written, a mapping as not, unless it was too small to
    /// be looked at. Returns how many bytes that adds to the written ones.
    fn resolve(&mut self, large: &Large, size: u64) -> u64 {
        if large.was_looked_at {
            return 0;
        }
        if large.is_mapped && (self.touch_bytes_min == 0 || size >= self.touch_bytes_min) {
            self.unseen_mappings += 1;
            return 0;
        }
        self.threads.set_touch_list(large.sized, op::TOUCH_ALL);
        size.saturating_sub(large.old_size)
    }

    /// The same for what is alive at the end.
    fn resolve_survivors(&mut self) {
        let survivors: Vec<(Large, u64)> = self
            .blocks
            .iter()
            .filter_map(|block| Some(((**block.large.as_ref()?).clone(), block.size)))
            .collect();
        for (large, size) in &survivors {
            let bytes = self.resolve(large, *size);
            self.touch_more(bytes);
        }
    }

    fn append(&mut self, thread: usize, words: &[u64]) -> Place {
        self.threads.append(thread, self.epoch, words)
    }

    fn grow(&mut self, size: u64) {
        self.bytes_in_epoch += size;
        self.now.live_bytes += size;
        if self.now.live_bytes > self.peak.live_bytes {
            self.peak = EpochEnd { events: self.now.events + 1, ..self.now };
            self.peak_epoch = self.epoch;
            self.threads.mark_peak();
        }
    }

    fn touch_more(&mut self, bytes: u64) {
        self.touched_bytes += bytes;
        self.touched_bytes_max = self.touched_bytes_max.max(self.touched_bytes);
    }

    fn touch_less(&mut self, bytes: u64) {
        self.touched_bytes = self.touched_bytes.saturating_sub(bytes);
    }

    fn pages(&self, size: u64) -> u32 {
        size.div_ceil(self.page_bytes).min(u64::from(u32::MAX)) as u32
    }
}
