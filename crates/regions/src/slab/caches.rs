//! One thread's side of a slab: a list of free blocks per class, filled from and flushed to spans.
//!
//! A block goes to and comes from its class's list; its span is looked at only when a list runs
//! empty or grows too long, for many blocks at once.
//!
//! # Invariants
//! design/regions.md#SL3 to design/regions.md#SL6.
//!
//! # Not here
//! Pages (`pages`), what other threads send (`shared`): [`Home`] stands between.

use core::alloc::Layout;
use core::cell::Cell;
use core::ptr::NonNull;

use heapwright_core::prefetch::prefetch_read;
use heapwright_core::region_error::AllocError;
use heapwright_core::size_class::{CLASS_COUNT, SMALL_BYTES_MAX, class_bytes, class_of_aligned};
use heapwright_core::span_shape::{
    CLASSES, ClassTable, LINE_CLASSES, PAGE_BYTES, SHAPES, TABLE_BYTES_MAX, unit_of,
};
use heapwright_sync::Link;

use super::Lines;
use super::ground::{Ground, Header, NIL};

/// What every slot is aligned to.
const QUANTUM_BYTES: usize = 16;
const LINE_BYTES: usize = 64;
/// When memory is exhausted a block may come from up to so many classes above: twice its size.
const BORROW_CLASSES: usize = 8;

/// Headers of so many blocks are asked for before the first is looked at. With 32, as where threads
/// share, the asking itself took longer than the misses (p99.9 182 ns instead of 140).
const ASK_AHEAD_MAX: u32 = 8;

/// So many of the blocks that others sent are brought home before looking whether one was of use:
/// each is a line that another processor wrote last, and who allocates waits for all of them.
const TAKE_IN_COUNT: u32 = 8;

/// Where memory for a span is exhausted a shorter one may do: at first the longest of those that
/// lose at most an eighth behind their last slot, then a fifth, at last any.
const SHORT_SPANS: [usize; 3] = [8, 5, 1];

/// Where spans come from and where blocks of other threads' spans go.
pub(super) trait Home {
    /// Blocks that a list gives back at once when it is too long. Each may be a cache miss, and the
    /// one who frees waits for all of them; a list's length wanders, so that few at a time are not
    /// given back more often than many.
    const FLUSH_COUNT: u32;

    /// A span of `pages` pages, of no class yet, that belongs to the caller.
    fn take(&self, pages: u32) -> Result<u32, AllocError>;
    /// As [`Self::take`], for slots of `class`.
    fn take_span(&self, pages: u32, class: u8) -> Result<u32, AllocError>;
    /// Gives a span back that nobody uses.
    fn give(&self, page: u32);
    /// Whether the caller allocates from the span.
    fn is_mine(&self, header: &Header) -> bool;
    /// Sends blocks, linked from `first` to `last`, to the owner of the first one's span.
    fn send(&self, owner: u16, first: *mut Link, last: *mut Link);
    /// Blocks that others sent.
    fn arrived(&self) -> *mut Link;
    /// A span of `class` with free slots whose owner has gone; it is the caller's now.
    fn adopt(&self, class: u8) -> Option<u32>;
}

/// Free blocks of one class.
#[derive(Debug)]
struct Cache {
    head: Cell<*mut Link>,
    count: Cell<u32>,
    /// Above this some are flushed.
    limit: Cell<u32>,
}

/// The lists of all classes and the spans that refill them.
#[derive(Debug)]
pub(super) struct Caches {
    pub(super) ground: Ground,
    classes: &'static ClassTable,
    lines: Lines,
    caches: [Cache; CLASS_COUNT],
    /// First span of each class with free or unused slots.
    partial: [Cell<u32>; CLASS_COUNT],
    /// Blocks that others sent and that are still on their way home.
    arriving: Cell<*mut Link>,
}

impl Caches {
    pub(super) fn new(ground: Ground, lines: Lines) -> Self {
        let classes = match lines {
            Lines::Packed => &CLASSES,
            Lines::Whole => &LINE_CLASSES,
        };
        let caches = core::array::from_fn(|class| Cache {
            head: Cell::new(core::ptr::null_mut()),
            count: Cell::new(0),
            limit: Cell::new(2 * SHAPES[class].batch),
        });
        let partial = core::array::from_fn(|_| Cell::new(NIL));
        let arriving = Cell::new(core::ptr::null_mut());
        Self { ground, classes, lines, caches, partial, arriving }
    }

    /// The class that serves `layout`; none for large blocks and alignments above a page.
    #[inline(always)]
    pub(super) fn class_of(&self, layout: Layout) -> Option<usize> {
        if layout.size() <= TABLE_BYTES_MAX && layout.align() <= QUANTUM_BYTES {
            return Some(usize::from(self.classes[unit_of(layout.size())]));
        }
        self.class_of_rare(layout)
    }

    #[inline(never)]
    fn class_of_rare(&self, layout: Layout) -> Option<usize> {
        let least = if self.lines == Lines::Whole { LINE_BYTES } else { QUANTUM_BYTES };
        if layout.align() > PAGE_BYTES || layout.size() > SMALL_BYTES_MAX {
            return None;
        }
        class_of_aligned(layout.size(), layout.align().max(least))
    }

    /// How many bytes a block of `layout` may use.
    #[inline(always)]
    pub(super) fn usable_bytes(&self, layout: Layout) -> usize {
        match self.class_of(layout) {
            Some(class) => class_bytes(class),
            None => layout.size().div_ceil(PAGE_BYTES) * PAGE_BYTES,
        }
    }

    #[inline(always)]
    fn cache(&self, class: usize) -> &Cache {
        debug_assert!(class < CLASS_COUNT);
        // SAFETY: a class of the tables or of `class_of_aligned`, all below the count.
        unsafe { self.caches.get_unchecked(class) }
    }

    /// A block of `class` from its list.
    #[inline(always)]
    pub(super) fn pop(&self, class: usize) -> Option<NonNull<u8>> {
        let cache = self.cache(class);
        let block = NonNull::new(cache.head.get())?;
        // SAFETY: in our list, so a free slot with a link that only we use (SL3).
        let Link { next } = unsafe { block.read() };
        cache.head.set(next);
        cache.count.set(cache.count.get() - 1);
        Some(block.cast())
    }

    /// Puts a block into the list of `class`; whether the list is too long now.
    ///
    /// # Safety
    /// - `block` is a slot of this slab of at least the class's size that the caller gives up.
    #[inline(always)]
    pub(super) unsafe fn push(&self, class: usize, block: NonNull<u8>) -> bool {
        let cache = self.cache(class);
        let link = block.cast::<Link>();
        let next = cache.head.get();
        if next == link.as_ptr() {
            freed_twice(next.addr());
        }
        // SAFETY: a slot is at least 16 bytes and aligned to them; given up by the caller.
        unsafe { link.write(Link { next }) };
        cache.head.set(link.as_ptr());
        let count = cache.count.get() + 1;
        cache.count.set(count);
        count > cache.limit.get()
    }

    /// Refills the empty list of `class` and takes one block of it.
    #[cold]
    #[inline(never)]
    pub(super) fn refill<H: Home>(
        &self,
        home: &H,
        class: usize,
    ) -> Result<NonNull<u8>, AllocError> {
        let filled = self.fill(home, class);
        self.check(home);
        match filled {
            Ok(from) => self.pop(from).ok_or_else(|| unreachable_empty(class)),
            Err(error) => Err(error),
        }
    }

    /// Puts blocks into the list of `class`, or says which larger class has some.
    fn fill<H: Home>(&self, home: &H, class: usize) -> Result<usize, AllocError> {
        if self.load(class) {
            return Ok(class);
        }
        while self.take_in(home, TAKE_IN_COUNT) {
            if self.load(class) {
                return Ok(class);
            }
        }
        if let Some(page) = home.adopt(class as u8) {
            self.link(class, page);
            self.load(class);
            return Ok(class);
        }
        let shape = SHAPES[class];
        let error = match home.take_span(shape.pages, class as u8) {
            Ok(page) => return Ok(self.start(class, page)),
            Err(error) => error,
        };
        // Exhausted: what the lists hold may empty spans; a shorter span may do; and at last a
        // larger block.
        self.flush_all(home);
        if self.load(class) {
            return Ok(class);
        }
        let slot_bytes = class_bytes(class);
        for waste_share_max in SHORT_SPANS {
            for pages in (slot_bytes.div_ceil(PAGE_BYTES) as u32..=shape.pages).rev() {
                let bytes = pages as usize * PAGE_BYTES;
                if bytes % slot_bytes > bytes / waste_share_max {
                    continue;
                }
                if let Ok(page) = home.take_span(pages, class as u8) {
                    return Ok(self.start(class, page));
                }
            }
        }
        let above = class + 1..(class + 1 + BORROW_CLASSES).min(CLASS_COUNT);
        let fits = |from: &usize| class_bytes(*from).is_multiple_of(self.slot_align(class));
        above.filter(fits).find(|from| self.load(*from)).ok_or(error)
    }

    /// What a block of `class` may count on: the largest power of two that divides its size.
    fn slot_align(&self, class: usize) -> usize {
        let least = if self.lines == Lines::Whole { LINE_BYTES } else { QUANTUM_BYTES };
        (1 << class_bytes(class).trailing_zeros()).min(PAGE_BYTES).max(least)
    }

    /// The first blocks of a new span.
    fn start(&self, class: usize, page: u32) -> usize {
        self.link(class, page);
        let loaded = self.load(class);
        debug_assert!(loaded, "a new span has slots");
        class
    }

    /// Fills the empty list of `class` from its first span: all its free slots, or some that were
    /// never used.
    fn load(&self, class: usize) -> bool {
        let page = self.partial[class].get();
        if page == NIL {
            return false;
        }
        let header = self.ground.header(page);
        let slot_bytes = class_bytes(class);
        let slots = header.slot_count(slot_bytes);
        let touched = slots - usize::from(header.unused.get());
        let batch = SHAPES[class].batch;
        let (head, count) = if header.free.get().is_null() {
            let count = usize::from(header.unused.get()).min(batch as usize);
            header.unused.set(header.unused.get() - count as u16);
            let start = page as usize * PAGE_BYTES + touched * slot_bytes;
            (self.chain(start, slot_bytes, count), count)
        } else {
            (header.free.replace(core::ptr::null_mut()), touched - usize::from(header.used()))
        };
        header.set_used(header.used() + count as u16);
        if header.unused.get() == 0 {
            self.unlink(class, page);
        }
        let cache = self.cache(class);
        debug_assert!(cache.head.get().is_null() && count > 0);
        cache.head.set(head);
        cache.count.set(count as u32);
        cache.limit.set((count as u32).max(batch) + batch);
        true
    }

    /// Links `count` slots that were never used, from byte `start` of the pages.
    fn chain(&self, start: usize, slot_bytes: usize, count: usize) -> *mut Link {
        let mut next = core::ptr::null_mut();
        for index in (0..count).rev() {
            let slot = self.ground.at(start + index * slot_bytes).cast::<Link>();
            // SAFETY: a slot of a span of ours that nobody has (SL3), aligned for a link.
            unsafe { slot.write(Link { next }) };
            next = slot.as_ptr();
        }
        next
    }

    /// Gives some blocks of the list of `class`, which is too long, back to their spans.
    #[cold]
    #[inline(never)]
    pub(super) fn flush<H: Home>(&self, home: &H, class: usize) {
        let batch = SHAPES[class].batch;
        let left = self.cache(class).count.get().saturating_sub(H::FLUSH_COUNT).max(batch);
        if H::FLUSH_COUNT <= ASK_AHEAD_MAX {
            self.ask_ahead(class, H::FLUSH_COUNT);
        }
        self.flush_to(home, class, left);
        self.check(home);
    }

    /// Asks for the headers of the first `count` blocks' pages, which lie anywhere: all misses at
    /// once instead of one after the other. The blocks themselves were written lately.
    fn ask_ahead(&self, class: usize, count: u32) {
        let mut next = self.cache(class).head.get();
        for _ in 0..count {
            let Some(block) = NonNull::new(next) else { break };
            let page = self.ground.offset_of(block.cast()) / PAGE_BYTES;
            if page >= self.ground.page_count() as usize {
                // Not this slab's: `settle` says so.
                break;
            }
            prefetch_read(self.ground.header(page as u32));
            // SAFETY: in our list (SL3).
            next = unsafe { block.read() }.next;
        }
    }

    /// Gives all blocks of all lists back to their spans, and what is empty then.
    pub(super) fn flush_all<H: Home>(&self, home: &H) {
        for class in 0..CLASS_COUNT {
            self.flush_to(home, class, 0);
            self.give_empty(home, class);
        }
    }

    fn flush_to<H: Home>(&self, home: &H, class: usize, keep: u32) {
        let mut outgoing = Outgoing::default();
        while self.cache(class).count.get() > keep {
            let Some(block) = self.pop(class) else { break };
            self.settle(home, block.cast(), &mut outgoing);
        }
        outgoing.send(home);
        self.cache(class).limit.set(2 * SHAPES[class].batch);
    }

    /// Brings at most `count` of the blocks that were sent here to their spans; whether there were
    /// any.
    fn take_in<H: Home>(&self, home: &H, count: u32) -> bool {
        if self.arriving.get().is_null() {
            self.arriving.set(home.arrived());
        }
        let mut outgoing = Outgoing::default();
        let mut taken = 0;
        while taken < count {
            let Some(block) = NonNull::new(self.arriving.get()) else { break };
            // SAFETY: linked, and ours since it was sent.
            self.arriving.set(unsafe { block.read() }.next);
            self.settle(home, block, &mut outgoing);
            taken += 1;
        }
        outgoing.send(home);
        taken > 0
    }

    /// As [`Self::take_in`], all that came until now.
    pub(super) fn take_all_in<H: Home>(&self, home: &H) {
        // What is left of an earlier delivery, then what came since.
        self.take_in(home, u32::MAX);
        self.take_in(home, u32::MAX);
    }

    /// Gives a block to its span, or to those that go to the span's owner.
    fn settle<H: Home>(&self, home: &H, block: NonNull<Link>, outgoing: &mut Outgoing) {
        let offset = self.ground.offset_of(block.cast());
        assert!(
            offset < self.ground.page_count() as usize * PAGE_BYTES,
            "{block:p} is not this slab's"
        );
        let page = self.ground.span_of(offset);
        let header = self.ground.header(page);
        if !home.is_mine(header) {
            outgoing.add(home, header.owner(), block);
            return;
        }
        let class = usize::from(header.class.get());
        let span_offset = offset - page as usize * PAGE_BYTES;
        debug_assert!(span_offset.is_multiple_of(class_bytes(class)), "{block:p} is inside a slot");
        let first_free = header.free.get().is_null() && header.unused.get() == 0;
        put_slot(header, block);
        if header.used() == 0 && !(first_free || self.is_alone(class, page)) {
            self.unlink(class, page);
            home.give(page);
        } else if header.used() == 0 && first_free && self.partial[class].get() != NIL {
            home.give(page);
        } else if first_free {
            self.give_empty(home, class);
            self.link(class, page);
        }
    }

    /// Gives the empty span of `class` up, if there is one: it is alone on its list then (SL4).
    fn give_empty<H: Home>(&self, home: &H, class: usize) {
        let page = self.partial[class].get();
        if page != NIL && self.ground.header(page).used() == 0 {
            self.unlink(class, page);
            home.give(page);
        }
    }

    /// Whether `page`, which has free slots, is the only span of `class` that does.
    fn is_alone(&self, class: usize, page: u32) -> bool {
        self.partial[class].get() == page && self.ground.header(page).next.get() == NIL
    }

    fn link(&self, class: usize, page: u32) {
        link(&self.ground, &self.partial[class], page);
    }

    fn unlink(&self, class: usize, page: u32) {
        unlink(&self.ground, &self.partial[class], page);
    }

    /// Gives up all spans, which others may have. Lists are empty already.
    pub(super) fn abandon(&self, mut visit: impl FnMut(usize, u32)) {
        for class in 0..CLASS_COUNT {
            debug_assert!(self.cache(class).head.get().is_null());
            debug_assert!(self.arriving.get().is_null());
            while self.partial[class].get() != NIL {
                let page = self.partial[class].get();
                self.unlink(class, page);
                visit(class, page);
            }
        }
    }

    /// Blocks in the lists and their bytes: no user has them. A borrowed block counts as its
    /// list's class.
    pub(super) fn cached(&self) -> (usize, usize) {
        let mut sums = (0, 0);
        for class in 0..CLASS_COUNT {
            let mut next = self.cache(class).head.get();
            while let Some(block) = NonNull::new(next) {
                let page = self.ground.span_of(self.ground.offset_of(block.cast()));
                let own = usize::from(self.ground.header(page).class.get());
                sums = (sums.0 + 1, sums.1 + class_bytes(own));
                // SAFETY: in our list (SL3).
                next = unsafe { block.read() }.next;
            }
        }
        sums
    }

    /// The largest block that could be had without another span.
    pub(super) fn largest_ready_bytes(&self) -> usize {
        let ready = |class: &usize| {
            self.partial[*class].get() != NIL || !self.cache(*class).head.get().is_null()
        };
        (0..CLASS_COUNT).rev().find(ready).map_or(0, class_bytes)
    }

    /// Walks SL3 to SL6 as far as this side sees; empty in release builds.
    pub(super) fn check<H: Home>(&self, home: &H) {
        if !cfg!(debug_assertions) {
            return;
        }
        for class in 0..CLASS_COUNT {
            let mut prev = NIL;
            let mut page = self.partial[class].get();
            while page != NIL {
                let header = self.ground.header(page);
                assert!(home.is_mine(header), "SL6: page {page}");
                assert_eq!(usize::from(header.class.get()), class, "SL4: page {page}");
                assert_eq!(header.prev.get(), prev, "SL4: page {page}");
                assert!(
                    !header.free.get().is_null() || header.unused.get() > 0,
                    "SL4: page {page} has no slot to give"
                );
                let alone = prev == NIL && header.next.get() == NIL;
                assert!(header.used() > 0 || alone, "SL4: page {page} is empty");
                check_span(header, class_bytes(class));
                prev = page;
                page = header.next.get();
            }
            assert!(
                self.lines == Lines::Packed
                    || prev == NIL
                    || class_bytes(class).is_multiple_of(LINE_BYTES),
                "SL5: class {class}"
            );
        }
    }
}

/// Counts a span's slots: in use, never used, free.
fn check_span(header: &Header, slot_bytes: usize) {
    let slots = header.slot_count(slot_bytes);
    let free = slots - usize::from(header.unused.get()) - usize::from(header.used());
    let mut next = header.free.get();
    for _ in 0..free {
        let block = NonNull::new(next).expect("SL3: the free list is too short");
        // SAFETY: on the free list of a span of ours (SL3).
        next = unsafe { block.read() }.next;
    }
    assert!(next.is_null(), "SL3: the free list is too long");
}

/// Puts a slot onto its span's free list.
pub(super) fn put_slot(header: &Header, slot: NonNull<Link>) {
    // SAFETY: a slot of that span which nobody uses any more, aligned for a link.
    unsafe { slot.write(Link { next: header.free.get() }) };
    header.free.set(slot.as_ptr());
    debug_assert!(header.used() > 0, "SL3: more slots come back than went");
    header.set_used(header.used() - 1);
}

/// Puts a span at the front of a list.
pub(super) fn link(ground: &Ground, head: &Cell<u32>, page: u32) {
    let header = ground.header(page);
    let next = head.get();
    header.prev.set(NIL);
    header.next.set(next);
    if next != NIL {
        ground.header(next).prev.set(page);
    }
    head.set(page);
}

/// Takes a span out of a list.
pub(super) fn unlink(ground: &Ground, head: &Cell<u32>, page: u32) {
    let header = ground.header(page);
    let (prev, next) = (header.prev.get(), header.next.get());
    if prev == NIL {
        debug_assert_eq!(head.get(), page);
        head.set(next);
    } else {
        ground.header(prev).next.set(next);
    }
    if next != NIL {
        ground.header(next).prev.set(prev);
    }
}

/// Blocks on their way to one owner.
struct Outgoing {
    owner: u16,
    first: *mut Link,
    last: *mut Link,
}

impl Default for Outgoing {
    fn default() -> Self {
        Self { owner: 0, first: core::ptr::null_mut(), last: core::ptr::null_mut() }
    }
}

impl Outgoing {
    fn add<H: Home>(&mut self, home: &H, owner: u16, block: NonNull<Link>) {
        if self.owner != owner {
            self.send(home);
            self.owner = owner;
        }
        // SAFETY: a slot that nobody uses, aligned for a link.
        unsafe { block.write(Link { next: self.first }) };
        if self.first.is_null() {
            self.last = block.as_ptr();
        }
        self.first = block.as_ptr();
    }

    fn send<H: Home>(&mut self, home: &H) {
        if !self.first.is_null() {
            home.send(self.owner, self.first, self.last);
            (self.first, self.last) = (core::ptr::null_mut(), core::ptr::null_mut());
        }
    }
}

#[cold]
#[inline(never)]
fn freed_twice(address: usize) -> ! {
    panic!("{address:#x} was given back twice in a row");
}

#[cold]
fn unreachable_empty(class: usize) -> AllocError {
    debug_assert!(false, "class {class} was filled and is empty");
    AllocError::Full {
        requested_bytes: class_bytes(class),
        largest_free_bytes: 0,
        capacity_bytes: 0,
    }
}
