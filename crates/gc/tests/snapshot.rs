//! Snapshots of the heap: dominators, retained bytes, types.

use heapwright_gc::{Collector, Config, Gc, GcCell, Heap, Mutation, Snapshot, Trace, rootable};

#[derive(Trace)]
struct Node<'gc> {
    links: GcCell<[Option<Gc<'gc, Node<'gc>>>; 2]>,
    _payload: [u64; 2],
}

type Root = rootable!['gc => GcCell<Option<Gc<'gc, Node<'gc>>>>];
/// Two links, two words, the header.
const BYTES: usize = 5 * 8;

fn node<'gc>(mu: &Mutation<'gc>, links: [Option<Gc<'gc, Node<'gc>>>; 2]) -> Gc<'gc, Node<'gc>> {
    mu.alloc(Node { links: GcCell::new(links), _payload: [0; 2] }).expect("room")
}

#[test]
fn a_diamond_is_dominated_by_its_top_and_a_cycle_by_its_entry() {
    for collector in Collector::ALL {
        let mut heap =
            Heap::<Root>::new(Config::with(collector), |_| GcCell::new(None)).expect("addresses");
        heap.mutate(|mu, root| {
            // top -> left, right -> bottom -> tail -> bottom
            let tail = node(mu, [None, None]);
            let bottom = node(mu, [Some(tail), None]);
            tail.links.set(mu, [Some(bottom), None]);
            let left = node(mu, [Some(bottom), None]);
            let right = node(mu, [Some(bottom), None]);
            root.set(mu, Some(node(mu, [Some(left), Some(right)])));
        });
        heap.collect();
        let snapshot = Snapshot::of(&mut heap);
        let objects = snapshot.objects();
        assert_eq!(objects.len(), 6, "{collector:?}");
        assert_eq!((objects[0].bytes, objects[0].retained_bytes), (0, 5 * BYTES));
        let top = objects[0].references[0];
        let [left, right] = objects[top].references[..] else { panic!("two links") };
        let bottom = objects[left].references[0];
        let tail = objects[bottom].references[0];
        let dominators = [top, left, right, bottom, tail].map(|index| objects[index].dominator);
        assert_eq!(dominators, [0, top, top, top, bottom], "{collector:?}");
        let retained = [top, left, right, bottom, tail].map(|index| objects[index].retained_bytes);
        assert_eq!(retained, [5 * BYTES, BYTES, BYTES, 2 * BYTES, BYTES], "{collector:?}");
        let types = snapshot.types();
        let ((name, is_array), one) = types.iter().next().expect("one type");
        assert!(name.contains("Node") && !is_array && types.len() == 1);
        assert_eq!((one.count, one.bytes), (5, 5 * BYTES));
        let mut json = String::new();
        snapshot.write_json(&mut json).expect("a string takes everything");
        assert!(json.starts_with("{\"objects\":[{\"type\":\"roots\"") && json.ends_with("]}"));
        // The heap is as before.
        assert_eq!(heap.verify(), (5, 5 * BYTES), "{collector:?}");
        heap.collect();
        assert_eq!(heap.verify().0, 5, "{collector:?}");
    }
}

#[test]
fn a_long_list_needs_no_recursion() {
    let mut heap = Heap::<Root>::new(Config::default(), |_| GcCell::new(None)).expect("addresses");
    for _ in 0..20_000 {
        heap.mutate(|mu, root| root.set(mu, Some(node(mu, [root.get(), None]))));
    }
    let snapshot = Snapshot::of(&mut heap);
    let retained = snapshot.objects().iter().map(|object| object.retained_bytes).max();
    assert_eq!(retained, Some(20_000 * BYTES));
}
