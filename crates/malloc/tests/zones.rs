//! Zones: blocks of any thread that are freed one by one or destroyed at once.

use heapwright_malloc::{Destroyed, Zone, free, realloc, statistics, trim, usable_bytes};

/// Writes `fill` into all usable bytes.
fn fill(block: *mut u8, byte: u8) -> usize {
    assert!(!block.is_null());
    // SAFETY: a live block.
    let bytes = unsafe { usable_bytes(block) };
    // SAFETY: its usable bytes are ours.
    unsafe { block.write_bytes(byte, bytes) };
    bytes
}

#[test]
fn a_zone_is_used_by_threads_and_destroyed_at_once() {
    trim();
    let before = statistics();
    for round in 0..20 {
        let zone = Zone::create().expect("memory");
        std::thread::scope(|scope| {
            for thread in 0..3u8 {
                scope.spawn(move || {
                    for step in 0..3000usize {
                        let bytes = if step % 500 == 0 { 100_000 } else { 1 + step * 7 % 5000 };
                        let block = zone.alloc(16, bytes).expect("not destroyed");
                        assert!(fill(block, thread) >= bytes);
                        if step % 3 == 0 {
                            // SAFETY: live, and not used again.
                            unsafe { free(block) };
                        }
                    }
                });
            }
        });
        assert_eq!(zone.live_count(), Ok(3 * 2000), "round {round}");
        // SAFETY: no block is used any more.
        assert_eq!(unsafe { zone.destroy() }, Ok(()));
        assert_eq!(zone.alloc(16, 16), Err(Destroyed));
        // SAFETY: nothing happens to a zone that is gone.
        assert_eq!(unsafe { zone.destroy() }, Err(Destroyed));
    }
    trim();
    let after = statistics();
    assert!(after.small_span_bytes <= before.small_span_bytes + (4 << 20), "{before:?} {after:?}");
    assert_eq!(after.large_count, before.large_count);
}

#[test]
fn blocks_of_a_zone_are_aligned_and_resized_like_others() {
    let zone = Zone::create().expect("memory");
    for shift in 0..17 {
        let block = zone.alloc(1 << shift, 100).expect("not destroyed");
        assert!(block.addr().is_multiple_of(1 << shift));
        fill(block, 7);
    }
    assert_eq!(zone.alloc(24, 100).map(|block| block.is_null()), Ok(true), "no power of two");
    let block = zone.alloc(16, 200).expect("not destroyed");
    fill(block, 9);
    // SAFETY: live; only the result is used from here on.
    let moved = unsafe { realloc(block, 300_000) };
    // SAFETY: the first bytes were kept.
    assert_eq!(unsafe { moved.add(199).read() }, 9);
    // SAFETY: live. It has left the zone.
    unsafe { free(moved) };
    let large = zone.alloc(16, 1 << 20).expect("not destroyed");
    fill(large, 1);
    // SAFETY: live; only the result is used from here on.
    let moved = unsafe { realloc(large, 64 << 20) };
    // SAFETY: the first bytes were kept.
    assert_eq!(unsafe { moved.add((1 << 20) - 1).read() }, 1);
    // SAFETY: live.
    unsafe { free(moved) };
    // SAFETY: no block is used any more.
    assert_eq!(unsafe { zone.destroy() }, Ok(()));
}
