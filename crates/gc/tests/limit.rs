//! No heap holds more than its limit, whatever the program does and whatever the collector copies.

mod collecting;

use collecting::COLLECTORS;
use heapwright_gc::{
    Collector, Config, External, Gc, GcCell, Heap, LimitReached, Mutation, Trace, rootable,
};
use heapwright_testkit::Random;

const LIMITS_BYTES: [usize; 2] = [1 << 20, 4 << 20];
const SLOTS: u64 = 256;

#[derive(Trace)]
struct Block<'gc> {
    words: Gc<'gc, [u64]>,
    next: GcCell<Option<Gc<'gc, Block<'gc>>>>,
}

type Slot<'gc> = GcCell<Option<Gc<'gc, Block<'gc>>>>;
type Table = rootable!['gc => GcCell<Option<Gc<'gc, [Slot<'gc>]>>>];

/// Puts a chain of a few blocks into a slot: small ones, those of several lines and large ones.
fn push<'gc>(
    mu: &Mutation<'gc>,
    slots: &[Slot<'gc>],
    random: &mut Random,
) -> Result<(), LimitReached> {
    let slot = &slots[random.below(SLOTS) as usize];
    for _ in 0..1 + random.below(20) {
        let words = match random.below(40) {
            0 => 1 + random.below(8 << 10),
            1..10 => 20 + random.below(500),
            _ => 1 + random.below(10),
        };
        let words = mu.alloc_slice(words as usize, |index| Ok(index as u64))?;
        let next = GcCell::new(if random.below(4) == 0 { slot.get() } else { None });
        slot.set(mu, Some(mu.alloc(Block { words, next })?));
    }
    Ok(())
}

/// Runs a random program that wants more than the limit; returns how often it was refused.
fn refusals(collector: Collector, limit_bytes: usize, seed: u64) -> u64 {
    let config = Config { limit_bytes, verify: false, ..Config::with(collector) };
    let mut heap = Heap::<Table>::new(config, |_| GcCell::new(None)).expect("addresses");
    heap.mutate(|mu, root| {
        root.set(mu, mu.alloc_slice(SLOTS as usize, |_| Ok(GcCell::new(None))).ok());
    });
    let mut random = Random::new(seed);
    let mut outside: Vec<External> = Vec::new();
    let steps = limit_bytes >> 10;
    for step in 0..steps {
        let refused = heap.mutate(|mu, root| {
            let slots = root.get().expect("was stored");
            if random.below(10) == 0 {
                outside.extend(mu.external(random.below(limit_bytes as u64 / 32) as usize));
            }
            push(mu, &slots, &mut random).is_err()
        });
        let statistics = heap.statistics();
        assert!(
            statistics.occupied_bytes.max(statistics.occupied_bytes_max) <= limit_bytes,
            "{collector:?}, seed {seed}, step {step}: {statistics:?}"
        );
        // What is live may be all that there is room for: let go of some.
        if refused || random.below(200) == 0 {
            outside.truncate(outside.len() / 2);
            heap.mutate(|mu, root| {
                let slots = root.get().expect("was stored");
                for _ in 0..SLOTS / 4 {
                    slots[random.below(SLOTS) as usize].set(mu, None);
                }
            });
        }
    }
    let statistics = heap.statistics();
    assert!(statistics.full_collections > 0, "{collector:?}: {statistics:?}");
    statistics.refusals
}

#[test]
fn no_heap_is_ever_over_its_limit() {
    for collector in COLLECTORS {
        for limit_bytes in LIMITS_BYTES {
            let refused: u64 = (1..=3).map(|seed| refusals(collector, limit_bytes, seed)).sum();
            assert!(refused > 0, "{collector:?}, {limit_bytes}: the program wanted less");
        }
    }
}
