//! Random programs beside a model, with every invariant walked after every step.

use core::cell::Cell;
use core::mem::MaybeUninit;
use std::vec::Vec;
use std::{println, vec};

use heapwright_core::backing::Backing;
use heapwright_testkit::Random;

use super::header::MOVING;
use super::names::LAST_GENERATION;
use super::{AccessError, CompactingHeap};
use crate::pool::Handle;
use crate::{Buffer, Failing, Limited};

/// The interpreter has no mappings; blocks of its own allocator do as well.
#[cfg(miri)]
const PAGES: crate::Upstream<std::alloc::System> = crate::Upstream(std::alloc::System);
#[cfg(not(miri))]
const PAGES: crate::AnonymousPages = crate::AnonymousPages;

#[derive(Clone, Debug)]
struct Model {
    handle: Handle<[u8]>,
    contents: Vec<u8>,
    pins: usize,
}

fn length(random: &mut Random, longest: u64) -> usize {
    match random.below(20) {
        0 => 0,
        1 => random.log_uniform(1, longest) as usize,
        _ => random.log_uniform(1, 200) as usize,
    }
}

/// A random program; how many requests were refused, and how many blocks were moved.
fn run<B: Backing>(heap: &CompactingHeap<B>, seed: u64, steps: u32, longest: u64) -> (u32, usize) {
    println!("seed {seed}, blocks up to {longest}");
    let random = &mut Random::new(seed);
    let mut live: Vec<Model> = Vec::new();
    let mut stale: Vec<Handle<[u8]>> = Vec::new();
    let (mut refused, mut moved) = (0, 0);
    for step in 0..steps {
        let grows = step / 500 % 2 == 0;
        match random.below(20) {
            0..=6 if grows || live.is_empty() => {
                let contents = vec![step as u8; length(random, longest)];
                match heap.insert(&contents) {
                    Ok(handle) => {
                        assert!(live.iter().all(|one| one.handle != handle));
                        assert!(!stale.contains(&handle), "a handle is given twice");
                        live.push(Model { handle, contents, pins: 0 });
                    }
                    Err(_) => refused += 1,
                }
            }
            0..=9 if !live.is_empty() => {
                let at = random.below(live.len() as u64) as usize;
                let removed = heap.remove(live[at].handle);
                if live[at].pins > 0 {
                    assert_eq!(removed, Err(AccessError::InUse));
                } else {
                    assert_eq!(removed, Ok(()));
                    stale.push(live.swap_remove(at).handle);
                }
            }
            10 if !live.is_empty() => {
                let at = random.below(live.len() as u64) as usize;
                let bytes = length(random, longest);
                match heap.resize(live[at].handle, bytes) {
                    Ok(()) => {
                        assert_eq!(live[at].pins, 0, "a pinned block was resized");
                        live[at].contents.resize(bytes, 0);
                    }
                    Err(_) if live[at].pins > 0 => {}
                    Err(_) => refused += 1,
                }
            }
            11..=12 if !live.is_empty() => {
                let at = random.below(live.len() as u64) as usize;
                let one = &mut live[at];
                if one.pins > 0 {
                    one.pins -= 1;
                    // SAFETY: a pin of ours without a guard, whose pointer is not kept.
                    unsafe { heap.unpin(one.handle) }.expect("pinned");
                } else if random.below(4) == 0 {
                    let data = heap.pin_unguarded(one.handle).expect("live");
                    // SAFETY: pinned.
                    assert_eq!(unsafe { data.as_ref() }, one.contents);
                    one.pins += 1;
                } else {
                    let mut data = heap.pin_mut(one.handle).expect("live, not pinned");
                    assert_eq!(heap.pin(one.handle).err(), Some(AccessError::InUse));
                    data.fill(step as u8);
                    one.contents.fill(step as u8);
                }
            }
            13..=16 => {
                let work = random.log_uniform(1, 1 << 17) as usize;
                let done = heap.compact_step(work, |seen| {
                    let one = live.iter().find(|one| one.handle == seen.handle).expect("live");
                    assert_eq!((one.contents.len(), one.pins), (seen.bytes, 0));
                });
                moved += done.moved_count;
            }
            17 if random.below(10) == 0 => moved += heap.compact().moved_count,
            _ => {
                if let Some(one) = stale.get(random.below(stale.len().max(1) as u64) as usize) {
                    assert_eq!(heap.pin(*one).err(), Some(AccessError::Stale));
                    assert_eq!(heap.remove(*one), Err(AccessError::Stale));
                }
            }
        }
        heap.check();
        if step % 64 == 0 {
            for one in &live {
                assert_eq!(heap.pin(one.handle).expect("live")[..], one.contents);
            }
            let walked = heap.iter().filter(|(handle, block)| {
                let one = live.iter().find(|one| one.handle == *handle).expect("live");
                block.as_ref().expect("no writer")[..] == one.contents
            });
            assert_eq!(walked.count(), live.len());
            assert_eq!(heap.statistics().live_count.value(), Some(live.len()));
            let bytes = live.iter().map(|one| one.contents.len()).sum();
            assert_eq!(heap.statistics().live_bytes.value(), Some(bytes));
        }
    }
    (refused, moved)
}

/// Interpreted, a step takes a thousand times as long.
const SEEDS: u64 = if cfg!(miri) { 1 } else { 4 };
const STEPS: u32 = if cfg!(miri) { 400 } else { 4000 };

#[test]
fn random_programs_keep_every_byte_in_pages_and_buffers() {
    for seed in 0..SEEDS {
        let longest = if cfg!(miri) { 40_000 } else { 200_000 };
        let (_, moved) = run(&CompactingHeap::new_in(PAGES), seed, STEPS, longest);
        assert!(moved > 0, "nothing was moved");
        let mut memory = vec![MaybeUninit::uninit(); 8_000];
        let heap = CompactingHeap::new_in(Buffer::new(&mut memory));
        let (refused, moved) = run(&heap, seed, STEPS, 4000);
        assert!(cfg!(miri) || refused > 0 && moved > 0, "{refused} refused, {moved} moved");
    }
}

#[test]
fn random_programs_survive_quotas_and_the_nth_failure() {
    for seed in 10..10 + SEEDS {
        let limited = Limited::new(PAGES, 24 << 10);
        let (refused, _) = run(&CompactingHeap::new_in(&limited), seed, STEPS, 40_000);
        assert!(cfg!(miri) || refused > 0);
        let _ = limited.committed_bytes();
    }
    for n in (0..20).step_by(if cfg!(miri) { 7 } else { 1 }) {
        let heap = CompactingHeap::new_in(Failing::for_ever_after(PAGES, n));
        run(&heap, 20 + u64::from(n as u32), 300, 40_000);
    }
}

#[test]
fn nothing_stays_committed_under_a_quota_after_the_end() {
    let limited = Limited::new(PAGES, 1 << 20);
    let heap = CompactingHeap::new_in(&limited);
    for _ in 0..10 {
        heap.insert(&[1; 50_000]).expect("room");
    }
    heap.compact();
    drop(heap);
    assert_eq!(limited.committed_bytes(), 0);
}

#[test]
fn the_directory_stays_where_blocks_were_committed_before_it() {
    // Tiny blocks until nothing is left: the directory grows into what was committed for blocks.
    let bytes = if cfg!(miri) { 32 << 10 } else { 4 << 20 };
    let heap = CompactingHeap::with_capacity_max(PAGES, bytes);
    let mut blocks = Vec::new();
    while let Ok(block) = heap.insert(&[blocks.len() as u8; 8]) {
        blocks.push(block);
    }
    for (n, block) in blocks.iter().enumerate() {
        if n % 100 != 0 {
            heap.remove(*block).expect("live");
        }
    }
    assert!(heap.compact().finished);
    heap.check();
    for (n, block) in blocks.iter().enumerate().step_by(100) {
        assert_eq!(heap.pin(*block).expect("live")[..], [n as u8; 8]);
    }
    // And once more, over what was given back.
    while heap.insert(&[1; 100]).is_ok() {}
    heap.check();
}

#[test]
fn a_long_block_on_its_way_is_whole_when_it_is_pinned() {
    let heap = CompactingHeap::new_in(PAGES);
    let first = heap.insert(&[1; 40_000]).expect("memory");
    let length: u32 = if cfg!(miri) { 100_000 } else { 1_000_000 };
    let contents: Vec<u8> = (0..length).map(|n| (n / 7) as u8).collect();
    let long = heap.insert(&contents).expect("memory");
    heap.remove(first).expect("live");
    let mut told = 0;
    while heap.sweep_is_idle_or_between() {
        heap.compact_step(1, |moved| {
            told += 1;
            assert_eq!((moved.handle, moved.bytes), (long, contents.len()));
        });
    }
    heap.compact_step(1, |_| {});
    heap.check();
    // The end of the long block is still in the gap, which would have room for this.
    let other = heap.insert(&[0xff; 5000]).expect("memory");
    assert_eq!(heap.pin(other).expect("live")[..], [0xff; 5000]);
    assert_eq!(told, 1, "told once, at the beginning");
    assert_eq!(heap.pin(long).expect("live")[..], contents);
    assert!(heap.compact_step(usize::MAX, |_| {}).finished);
    assert_eq!(heap.pin(long).expect("live")[..], contents);
    heap.check();
}

impl<B: Backing> CompactingHeap<B> {
    /// Whether no block is in transit.
    fn sweep_is_idle_or_between(&self) -> bool {
        let mut place = 0;
        while let Some((at, _, next)) = self.next_live(place) {
            // SAFETY: a live block.
            if unsafe { self.memory.header(at) }.state.get() == MOVING {
                return false;
            }
            place = next;
        }
        true
    }
}

#[test]
fn a_callback_may_use_the_heap_and_panic() {
    let heap = CompactingHeap::new_in(PAGES);
    let blocks: Vec<_> = (0..100).map(|n| heap.insert(&[n; 300]).expect("memory")).collect();
    for block in blocks.iter().step_by(2) {
        heap.remove(*block).expect("live");
    }
    let fresh = Cell::new(0);
    let done = heap.compact_step(usize::MAX, |moved| {
        assert!(!heap.compact().finished, "one compaction at a time");
        assert_eq!(heap.pin(moved.handle).expect("live").len(), 300);
        if fresh.get() < 20 {
            heap.insert(&[0xaa; 100]).expect("memory");
            fresh.set(fresh.get() + 1);
        }
    });
    assert!(done.finished && done.moved_count >= 50);
    heap.check();
    for block in blocks.iter().skip(1).step_by(4) {
        heap.remove(*block).expect("live");
    }
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        heap.compact_step(usize::MAX, |_| panic!("in the middle"))
    }));
    assert!(caught.is_err(), "something was moved");
    heap.check();
    assert!(heap.compact().finished, "a panic does not end compaction for ever");
    heap.check();
    for (n, block) in blocks.iter().enumerate().skip(3).step_by(4) {
        assert_eq!(heap.pin(*block).expect("live")[..], [n as u8; 300]);
    }
}

#[test]
fn pinned_blocks_stay_and_the_rest_closes_up_around_them() {
    let heap = CompactingHeap::new_in(PAGES);
    let blocks: Vec<_> = (0..1000).map(|n| heap.insert(&[n as u8; 500]).expect("memory")).collect();
    let guard = heap.pin(blocks[500]).expect("live");
    let address = guard.as_ptr();
    for (n, block) in blocks.iter().enumerate() {
        if n % 10 != 0 {
            heap.remove(*block).expect("live");
        }
    }
    heap.compact();
    heap.check();
    assert_eq!(guard.as_ptr(), address);
    assert_eq!(guard[..], [500_u16 as u8; 500]);
    assert_eq!(heap.remove(blocks[500]), Err(AccessError::InUse));
    // What is before the pinned block is there for others.
    let before = heap.statistics().committed_bytes;
    for _ in 0..200 {
        heap.insert(&[0; 500]).expect("memory");
    }
    assert_eq!(heap.statistics().committed_bytes, before);
    drop(guard);
    heap.compact();
    heap.check();
    assert!(heap.find_place(blocks[500]) < Some(address));
}

impl<B: Backing> CompactingHeap<B> {
    fn find_place(&self, handle: Handle<[u8]>) -> Option<*const u8> {
        Some(self.pin(handle).ok()?.as_ptr())
    }
}

#[test]
fn a_walk_keeps_everything_in_place_and_ends() {
    let heap = CompactingHeap::new_in(PAGES);
    let blocks: Vec<_> = (0..100).map(|n| heap.insert(&[n; 100]).expect("memory")).collect();
    for block in blocks.iter().step_by(3) {
        heap.remove(*block).expect("live");
    }
    let mut walk = heap.iter();
    let (_, first) = walk.next().expect("blocks");
    assert!(!heap.compact().finished, "nothing moves during a walk");
    assert_eq!(first.expect("no writer")[..], [1; 100]);
    // Removing and inserting meanwhile does no harm.
    heap.remove(blocks[50]).expect("live");
    heap.insert(&[7; 10]).expect("memory");
    assert!(walk.count() >= 64);
    assert!(heap.compact().finished);
    heap.check();
}

#[test]
fn an_index_whose_generations_end_is_not_used_again() {
    let heap = CompactingHeap::new_in(PAGES);
    let first = heap.insert(b"1").expect("memory");
    heap.names.group(&heap.memory, 0).generation.set(LAST_GENERATION - 1);
    let last = heap.insert(b"2").expect("memory");
    assert_eq!(last.parts().1, LAST_GENERATION);
    heap.remove(last).expect("live");
    heap.remove(first).expect("live");
    for _ in 0..200 {
        let other = heap.insert(b"3").expect("memory");
        assert!(other.parts().0 >= 64, "the group of {first:?} is retired");
    }
    heap.compact();
    heap.check();
    assert_eq!(heap.pin(last).err(), Some(AccessError::Stale));
}
