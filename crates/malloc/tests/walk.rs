//! Walks over every live block, against a model: exact while nobody works, and right about what
//! does not change while others do.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Barrier, Mutex};

use core::alloc::Layout;

use heapwright_malloc::{
    LiveBlock, LiveBlocks, WalkError, Zone, alloc, alloc_aligned, free, realloc, usable_bytes,
};

/// One walk at a time: each sees all of the process's blocks.
static ALONE: Mutex<()> = Mutex::new(());

const THREAD_COUNT: usize = 4;

struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % end
    }

    fn bytes(&mut self) -> usize {
        let log2 = match self.below(100) {
            0..80 => self.below(11),
            80..98 => 11 + self.below(4),
            _ => 15 + self.below(5),
        };
        (1 << log2) + self.below(1 << log2)
    }
}

/// A block that crosses threads.
#[derive(Clone, Copy)]
struct Held {
    block: *mut u8,
    zone: Option<Zone>,
}

// SAFETY: the blocks are used by one thread at a time.
unsafe impl Send for Held {}

fn usable(block: *mut u8) -> usize {
    assert!(!block.is_null());
    // SAFETY: a live block.
    unsafe { usable_bytes(block) }
}

fn release(held: Held) {
    // SAFETY: live, and not used again.
    unsafe { free(held.block) };
}

/// Allocates, resizes and frees, also what other threads allocated.
fn work(random: &mut Random, own: &mut Vec<Held>, shared: &Mutex<Vec<Held>>, zones: &[Zone]) {
    for _ in 0..3000 {
        let bytes = random.bytes();
        match random.below(100) {
            0..35 => own.push(Held { block: alloc(bytes), zone: None }),
            35..40 => {
                let block = alloc_aligned(1 << random.below(13), bytes);
                own.push(Held { block, zone: None });
            }
            40..50 => {
                let zone = zones[random.below(zones.len())];
                let layout = Layout::from_size_align(bytes, 16).expect("small");
                let block = zone.alloc(layout).expect("memory").as_ptr();
                own.push(Held { block, zone: Some(zone) });
            }
            50..60 if !own.is_empty() => {
                let place = random.below(own.len());
                // SAFETY: live; only the result is used.
                own[place].block = unsafe { realloc(own[place].block, bytes) };
            }
            60..75 => {
                if let Some(held) = own.pop() {
                    shared.lock().expect("no panic").push(held);
                }
            }
            75..85 => {
                let mut others = shared.lock().expect("no panic");
                if !others.is_empty() {
                    // Mostly another thread's.
                    let place = random.below(others.len());
                    let held = others.swap_remove(place);
                    drop(others);
                    release(held);
                }
            }
            _ if !own.is_empty() => {
                let place = random.below(own.len());
                release(own.swap_remove(place));
            }
            _ => {}
        }
    }
}

/// What the model says is live.
fn expected(blocks: &[Held]) -> BTreeMap<usize, (usize, Option<u64>)> {
    let entry =
        |held: &Held| (held.block.addr(), (usable(held.block), held.zone.map(|zone| zone.id())));
    blocks.iter().map(entry).collect()
}

fn seen(blocks: impl Iterator<Item = LiveBlock>) -> BTreeMap<usize, (usize, Option<u64>)> {
    let mut seen = BTreeMap::new();
    for block in blocks {
        let value = (block.usable_bytes, block.zone.map(|zone| zone.id()));
        let before = seen.insert(block.start.addr(), value);
        assert_eq!(before, None, "{block:?} is told of twice");
    }
    seen
}

#[test]
fn a_walk_is_exact_when_nobody_works() {
    let _alone = ALONE.lock().expect("no panic");
    let zones: Vec<Zone> = (0..3).map(|_| Zone::create().expect("memory")).collect();
    let (zones, shared) = (&zones, &Mutex::new(Vec::new()));
    let all = &Mutex::new(Vec::new());
    let (worked, walked) = (&Barrier::new(THREAD_COUNT + 1), &Barrier::new(THREAD_COUNT + 1));
    const ROUND_COUNT: usize = 6;
    // Told after the threads have ended, which wait for each other.
    let mut wrong = Vec::new();
    std::thread::scope(|scope| {
        for thread in 0..THREAD_COUNT {
            scope.spawn(move || {
                let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ (thread as u64 + 1));
                let mut own = Vec::new();
                for _ in 0..ROUND_COUNT {
                    work(&mut random, &mut own, shared, zones);
                    all.lock().expect("no panic").extend_from_slice(&own);
                    // The lists and the outbox of this thread are full of free blocks now.
                    worked.wait();
                    walked.wait();
                }
                shared.lock().expect("no panic").append(&mut own);
            });
        }
        for round in 0..ROUND_COUNT {
            worked.wait();
            let mut model = std::mem::take(&mut *all.lock().expect("no panic"));
            model.extend_from_slice(&shared.lock().expect("no panic"));
            let model = expected(&model);
            let walk = seen(LiveBlocks::take().expect("memory"));
            if walk != model {
                wrong.push(format!("round {round}: {}", difference(&walk, &model)));
            }
            for zone in zones {
                let of_zone = seen(LiveBlocks::of_zone(*zone).expect("memory"));
                let live_count = zone.live_count().expect("there");
                if of_zone.len() != live_count
                    || of_zone.values().any(|(_, id)| *id != Some(zone.id()))
                {
                    wrong.push(format!("{zone:?}: {} blocks, not {live_count}", of_zone.len()));
                }
            }
            walked.wait();
        }
    });
    assert_eq!(wrong, Vec::<String>::new());
    // The threads are gone.
    let left = std::mem::take(&mut *shared.lock().expect("no panic"));
    let (walk, model) = (seen(LiveBlocks::take().expect("memory")), expected(&left));
    assert!(walk == model, "at the end: {}", difference(&walk, &model));
    for held in left {
        release(held);
    }
    assert_eq!(LiveBlocks::take().expect("memory").count(), 0);
    for zone in zones {
        // SAFETY: its blocks were freed above.
        unsafe { zone.destroy() }.expect("there");
        assert!(matches!(LiveBlocks::of_zone(*zone), Err(WalkError::Destroyed)));
    }
}

type Blocks = BTreeMap<usize, (usize, Option<u64>)>;

fn difference(walk: &Blocks, model: &Blocks) -> String {
    let more: Vec<_> = walk.iter().filter(|(at, _)| !model.contains_key(at)).take(5).collect();
    let fewer: Vec<_> = model.iter().filter(|(at, _)| !walk.contains_key(at)).take(5).collect();
    format!(
        "{} and {} blocks; only in the walk {more:x?}, only in the model {fewer:x?}",
        walk.len(),
        model.len()
    )
}

/// A size that only the test below uses: nobody allocates one while it walks.
const DEAD_BYTES: usize = 2900;

#[test]
fn a_walk_is_right_about_what_does_not_change_while_others_work() {
    let _alone = ALONE.lock().expect("no panic");
    let (ready, done) = (&Barrier::new(THREAD_COUNT + 1), &AtomicBool::new(false));
    let (stable, shared) = (&Mutex::new(Vec::new()), &Mutex::new(Vec::new()));
    let dead_usable = {
        let block = alloc(DEAD_BYTES);
        let bytes = usable(block);
        release(Held { block, zone: None });
        bytes
    };
    let mut wrong = Vec::new();
    std::thread::scope(|scope| {
        for thread in 0..THREAD_COUNT {
            scope.spawn(move || {
                let mut random = Random(0xd1b5_4a32_d192_ed03 ^ (thread as u64 + 1));
                let mut kept = Vec::new();
                let mut dead = Vec::new();
                for step in 0..2000 {
                    // Neighbours of what will come and go.
                    let bytes = [24, 100, 300, 1000, 9000][step % 5] + random.below(60);
                    kept.push(Held { block: alloc(bytes), zone: None });
                    if step % 10 == 0 {
                        dead.push(Held { block: alloc(DEAD_BYTES), zone: None });
                    }
                }
                dead.into_iter().for_each(release);
                stable.lock().expect("no panic").extend_from_slice(&kept);
                ready.wait();
                let mut live: Vec<Held> = Vec::new();
                while !done.load(Ordering::Relaxed) {
                    for _ in 0..200 {
                        let other = kept[random.below(kept.len())].block;
                        let block = alloc(usable(other));
                        // A pointer to a live block of the class, where a link was.
                        // SAFETY: a fresh block of at least 16 bytes.
                        unsafe { block.cast::<*mut u8>().write(other) };
                        live.push(Held { block, zone: None });
                        if random.below(2) == 0 {
                            let place = random.below(live.len());
                            release(live.swap_remove(place));
                        }
                    }
                    while live.len() > 500 {
                        let held = live.swap_remove(random.below(live.len()));
                        let mut others = shared.lock().expect("no panic");
                        others.push(held);
                        if others.len() > 100 {
                            let other = others.swap_remove(0);
                            drop(others);
                            release(other);
                        }
                    }
                }
                live.into_iter().for_each(release);
                ready.wait();
                kept.into_iter().for_each(release);
            });
        }
        ready.wait();
        let model = expected(&stable.lock().expect("no panic"));
        for walk_number in 0..60 {
            let walk = seen(LiveBlocks::take().expect("memory"));
            let mut end = 0;
            for (start, (bytes, _)) in &walk {
                if *start < end || *bytes == dead_usable {
                    wrong.push(format!("walk {walk_number}: overlapping or dead at {start:x}"));
                }
                end = start + bytes;
            }
            let missing = model.iter().filter(|(start, value)| walk.get(start) != Some(value));
            wrong.extend(missing.map(|at| format!("walk {walk_number}: {at:x?} is missing")));
            std::thread::yield_now();
        }
        done.store(true, Ordering::Relaxed);
        ready.wait();
    });
    assert_eq!(wrong, Vec::<String>::new());
    let left = std::mem::take(&mut *shared.lock().expect("no panic"));
    left.into_iter().for_each(release);
    assert_eq!(LiveBlocks::take().expect("memory").count(), 0);
}

#[test]
fn the_receiver_of_blocks_may_allocate_and_free() {
    let _alone = ALONE.lock().expect("no panic");
    let blocks: Vec<*mut u8> = (0..1000).map(|step| alloc(step * 3)).collect();
    let mut seen_count = 0;
    for block in LiveBlocks::take().expect("memory") {
        assert_eq!(usable(block.start), block.usable_bytes);
        release(Held { block: block.start, zone: None });
        let other = alloc(64);
        release(Held { block: other, zone: None });
        seen_count += 1;
    }
    assert_eq!(seen_count, blocks.len());
}
