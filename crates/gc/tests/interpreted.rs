//! Every collector on a heap so small that an interpreter can follow: what `cargo miri` runs.
//!
//! Objects are linked, moved, borrowed, held weakly, from outside and by handles, and dropped; what
//! is wrong about a pointer's provenance or about uninitialised memory ends the test there.

use heapwright_gc::{
    Collector, Config, DynamicRoot, Gc, GcCell, GcRefCell, GcWeak, Heap, Local, Trace, rootable,
};

#[derive(Trace)]
struct Node<'gc> {
    next: GcCell<Option<Gc<'gc, Node<'gc>>>>,
    many: GcRefCell<Vec<Gc<'gc, Node<'gc>>>>,
    weak: GcCell<Option<GcWeak<'gc, Node<'gc>>>>,
    name: Box<u32>,
}

type Root = rootable!['gc => GcCell<Option<Gc<'gc, Node<'gc>>>>];
type Kept = rootable!['gc => Node<'gc>];
type Number = rootable!['gc => u64];

impl<'gc> Node<'gc> {
    fn new(name: u32) -> Self {
        let (next, many) = (GcCell::new(None), GcRefCell::new(Vec::new()));
        Self { next, many, weak: GcCell::new(None), name: Box::new(name) }
    }
}

fn run(collector: Collector, threads: usize) {
    const COUNT: u32 = 30;
    let config = Config {
        limit_bytes: 1 << 20,
        nursery_bytes: 64 << 10,
        trigger_bytes_min: 4 << 10,
        slice_us: 20,
        threads,
        ..Config::with(collector)
    };
    let mut heap = Heap::<Root>::new(config, |_| GcCell::new(None)).expect("memory");
    // A ring; each also names those before it, some weakly, and a string.
    heap.mutate(|mu, root| {
        let first = mu.alloc(Node::new(0)).expect("room");
        let mut last = first;
        for name in 1..COUNT {
            let node = mu.alloc(Node::new(name)).expect("room");
            node.many.borrow_mut(mu).extend([first, last]);
            let _dead = mu.alloc(Node::new(name)).expect("room");
            last.next.set(mu, Some(node));
            last = node;
        }
        last.next.set(mu, Some(first));
        root.set(mu, Some(first));
    });
    let held: DynamicRoot<Kept> = heap
        .mutate(|mu, root| {
            let lonely = mu.alloc(Node::new(77)).expect("room");
            let first = root.get().expect("a ring");
            lonely.next.set(mu, Some(first));
            first.weak.set(mu, Some(mu.alloc_weak(lonely).expect("room")));
            mu.stash::<Kept>(lonely)
        })
        .expect("room");
    for round in 0..3u32 {
        heap.scope(|scope| {
            let kept: Local<'_, Number> = scope
                .mutate(|mu, _, locals| locals.keep(mu.alloc(u64::from(round))?))
                .expect("room");
            for _ in 0..4 {
                scope.mutate(|mu, root, _| {
                    let node = root.get().expect("a ring").next.get().expect("a ring");
                    // Written again while collections run.
                    let made = mu.alloc(Node::new(round)).expect("room");
                    node.many.borrow_mut(mu).push(made);
                    root.set(mu, Some(node));
                });
            }
            scope.mutate(|mu, _, _| assert_eq!(*kept.get(mu), u64::from(round)));
        });
        heap.collect();
    }
    heap.mutate(|mu, root| {
        let first = held.fetch(mu).expect("of this heap").next.get().expect("a ring");
        let lonely = first.weak.get().expect("was set").upgrade(mu).expect("is held");
        assert_eq!(*lonely.name, 77);
        let mut node = first;
        for name in 0..COUNT {
            assert_eq!(*node.name, name);
            assert!(node.many.borrow().len() >= usize::from(name > 0) * 2);
            node = node.next.get().expect("a ring");
        }
        assert!(node.ptr_eq(first));
        assert!(root.get().is_some());
    });
    drop(held);
    heap.collect();
    heap.mutate(|mu, root| {
        let mut node = root.get().expect("a ring");
        while *node.name != 0 {
            node = node.next.get().expect("a ring");
        }
        assert!(node.weak.get().expect("was set").upgrade(mu).is_none(), "nobody holds it");
    });
}

#[test]
fn mark_sweep() {
    run(Collector::MarkSweep, 1);
}

#[test]
fn mark_compact() {
    run(Collector::MarkCompact, 1);
}

#[test]
fn semispace() {
    run(Collector::Semispace, 1);
}

#[test]
fn generational() {
    run(Collector::Generational, 1);
}

#[test]
fn incremental() {
    run(Collector::Incremental, 1);
}

#[test]
fn mark_sweep_by_two_threads() {
    run(Collector::MarkSweep, 2);
}

#[test]
fn mark_compact_by_two_threads() {
    run(Collector::MarkCompact, 2);
}

#[test]
fn semispace_by_two_threads() {
    run(Collector::Semispace, 2);
}

#[test]
fn generational_by_two_threads() {
    run(Collector::Generational, 2);
}
