//! Random programs on the slab, over every backing, beside a model; what it keeps and gives back.

use std::alloc::{Layout, System};
use std::mem::MaybeUninit;
use std::ptr::NonNull;

use crate::model::{Shape, run};
use heapwright_regions::{
    AllocError, AnonymousPages, Backing, Buffer, Chained, Failing, Limited, Lines, LocalCounts,
    Slab, Upstream,
};
use heapwright_testkit::Random;

const MIXED: Shape = Shape { bytes_max: 5000, align_log2_max: 7, steps: 6000, allocs_per_100: 52 };
const LARGE: Shape =
    Shape { bytes_max: 100_000, align_log2_max: 12, steps: 2000, allocs_per_100: 50 };

fn run_slab<B: Backing>(
    backing: B,
    bytes: usize,
    seed: u64,
    shape: Shape,
) -> Result<u32, AllocError> {
    let lines = if seed.is_multiple_of(2) { Lines::Packed } else { Lines::Whole };
    let slab = Slab::counted_in(backing, bytes, lines, LocalCounts::new())?;
    let refused = run(&slab, seed, shape);
    slab.trim();
    let seen = slab.statistics();
    assert_eq!(seen.live_bytes.value(), Some(0));
    assert_eq!(seen.failure_count.value(), Some(refused as usize));
    Ok(refused)
}

#[test]
fn a_slab_agrees_with_its_model() {
    for seed in 0..4 {
        assert_eq!(run_slab(AnonymousPages, 1 << 30, seed, MIXED), Ok(0));
        assert_eq!(run_slab(AnonymousPages, 1 << 30, seed, LARGE), Ok(0));
        assert_eq!(run_slab(Upstream(System), 64 << 20, seed, MIXED), Ok(0));
    }
}

#[test]
fn a_full_slab_refuses_and_goes_on() {
    let mut refused = 0;
    for seed in 0..4 {
        let mut memory = vec![MaybeUninit::uninit(); 150_000];
        refused += run_slab(Buffer::new(&mut memory), 150_000, seed, MIXED).expect("150 kB");
        let quota = Limited::new(AnonymousPages, 300_000);
        refused += run_slab(&quota, 1 << 26, seed, LARGE).expect("addresses");
        assert_eq!(quota.committed_bytes(), 0);
    }
    assert!(refused > 100, "{refused}");
}

#[test]
fn every_path_survives_a_backing_that_fails() {
    for calls in 0..12 {
        let failing = Failing::once_after(AnonymousPages, calls);
        if let Ok(refused) = run_slab(&failing, 1 << 26, calls, MIXED) {
            assert!(refused <= 2, "{refused}");
        }
        let failing = Failing::for_ever_after(AnonymousPages, calls);
        let _ = run_slab(&failing, 1 << 26, calls, MIXED);
    }
    let chained = Chained::new(Failing::for_ever_after(AnonymousPages, 0), AnonymousPages);
    assert_eq!(run_slab(chained, 1 << 26, 7, MIXED), Ok(0));
}

#[test]
fn memory_that_is_free_goes_back_when_it_is_much() {
    let slab = Slab::new_in(AnonymousPages, 1 << 30, Lines::Packed).expect("addresses");
    let layout = Layout::new::<[u8; 1000]>();
    let blocks: Vec<_> = (0..20_000).map(|_| slab.try_alloc(layout).expect("memory")).collect();
    for block in &blocks {
        // SAFETY: live, of that size.
        unsafe { block.write_bytes(1, layout.size()) };
    }
    let full = slab.statistics();
    assert!(full.resident_bytes.value().is_some_and(|bytes| bytes > 20_000_000), "{full:?}");
    // Every second one stays: no span empties.
    for pair in blocks.chunks(2) {
        // SAFETY: live, unused from here.
        unsafe { slab.free(pair[0], layout) };
    }
    assert!(slab.statistics().resident_bytes.value().is_some_and(|bytes| bytes > 20_000_000));
    for pair in blocks.chunks(2) {
        // SAFETY: live, unused from here.
        unsafe { slab.free(pair[1], layout) };
    }
    let empty = slab.statistics();
    assert_eq!(empty.live_count.value(), Some(0));
    assert!(empty.resident_bytes.value().is_some_and(|bytes| bytes < 2_000_000), "{empty:?}");
    slab.trim();
    let trimmed = slab.statistics();
    assert!(trimmed.resident_bytes.value().is_some_and(|bytes| bytes < 700_000), "{trimmed:?}");
}

#[test]
fn an_empty_span_stays_for_the_next_block() {
    let slab = Slab::new_in(AnonymousPages, 1 << 30, Lines::Packed).expect("addresses");
    let layout = Layout::new::<[u8; 4000]>();
    let block = slab.try_alloc(layout).expect("memory");
    let committed = slab.statistics().committed_bytes;
    // SAFETY: live, unused from here.
    unsafe { slab.free(block, layout) };
    for _ in 0..1000 {
        let block = slab.try_alloc(layout).expect("memory");
        // SAFETY: as above.
        unsafe { slab.free(block, layout) };
    }
    assert_eq!(slab.statistics().committed_bytes, committed);
}

#[test]
fn whole_lines_are_never_shared_by_two_blocks() {
    let slab = Slab::new_in(AnonymousPages, 1 << 26, Lines::Whole).expect("addresses");
    let random = &mut Random::new(3);
    let mut lines = std::collections::HashSet::new();
    for _ in 0..5000 {
        let size = random.log_uniform(1, 5000) as usize;
        let layout = Layout::from_size_align(size, 8).expect("a layout");
        let start = slab.try_alloc(layout).expect("memory").as_ptr().addr();
        for line in start / 64..=(start + size - 1) / 64 {
            assert!(lines.insert(line), "line {line:#x} has two blocks");
        }
    }
}

/// Share of `bytes` that requests fill up to the first refusal.
fn payload(bytes: usize) -> f64 {
    let slab = Slab::new_in(AnonymousPages, bytes, Lines::Packed).expect("addresses");
    let random = &mut Random::new(5);
    let mut sum = 0;
    loop {
        let size = random.log_uniform(16, 4096) as usize;
        match slab.try_alloc(Layout::from_size_align(size, 1).expect("a layout")) {
            Ok(_) => sum += size,
            Err(_) => return sum as f64 / bytes as f64,
        }
    }
}

#[test]
fn most_of_the_memory_is_payload_at_the_first_failure() {
    let (small, large) = (payload(8 << 20), payload(256 << 20));
    println!("{small:.4} of 8 MiB, {large:.4} of 256 MiB");
    assert!(small >= 0.85, "{small}");
    assert!(large >= 0.93, "{large}");
}

#[test]
fn impossible_layouts_are_refused_with_their_numbers() {
    let slab = Slab::new_in(AnonymousPages, 1 << 20, Lines::Packed).expect("addresses");
    let wide = Layout::from_size_align(100, 8192).expect("a layout");
    assert!(matches!(slab.try_alloc(wide), Err(AllocError::Unfit { align_bytes: 8192, .. })));
    let huge = Layout::from_size_align(isize::MAX as usize - 4095, 1).expect("a layout");
    assert!(slab.try_alloc(huge).is_err());
    let two = Layout::from_size_align(2 << 20, 1).expect("a layout");
    assert!(matches!(
        slab.try_alloc(two),
        Err(AllocError::Full { requested_bytes, largest_free_bytes, .. })
            if requested_bytes == 2 << 20 && largest_free_bytes > 900_000
    ));
    assert!(Slab::new_in(AnonymousPages, 100, Lines::Packed).is_err(), "no page");
    assert!(Slab::new_in(AnonymousPages, usize::MAX, Lines::Packed).is_err());
}

#[test]
#[should_panic(expected = "twice in a row")]
fn trap_13_a_block_freed_twice_in_a_row_is_told() {
    let slab = Slab::new_in(AnonymousPages, 1 << 20, Lines::Packed).expect("addresses");
    let layout = Layout::new::<u64>();
    let block = slab.try_alloc(layout).expect("memory");
    // SAFETY: live, unused.
    unsafe { slab.free(block, layout) };
    // SAFETY: not live: told before anything is touched.
    unsafe { slab.free(block, layout) };
}

#[test]
#[should_panic(expected = "no large block")]
fn a_foreign_large_block_is_told() {
    let slab = Slab::new_in(AnonymousPages, 1 << 20, Lines::Packed).expect("addresses");
    let mut elsewhere = [0u8; 64];
    let layout = Layout::from_size_align(100_000, 8).expect("a layout");
    // SAFETY: not of the slab: told before anything is touched.
    unsafe { slab.free(NonNull::from(&mut elsewhere).cast(), layout) };
}
