//! What a minor collection costs beside an old space of 10, 100 and 1000 MB: the same young
//! objects, and as many writes into old cells, which lie anywhere in it or in a part of 1 MB.
//!
//! `cargo run --release -p heapwright-gc --example minor` prints a line for each.

use heapwright_gc::{
    Collector, Config, Gc, GcCell, Heap, LimitReached, PauseKind, Trace, percentile_ns, rootable,
};

#[derive(Trace)]
struct Node<'gc> {
    payload: [u64; 6],
    young: GcCell<Option<Gc<'gc, Node<'gc>>>>,
}

/// A node with its head.
const NODE_BYTES: usize = 64;
/// Collections that are measured, and writes into old cells before each.
const COLLECTIONS: usize = 100;
const WRITES: usize = 1000;
const PART_BYTES: usize = 1_000_000;

type Table<'gc> = Gc<'gc, [Gc<'gc, Node<'gc>>]>;
type Root = rootable!['gc => Option<Table<'gc>>];

fn run(old_bytes: usize, spread_bytes: usize) -> Result<(), LimitReached> {
    let config = Config {
        record_pauses: true,
        nursery_growth: 1,
        limit_bytes: 8 << 30,
        // No full collection comes between.
        trigger_bytes_min: 8 << 30,
        ..Config::with(Collector::Generational)
    };
    let nursery_bytes = config.nursery_bytes;
    let mut heap = Heap::<Root>::new(config, |_| None).expect("addresses");
    heap.mutate_root(|mu, root| {
        let node = || mu.alloc(Node { payload: [0; 6], young: GcCell::new(None) });
        *root = Some(mu.alloc_slice(old_bytes / NODE_BYTES, |_| node())?);
        Ok(())
    })?;
    heap.collect();
    let pauses_before = heap.with_pauses(|pauses| pauses.len());
    let mut state = 1u64;
    while heap.with_pauses(|pauses| pauses.len()) < pauses_before + COLLECTIONS {
        heap.mutate(|mu, root| {
            let old = root.expect("was made");
            for _ in 0..WRITES / 100 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let at = (state >> 33) as usize % (spread_bytes / NODE_BYTES);
                let young = mu.alloc(Node { payload: [1; 6], young: GcCell::new(None) })?;
                old[at].young.set(mu, Some(young));
            }
            // The rest of a hundredth of the nursery dies.
            for _ in WRITES / 100..nursery_bytes / NODE_BYTES / 100 {
                mu.alloc(Node { payload: [2; 6], young: GcCell::new(None) })?;
            }
            Ok(())
        })?;
    }
    let mut times_ns = heap.with_pauses(|pauses| {
        let minor = pauses[pauses_before..].iter().filter(|one| one.kind == PauseKind::Minor);
        minor.map(|pause| pause.cpu_ns).collect::<Vec<_>>()
    });
    let (p50, max) = (percentile_ns(&mut times_ns, 50.0), percentile_ns(&mut times_ns, 100.0));
    println!(
        "old {:>5} MB, writes into {:>5} MB: {} minor collections, p50 {:.3} ms, max {:.3} ms CPU",
        old_bytes / 1_000_000,
        spread_bytes.div_ceil(1_000_000),
        times_ns.len(),
        p50 as f64 / 1e6,
        max as f64 / 1e6
    );
    Ok(())
}

fn main() -> Result<(), LimitReached> {
    for old_bytes in [10_000_000, 100_000_000, 1_000_000_000] {
        run(old_bytes, PART_BYTES)?;
        run(old_bytes, old_bytes)?;
    }
    Ok(())
}
