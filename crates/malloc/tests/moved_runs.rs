//! Pages that were moved leave zeroes behind, all of them. A file of its own: other tests would
//! take the runs that this one looks for.

use heapwright_malloc::{alloc, alloc_zeroed, free, realloc};

const SLICE_BYTES: usize = 64 * 1024;

#[test]
fn a_run_whose_pages_were_moved_away_is_zero_to_its_last_byte() {
    let long = 40 * SLICE_BYTES - 16;
    let first = alloc(long);
    // SAFETY: just allocated.
    unsafe { first.write_bytes(0xff, long) };
    // Keeps what follows from growing in place.
    let behind = alloc(SLICE_BYTES);
    // SAFETY: live.
    unsafe { free(first) };
    // The same run, used up to somewhere in its last slice, then moved.
    let second = alloc(39 * SLICE_BYTES + 16);
    assert_eq!(second, first, "the run just freed is the one that fits best");
    // SAFETY: live.
    let moved = unsafe { realloc(second, 200 * SLICE_BYTES) };
    assert!(!moved.is_null() && moved != second);
    // SAFETY: live, and its first bytes are those of the first block.
    assert_eq!(unsafe { moved.read() }, 0xff);
    let third = alloc_zeroed(long);
    // SAFETY: live, `long` bytes.
    let contents = unsafe { std::slice::from_raw_parts(third, long) };
    assert_eq!(contents.iter().position(|byte| *byte != 0), None, "at {third:p}, was {first:p}");
    for block in [behind, moved, third] {
        // SAFETY: live.
        unsafe { free(block) };
    }
}
