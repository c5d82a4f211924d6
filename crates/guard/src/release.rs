//! Taking blocks back: every check that a free can make.

use core::ptr::null_mut;

use heapwright_core::family::Family;
use heapwright_sync::atomic::Ordering;

use crate::alloc::guard_cost;
use crate::finding::{BlockView, Finding, Kind};
use crate::heap::{Heap, Request, Return};
use crate::pages::Room;
use crate::record::{BlockId, Record, State, Watch};
use crate::thread::{Trace, me, trace};
use crate::{boot, canary, plain, sampled};

/// Bytes of freed packed blocks that are held back at least, and at most.
const QUARANTINE_BYTES: (usize, usize) = (1 << 20, 64 << 20);

impl Heap {
    /// Takes a block back, or tells why it cannot be one. Null is nothing.
    pub(crate) fn free(&self, block: *mut u8, how: Return) {
        let address = block.addr();
        if address == 0 || boot::holds(address) {
            return;
        }
        if !self.ready() {
            if self.is_plain() {
                // SAFETY: the program's blocks are all of `plain` then; that it gives back only
                // live ones is what nobody checks now.
                unsafe { plain::free(block) };
            }
            return;
        }
        let trace = trace(&self.depot);
        let Some((id, record)) = self.take_back(address, how.family, &trace, "") else { return };
        self.check_words(record, how, &trace);
        self.release(id, record, &trace);
    }

    /// Changes a block's size: it always moves, so that the old pointer is found in use.
    pub(crate) fn realloc(&self, block: *mut u8, bytes: usize) -> *mut u8 {
        let request = Request { bytes, align_bytes: 1, family: Family::Malloc, zeroed: false };
        let address = block.addr();
        if address == 0 {
            return self.alloc(request);
        }
        if boot::holds(address) {
            // SAFETY: of the boot arena.
            let old_bytes = unsafe { boot::bytes_of(block) };
            return self.move_unchecked(block, old_bytes, request);
        }
        if !self.ready() {
            return self.realloc_plain(block, request);
        }
        let trace = trace(&self.depot);
        if bytes == 0 {
            if let Some((id, record)) = self.take_back(address, Family::Malloc, &trace, "realloc") {
                self.release(id, record, &trace);
            }
            return null_mut();
        }
        // The new block first: without memory the old one stays the program's.
        let new = self.alloc_traced(request, &trace);
        if new.is_null() {
            return new;
        }
        let Some((id, record)) = self.take_back(address, Family::Malloc, &trace, "realloc") else {
            let nothing = Return { family: Family::Malloc, bytes: None, align_bytes: None };
            self.free(new, nothing);
            return null_mut();
        };
        let kept_bytes = record.bytes().min(bytes);
        // SAFETY: both blocks have at least so many bytes and are ours now; they do not overlap.
        unsafe { core::ptr::copy_nonoverlapping(block, new, kept_bytes) };
        self.release(id, record, &trace);
        new
    }

    /// Whether the program's blocks are `plain` ones: there is no heap and will be none.
    fn is_plain(&self) -> bool {
        self.is_impossible() && !sampled::is_on()
    }

    /// A new block with the contents of one of `old_bytes`, which stays.
    #[cold]
    fn move_unchecked(&self, block: *mut u8, old_bytes: usize, request: Request) -> *mut u8 {
        let new = self.alloc(request);
        if !new.is_null() {
            // SAFETY: both have at least so many bytes, and the new one is another.
            unsafe { core::ptr::copy_nonoverlapping(block, new, old_bytes.min(request.bytes)) };
        }
        new
    }

    #[cold]
    fn realloc_plain(&self, block: *mut u8, request: Request) -> *mut u8 {
        if !self.is_plain() {
            return null_mut();
        }
        // SAFETY: the program's blocks are all of `plain`, and this one is live by its word.
        let old_bytes = unsafe { plain::bytes_of(block) };
        let new = match request.bytes {
            0 => null_mut(),
            _ => self.move_unchecked(block, old_bytes, request),
        };
        if !new.is_null() || request.bytes == 0 {
            // SAFETY: as above; the program gives it up.
            unsafe { plain::free(block) };
        }
        new
    }

    /// Bytes of a live block; 0, with a finding told, for any other address.
    pub(crate) fn usable_bytes(&self, block: *mut u8) -> usize {
        if boot::holds(block.addr()) {
            // SAFETY: of the boot arena.
            return unsafe { boot::bytes_of(block) };
        }
        if block.is_null() {
            return 0;
        }
        if !self.ready() {
            // SAFETY: the program's blocks are all of `plain`, and this one is live by its word.
            return if self.is_plain() { unsafe { plain::bytes_of(block) } } else { 0 };
        }
        let found = self.block_at(block.addr());
        if let Some((_, record)) = found
            && record.start() == block.addr()
            && record.state() == State::Live
        {
            return record.bytes();
        }
        let view = found.map(|(_, record)| BlockView::of(record));
        let is_freed = view.is_some_and(|view| view.state == State::Freed);
        let kind = if is_freed { Kind::UseAfterFree } else { Kind::InvalidFree };
        let finding = at(kind, block.addr(), &trace(&self.depot));
        self.tell(Finding { block: view, via: "malloc_usable_size", ..finding });
        0
    }

    /// Takes the block at `address` from the program, checked; none, with a finding told, when
    /// there is no such block.
    fn take_back(
        &self,
        address: usize,
        family: Family,
        trace: &Trace,
        via: &'static str,
    ) -> Option<(BlockId, &Record)> {
        let found = self.block_at(address);
        if let Some((id, record)) = found
            && record.start() == address
            && record.take(family)
        {
            self.check_family(record, family, trace);
            self.check_canaries(record, Some(trace));
            return Some((id, record));
        }
        let view = found.map(|(_, record)| BlockView::of(record));
        let is_double = view.is_some_and(|view| view.start == address && view.state != State::Live);
        let kind = if is_double { Kind::DoubleFree } else { Kind::InvalidFree };
        self.tell(Finding { block: view, via, ..at(kind, address, trace) });
        None
    }

    fn check_family(&self, record: &Record, family: Family, trace: &Trace) {
        if record.family() != family {
            let block = Some(BlockView::of(record));
            self.tell(Finding { block, ..at(Kind::MismatchedFree, record.start(), trace) });
        }
    }

    /// Whether size and alignment given to a free are the block's.
    fn check_words(&self, record: &Record, how: Return, trace: &Trace) {
        // A wrong function takes wrong words for granted.
        if record.family() != how.family {
            return;
        }
        let told = how.bytes.filter(|bytes| *bytes != record.bytes());
        if let Some(told) = told {
            let block = Some(BlockView::of(record));
            let finding = at(Kind::WrongSizeFree, record.start(), trace);
            self.tell(Finding { block, told, ..finding });
        }
    }

    /// Looks at the canaries of a block whose room may be read.
    pub(crate) fn check_canaries(&self, record: &Record, trace: Option<&Trace>) {
        if record.room() == 0 {
            return;
        }
        // SAFETY: the room is open: the block is live, or its free waits for this.
        let Some(broken) = (unsafe { canary::broken(record) }) else { return };
        if record.mark(crate::record::marks::TOLD) & crate::record::marks::TOLD != 0 {
            return;
        }
        let kind = match broken.is_before {
            true => Kind::OverwrittenBefore,
            false => Kind::OverwrittenAfter,
        };
        let none = Trace::default();
        let finding = at(kind, broken.nearest, trace.unwrap_or(&none));
        let bytes = broken.nearest.abs_diff(broken.farthest) + 1;
        let block = Some(BlockView::of(record));
        let filler = Some(broken.value);
        self.tell(Finding { bytes, block, filler, is_write: Some(true), ..finding });
    }

    /// Puts a block that was taken back out of the program's reach.
    fn release(&self, id: BlockId, record: &Record, trace: &Trace) {
        record.free_stack.store(trace.stack, Ordering::Relaxed);
        record.free_thread.store(trace.thread.max(1), Ordering::Relaxed);
        self.counts.live_bytes.fetch_sub(record.bytes(), Ordering::Relaxed);
        if record.watch() == Watch::Packed {
            self.release_packed(id, record);
            return;
        }
        let room = Room { home: record.home(), bytes: record.room() };
        if let Some(site) = self.sites.get(record.site.load(Ordering::Relaxed)) {
            site.guarded.fetch_sub(1, Ordering::Relaxed);
        }
        if self.pages.close(room) {
            self.counts.guarded_live_bytes.fetch_sub(guard_cost(room.bytes), Ordering::Relaxed);
        } else {
            // The pages stay, and count as used.
            // SAFETY: the room is open, and the program gave it up.
            unsafe { canary::fill(record.start(), record.bytes(), canary::POISON) };
            record.set_watch(Watch::Unguarded);
            self.counts.unguardable.fetch_add(1, Ordering::Relaxed);
        }
        record.set_freed();
        // From inside the heap's own work: the record is lost, and nothing else.
        if let Ok(mut books) = self.books.lock(me()) {
            books.freed.push(&self.records, id, 0);
        }
    }

    fn release_packed(&self, id: BlockId, record: &Record) {
        // SAFETY: the slot is ours and the program gave the block up.
        unsafe { canary::fill(record.start(), record.bytes(), canary::POISON) };
        record.set_freed();
        let (least, most) = QUARANTINE_BYTES;
        let kept_bytes = (self.allowance_bytes() / 8).clamp(least, most);
        let Ok(mut books) = self.books.lock(me()) else { return };
        books.quarantine.push(&self.records, id, record.room());
        while books.quarantine.bytes > kept_bytes {
            let oldest = books.quarantine.pop(&self.records);
            let Some(record) = self.records.get(oldest as usize).filter(|_| oldest != 0) else {
                return;
            };
            books.quarantine.bytes -= record.room();
            self.check_poison(record);
            let Some(class) = crate::packed::class_of_slot(record.room()) else { continue };
            record.clear();
            record.next.store(books.packed.free[class], Ordering::Relaxed);
            books.packed.free[class] = oldest;
        }
    }

    /// Looks whether a freed packed block was written to.
    pub(crate) fn check_poison(&self, record: &Record) {
        // SAFETY: slots stay readable for ever.
        let written = unsafe { canary::unpoisoned(record.start(), record.bytes()) };
        if let Some(address) = written
            && record.mark(crate::record::marks::TOLD) & crate::record::marks::TOLD == 0
        {
            let finding = at(Kind::WriteAfterFree, address, &Trace::default());
            let block = Some(BlockView::of(record));
            self.tell(Finding { block, is_write: Some(true), ..finding });
        }
    }

    /// Tells a finding.
    pub(crate) fn tell(&self, finding: Finding) -> bool {
        self.reporter.tell(&finding, &self.depot, &self.options)
    }
}

/// A finding at an address, made by a call with this trace.
pub(crate) fn at(kind: Kind, address: usize, trace: &Trace) -> Finding {
    Finding { stack: trace.stack, thread: trace.thread, ..Finding::new(kind, address) }
}
