//! The incremental collector's snapshot: what moves behind the marker's back survives.

use heapwright_gc::{Collector, Config, Gc, GcCell, GcRefCell, Heap, Trace, rootable};

#[derive(Trace)]
struct Node<'gc> {
    value: u32,
    next: GcCell<Option<Gc<'gc, Node<'gc>>>>,
    more: GcRefCell<Vec<Gc<'gc, Node<'gc>>>>,
}

#[derive(Trace)]
struct Ends<'gc> {
    list: GcCell<Option<Gc<'gc, Node<'gc>>>>,
    moved: GcCell<Option<Gc<'gc, Node<'gc>>>>,
}

type Root = rootable!['gc => Ends<'gc>];

fn heap() -> Heap<Root> {
    let config = Config {
        slice_us: 0,
        trigger_bytes_min: 1 << 20,
        verify: true,
        ..Config::with(Collector::Incremental)
    };
    Heap::new(config, |_| Ends { list: GcCell::new(None), moved: GcCell::new(None) })
        .expect("addresses")
}

/// A list whose `link` holds on to `value + 1`, until a cycle has begun to mark it.
fn list_in_marking(through_vec: bool) -> Heap<Root> {
    let mut heap = heap();
    for value in (0..800).rev() {
        heap.mutate(|mu, ends| {
            let next = ends.list.get();
            let node = Node {
                value,
                next: GcCell::new(next.filter(|_| !through_vec)),
                more: GcRefCell::new(next.filter(|_| through_vec).into_iter().collect()),
            };
            ends.list.set(mu, mu.alloc(node).ok());
        });
    }
    assert_eq!(heap.statistics().slices, 0, "the list is below the trigger");
    while heap.statistics().slices < 3 {
        heap.mutate(|mu, _| mu.alloc([0u64; 64]).expect("in the limit").len());
    }
    assert_eq!(heap.statistics().full_collections, 0, "a slice of no time does not mark 800");
    heap
}

fn finish_and_count(heap: &mut Heap<Root>, next: fn(&Node<'_>) -> u32) {
    while heap.statistics().full_collections == 0 {
        heap.mutate(|mu, _| mu.alloc([0u64; 64]).expect("in the limit").len());
    }
    assert_eq!(heap.mutate(|_, ends| next(ends.moved.get().expect("was moved").reference())), 799);
}

#[test]
fn a_tail_cut_off_a_cell_while_marking_survives() {
    let mut heap = list_in_marking(false);
    heap.mutate(|mu, ends| {
        let mut node = ends.list.get().unwrap();
        while node.value < 400 {
            node = node.next.get().unwrap();
        }
        ends.moved.set(mu, node.next.replace(mu, None));
    });
    finish_and_count(&mut heap, |first| {
        let mut last = first.value;
        let mut node = first.next.get();
        while let Some(next) = node {
            assert_eq!(next.value, last + 1);
            last = next.value;
            node = next.next.get();
        }
        last
    });
}

#[test]
fn a_tail_cut_off_a_borrowed_vector_while_marking_survives() {
    let mut heap = list_in_marking(true);
    heap.mutate(|mu, ends| {
        let mut node = ends.list.get().unwrap();
        while node.value < 400 {
            let next = node.more.borrow()[0];
            node = next;
        }
        let rest = node.more.borrow_mut(mu).pop();
        ends.moved.set(mu, rest);
    });
    finish_and_count(&mut heap, |first| {
        let mut last = first.value;
        let mut next = first.more.borrow().first().copied();
        while let Some(node) = next {
            assert_eq!(node.value, last + 1);
            last = node.value;
            next = node.more.borrow().first().copied();
        }
        last
    });
}
