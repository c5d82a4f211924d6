//! Random programs beside a model, with every invariant walked after every step.

use core::cell::Cell;
use std::collections::HashSet;
use std::rc::Rc;
use std::vec::Vec;
use std::{println, vec};

use heapwright_core::backing::Backing;
use heapwright_testkit::Random;

use super::areas::Part;
use super::pass::Phase;
use super::pool::CompactingPool;
use super::table::{LISTED, LIVE, NONE, PAGE_TAGS, PINS_MAX, is_reusable};
use crate::compacting::AccessError;
use crate::pool::Handle;
use crate::{Buffer, Failing, HandlePool, Limited};

#[cfg(miri)]
const PAGES: crate::Upstream<std::alloc::System> = crate::Upstream(std::alloc::System);
#[cfg(not(miri))]
const PAGES: crate::AnonymousPages = crate::AnonymousPages;

impl<T, B: Backing> CompactingPool<T, B> {
    /// V1 to V6.
    pub(super) fn walk_invariants(&self) {
        let mut places = HashSet::new();
        let (mut next, mut live) = (0, 0);
        while let Some((index, name, place)) = self.next_live(next) {
            assert!(place < self.top.get(), "V1: {place} is above all");
            assert!(places.insert(place), "V1: two values have one place");
            let spot = self.find(index, name).expect("V1: a value that its handle does not find");
            assert_eq!(self.place_of(index, &spot), place, "V1");
            (next, live) = (index + 1, live + 1);
        }
        assert_eq!(live, self.len(), "V6");
        let mut listed = HashSet::new();
        for at in 0..self.free_count.get() {
            let free = self.free_at(at);
            assert!(listed.insert(free), "V2: {free} is listed twice");
            let tag = self.tag(free).get();
            assert!(is_reusable(tag) && tag & LISTED != 0, "V2: {free}");
            assert!(free < self.top.get() && !places.contains(&free), "V2: {free} is not home");
        }
        let mut orphans = HashSet::new();
        let mut place = self.orphans.get();
        while place != NONE {
            assert!(orphans.insert(place), "V3: a cycle");
            assert!(place < self.top.get() && !places.contains(&place), "V3: {place}");
            assert!(!listed.contains(&place), "V3: {place} is listed");
            // SAFETY: an orphan's slot.
            place = unsafe { self.slot(place).cast::<u32>().read() };
        }
        for page in 0..self.tag_count.get().div_ceil(PAGE_TAGS) {
            let first = page * PAGE_TAGS;
            let indices = first..(first + PAGE_TAGS).min(self.tag_count.get());
            if self.record(page).packed().is_some() {
                assert!(indices.clone().all(|index| self.tag(index).get() == 0), "V4: {page}");
                assert!(self.next_index.get() <= first, "V3: page {page} is forgotten");
                continue;
            }
            for index in indices.filter(|_| self.sweep.has_listed(page)) {
                let tag = self.tag(index).get();
                let is_unlisted = is_reusable(tag) && tag & LISTED == 0;
                assert_eq!(is_reusable(tag) && !is_unlisted, listed.contains(&index), "V2");
                let is_known = !is_unlisted || self.next_index.get() <= index;
                assert!(is_known, "V3: index {index} is forgotten");
            }
        }
        for place in (0..self.top.get()).filter(|place| !places.contains(place)) {
            let is_left = !self.sweep.has_listed(place / PAGE_TAGS);
            let is_known = is_left || listed.contains(&place) || orphans.contains(&place);
            assert!(is_known, "V3: {place} is lost");
        }
        if !matches!(self.sweep.phase(), Phase::Clearing(_) | Phase::Marking(_))
            && self.sweep.has_marks()
        {
            for place in (0..self.top.get()).filter(|at| !self.sweep.has_listed(at / PAGE_TAGS)) {
                assert_eq!(self.is_marked(place), places.contains(&place), "V6: {place}");
            }
        }
    }
}

impl<T, B: Backing> CompactingPool<T, B> {
    /// Index number `at` of the stack, from the first listed.
    fn free_at(&self, at: u32) -> u32 {
        assert!(at < self.free_count.get());
        let frees = self.areas.start(Part::Free).cast::<u32>();
        // SAFETY: below the count of the stack.
        let index = unsafe { frees.add(at as usize) };
        // SAFETY: as above; what is below the count was written.
        unsafe { index.read() }
    }
}

#[derive(Clone, Debug)]
struct Model {
    handle: Handle<[u32; 5]>,
    value: [u32; 5],
}

/// A random program; how many requests were refused, and how many values were moved.
fn run<B: Backing>(pool: &CompactingPool<[u32; 5], B>, seed: u64, steps: u32) -> (u32, usize) {
    println!("seed {seed}");
    let random = &mut Random::new(seed);
    let mut live: Vec<Model> = Vec::new();
    let mut stale: Vec<Handle<[u32; 5]>> = Vec::new();
    let (mut refused, mut moved) = (0, 0);
    for step in 0..steps {
        // Walking all is slow; a walk now and then sees what the steps between did.
        pool.sweep.checks.set(step % 16 == 0);
        let grows = step / 700 % 2 == 0;
        let bulk = random.below(12);
        match random.below(20) {
            0..=6 if grows || live.is_empty() => {
                for _ in 0..bulk {
                    let value = [step, seed as u32, 1, 2, 3];
                    match pool.insert(value) {
                        Ok(handle) => {
                            assert!(!stale.contains(&handle), "a handle is given twice");
                            live.push(Model { handle, value });
                        }
                        Err((_, back)) => {
                            assert_eq!(back, value);
                            refused += 1;
                        }
                    }
                }
            }
            0..=11 => {
                for _ in 0..bulk.min(live.len() as u64) {
                    let at = random.below(live.len() as u64) as usize;
                    let one = live.swap_remove(at);
                    assert_eq!(pool.remove(one.handle), Ok(one.value));
                    stale.push(one.handle);
                }
                if stale.len() > 500 {
                    stale.drain(..250);
                }
            }
            12 if !live.is_empty() => {
                // A pin that outlasts steps of compaction, alone or with a second.
                let at = random.below(live.len() as u64) as usize;
                let pinned = pool.pin(live[at].handle).expect("live");
                let place = core::ptr::from_ref(&*pinned);
                let second = (bulk > 6).then(|| pool.pin(live[at].handle).expect("live"));
                assert_eq!(pool.remove(live[at].handle), Err(AccessError::InUse));
                assert_eq!(pool.pin_mut(live[at].handle).err(), Some(AccessError::InUse));
                moved += pool.compact_step(random.below(4000) as usize, |_| {}).moved_count;
                let young = pool.insert([9; 5]);
                moved += pool.compact_step(random.below(4000) as usize, |_| {}).moved_count;
                if let Ok(young) = young {
                    assert_eq!(pool.remove(young), Ok([9; 5]));
                }
                assert_eq!((*pinned, core::ptr::from_ref(&*pinned)), (live[at].value, place));
                drop(second);
            }
            13 if !live.is_empty() => {
                let at = random.below(live.len() as u64) as usize;
                let one = &mut live[at];
                let mut writer = pool.pin_mut(one.handle).expect("live, not pinned");
                assert_eq!(pool.pin(one.handle).err(), Some(AccessError::InUse));
                one.value[2] = step;
                *writer = one.value;
            }
            14 if bulk == 0 => moved += pool.compact().moved_count,
            14..=17 => {
                let work = random.below(6000) as usize;
                let done = pool.compact_step(work, |moved| {
                    // SAFETY: a value that nobody else has pinned just now.
                    let value = unsafe { moved.to.cast::<[u32; 5]>().read() };
                    assert_eq!(*pool.pin(moved.handle).expect("live"), value);
                });
                moved += done.moved_count;
            }
            18 => {
                for handle in &stale {
                    assert!(!pool.contains(*handle) && pool.pin(*handle).is_err());
                }
            }
            _ => {
                let seen: usize = pool
                    .iter()
                    .map(|(_, value)| usize::from(value.expect("no writer")[4] == 3))
                    .sum();
                assert_eq!(seen, live.len());
                for one in &live {
                    assert_eq!(*pool.pin(one.handle).expect("live"), one.value);
                }
            }
        }
        assert_eq!(pool.len(), live.len());
    }
    pool.sweep.checks.set(true);
    for one in live {
        assert_eq!(pool.remove(one.handle), Ok(one.value));
    }
    assert!(pool.compact().finished);
    pool.walk_invariants();
    (refused, moved)
}

#[test]
fn random_programs_keep_every_value_and_invariant() {
    let (seeds, steps) = if cfg!(miri) { (1, 150) } else { (8, 4000) };
    let mut moved = 0;
    for seed in 0..seeds {
        moved += run(&CompactingPool::new_in(PAGES), seed, steps).1;
    }
    assert!(moved > 0 || cfg!(miri), "nothing was ever moved");
}

#[test]
fn random_programs_in_little_memory_are_refused_and_go_on() {
    for bytes in [400, 3000, 40_000] {
        let mut memory = vec![core::mem::MaybeUninit::uninit(); bytes];
        let pool = CompactingPool::new_in(Buffer::new(&mut memory));
        let (refused, _) = run(&pool, bytes as u64, if cfg!(miri) { 100 } else { 2000 });
        assert!(refused > 0 || cfg!(miri) || bytes > 3000);
        drop(pool);
    }
    if !cfg!(miri) {
        let limited = CompactingPool::new_in(Limited::new(PAGES, 64 << 10));
        run(&limited, 7, 3000);
        run(&CompactingPool::with_capacity_max(PAGES, 48 << 10), 8, 3000);
    }
}

#[test]
fn every_failing_request_of_the_backing_leaves_a_whole_pool() {
    let steps = if cfg!(miri) { 20 } else { 400 };
    for nth in 0..12 {
        run(&CompactingPool::new_in(Failing::once_after(PAGES, nth)), 100 + nth, steps);
        run(&CompactingPool::new_in(Failing::for_ever_after(PAGES, nth)), 200 + nth, steps);
    }
}

#[test]
fn a_table_with_few_live_entries_is_packed_and_made_whole_again() {
    let pool: CompactingPool<[u64; 8], _> = CompactingPool::new_in(PAGES);
    pool.sweep.checks.set(false);
    let count = if cfg!(miri) { 1100 } else { 50_000_u64 };
    let handles: Vec<_> = (0..count).map(|n| pool.insert([n; 8]).expect("memory")).collect();
    let (kept, dead): (Vec<_>, Vec<_>) =
        handles.into_iter().enumerate().partition(|(n, _)| n % 64 == 0);
    for (_, handle) in &dead {
        pool.remove(*handle).expect("live");
    }
    assert!(pool.compact().finished);
    pool.walk_invariants();
    if pool.areas.purges() {
        assert!(pool.record(0).packed().is_some(), "packed");
    }
    for (n, handle) in &kept {
        assert_eq!(*pool.pin(*handle).expect("live"), [*n as u64; 8]);
        // As deep as pins go.
        let pins: Vec<_> = (0..PINS_MAX).map(|_| pool.pin(*handle).expect("below 61")).collect();
        assert_eq!(pool.pin(*handle).err(), Some(AccessError::TooManyPins));
        drop(pins);
    }
    for (_, handle) in &dead {
        assert_eq!(pool.remove(*handle), Err(AccessError::Stale));
    }
    // Some die packed, the rest is made whole by new ones.
    for (_, handle) in kept.iter().step_by(2) {
        pool.remove(*handle).expect("live");
    }
    pool.walk_invariants();
    let again: Vec<_> = (0..count / 2).map(|n| pool.insert([n; 8]).expect("memory")).collect();
    pool.walk_invariants();
    for (n, handle) in again.iter().enumerate() {
        assert_eq!(*pool.pin(*handle).expect("live"), [n as u64; 8]);
        assert!(dead.iter().take(600).all(|(_, old)| old != handle));
    }
    for (n, handle) in kept.iter().skip(1).step_by(2) {
        assert_eq!(*pool.pin(*handle).expect("live"), [*n as u64; 8]);
    }
}

#[test]
fn a_stack_that_was_long_goes_back_also_where_nothing_is_dead() {
    let pool: CompactingPool<[u64; 8], _> = CompactingPool::new_in(PAGES);
    pool.sweep.checks.set(false);
    let count = if cfg!(miri) { 100 } else { 100_000_u64 };
    let resident = || pool.statistics().resident_bytes.value().unwrap_or(0);
    let handles: Vec<_> = (0..count).map(|n| pool.insert([n; 8]).expect("memory")).collect();
    assert!(pool.compact().finished);
    let before = resident();
    for handle in &handles[1..] {
        pool.remove(*handle).expect("live");
    }
    let again: Vec<_> = (1..count).map(|n| pool.insert([n; 8]).expect("memory")).collect();
    let long = resident();
    assert!(pool.compact().finished);
    pool.walk_invariants();
    if before > 0 {
        assert!(long - before > 300_000, "4 bytes for each that was dead: {before}, {long}");
        assert!(resident() < before + 100_000, "the stack went back");
    }
    for (n, handle) in again.iter().enumerate() {
        assert_eq!(pool.remove(*handle), Ok([n as u64 + 1; 8]));
    }
    assert_eq!(pool.remove(handles[0]), Ok([0; 8]));
    pool.walk_invariants();
}

#[test]
fn an_index_that_was_used_up_is_not_used_again() {
    let pool: CompactingPool<u32, _> = CompactingPool::new_in(PAGES);
    let first = pool.insert(1).expect("memory");
    assert_eq!(pool.remove(first), Ok(1));
    let index = first.parts().0;
    pool.tag(index).set(0_u32.wrapping_sub(2 * LIVE) | LISTED);
    let last = pool.insert(2).expect("memory");
    assert_eq!(last.parts(), (index, 0_u32.wrapping_sub(LIVE)));
    assert_eq!(pool.remove(last), Ok(2));
    for _ in 0..600 {
        assert_ne!(pool.insert(3).expect("memory").parts().0, index, "the index is used up");
    }
    assert_eq!(pool.pin(last).err(), Some(AccessError::Stale));
    assert!(pool.compact().finished);
    pool.walk_invariants();
}

#[test]
fn handles_of_others_lead_nowhere() {
    let pool: CompactingPool<u32, _> = CompactingPool::new_in(PAGES);
    let own = pool.insert(1).expect("memory");
    assert_eq!(pool.remove(own), Ok(1));
    let mut other = HandlePool::new_in(PAGES);
    for _ in 0..300 {
        let foreign = other.insert(1).expect("memory");
        assert_eq!(pool.remove(foreign), Err(AccessError::Stale));
        assert_eq!(pool.pin(foreign).err(), Some(AccessError::Stale));
        other.remove(foreign);
    }
}

#[test]
fn callbacks_use_the_pool_and_may_panic() {
    let pool: CompactingPool<[u64; 4], _> = CompactingPool::new_in(PAGES);
    let handles: Vec<_> = (0..400).map(|n| pool.insert([n; 4]).expect("memory")).collect();
    for handle in handles.iter().take(300) {
        pool.remove(*handle).expect("live");
    }
    let count = Cell::new(0);
    let panics = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        pool.compact_step(usize::MAX, |moved| {
            count.set(count.get() + 1);
            assert!(!pool.compact().finished, "compaction does not nest");
            pool.remove(moved.handle).expect("live, where it is now");
            pool.insert([7; 4]).expect("memory");
            assert!(count.get() < 10, "on purpose");
        });
    }));
    assert!(panics.is_err());
    pool.walk_invariants();
    assert_eq!(pool.len(), 100);
    assert!(pool.compact().finished);
    assert_eq!(pool.top.get(), 100, "everything is together");
}

#[test]
fn pinned_values_stay_and_the_rest_comes_together() {
    let pool: CompactingPool<[u64; 4], _> = CompactingPool::new_in(PAGES);
    let handles: Vec<_> = (0..5000).map(|n| pool.insert([n; 4]).expect("memory")).collect();
    let pinned = pool.pin(handles[4990]).expect("live");
    for handle in handles.iter().enumerate().filter(|(n, _)| n % 10 != 0) {
        pool.remove(*handle.1).expect("live");
    }
    assert!(pool.compact().finished);
    assert_eq!(pool.top.get(), 4991);
    let lower = pool.insert([0; 4]).expect("memory");
    assert!(pool.pin(lower).is_ok_and(|value| core::ptr::from_ref(&*value) < &raw const *pinned));
    assert_eq!(*pinned, [4990; 4]);
    for n in 1..5000 {
        pool.insert([n; 4]).expect("memory");
    }
    pool.walk_invariants();
    drop(pinned);
    assert_eq!(pool.remove(handles[4990]), Ok([4990; 4]));
    assert!(pool.compact().finished);
    assert_eq!(pool.top.get() as usize, pool.len());
    assert!(pool.areas.committed_of(Part::Slots) < 6000 * 32 + (16 << 10));
}

#[test]
fn values_are_dropped_once_wherever_they_are() {
    let token = Rc::new(());
    let pool = CompactingPool::new_in(PAGES);
    let handles: Vec<_> =
        (0..1000).map(|n| pool.insert((n, token.clone())).expect("memory")).collect();
    for handle in handles.iter().skip(1).step_by(2) {
        drop(pool.remove(*handle).expect("live"));
    }
    assert_eq!(Rc::strong_count(&token), 501);
    assert!(pool.compact_step(usize::MAX, |_| {}).finished);
    for (n, handle) in handles.iter().enumerate().step_by(2) {
        assert_eq!(pool.pin(*handle).expect("live").0, n);
    }
    let sum: usize = pool.iter().map(|(_, value)| value.expect("no writer").0).sum();
    assert_eq!(sum, (0..1000).step_by(2).sum());
    let mut pool = pool;
    pool.for_each_mut(|_, value| value.0 += 1);
    assert_eq!(pool.pin(handles[10]).expect("live").0, 11);
    drop(pool);
    assert_eq!(Rc::strong_count(&token), 1);
}
