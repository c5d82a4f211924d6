//! What the region's slices are used for, and what the blocks on its pages keep from going back
//! to the kernel.

use heapwright_core::size_class::class_bytes;
use heapwright_os::{mapping_count, page_bytes};
use heapwright_sync::atomic::Ordering;

use crate::descriptor::{FREE_RUN, LARGE, ORPHANED, PASSIVE, SliceIndex, THREAD_MIN, ZONE};
use crate::free::head_of;
use crate::limits::limits;
use crate::pool::{all_heaps, lock};
use crate::region::{BASE, BYTES, SLICE_BYTES, descriptor, slice_start};
use crate::span::{PAGE_UNIT_BYTES, Span};

/// What a run of slices is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RunKind {
    /// Small blocks of a thread.
    Active,
    /// Small blocks of no thread.
    Passive,
    /// Small blocks of a zone.
    Zone,
    /// One large block.
    Large,
    /// Free, maybe resident.
    FreeDirty,
    /// Free, the kernel's zero pages.
    FreeClean,
}

/// One run of slices.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct RunFacts {
    /// What it is.
    pub kind: RunKind,
    /// Its first slice; slices count from the start of the region.
    pub first_slice: u32,
    /// Its length.
    pub slices: u32,
    /// Small blocks: their class.
    pub class_index: u8,
    /// Small blocks: slots in use, those in threads' lists and on their way home included.
    pub used_slots: u32,
    /// Small blocks: all slots.
    pub slot_count: u32,
    /// Large block: usable bytes.
    pub large_bytes: u64,
    /// Whose it is: equal for spans of one thread's heap or one zone, and for a zone what
    /// [`Zone::to_raw`](crate::Zone::to_raw) tells; 0 for nobody's.
    pub holder: usize,
    /// NUMA node that its part of the region is for; 0 where there is one.
    pub node: u32,
}

/// The region as a whole. Bytes of addresses unless said otherwise.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct RegionFacts {
    /// Where it starts; 0 when there is none.
    pub start: usize,
    /// Its length.
    pub bytes: usize,
    /// Bytes of a slice.
    pub slice_bytes: usize,
    /// The first slice that was ever used; metadata lies before it.
    pub first_slice: u32,
    /// Behind the last slice that was ever used of the region's first part, which is all of it
    /// where there is one NUMA node.
    pub end_slice: u32,
    /// Slices ever used, of all parts.
    pub used_slices: u32,
    /// Usable bytes of blocks with a mapping of their own.
    pub direct_bytes: usize,
    /// Bytes that threads were handed for small blocks since the start, and large ones.
    pub handed_bytes: u64,
    /// Threads that have a heap.
    pub thread_count: u32,
    /// Mappings made by this process's memory system, as far as they are counted.
    pub mapping_count: usize,
    /// Bytes given back to the kernel since the start.
    pub purged_bytes: u64,
    /// The limit above which allocations fail; `usize::MAX` for none.
    pub hard_limit_bytes: usize,
    /// What counts towards it now.
    pub held_bytes: usize,
}

impl RunFacts {
    /// Length of the run.
    pub fn bytes(&self) -> usize {
        self.slices as usize * SLICE_BYTES
    }
}

/// Calls `visit` for each run in order of address: O(runs), under the pool's lock, so `visit`
/// must not allocate or free. Some 5 ns a run.
pub fn survey(mut visit: impl FnMut(&RunFacts)) -> RegionFacts {
    let handed_small: u64 = all_heaps().map(|heap| heap.handed_bytes.load(Ordering::Relaxed)).sum();
    let pool = lock();
    let mut used_slices = 0;
    for range in pool.runs.ranges() {
        used_slices += range.end - range.start;
        let mut index = range.start;
        let node = pool.runs.node_at(index);
        while index < range.end {
            match facts_at(index) {
                Some(facts) => {
                    visit(&RunFacts { node, ..facts });
                    index += facts.slices.max(1);
                }
                None => index += 1,
            }
        }
    }
    let first_part = pool.runs.ranges().next().unwrap_or(0..0);
    RegionFacts {
        start: BASE.load(Ordering::Relaxed).addr(),
        bytes: BYTES.load(Ordering::Relaxed),
        slice_bytes: SLICE_BYTES,
        first_slice: first_part.start,
        end_slice: first_part.end,
        used_slices,
        direct_bytes: pool.direct.usable_bytes,
        handed_bytes: handed_small + pool.handed_large_bytes,
        thread_count: crate::life::thread_count(),
        mapping_count: mapping_count(),
        purged_bytes: crate::purge::purged_bytes(),
        hard_limit_bytes: limits().hard_bytes,
        held_bytes: pool.runs.held_bytes(0),
    }
}

/// The run whose head is `index`; none for a slice that is no head.
fn facts_at(index: SliceIndex) -> Option<RunFacts> {
    let head = descriptor(index);
    let mut facts = RunFacts {
        kind: RunKind::Large,
        first_slice: index,
        slices: head.run_slices.load(Ordering::Relaxed),
        class_index: 0,
        used_slots: 0,
        slot_count: 0,
        large_bytes: 0,
        holder: head.heap.load(Ordering::Relaxed).addr(),
        node: 0,
    };
    facts.kind = match head.owner.load(Ordering::Relaxed) {
        LARGE => {
            facts.large_bytes = head.extra.load(Ordering::Relaxed);
            return Some(facts);
        }
        FREE_RUN => {
            let is_dirty = head.is_dirty.load(Ordering::Relaxed) != 0;
            facts.kind = if is_dirty { RunKind::FreeDirty } else { RunKind::FreeClean };
            facts.holder = 0;
            return Some(facts);
        }
        PASSIVE => {
            // Only a pending span is somebody's.
            if !Span::at(index).place().is_pending() {
                facts.holder = 0;
            }
            RunKind::Passive
        }
        ZONE => RunKind::Zone,
        owner if owner == ORPHANED || owner >= THREAD_MIN => RunKind::Active,
        _ => return None,
    };
    let span = Span::at(index);
    let used = if facts.kind == RunKind::Passive { span.passive_used() } else { span.used() };
    facts.class_index = span.class_index() as u8;
    facts.used_slots = used.clamp(0, span.slot_count()) as u32;
    facts.slot_count = span.slot_count() as u32;
    Some(facts)
}

/// What a small block keeps from going back to the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pinned {
    /// Its share, by live bytes, of the free bytes on its pages.
    pub bytes: f64,
    /// Bytes of those of its pages on which no other block lives.
    pub sole_bytes: u64,
}

/// What the block of `bytes` at `place`, live or thought to be, pins; nothing for large blocks.
///
/// Exact for spans that no thread owns (all are right after [`crate::trim`] in idle threads);
/// elsewhere free slots that are linked are taken to lie evenly among the used ones. O(slots of
/// the block's pages), no lock: what others do meanwhile blurs it.
pub fn pinned_by(place: *mut u8, bytes: usize) -> Pinned {
    let mut pinned = Pinned::default();
    let Some(span) = small_span_of(place) else { return pinned };
    let offset = place.addr() - slice_start(span.index()).addr();
    let (first, end) = (offset, offset + bytes);
    // Else the place was not held: as if the block lay there.
    let is_used = span.is_slot_used(span.slot_at(offset));
    let page = page_bytes();
    let mut start = first / page * page;
    while start < end {
        let here = end.min(start + page) - first.max(start);
        let mut live = live_on_page(span, start, page);
        if !is_used {
            live += here as f64;
        }
        let live = live.clamp(here as f64, page as f64);
        pinned.bytes += (page as f64 - live) * here as f64 / live;
        if live <= here as f64 {
            pinned.sole_bytes += page as u64;
        }
        start += page;
    }
    pinned
}

/// Free bytes on pages with live small blocks, over all spans: what the shares of all small
/// blocks add up to. O(slots); the pool's lock is taken for one span at a time.
pub fn pinned_in_total() -> u64 {
    let mut part = 0;
    let mut total = 0.0;
    loop {
        let range = lock().runs.ranges().nth(part);
        let Some(range) = range else { return total as u64 };
        total += pinned_in(range);
        part += 1;
    }
}

fn pinned_in(range: core::ops::Range<SliceIndex>) -> f64 {
    let page = page_bytes();
    let mut total = 0.0;
    let mut index = range.start;
    while index < range.end {
        let pool = lock();
        let Some(facts) = facts_at(index) else {
            index += 1;
            continue;
        };
        index += facts.slices.max(1);
        if facts.slot_count == 0 || facts.used_slots == 0 {
            continue;
        }
        let span = Span::at(facts.first_slice);
        for start in (0..facts.slices as usize * SLICE_BYTES).step_by(page) {
            let live = live_on_page(span, start, page);
            if live > 0.0 {
                total += (page as f64 - live).max(0.0);
            }
        }
        drop(pool);
    }
    total
}

fn small_span_of(place: *mut u8) -> Option<Span> {
    let head = head_of(place)?;
    let owner = head.owner.load(Ordering::Relaxed);
    let is_small = owner == PASSIVE || owner == ORPHANED || owner == ZONE || owner >= THREAD_MIN;
    is_small.then(|| Span::of(head))
}

/// Live bytes on the OS page of a span that starts at `start`.
fn live_on_page(span: Span, start: usize, page: usize) -> f64 {
    debug_assert!(page.is_multiple_of(PAGE_UNIT_BYTES));
    let geometry = span.geometry();
    let slot_bytes = geometry.slot_bytes as usize;
    let mut number = span.slot_at(start);
    let mut bytes = 0;
    while number < usize::from(geometry.slot_count) {
        let offset = span.slot_offset(number);
        if offset >= start + page {
            break;
        }
        if span.is_slot_used(number) {
            bytes += (offset + slot_bytes).min(start + page) - offset.max(start);
        }
        number += 1;
    }
    bytes as f64 * span.used_share()
}

/// Bytes of a slot of `class_index`; 0 when there is no such class.
pub fn slot_bytes_of(class_index: u8) -> usize {
    let class_index = usize::from(class_index);
    if class_index < heapwright_core::size_class::CLASS_COUNT {
        class_bytes(class_index)
    } else {
        0
    }
}
