//! Handle scopes on every collector, with a collection at every safepoint.

mod collecting;
mod list;

use collecting::COLLECTORS;
use heapwright_gc::{Collector, Config, GcCell, Heap, LimitReached, Local, rootable};
use list::Node;
use std::panic::{AssertUnwindSafe, catch_unwind};

type Held = rootable!['gc => Node<'gc>];
type Root = rootable!['gc => ()];

fn heap(collector: Collector) -> Heap<Root> {
    Heap::new(Config { stress: true, ..Config::with(collector) }, |_| ()).expect("addresses")
}

#[test]
fn handles_follow_their_objects_and_end_with_their_scope() {
    for collector in COLLECTORS {
        let mut heap = heap(collector);
        let sum = heap.scope(|scope| {
            let mut list: Local<'_, Held> = scope.mutate(|mu, (), locals| {
                locals.keep(mu.alloc(Node { value: 0, next: GcCell::new(None) })?)
            })?;
            let first = list;
            for value in 1..50 {
                let before = list;
                list = scope.mutate(|mu, (), locals| {
                    let next = GcCell::new(Some(before.get(mu)));
                    locals.keep(mu.alloc(Node { value, next })?)
                })?;
                // An inner scope sees the outer handles, and its own go with it.
                scope.scope(|inner| {
                    let temporary: Local<'_, Held> = inner.mutate(|mu, (), locals| {
                        let next = GcCell::new(Some(list.get(mu)));
                        locals.keep(mu.alloc(Node { value: 1000, next })?)
                    })?;
                    inner.mutate(|mu, (), _| {
                        let found = temporary.get(mu).next.get().expect("was linked");
                        assert!(found.ptr_eq(list.get(mu)), "{collector:?}");
                        assert_eq!((found.value, first.get(mu).value), (value, 0));
                    });
                    Ok::<_, LimitReached>(())
                })?;
            }
            Ok::<u64, LimitReached>(scope.mutate(|mu, (), _| {
                core::iter::successors(Some(list.get(mu)), |pair| pair.next.get())
                    .map(|pair| pair.value)
                    .sum()
            }))
        });
        assert_eq!(sum, Ok(49 * 50 / 2), "{collector:?}");
        heap.collect();
        assert_eq!(heap.verify(), (0, 0), "{collector:?}: the scope has ended");
    }
}

#[test]
fn a_panic_ends_the_scopes_that_it_leaves() {
    let mut heap = heap(Collector::Generational);
    let result = catch_unwind(AssertUnwindSafe(|| {
        heap.scope(|scope| {
            scope.scope(|inner| {
                let _kept: Local<'_, Held> = inner.mutate(|mu, (), locals| {
                    let pair = mu.alloc(Node { value: 1, next: GcCell::new(None) });
                    locals.keep(pair.expect("room")).expect("room")
                });
                panic!("inside");
            })
        })
    }));
    assert!(result.is_err());
    heap.collect();
    assert_eq!(heap.verify(), (0, 0));
}

#[test]
fn a_handle_is_refused_by_another_heap() {
    let (mut one, mut other) = (heap(Collector::Semispace), heap(Collector::Semispace));
    one.scope(|scope| {
        let local: Local<'_, Held> = scope.mutate(|mu, (), locals| {
            let pair = mu.alloc(Node { value: 1, next: GcCell::new(None) });
            locals.keep(pair.expect("room")).expect("room")
        });
        let taken = catch_unwind(AssertUnwindSafe(|| other.mutate(|mu, ()| local.get(mu).value)));
        assert!(taken.is_err(), "it names an object of another heap");
        assert_eq!(scope.mutate(|mu, (), _| local.get(mu).value), 1);
    });
}
