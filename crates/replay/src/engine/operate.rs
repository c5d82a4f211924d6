//! The timed loop: one thread's operations of one epoch.

use std::ptr;
use std::sync::atomic::{AtomicI64, AtomicPtr, AtomicU32, AtomicU64, Ordering};

use super::growth::Growth;
use super::heap::{Heap, ProcessHeap};
use super::lane::Lane;
use super::ledger::Ledger;
use super::order::Order;
use super::view::{Births, PlanView};
use crate::op::{self, How};
use crate::plan::SITE_MAPPED;
use crate::sys;

/// Operations whose slots are fetched into the cache ahead of time: enough to hide a miss of
/// the slot table, which is the replay's and not the program's.
const AHEAD: usize = 12;

/// What a thread did, counted in memory runs only.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub(super) live_blocks: i64,
    pub(super) live_bytes: i64,
    pub(super) usable_bytes: i64,
    /// Bytes of large blocks whose pages were not written.
    pub(super) untouched_bytes: i64,
    /// Written bytes of the program's own mappings.
    pub(super) mapped_bytes: i64,
    /// The call sites of the blocks that the thread is still to make.
    pub(super) births: Births,
}

/// The sum over all threads, as of their last whole epochs.
#[derive(Debug, Default)]
pub(super) struct Totals {
    pub(super) live_blocks: AtomicI64,
    pub(super) live_bytes: AtomicI64,
    pub(super) usable_bytes: AtomicI64,
    pub(super) untouched_bytes: AtomicI64,
    pub(super) mapped_bytes: AtomicI64,
}

impl Totals {
    /// Adds `tally` and empties it.
    pub(super) fn add(&self, tally: &mut Tally) {
        // Relaxed: the SeqCst step out of the epoch, which follows, publishes them.
        let add = |total: &AtomicI64, value: i64| total.fetch_add(value, Ordering::Relaxed);
        add(&self.live_blocks, tally.live_blocks);
        add(&self.live_bytes, tally.live_bytes);
        add(&self.usable_bytes, tally.usable_bytes);
        add(&self.untouched_bytes, tally.untouched_bytes);
        add(&self.mapped_bytes, tally.mapped_bytes);
        *tally = Tally { births: tally.births, ..Tally::default() };
    }
}

/// Called when an allocation gives null: whether it was a region's, and bytes asked for.
pub(super) type OnExhausted = fn(is_region: bool, size: usize) -> !;

/// What all threads work with.
pub(super) struct Bench<H> {
    pub(super) heap: H,
    pub(super) plan: &'static PlanView,
    pub(super) slots: &'static [AtomicPtr<u8>],
    /// For each slot the written pages of its large block; empty in timing runs.
    pub(super) written_pages: &'static [AtomicU32],
    /// Whose block is in which slot; kept only where stock is taken.
    pub(super) ledger: Ledger,
    pub(super) order: Order,
    pub(super) growth: Growth,
    /// CPU time that the program's own mappings cost.
    pub(super) mapping_ns: AtomicU64,
    pub(super) knows_usable: bool,
    pub(super) on_exhausted: OnExhausted,
}

impl<H: Heap> Bench<H> {
    /// Carries out the operations of `words`; those of a routed call site on the thread's `lane`.
    pub(super) fn operate<const MEASURE: bool>(
        &self,
        words: &[u64],
        tally: &mut Tally,
        lane: &mut Lane,
    ) {
        let mut at = 0;
        while at < words.len() {
            let word = words[at];
            if let Some(&later) = words.get(at + AHEAD) {
                self.prefetch(op::slot(later));
            }
            let slot = op::slot(word);
            match op::code(word) {
                op::MALLOC => {
                    let size = op::size(word) as usize;
                    let block = self.checked(self.heap.alloc(slot, size), slot, size);
                    self.write_all(block, 0, size);
                    self.count_birth::<MEASURE>(tally, block, size);
                    self.note_birth::<MEASURE>(tally, slot, size);
                    self.put(slot, block);
                    at += 1;
                }
                op::FREE => {
                    let block = self.take(slot);
                    self.count_death::<MEASURE>(tally, block, op::size(word) as usize);
                    // SAFETY: the block came out of its slot, so it is ours alone and live.
                    unsafe { self.heap.free(block) };
                    at += 1;
                }
                op::CALLOC => {
                    let size = op::size(word) as usize;
                    let block = self.checked(self.heap.alloc_zeroed(slot, size), slot, size);
                    self.write_all(block, 0, size);
                    self.count_birth::<MEASURE>(tally, block, size);
                    self.note_birth::<MEASURE>(tally, slot, size);
                    self.put(slot, block);
                    at += 1;
                }
                op::REALLOC => {
                    let size = op::size(word) as usize;
                    let old_size = op::high(words[at + 1]) as usize;
                    let block = self.take(slot);
                    self.count_death::<MEASURE>(tally, block, old_size);
                    // SAFETY: the block came out of its slot, so it is ours alone and live.
                    let block = unsafe { self.heap.resize(block, size) };
                    let block = self.checked(block, slot, size);
                    if size > old_size {
                        self.write_all(block, old_size, size);
                    }
                    self.count_birth::<MEASURE>(tally, block, size);
                    self.note_move::<MEASURE>(slot, op::low(words[at + 1]), Some(size));
                    self.put(op::low(words[at + 1]), block);
                    at += 2;
                }
                op::ALIGNED => {
                    let size = op::size(word) as usize;
                    let align_log2 = op::low(words[at + 1]);
                    let block = self.heap.alloc_aligned(slot, size, align_log2);
                    let block = self.checked(block, slot, size);
                    self.write_all(block, 0, size);
                    self.count_birth::<MEASURE>(tally, block, size);
                    self.note_birth::<MEASURE>(tally, slot, size);
                    self.put(slot, block);
                    at += 2;
                }
                op::SITE_BORN => {
                    self.site_born::<MEASURE>(&words[at..at + 2], tally, lane);
                    at += 2;
                }
                op::SITE_DIED => {
                    self.site_died::<MEASURE>(&words[at..at + 2], tally, lane);
                    at += 2;
                }
                op::SITE_RESIZED => {
                    self.site_resized::<MEASURE>(&words[at..at + 3], tally, lane);
                    at += 3;
                }
                code => {
                    let count = op::word_count(code).unwrap_or(1);
                    self.operate_large::<MEASURE>(&words[at..at + count], tally, lane);
                    at += count;
                }
            }
        }
    }

    /// A block of a call site that a region may serve: with the region and without it the same
    /// is done here, but for the allocation itself.
    #[inline]
    fn site_born<const MEASURE: bool>(&self, words: &[u64], tally: &mut Tally, lane: &mut Lane) {
        let (slot, size) = (op::slot(words[0]), op::size(words[0]) as usize);
        let detail = op::high(words[1]);
        let align_log2 = detail & !op::ZEROED;
        let is_zeroed = detail & op::ZEROED != 0;
        if !lane.serves(op::low(words[1])) {
            let block = match (is_zeroed, align_log2 > op::NATURAL_ALIGN_LOG2) {
                (true, _) => self.heap.alloc_zeroed(slot, size),
                (_, true) => self.heap.alloc_aligned(slot, size, align_log2),
                _ => self.heap.alloc(slot, size),
            };
            let block = self.checked(block, slot, size);
            self.write_all(block, 0, size);
            self.count_birth::<MEASURE>(tally, block, size);
            self.put(slot, block);
            return;
        }
        let block = lane.alloc(size, align_log2);
        if block.is_null() {
            (self.on_exhausted)(true, size);
        }
        if is_zeroed {
            // SAFETY: the lane's block has that many bytes.
            unsafe { block.write_bytes(0, size) };
        }
        self.write_all(block, 0, size);
        Self::count_site::<MEASURE>(tally, 1, size as i64);
        self.put(slot, block);
    }

    /// A region's blocks have what was asked for, as far as anybody outside it knows.
    #[inline(always)]
    fn count_site<const MEASURE: bool>(tally: &mut Tally, blocks: i64, bytes: i64) {
        if MEASURE {
            tally.live_blocks += blocks;
            tally.live_bytes += bytes;
            tally.usable_bytes += bytes;
        }
    }

    #[inline]
    fn site_died<const MEASURE: bool>(&self, words: &[u64], tally: &mut Tally, lane: &mut Lane) {
        let size = op::size(words[0]) as usize;
        let block = self.take(op::slot(words[0]));
        if !lane.serves(op::low(words[1])) {
            self.count_death::<MEASURE>(tally, block, size);
            // SAFETY: the block came out of its slot, so it is ours alone and live.
            unsafe { self.heap.free(block) };
            return;
        }
        Self::count_site::<MEASURE>(tally, -1, -(size as i64));
        // SAFETY: as above; of this lane, or of the region that all lanes share (lane I1), and
        // made with that size and alignment.
        unsafe { lane.free(block, size, op::high(words[1])) };
    }

    fn site_resized<const MEASURE: bool>(&self, words: &[u64], tally: &mut Tally, lane: &mut Lane) {
        let (slot, size) = (op::slot(words[0]), op::size(words[0]) as usize);
        let (target, old_size) = (op::low(words[1]), op::high(words[1]) as usize);
        let block = self.take(slot);
        let block = if lane.serves(op::low(words[2])) {
            Self::count_site::<MEASURE>(tally, 0, size as i64 - old_size as i64);
            // SAFETY: of this lane, or of the region that all lanes share (lane I1), live, ours
            // alone, made with that size and alignment.
            let block = unsafe { lane.resize(block, old_size, op::high(words[2]), size) };
            if block.is_null() {
                (self.on_exhausted)(true, size);
            }
            block
        } else {
            self.count_death::<MEASURE>(tally, block, old_size);
            // SAFETY: the block came out of its slot, so it is ours alone and live.
            let block = self.checked(unsafe { self.heap.resize(block, size) }, slot, size);
            self.count_birth::<MEASURE>(tally, block, size);
            block
        };
        if size > old_size {
            self.write_all(block, old_size, size);
        }
        self.put(target, block);
    }

    /// Everything about large blocks and mappings. What a mapping costs is the program's own
    /// cost, under any allocator, and told apart.
    #[cold]
    #[inline(never)]
    fn operate_large<const MEASURE: bool>(
        &self,
        words: &[u64],
        tally: &mut Tally,
        lane: &mut Lane,
    ) {
        let field = op::size(words[0]);
        let is_mapping = match op::code(words[0]) {
            op::LARGE_BORN => How::from_field(field) == How::Mapped,
            op::LARGE_DIED | op::TOUCH => field & op::MAPPED != 0,
            op::TRIM => true,
            _ => false,
        };
        if !is_mapping {
            self.operate_one_large::<MEASURE>(words, tally, lane);
            return;
        }
        if op::code(words[0]) != op::LARGE_BORN {
            // Waiting is counted by itself.
            self.filled(op::slot(words[0]));
        }
        let before_ns = sys::thread_cpu_ns();
        self.operate_one_large::<MEASURE>(words, tally, lane);
        let ns = sys::thread_cpu_ns().saturating_sub(before_ns);
        // Relaxed: a sum, read after all threads are joined.
        self.mapping_ns.fetch_add(ns, Ordering::Relaxed);
    }

    fn operate_one_large<const MEASURE: bool>(
        &self,
        words: &[u64],
        tally: &mut Tally,
        lane: &mut Lane,
    ) {
        let (slot, field) = (op::slot(words[0]), op::size(words[0]));
        match op::code(words[0]) {
            op::LARGE_BORN => self.large_born::<MEASURE>(words, tally, lane),
            op::LARGE_RESIZED => self.large_resized::<MEASURE>(words, tally, lane),
            op::LARGE_DIED => {
                let block = self.take(slot);
                let size = words[2] as usize;
                if MEASURE {
                    self.growth.before_loss(size);
                }
                if field & op::MAPPED != 0 {
                    if MEASURE {
                        tally.mapped_bytes -= self.written_bytes(slot, usize::MAX);
                    }
                    let start = block.wrapping_add(words[3] as usize);
                    // SAFETY: the last part of this mapping, which the plan gives up here.
                    unsafe { sys::unmap(start, size) };
                } else {
                    if MEASURE {
                        tally.untouched_bytes -= size as i64 - self.written_bytes(slot, size);
                    }
                    if op::large_site(field).is_some_and(|site| lane.serves(site)) {
                        Self::count_site::<MEASURE>(tally, -1, -(size as i64));
                        // SAFETY: a block of the site's region (lane I1), live, ours alone, of
                        // that size and alignment.
                        unsafe { lane.free(block, size, op::large_align_log2(field)) };
                    } else {
                        self.count_death::<MEASURE>(tally, block, size);
                        // SAFETY: the block came out of its slot, so it is ours alone and live.
                        unsafe { self.heap.free(block) };
                    }
                }
            }
            op::TOUCH => {
                let block = self.take(slot);
                let is_mapped = field & op::MAPPED != 0;
                let pages = self.touch(block, usize::MAX, op::high(words[1]), is_mapped);
                if MEASURE {
                    let known = self.written_pages[slot as usize].load(Ordering::Relaxed);
                    self.set_written_pages(op::low(words[1]), known + pages);
                    let bytes = i64::from(pages) * self.plan.page_bytes as i64;
                    if is_mapped {
                        tally.mapped_bytes += bytes;
                    } else {
                        tally.untouched_bytes -= bytes;
                    }
                }
                self.note_move::<MEASURE>(slot, op::low(words[1]), None);
                self.put(op::low(words[1]), block);
            }
            op::TRIM => {
                let block = self.take(slot);
                if MEASURE {
                    self.growth.before_loss(words[3] as usize);
                }
                let part = block.wrapping_add(words[2] as usize);
                // SAFETY: a part of this mapping, which the plan gives up here.
                unsafe { sys::unmap(part, words[3] as usize) };
                if MEASURE {
                    let known = self.written_pages[slot as usize].load(Ordering::Relaxed);
                    let gone = (words[3] as usize).div_ceil(self.plan.page_bytes);
                    let left = known.saturating_sub(gone.min(known as usize) as u32);
                    tally.mapped_bytes -= i64::from(known - left) * self.plan.page_bytes as i64;
                    self.set_written_pages(op::low(words[1]), left);
                }
                self.note_move::<MEASURE>(slot, op::low(words[1]), None);
                self.put(op::low(words[1]), block);
            }
            _ => {}
        }
    }

    fn large_born<const MEASURE: bool>(&self, words: &[u64], tally: &mut Tally, lane: &mut Lane) {
        let (slot, size) = (op::slot(words[0]), words[2] as usize);
        let field = op::size(words[0]);
        let (how, align_log2) = (How::from_field(field), op::large_align_log2(field));
        let is_site = op::large_site(field).is_some_and(|site| lane.serves(site));
        let block = match how {
            _ if is_site => lane.alloc(size, align_log2),
            How::Malloc => self.heap.alloc(slot, size),
            How::Calloc => self.heap.alloc_zeroed(slot, size),
            How::Aligned => self.heap.alloc_aligned(slot, size, align_log2),
            How::Mapped => sys::map_private(size),
        };
        if is_site && block.is_null() {
            (self.on_exhausted)(true, size);
        }
        let block = self.checked(block, slot, size);
        if is_site && how == How::Calloc {
            // Its memory may be used already, so whoever takes it has to clear it.
            // SAFETY: the lane's block has that many bytes.
            unsafe { block.write_bytes(0, size) };
        }
        let is_mapped = how == How::Mapped;
        let pages = self.touch(block, size, op::high(words[1]), is_mapped);
        if MEASURE {
            self.set_written_pages(slot, pages);
            if is_mapped {
                tally.mapped_bytes += self.written_bytes(slot, usize::MAX);
            } else {
                tally.untouched_bytes += size as i64 - self.written_bytes(slot, size);
            }
        }
        if is_mapped {
            if MEASURE {
                self.ledger.enter(slot, size, SITE_MAPPED);
            }
        } else if is_site {
            Self::count_site::<MEASURE>(tally, 1, size as i64);
        } else {
            self.count_birth::<MEASURE>(tally, block, size);
            self.note_birth::<MEASURE>(tally, slot, size);
        }
        self.put(slot, block);
    }

    fn large_resized<const MEASURE: bool>(
        &self,
        words: &[u64],
        tally: &mut Tally,
        lane: &mut Lane,
    ) {
        let (slot, target) = (op::slot(words[0]), op::low(words[1]));
        let (size, old_size) = (words[2] as usize, words[3] as usize);
        let block = self.take(slot);
        if MEASURE {
            self.growth.before_loss(old_size);
        }
        let old_pages = old_size.div_ceil(self.plan.page_bytes) as u32;
        let mut known = old_pages;
        let field = op::size(words[0]);
        let is_site = op::large_site(field).is_some_and(|site| lane.serves(site));
        if MEASURE && field & op::WAS_LARGE != 0 {
            tally.untouched_bytes -= old_size as i64 - self.written_bytes(slot, old_size);
            known = self.written_pages[slot as usize].load(Ordering::Relaxed);
        }
        let block = if is_site {
            Self::count_site::<MEASURE>(tally, 0, size as i64 - old_size as i64);
            // SAFETY: a block of the site's region (lane I1), live, ours alone, of that size and
            // alignment.
            let block = unsafe { lane.resize(block, old_size, op::large_align_log2(field), size) };
            if block.is_null() {
                (self.on_exhausted)(true, size);
            }
            block
        } else {
            self.count_death::<MEASURE>(tally, block, old_size);
            // SAFETY: the block came out of its slot, so it is ours alone and live.
            let block = unsafe { self.heap.resize(block, size) };
            self.checked(block, slot, size)
        };
        let fresh = match op::high(words[1]) {
            op::TOUCH_ALL if size > old_size => {
                self.write_all(block, old_size, size);
                (size.div_ceil(self.plan.page_bytes) as u32).saturating_sub(old_pages)
            }
            op::TOUCH_ALL => 0,
            list => self.touch(block, size, list, false),
        };
        if MEASURE {
            let kept = known.min(size.div_ceil(self.plan.page_bytes) as u32);
            self.set_written_pages(target, kept + fresh);
            tally.untouched_bytes += size as i64 - self.written_bytes(target, size);
        }
        if !is_site {
            self.count_birth::<MEASURE>(tally, block, size);
        }
        self.note_move::<MEASURE>(slot, target, Some(size));
        self.put(target, block);
    }

    /// Writes the pages that `list` tells, of a block of `size` bytes (or more, where nothing
    /// else is known than that the list fits). Returns how many.
    fn touch(&self, block: *mut u8, size: usize, list: u32, is_mapped: bool) -> u32 {
        let page_bytes = self.plan.page_bytes;
        let write = |offset: usize| {
            if is_mapped {
                // SAFETY: of a private mapping that is longer than `offset`, see below.
                unsafe { ProcessHeap.write(block, offset) };
            } else {
                // SAFETY: of a live block that is longer than `offset`, see below.
                unsafe { self.heap.write(block, offset) };
            }
        };
        match list {
            op::TOUCH_NONE => 0,
            op::TOUCH_ALL => {
                let pages = size.div_ceil(page_bytes);
                (0..pages).for_each(|page| write(page * page_bytes));
                pages as u32
            }
            list => {
                let mut pages = 0;
                for (first, stride, count) in self.plan.touch_runs(list) {
                    for index in 0..count as usize {
                        // The list was cut to the block when it was compiled, so a page's
                        // first byte is inside; the recorded block may have begun amid a page,
                        // so its last page number can be one more than fits.
                        let offset = (first as usize + index * stride as usize) * page_bytes;
                        if offset < size {
                            write(offset);
                            pages += 1;
                        }
                    }
                }
                pages
            }
        }
    }

    /// Writes the first and the last byte of `from..to`, and one for each OS page between.
    #[inline(always)]
    fn write_all(&self, block: *mut u8, from: usize, to: usize) {
        if to <= from {
            return;
        }
        // SAFETY: `from < to`, which is at most the size the block was asked for.
        unsafe { self.heap.write(block, from) };
        // SAFETY: as above.
        unsafe { self.heap.write(block, to - 1) };
        if to - from > self.plan.page_bytes {
            self.write_pages(block, from, to);
        }
    }

    #[inline(never)]
    fn write_pages(&self, block: *mut u8, from: usize, to: usize) {
        for offset in (from..to).step_by(self.plan.page_bytes) {
            // SAFETY: below `to`, which is at most the size the block was asked for.
            unsafe { self.heap.write(block, offset) };
        }
    }

    /// The block, or the end of this run when there is none.
    #[inline(always)]
    fn checked(&self, block: *mut u8, slot: u32, size: usize) -> *mut u8 {
        if block.is_null() { self.no_block(slot, size) } else { block }
    }

    #[cold]
    #[inline(never)]
    fn no_block(&self, slot: u32, size: usize) -> *mut u8 {
        // An allocator may give null for a block without bytes; the slot needs a pointer.
        let block = if size == 0 { self.heap.alloc(slot, 1) } else { ptr::null_mut() };
        if block.is_null() { (self.on_exhausted)(false, size) } else { block }
    }

    #[inline(always)]
    fn cell(&self, slot: u32) -> &AtomicPtr<u8> {
        debug_assert!((slot as usize) < self.slots.len());
        // SAFETY: every slot of the plan is below the slot count (view I1), and there are as
        // many cells.
        unsafe { self.slots.get_unchecked(slot as usize) }
    }

    #[inline(always)]
    fn prefetch(&self, slot: u32) {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            let cell = self.slots.as_ptr().wrapping_add(slot as usize);
            // SAFETY: a hint about an address; any will do (this may be a second word, whose
            // bits are no slot).
            unsafe { _mm_prefetch::<_MM_HINT_T0>(cell.cast()) };
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = slot;
    }

    #[inline(always)]
    fn put(&self, slot: u32, block: *mut u8) {
        // Release: pairs with the Acquire in `take`; what was written into the block, and the
        // slot's written pages, are seen by the thread that takes it.
        self.cell(slot).store(block, Ordering::Release);
    }

    #[inline(always)]
    fn take(&self, slot: u32) -> *mut u8 {
        let block = self.filled(slot);
        // Relaxed: only this thread uses the slot until its epoch's end publishes this.
        self.cell(slot).store(ptr::null_mut(), Ordering::Relaxed);
        block
    }

    /// The pointer in `slot`, waited for if need be.
    #[inline(always)]
    fn filled(&self, slot: u32) -> *mut u8 {
        let cell = self.cell(slot);
        // Acquire: pairs with the Release in `put`.
        let block = cell.load(Ordering::Acquire);
        if !block.is_null() {
            return block;
        }
        self.order.wait_until(|| {
            let block = cell.load(Ordering::Acquire);
            (!block.is_null()).then_some(block)
        })
    }

    #[inline(always)]
    fn count_birth<const MEASURE: bool>(&self, tally: &mut Tally, block: *mut u8, size: usize) {
        if MEASURE {
            tally.live_blocks += 1;
            tally.live_bytes += size as i64;
            if self.knows_usable {
                // SAFETY: a live block of this heap.
                tally.usable_bytes += unsafe { self.heap.usable_bytes(block) } as i64;
            }
        }
    }

    #[inline(always)]
    fn count_death<const MEASURE: bool>(&self, tally: &mut Tally, block: *mut u8, size: usize) {
        if MEASURE {
            tally.live_blocks -= 1;
            tally.live_bytes -= size as i64;
            if self.knows_usable {
                // SAFETY: the block is still live.
                tally.usable_bytes -= unsafe { self.heap.usable_bytes(block) } as i64;
            }
        }
    }

    #[inline(always)]
    fn note_birth<const MEASURE: bool>(&self, tally: &mut Tally, slot: u32, size: usize) {
        if MEASURE && self.ledger.is_kept() {
            self.ledger.enter(slot, size, tally.births.take());
        }
    }

    /// The block of `slot` goes to `target`, with another size if one is given.
    #[inline(always)]
    fn note_move<const MEASURE: bool>(&self, slot: u32, target: u32, size: Option<usize>) {
        if MEASURE && self.ledger.is_kept() {
            self.ledger.transfer(slot, target, size);
        }
    }

    fn set_written_pages(&self, slot: u32, pages: u32) {
        self.written_pages[slot as usize].store(pages, Ordering::Relaxed);
    }

    fn written_bytes(&self, slot: u32, size: usize) -> i64 {
        let pages = self.written_pages[slot as usize].load(Ordering::Relaxed) as usize;
        (pages * self.plan.page_bytes).min(size) as i64
    }
}
