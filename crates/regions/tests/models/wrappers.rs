//! Names and budgets, one region for all threads, frames, and objects that are kept.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::sync::atomic::{AtomicU32, Ordering};

use heapwright_regions::{
    AnonymousPages, Failing, Frames, Linear, Lines, Locked, ObjectPool, OverBudget, Region, Slab,
    Tag, Tagged,
};

use crate::model::{Shape, run};

#[test]
fn a_budget_is_kept_or_counted() {
    let slab = Slab::new_in(AnonymousPages, 1 << 20, Lines::Packed).expect("addresses");
    let tag = |name, over_budget| Tag { name, budget_bytes: 100, over_budget };
    let tags = [tag("strict", OverBudget::Refuse), tag("lax", OverBudget::Count)];
    let region = Tagged::new("test", slab, tags);
    let layout = Layout::new::<[u8; 60]>();
    let (strict, lax) = (region.part(0).expect("a tag"), region.part(1).expect("a tag"));
    let first = strict.try_alloc_block(layout).expect("within");
    assert!(strict.try_alloc_block(layout).is_err());
    let others = [(); 2].map(|()| lax.try_alloc_block(layout).expect("counted"));
    let seen: Vec<_> = region.tags().map(|(_, seen)| seen).collect();
    assert_eq!((seen[0].requested_bytes, seen[0].failure_count), (60, 1));
    assert_eq!((seen[1].requested_bytes, seen[1].over_budget_count), (120, 1));
    assert_eq!(region.statistics().requested_bytes.value(), Some(180));
    assert_eq!(region.statistics().live_count.value(), Some(3));
    // SAFETY: live, unused from here; likewise below.
    unsafe { strict.free_block(first, layout) };
    for block in others {
        // SAFETY: as above.
        unsafe { lax.free_block(block, layout) };
    }
    assert_eq!(region.statistics().requested_bytes.value(), Some(0));
    assert_eq!(region.tags().map(|(_, seen)| seen.peak_requested_bytes).sum::<usize>(), 180);
    assert!(region.part(2).is_none());
    let shape = Shape { bytes_max: 90, align_log2_max: 4, steps: 2000, allocs_per_100: 50 };
    assert!(run(&strict, 1, shape) > 0, "never over budget");
}

#[test]
fn a_locked_region_serves_all_threads() {
    static HEAP: Locked<Slab<AnonymousPages>> =
        Locked::new(|| Slab::new_in(AnonymousPages, 1 << 26, Lines::Packed));
    std::thread::scope(|scope| {
        for seed in 0..3u8 {
            scope.spawn(move || {
                for size in 1..2000usize {
                    let layout = Layout::from_size_align(size, 8).expect("a layout");
                    // SAFETY: the size is not 0.
                    let block = unsafe { HEAP.alloc(layout) };
                    assert!(!block.is_null());
                    // SAFETY: live, of that size.
                    unsafe { block.write_bytes(seed, size) };
                    // SAFETY: live; not used after.
                    let longer = unsafe { HEAP.realloc(block, layout, size * 3) };
                    // SAFETY: inside the block.
                    let last = unsafe { longer.add(size - 1) };
                    // SAFETY: as above; it was copied.
                    assert_eq!(unsafe { last.read() }, seed);
                    let layout = Layout::from_size_align(size * 3, 8).expect("a layout");
                    // SAFETY: live, unused from here.
                    unsafe { HEAP.dealloc(longer, layout) };
                }
            });
        }
    });
    assert_eq!(HEAP.region_statistics().live_count.value(), Some(0));
}

#[test]
fn a_locked_region_that_cannot_be_made_refuses() {
    static NEVER: Locked<Slab<Failing<AnonymousPages>>> = Locked::new(|| {
        Slab::new_in(Failing::for_ever_after(AnonymousPages, 0), 1 << 20, Lines::Packed)
    });
    // SAFETY: the size is not 0.
    assert!(unsafe { NEVER.alloc(Layout::new::<u64>()) }.is_null());
}

#[test]
fn frames_end_when_their_number_has_passed() {
    let mut frames = Frames::<_, 3>::new_in([AnonymousPages; 3]);
    let mut kept = Vec::new();
    for frame in 0..20u64 {
        kept.push(frames.keep(frame * 10).expect("memory"));
        for (made, handle) in kept.iter().enumerate() {
            let alive = frame - made as u64 <= 2;
            let value = made as u64 * 10;
            assert_eq!(frames.get(*handle), alive.then_some(&value));
        }
        frames.arena().alloc_slice_copy(&[1u8; 5000]);
        frames.next_frame();
    }
    let committed: usize = frames.statistics().iter().map(|seen| seen.committed_bytes).sum();
    assert!(committed <= 3 * (64 << 10) + (3 << 12), "{committed}: memory is used again");
    let others = Frames::<_, 3>::new_in([AnonymousPages; 3]);
    let foreign = others.keep(1u64).expect("memory");
    assert_eq!(Frames::<_, 3>::new_in([AnonymousPages; 3]).get(foreign), None);
}

#[test]
fn clean_up_handlers_run_once_newest_first() {
    static ORDER: AtomicU32 = AtomicU32::new(0);
    let mut arena = Linear::new();
    for digit in [3, 2, 1] {
        let note = move || {
            ORDER.store(ORDER.load(Ordering::Relaxed) * 10 + digit, Ordering::Relaxed);
        };
        arena.try_defer(note).expect("memory");
    }
    arena.reset();
    assert_eq!(ORDER.load(Ordering::Relaxed), 123);
    arena.reset();
    assert_eq!(ORDER.load(Ordering::Relaxed), 123);
    let full = Linear::<_>::new_in(Failing::for_ever_after(AnonymousPages, 0));
    assert!(full.try_defer(|| ORDER.store(0, Ordering::Relaxed)).is_err());
    assert_eq!(ORDER.load(Ordering::Relaxed), 123, "a refused handler does not run");
}

#[test]
fn objects_are_kept_up_to_the_cap_and_evicted_when_idle() {
    let made = Cell::new(0);
    let make = || {
        made.set(made.get() + 1);
        vec![made.get()]
    };
    let reset = |object: &mut Vec<i32>| {
        object.truncate(1);
        object[0] != 2
    };
    let pool = ObjectPool::new_in(AnonymousPages, 2, make, reset);
    let mut objects: Vec<_> = (0..4).map(|_| pool.take().expect("memory")).collect();
    objects[0].push(9);
    objects.clear();
    let seen = pool.statistics();
    // The first and the third are kept; the second is refused by the reset, the fourth is too many.
    assert_eq!((seen.idle_count, seen.dropped_count, seen.live_count), (2, 2, 0));
    assert_eq!(pool.take().expect("memory").as_slice(), [3]);
    pool.tick();
    drop(pool.take().expect("memory"));
    pool.tick();
    assert_eq!(pool.evict_idle(1), 1, "the first one waited for two ticks");
    assert_eq!(pool.evict_idle(1), 0);
    pool.warm(10).expect("memory");
    assert_eq!(pool.statistics().idle_count, 2, "the cap");
    assert_eq!(made.get(), 5);
}
