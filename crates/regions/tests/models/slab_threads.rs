//! Threads that allocate, hand over and free blocks of one slab.

use std::alloc::Layout;
use std::collections::HashMap;
use std::sync::mpsc::channel;
use std::sync::{Barrier, Mutex};

use crate::model::{Block, Shape, random_layout};
use heapwright_regions::{AnonymousPages, Failing, Lines, SharedSlab};
use heapwright_testkit::Random;

const SHAPE: Shape = Shape { bytes_max: 6000, align_log2_max: 7, steps: 6000, allocs_per_100: 50 };
const THREADS: u64 = 3;

/// A block on its way to another thread.
struct Sent(Block);
// SAFETY: whoever receives it is the only one who uses it.
unsafe impl Send for Sent {}

#[test]
fn blocks_go_between_threads_and_come_home() {
    for seed in 0..3 {
        println!("seed {seed}");
        let slab = SharedSlab::new_in(AnonymousPages, 1 << 28, Lines::Packed).expect("addresses");
        let (senders, receivers): (Vec<_>, Vec<_>) =
            (0..THREADS).map(|_| channel::<Sent>()).unzip();
        std::thread::scope(|scope| {
            for (index, receiver) in receivers.into_iter().enumerate() {
                let senders = senders.clone();
                let slab = &slab;
                scope.spawn(move || {
                    let random = &mut Random::new(seed * THREADS + index as u64);
                    let mut local = slab.local().expect("few handles");
                    let mut live = Vec::new();
                    for step in 0..SHAPE.steps {
                        match random.below(100) {
                            0..45 => {
                                let layout = random_layout(random, SHAPE);
                                let start = local.try_alloc(layout).expect("memory");
                                live.push(Block::fresh(start, layout, step as u8));
                            }
                            45..75 => {
                                if let Some(block) = live.pop() {
                                    let to = random.below(THREADS) as usize;
                                    // The last one may have ended already.
                                    if let Err(back) = senders[to].send(Sent(block)) {
                                        live.push(back.0.0);
                                    }
                                }
                            }
                            75..99 => {
                                let received = receiver.try_recv().ok().map(|sent| sent.0);
                                let Some(block) = received.or_else(|| live.pop()) else { continue };
                                block.holds(block.layout.size());
                                // SAFETY: live, unused from here.
                                unsafe { local.free(block.start, block.layout) };
                            }
                            // What this handle had is adopted by the others, or by the next.
                            _ if random.below(4) == 0 => {
                                drop(local);
                                local = slab.local().expect("few handles");
                            }
                            _ => local.flush(),
                        }
                    }
                    drop(senders);
                    for block in live.into_iter().chain(receiver.iter().map(|sent| sent.0)) {
                        block.holds(block.layout.size());
                        // SAFETY: live, unused from here.
                        unsafe { local.free(block.start, block.layout) };
                    }
                });
            }
            drop(senders);
        });
        let seen = slab.statistics();
        assert_eq!(seen.live_count.value(), Some(0), "{seen:?}");
        assert_eq!(seen.live_bytes.value(), Some(0), "all spans were given back");
    }
}

#[test]
fn whole_lines_are_never_shared_by_two_threads() {
    let slab = SharedSlab::new_in(AnonymousPages, 1 << 28, Lines::Whole).expect("addresses");
    let owner_of_line = Mutex::new(HashMap::new());
    let barrier = Barrier::new(THREADS as usize);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (slab, owner_of_line, barrier) = (&slab, &owner_of_line, &barrier);
            scope.spawn(move || {
                let local = slab.local().expect("few handles");
                let random = &mut Random::new(thread);
                barrier.wait();
                let mut live = Vec::new();
                for _ in 0..3000 {
                    if random.below(3) > 0 || live.is_empty() {
                        let size = random.log_uniform(1, 300) as usize;
                        let layout = Layout::from_size_align(size, 1).expect("a layout");
                        live.push((local.try_alloc(layout).expect("memory"), layout));
                    } else {
                        let at = random.below(live.len() as u64) as usize;
                        let (start, layout) = live.swap_remove(at);
                        // SAFETY: live, unused from here.
                        unsafe { local.free(start, layout) };
                    }
                }
                let mut owners = owner_of_line.lock().expect("no panic");
                for (start, layout) in live {
                    let first = start.as_ptr().addr();
                    for line in first / 64..=(first + layout.size() - 1) / 64 {
                        let before = owners.insert(line, thread);
                        assert_eq!(before, None, "line {line:#x} of {thread} has two blocks");
                    }
                }
            });
        }
    });
}

#[test]
fn what_a_thread_leaves_is_used_by_others() {
    let slab = SharedSlab::new_in(AnonymousPages, 1 << 26, Lines::Packed).expect("addresses");
    let layout = Layout::new::<[u8; 500]>();
    let first = slab.local().expect("a handle");
    let blocks: Vec<_> = (0..1000).map(|_| first.try_alloc(layout).expect("memory")).collect();
    for block in blocks.iter().step_by(2) {
        // SAFETY: live, unused from here.
        unsafe { first.free(*block, layout) };
    }
    drop(first);
    let committed = slab.statistics().committed_bytes;
    let second = slab.local().expect("a handle");
    let again: Vec<_> = (0..500).map(|_| second.try_alloc(layout).expect("memory")).collect();
    assert_eq!(slab.statistics().committed_bytes, committed);
    let holes: std::collections::HashSet<_> = blocks.iter().step_by(2).collect();
    assert!(again.iter().filter(|block| holes.contains(block)).count() > 450);
}

#[test]
fn there_are_64_handles_at_most() {
    let slab = SharedSlab::new_in(AnonymousPages, 1 << 20, Lines::Packed).expect("addresses");
    let handles: Vec<_> = (0..64).map(|_| slab.local().expect("64")).collect();
    assert!(slab.local().is_err());
    drop(handles);
    assert!(slab.local().is_ok());
}

#[test]
fn a_backing_that_fails_leaves_the_others_alone() {
    for calls in 2..10 {
        let failing = Failing::once_after(AnonymousPages, calls);
        let slab = SharedSlab::new_in(failing, 1 << 26, Lines::Packed).expect("two reserves");
        let local = slab.local().expect("a handle");
        let mut refused = 0;
        for size in (1..20_000).step_by(7) {
            let layout = Layout::from_size_align(size, 1).expect("a layout");
            match local.try_alloc(layout) {
                Ok(start) => drop(Block::fresh(start, layout, 1)),
                Err(_) => refused += 1,
            }
        }
        assert!(refused <= 2, "{refused}");
    }
}
