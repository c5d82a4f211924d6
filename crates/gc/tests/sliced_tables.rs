//! The incremental collector looks at roots, handles and weak tables a few entries at a time, and
//! the program changes them in between: what it still holds survives, what is dead is never seen
//! again.
//!
//! In checking builds a slice of no time does one step of a few entries, so that each of these
//! cycles has hundreds of slices.

use heapwright_gc::{
    Collector, Config, DynamicRoot, Finalise, Gc, GcCell, GcWeak, Heap, Local, Mutation, Static,
    Trace, WeakMap, rootable,
};
use heapwright_testkit::Random;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

#[derive(Trace)]
struct Node<'gc> {
    number: u64,
    inner: GcCell<Option<Gc<'gc, Node<'gc>>>>,
}

#[derive(Trace)]
struct Saved<'gc> {
    nodes: GcCell<Option<Gc<'gc, Cells<'gc>>>>,
    weak: GcCell<Option<Gc<'gc, Weaks<'gc>>>>,
    map: WeakMap<'gc, Node<'gc>, u64>,
}

type Cells<'gc> = [GcCell<Option<Gc<'gc, Node<'gc>>>>];
type Weaks<'gc> = [GcCell<Option<GcWeak<'gc, Node<'gc>>>>];
type Root = rootable!['gc => Saved<'gc>];
type Held = rootable!['gc => Node<'gc>];

const COUNT: usize = 64;

fn heap() -> Heap<Root> {
    let config = Config {
        slice_us: 0,
        trigger_bytes_min: 1 << 20,
        limit_bytes: 256 << 20,
        ..Config::with(Collector::Incremental)
    };
    let mut heap = Heap::<Root>::new(config, |mu| Saved {
        nodes: GcCell::new(None),
        weak: GcCell::new(None),
        map: WeakMap::new(mu).expect("room"),
    })
    .expect("addresses");
    heap.mutate(|mu, saved| {
        saved.nodes.set(mu, mu.alloc_slice(COUNT, |_| Ok(GcCell::new(None))).ok());
        saved.weak.set(mu, mu.alloc_slice(COUNT, |_| Ok(GcCell::new(None))).ok());
    });
    heap
}

/// A node that refers to another, which nothing else knows.
fn node<'gc>(mu: &Mutation<'gc>, number: u64) -> Gc<'gc, Node<'gc>> {
    let inner = mu.alloc(Node { number: number + 1_000_000, inner: GcCell::new(None) });
    mu.alloc(Node { number, inner: GcCell::new(inner.ok()) }).expect("room")
}

fn check(node: Gc<'_, Node<'_>>, number: u64) {
    assert_eq!(node.number, number);
    let inner = node.inner.get().expect("was set");
    assert_eq!(inner.number, number + 1_000_000);
}

/// Allocates until the next slice has run.
fn slice(heap: &mut Heap<Root>) {
    let before = heap.statistics().slices;
    while heap.statistics().slices == before {
        heap.mutate(|mu, _| mu.alloc([0u64; 64]).expect("in the limit").len());
    }
}

fn begin_cycle(heap: &mut Heap<Root>) {
    slice(heap);
    assert_eq!(heap.statistics().full_collections, 0, "a slice of no time is not a cycle");
}

/// Runs the cycle to its end; returns how many slices it took.
fn end_cycle(heap: &mut Heap<Root>, mut between: impl FnMut(&mut Heap<Root>)) -> u64 {
    let (slices, full) = (heap.statistics().slices, heap.statistics().full_collections);
    while heap.statistics().full_collections == full {
        slice(heap);
        between(heap);
    }
    heap.statistics().slices - slices
}

#[test]
fn what_a_dropped_handle_held_survives_where_it_was_stored_before_the_cycle_saw_it() {
    let mut heap = heap();
    let mut held: Vec<Option<DynamicRoot<Held>>> = (0..COUNT as u64)
        .map(|number| heap.mutate(|mu, _| mu.stash::<Held>(node(mu, number)).ok()))
        .collect();
    begin_cycle(&mut heap);
    // The last ones are looked at last: from there, one at a time, and new handles between them.
    let mut random = Random::new(5);
    let mut new = Vec::new();
    let mut at = COUNT;
    let slices = end_cycle(&mut heap, |heap| {
        for _ in 0..3.min(at) {
            at -= 1;
            let one = held[at].take().expect("once");
            heap.mutate(|mu, saved| {
                let node = one.fetch(mu).expect("of this heap");
                // In what is made in the cycle, which the marker does not visit.
                let inner = GcCell::new(Some(node));
                let made = mu.alloc(Node { number: 77, inner }).expect("room");
                saved.nodes.get().expect("was set")[at].set(mu, Some(made));
            });
            drop(one);
            if random.below(2) == 0 {
                new.push((
                    at as u64,
                    heap.mutate(|mu, saved| {
                        let made = saved.nodes.get().expect("was set")[at].get();
                        let node = made.and_then(|made| made.inner.get()).expect("was set");
                        mu.stash::<Held>(node).expect("room")
                    }),
                ));
            }
        }
    });
    // Two a step, unless they were dropped before.
    assert!(slices > COUNT as u64 / 10, "{slices} slices");
    heap.verify();
    heap.mutate(|mu, saved| {
        for number in at..COUNT {
            let made = saved.nodes.get().expect("was set")[number].get().expect("was stored");
            check(made.inner.get().expect("was set"), number as u64);
        }
        for (number, handle) in held.iter().enumerate() {
            if let Some(handle) = handle {
                check(handle.fetch(mu).expect("of this heap"), number as u64);
            }
        }
        new.iter().for_each(|(number, one)| check(one.fetch(mu).expect("of this heap"), *number));
    });
    // Slots that left are free again: as many handles as before need no more of them.
    drop((held, new));
    heap.collect();
    let (objects, _) = heap.verify();
    // The two arrays, the map's buckets, and three for each node stored.
    assert_eq!(objects, 3 + 3 * (COUNT - at));
}

#[test]
fn what_an_ended_scope_held_survives_where_it_was_stored_before_the_cycle_saw_it() {
    let mut heap = heap();
    heap.scope(|scope| {
        let outer: Local<'_, Held> =
            scope.mutate(|mu, _, locals| locals.keep(node(mu, 7))).expect("room");
        // Deep enough that the cycle has not looked at the lowest ones when the scope ends.
        let escaped = scope.escape::<Held>(|scope| {
            let locals: Vec<Local<'_, Held>> = (0..COUNT as u64)
                .map(|number| scope.mutate(|mu, _, locals| locals.keep(node(mu, number))))
                .collect::<Result<_, _>>()?;
            let mut allocate = || scope.mutate(|mu, _, _| mu.alloc([0u64; 64]).map(|_| ()));
            (0..4000).try_for_each(|_| allocate())?;
            scope.mutate(|mu, saved, _| {
                let nodes = saved.nodes.get().expect("was set");
                for number in 0..10 {
                    nodes[number].set(mu, Some(locals[number].get(mu)));
                }
            });
            Ok(locals[30])
        });
        let escaped = escaped.expect("room");
        for _ in 0..60_000 {
            scope.mutate(|mu, _, _| mu.alloc([0u64; 64]).expect("in the limit").len());
        }
        scope.mutate(|mu, _, _| {
            check(escaped.get(mu), 30);
            check(outer.get(mu), 7);
        });
    });
    assert!(heap.statistics().slices > 50 && heap.statistics().full_collections > 0);
    heap.verify();
    heap.mutate(|_, saved| {
        for number in 0..10 {
            let node = saved.nodes.get().expect("was set")[number].get().expect("was stored");
            check(node, number as u64);
        }
    });
}

#[test]
fn weak_references_and_weak_maps_agree_with_the_model_while_a_cycle_looks_at_them() {
    let mut heap = heap();
    let mut random = Random::new(11);
    // Which numbers are held, by place; and those that were seen dead.
    let mut places: Vec<Option<u64>> = vec![None; COUNT];
    let mut weak: Vec<Option<u64>> = vec![None; COUNT];
    let mut identities: HashMap<u64, u64> = HashMap::new();
    let mut next = 0u64;
    let mut step = |heap: &mut Heap<Root>| {
        // Little at a time: the writes give the marker work, and its slices are short.
        let [to, from] = std::array::from_fn(|_| random.below(COUNT as u64) as usize);
        match random.below(16) {
            0..2 => {
                let number = next;
                next += 1;
                (places[to], weak[to]) = (Some(number), Some(number));
                heap.mutate(|mu, saved| {
                    let made = node(mu, number);
                    saved.nodes.get().expect("was set")[to].set(mu, Some(made));
                    let known = mu.alloc_weak(made).expect("room");
                    saved.weak.get().expect("was set")[to].set(mu, Some(known));
                    let note = mu.alloc(number + 5).expect("room");
                    saved.map.insert(mu, made, note).expect("room");
                    identities.insert(number, mu.identity(made).expect("room"));
                });
            }
            2..6 => {
                places[to] = None;
                heap.mutate(|mu, saved| {
                    saved.nodes.get().expect("was set")[to].set(mu, None);
                });
            }
            _ => {
                // What is known weakly only may be made strong again, unless it is gone.
                let wanted = weak[from];
                let found = heap.mutate(|mu, saved| {
                    let known = saved.weak.get().expect("was set")[from].get();
                    let found = known.and_then(|known| known.upgrade(mu));
                    found.map(|found| {
                        check(found, wanted.expect("the same as in the model"));
                        saved.nodes.get().expect("was set")[to].set(mu, Some(found));
                        let note = saved.map.get(mu, found).expect("its key lives");
                        assert_eq!(*note, found.number + 5);
                        assert_eq!(mu.identity(found), Ok(identities[&found.number]));
                        found.number
                    })
                });
                match found {
                    Some(number) => places[to] = Some(number),
                    None => {
                        let alive = wanted.filter(|one| places.contains(&Some(*one)));
                        assert_eq!(alive, None, "a weak reference to what lives");
                    }
                }
            }
        }
        heap.mutate(|mu, saved| {
            let at = random.below(COUNT as u64) as usize;
            let node = saved.nodes.get().expect("was set")[at].get();
            assert_eq!(node.map(|node| node.number), places[at]);
            if let Some(node) = node {
                check(node, places[at].expect("as above"));
                let note = saved.map.get(mu, node).expect("its key lives");
                assert_eq!(*note, node.number + 5);
                assert_eq!(mu.identity(node), Ok(identities[&node.number]));
            }
        });
    };
    for _ in 0..600 {
        step(&mut heap);
    }
    // The one that may run already.
    end_cycle(&mut heap, &mut step);
    let slices = end_cycle(&mut heap, &mut step);
    // Each of the tables takes as many as it has entries, two a time, or a part of that.
    assert!(slices > 100, "{slices} slices");
    heap.collect();
    let live = heap.mutate(|mu, saved| saved.map.live_len(mu));
    let mut held: Vec<u64> = places.iter().copied().flatten().collect();
    held.sort_unstable();
    held.dedup();
    assert_eq!(live, held.len());
}

/// A heap in a cycle that has had `slices`, in which all that is known weakly is dead.
fn cycle_over_the_dead(slices: u64) -> Heap<Root> {
    let mut heap = heap();
    heap.mutate(|mu, saved| {
        let weak = saved.weak.get().expect("was set");
        for number in 0..COUNT {
            let key = node(mu, number as u64);
            weak[number].set(mu, mu.alloc_weak(key).ok());
            let note = mu.alloc(number as u64 + 5).expect("room");
            saved.map.insert(mu, key, note).expect("room");
        }
    });
    begin_cycle(&mut heap);
    (0..slices).for_each(|_| slice(&mut heap));
    heap
}

/// Makes the first `count` strong again where that is still possible; returns which.
fn made_strong(heap: &mut Heap<Root>, count: usize) -> Vec<usize> {
    heap.mutate(|mu, saved| {
        let weak = saved.weak.get().expect("was set");
        let nodes = saved.nodes.get().expect("was set");
        let strong = |number: &usize| {
            let known = weak[*number].get().expect("was set").upgrade(mu);
            nodes[*number].set(mu, known);
            known.is_some()
        };
        (0..count).filter(strong).collect()
    })
}

#[test]
fn what_was_found_dead_is_not_made_strong_before_its_reference_is_cleared() {
    let slices = end_cycle(&mut cycle_over_the_dead(0), |_| {});
    // One alone: its value is reached though its pair was passed, and nothing else is new.
    for count in [1, COUNT] {
        let (mut all, mut none) = (0, 0);
        for done in (0..slices).step_by(slices as usize / 24 + 1) {
            let mut heap = cycle_over_the_dead(done);
            assert_eq!(heap.statistics().full_collections, 0);
            let found = made_strong(&mut heap, count);
            end_cycle(&mut heap, |_| {});
            heap.collect();
            heap.verify();
            heap.mutate(|mu, saved| {
                for &number in &found {
                    let nodes = saved.nodes.get().expect("was set");
                    let node = nodes[number].get().expect("was set");
                    check(node, number as u64);
                    let note = saved.map.get(mu, node).expect("its key lives");
                    assert_eq!(*note, number as u64 + 5);
                }
            });
            all += usize::from(found.len() == count);
            none += usize::from(found.is_empty());
        }
        assert!(all > 0 && none > 0, "{all} and {none}: before and after the end of marking");
    }
}

#[derive(Trace)]
struct Last<'gc> {
    number: u64,
    before: Option<Gc<'gc, Last<'gc>>>,
    log: Static<Rc<RefCell<Vec<u64>>>>,
}

impl<'gc> Finalise<'gc> for Last<'gc> {
    fn finalise(this: Gc<'gc, Self>, _: &'gc Mutation<'gc>) {
        if let Some(before) = this.before {
            assert_eq!(before.number + 1, this.number, "what it refers to is whole");
        }
        this.log.0.borrow_mut().push(this.number);
    }
}

#[test]
fn finalisers_that_are_found_in_slices_run_in_the_order_of_allocation() {
    let mut heap = heap();
    let log = Rc::new(RefCell::new(Vec::new()));
    // A chain of the dead, each of which refers to the one before: all are found in one cycle.
    heap.mutate(|mu, _| {
        let mut before = None;
        for number in 0..COUNT as u64 {
            let last = Last { number, before, log: Static(log.clone()) };
            before = Some(mu.alloc_finalised(last).expect("room"));
        }
    });
    begin_cycle(&mut heap);
    let slices = end_cycle(&mut heap, |_| {});
    assert!(slices > COUNT as u64 / 4, "{slices} slices");
    assert!(log.borrow().iter().copied().eq(0..COUNT as u64), "{:?}", log.borrow());
}
