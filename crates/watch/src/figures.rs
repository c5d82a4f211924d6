//! What stands in the page: one walk over the runs of the region.

use heapwright_core::live_page::{
    CELL_COUNT, CLASS_WORDS, Cell, Figures, HEAP_COUNT_MAX, HEAP_NAME_WORDS, HEAP_OF_THREAD,
    HEAP_SHARED, HEAP_WORDS, HEAP_ZONE, NODE_ROWS, NODE_WORDS, WORD_CLASSES, WORD_FIGURES,
    WORD_HEAPS, WORD_MAP, WORD_NODES, WORD_SEQUENCE,
};
use heapwright_core::size_class::CLASS_COUNT;
use heapwright_malloc::{RunFacts, RunKind, merge_statistics, slot_bytes_of, survey, zones};
use heapwright_os::monotonic_ns;
use heapwright_sync::atomic::{AtomicU8, AtomicU64, Ordering};

use crate::profile::{FREED, LOST, TABLE_BYTES, TAKEN, rate_bytes};

/// Slices of 64 KiB that one cell stands for at least, as a power of two that grows with the heap.
const SLICES_PER_CELL_MIN: u64 = 1;

/// Writes everything into the page. The caller is the only writer. With `has_names` heaps of the
/// program's own are told by name and limit: that takes their locks, which the caller must not
/// have.
pub(crate) fn write(words: &[AtomicU64], has_names: bool) {
    let start_ns = monotonic_ns();
    // Release on every store: none moves before the odd sequence (pairs with the reader's two
    // looks at it). On x86_64 these are ordinary stores.
    let sequence = words[WORD_SEQUENCE].load(Ordering::Relaxed);
    words[WORD_SEQUENCE].store(sequence | 1, Ordering::Relaxed);
    for word in &words[WORD_CLASSES..WORD_MAP] {
        word.store(0, Ordering::Release);
    }
    let old = Figures::from_words(&core::array::from_fn(|index| {
        words[WORD_FIGURES + index].load(Ordering::Relaxed)
    }));
    let mut page = Page {
        words,
        // As wide as the last look needed; the first look of a larger heap is coarse at its end.
        slices_per_cell: old.slices_per_cell.max(SLICES_PER_CELL_MIN),
        origin: old.first_slice as u32,
        figures: Figures::default(),
    };
    if has_names {
        page.name_heaps();
    }
    let region = survey(|run| page.add(run));
    let mut figures = page.figures;
    let slice = region.slice_bytes as u64;
    let slices = u64::from(region.end_slice - region.first_slice);
    figures.live_large_bytes += region.direct_bytes as u64;
    figures.live_bytes = figures.live_small_bytes + figures.live_large_bytes;
    let used = u64::from(region.used_slices);
    figures.committed_bytes = used * slice;
    figures.untouched_bytes =
        (region.bytes as u64).saturating_sub((u64::from(region.first_slice) + used) * slice);
    figures.limit_bytes = region.hard_limit_bytes as u64;
    figures.held_bytes = region.held_bytes as u64;
    figures.region_start = region.start as u64;
    figures.region_bytes = region.bytes as u64;
    figures.slice_bytes = slice;
    figures.first_slice = u64::from(region.first_slice);
    figures.end_slice = u64::from(region.end_slice);
    figures.slices_per_cell = page.slices_per_cell;
    figures.cell_count = slices.div_ceil(page.slices_per_cell).min(CELL_COUNT as u64);
    figures.handed_bytes = region.handed_bytes;
    figures.purged_bytes = region.purged_bytes;
    figures.thread_count = u64::from(region.thread_count);
    figures.mapping_count = region.mapping_count as u64;
    figures.profile_rate_bytes = u64::from(rate_bytes());
    figures.sample_count = TAKEN.load(Ordering::Relaxed);
    figures.live_sample_count = figures.sample_count.saturating_sub(FREED.load(Ordering::Relaxed));
    figures.lost_sample_count = LOST.load(Ordering::Relaxed);
    figures.profile_bytes = TABLE_BYTES.load(Ordering::Relaxed);
    figures.write_count = old.write_count + 1;
    let merge = merge_statistics();
    figures.merged_pages = merge.freed_pages.max(0) as u64;
    figures.merge_ns = merge.cpu_ns;
    figures.merge_state = merge.state as u64;
    figures.merged_windows = merge.window_count as u64;
    figures.merge_refused_count = merge.refused_count;
    figures.merge_step_ns_max = merge.step_ns_max;
    let needed = slices.div_ceil(CELL_COUNT as u64).max(1).next_power_of_two();
    let is_whole = needed == page.slices_per_cell && page.origin == region.first_slice;
    if !is_whole {
        // The next look has it right.
        figures.slices_per_cell = needed;
        figures.cell_count = 0;
    }
    figures.written_ns = monotonic_ns();
    figures.cost_ns = figures.written_ns - start_ns;
    for (word, value) in words[WORD_FIGURES..].iter().zip(figures.to_words()) {
        word.store(value, Ordering::Release);
    }
    // Release: pairs with the reader's Acquire; it sees all of the above.
    words[WORD_SEQUENCE].store((sequence | 1) + 1, Ordering::Release);
}

struct Page<'a> {
    words: &'a [AtomicU64],
    slices_per_cell: u64,
    /// First slice of the map.
    origin: u32,
    figures: Figures,
}

impl Page<'_> {
    fn add(&mut self, run: &RunFacts) {
        let bytes = run.bytes() as u64;
        let figures = &mut self.figures;
        let mut full = 15;
        let cell = match run.kind {
            RunKind::Large => {
                figures.large_run_bytes += bytes;
                figures.live_large_bytes += run.large_bytes;
                figures.large_count += 1;
                let large_bytes = run.large_bytes;
                self.add_node(run.node, 3, large_bytes);
                if run.holder != 0 {
                    let place = self.heap_place(HEAP_ZONE, run.holder as u64);
                    self.bump(place + 4, large_bytes);
                }
                Cell::Large
            }
            RunKind::FreeDirty | RunKind::FreeClean => {
                figures.largest_free_bytes = figures.largest_free_bytes.max(bytes);
                if run.kind == RunKind::FreeDirty {
                    figures.free_dirty_bytes += bytes;
                    self.add_node(run.node, 4, bytes);
                    Cell::FreeDirty
                } else {
                    figures.free_clean_bytes += bytes;
                    self.add_node(run.node, 5, bytes);
                    Cell::FreeClean
                }
            }
            _ => {
                let used = u64::from(run.used_slots) * slot_bytes_of(run.class_index) as u64;
                figures.small_span_bytes += bytes;
                figures.live_small_bytes += used;
                full = (used * 15).div_ceil(bytes.max(1)) as u8;
                self.add_class(run, bytes);
                self.add_heap(run, bytes, used);
                Cell::Small
            }
        };
        self.paint(run, cell.byte(full));
    }

    fn bump(&self, word: usize, by: u64) {
        let old = self.words[word].load(Ordering::Relaxed);
        self.words[word].store(old + by, Ordering::Release);
    }

    fn add_class(&self, run: &RunFacts, bytes: u64) {
        let class_index = usize::from(run.class_index);
        if class_index >= CLASS_COUNT {
            return;
        }
        let first = WORD_CLASSES + class_index * CLASS_WORDS;
        self.words[first].store(slot_bytes_of(run.class_index) as u64, Ordering::Release);
        self.bump(first + 1, bytes);
        self.bump(first + 2, u64::from(run.used_slots));
        self.bump(first + 3, u64::from(run.slot_count));
    }

    fn add_heap(&self, run: &RunFacts, bytes: u64, used: u64) {
        let (kind, number) = match run.kind {
            RunKind::Active => (HEAP_OF_THREAD, run.holder as u64),
            RunKind::Zone => (HEAP_ZONE, run.holder as u64),
            _ => (HEAP_SHARED, 0),
        };
        let place = self.heap_place(kind, number);
        self.bump(place + 2, bytes);
        self.bump(place + 3, used);
        self.add_node(run.node, 1, bytes);
        self.add_node(run.node, 2, used);
    }

    /// Words of the heap with that kind and number, which are entered if they are not there. The
    /// last entry takes all that found no place of their own.
    fn heap_place(&self, kind: u64, number: u64) -> usize {
        let mut place = WORD_HEAPS;
        for entry in 0..HEAP_COUNT_MAX {
            place = WORD_HEAPS + entry * HEAP_WORDS;
            let known = self.words[place].load(Ordering::Relaxed);
            let is_same = known == kind && self.words[place + 1].load(Ordering::Relaxed) == number;
            if known == 0 || is_same {
                break;
            }
        }
        self.words[place].store(kind, Ordering::Release);
        self.words[place + 1].store(number, Ordering::Release);
        place
    }

    /// Enters all heaps of the program's own, with names and limits.
    fn name_heaps(&self) {
        for zone in zones().take(HEAP_COUNT_MAX / 2) {
            let Ok(options) = zone.options() else { continue };
            let place = self.heap_place(HEAP_ZONE, zone.to_raw().0.addr() as u64);
            self.words[place + 5].store(options.limit_bytes() as u64, Ordering::Release);
            let chunks = options.as_name().as_bytes().chunks(8).take(HEAP_NAME_WORDS);
            for (word, bytes) in chunks.enumerate() {
                let mut eight = [0; 8];
                eight[..bytes.len()].copy_from_slice(bytes);
                let value = u64::from_le_bytes(eight);
                self.words[place + 6 + word].store(value, Ordering::Release);
            }
        }
    }

    fn add_node(&self, node: u32, word: usize, bytes: u64) {
        let row = (node as usize).min(NODE_ROWS - 1);
        let place = WORD_NODES + row * NODE_WORDS;
        self.words[place].store(row as u64 + 1, Ordering::Release);
        self.bump(place + word, bytes);
    }

    fn paint(&self, run: &RunFacts, byte: u8) {
        let Some(first) = run.first_slice.checked_sub(self.origin) else { return };
        let first = u64::from(first) / self.slices_per_cell;
        let last = (u64::from(run.first_slice - self.origin) + u64::from(run.slices) - 1)
            / self.slices_per_cell;
        for cell in first..=last.min(CELL_COUNT as u64 - 1) {
            self.cell(cell as usize).store(byte, Ordering::Release);
        }
    }

    fn cell(&self, index: usize) -> &AtomicU8 {
        debug_assert!(index < CELL_COUNT);
        let map: *const AtomicU64 = &raw const self.words[WORD_MAP];
        // SAFETY: the map is the page's rest, `CELL_COUNT` bytes from that word on.
        let place = unsafe { map.cast::<AtomicU8>().add(index) };
        // SAFETY: inside the mapped page; in this process only this thread writes the map, and by
        // bytes only.
        unsafe { &*place }
    }
}
