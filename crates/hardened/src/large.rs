//! Large blocks: a mapping each, between guards, whose addresses wait before others get them.
//!
//! A freed block's pages go back to the kernel at once, and its addresses stay out of reach while
//! they wait in the quarantine, which gives up a random one of them for each that comes in.
//!
//! # Invariants
//! design/hardened.md#I5: the table has exactly the live large blocks.

use core::ptr::NonNull;

use heapwright_core::family::Family;
use heapwright_os::{
    Protection, address_space_limit_bytes, commit, cycle_counter, move_pages, page_bytes, release,
    renew, reserve,
};

use crate::alloc::NO_BLOCK;
use crate::geometry::CANARY_BYTES;
use crate::large_table::{LargeTable, Record};
use crate::random::Seed;
use crate::report::{Misuse, Noticed, tell};
use crate::sampling::{self, guard};
use crate::wait::{Lock, hold};

/// A guard is one page up to so many: nobody can say how far the next block is.
const GUARD_PAGES_MAX: u64 = 8;
/// Mappings that wait.
const WAITING_COUNT: usize = 64;
/// Addresses that wait, at most, when the process has no limit.
const WAITING_BYTES_MAX: usize = 64 << 30;
/// From here on the pages of a growing block are moved, not copied.
const MOVED_BYTES_MIN: usize = 64 << 10;

/// What large blocks share.
#[derive(Debug)]
pub(crate) struct Large {
    pub(crate) table: LargeTable,
    waiting: [Waiting; WAITING_COUNT],
    waiting_bytes: usize,
    waiting_bytes_max: usize,
    seed: Option<Seed>,
    secret: u64,
    /// Bytes that live large blocks may touch.
    pub(crate) room_bytes: usize,
}

/// A mapping without access; 0 bytes are none.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    mapping: *mut u8,
    bytes: usize,
}

// SAFETY: the mappings that wait are nobody else's.
unsafe impl Send for Large {}

static LARGE: Lock<Large> = Lock::new(Large {
    table: LargeTable::new(),
    waiting: [Waiting { mapping: NO_BLOCK, bytes: 0 }; WAITING_COUNT],
    waiting_bytes: 0,
    waiting_bytes_max: 0,
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
            self.waiting_bytes_max = WAITING_BYTES_MAX.min(limit);
            self.seed = Some(seed);
        }
        self.seed.as_mut().map_or_else(cycle_counter, Seed::next)
    }

    fn guard_bytes(&mut self) -> usize {
        (1 + self.random() % GUARD_PAGES_MAX) as usize * page_bytes()
    }

    /// Why the address, which starts no live large block, cannot be given back.
    fn what_is_at(&self, ptr: *mut u8) -> Misuse {
        if let Some(Record { start, bytes, family, .. }) = self.table.around(ptr.addr()) {
            return Misuse::FreeInside { distance: ptr.addr() - start, start, bytes, family };
        }
        let waits = |place: &Waiting| {
            ptr.addr().wrapping_sub(place.mapping.addr()) < place.bytes
                && ptr.addr().is_multiple_of(4096)
        };
        match self.waiting.iter().find(|place| waits(place)) {
            Some(place) => Misuse::DoubleFree { slot_bytes: place.bytes },
            None => Misuse::FreeOfNoBlock,
        }
    }

    /// Lets a mapping without access wait, and gives another one up that waited.
    fn keep_waiting(&mut self, mapping: *mut u8, bytes: usize) {
        if bytes > self.waiting_bytes_max {
            give_up(mapping, bytes);
            return;
        }
        let first = self.random() as usize;
        for step in 0..WAITING_COUNT {
            let place = &mut self.waiting[first.wrapping_add(step) % WAITING_COUNT];
            let fits = self.waiting_bytes + bytes - place.bytes <= self.waiting_bytes_max;
            let old = core::mem::replace(
                place,
                if fits {
                    Waiting { mapping, bytes }
                } else {
                    Waiting { mapping: NO_BLOCK, bytes: 0 }
                },
            );
            self.waiting_bytes -= old.bytes;
            give_up(old.mapping, old.bytes);
            if fits {
                self.waiting_bytes += bytes;
                return;
            }
        }
        give_up(mapping, bytes);
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

fn write_canary(secret: u64, record: &Record, block: *mut u8) {
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

/// A block with a mapping of its own at a multiple of `align_bytes`, a power of two; zeroed. Null
/// without memory. Two system calls.
#[cold]
#[inline(never)]
pub(crate) fn alloc(bytes: usize, align_bytes: usize, family: Family) -> *mut u8 {
    crate::thread::begin();
    if guard().is_some()
        && let Some(cache) = crate::thread::cache()
    {
        let block = sampling::offer(cache, 1, bytes, align_bytes, family);
        if !block.is_null() {
            return block;
        }
    }
    let page = page_bytes();
    let Some(room_bytes) = bytes.max(1).checked_next_multiple_of(page) else { return NO_BLOCK };
    let mut large = hold(&LARGE);
    let (before, after) = (large.guard_bytes(), large.guard_bytes());
    let moved = if align_bytes > page { align_bytes } else { 0 };
    let Some(mapping_bytes) =
        room_bytes.checked_add(before + after).and_then(|sum| sum.checked_add(moved))
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
    let is_open = NonNull::new(block).is_some_and(|block| {
        // SAFETY: whole pages inside the mapping made above.
        unsafe { commit(block, room_bytes) }.is_ok()
    });
    if !is_open || !large.table.insert(record) {
        give_up(mapping.as_ptr(), mapping_bytes);
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
    close(&mut large, &record);
    drop(large);
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

/// Takes a block's pages away and lets its addresses wait.
fn close(large: &mut Large, record: &Record) {
    let Some(mapping) = NonNull::new(record.mapping) else { return };
    // SAFETY: a whole mapping whose block was given up.
    if unsafe { renew(mapping, record.mapping_bytes) }.is_ok()
        && cfg!(not(heapwright_hardened_without = "quarantine"))
    {
        large.keep_waiting(record.mapping, record.mapping_bytes);
    } else {
        give_up(record.mapping, record.mapping_bytes);
    }
}

/// Bytes of a large block, as requested; 0 for null, and for what is none, which is told.
#[cold]
pub(crate) fn usable_bytes(ptr: *mut u8) -> usize {
    if ptr.is_null() {
        return 0;
    }
    if let Some(bytes) = guarded_bytes(ptr) {
        return bytes;
    }
    let found = hold(&LARGE).table.get(ptr.addr()).map(|record| record.bytes);
    found.unwrap_or_else(|| {
        tell(Misuse::SizeOfNoBlock, ptr.addr(), Noticed::Size);
        0
    })
}

/// Changes the size of what lies in no slot; `ptr` is not null.
#[cold]
#[inline(never)]
pub(crate) fn realloc(ptr: *mut u8, bytes: usize) -> *mut u8 {
    if let Some(old_bytes) = guarded_bytes(ptr) {
        return leave_guard(ptr, old_bytes, bytes);
    }
    let mut large = hold(&LARGE);
    let secret = large.secret;
    let Some(record) = large.table.get(ptr.addr()) else {
        let misuse = large.what_is_at(ptr);
        drop(large);
        tell(misuse, ptr.addr(), Noticed::Realloc);
        return NO_BLOCK;
    };
    let old = *record;
    if let Some(at) = broken(secret, &old, ptr) {
        let (bytes, family) = (old.bytes, old.family);
        drop(large);
        tell(Misuse::Overflow { bytes, family, at }, ptr.addr(), Noticed::Realloc);
        large = hold(&LARGE);
    }
    let Some(record) = large.table.get(ptr.addr()) else { return NO_BLOCK };
    if bytes > old.room_bytes - page_bytes() && bytes <= old.room_bytes {
        record.bytes = bytes;
        let record = *record;
        let old_end = ptr.wrapping_add(old.bytes);
        let count = (old.room_bytes - old.bytes).min(CANARY_BYTES);
        // SAFETY: the old canary, in the block's room; the program gets zeroes instead.
        unsafe { old_end.write_bytes(0, count) };
        write_canary(secret, &record, ptr);
        return ptr;
    }
    let family = old.family;
    drop(large);
    let new = crate::alloc::alloc(bytes, family);
    if new.is_null() {
        return NO_BLOCK;
    }
    carry_over(ptr, &old, new, bytes);
    free(ptr, family, None);
    new
}

fn guarded_bytes(ptr: *mut u8) -> Option<usize> {
    guard().and_then(|guard| (guard.usable_bytes)(ptr))
}

/// [`realloc`] of a guarded block: it always moves.
fn leave_guard(ptr: *mut u8, old_bytes: usize, bytes: usize) -> *mut u8 {
    let new = crate::alloc::alloc(bytes, Family::Malloc);
    if !new.is_null() {
        // SAFETY: both blocks have so many bytes, and are not the same.
        unsafe { core::ptr::copy_nonoverlapping(ptr, new, old_bytes.min(bytes)) };
        free(ptr, Family::Malloc, None);
    }
    new
}

/// Brings the contents of a large block to `new`, of `bytes`: by moving its whole pages when both
/// have pages of their own and they are many.
fn carry_over(ptr: *mut u8, old: &Record, new: *mut u8, bytes: usize) {
    let page = page_bytes();
    let kept_bytes = old.bytes.min(bytes);
    let moved_bytes = kept_bytes / page * page;
    let is_large = crate::class::find(new).is_none();
    let mut done_bytes = 0;
    if is_large
        && moved_bytes >= MOVED_BYTES_MIN
        && let (Some(from), Some(to)) = (NonNull::new(ptr), NonNull::new(new))
    {
        // SAFETY: whole pages of two live blocks with the same protection, the old one given up;
        // the new one has nothing in these pages yet.
        if unsafe { move_pages(from, to, moved_bytes) }.is_ok() {
            done_bytes = moved_bytes;
        }
    }
    let (from, to) = (ptr.wrapping_add(done_bytes), new.wrapping_add(done_bytes));
    // SAFETY: both blocks have so many bytes, and are not the same.
    unsafe { core::ptr::copy_nonoverlapping(from, to, kept_bytes - done_bytes) };
}
