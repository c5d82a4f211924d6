//! Cycles in slices at a limit: a machine on which slices do next to nothing gets a pause, counted
//! as a hurried cycle, before an allocation is refused that a collection would have made room for.

use heapwright_gc::{
    Collector, Config, Gc, GcCell, Heap, LimitReached, Statistics, Trace, rootable,
};

type Slot<'gc> = GcCell<Option<Gc<'gc, u64>>>;

#[derive(Trace)]
struct Node<'gc> {
    value: usize,
    next: GcCell<Option<Gc<'gc, Node<'gc>>>>,
}

#[derive(Trace)]
struct Root<'gc> {
    kept: GcCell<Option<Gc<'gc, [Slot<'gc>]>>>,
    list: GcCell<Option<Gc<'gc, Node<'gc>>>>,
}

type Table = rootable!['gc => Root<'gc>];

const LIMIT_BYTES: usize = if cfg!(debug_assertions) { 2 } else { 4 } << 20;
/// Objects that stay, one in most lines of nearly all blocks.
const KEPT: usize = LIMIT_BYTES / 512;

/// Slices of no time: each looks at the clock after its first step.
fn heap(evacuate_percent: u8) -> Heap<Table> {
    let config = Config {
        limit_bytes: LIMIT_BYTES,
        trigger_bytes_min: LIMIT_BYTES / 4,
        slice_us: 0,
        evacuate_percent,
        verify: false,
        ..Config::with(Collector::Incremental)
    };
    let mut heap =
        Heap::<Table>::new(config, |_| Root { kept: GcCell::new(None), list: GcCell::new(None) })
            .expect("addresses");
    heap.mutate(|mu, root| root.kept.set(mu, mu.alloc_slice(KEPT, |_| Ok(GcCell::new(None))).ok()));
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
            root.kept.get().expect("was stored")[index].set(mu, Some(kept));
        });
    }
}

/// Garbage of so many words an object, several times the limit together, and a list that grows beside
/// it, so that some of what is made in a cycle lives on. It is looked through and begun anew now and
/// then.
fn litter<const WORDS: usize>(heap: &mut Heap<Table>) -> Statistics {
    const LIST: usize = KEPT / 2;
    let bytes = if cfg!(debug_assertions) { 1 } else { 8 } * LIMIT_BYTES;
    for index in 0..bytes / (8 * WORDS) {
        let has_room = heap.mutate(|mu, root| {
            let kept = root.kept.get().expect("was stored")[index % KEPT].get();
            assert_eq!(*kept.expect("is kept"), (index % KEPT) as u64);
            let next = GcCell::new(root.list.get());
            let node = mu.alloc(Node { value: index % LIST, next });
            root.list.set(mu, node.ok());
            if index % LIST == LIST - 1 {
                let (mut next, mut value) = (root.list.get(), LIST);
                while let Some(node) = next {
                    value -= 1;
                    assert_eq!(node.value, value);
                    next = node.next.get();
                }
                assert_eq!(value, 0, "all of the list");
                root.list.set(mu, None);
            }
            mu.alloc([u64::MAX; WORDS]).is_ok() && node.is_ok()
        });
        assert!(has_room, "{WORDS} words, {index}: {:?}, {:?}", heap.refusal(), heap.statistics());
    }
    heap.mutate(|mu, root| root.list.set(mu, None));
    heap.statistics()
}

/// Runs both kinds of garbage through a heap whose kept objects lie as far apart.
fn expect_no_refusal(evacuate_percent: u8, apart: usize) {
    let mut heap = heap(evacuate_percent);
    spread(&mut heap, apart);
    for statistics in [litter::<3>(&mut heap), litter::<60>(&mut heap)] {
        assert_eq!(statistics.refusals, 0, "{evacuate_percent} %, {apart}");
        assert!(statistics.hurried_cycles > 0, "the slices do nearly nothing");
    }
}

#[test]
fn a_cycle_that_does_not_end_is_hurried_before_an_allocation_is_refused() {
    for evacuate_percent in [0, 50, 90] {
        for apart in [64, 256] {
            expect_no_refusal(evacuate_percent, apart);
        }
    }
}

/// Makes a list until the heap is full, with garbage of so many bytes beside each node; its length.
fn fill(heap: &mut Heap<Table>, garbage: usize) -> usize {
    let mut len = 0;
    loop {
        let made = heap.mutate(|mu, root| {
            mu.alloc_slice(garbage, |_| Ok(0u8))?;
            let next = GcCell::new(root.list.get());
            root.list.set(mu, Some(mu.alloc(Node { value: len, next })?));
            Ok::<_, LimitReached>(())
        });
        if made.is_err() {
            break;
        }
        len += 1;
    }
    heap.mutate(|mu, root| {
        let (mut next, mut value) = (root.list.get(), len);
        while let Some(node) = next {
            value -= 1;
            assert_eq!(node.value, value, "of {len}");
            next = node.next.get();
        }
        assert_eq!(value, 0, "all of the list");
        root.list.set(mu, None);
    });
    heap.collect();
    len
}

#[test]
fn a_heap_that_fills_up_in_slices_keeps_what_was_made_in_them() {
    for garbage in [16, 400] {
        let mut heap = heap(50);
        let lens = [(); 2].map(|()| fill(&mut heap, garbage));
        // Lines have garbage in them, too, or nothing else.
        let least = LIMIT_BYTES / 256;
        assert!(lens.iter().all(|len| *len > least), "{garbage}: {lens:?}");
    }
}

/// A heap with a list that has grown until a cycle began, so that the cycle frees nothing and keeps
/// what is made in it.
fn in_a_cycle_that_frees_nothing() -> Heap<Table> {
    let mut heap = heap(0);
    let mut len = 0;
    while heap.statistics().slices == 0 {
        let made = heap.mutate(|mu, root| {
            let next = GcCell::new(root.list.get());
            let node = mu.alloc(Node { value: len, next });
            root.list.set(mu, node.ok());
            node.is_ok()
        });
        assert!(made, "a quarter of the heap");
        len += 1;
    }
    heap
}

/// Makes `bytes` of garbage in one mutation.
fn waste(heap: &mut Heap<Table>, bytes: usize) {
    let made = heap.mutate(|mu, _| (0..bytes / 32).all(|_| mu.alloc([bytes; 3]).is_ok()));
    assert!(made, "{bytes}: {:?}, {:?}", heap.refusal(), heap.statistics());
}

#[test]
fn after_a_cycle_with_little_room_the_next_one_begins_before_a_refusal() {
    let mut heap = in_a_cycle_that_frees_nothing();
    for _ in 0..2 * LIMIT_BYTES / 32 {
        waste(&mut heap, 32);
    }
    let statistics = heap.statistics();
    assert!(statistics.hurried_cycles > 0, "a cycle met the limit: {statistics:?}");
}

#[test]
fn after_a_cycle_without_room_for_a_mutation_its_garbage_goes_in_the_same_pause() {
    // What may be given out for one object; four of these are little room.
    const PIECE_BYTES: usize = if cfg!(debug_assertions) { 32 } else { 64 } << 10;
    let mut heap = in_a_cycle_that_frees_nothing();
    while LIMIT_BYTES - heap.statistics().occupied_bytes > 5 * PIECE_BYTES {
        waste(&mut heap, 32);
        assert_eq!(heap.statistics().full_collections, 0, "the first cycle goes on");
    }
    // The slice after the first mutation finds room for less than the second.
    for _ in 0..2 {
        waste(&mut heap, 3 * PIECE_BYTES);
    }
    let statistics = heap.statistics();
    assert!(statistics.hurried_cycles > 0, "a cycle met the limit: {statistics:?}");
    assert_eq!(statistics.refusals, 0);
}
