//! How long the slices of the incremental collector are with large tables: a weak map, finalisers,
//! dynamic roots and a deep scope of handles beside a heap of ordinary objects.
//!
//! `cargo run --release -p heapwright-gc --example slices -- [ENTRIES [SLICE_US]]` prints a line for
//! each table alone and one for all, with none and with as many entries.

use heapwright_gc::{
    Collector, Config, DynamicRoot, Finalise, Gc, GcCell, Heap, LimitReached, Mutation, PauseKind,
    Trace, WeakMap, percentile_ns, rootable,
};

#[derive(Trace)]
struct Node<'gc> {
    number: u64,
    next: GcCell<Option<Gc<'gc, Node<'gc>>>>,
}

impl<'gc> Finalise<'gc> for Node<'gc> {
    fn finalise(_: Gc<'gc, Self>, _: &'gc Mutation<'gc>) {}
}

#[derive(Trace)]
struct Globals<'gc> {
    map: WeakMap<'gc, Node<'gc>, u64>,
    keys: GcCell<Option<Gc<'gc, Node<'gc>>>>,
    ring: GcCell<Option<Gc<'gc, Ring<'gc>>>>,
}

type Ring<'gc> = [GcCell<Option<Gc<'gc, Node<'gc>>>>];
type Root = rootable!['gc => Globals<'gc>];
type Held = rootable!['gc => Node<'gc>];

const RING: usize = 1 << 19;

/// Which tables have entries.
#[derive(Clone, Copy, Default)]
struct Tables {
    weak: usize,
    finalisers: usize,
    roots: usize,
    handles: usize,
}

fn work<'gc>(mu: &'gc Mutation<'gc>, globals: &'gc Globals<'gc>, step: u64) {
    let ring = globals.ring.get().expect("was made");
    for index in 0..64 {
        let number = step * 64 + index;
        let at = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) as usize % RING;
        let next = GcCell::new(ring[at ^ 1].get().filter(|_| number.is_multiple_of(2)));
        let Ok(node) = mu.alloc(Node { number, next }) else { return };
        if let Some(old) = node.next.get() {
            old.next.set(mu, None);
        }
        ring[at].set(mu, Some(node));
    }
}

fn run(name: &str, tables: Tables, slice_us: u64) -> Result<(), LimitReached> {
    let config = Config {
        slice_us,
        record_pauses: true,
        limit_bytes: 2 << 30,
        ..Config::with(Collector::Incremental)
    };
    let heap = Heap::<Root>::new(config, |mu| Globals {
        map: WeakMap::new(mu).expect("room"),
        keys: GcCell::new(None),
        ring: GcCell::new(mu.alloc_slice(RING, |_| Ok(GcCell::new(None))).ok()),
    });
    let mut heap = heap.expect("addresses");
    for number in 0..tables.weak.max(tables.finalisers) {
        heap.mutate(|mu, globals| {
            let node = Node { number: number as u64, next: GcCell::new(globals.keys.get()) };
            let key =
                if number < tables.finalisers { mu.alloc_finalised(node) } else { mu.alloc(node) }?;
            globals.keys.set(mu, Some(key));
            if number < tables.weak {
                globals.map.insert(mu, key, mu.alloc(number as u64)?)?;
            }
            Ok(())
        })?;
    }
    let mut held: Vec<DynamicRoot<Held>> = Vec::new();
    for number in 0..tables.roots {
        held.push(heap.mutate(|mu, _| {
            mu.stash(mu.alloc(Node { number: number as u64, next: GcCell::new(None) })?)
        })?);
    }
    heap.scope(|scope| {
        for number in 0..tables.handles as u64 {
            scope.mutate(|mu, _, locals| {
                locals.keep::<Held>(mu.alloc(Node { number, next: GcCell::new(None) })?).map(|_| ())
            })?;
        }
        for step in 0..150_000 {
            scope.mutate(|mu, globals, _| work(mu, globals, step));
        }
        Ok(())
    })?;
    drop(held);
    let statistics = heap.statistics();
    heap.with_pauses(|pauses| {
        let slices = pauses.iter().filter(|pause| pause.kind == PauseKind::Slice);
        let mut ns: Vec<u64> = slices.map(|pause| pause.cpu_ns).collect();
        let longest = ns.iter().copied().max().unwrap_or(0);
        let ms = |ns: u64| ns as f64 / 1e6;
        println!(
            "{name:12} cycles {:3}, slices {:5}, CPU ms p50 {:.3}, p99 {:.3}, longest {:.3}; live {} MB, \
             hurried {}",
            statistics.full_collections,
            ns.len(),
            ms(percentile_ns(&mut ns, 50.0)),
            ms(percentile_ns(&mut ns, 99.0)),
            ms(longest),
            statistics.live_bytes >> 20,
            statistics.hurried_cycles,
        );
    });
    Ok(())
}

fn main() -> Result<(), LimitReached> {
    let mut words = std::env::args().skip(1).map(|word| word.parse::<usize>().ok());
    let entries = words.next().flatten().unwrap_or(1_000_000);
    let slice_us = words.next().flatten().unwrap_or(1000) as u64;
    let none = Tables::default();
    run("none", none, slice_us)?;
    run("weak map", Tables { weak: entries, ..none }, slice_us)?;
    run("finalisers", Tables { finalisers: entries, ..none }, slice_us)?;
    run("roots", Tables { roots: entries, ..none }, slice_us)?;
    run("handles", Tables { handles: entries, ..none }, slice_us)?;
    let all = Tables { weak: entries, finalisers: entries, roots: entries, handles: entries };
    run("all", all, slice_us)
}
