//! Limits: allocations fail cleanly at the hard one, and work again when there is room. A file of
//! its own: limits are the process's.

use heapwright_malloc::{Limits, alloc, free, limits, set_limits, statistics};

#[test]
fn a_hard_limit_fails_allocations_until_there_is_room() {
    let none = limits();
    assert_eq!(none, Limits { soft_bytes: usize::MAX, hard_bytes: usize::MAX });
    set_limits(Limits { soft_bytes: 16 << 20, hard_bytes: 32 << 20 });
    for bytes in [64, 5000, 300_000] {
        let mut blocks = Vec::with_capacity(1 << 20);
        loop {
            let block = alloc(bytes);
            if block.is_null() {
                break;
            }
            // SAFETY: a fresh block.
            unsafe { block.write_bytes(1, bytes) };
            blocks.push(block);
            assert!(blocks.len() * bytes <= 32 << 20, "beyond the limit");
        }
        assert!(blocks.len() * bytes > 24 << 20, "{} blocks of {bytes}", blocks.len());
        for block in blocks {
            // SAFETY: live.
            unsafe { free(block) };
        }
        let held = statistics();
        assert!(held.dirty_bytes <= 16 << 20, "the soft limit: {held:?}");
        let again = alloc(1 << 20);
        assert!(!again.is_null());
        // SAFETY: live.
        unsafe { free(again) };
    }
    assert!(alloc(40 << 20).is_null());
    set_limits(none);
    let large = alloc(40 << 20);
    assert!(!large.is_null());
    // SAFETY: live.
    unsafe { free(large) };
}
