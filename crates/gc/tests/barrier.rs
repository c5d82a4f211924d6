//! What old objects are told to refer to is kept by a minor collection, whenever it was written and
//! however often.

use heapwright_gc::{Config, Gc, GcCell, Heap, rootable};

type Cells<'gc> = [GcCell<Option<Gc<'gc, u64>>>];
type Root = rootable!['gc => Gc<'gc, Cells<'gc>>];

/// Long enough to be large, so that it is never young.
const LEN: usize = 4096;

fn config() -> Config {
    Config { nursery_bytes: 64 << 10, ..Config::default() }
}

fn contents(heap: &mut Heap<Root>) -> Vec<Option<u64>> {
    heap.mutate(|_, cells| cells.iter().map(|cell| cell.get().map(|value| *value)).collect())
}

/// Fills the nursery until it was collected.
fn minor_collection(heap: &mut Heap<Root>) {
    let before = heap.statistics().minor_collections;
    while heap.statistics().minor_collections == before {
        heap.mutate(|mu, _| mu.alloc([0u64; 64]).map(drop)).expect("room");
    }
}

#[test]
fn writes_before_the_heap_has_a_root_are_logged() {
    let mut heap = Heap::<Root>::new(config(), |mu| {
        let cells = mu.alloc_slice(LEN, |_| Ok(GcCell::new(None))).expect("room");
        for (index, cell) in cells.iter().enumerate() {
            cell.set(mu, mu.alloc(index as u64).ok());
        }
        cells
    })
    .expect("addresses");
    minor_collection(&mut heap);
    let expected: Vec<_> = (0..LEN as u64).map(Some).collect();
    assert_eq!(contents(&mut heap), expected);
}

#[test]
fn the_log_keeps_every_cell_when_it_drops_repetitions() {
    let mut heap = Heap::<Root>::new(config(), |mu| {
        mu.alloc_slice(LEN, |_| Ok(GcCell::new(None))).expect("room")
    })
    .expect("addresses");
    for round in 0..3u64 {
        minor_collection(&mut heap);
        heap.mutate(|mu, cells| {
            // A few again and again, all others once in between.
            for index in 0..LEN {
                cells[index].set(mu, mu.alloc(round * LEN as u64 + index as u64).ok());
                cells[index % 7].set(mu, mu.alloc(index as u64).ok());
            }
        });
        minor_collection(&mut heap);
        let found = contents(&mut heap);
        for (index, value) in found.iter().enumerate().skip(7) {
            assert_eq!(*value, Some(round * LEN as u64 + index as u64));
        }
        let last_of = |index: usize| (0..LEN).rev().find(|at| at % 7 == index).expect("is there");
        (0..7).for_each(|index| assert_eq!(found[index], Some(last_of(index) as u64)));
    }
}
