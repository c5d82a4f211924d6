//! Making blocks: where a block lies in its room, and what lies around it.

use core::ptr::null_mut;

use heapwright_sync::atomic::Ordering;

use crate::heap::{Books, Heap, Request};
use crate::options::Flag;
use crate::packed::{BEFORE_BYTES, Packed};
use crate::pages::{PAGE_BYTES, Room};
use crate::record::{BlockId, Record, State, Watch};
use crate::thread::{Trace, me, trace};
use crate::{boot, canary, plain, sampled};

/// Blocks larger than this cannot be had.
const BLOCK_BYTES_MAX: usize = 1 << 43;
/// Alignment of every block: that of the platform's malloc.
const ALIGN_BYTES: usize = 16;
/// Records of freed guarded blocks that are kept at least.
const FREED_COUNT_LEAST: usize = 1 << 16;

/// The calling thread is inside the heap's own work (a signal interrupted it).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reentered;

impl Heap {
    /// A block; null without memory.
    pub(crate) fn alloc(&self, request: Request) -> *mut u8 {
        if !self.ready() {
            return self.alloc_unchecked(request);
        }
        let trace = trace(&self.depot);
        self.alloc_traced(request, &trace)
    }

    /// A block for a call whose stack is known.
    pub(crate) fn alloc_traced(&self, request: Request, trace: &Trace) -> *mut u8 {
        if request.bytes > BLOCK_BYTES_MAX || request.align_bytes > BLOCK_BYTES_MAX {
            return null_mut();
        }
        let (site, before) = self.sites.count(trace.site, trace.stack);
        self.counts.blocks.fetch_add(1, Ordering::Relaxed);
        let class = Packed::class(request.bytes, request.align_bytes);
        if class.is_none() || self.is_to_be_guarded(request.bytes, trace, site, before) {
            match self.alloc_guarded(request, trace, site) {
                Ok(block) if !block.is_null() || class.is_none() => return block,
                Ok(_) => {
                    self.counts.unguardable.fetch_add(1, Ordering::Relaxed);
                }
                Err(Reentered) => return self.alloc_unchecked(request),
            }
        }
        let Some(class) = class else { return null_mut() };
        let packed = self.alloc_packed(request, trace, site, class);
        packed.unwrap_or_else(|Reentered| self.alloc_unchecked(request))
    }

    /// A block that is not checked.
    #[cold]
    fn alloc_unchecked(&self, request: Request) -> *mut u8 {
        self.counts.unchecked.fetch_add(1, Ordering::Relaxed);
        if self.is_impossible() && !sampled::is_on() {
            return plain::alloc(request.bytes, request.align_bytes);
        }
        boot::alloc(request.bytes, request.align_bytes)
    }

    /// A record that nobody uses: a fresh one, or the one of the block freed longest ago when
    /// enough are kept.
    fn take_record(&self, books: &mut Books) -> Option<BlockId> {
        let least = if sampled::is_on() { sampled::FREED_COUNT } else { FREED_COUNT_LEAST };
        let kept = least.max(self.allowance_bytes() / 8 / size_of::<Record>());
        if books.freed.count > kept {
            let id = books.freed.pop(&self.records);
            if let Some(record) = self.records.get(id as usize).filter(|_| id != 0) {
                record.clear();
                return Some(id);
            }
        }
        self.take_records(books, 1)
    }

    /// `count` fresh records in a row; the first one's number.
    fn take_records(&self, books: &mut Books, count: usize) -> Option<BlockId> {
        let first = books.record_count + 1;
        if first + count > self.records.len() {
            return None;
        }
        books.record_count += count;
        Some(first as BlockId)
    }

    /// A block on pages of its own; null when there are none.
    pub(crate) fn alloc_guarded(
        &self,
        request: Request,
        trace: &Trace,
        site: u32,
    ) -> Result<*mut u8, Reentered> {
        let room_bytes = request.bytes.next_multiple_of(PAGE_BYTES);
        let taken = {
            let mut books = self.books.lock(me()).map_err(|_| Reentered)?;
            let Some(id) = self.take_record(&mut books) else { return Ok(null_mut()) };
            let align_bytes = request.align_bytes;
            let room = self.pages.take(&mut books.cursor, room_bytes, align_bytes, id);
            if room.is_none() {
                books.freed.push(&self.records, id, 0);
            }
            room.map(|room| (id, room))
        };
        let Some((id, room)) = taken else { return Ok(null_mut()) };
        let Some(record) = self.records.get(id as usize) else { return Ok(null_mut()) };
        record.begin(request.family, Watch::Guarded);
        let start = self.place(room, request);
        if !self.pages.open(room) {
            record.clear();
            return Ok(null_mut());
        }
        self.describe(record, (room.home, room.bytes), (start, request.bytes), trace, site);
        if room.bytes > 0 {
            // SAFETY: the room was opened above and is not the program's yet.
            unsafe { canary::arm(record) };
            // Fresh pages are zero.
            if !request.zeroed {
                self.fill(start, request.bytes, trace.site, true);
            }
        }
        self.counts.guarded.fetch_add(1, Ordering::Relaxed);
        self.counts.guarded_live_bytes.fetch_add(guard_cost(room.bytes), Ordering::Relaxed);
        if let Some(site) = self.sites.get(site) {
            site.guarded.fetch_add(1, Ordering::Relaxed);
        }
        Ok(self.hand_out(record))
    }

    /// Where a block begins in its room: its end as near to the guard as its alignment allows,
    /// or its start.
    fn place(&self, room: Room, request: Request) -> usize {
        let is_left = self.options.has(Flag::Left) || sampled::wants_left(room.home);
        if is_left || request.align_bytes > PAGE_BYTES {
            return room.home;
        }
        let exact = self.options.has(Flag::Exact) && request.align_bytes <= ALIGN_BYTES;
        let align_bytes = match exact {
            // As much as objects of that size can need.
            true => 1usize << request.bytes.max(1).trailing_zeros().min(4),
            false => request.align_bytes.max(ALIGN_BYTES),
        };
        // The room ends at a page, and so at a multiple of the alignment.
        (room.home + room.bytes - request.bytes) & !(align_bytes - 1)
    }

    fn describe(
        &self,
        record: &Record,
        (home, room): (usize, usize),
        (start, bytes): (usize, usize),
        trace: &Trace,
        site: u32,
    ) {
        debug_assert!(home <= start && start + bytes <= home + room);
        record.home.store(home, Ordering::Relaxed);
        record.room.store(room, Ordering::Relaxed);
        record.start.store(start, Ordering::Relaxed);
        record.bytes.store(bytes, Ordering::Relaxed);
        record.alloc_stack.store(trace.stack, Ordering::Relaxed);
        record.alloc_thread.store(trace.thread, Ordering::Relaxed);
        record.site.store(site, Ordering::Relaxed);
    }

    /// Fills a new block with bytes that are no value, as far as the options say.
    fn fill(&self, start: usize, bytes: usize, site: u64, is_zero: bool) {
        let (byte, bytes_max) = self.options.fill(site);
        if !(is_zero && byte == 0) {
            // SAFETY: the block is writable and not the program's yet.
            unsafe { canary::fill(start, bytes.min(bytes_max), byte) };
        }
    }

    fn hand_out(&self, record: &Record) -> *mut u8 {
        self.counts.live_bytes.fetch_add(record.bytes(), Ordering::Relaxed);
        let block = core::ptr::with_exposed_provenance_mut(record.start());
        record.publish();
        block
    }

    /// A block in a slot; null when there is none.
    fn alloc_packed(
        &self,
        request: Request,
        trace: &Trace,
        site: u32,
        class: usize,
    ) -> Result<*mut u8, Reentered> {
        let id = {
            let mut books = self.books.lock(me()).map_err(|_| Reentered)?;
            self.take_slot(&mut books, class)
        };
        let Some(record) = id.and_then(|id| self.records.get(id as usize)) else {
            return Ok(null_mut());
        };
        let (home, room) = (record.home(), record.room());
        record.begin(request.family, Watch::Packed);
        let align_bytes = request.align_bytes.max(ALIGN_BYTES);
        let start = (home + BEFORE_BYTES).next_multiple_of(align_bytes);
        self.describe(record, (home, room), (start, request.bytes), trace, site);
        // SAFETY: the slot is committed, ours and not the program's yet.
        unsafe { canary::arm(record) };
        if request.zeroed {
            // SAFETY: as above.
            unsafe { canary::fill(start, request.bytes, 0) };
        } else {
            self.fill(start, request.bytes, trace.site, false);
        }
        self.counts.packed.fetch_add(1, Ordering::Relaxed);
        Ok(self.hand_out(record))
    }

    /// A free slot of `class`.
    fn take_slot(&self, books: &mut Books, class: usize) -> Option<BlockId> {
        if books.packed.free[class] == 0 {
            let slab = self.packed.grow(&mut books.packed, class)?;
            let first = self.take_records(books, slab.slot_count)?;
            for slot in (0..slab.slot_count).rev() {
                let id = first + slot as BlockId;
                let record = self.records.get(id as usize)?;
                record.home.store(slab.start + slot * slab.slot_bytes, Ordering::Relaxed);
                record.room.store(slab.slot_bytes, Ordering::Relaxed);
                record.next.store(books.packed.free[class], Ordering::Relaxed);
                books.packed.free[class] = id;
            }
            self.packed.settle(&slab, first);
            let bytes = slab.slot_count * (slab.slot_bytes + size_of::<Record>());
            self.counts.slab_bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        let id = books.packed.free[class];
        let record = self.records.get(id as usize)?;
        debug_assert_eq!(record.state(), State::Empty);
        books.packed.free[class] = record.next.load(Ordering::Relaxed);
        Some(id)
    }
}

/// What a guarded block costs: its pages, and what the kernel and the books keep for each.
pub(crate) fn guard_cost(room_bytes: usize) -> usize {
    room_bytes + size_of::<Record>() + 16
}
