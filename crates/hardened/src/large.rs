//! Large blocks: a mapping each, between guards, whose addresses wait before others get them.
//!
//! A freed block's addresses are out of reach at once, and wait ([`crate::large_waiting`]).
//!
//! # Invariants
//! design/hardened.md#I5: the table has exactly the live large blocks.

use core::ptr::NonNull;

use heapwright_core::family::Family;
use heapwright_os::{
    Protection, address_space_limit_bytes, commit, cycle_counter, page_bytes, release, reserve,
};

use crate::alloc::NO_BLOCK;
use crate::geometry::CANARY_BYTES;
use crate::large_table::{LargeTable, Record};
use crate::large_waiting::{Waiting, WaitingList};
use crate::random::Seed;
use crate::report::{Misuse, Noticed, tell};
use crate::sampling::{self, guard};
use crate::space::populate;
use crate::wait::{Lock, hold};

/// A guard is one page up to so many: nobody can say how far the next block is.
const GUARD_PAGES_MAX: u64 = 8;
/// Addresses that wait, at most, when the process has no limit.
const WAITING_BYTES_MAX: usize = 64 << 30;
/// Bytes of a new block whose pages are asked for at once, at most.
pub(crate) const POPULATED_BYTES_MAX: usize = 1 << 20;

/// What large blocks share.
#[derive(Debug)]
pub(crate) struct Large {
    pub(crate) table: LargeTable,
    waiting: WaitingList,
    seed: Option<Seed>,
    secret: u64,
    /// Bytes that live large blocks may touch.
    pub(crate) room_bytes: usize,
}

static LARGE: Lock<Large> = Lock::new(Large {
    table: LargeTable::new(),
    waiting: WaitingList::new(),
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
            self.waiting.bytes_max = WAITING_BYTES_MAX.min(limit);
            self.seed = Some(seed);
        }
        self.seed.as_mut().map_or_else(cycle_counter, Seed::next)
    }

    /// Whether the process may have only so many addresses.
    fn is_limited(&self) -> bool {
        self.waiting.bytes_max < WAITING_BYTES_MAX
    }

    fn guard_bytes(&mut self) -> usize {
        (1 + self.random() % GUARD_PAGES_MAX) as usize * page_bytes()
    }

    /// Why the address, which starts no live large block, cannot be given back.
    pub(crate) fn what_is_at(&self, ptr: *mut u8) -> Misuse {
        if let Some(Record { start, bytes, family, .. }) = self.table.around(ptr.addr()) {
            return Misuse::FreeInside { distance: ptr.addr() - start, start, bytes, family };
        }
        match self.waiting.around(ptr.addr()) {
            Some(place) if ptr.addr().is_multiple_of(4096) => {
                Misuse::DoubleFree { slot_bytes: place.bytes }
            }
            _ => Misuse::FreeOfNoBlock,
        }
    }

    /// Gives the kernel the pages of blocks that wait; whether there were some.
    pub(crate) fn trim(&mut self) -> bool {
        self.waiting.drop_kept()
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
    map(bytes, align_bytes, family, 0, pages)
}

/// [`alloc`] with `spare_bytes` of addresses behind the block, without access, into which it can
/// grow; no guard is asked.
pub(crate) fn map(
    bytes: usize,
    align_bytes: usize,
    family: Family,
    spare_bytes: usize,
    pages: Pages,
) -> *mut u8 {
    let page = page_bytes();
    let Some(room_bytes) = bytes.max(1).checked_next_multiple_of(page) else { return NO_BLOCK };
    let (before, after, spare_bytes) = {
        let mut large = hold(&LARGE);
        let spare_bytes = if large.is_limited() { 0 } else { spare_bytes / page * page };
        (large.guard_bytes(), large.guard_bytes(), spare_bytes)
    };
    let moved = if align_bytes > page { align_bytes } else { 0 };
    let Some(mapping_bytes) = room_bytes
        .checked_add(before + after)
        .and_then(|sum| sum.checked_add(moved))
        .and_then(|sum| sum.checked_add(spare_bytes))
    else {
        return NO_BLOCK;
    };
    let Ok(mapping) = reserve(mapping_bytes, Protection::None) else { return NO_BLOCK };
    let block = mapping
        .as_ptr()
        .map_addr(|address| (address + before).next_multiple_of(align_bytes.max(page)));
    let record = Record {
        start: block.expose_provenance(),
        bytes,
        room_bytes,
        mapping: mapping.as_ptr(),
        mapping_bytes,
        family,
    };
    let taken_bytes = if pages == Pages::Soon { take_over(block, room_bytes) } else { 0 };
    let is_open = NonNull::new(block).is_some_and(|block| {
        // SAFETY: whole pages inside the mapping made above.
        unsafe { commit(block, room_bytes) }.is_ok()
    });
    if is_open && pages == Pages::Soon {
        // SAFETY: whole pages of the block, which nobody has seen.
        unsafe { block.write_bytes(0, taken_bytes) };
        let wanted_bytes = room_bytes.min(POPULATED_BYTES_MAX);
        populate(block.wrapping_add(taken_bytes), wanted_bytes.saturating_sub(taken_bytes));
    }
    // The kernel's part is done without the lock, which other threads want meanwhile.
    let mut large = hold(&LARGE);
    if !is_open || !large.table.insert(record) {
        drop(large);
        // SAFETY: the mapping made above, which nobody has seen. A refusal leaves it mapped.
        let _ = unsafe { release(mapping, mapping_bytes) };
        return NO_BLOCK;
    }
    write_canary(large.secret, &record, block);
    large.room_bytes += room_bytes;
    block
}

/// Takes back what lies in no slot: a large block, null, or nothing of ours.
#[cold]
#[inline(never)]
pub(crate) fn free(ptr: *mut u8, taker: Family, told: Option<usize>) {
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
    drop(large);
    close(&record, ptr);
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

/// Pages of freed blocks for a new one of `room_bytes` at `block`, whose mapping has no access yet;
/// how many bytes. They hold what they held. Without the lock while the kernel works.
fn take_over(block: *mut u8, room_bytes: usize) -> usize {
    let Some((number, mut from)) = hold(&LARGE).waiting.take_kept(room_bytes) else { return 0 };
    // SAFETY: the block's room, in a mapping that nobody has seen.
    let bytes = unsafe { from.move_to(block, room_bytes) };
    let old = hold(&LARGE).waiting.put_back(number, from, bytes);
    old.give_up();
    bytes
}

/// Takes the access to a block away that is out of the table, and lets its addresses wait. Without
/// the lock while the kernel works: a second free that comes just then is one of no block.
fn close(record: &Record, block: *mut u8) {
    let Record { mapping, mapping_bytes, room_bytes, .. } = *record;
    let waits = cfg!(not(heapwright_hardened_without = "quarantine"));
    let keeps = waits && {
        let mut large = hold(&LARGE);
        let live_bytes = large.room_bytes;
        large.waiting.may_keep(room_bytes, live_bytes)
    };
    // SAFETY: the mapping of a block that was given up, of which that was the room.
    let closed = unsafe { Waiting::close((mapping, mapping_bytes), (block, room_bytes), keeps) };
    let old = match closed {
        Some(new) if waits => {
            let mut large = hold(&LARGE);
            let random = large.random() as usize;
            large.waiting.put(new, random)
        }
        _ => {
            if keeps {
                hold(&LARGE).waiting.forget_kept(room_bytes);
            }
            Waiting::of(mapping, mapping_bytes)
        }
    };
    old.give_up();
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
