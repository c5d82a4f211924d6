//! Large blocks: a mapping each, between guards, whose addresses wait before others get them.
//!
//! A freed block is out of reach at once and waits (`large_waiting`); a random one waits no longer
//! for each that comes in. Its pages are kept for a while, and moved to the next block's addresses:
//! making and zeroing pages anew is nearly all that a large block costs. Of such a block the first
//! bytes are zeroed, as of a slot, the rest shows what the last one held.
//!
//! # Invariants
//! design/hardened.md#I5: the table has exactly the live large blocks.

use core::ptr::NonNull;

use heapwright_core::family::Family;
use heapwright_os::{
    Advice, Protection, address_space_limit_bytes, advise, commit, cycle_counter, move_pages,
    page_bytes, protect, release, renew, reserve,
};

use crate::alloc::NO_BLOCK;
use crate::geometry::CANARY_BYTES;
use crate::large_table::{LargeTable, Record};
use crate::large_waiting::{Loan, PageRange, Waiting, WaitingRoom};
use crate::options::zeroes_all;
use crate::random::Seed;
use crate::report::{Misuse, Noticed, tell};
use crate::sampling::{self, guard};
use crate::space::populate;
use crate::wait::{Lock, hold};

/// A guard is one page up to so many: nobody can say how far the next block is.
const GUARD_PAGES_MAX: u64 = 8;
/// Addresses that wait, at most, when the process has no limit.
const WAITING_BYTES_MAX: usize = 64 << 30;
/// Bytes of a block of kept pages that are zeroed.
const ZEROED_BYTES: usize = 256;
/// Bytes of a new block whose pages are asked for at once, at most.
pub(crate) const POPULATED_BYTES_MAX: usize = 1 << 20;

/// What large blocks share.
#[derive(Debug)]
pub(crate) struct Large {
    pub(crate) table: LargeTable,
    pub(crate) waiting: WaitingRoom,
    is_limited: bool,
    seed: Option<Seed>,
    secret: u64,
    /// Bytes that live large blocks may touch.
    pub(crate) room_bytes: usize,
}

static LARGE: Lock<Large> = Lock::new(Large {
    table: LargeTable::new(),
    waiting: WaitingRoom::new(),
    is_limited: false,
    seed: None,
    secret: 0,
    room_bytes: 0,
});

/// What large blocks share, to be locked.
pub(crate) fn large() -> &'static Lock<Large> {
    &LARGE
}

impl Large {
    fn random(&mut self) -> u64 {
        if self.seed.is_none() {
            let mut seed = Seed::new((&raw const LARGE).cast());
            self.secret = seed.next();
            let limit = address_space_limit_bytes().map_or(usize::MAX, |bytes| bytes / 16);
            self.waiting.begin(WAITING_BYTES_MAX.min(limit));
            self.is_limited = limit < WAITING_BYTES_MAX;
            self.seed = Some(seed);
        }
        self.seed.as_mut().map_or_else(cycle_counter, Seed::next)
    }

    fn guard_bytes(&mut self) -> usize {
        (1 + self.random() % GUARD_PAGES_MAX) as usize * page_bytes()
    }

    /// Why the address, which starts no live large block, cannot be given back.
    pub(crate) fn what_is_at(&self, ptr: *mut u8) -> Misuse {
        if let Some(Record { start, bytes, family, .. }) = self.table.around(ptr.addr()) {
            return Misuse::FreeInside { distance: ptr.addr() - start, start, bytes, family };
        }
        let waiting = self.waiting.around(ptr.addr()).filter(|_| ptr.addr().is_multiple_of(4096));
        match waiting {
            Some(slot_bytes) => Misuse::DoubleFree { slot_bytes },
            None => Misuse::FreeOfNoBlock,
        }
    }
}

fn give_up(mapping: *mut u8, bytes: usize) {
    if let Some(mapping) = NonNull::new(mapping) {
        // SAFETY: a whole mapping that has waited; no block lies in it. A refusal leaves it
        // mapped, without access.
        let _ = unsafe { release(mapping, bytes) };
    }
}

/// What stands behind a block whose end is `end`, as far as its last page goes.
fn canary(secret: u64, end: usize) -> [u8; CANARY_BYTES] {
    let mixed = (end as u64 ^ secret).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ secret >> 32;
    (mixed | 0x0101_0101_0101_0101).to_le_bytes()
}

pub(crate) fn write_canary(secret: u64, record: &Record, block: *mut u8) {
    let count = (record.room_bytes - record.bytes).min(CANARY_BYTES);
    let bytes = canary(secret, record.start + record.bytes);
    let end = block.wrapping_add(record.bytes);
    // SAFETY: inside the room of a block of ours, behind what the program may touch.
    unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), end, count) };
}

/// Distance behind the block's end of the first byte of its canary that was overwritten.
pub(crate) fn broken(secret: u64, record: &Record, block: *const u8) -> Option<usize> {
    if cfg!(heapwright_hardened_without = "canary") {
        return None;
    }
    let bytes = canary(secret, record.start + record.bytes);
    let count = (record.room_bytes - record.bytes).min(CANARY_BYTES);
    (0..count).find(|distance| {
        // SAFETY: inside the room of a live block.
        (unsafe { block.wrapping_add(record.bytes + distance).read() }) != bytes[*distance]
    })
}

/// The secret of the canaries.
pub(crate) fn secret(large: &Large) -> u64 {
    large.secret
}

/// When a block's pages are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pages {
    /// At once: the kernel is asked for the first of them together, not by a fault for each.
    Soon,
    /// Perhaps never: tables that were asked for as zeroes are often left so.
    Later,
}

/// A block with a mapping of its own at a multiple of `align_bytes`, a power of two; zeroed. Null
/// without memory. Three system calls.
#[cold]
#[inline(never)]
pub(crate) fn alloc(bytes: usize, align_bytes: usize, family: Family, pages: Pages) -> *mut u8 {
    crate::thread::begin();
    if guard().is_some()
        && let Some(cache) = crate::thread::cache()
    {
        let block = sampling::offer(cache, 1, bytes, align_bytes, family);
        if !block.is_null() {
            return block;
        }
    }
    match pages {
        Pages::Later => map_pages(bytes, align_bytes, family, 0, None).0,
        Pages::Soon => alloc_of_kept(bytes, align_bytes, family),
    }
}

/// A block of pages that are kept, as far as there are some; the others are made at once.
fn alloc_of_kept(bytes: usize, align_bytes: usize, family: Family) -> *mut u8 {
    let loan = {
        let mut large = hold(&LARGE);
        let old = large.waiting.lend_old();
        let room_bytes = bytes.checked_next_multiple_of(page_bytes());
        let loan = room_bytes.and_then(|bytes| large.waiting.lend(bytes));
        drop(large);
        old.into_iter().for_each(purge);
        loan
    };
    let from = loan.as_ref().map_or(PageRange::NONE, |loan| loan.pages);
    let (block, moved_bytes) = map_pages(bytes, align_bytes, family, 0, Some(from));
    match loan {
        Some(loan) if moved_bytes == 0 => purge(loan),
        Some(loan) => hold(&LARGE).waiting.end_loan(loan),
        None => {}
    }
    if !block.is_null() {
        if moved_bytes > 0 {
            // SAFETY: a block of ours of more than so many bytes that nobody else has.
            unsafe { block.write_bytes(0, ZEROED_BYTES.min(moved_bytes)) };
        }
        let fresh = block.wrapping_add(moved_bytes);
        populate(fresh, bytes.min(POPULATED_BYTES_MAX).saturating_sub(moved_bytes));
    }
    block
}

/// Gives the pages of a loan back to the kernel.
fn purge(loan: Loan) {
    if let Some(start) = NonNull::new(loan.pages.start) {
        // SAFETY: whole pages of a waiting mapping, which stays until the loan ends (W3). A refusal
        // leaves them there, uncounted, until their mapping goes.
        let _ = unsafe { advise(start, loan.pages.bytes, Advice::DontNeed) };
    }
    hold(&LARGE).waiting.end_loan(loan);
}

/// [`alloc`] with `spare_bytes` of addresses behind the block, without access, into which it can
/// grow; no guard is asked, and no page made.
pub(crate) fn map(bytes: usize, align_bytes: usize, family: Family, spare_bytes: usize) -> *mut u8 {
    map_pages(bytes, align_bytes, family, spare_bytes, Some(PageRange::NONE)).0
}

/// [`map`] with the pages of `from`, lent and no more than the block needs, as its first ones; how
/// many bytes of them it has, all or none. Without a `from` all are made when they are touched.
fn map_pages(
    bytes: usize,
    align_bytes: usize,
    family: Family,
    spare_bytes: usize,
    from: Option<PageRange>,
) -> (*mut u8, usize) {
    const NONE: (*mut u8, usize) = (NO_BLOCK, 0);
    let page = page_bytes();
    let Some(room_bytes) = bytes.max(1).checked_next_multiple_of(page) else { return NONE };
    let (before, after, spare_bytes) = {
        let mut large = hold(&LARGE);
        let spare_bytes = if large.is_limited { 0 } else { spare_bytes / page * page };
        (large.guard_bytes(), large.guard_bytes(), spare_bytes)
    };
    let shifted = if align_bytes > page { align_bytes } else { 0 };
    let Some(mapping_bytes) = room_bytes
        .checked_add(before + after)
        .and_then(|sum| sum.checked_add(shifted))
        .and_then(|sum| sum.checked_add(spare_bytes))
    else {
        return NONE;
    };
    let Ok(mapping) = reserve(mapping_bytes, Protection::None) else { return NONE };
    let block = mapping
        .as_ptr()
        .map_addr(|address| (address + before).next_multiple_of(align_bytes.max(page)));
    let is_kept = from.is_some() && !zeroes_all();
    let from = from.unwrap_or(PageRange::NONE);
    let moved_bytes = match (NonNull::new(from.start), NonNull::new(block)) {
        // SAFETY: whole pages without access, of a waiting mapping that stays until the loan ends
        // (W3) and of the one made above.
        (Some(start), Some(to)) if unsafe { move_pages(start, to, from.bytes) }.is_ok() => {
            from.bytes
        }
        _ => 0,
    };
    debug_assert!(moved_bytes <= room_bytes);
    let record = Record {
        start: block.expose_provenance(),
        bytes,
        room_bytes,
        moved_bytes,
        is_kept,
        mapping: mapping.as_ptr(),
        mapping_bytes,
        family,
    };
    let is_open = NonNull::new(block).is_some_and(|block| {
        // SAFETY: whole pages inside the mapping made above.
        unsafe { commit(block, room_bytes) }.is_ok()
    });
    // The kernel's part is done without the lock, which other threads want meanwhile.
    let mut large = hold(&LARGE);
    if !is_open || !large.table.insert(record) {
        drop(large);
        give_up(mapping.as_ptr(), mapping_bytes);
        return (NO_BLOCK, moved_bytes);
    }
    write_canary(large.secret, &record, block);
    large.room_bytes += room_bytes;
    (block, moved_bytes)
}

/// Takes back what lies in no slot: a large block, null, or nothing of ours.
#[cold]
#[inline(never)]
pub(crate) fn free(ptr: *mut u8, taker: Family, told: Option<usize>) {
    free_but_keep(ptr, taker, told, usize::MAX);
}

/// [`free`], of whose pages at most `kept_bytes_max` may be kept.
pub(crate) fn free_but_keep(
    ptr: *mut u8,
    taker: Family,
    told: Option<usize>,
    kept_bytes_max: usize,
) {
    if ptr.is_null() || guard().is_some_and(|guard| (guard.free)(ptr, taker, told)) {
        return;
    }
    let mut large = hold(&LARGE);
    let secret = large.secret;
    let Some(record) = large.table.get(ptr.addr()).copied() else {
        let misuse = large.what_is_at(ptr);
        drop(large);
        tell(misuse, ptr.addr(), Noticed::Free);
        return;
    };
    let overflow = broken(secret, &record, ptr);
    large.table.remove(ptr.addr());
    large.room_bytes -= record.room_bytes;
    let mut kept = record.largest_part(ptr);
    let is_kept = record.is_kept && kept.bytes <= kept_bytes_max;
    if !is_kept || !large.waiting.may_keep(kept.bytes, large.room_bytes) {
        kept = PageRange::NONE;
    }
    drop(large);
    close(&record, kept);
    let Record { bytes, family, .. } = record;
    if family != taker && cfg!(not(heapwright_hardened_without = "family")) {
        let misuse = Misuse::WrongFunction { bytes, family, taker };
        tell(misuse, ptr.addr(), Noticed::Free);
    }
    if let Some(told) = told
        && told != bytes
        && cfg!(not(heapwright_hardened_without = "size"))
    {
        tell(Misuse::WrongSize { bytes, family, told }, ptr.addr(), Noticed::Free);
    }
    if let Some(at) = overflow {
        tell(Misuse::Overflow { bytes, family, at }, ptr.addr(), Noticed::Free);
    }
}

impl Record {
    /// Of the block at `block`, the pages that the kernel can move at once, as many as there are.
    fn largest_part(&self, block: *mut u8) -> PageRange {
        let others_bytes = self.room_bytes - self.moved_bytes;
        if self.moved_bytes > others_bytes {
            PageRange { start: block, bytes: self.moved_bytes }
        } else {
            PageRange { start: block.wrapping_add(self.moved_bytes), bytes: others_bytes }
        }
    }
}

/// Takes the pages of a block that is out of the table out of reach, and lets its addresses wait,
/// with the pages of `kept`. Without the lock while the kernel works: a second free that comes
/// just then is one of no block.
fn close(record: &Record, kept: PageRange) {
    let waits = cfg!(not(heapwright_hardened_without = "quarantine"));
    let is_kept = waits && kept.bytes > 0 && shut(record, kept);
    let kept = if is_kept { kept } else { PageRange::NONE };
    let mut old = Waiting::of(record.mapping, record.mapping_bytes, kept);
    if (is_kept || renew_all(record)) && waits {
        let mut large = hold(&LARGE);
        let live_bytes = large.room_bytes;
        while let Some(loan) = large.waiting.lend_for_room(kept.bytes, live_bytes) {
            drop(large);
            purge(loan);
            large = hold(&LARGE);
        }
        let random = large.random() as usize;
        old = large.waiting.put(old, random, |other| give_up(other.mapping, other.bytes));
    }
    give_up(old.mapping, old.bytes);
}

/// Puts a block's pages out of reach, and gives those back that are not `kept`; whether the kernel
/// agreed.
fn shut(record: &Record, kept: PageRange) -> bool {
    let room = |from: usize| NonNull::new(kept.start.with_addr(record.start + from));
    let (Some(start), Some(second)) = (room(0), room(record.moved_bytes)) else { return false };
    let (moved_bytes, others_bytes) = (record.moved_bytes, record.room_bytes - record.moved_bytes);
    // SAFETY: whole pages of the block's mapping, which was given up.
    let mut is_shut = unsafe { protect(start, record.room_bytes, Protection::None) }.is_ok();
    if is_shut && moved_bytes > 0 && others_bytes > 0 {
        let is_first_kept = kept.start.addr() == record.start;
        let (rest, bytes) =
            if is_first_kept { (second, others_bytes) } else { (start, moved_bytes) };
        // SAFETY: as above.
        is_shut = unsafe { renew(rest, bytes) }.is_ok();
    }
    is_shut
}

/// Takes all pages of a block's mapping away; whether the kernel agreed.
fn renew_all(record: &Record) -> bool {
    let Some(mapping) = NonNull::new(record.mapping) else { return false };
    // SAFETY: a whole mapping whose block was given up.
    unsafe { renew(mapping, record.mapping_bytes) }.is_ok()
}

/// Bytes of a large block, as requested; 0 for null, and for what is none, which is told.
#[cold]
pub(crate) fn usable_bytes(ptr: *mut u8) -> usize {
    if ptr.is_null() {
        return 0;
    }
    if let Some(bytes) = guard().and_then(|guard| (guard.usable_bytes)(ptr)) {
        return bytes;
    }
    let found = hold(&LARGE).table.get(ptr.addr()).map(|record| record.bytes);
    found.unwrap_or_else(|| {
        tell(Misuse::SizeOfNoBlock, ptr.addr(), Noticed::Size);
        0
    })
}
