//! Threads that share a pool or an arena.

use std::alloc::Layout;
use std::collections::HashSet;
use std::ptr::NonNull;
use std::sync::Mutex;
use std::sync::mpsc::channel;

use heapwright_regions::{AllocError, AnonymousPages, Failing, SharedLinear, SharedPool};
use heapwright_testkit::Random;

/// A block on its way to another thread.
struct Sent(NonNull<u64>);
// SAFETY: whoever receives it is the only one who uses it.
unsafe impl Send for Sent {}

#[test]
fn trap_10_blocks_of_a_shared_pool_have_one_user_at_a_time() {
    for seed in 0..3u64 {
        println!("seed {seed}");
        let pool = SharedPool::new_in(AnonymousPages, Layout::new::<[u64; 3]>());
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..3).map(|_| channel::<Sent>()).unzip();
        std::thread::scope(|scope| {
            for (index, receiver) in receivers.into_iter().enumerate() {
                let (senders, pool) = (senders.clone(), &pool);
                scope.spawn(move || {
                    let random = &mut Random::new(seed * 3 + index as u64);
                    let mut local = pool.local();
                    let mut live = Vec::new();
                    for _ in 0..20_000 {
                        match random.below(1000) {
                            0..450 => {
                                let block = local.try_alloc().expect("memory").cast::<u64>();
                                // SAFETY: a fresh block of 24 bytes.
                                unsafe { block.write(block.as_ptr().addr() as u64) };
                                live.push(block);
                            }
                            450..700 => {
                                let Some(block) = live.pop() else { continue };
                                let to = random.below(3) as usize;
                                if let Err(back) = senders[to].send(Sent(block)) {
                                    live.push(back.0.0);
                                }
                            }
                            700..998 => {
                                let received = receiver.try_recv().ok().map(|sent| sent.0);
                                let Some(block) = received.or_else(|| live.pop()) else { continue };
                                give(&local, block);
                            }
                            998 => local = pool.local(),
                            _ => local.flush(),
                        }
                    }
                    drop(senders);
                    for block in live.into_iter().chain(receiver.iter().map(|sent| sent.0)) {
                        give(&local, block);
                    }
                });
            }
            drop(senders);
        });
        assert_eq!(pool.statistics().live_count.value(), Some(0));
    }
}

fn give(local: &heapwright_regions::PoolLocal<'_, AnonymousPages>, block: NonNull<u64>) {
    // SAFETY: a live block of ours, written when it was made.
    assert_eq!(unsafe { block.read() }, block.as_ptr().addr() as u64, "two users");
    // SAFETY: as above. Nobody else reads the mark from here on.
    unsafe { block.write(0) };
    // SAFETY: live, unused from here.
    unsafe { local.free(block.cast()) };
}

#[test]
fn a_bounded_shared_pool_gives_all_its_blocks_and_no_more() {
    for count in [1, 10, 1000] {
        let pool = SharedPool::bounded(AnonymousPages, Layout::new::<u64>(), count).expect("room");
        let (first, second) = (pool.local(), pool.local());
        let blocks: HashSet<_> =
            (0..count).map(|_| first.try_alloc().expect("within the bound")).collect();
        assert_eq!(blocks.len(), count);
        assert!(matches!(second.try_alloc(), Err(AllocError::Full { .. })));
        for block in blocks {
            // SAFETY: live, unused from here.
            unsafe { second.free(block) };
        }
        second.flush();
        assert_eq!((0..count).map_while(|_| first.try_alloc().ok()).count(), count);
    }
    let failing = Failing::for_ever_after(AnonymousPages, 1);
    let pool = SharedPool::new_in(failing, Layout::new::<u64>());
    assert!(pool.local().try_alloc().is_err());
}

#[test]
#[should_panic(expected = "twice in a row")]
fn trap_13_a_block_freed_twice_in_a_row_is_told_by_a_shared_pool() {
    let pool = SharedPool::new_in(AnonymousPages, Layout::new::<u64>());
    let local = pool.local();
    let block = local.try_alloc().expect("memory");
    // SAFETY: live, unused.
    unsafe { local.free(block) };
    // SAFETY: not live: told before anything is touched.
    unsafe { local.free(block) };
}

#[test]
fn ranges_of_a_shared_arena_are_handed_out_once() {
    let mut arena = SharedLinear::new_in(AnonymousPages, 64 << 20).expect("addresses");
    for round in 0..3u64 {
        let ranges = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for thread in 0..3u64 {
                let (arena, ranges) = (&arena, &ranges);
                scope.spawn(move || {
                    let random = &mut Random::new(round * 3 + thread);
                    let local = arena.local();
                    let mut mine = Vec::new();
                    for step in 0..3000u64 {
                        let size = random.log_uniform(1, 6000) as usize;
                        let layout =
                            Layout::from_size_align(size, 1 << random.below(10)).expect("a layout");
                        let block = if step % 3 == 0 {
                            arena.try_alloc_layout(layout)
                        } else {
                            local.try_alloc_layout(layout)
                        };
                        let start = block.expect("64 MiB");
                        assert!(start.as_ptr().addr().is_multiple_of(layout.align()));
                        // SAFETY: a fresh block of that size.
                        unsafe { start.write_bytes(thread as u8, size) };
                        mine.push((start.as_ptr().addr(), size));
                        if step % 100 == 0 {
                            let number = local.alloc(step).expect("64 MiB");
                            assert_eq!(*number, step);
                        }
                    }
                    ranges.lock().expect("no panic").extend(mine);
                });
            }
        });
        let mut ranges = ranges.into_inner().expect("no panic");
        ranges.sort_unstable();
        for pair in ranges.windows(2) {
            assert!(pair[0].0 + pair[0].1 <= pair[1].0, "{pair:?} overlap");
        }
        arena.reset();
    }
    assert!(arena.statistics().committed_bytes > 5_000_000);
    arena.reset_and_trim(1 << 20);
    assert_eq!(arena.statistics().committed_bytes, 1 << 20);
}

#[test]
fn a_shared_arena_that_is_full_says_what_is_left() {
    let arena = SharedLinear::new_in(AnonymousPages, 1 << 16).expect("addresses");
    let layout = Layout::new::<[u8; 40_000]>();
    assert!(arena.try_alloc_layout(layout).is_ok());
    let full = AllocError::Full {
        requested_bytes: 40_000,
        largest_free_bytes: (1 << 16) - 40_000,
        capacity_bytes: 1 << 16,
    };
    assert_eq!(arena.try_alloc_layout(layout), Err(full));
    let wide = Layout::from_size_align(1, 8192).expect("a layout");
    assert!(matches!(arena.try_alloc_layout(wide), Err(AllocError::Unfit { .. })));
    let huge = Layout::from_size_align(isize::MAX as usize - 63, 64).expect("a layout");
    assert!(arena.try_alloc_layout(huge).is_err());
    let local = arena.local();
    assert!(local.try_alloc_layout(Layout::new::<u64>()).is_ok(), "no whole piece is left");
    assert_eq!(arena.statistics().failure_count.value(), Some(4));
}
