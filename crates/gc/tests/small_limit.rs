//! Heaps of a megabyte or two: at any limit an allocation is refused, and nothing else happens.
//! Objects of more than a line find room in old blocks that are partly used.

mod collecting;

use collecting::COLLECTORS;
use heapwright_gc::{
    Collector, Config, Gc, GcCell, Heap, LimitReached, Statistics, Trace, rootable,
};

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
        // The least that there is, and the next: limits are multiples of 1 MiB.
        for limit_bytes in [1 << 20, 2 << 20] {
            let [first, second] = filled(collector, limit_bytes);
            assert!(first > 0 && second > 0, "{collector:?} at {limit_bytes}: {first}, {second}");
        }
    }
}

/// With a rest to the limit that is smaller than what memory is given out by, a collection followed
/// each object: 199 for the last 100 KiB.
#[test]
fn a_heap_of_a_megabyte_is_filled_with_few_collections() {
    for collector in COLLECTORS {
        for limit_bytes in [1 << 20, 2 << 20, 4 << 20] {
            let config = Config { limit_bytes, verify: false, ..Config::with(collector) };
            let mut heap = Heap::<List>::new(config, |_| GcCell::new(None)).expect("addresses");
            let count = fill(&mut heap);
            let Statistics { minor_collections, full_collections, .. } = heap.statistics();
            let all = minor_collections + full_collections;
            assert!(
                all < 80,
                "{collector:?}, {limit_bytes}: {minor_collections}, {full_collections} for {count}"
            );
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
        for round in 0..12 {
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
    const WIDE_BYTES: usize = size_of::<Wide<'_>>();
    let config = Config {
        limit_bytes: LIMIT_BYTES,
        trigger_bytes_min: LIMIT_BYTES,
        verify: false,
        ..Config::with(Collector::Generational)
    };
    let mut heap = Heap::<List>::new(config, |_| GcCell::new(None)).expect("addresses");
    // A megabyte grows old and dies there, which only a full collection finds out; and what is
    // elsewhere leaves 8 KiB below what is close to the limit.
    for _ in 0..(1 << 20) / WIDE_BYTES {
        push(&mut heap, 0).expect("below the limit");
    }
    while heap.statistics().minor_collections == 0 {
        heap.mutate(|mu, _| mu.alloc([0u64; 60]).map(|_| ()).expect("below the limit"));
    }
    let free_bytes = LIMIT_BYTES / 8 * 7 - heap.statistics().occupied_bytes;
    let elsewhere = heap.mutate(|mu, head| {
        head.set(mu, None);
        mu.external(free_bytes - (8 << 10)).expect("below the limit")
    });
    let before = heap.statistics();
    assert_eq!(before.full_collections, 0, "the old space is as it was");
    let count = (4 << 20) / WIDE_BYTES;
    for _ in 0..count {
        heap.mutate(|mu, _| {
            let dead = Wide { payload: [1; 60], next: GcCell::new(None) };
            mu.alloc(dead).expect("below the limit");
        });
    }
    let after = heap.statistics();
    let minor = after.minor_collections - before.minor_collections;
    assert!(minor < 100, "{minor} minor collections for {count} objects");
    assert!(after.full_collections > 0);
    drop(elsewhere);
}
