//! Zones: blocks of any thread that are freed one by one or destroyed at once, within a budget.

use core::alloc::Layout;
use core::ptr::NonNull;
use std::sync::{Mutex, MutexGuard, PoisonError};

use heapwright_malloc::{
    Zone, ZoneError, ZoneOptions, free, realloc, statistics, trim, usable_bytes, zones,
};

/// One test at a time: some look at what the whole process holds.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn layout(bytes: usize, align: usize) -> Layout {
    Layout::from_size_align(bytes, align).expect("a layout")
}

/// Writes `fill` into all usable bytes.
fn fill(block: NonNull<u8>, byte: u8) -> usize {
    // SAFETY: a live block.
    let bytes = unsafe { usable_bytes(block.as_ptr()) };
    // SAFETY: its usable bytes are ours.
    unsafe { block.write_bytes(byte, bytes) };
    bytes
}

fn release(block: NonNull<u8>) {
    // SAFETY: the tests' live blocks, not used again.
    unsafe { free(block.as_ptr()) };
}

fn destroy(zone: Zone) -> Result<(), ZoneError> {
    // SAFETY: the tests use no block of the zone any more.
    unsafe { zone.destroy() }
}

#[test]
fn a_zone_is_used_by_threads_and_destroyed_at_once() {
    let _alone = alone();
    trim();
    let before = statistics();
    for round in 0..20 {
        let zone = Zone::create().expect("memory");
        std::thread::scope(|scope| {
            for thread in 0..3u8 {
                scope.spawn(move || {
                    for step in 0..3000usize {
                        let bytes = if step % 500 == 0 { 100_000 } else { 1 + step * 7 % 5000 };
                        let block = zone.alloc(layout(bytes, 16)).expect("not destroyed");
                        assert!(fill(block, thread) >= bytes);
                        if step % 3 == 0 {
                            release(block);
                        }
                    }
                });
            }
        });
        assert_eq!(zone.live_count(), Ok(3 * 2000), "round {round}");
        assert_eq!(destroy(zone), Ok(()));
        assert_eq!(zone.alloc(layout(16, 16)), Err(ZoneError::Destroyed));
        assert_eq!(zone.statistics(), Err(ZoneError::Destroyed));
        assert_eq!(destroy(zone), Err(ZoneError::Destroyed));
    }
    trim();
    let after = statistics();
    assert!(after.small_span_bytes <= before.small_span_bytes + (4 << 20), "{before:?} {after:?}");
}

#[test]
fn a_stale_handle_is_noticed_when_its_place_has_a_new_zone() {
    let _alone = alone();
    let old = Zone::create().expect("memory");
    assert_eq!(destroy(old), Ok(()));
    let others: Vec<Zone> = (0..10).map(|_| Zone::create().expect("memory")).collect();
    assert_eq!(old.alloc(layout(16, 16)), Err(ZoneError::Destroyed));
    assert_eq!(destroy(old), Err(ZoneError::Destroyed));
    for zone in others {
        assert_ne!(zone.id(), old.id());
        assert_eq!(destroy(zone), Ok(()));
    }
}

#[test]
fn blocks_of_a_zone_are_aligned_and_zeroed() {
    let _alone = alone();
    let zone = Zone::create().expect("memory");
    for round in 0..2 {
        for shift in 0..17 {
            for bytes in [1, 100, 5000, 100_000] {
                let block = zone.alloc_zeroed(layout(bytes, 1 << shift)).expect("memory");
                assert!(block.addr().get().is_multiple_of(1 << shift));
                // SAFETY: a live block of at least that many bytes.
                let contents = unsafe { core::slice::from_raw_parts(block.as_ptr(), bytes) };
                assert!(contents.iter().all(|byte| *byte == 0), "round {round}: {bytes}");
                fill(block, 7);
                release(block);
            }
        }
    }
    assert_eq!(zone.live_count(), Ok(0));
    assert_eq!(destroy(zone), Ok(()));
}

#[test]
fn a_resized_block_keeps_its_contents_alignment_and_zone() {
    let _alone = alone();
    let zone = Zone::create().expect("memory");
    let sizes = [200, 300_000, 700_000, 90_000, 3_000_000, 40, 5000];
    let mut block = zone.alloc(layout(100, 256)).expect("memory");
    let mut bytes = 100;
    for (step, wished) in sizes.into_iter().enumerate() {
        let usable = fill(block, step as u8);
        block = {
            if step % 2 == 0 {
                // SAFETY: live; only the result is used from here on.
                unsafe { zone.realloc(block, 256, wished) }.expect("memory")
            } else {
                // C's, from another thread.
                let address = block.expose_provenance();
                let moved = std::thread::spawn(move || {
                    let block = core::ptr::with_exposed_provenance_mut::<u8>(address.get());
                    // SAFETY: live; only the result is used from here on.
                    unsafe { realloc(block, wished) }.expose_provenance()
                });
                let moved = moved.join().expect("no panic");
                NonNull::new(core::ptr::with_exposed_provenance_mut(moved)).expect("memory")
            }
        };
        // SAFETY: live.
        assert_eq!(unsafe { Zone::of(block.as_ptr()) }, Some(zone), "{wished} bytes");
        let kept = usable.min(wished).min(bytes.max(usable));
        // SAFETY: what fitted was kept.
        let contents = unsafe { core::slice::from_raw_parts(block.as_ptr(), kept) };
        assert!(contents.iter().all(|byte| *byte == step as u8), "{wished} bytes");
        bytes = wished;
        let seen = zone.statistics().expect("there");
        // SAFETY: live.
        let usable = unsafe { usable_bytes(block.as_ptr()) };
        assert_eq!((seen.live_count, seen.live_bytes), (1, usable));
    }
    release(block);
    assert_eq!(zone.statistics().map(|seen| (seen.live_count, seen.live_bytes)), Ok((0, 0)));
    assert_eq!(destroy(zone), Ok(()));
}

#[test]
fn a_limit_is_an_error_and_exact() {
    let _alone = alone();
    let zone = Zone::create_with(ZoneOptions::new().limit(100_000).name("cache")).expect("memory");
    let mut blocks = Vec::new();
    let error = loop {
        match zone.alloc(layout(1000, 16)) {
            Ok(block) => blocks.push(block),
            Err(error) => break error,
        }
    };
    assert_eq!(blocks.len(), 100_000 / 1024);
    let live_bytes = blocks.len() * 1024;
    let over = ZoneError::OverLimit { usable_bytes: 1024, live_bytes, limit_bytes: 100_000 };
    assert_eq!(error, over);
    let too_large = zone.alloc(layout(200_000, 16));
    assert!(matches!(too_large, Err(ZoneError::OverLimit { .. })), "{too_large:?}");
    // SAFETY: live; refused, so it is as before.
    let refused = unsafe { zone.realloc(blocks[0], 16, 5000) };
    assert!(matches!(refused, Err(ZoneError::OverLimit { .. })), "{refused:?}");
    release(blocks.pop().expect("some"));
    blocks.push(zone.alloc(layout(1000, 16)).expect("there is room again"));
    zone.set_limit(usize::MAX).expect("there");
    blocks.push(zone.alloc(layout(200_000, 16)).expect("no limit"));
    let seen = zone.statistics().expect("there");
    assert_eq!(seen.failure_count, 3);
    assert_eq!(seen.live_count, blocks.len());
    assert_eq!(seen.live_bytes, live_bytes + (200_000usize).next_multiple_of(4096));
    assert_eq!(seen.peak_live_bytes, seen.live_bytes);
    assert_eq!(zone.options().expect("there").as_name(), "cache");
    assert!(zones().any(|other| other == zone));
    assert_eq!(destroy(zone), Ok(()));
    assert!(zones().all(|other| other != zone));
}

#[test]
fn an_emptied_zone_holds_nothing_after_a_trim() {
    let _alone = alone();
    let zone = Zone::create().expect("memory");
    let mut blocks = Vec::new();
    for step in 0..20_000usize {
        blocks.push(zone.alloc(layout(1 + step * 37 % 40_000, 16)).expect("memory"));
    }
    let held_bytes = zone.statistics().expect("there").held_bytes;
    assert!(held_bytes >= 20_000 * 15_000);
    for (step, block) in blocks.drain(..).enumerate() {
        // In an order that has nothing to do with addresses.
        fill(block, step as u8);
        release(block);
    }
    let seen = zone.statistics().expect("there");
    assert_eq!((seen.live_count, seen.live_bytes), (0, 0));
    assert!(seen.held_bytes < held_bytes / 10, "{seen:?}");
    zone.trim().expect("there");
    assert_eq!(zone.statistics().expect("there").held_bytes, 0);
    let block = zone.alloc(layout(10, 16)).expect("memory");
    fill(block, 1);
    assert_eq!(destroy(zone), Ok(()));
}

#[test]
fn long_names_are_cut_between_characters() {
    let _alone = alone();
    let name = "ä".repeat(40);
    let options = ZoneOptions::new().name(&name);
    assert_eq!(options.as_name(), "ä".repeat(16));
    assert_eq!(ZoneOptions::new().as_name(), "");
}
