//! Marking and copying by several threads finds what one finds: wide, deep and shared structures, long arrays,
//! payloads that only their own thread may use.

use heapwright_gc::{Collector, Config, Gc, GcCell, Heap, Static, Trace, rootable};
use heapwright_testkit::Random;
use std::cell::Cell;
use std::rc::Rc;

#[derive(Trace)]
struct Node<'gc> {
    links: [GcCell<Option<Gc<'gc, Node<'gc>>>>; 2],
    value: u64,
    /// Counts the living; stays on its thread.
    count: Static<Counted>,
}

struct Counted(Rc<Cell<usize>>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

type Slots<'gc> = [GcCell<Option<Gc<'gc, Node<'gc>>>>];
type Root = rootable!['gc => Gc<'gc, Slots<'gc>>];

const SLOTS: usize = 3000;

fn sum(heap: &mut Heap<Root>) -> u64 {
    heap.mutate(|_, slots| {
        let mut sum = 0u64;
        for slot in slots.iter() {
            let mut node = slot.get();
            for _ in 0..40 {
                let Some(one) = node else { break };
                sum = one.value.wrapping_add(sum.wrapping_mul(31));
                node = one.links[sum as usize % 2].get();
            }
        }
        sum
    })
}

#[test]
fn as_many_threads_as_asked_mark_and_copy_the_same() {
    for collector in [
        Collector::MarkSweep,
        Collector::MarkCompact,
        Collector::Semispace,
        Collector::Generational,
        Collector::Incremental,
    ] {
        for threads in [2, 5] {
            let config = Config { threads, verify: true, ..Config::with(collector) };
            let mut heap = Heap::<Root>::new(config, |mu| {
                mu.alloc_slice(SLOTS, |_| Ok(GcCell::new(None))).expect("room")
            })
            .expect("addresses");
            let living = Rc::new(Cell::new(0));
            let mut random = Random::new(threads as u64);
            for round in 0..6 {
                for _ in 0..60 {
                    heap.mutate(|mu, slots| {
                        for value in 0..50 {
                            let mut at = || random.below(SLOTS as u64) as usize;
                            let links = [at(), at()].map(|at| GcCell::new(slots[at].get()));
                            living.set(living.get() + 1);
                            let count = Static(Counted(living.clone()));
                            let node = Node { links, value, count };
                            slots[at()].set(mu, Some(mu.alloc(node).expect("room")));
                        }
                    });
                }
                // One deep list, too, of which another thread takes the rest again and again.
                heap.mutate(|mu, slots| {
                    for value in 0..2000 {
                        let links = [GcCell::new(slots[0].get()), GcCell::new(None)];
                        living.set(living.get() + 1);
                        let node = Node { links, value, count: Static(Counted(living.clone())) };
                        slots[0].set(mu, Some(mu.alloc(node).expect("room")));
                    }
                });
                let before = sum(&mut heap);
                heap.collect();
                assert_eq!(sum(&mut heap), before, "{collector:?}, {threads}, round {round}");
                // The array of the root is the one object that is not counted.
                let (objects, _) = heap.verify();
                assert_eq!(objects - 1, living.get(), "{collector:?}, {threads}: destructors");
            }
        }
    }
}

#[test]
fn the_number_of_threads_comes_from_text_too() {
    let mut config = Config::default();
    assert_eq!(config.threads, 1);
    assert_eq!(config.set("threads", "4"), Ok(()));
    assert_eq!(config.threads, 4);
}
