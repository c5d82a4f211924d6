//! Heaps of a few hundred KiB: at any limit an allocation is refused, and nothing else happens.
//! Objects of more than a line find room in old blocks that are partly used.

use heapwright_gc::{Collector, Config, Gc, GcCell, Heap, LimitReached, Trace, rootable};

const COLLECTORS: [Collector; 5] = [
    Collector::MarkSweep,
    Collector::MarkCompact,
    Collector::Semispace,
    Collector::Generational,
    Collector::Incremental,
];

/// Some four lines of a block.
#[derive(Trace)]
struct Wide<'gc> {
    payload: [u64; 60],
    next: GcCell<Option<Gc<'gc, Wide<'gc>>>>,
}

type List = rootable!['gc => GcCell<Option<Gc<'gc, Wide<'gc>>>>];

fn push(heap: &mut Heap<List>, value: u64) -> Result<(), LimitReached> {
    heap.mutate(|mu, head| {
        let next = GcCell::new(head.get());
        head.set(mu, Some(mu.alloc(Wide { payload: [value; 60], next })?));
        Ok(())
    })
}

/// Fills a heap, then again after it was let go; how many objects were live each time.
fn filled(collector: Collector, limit_bytes: usize) -> [u64; 2] {
    let config = Config { limit_bytes, verify: false, ..Config::with(collector) };
    let mut heap = Heap::<List>::new(config, |_| GcCell::new(None)).expect("addresses");
    [(); 2].map(|()| {
        let count = fill(&mut heap);
        let seen = heap.mutate(|mu, head| {
            let (mut seen, mut next) = (0, head.get());
            while let Some(wide) = next {
                assert!(wide.payload.iter().all(|value| *value == count - 1 - seen));
                (seen, next) = (seen + 1, wide.next.get());
            }
            head.set(mu, None);
            seen
        });
        assert_eq!(seen, count, "{collector:?} at {limit_bytes}");
        heap.collect();
        count
    })
}

#[test]
fn a_small_heap_of_wide_objects_refuses_and_goes_on() {
    for collector in COLLECTORS {
        for kib in (512..=1536).step_by(256) {
            let [first, second] = filled(collector, kib << 10);
            assert!(first > 0 && second > 0, "{collector:?} at {kib} KiB: {first}, {second}");
        }
    }
}

/// Pushes until that is refused also after a collection; how many went in.
fn fill(heap: &mut Heap<List>) -> u64 {
    let (mut count, mut refused) = (0, 0);
    while refused < 2 {
        match push(heap, count) {
            Ok(()) => (count, refused) = (count + 1, 0),
            Err(LimitReached) => refused += 1,
        }
    }
    count
}

#[test]
fn wide_objects_use_the_holes_that_others_left() {
    for collector in [Collector::MarkSweep, Collector::Generational, Collector::Incremental] {
        let config = Config { limit_bytes: 1 << 20, verify: false, ..Config::with(collector) };
        let mut heap = Heap::<List>::new(config, |_| GcCell::new(None)).expect("addresses");
        let all = fill(&mut heap);
        // A quarter dies, four at a time, so that holes are long enough for two or three but no
        // block becomes free as a whole; and as many come.
        for round in 0..30 {
            let dead = heap.mutate(|mu, head| {
                let (mut dead, mut next) = (0, head.get());
                while let Some(wide) = next {
                    next = wide.next.get();
                    for _ in 0..11 {
                        next = next.and_then(|wide| wide.next.get());
                    }
                    let Some(before) = next else { break };
                    for _ in 0..4 {
                        let Some(after) = before.next.get() else { break };
                        let value = after.payload[0];
                        assert!(after.payload.iter().all(|one| *one == value), "{collector:?}");
                        before.next.set(mu, after.next.get());
                        dead += 1;
                    }
                    next = before.next.get();
                }
                dead
            });
            let fresh = fill(&mut heap);
            // Later, neighbours in the list are not neighbours in memory, and a hole that one of them
            // leaves is shorter than it by a line: what is refused then is refused cleanly.
            assert!(
                fresh > dead / 3 || round > 0,
                "{collector:?}: {fresh} for {dead} of {all}, {:?}",
                heap.refusal()
            );
        }
    }
}

/// Close to the limit the nursery has what is left; with next to nothing left the old space is
/// collected instead, which has garbage by then.
#[test]
fn near_its_limit_a_heap_does_not_collect_at_every_piece_of_memory() {
    const LIMIT_BYTES: usize = 8 << 20;
    let config = Config {
        limit_bytes: LIMIT_BYTES,
        trigger_bytes_min: LIMIT_BYTES,
        verify: false,
        ..Config::with(Collector::Generational)
    };
    let mut heap = Heap::<List>::new(config, |_| GcCell::new(None)).expect("addresses");
    // Until the old space is full but for a few KiB; then nothing of it is needed any more.
    let near_bytes = LIMIT_BYTES / 8 * 7 - (6 << 10);
    while heap.statistics().occupied_bytes < near_bytes {
        push(&mut heap, 0).expect("below the limit");
    }
    heap.mutate(|mu, head| head.set(mu, None));
    let before = heap.statistics().minor_collections;
    let made_bytes = LIMIT_BYTES;
    for _ in 0..made_bytes / size_of::<Wide<'_>>() {
        heap.mutate(|mu, _| {
            let dead = Wide { payload: [1; 60], next: GcCell::new(None) };
            mu.alloc(dead).expect("below the limit");
        });
    }
    let minor = heap.statistics().minor_collections - before;
    assert!(minor < 200, "{minor} minor collections for {made_bytes} bytes");
    assert!(heap.statistics().full_collections > 0);
}
