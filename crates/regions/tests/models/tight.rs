//! The tight heap: its model, its payload, what it refuses.

use std::alloc::{Layout, System};
use std::mem::MaybeUninit;
use std::ptr::NonNull;

use heapwright_regions::{
    AllocError, AnonymousPages, Backing, Buffer, Failing, FreeError, Limited, LocalCounts, Tight,
    Upstream,
};
use heapwright_testkit::Random;

use crate::model::{Shape, run};

fn run_tight<B: Backing>(backing: B, bytes: usize, seed: u64) -> Result<u32, AllocError> {
    let heap = Tight::counted_in(backing, bytes, LocalCounts::new())?;
    let shape = Shape { bytes_max: 3000, align_log2_max: 7, steps: 4000, allocs_per_100: 53 };
    let refused = run(&heap, seed, shape);
    let seen = heap.statistics();
    assert_eq!(seen.live_bytes.value(), Some(0));
    assert_eq!(heap.largest_free_bytes(), bytes & !15, "everything was joined");
    assert_eq!(seen.failure_count.value(), Some(refused as usize));
    Ok(refused)
}

#[test]
fn a_tight_heap_agrees_with_its_model() {
    let mut refused = 0;
    for seed in 0..4 {
        refused += run_tight(AnonymousPages, 150_000, seed).expect("memory");
        refused += run_tight(Upstream(System), 60_000, seed).expect("memory");
        let mut memory = vec![MaybeUninit::uninit(); 40_000];
        refused += run_tight(Buffer::new(&mut memory), 30_001, seed).expect("40 kB");
    }
    assert!(refused > 100, "never full");
    for calls in 0..2 {
        let failing = Failing::once_after(AnonymousPages, calls);
        let quota = Limited::new(failing, 1 << 20);
        assert!(run_tight(&quota, 150_000, 1).is_err(), "a reserve, a commit");
        assert_eq!(quota.committed_bytes(), 0);
    }
}

fn random_size(random: &mut Random) -> Layout {
    Layout::from_size_align(random.log_uniform(16, 4096) as usize, 1).expect("a layout")
}

#[test]
fn payload_stays_above_95_percent_after_churn() {
    const BYTES: usize = 8 << 20;
    // The tables count as memory.
    let backing = Limited::new(AnonymousPages, BYTES);
    let heap: Tight<_> = Tight::new_in(&backing, BYTES / 129 * 128 - 8192).expect("memory");
    let random = &mut Random::new(5);
    let mut live = Vec::new();
    let mut sum = 0;
    loop {
        let layout = random_size(random);
        let Ok(block) = heap.try_alloc(layout) else { break };
        live.push((block, layout));
        sum += layout.size();
    }
    let fresh = sum as f64 / BYTES as f64;
    // Nine tenths of that, exchanged at random.
    let most = sum / 10 * 9;
    let mut refused = 0;
    for _ in 0..150_000 {
        let (block, layout) = live.swap_remove(random.below(live.len() as u64) as usize);
        // SAFETY: live, unused from here.
        unsafe { heap.free(block, layout) }.expect("live");
        sum -= layout.size();
        while sum < most {
            let layout = random_size(random);
            let Ok(block) = heap.try_alloc(layout) else {
                refused += 1;
                break;
            };
            live.push((block, layout));
            sum += layout.size();
        }
    }
    loop {
        let layout = random_size(random);
        let Ok(_) = heap.try_alloc(layout) else { break };
        sum += layout.size();
    }
    let churned = sum as f64 / BYTES as f64;
    println!("{fresh:.4} fresh, {churned:.4} after churn, {refused} refused");
    assert!(fresh >= 0.97, "{fresh}");
    assert!(churned >= 0.95, "{churned}");
    assert_eq!(refused, 0);
}

#[test]
fn what_is_no_live_block_of_a_tight_heap_is_refused() {
    let heap: Tight<_> = Tight::new_in(AnonymousPages, 1 << 16).expect("memory");
    let layout = Layout::new::<[u8; 64]>();
    let block = heap.try_alloc(layout).expect("room");
    let wide = Layout::from_size_align(1, 8192).expect("a layout");
    assert!(matches!(heap.try_alloc(wide), Err(AllocError::Unfit { align_bytes: 8192, .. })));
    let long = Layout::new::<[u8; 70_000]>();
    assert!(matches!(heap.try_alloc(long), Err(AllocError::Unfit { .. })));
    let most = Layout::new::<[u8; 1 << 16]>();
    let largest = (1 << 16) - 64;
    assert!(matches!(
        heap.try_alloc(most),
        Err(AllocError::Full { largest_free_bytes, .. }) if largest_free_bytes == largest
    ));
    // SAFETY: live, unused.
    assert_eq!(unsafe { heap.free(block, layout) }, Ok(()));
    // SAFETY: just freed: refused.
    let twice = unsafe { heap.free(block, layout) };
    assert!(matches!(twice, Err(FreeError::AlreadyFree { .. })));
    let mut elsewhere = [0u8; 64];
    // SAFETY: not of this heap: refused.
    let foreign = unsafe { heap.free(NonNull::from(&mut elsewhere).cast(), layout) };
    assert!(matches!(foreign, Err(FreeError::NotOwned { .. })));
    // SAFETY: inside the heap's memory.
    let inside = unsafe { block.add(8) };
    // SAFETY: at no granule: refused.
    let interior = unsafe { heap.free(inside, layout) };
    assert!(matches!(interior, Err(FreeError::NotBlockStart { distance_bytes: 8, .. })));
}
