//! Memory comes in ahead of its use, in huge pages from 4 MiB on, and never much more than is used.
#![cfg(feature = "os")]

use std::alloc::Layout;
use std::ptr::NonNull;

use heapwright_os::{Capability, huge_bytes, page_bytes, transparent_huge_page_bytes};
use heapwright_regions::{
    AnonymousPages, Backing, Chained, Guarded, HandlePool, Lazy, Limited, Linear, NoCounts, Pool,
    Region, Slab, Tight,
};

const HUGE_BYTES: usize = 2 << 20;
const STEP_BYTES: usize = 4 << 10;
/// What an arena has ahead at most.
const ARENA_BYTES: usize = 256 << 10;

fn works(name: &str) -> bool {
    Capability::all().iter().any(|one| one.name == name && one.probe().works())
}

/// Takes `used_bytes`, a page at a time, and writes them; what is resident after some, if known.
fn fill<R: Region>(region: &R, used_bytes: usize, mut seen: impl FnMut(usize, usize)) {
    let layout = Layout::from_size_align(STEP_BYTES, 8).expect("a layout");
    for used in (STEP_BYTES..=used_bytes).step_by(STEP_BYTES) {
        let block = region.try_alloc_block(layout).expect("memory");
        // SAFETY: a block of that many bytes.
        unsafe { block.write_bytes(1, STEP_BYTES) };
        // Asking about each page of many MiB takes long.
        if (used <= 1 << 20 || used % (STEP_BYTES * 61) == 0)
            && let Some(resident) = region.region_statistics().resident_bytes.value()
        {
            seen(used, resident);
        }
    }
}

/// How much was resident at most beside what was used below 4 MiB and above, as a share of it, in
/// per cent. Above it is at most `bytes_max`.
fn most_ahead<R: Region>(region: R, bytes_max: usize) -> [usize; 2] {
    let mut most = [0; 2];
    fill(&region, 12 << 20, |used, resident| {
        let ahead = resident.saturating_sub(used);
        let is_large = used >= 2 * HUGE_BYTES;
        // A header or table takes a page more.
        let bound = if is_large { bytes_max } else { bytes_max.min(used / 4) } + 2 * page_bytes();
        assert!(ahead <= bound, "{resident} bytes resident with {used} used");
        if used > 128 << 10 {
            let most = &mut most[usize::from(is_large)];
            *most = (*most).max(ahead * 100 / used);
        }
    });
    most
}

fn arena<B: Backing>(backing: B) -> Linear<B, NoCounts, 8> {
    Linear::new_in(backing)
}

fn pool<B: Backing>(backing: B) -> Pool<B> {
    Pool::new_in(backing, Layout::from_size_align(STEP_BYTES, 8).expect("a layout"))
}

#[test]
fn what_comes_next_is_there_up_to_a_quarter_and_a_huge_page_or_a_part_of_it_in_an_arena() {
    let populates = works("populate");
    // In per cent, below 4 MiB and above.
    let [all, of_arena] = if populates { [5, 2] } else { [0, 0] };
    let [small, large] = most_ahead(pool(AnonymousPages), HUGE_BYTES);
    assert!(small >= all && large >= all, "{small} and {large} %");
    for [small, large] in [
        most_ahead(arena(AnonymousPages), ARENA_BYTES),
        // What wraps pages makes them ready, too.
        most_ahead(arena(Guarded::new(AnonymousPages, page_bytes())), ARENA_BYTES),
        most_ahead(arena(Limited::new(AnonymousPages, 1 << 30)), ARENA_BYTES),
        most_ahead(arena(Chained::new(AnonymousPages, AnonymousPages)), ARENA_BYTES),
    ] {
        assert!(small >= all && large >= of_arena, "{small} and {large} %");
    }
}

#[test]
fn a_lazy_backing_has_what_was_touched_and_nothing_else() {
    let seen = |used, resident| {
        assert!(resident <= used + 2 * page_bytes(), "{resident} with {used} used");
    };
    fill(&arena(Lazy::new(AnonymousPages)), 12 << 20, seen);
    fill(&pool(Lazy::new(AnonymousPages)), 12 << 20, seen);
}

/// How much of `bytes` around `block` is in huge pages, from the first whole one on.
fn huge_around(block: NonNull<u8>, bytes: usize) -> usize {
    huge_bytes(block, bytes).unwrap_or(0)
}

#[test]
fn a_pool_of_many_mib_is_in_huge_pages_from_its_start_on() {
    if !works("huge pages, advised") || transparent_huge_page_bytes() != HUGE_BYTES {
        return;
    }
    let grown = pool(AnonymousPages);
    let start = grown.try_alloc().expect("memory");
    fill(&grown, 3 << 20, |_, _| {});
    assert_eq!(huge_around(start, 3 << 20), 0, "huge pages before 4 MiB");
    fill(&grown, 9 << 20, |_, _| {});
    // Where the start is not at a huge page's, up to one at each end is not whole.
    let expected = if works("huge pages, collapsed") { 8 << 20 } else { 4 << 20 };
    let seen = huge_around(start, 12 << 20);
    assert!(seen >= expected, "{seen} of 12 MiB");

    let lazy = pool(Lazy::new(AnonymousPages));
    let start = lazy.try_alloc().expect("memory");
    fill(&lazy, 12 << 20, |_, _| {});
    assert_eq!(huge_around(start, 12 << 20), 0, "nobody asked for them");

    let arena = arena(AnonymousPages);
    let start = arena.try_alloc_layout(Layout::new::<u64>()).expect("memory");
    fill(&arena, 12 << 20, |_, _| {});
    assert_eq!(huge_around(start, 12 << 20), 0, "an arena is used in order");
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
