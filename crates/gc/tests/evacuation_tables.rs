//! What the heap's own tables name moves, too, when a full collection empties blocks: objects with
//! destructors, with finalisers, with identities, held weakly, keys and values of ephemerons. A
//! heap that a program has left in fragments becomes small again under every plan.

mod collecting;

use collecting::COLLECTORS;
use heapwright_gc::{
    Collector, Config, Ephemeron, Finalise, Gc, GcCell, GcWeak, Heap, Mutation, Static, Trace,
    rootable,
};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

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
    note: Ephemeron<'gc, Node<'gc>, Note>,
}

/// Longer than a line with what is known beside it.
type Note = [u64; 15];

fn note(number: u64) -> Note {
    [number; 15]
}

type Crumb<'gc> = GcCell<Option<Gc<'gc, u64>>>;
type Slot<'gc> = GcCell<Option<Gc<'gc, Known<'gc>>>>;

#[derive(Trace)]
struct Table<'gc> {
    first: GcCell<Link<'gc>>,
    known: GcCell<Option<Gc<'gc, [Slot<'gc>]>>>,
    /// One beside each node, which stays: a sweep finds a line that is free between two of them, and
    /// only emptying their blocks gives the rest back.
    crumbs: GcCell<Option<Gc<'gc, [Crumb<'gc>]>>>,
}

type Root = rootable!['gc => Table<'gc>];

const NODES: usize = 12_000;
/// One node in so many survives.
const KEPT: usize = 10;

/// What is left of a heap that became fragments.
struct Left {
    /// Bytes of it that are in use after that, and before.
    rest: usize,
    all: usize,
    evacuated_blocks: u64,
}

fn run(collector: Collector, threads: usize, evacuate_percent: u8) -> Left {
    let config = Config {
        threads,
        nursery_bytes: 256 << 10,
        evacuate_percent,
        limit_bytes: 64 << 20,
        trigger_bytes_min: 32 << 20,
        ..Config::with(collector)
    };
    let mut heap = Heap::<Root>::new(config, |_| Table {
        first: GcCell::new(None),
        known: GcCell::new(None),
        crumbs: GcCell::new(None),
    })
    .expect("addresses");
    let ended = Rc::new(RefCell::new(Ended::default()));
    heap.mutate(|mu, root| {
        let known = mu.alloc_slice(NODES, |_| Ok(GcCell::new(None))).expect("room");
        root.known.set(mu, Some(known));
        let crumbs = mu.alloc_slice(NODES, |_| Ok(GcCell::new(None))).expect("room");
        root.crumbs.set(mu, Some(crumbs));
    });
    let mut identities = HashMap::new();
    for number in 0..NODES as u64 {
        let identity = heap.mutate(|mu, root| {
            let tell = Static(Tell(number, ended.clone()));
            let next = GcCell::new(root.first.get());
            let node = mu.alloc_finalised(Node { number, next, tell }).expect("room");
            root.first.set(mu, Some(node));
            let crumb = mu.alloc(number).expect("room");
            root.crumbs.get().expect("was set")[number as usize].set(mu, Some(crumb));
            let note = mu.alloc(note(number)).expect("room");
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
            let (key, found) = known.note.get(mu).expect("the key lives");
            assert!(key.ptr_eq(node) && *found == note(number));
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
    let tables = 2 * NODES * size_of::<usize>();
    let (rest, all) = (statistics.occupied_bytes - tables, full - tables);
    drop(heap);
    assert_eq!(ended.borrow().dropped.len(), NODES, "each destructor ran once");
    Left { rest, all, evacuated_blocks: statistics.evacuated_blocks }
}

/// A sixth lives; without emptying blocks it keeps more than half of the lines.
fn expect_few_fragments(threads: usize) {
    for collector in COLLECTORS {
        let Left { rest, all, evacuated_blocks } = run(collector, threads, 50);
        assert!(rest < all / 4, "{collector:?}, {threads} threads: {rest} of {all} bytes");
        let in_blocks = !matches!(collector, Collector::MarkCompact | Collector::Semispace);
        assert!(!in_blocks || evacuated_blocks > 0, "{collector:?}: all of it by evacuation");
    }
}

#[test]
fn fragments_go_though_every_table_names_what_is_left() {
    expect_few_fragments(1);
}

#[test]
fn fragments_go_with_several_threads_too() {
    expect_few_fragments(3);
}

#[test]
fn fragments_stay_where_no_block_is_emptied() {
    for collector in [Collector::MarkSweep, Collector::Incremental] {
        let Left { rest, all, evacuated_blocks } = run(collector, 1, 0);
        assert!(rest > all / 2 && evacuated_blocks == 0, "{collector:?}: {rest} of {all} bytes");
    }
}
