//! Memory comes in ahead of its use, in huge pages from 4 MiB on, and never much more than is used.
#![cfg(feature = "os")]

use std::alloc::Layout;
use std::ptr::NonNull;

use heapwright_os::{Capability, huge_bytes, page_bytes, transparent_huge_page_bytes};
use heapwright_regions::{
    AnonymousPages, Backing, Chained, Guarded, HandlePool, Lazy, Limited, Linear, NoCounts, Slab,
    Tight,
};

const HUGE_BYTES: usize = 2 << 20;
const STEP_BYTES: usize = 4 << 10;

fn works(name: &str) -> bool {
    Capability::all().iter().any(|one| one.name == name && one.probe().works())
}

/// Writes `used_bytes` into an arena, page after page; what is resident after each, if known.
fn fill<B: Backing>(
    arena: &Linear<B, NoCounts, 8>,
    used_bytes: usize,
    mut seen: impl FnMut(usize, usize),
) {
    let layout = Layout::from_size_align(STEP_BYTES, 8).expect("a layout");
    for used in (STEP_BYTES..=used_bytes).step_by(STEP_BYTES) {
        let block = arena.try_alloc_layout(layout).expect("memory");
        // SAFETY: a block of that many bytes.
        unsafe { block.write_bytes(1, STEP_BYTES) };
        // Asking about each page of many MiB takes long.
        if used % (STEP_BYTES * 61) == 0
            && let Some(resident) = arena.statistics().resident_bytes.value()
        {
            seen(used, resident);
        }
    }
}

/// The most that was resident beside what was used, as a share of it, in per cent.
fn most_ahead<B: Backing>(backing: B) -> usize {
    let arena: Linear<B, NoCounts, 8> = Linear::new_in(backing);
    let mut most = 0;
    fill(&arena, 12 << 20, |used, resident| {
        let ahead = resident.saturating_sub(used);
        // The header takes a page more.
        let bound = if used < 2 * HUGE_BYTES { used / 4 } else { HUGE_BYTES } + 2 * page_bytes();
        assert!(ahead <= bound, "{resident} bytes resident with {used} used");
        most = most.max(ahead * 100 / used);
    });
    most
}

#[test]
fn what_comes_next_is_there_up_to_a_quarter_and_a_huge_page() {
    if works("populate") {
        assert!(most_ahead(AnonymousPages) >= 5, "nothing came ahead");
        // What wraps pages makes them ready, too.
        assert!(most_ahead(Guarded::new(AnonymousPages, page_bytes())) >= 5);
        assert!(most_ahead(Limited::new(AnonymousPages, 1 << 30)) >= 5);
        assert!(most_ahead(Chained::new(AnonymousPages, AnonymousPages)) >= 5);
    } else {
        most_ahead(AnonymousPages);
    }
}

#[test]
fn a_lazy_backing_has_what_was_touched_and_nothing_else() {
    let arena: Linear<_, NoCounts, 8> = Linear::new_in(Lazy::new(AnonymousPages));
    fill(&arena, 12 << 20, |used, resident| {
        assert!(resident <= used + 2 * page_bytes(), "{resident} with {used} used");
    });
}

/// How much of `bytes` around `block` is in huge pages, from the first whole one on.
fn huge_around(block: NonNull<u8>, bytes: usize) -> usize {
    huge_bytes(block, bytes).unwrap_or(0)
}

#[test]
fn an_arena_of_many_mib_is_in_huge_pages_from_its_start_on() {
    if !works("huge pages, advised") || transparent_huge_page_bytes() != HUGE_BYTES {
        return;
    }
    let arena: Linear<_, NoCounts, 8> = Linear::new();
    let first = arena.try_alloc_layout(Layout::new::<u64>()).expect("memory");
    fill(&arena, 3 << 20, |_, _| {});
    assert_eq!(huge_around(first, 3 << 20), 0, "huge pages before 4 MiB are used");
    fill(&arena, 9 << 20, |_, _| {});
    let huge = huge_around(first, 12 << 20);
    // Where the start is not at a huge page's, up to one at each end is not whole.
    let expected = if works("huge pages, collapsed") { 8 << 20 } else { 4 << 20 };
    assert!(huge >= expected, "{huge} of 12 MiB");

    let lazy: Linear<_, NoCounts, 8> = Linear::new_in(Lazy::new(AnonymousPages));
    let first = lazy.try_alloc_layout(Layout::new::<u64>()).expect("memory");
    fill(&lazy, 12 << 20, |_, _| {});
    assert_eq!(huge_around(first, 12 << 20), 0, "nobody asked for them");
}

#[test]
fn contents_stay_when_small_pages_become_huge_ones() {
    let mut pool = HandlePool::new_in(AnonymousPages);
    let value = |number: u64| [number, !number, number << 7, 0, 1, 2, number];
    let count = 12 << 20 >> 6;
    let keys: Vec<_> = (0..count).map(|n| pool.insert(value(n)).expect("memory")).collect();
    for (number, key) in keys.iter().enumerate() {
        assert_eq!(pool.get(*key), Some(&value(number as u64)));
    }
    let slab = Slab::new_in(AnonymousPages, 1 << 28, heapwright_regions::Lines::Packed);
    let slab = slab.expect("addresses");
    let layout = Layout::from_size_align(700, 8).expect("a layout");
    let blocks: Vec<_> = (0..24_000u32)
        .map(|number| {
            let block = slab.try_alloc(layout).expect("memory");
            // SAFETY: a fresh block of 700 bytes.
            unsafe { block.write_bytes(number as u8, 700) };
            block
        })
        .collect();
    for (number, block) in blocks.into_iter().enumerate() {
        // SAFETY: written above.
        let bytes = unsafe { core::slice::from_raw_parts(block.as_ptr(), 700) };
        assert!(bytes.iter().all(|byte| *byte == number as u8), "block {number}");
        // SAFETY: live, unused from here.
        unsafe { slab.free(block, layout) };
    }
}

#[test]
fn a_small_memory_taken_at_once_stays_in_small_pages() {
    let resident = |bytes: usize| {
        let heap: Tight<_> = Tight::new_in(AnonymousPages, bytes).expect("memory");
        let block = heap.try_alloc(Layout::new::<[u8; 64]>()).expect("room");
        // SAFETY: a fresh block.
        unsafe { block.write_bytes(1, 64) };
        heap.statistics().resident_bytes.value()
    };
    // Tables are 0.8 %, and nothing of the rest but what was touched.
    for bytes in [1 << 20, 4 << 20] {
        let Some(resident) = resident(bytes) else { return };
        assert!(resident <= bytes / 64 + 16 * page_bytes(), "{resident} of {bytes}");
    }
    // A huge page for each place that is touched: the block, and the tables behind it.
    let Some(resident) = resident(64 << 20) else { return };
    assert!(resident <= 3 * HUGE_BYTES, "{resident} of 64 MiB");
}
