//! What the heap's own tables name moves, too, when a full collection empties blocks: objects with
//! destructors, with finalisers, with identities, held weakly, keys and values of ephemerons. A
//! heap that a program has left in fragments becomes small again under every plan.

use heapwright_gc::{
    Collector, Config, Ephemeron, Finalise, Gc, GcCell, GcWeak, Heap, Mutation, Static, Trace,
    rootable,
};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

const COLLECTORS: [Collector; 5] = [
    Collector::MarkSweep,
    Collector::MarkCompact,
    Collector::Semispace,
    Collector::Generational,
    Collector::Incremental,
];

/// Numbers of the dropped and of the finalised.
#[derive(Default)]
struct Ended {
    dropped: Vec<u64>,
    finalised: Vec<u64>,
}

struct Tell(u64, Rc<RefCell<Ended>>);

impl Drop for Tell {
    fn drop(&mut self) {
        self.1.borrow_mut().dropped.push(self.0);
    }
}

/// A node that every table knows.
#[derive(Trace)]
struct Node<'gc> {
    number: u64,
    next: GcCell<Link<'gc>>,
    tell: Static<Tell>,
}

impl<'gc> Finalise<'gc> for Node<'gc> {
    fn finalise(this: Gc<'gc, Self>, _: &'gc Mutation<'gc>) {
        this.tell.0.1.borrow_mut().finalised.push(this.number);
    }
}

type Link<'gc> = Option<Gc<'gc, Node<'gc>>>;

#[derive(Trace)]
struct Known<'gc> {
    weak: GcWeak<'gc, Node<'gc>>,
    note: Ephemeron<'gc, Node<'gc>, [u64; 3]>,
}

type Slot<'gc> = GcCell<Option<Gc<'gc, Known<'gc>>>>;

#[derive(Trace)]
struct Table<'gc> {
    first: GcCell<Link<'gc>>,
    known: GcCell<Option<Gc<'gc, [Slot<'gc>]>>>,
}

type Root = rootable!['gc => Table<'gc>];

const NODES: usize = 3000;
/// One node in so many survives.
const KEPT: usize = 10;

fn run(collector: Collector, threads: usize) {
    let config = Config {
        threads,
        nursery_bytes: 64 << 10,
        limit_bytes: 64 << 20,
        trigger_bytes_min: 32 << 20,
        ..Config::with(collector)
    };
    let mut heap =
        Heap::<Root>::new(config, |_| Table { first: GcCell::new(None), known: GcCell::new(None) })
            .expect("addresses");
    let ended = Rc::new(RefCell::new(Ended::default()));
    heap.mutate(|mu, root| {
        let known = mu.alloc_slice(NODES, |_| Ok(GcCell::new(None))).expect("room");
        root.known.set(mu, Some(known));
    });
    let mut identities = HashMap::new();
    for number in 0..NODES as u64 {
        let identity = heap.mutate(|mu, root| {
            let tell = Static(Tell(number, ended.clone()));
            let next = GcCell::new(root.first.get());
            let node = mu.alloc_finalised(Node { number, next, tell }).expect("room");
            root.first.set(mu, Some(node));
            let note = mu.alloc([number, 1, 2]).expect("room");
            let weak = mu.alloc_weak(node).expect("room");
            let note = mu.alloc_ephemeron(node, note).expect("room");
            let known = mu.alloc(Known { weak, note }).expect("room");
            root.known.get().expect("was set")[number as usize].set(mu, Some(known));
            mu.identity(node).expect("room")
        });
        identities.insert(number, identity);
    }
    // Twice: a generational heap has all of it in the old space then, and every block was counted.
    heap.collect();
    heap.collect();
    let full = heap.statistics().occupied_bytes;
    // Nine of ten nodes die, spread evenly, and what is known of them.
    heap.mutate(|mu, root| {
        let mut kept: Link<'_> = None;
        let mut next = root.first.get();
        while let Some(node) = next {
            next = node.next.get();
            if node.number.is_multiple_of(KEPT as u64) {
                node.next.set(mu, kept);
                kept = Some(node);
            }
        }
        root.first.set(mu, kept);
    });
    for _ in 0..4 {
        heap.collect();
    }
    heap.mutate(|mu, root| {
        let known = root.known.get().expect("was set");
        let mut next = root.first.get();
        for number in (0..NODES as u64).step_by(KEPT) {
            let node = next.expect("as many as were kept");
            assert_eq!(node.number, number, "{collector:?}");
            next = node.next.get();
            let known = known[number as usize].get().expect("is kept");
            assert!(known.weak.upgrade(mu).expect("lives").ptr_eq(node), "{collector:?}");
            let (key, note) = known.note.get(mu).expect("the key lives");
            assert!(key.ptr_eq(node) && *note == [number, 1, 2]);
            assert_eq!(mu.identity(node).expect("known"), identities[&number], "{collector:?}");
        }
        assert!(next.is_none());
        for number in (0..NODES).filter(|number| number % KEPT != 0) {
            let known = known[number].get().expect("is kept");
            assert!(known.weak.upgrade(mu).is_none() && known.note.get(mu).is_none());
        }
        // What is not needed any more goes: the rest is in fragments.
        for number in (0..NODES).filter(|number| number % KEPT != 0) {
            known[number].set(mu, None);
        }
    });
    for _ in 0..3 {
        heap.collect();
    }
    {
        let mut ended = ended.borrow_mut();
        ended.dropped.sort_unstable();
        let dead = (0..NODES as u64).filter(|number| number % KEPT as u64 != 0);
        assert!(ended.dropped.iter().copied().eq(dead.clone()), "{collector:?}: destructors");
        assert!(ended.finalised.iter().copied().eq(dead), "{collector:?}: finalisers, in order");
    }
    let statistics = heap.statistics();
    let table = NODES * size_of::<usize>();
    let (rest, all) = (statistics.occupied_bytes - table, full - table);
    // A tenth lives. Lines of 128 bytes that keep one object of it each would be most of the heap.
    // Each thread fills blocks of its own, so several of them leave more, by who copied what.
    let bound = if threads == 1 { all / 4 } else { all / 2 };
    assert!(rest < bound, "{collector:?}, {threads} threads: {rest} of {all} bytes");
    let in_blocks = matches!(
        collector,
        Collector::MarkSweep | Collector::Generational | Collector::Incremental
    );
    assert!(!in_blocks || statistics.evacuated_blocks > 0, "{collector:?}: {statistics:?}");
    drop(heap);
    assert_eq!(ended.borrow().dropped.len(), NODES, "each destructor ran once");
}

#[test]
fn fragments_go_though_every_table_names_what_is_left() {
    for collector in COLLECTORS {
        run(collector, 1);
    }
}

#[test]
fn fragments_go_with_several_threads_too() {
    for collector in COLLECTORS {
        run(collector, 3);
    }
}
