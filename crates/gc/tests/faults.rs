//! Faults and extremes: the limit, panics, deep and large structures, heaps that go early.

mod collecting;
mod list;

use collecting::COLLECTORS;
use heapwright_gc::{Config, DynamicRoot, Gc, GcCell, Heap, LimitReached, Static, rootable};
use list::Node;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

type List = rootable!['gc => GcCell<Option<Gc<'gc, Node<'gc>>>>];

fn list(config: Config) -> Heap<List> {
    Heap::new(config, |_| GcCell::new(None)).expect("addresses")
}

fn push(heap: &mut Heap<List>, value: u64) -> Result<(), LimitReached> {
    heap.mutate(|mu, head| {
        head.set(mu, Some(mu.alloc(Node { value, next: GcCell::new(head.get()) })?));
        Ok(())
    })
}

#[test]
fn at_the_limit_an_allocation_fails_and_the_heap_goes_on() {
    for collector in COLLECTORS {
        let config = Config { limit_bytes: 2 << 20, verify: false, ..Config::with(collector) };
        let mut heap = list(config);
        let mut count = 0u64;
        // One mutation: nothing can be collected inside.
        let refused = heap.mutate(|mu, head| {
            loop {
                match mu.alloc(Node { value: count, next: GcCell::new(head.get()) }) {
                    Ok(node) => head.set(mu, Some(node)),
                    Err(LimitReached) => break mu.should_yield(),
                }
                count += 1;
            }
        });
        assert!(refused, "{collector:?} asks to leave");
        let refusal = heap.refusal().expect("one was refused");
        assert!(refusal.occupied_bytes <= 2 << 20 && refusal.limit_bytes == 2 << 20);
        assert!(count * 24 > 600 << 10, "{collector:?} refused after {count} nodes");
        // All of it is live: it still fails after a collection; then it is let go.
        let mut more = 0;
        while more < 1 << 20 && push(&mut heap, 0).is_ok() {
            more += 1;
        }
        assert!(more < 1 << 20, "{collector:?} keeps its limit");
        heap.mutate(|mu, head| head.set(mu, None));
        heap.collect();
        assert!(heap.statistics().live_bytes < 64 << 10, "{collector:?} {:?}", heap.statistics());
        for value in 0..100_000 {
            push(&mut heap, value)
                .and_then(|()| {
                    heap.mutate(|mu, head| {
                        head.set(mu, None);
                        Ok(())
                    })
                })
                .unwrap_or_else(|_| panic!("{collector:?} has room for garbage at {value}"));
        }
    }
}

#[test]
fn a_panic_inside_a_mutation_leaves_the_heap_usable() {
    for collector in COLLECTORS {
        let mut heap = list(Config { stress: true, ..Config::with(collector) });
        for value in 0..10 {
            push(&mut heap, value).expect("room");
        }
        let result = catch_unwind(AssertUnwindSafe(|| {
            heap.mutate(|mu, head| {
                head.set(mu, mu.alloc(Node { value: 10, next: GcCell::new(head.get()) }).ok());
                let half = mu.alloc_slice(100, |index| {
                    assert!(index < 50, "half built");
                    mu.alloc(index as u64)
                });
                half.map(|slice| slice.len())
            })
        }));
        assert!(result.is_err());
        heap.collect();
        let values = heap.mutate(|_, head| {
            std::iter::successors(head.get(), |node| node.next.get())
                .map(|node| node.value)
                .collect::<Vec<_>>()
        });
        assert_eq!(values, (0..=10).rev().collect::<Vec<_>>());
    }
}

struct Bomb(Rc<Cell<u32>>);

impl Drop for Bomb {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
        assert!(self.0.get() != 1, "the first destructor panics");
    }
}

#[test]
fn a_panic_in_a_destructor_loses_the_heap_but_nothing_else() {
    for collector in COLLECTORS {
        let count = Rc::new(Cell::new(0));
        let mut heap = list(Config::with(collector));
        heap.mutate(|mu, _| {
            for _ in 0..3 {
                mu.alloc(Static(Bomb(count.clone()))).expect("room");
            }
        });
        assert!(catch_unwind(AssertUnwindSafe(|| heap.collect())).is_err());
        let again = catch_unwind(AssertUnwindSafe(|| heap.mutate(|_, _| ())));
        assert!(again.is_err(), "{collector:?}: a lost heap refuses");
        drop(heap);
        assert_eq!(count.get(), 1, "{collector:?}: no destructor runs in a lost heap");
    }
}

#[test]
fn a_dynamic_root_may_outlive_its_heap_and_is_of_no_other() {
    type Number = rootable!['gc => u64];
    let mut heap = list(Config::default());
    let mut other = list(Config::default());
    let held: DynamicRoot<Number> =
        heap.mutate(|mu, _| mu.alloc(7u64).and_then(|number| mu.stash(number))).expect("room");
    assert_eq!(other.mutate(|mu, _| held.fetch(mu).map(|number| *number)), None);
    assert_eq!(heap.mutate(|mu, _| held.fetch(mu).map(|number| *number)), Some(7));
    drop(heap);
    assert_eq!(other.mutate(|mu, _| held.fetch(mu).map(|number| *number)), None);
}

#[test]
fn a_cycle_of_many_objects_needs_no_recursion() {
    // Ten million in release; as deep as a debug build can afford otherwise.
    let count = if cfg!(debug_assertions) { 100_000 } else { 10_000_000 };
    for collector in COLLECTORS {
        let mut heap = list(Config { verify: false, ..Config::with(collector) });
        heap.mutate(|mu, head| {
            let first = mu.alloc(Node { value: 0, next: GcCell::new(None) }).expect("room");
            head.set(mu, Some(first));
            for value in 1..count {
                let node = Node { value, next: GcCell::new(head.get()) };
                head.set(mu, Some(mu.alloc(node).expect("room")));
            }
            first.next.set(mu, head.get());
        });
        heap.collect();
        assert_eq!(heap.verify().0 as u64, count, "{collector:?}");
        heap.mutate(|mu, head| head.set(mu, None));
        heap.collect();
        assert_eq!((heap.verify().0, heap.statistics().live_bytes), (0, 0), "{collector:?}");
    }
}

#[test]
fn an_array_of_a_gigabyte_is_allocated_kept_and_freed() {
    type Bytes = rootable!['gc => Option<Gc<'gc, [[u8; 4096]]>>];
    // Touching all of it is for release builds; addresses and tables are the same.
    let bytes = if cfg!(debug_assertions) { 16 << 20 } else { 1 << 30 };
    for collector in COLLECTORS {
        let config = Config::with(collector);
        let mut heap = Heap::<Bytes>::new(config, |_| None).expect("addresses");
        heap.mutate_root(|mu, root| {
            *root = mu.alloc_slice(bytes >> 12, |index| Ok([index as u8; 4096])).ok();
        });
        heap.collect();
        let last = heap.mutate(|_, root| root.expect("fits").last().map(|last| last[77]));
        assert_eq!(last, Some(((bytes >> 12) - 1) as u8));
        heap.mutate_root(|_, root| *root = None);
        heap.collect();
        assert_eq!(heap.statistics().live_bytes, 0, "{collector:?}");
    }
}

#[test]
fn impossible_lengths_are_refused() {
    let mut heap = list(Config::default());
    let result = heap.mutate(|mu, _| mu.alloc_slice(usize::MAX / 8, |_| Ok(0u64)).map(|_| ()));
    assert_eq!(result, Err(LimitReached));
    assert_eq!(heap.refusal().map(|refusal| refusal.requested_bytes), Some(usize::MAX));
}

#[test]
fn what_is_half_built_is_taken_back() {
    for collector in COLLECTORS {
        let count = Rc::new(Cell::new(1));
        let config = Config { limit_bytes: 8 << 20, ..Config::with(collector) };
        let mut heap = list(config);
        // Far more in sum than addresses exist for large objects in a heap of this limit.
        for len in [10usize, 100_000].repeat(200) {
            let before = count.get();
            let result = heap.mutate(|mu, _| {
                mu.alloc_slice(len, |index| {
                    if index < 7 { Ok(Static(Bomb(count.clone()))) } else { Err(LimitReached) }
                })
                .map(|slice| slice.len())
            });
            assert_eq!(result, Err(LimitReached));
            assert_eq!(count.get(), before + 7, "{collector:?}: seven items were made");
        }
        assert_eq!(heap.refusal(), None, "{collector:?}: there was room for each");
    }
}
