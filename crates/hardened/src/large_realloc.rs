//! `realloc` of large blocks: at the same addresses where the mapping has room, else by moving
//! whole pages to a larger one.
//!
//! A block that has grown once will grow again: its new mapping has as many addresses again behind
//! it, which stay without access until the block needs them.

use core::ops::Range;
use core::ptr::NonNull;

use heapwright_core::family::Family;
use heapwright_os::{commit, move_pages, page_bytes, renew};

use crate::alloc::NO_BLOCK;
use crate::geometry::{CANARY_BYTES, SMALL_REQUEST_BYTES_MAX};
use crate::large::{
    Large, POPULATED_BYTES_MAX, broken, free, free_but_keep, large, map, secret, usable_bytes,
    write_canary,
};
use crate::large_table::Record;
use crate::report::{Misuse, Noticed, tell};
use crate::sampling::guard;
use crate::space::populate;
use crate::wait::hold;

/// From here on the pages of a growing block are moved, not copied.
const MOVED_BYTES_MIN: usize = 64 << 10;

/// Changes the size of what lies in no slot; `ptr` is not null.
#[cold]
#[inline(never)]
pub(crate) fn realloc(ptr: *mut u8, bytes: usize) -> *mut u8 {
    if guard().is_some_and(|guard| (guard.usable_bytes)(ptr).is_some()) {
        return leave_guard(ptr, usable_bytes(ptr), bytes);
    }
    let mut large = hold(large());
    let Some(record) = large.table.get(ptr.addr()) else {
        let misuse = large.what_is_at(ptr);
        drop(large);
        tell(misuse, ptr.addr(), Noticed::Realloc);
        return NO_BLOCK;
    };
    let old = *record;
    if let Some(at) = broken(secret(&large), &old, ptr) {
        let (bytes, family) = (old.bytes, old.family);
        drop(large);
        tell(Misuse::Overflow { bytes, family, at }, ptr.addr(), Noticed::Realloc);
        large = hold(crate::large::large());
    }
    if resize(&mut large, ptr, bytes) {
        return ptr;
    }
    drop(large);
    let new = if bytes > SMALL_REQUEST_BYTES_MAX {
        // Addresses only; none of them more than once in a program that shrinks its blocks.
        let spare_bytes = if bytes > old.bytes { bytes } else { 0 };
        map(bytes, 1, old.family, spare_bytes)
    } else {
        crate::alloc::alloc(bytes, old.family)
    };
    if new.is_null() {
        return NO_BLOCK;
    }
    let has_moved = carry_over(ptr, &old, new, bytes);
    // Moved pages are not there any more to be kept.
    free_but_keep(ptr, old.family, None, if has_moved { 0 } else { usize::MAX });
    new
}

/// Gives the live block at `ptr` another size at the same addresses; whether that is possible.
fn resize(large: &mut Large, ptr: *mut u8, bytes: usize) -> bool {
    let page = page_bytes();
    let secret = secret(large);
    let Some(record) = large.table.get(ptr.addr()) else { return false };
    let Some(room_bytes) = bytes.max(1).checked_next_multiple_of(page) else { return false };
    let old = *record;
    let mapping_end = old.mapping.addr() + old.mapping_bytes;
    let is_possible = room_bytes == old.room_bytes
        || (bytes > SMALL_REQUEST_BYTES_MAX && room_bytes <= mapping_end - page - old.start);
    if !is_possible {
        return false;
    }
    if room_bytes > old.room_bytes {
        let more_bytes = room_bytes - old.room_bytes;
        let Some(more) = NonNull::new(ptr.wrapping_add(old.room_bytes)) else { return false };
        // SAFETY: whole pages of the block's own mapping, behind its room and before a guard.
        if unsafe { commit(more, more_bytes) }.is_err() {
            return false;
        }
        populate(more.as_ptr(), more_bytes.min(POPULATED_BYTES_MAX));
    } else if room_bytes < old.room_bytes {
        let Some(rest) = NonNull::new(ptr.wrapping_add(room_bytes)) else { return false };
        // SAFETY: whole pages of the block's own mapping that the program gives up.
        if unsafe { renew(rest, old.room_bytes - room_bytes) }.is_err() {
            return false;
        }
    }
    record.bytes = bytes;
    record.room_bytes = room_bytes;
    record.moved_bytes = old.moved_bytes.min(room_bytes);
    let record = *record;
    large.room_bytes = large.room_bytes - old.room_bytes + room_bytes;
    if old.bytes < room_bytes {
        let count = (old.room_bytes - old.bytes).min(CANARY_BYTES);
        // SAFETY: the old canary, in the block's old room, whose last page is still there: the
        // block ended in it. The program gets zeroes instead.
        unsafe { ptr.wrapping_add(old.bytes).write_bytes(0, count) };
    }
    write_canary(secret, &record, ptr);
    true
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
/// have pages of their own and they are many. Whether any were moved.
fn carry_over(ptr: *mut u8, old: &Record, new: *mut u8, bytes: usize) -> bool {
    let page = page_bytes();
    let kept_bytes = old.bytes.min(bytes);
    let whole_bytes = kept_bytes / page * page;
    let is_large = crate::class::find(new).is_none();
    let mut done_bytes = 0;
    if is_large && whole_bytes >= MOVED_BYTES_MIN {
        // The kernel moves only what it knows as one range.
        let first_bytes = old.moved_bytes.min(whole_bytes);
        done_bytes = move_part(ptr, new, 0..first_bytes);
        if done_bytes == first_bytes {
            done_bytes += move_part(ptr, new, first_bytes..whole_bytes);
        }
        if let Some(record) = hold(large()).table.get(new.addr()) {
            record.moved_bytes =
                if first_bytes > 0 { done_bytes.min(first_bytes) } else { done_bytes };
        }
    }
    let (from, to) = (ptr.wrapping_add(done_bytes), new.wrapping_add(done_bytes));
    if is_large {
        populate(to, (bytes - done_bytes).min(POPULATED_BYTES_MAX));
    }
    // SAFETY: both blocks have so many bytes, and are not the same.
    unsafe { core::ptr::copy_nonoverlapping(from, to, kept_bytes - done_bytes) };
    done_bytes > 0
}

/// Moves a range of whole pages from one block to another; how many bytes: all or none.
fn move_part(from: *mut u8, to: *mut u8, range: Range<usize>) -> usize {
    let (from, to) = (from.wrapping_add(range.start), to.wrapping_add(range.start));
    let (Some(from), Some(to)) = (NonNull::new(from), NonNull::new(to)) else { return 0 };
    if range.is_empty() {
        return 0;
    }
    // SAFETY: whole pages of two live blocks with the same protection, the old one given up; the
    // new one has nothing in these pages yet.
    let is_moved = unsafe { move_pages(from, to, range.len()) }.is_ok();
    if is_moved { range.len() } else { 0 }
}

#[cfg(test)]
mod tests {
    use heapwright_core::family::Family;
    use heapwright_os::{address_space_limit_bytes, is_readable};

    use super::realloc;
    use crate::alloc::{alloc, alloc_zeroed};
    use crate::class::find;
    use crate::large::{free, usable_bytes};

    /// One byte in each page and the last one.
    fn places(bytes: usize) -> impl Iterator<Item = usize> {
        (0..bytes).step_by(4096).chain([bytes - 1])
    }

    fn value(place: usize) -> u8 {
        (place / 4096 + 1) as u8
    }

    fn write(block: *mut u8, bytes: usize) {
        for place in places(bytes) {
            // SAFETY: inside the block, which has so many bytes.
            unsafe { block.wrapping_add(place).write(value(place)) };
        }
    }

    fn is_kept(block: *mut u8, bytes: usize) -> bool {
        places(bytes).all(|place| {
            // SAFETY: inside the block, which has at least so many bytes.
            (unsafe { block.wrapping_add(place).read() }) == value(place)
        })
    }

    #[test]
    fn a_large_block_grows_and_shrinks_where_it_is_and_keeps_its_bytes() {
        let mut bytes = 200_000;
        let mut block = alloc(bytes, Family::Malloc);
        assert!(!block.is_null() && find(block).is_none(), "a large one");
        let mut stayed = 0;
        for next in (250_000..3_000_000).step_by(50_000) {
            write(block, bytes);
            let new = realloc(block, next);
            assert!(!new.is_null());
            assert!(is_kept(new, bytes), "from {bytes} to {next}");
            assert_eq!(usable_bytes(new), next);
            stayed += usize::from(new == block);
            (block, bytes) = (new, next);
        }
        // Each move doubles the addresses: at most one in 250,000, 500,000, one million, two.
        assert!(stayed >= 50 || address_space_limit_bytes().is_some(), "{stayed} of 55");
        write(block, bytes);
        let shrunk = realloc(block, 150_000);
        assert_eq!(shrunk, block);
        assert_eq!(usable_bytes(block), 150_000);
        assert!(is_kept(block, 36 * 4096 + 1));
        // The canary behind the new end is looked at here; a broken one ends the process.
        free(block, Family::Malloc, None);
        assert!(alloc(150_000, Family::Malloc) != block, "its addresses wait");
    }

    #[test]
    fn pages_of_a_freed_block_come_back_at_other_addresses_and_its_own_stay_closed() {
        const BYTES: usize = 3_000_000;
        let mut freed = 0;
        for round in 0..20 {
            let block = alloc(BYTES + round * 1000, Family::Malloc);
            // Of the ones before chance decides which still wait; the last one's pages are kept,
            // so others give up their places first.
            assert!(!block.is_null() && block.addr() != freed);
            // SAFETY: inside the block.
            let first = unsafe { core::slice::from_raw_parts(block, 256) };
            assert!(first.iter().all(|byte| *byte == 0), "the first bytes are zeroed");
            write(block, BYTES);
            free(block, Family::Malloc, None);
            freed = block.addr();
            assert!(!is_readable(freed) && !is_readable(freed + BYTES / 2));
            let zeroed = alloc_zeroed(BYTES, Family::Malloc);
            for place in places(BYTES) {
                // SAFETY: inside the block.
                let byte = unsafe { zeroed.wrapping_add(place).read() };
                assert_eq!(byte, 0, "all that is asked for");
            }
            free(zeroed, Family::Malloc, None);
        }
    }

    #[test]
    fn a_block_of_moved_and_of_fresh_pages_grows_with_its_bytes() {
        for _ in 0..10 {
            let small = alloc(1_000_000, Family::Malloc);
            write(small, 1_000_000);
            free(small, Family::Malloc, None);
            let mut bytes = 2_500_000;
            let mut block = alloc(bytes, Family::Malloc);
            for next in [2_600_000, 6_000_000, 13_000_000, 200_000] {
                write(block, bytes);
                let new = realloc(block, next);
                assert!(!new.is_null() && is_kept(new, (bytes.min(next) - 1) / 4096 * 4096 + 1));
                (block, bytes) = (new, next);
            }
            free(block, Family::Malloc, None);
        }
    }
}
