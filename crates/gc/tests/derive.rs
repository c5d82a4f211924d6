//! The derive on every shape of type: each `Gc` in it is kept and follows its object.

use heapwright_gc::{Collector, Config, Gc, Heap, Static, Trace, rootable};
use std::marker::PhantomData;

#[derive(Trace)]
struct Unit;

#[derive(Trace)]
struct Tuple<'gc>(u8, Gc<'gc, u64>);

#[derive(Trace)]
struct Generic<T, const N: usize> {
    items: [T; N],
    kind: PhantomData<T>,
}

#[derive(Trace)]
enum Shape<'gc, T: Clone> {
    Empty,
    One(Gc<'gc, T>, Unit),
    Named { first: Option<Gc<'gc, u64>>, owned: Static<String> },
    Boxed(Box<(Gc<'gc, u64>, Vec<Gc<'gc, u64>>)>),
}

#[derive(Trace)]
enum Never {}

#[derive(Trace)]
struct All<'gc> {
    tuple: Tuple<'gc>,
    generic: Generic<Shape<'gc, u64>, 4>,
    never: Option<Never>,
}

#[test]
fn every_shape_is_visited() {
    for collector in [Collector::Semispace, Collector::MarkCompact, Collector::Generational] {
        let config = Config { stress: true, verify: true, ..Config::with(collector) };
        let mut heap = Heap::<rootable!['gc => All<'gc>]>::new(config, |mu| {
            let number = |value: u64| mu.alloc(value).expect("room");
            let owned = Static(String::from("owned"));
            let items = [
                Shape::Empty,
                Shape::One(number(2), Unit),
                Shape::Named { first: Some(number(3)), owned },
                Shape::Boxed(Box::new((number(4), vec![number(5), number(6)]))),
            ];
            let generic = Generic { items, kind: PhantomData };
            All { tuple: Tuple(0, number(1)), generic, never: None }
        })
        .expect("addresses");
        for _ in 0..3 {
            // Garbage, so that survivors change their places.
            heap.mutate(|mu, _| mu.alloc(99u64).is_ok());
            heap.collect();
        }
        assert_eq!(heap.verify().0, 6, "{collector:?}: one object each, and no garbage");
        heap.mutate(|_, all| {
            assert!(all.never.is_none());
            assert_eq!((all.tuple.0, *all.tuple.1), (0, 1));
            let [Shape::Empty, Shape::One(two, Unit), named, boxed] = &all.generic.items else {
                panic!("other variants")
            };
            assert_eq!(**two, 2);
            assert!(matches!(named, Shape::Named { first: Some(three), owned }
                if **three == 3 && owned.0 == "owned"));
            let Shape::Boxed(boxed) = boxed else { panic!("another variant") };
            assert_eq!((*boxed.0, *boxed.1[0], *boxed.1[1]), (4, 5, 6));
        });
    }
}
