//! Cycles in slices at a limit: a machine on which slices do next to nothing gets a pause, counted
//! as a hurried cycle, before an allocation is refused that a collection would have made room for.

use heapwright_gc::{Collector, Config, Gc, GcCell, Heap, Statistics, rootable};

type Slot<'gc> = GcCell<Option<Gc<'gc, u64>>>;
type Table = rootable!['gc => GcCell<Option<Gc<'gc, [Slot<'gc>]>>>];

const LIMIT_BYTES: usize = 4 << 20;
/// Objects that stay, one in most lines of nearly all blocks.
const KEPT: usize = 8000;

/// Slices of no time: each looks at the clock after its first step.
fn heap(evacuate_percent: u8) -> Heap<Table> {
    let config = Config {
        limit_bytes: LIMIT_BYTES,
        trigger_bytes_min: 1 << 20,
        slice_us: 0,
        evacuate_percent,
        verify: false,
        ..Config::with(Collector::Incremental)
    };
    let mut heap = Heap::<Table>::new(config, |_| GcCell::new(None)).expect("addresses");
    heap.mutate(|mu, root| root.set(mu, mu.alloc_slice(KEPT, |_| Ok(GcCell::new(None))).ok()));
    heap
}

/// Leaves small objects, one to every `apart` bytes of garbage, in as many blocks as there are.
fn spread(heap: &mut Heap<Table>, apart: usize) {
    for index in 0..KEPT {
        heap.mutate(|mu, root| {
            for _ in 0..apart / 32 {
                mu.alloc([0u64; 3]).expect("nearly nothing lives");
            }
            let kept = mu.alloc(index as u64).expect("nearly nothing lives");
            root.get().expect("was stored")[index].set(mu, Some(kept));
        });
    }
}

/// Garbage of so many words an object, eight times the limit together.
fn litter<const WORDS: usize>(heap: &mut Heap<Table>) -> Statistics {
    for index in 0..8 * LIMIT_BYTES / (8 * WORDS) {
        let has_room = heap.mutate(|mu, root| {
            let kept = root.get().expect("was stored")[index % KEPT].get();
            assert_eq!(*kept.expect("is kept"), (index % KEPT) as u64);
            mu.alloc([7u64; WORDS]).is_ok()
        });
        assert!(has_room, "{WORDS} words, {index}: {:?}, {:?}", heap.refusal(), heap.statistics());
    }
    heap.statistics()
}

#[test]
fn a_cycle_that_does_not_end_is_hurried_before_an_allocation_is_refused() {
    for evacuate_percent in [0, 50, 90] {
        for apart in [64, 256, 480] {
            let mut heap = heap(evacuate_percent);
            spread(&mut heap, apart);
            for statistics in [litter::<3>(&mut heap), litter::<60>(&mut heap)] {
                assert_eq!(statistics.refusals, 0, "{evacuate_percent} %, {apart}");
                assert!(statistics.hurried_cycles > 0, "the slices do nearly nothing");
            }
        }
    }
}
