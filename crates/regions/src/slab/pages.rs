//! Which pages are free: runs in bins by length, joined with their neighbours at once.
//!
//! # Invariants
//! design/regions.md#SL1 and design/regions.md#SL2.

use core::alloc::Layout;

use heapwright_core::backing::{Backing, BackingError, Extent, Purge};
use heapwright_core::region_error::AllocError;
use heapwright_core::run_bins::{BIN_COUNT, bin_of, first_occupied};
use heapwright_core::size_class::class_bytes;
use heapwright_core::span_shape::PAGE_BYTES;

use super::ground::{Ground, Header, LARGE, NIL};
use crate::growth::{Use, commit_to};

/// Written free pages stay until there are this many, or a quarter of those in use.
const DIRTY_PAGES_MIN: u32 = 64;
const DIRTY_SHARE_LOG2: u32 = 2;
/// Class of a free run that was written since it was committed or purged.
const DIRTY: u8 = 1;

/// All pages of a slab.
#[derive(Debug)]
pub(super) struct Pages {
    pub(super) ground: Ground,
    memory: Extent,
    table: Extent,
    /// Pages from here on are in no run and no span.
    top: u32,
    /// First run of each bin.
    bins: [u32; BIN_COUNT],
    occupied: u128,
    /// Pages in runs.
    free_pages: u32,
    /// Of those, written ones.
    dirty_pages: u32,
    /// Until the backing says otherwise.
    can_purge: bool,
}

impl Pages {
    /// Takes addresses for at most `capacity_bytes`, headers included.
    pub(super) fn new<B: Backing>(backing: &B, capacity_bytes: usize) -> Result<Self, AllocError> {
        let unfit = AllocError::Unfit {
            requested_bytes: capacity_bytes,
            align_bytes: PAGE_BYTES,
            largest_bytes: (u32::MAX as usize).saturating_mul(PAGE_BYTES),
        };
        let per_page = PAGE_BYTES + size_of::<Header>();
        let page_count = u32::try_from(capacity_bytes / per_page).ok().filter(|c| *c < NIL);
        let mut page_count = page_count.filter(|count| *count > 0).ok_or(unfit)?;
        let table = reserve(backing, page_count as usize * size_of::<Header>(), 64)?;
        // Where a buffer does not start at a page, it has one page less to give, or two.
        let mut tries = 0;
        let memory = loop {
            match reserve(backing, page_count as usize * PAGE_BYTES, PAGE_BYTES) {
                Ok(memory) => break memory,
                Err(_) if tries < 2 && page_count > 1 => page_count -= 1,
                Err(error) => {
                    // SAFETY: reserved above, unused.
                    unsafe { backing.release(table) };
                    return Err(error.into());
                }
            }
            tries += 1;
        };
        // SAFETY: two extents of that many headers and pages, ours until `release`; headers are
        // written in `take` before their pages are named.
        let ground = unsafe { Ground::new(memory.start, table.start.cast(), page_count) };
        Ok(Self {
            ground,
            memory,
            table,
            top: 0,
            bins: [NIL; BIN_COUNT],
            occupied: 0,
            free_pages: 0,
            dirty_pages: 0,
            can_purge: true,
        })
    }

    /// Gives both extents back.
    ///
    /// # Safety
    /// - `backing` is the one of `new`; nobody uses a page or a copy of the ground any more.
    pub(super) unsafe fn release<B: Backing>(&mut self, backing: &B) {
        // SAFETY: our extent, once, as the caller promises; likewise below.
        unsafe { backing.release(self.memory) };
        // SAFETY: as above.
        unsafe { backing.release(self.table) };
    }

    /// Takes `pages` pages in one piece; the first one. Its header says how many.
    pub(super) fn take<B: Backing>(&mut self, backing: &B, pages: u32) -> Result<u32, AllocError> {
        debug_assert!(pages > 0);
        let first = match self.take_run(pages) {
            Some(first) => first,
            None => self.take_fresh(backing, pages)?,
        };
        for page in [first, first + pages - 1] {
            self.ground.header(page).run_pages.set(0);
        }
        let header = self.ground.header(first);
        header.pages.set(pages);
        header.back.set(0);
        header.class.set(LARGE);
        header.set_used(1);
        Ok(first)
    }

    /// Makes a span just taken one of slots: every page knows the way to the first (SL2).
    pub(super) fn set_class(&self, first: u32, class: u8) {
        let header = self.ground.header(first);
        header.class.set(class);
        header.set_used(0);
        header.unused.set(header.slot_count(class_bytes(class as usize)) as u16);
        header.free.set(core::ptr::null_mut());
        for back in 1..header.pages.get() {
            self.ground.header(first + back).back.set(back as u8);
        }
    }

    fn take_run(&mut self, pages: u32) -> Option<u32> {
        let mut bin = first_occupied(self.occupied, bin_of(pages))?;
        let first = loop {
            let mut next = self.bins[bin];
            while next != NIL && self.ground.header(next).run_pages.get() < pages {
                next = self.ground.header(next).next.get();
            }
            if next != NIL {
                break next;
            }
            bin = first_occupied(self.occupied, bin + 1)?;
        };
        let has = self.ground.header(first).run_pages.get();
        let dirty = self.unlink(first);
        if has > pages {
            self.link(first + pages, has - pages, dirty);
        }
        Some(first)
    }

    fn take_fresh<B: Backing>(&mut self, backing: &B, pages: u32) -> Result<u32, AllocError> {
        let first = self.top;
        let end = first.checked_add(pages).filter(|end| *end <= self.ground.page_count());
        let end = end.ok_or_else(|| self.full(pages))?;
        let table_bytes = end as usize * size_of::<Header>();
        self.table.committed_bytes =
            commit_to(backing, &self.table, table_bytes, self.table.reserved_bytes, Use::Anywhere)?;
        let bytes = end as usize * PAGE_BYTES;
        self.memory.committed_bytes =
            commit_to(backing, &self.memory, bytes, self.memory.reserved_bytes, Use::Anywhere)?;
        (first..end).for_each(|page| self.ground.write_header(page));
        self.top = end;
        Ok(first)
    }

    fn full(&self, pages: u32) -> AllocError {
        AllocError::Full {
            requested_bytes: pages as usize * PAGE_BYTES,
            largest_free_bytes: self.largest_free_pages() as usize * PAGE_BYTES,
            capacity_bytes: self.ground.page_count() as usize * PAGE_BYTES,
        }
    }

    /// Gives a span back that nobody uses. Its memory stays until much is free, and then goes.
    pub(super) fn give<B: Backing>(&mut self, backing: &B, page: u32) {
        let mut first = page;
        let mut pages = self.ground.header(page).pages.get();
        for back in 0..pages {
            self.ground.header(page + back).back.set(0);
        }
        let after = first + pages;
        if after < self.top {
            let run = self.ground.header(after).run_pages.get();
            if run > 0 {
                self.unlink(after);
                pages += run;
            }
        }
        if first > 0 {
            let run = self.ground.header(first - 1).run_pages.get();
            if run > 0 {
                first -= run;
                self.unlink(first);
                pages += run;
            }
        }
        if first + pages == self.top {
            self.top = first;
            self.give_top_back(backing);
        } else {
            // A run that was written in part counts as written: purging twice does no harm.
            self.link(first, pages, true);
            if self.dirty_pages > self.slack_pages() {
                self.purge(backing);
            }
        }
    }

    /// How much memory that nobody uses is kept.
    fn slack_pages(&self) -> u32 {
        let in_use = self.top - self.free_pages;
        (in_use >> DIRTY_SHARE_LOG2).max(DIRTY_PAGES_MIN)
    }

    /// Decommits behind the top when that is much; half of what may be kept is.
    fn give_top_back<B: Backing>(&mut self, backing: &B) {
        let keep = self.slack_pages();
        let committed = (self.memory.committed_bytes / PAGE_BYTES) as u32;
        if committed - self.top > keep {
            self.decommit_from(backing, self.top + keep / 2);
        }
    }

    fn decommit_from<B: Backing>(&mut self, backing: &B, page: u32) {
        let from = (page as usize * PAGE_BYTES).next_multiple_of(self.memory.step_bytes);
        let to = self.memory.committed_bytes;
        if !self.can_purge || from >= to || !to.is_multiple_of(self.memory.step_bytes) {
            return;
        }
        // SAFETY: our live extent and committed pages of it at or above the top, which are in no
        // span (SL1).
        match unsafe { backing.decommit(&self.memory, from..to) } {
            Ok(()) => self.memory.committed_bytes = from,
            Err(BackingError::Unsupported(_)) => self.can_purge = false,
            Err(_) => {}
        }
    }

    /// Tells the backing that the memory of all free runs is dead.
    pub(super) fn purge<B: Backing>(&mut self, backing: &B) {
        let mut occupied = self.occupied;
        while occupied != 0 && self.can_purge {
            let mut next = self.bins[occupied.trailing_zeros() as usize];
            occupied &= occupied - 1;
            while next != NIL {
                if self.ground.header(next).class.get() == DIRTY {
                    self.purge_run(backing, next);
                }
                next = self.ground.header(next).next.get();
            }
        }
        if !self.can_purge {
            // Not asked again before twice as much is free.
            self.dirty_pages = 0;
        }
    }

    /// As [`Self::purge`], and everything behind the top is decommitted.
    pub(super) fn trim<B: Backing>(&mut self, backing: &B) {
        self.can_purge = true;
        self.purge(backing);
        self.decommit_from(backing, self.top);
    }

    fn purge_run<B: Backing>(&mut self, backing: &B, first: u32) {
        let header = self.ground.header(first);
        let pages = header.run_pages.get();
        let step = self.memory.step_bytes;
        let from = (first as usize * PAGE_BYTES).next_multiple_of(step);
        let to = ((first + pages) as usize * PAGE_BYTES) & !(step - 1);
        if from < to {
            // SAFETY: our live extent and committed pages of a free run.
            let purged = unsafe { backing.purge(&self.memory, from..to, Purge::Now) };
            if let Err(BackingError::Unsupported(_)) = purged {
                self.can_purge = false;
                return;
            }
        }
        header.class.set(0);
        self.dirty_pages = self.dirty_pages.saturating_sub(pages);
    }

    /// Puts a run into its bin.
    fn link(&mut self, first: u32, pages: u32, dirty: bool) {
        let bin = bin_of(pages);
        self.ground.header(first + pages - 1).run_pages.set(pages);
        let header = self.ground.header(first);
        header.run_pages.set(pages);
        header.class.set(u8::from(dirty));
        header.prev.set(NIL);
        header.next.set(self.bins[bin]);
        if self.bins[bin] != NIL {
            self.ground.header(self.bins[bin]).prev.set(first);
        }
        self.bins[bin] = first;
        self.occupied |= 1 << bin;
        self.free_pages += pages;
        self.dirty_pages += if dirty { pages } else { 0 };
    }

    /// Takes the run that starts at `first` out of its bin; whether it was written.
    fn unlink(&mut self, first: u32) -> bool {
        let header = self.ground.header(first);
        let pages = header.run_pages.get();
        let bin = bin_of(pages);
        let (prev, next) = (header.prev.get(), header.next.get());
        if prev == NIL {
            self.bins[bin] = next;
            if next == NIL {
                self.occupied &= !(1 << bin);
            }
        } else {
            self.ground.header(prev).next.set(next);
        }
        if next != NIL {
            self.ground.header(next).prev.set(prev);
        }
        let dirty = header.class.get() == DIRTY;
        // The ends are inner pages of something else from here on.
        header.run_pages.set(0);
        self.ground.header(first + pages - 1).run_pages.set(0);
        self.free_pages -= pages;
        self.dirty_pages = self.dirty_pages.saturating_sub(if dirty { pages } else { 0 });
        dirty
    }

    /// The longest piece that could be had now, not counting what the backing may refuse.
    pub(super) fn largest_free_pages(&self) -> u32 {
        let behind = self.ground.page_count() - self.top;
        if self.occupied == 0 {
            return behind;
        }
        let mut next = self.bins[self.occupied.ilog2() as usize];
        let mut longest = behind;
        while next != NIL {
            let header = self.ground.header(next);
            longest = longest.max(header.run_pages.get());
            next = header.next.get();
        }
        longest
    }

    /// Calls `visit` with the first page of every span in use. O(spans + runs).
    pub(super) fn for_each_span(&self, mut visit: impl FnMut(u32, &Header)) {
        let mut page = 0;
        while page < self.top {
            let header = self.ground.header(page);
            let run = header.run_pages.get();
            if run > 0 {
                page += run;
            } else {
                visit(page, header);
                page += header.pages.get();
            }
        }
    }

    /// Bytes of committed pages.
    pub(super) fn memory_bytes(&self) -> usize {
        self.memory.committed_bytes
    }

    pub(super) fn extents(&self) -> [&Extent; 2] {
        [&self.memory, &self.table]
    }

    /// Walks SL1 and SL2; empty in release builds.
    pub(super) fn check(&self) {
        if !cfg!(debug_assertions) {
            return;
        }
        let (mut page, mut free, mut last_free) = (0, 0, false);
        while page < self.top {
            let header = self.ground.header(page);
            let run = header.run_pages.get();
            if run > 0 {
                assert!(!last_free, "SL1: two free runs touch at page {page}");
                let end = self.ground.header(page + run - 1).run_pages.get();
                assert_eq!(end, run, "SL1: the ends of the run at {page} differ");
                free += run;
                page += run;
            } else {
                let pages = header.pages.get();
                assert!(pages > 0 && page + pages <= self.top, "SL2: page {page} has {pages}");
                page += pages;
            }
            last_free = run > 0;
        }
        assert_eq!((page, free), (self.top, self.free_pages), "SL1");
        assert!(!last_free, "SL1: a free run touches the top");
    }
}

/// Addresses for `bytes`, not committed.
fn reserve<B: Backing>(backing: &B, bytes: usize, align: usize) -> Result<Extent, BackingError> {
    let exhausted = BackingError::Exhausted { requested_bytes: bytes, available_bytes: 0 };
    backing.reserve(Layout::from_size_align(bytes, align).map_err(|_| exhausted)?)
}
