//! Values under keys: replacing, looking up, walking.

use std::hint::black_box;
use std::time::Instant;

use heapwright_os::cycle_counter;
use heapwright_regions::{
    AnonymousPages, Brand, CompactingPool, DensePool, HandlePool, Lazy, ScopedPool, with_brand,
};
use heapwright_testkit::Random;

use super::measure::{Mode, Probe, Process, Workload, ours, peer, subject};

/// With a generation, one cache line.
type Item = [u64; 7];
const LIVE: usize = 100_000;
const DRAWS: usize = 1 << 16;
/// Each draw twice before the clock runs: a fresh map's pages and lines come in once, and how they
/// do is the row of cold starts, not of keys.
const WARM: usize = 2 * DRAWS;
/// Without huge pages: each small one at its first touch.
type PlainPages = Lazy<AnonymousPages>;
const PLAIN: PlainPages = Lazy::new(AnonymousPages);

pub(crate) fn workloads() -> Vec<Workload> {
    vec![
        Workload {
            name: "keys_replace_100K",
            count: 1_000_000,
            process: Process::Shared,
            subjects: vec![
                ours!("", replace_ours),
                ours!("plain pages", replace_plain),
                ours!("scoped", |probe| with_brand(|brand| replace_scoped(probe, brand))),
                ours!("scoped, plain pages", |probe| {
                    with_brand(|brand| replace_scoped_plain(probe, brand))
                }),
                ours!("without gaps", replace_ours_dense),
                ours!("compacting", replace_compacting),
                peer!("slotmap", replace_slotmap),
                subject!("slotmap", "slotmap", "dense", replace_dense),
                peer!("slab", replace_slab),
                peer!("sharded-slab", replace_sharded),
            ],
        },
        Workload {
            name: "keys_get_100K",
            count: 2_000_000,
            process: Process::Shared,
            subjects: vec![
                subject!("floor", "", "pointers", get_pointers),
                ours!("", get_ours),
                ours!("plain pages", get_plain),
                ours!("scoped", |probe| with_brand(|brand| get_scoped(probe, brand))),
                ours!("scoped, plain pages", |probe| {
                    with_brand(|brand| get_scoped_plain(probe, brand))
                }),
                ours!("without gaps", get_ours_dense),
                ours!("compacting", get_compacting),
                peer!("slotmap", get_slotmap),
                subject!("slotmap", "slotmap", "dense", get_dense),
                peer!("slab", get_slab),
            ],
        },
        Workload {
            name: "keys_get_batched_1M",
            count: 2_000_000,
            process: Process::Shared,
            subjects: vec![
                ours!("one by one", get_many_single),
                ours!("get_many", get_many_batched),
            ],
        },
        Workload {
            name: "keys_walk_half_full",
            count: 1_000_000,
            process: Process::Shared,
            subjects: vec![
                ours!("", walk_ours),
                ours!("plain pages", walk_plain),
                ours!("scoped", |probe| with_brand(|brand| walk_scoped(probe, brand))),
                ours!("without gaps", walk_ours_dense),
                ours!("without gaps, plain pages", walk_plain_dense),
                ours!("compacting", walk_compacting),
                peer!("slotmap", walk_slotmap),
                subject!("slotmap", "slotmap", "dense", walk_dense),
                peer!("slab", walk_slab),
            ],
        },
    ]
}

fn draws(below: usize) -> Vec<u32> {
    let random = &mut Random::new(1);
    (0..DRAWS).map(|_| random.below(below as u64) as u32).collect()
}

/// [`Probe::each_warm`] with the operation written into each of its loops: a closure is inlined for
/// one subject and called for the next, as the compiler thinks, and a call is a third of these.
macro_rules! each_inlined {
    ($probe:expr, $rounds:expr, $index:ident, $operation:block) => {{
        for $index in 0..$rounds {
            $operation
        }
        match is_sampled($probe) {
            false => {
                let start = Instant::now();
                for $index in 0..$probe.count {
                    $operation
                }
                $probe.elapsed += start.elapsed();
            }
            true => {
                for $index in 0..$probe.count {
                    let start = cycle_counter();
                    $operation
                    $probe.sample(start);
                }
            }
        }
    }};
}

fn is_sampled<M: Mode>(_: &Probe<M>) -> bool {
    M::IS_SAMPLED
}

/// Adds up the first words of `values`, and tells `seen` of each.
#[inline(always)]
fn sum_of<'a>(values: impl Iterator<Item = &'a Item>, mut seen: impl FnMut()) -> u64 {
    let first = |item: &Item| {
        seen();
        item[0]
    };
    values.map(first).sum()
}

/// The same of a pool that lends its values one by one.
#[inline(always)]
fn sum_of_compacted(map: &mut CompactingPool<Item, AnonymousPages>, mut seen: impl FnMut()) -> u64 {
    let mut sum = 0;
    map.for_each_mut(|_, item| {
        seen();
        sum += item[0];
    });
    sum
}

/// What a map must do here, so that each workload is written once.
macro_rules! keyed {
    ($([$life:lifetime, $brand:ident])? $replace:ident, $get:ident, $walk:ident, $make:expr,
     $insert:expr, $remove:expr, $lookup:expr, $values:expr) => {
        #[allow(dead_code, reason = "some are asked about other workloads only")]
        fn $replace$(<$life>)?(probe: &mut Probe<impl Mode> $(, $brand: Brand<$life>)?) {
            let draws = draws(LIVE);
            let mut map = $make;
            let mut keys: Vec<_> = (0..LIVE as u64).map(|n| $insert(&mut map, [n; 7])).collect();
            each_inlined!(probe, WARM, index, {
                let key = &mut keys[draws[index % DRAWS] as usize];
                let item: Item = $remove(&mut map, *key);
                *key = $insert(&mut map, item);
            });
        }

        #[allow(dead_code, reason = "some are asked about other workloads only")]
        fn $get$(<$life>)?(probe: &mut Probe<impl Mode> $(, $brand: Brand<$life>)?) {
            let draws = draws(LIVE);
            let mut map = $make;
            let keys: Vec<_> = (0..LIVE as u64).map(|n| $insert(&mut map, [n; 7])).collect();
            let mut sum = 0;
            each_inlined!(probe, WARM, index, {
                sum += $lookup(&map, keys[draws[index % DRAWS] as usize]);
            });
            black_box(sum);
        }

        #[allow(dead_code, reason = "some are asked about other workloads only")]
        fn $walk$(<$life>)?(probe: &mut Probe<impl Mode> $(, $brand: Brand<$life>)?) {
            let mut map = $make;
            let keys: Vec<_> = (0..LIVE as u64).map(|n| $insert(&mut map, [n; 7])).collect();
            let random = &mut Random::new(2);
            let mut left = LIVE;
            for key in keys {
                if random.below(2) == 0 {
                    let _: Item = $remove(&mut map, key);
                    left -= 1;
                }
            }
            let rounds = probe.count / left + 1;
            let mut sum = $values(&mut map, || ());
            // An operation is one live value.
            if is_sampled(probe) {
                for _ in 0..rounds {
                    let mut start = cycle_counter();
                    sum += $values(&mut map, || {
                        probe.sample(start);
                        start = cycle_counter();
                    });
                }
            } else {
                let start = Instant::now();
                for _ in 0..rounds {
                    sum += $values(&mut map, || ());
                }
                let elapsed = start.elapsed();
                probe.elapsed += elapsed.mul_f64(probe.count as f64 / (rounds * left) as f64);
            }
            black_box(sum);
        }
    };
}

keyed!(
    replace_ours,
    get_ours,
    walk_ours,
    HandlePool::<Item, _>::new_in(AnonymousPages),
    |map: &mut HandlePool<Item, _>, item| map.insert(item).expect("memory"),
    |map: &mut HandlePool<Item, AnonymousPages>, key| map.remove(key).expect("live"),
    |map: &HandlePool<Item, _>, key| map.get(key).expect("live")[0],
    |map: &HandlePool<Item, _>, seen| sum_of(map.values(), seen)
);
keyed!(
    replace_plain,
    get_plain,
    walk_plain,
    HandlePool::<Item, _>::new_in(PLAIN),
    |map: &mut HandlePool<Item, _>, item| map.insert(item).expect("memory"),
    |map: &mut HandlePool<Item, PlainPages>, key| map.remove(key).expect("live"),
    |map: &HandlePool<Item, _>, key| map.get(key).expect("live")[0],
    |map: &HandlePool<Item, _>, seen| sum_of(map.values(), seen)
);
keyed!(
    ['id, brand]
    replace_scoped_plain,
    get_scoped_plain,
    walk_scoped_plain,
    ScopedPool::<'id, Item, _>::new_in(brand, PLAIN),
    |map: &mut ScopedPool<'id, Item, _>, item| map.insert(item).expect("memory"),
    |map: &mut ScopedPool<'id, Item, PlainPages>, key| map.remove(key).expect("live"),
    |map: &ScopedPool<'id, Item, _>, key| map.get(key).expect("live")[0],
    |map: &ScopedPool<'id, Item, _>, seen| sum_of(map.values(), seen)
);
keyed!(
    ['id, brand]
    replace_scoped,
    get_scoped,
    walk_scoped,
    ScopedPool::<'id, Item, _>::new_in(brand, AnonymousPages),
    |map: &mut ScopedPool<'id, Item, _>, item| map.insert(item).expect("memory"),
    |map: &mut ScopedPool<'id, Item, AnonymousPages>, key| map.remove(key).expect("live"),
    |map: &ScopedPool<'id, Item, _>, key| map.get(key).expect("live")[0],
    |map: &ScopedPool<'id, Item, _>, seen| sum_of(map.values(), seen)
);
keyed!(
    replace_ours_dense,
    get_ours_dense,
    walk_ours_dense,
    DensePool::<Item, _>::new_in(AnonymousPages),
    |map: &mut DensePool<Item, _>, item| map.insert(item).expect("memory"),
    |map: &mut DensePool<Item, AnonymousPages>, key| map.remove(key).expect("live"),
    |map: &DensePool<Item, _>, key| map.get(key).expect("live")[0],
    |map: &DensePool<Item, _>, seen| sum_of(map.values().iter(), seen)
);
keyed!(
    replace_plain_dense,
    get_plain_dense,
    walk_plain_dense,
    DensePool::<Item, _>::new_in(PLAIN),
    |map: &mut DensePool<Item, _>, item| map.insert(item).expect("memory"),
    |map: &mut DensePool<Item, PlainPages>, key| map.remove(key).expect("live"),
    |map: &DensePool<Item, _>, key| map.get(key).expect("live")[0],
    |map: &DensePool<Item, _>, seen| sum_of(map.values().iter(), seen)
);
keyed!(
    replace_compacting,
    get_compacting,
    walk_compacting,
    CompactingPool::<Item, _>::new_in(AnonymousPages),
    |map: &mut CompactingPool<Item, _>, item| map.insert(item).expect("memory"),
    |map: &mut CompactingPool<Item, AnonymousPages>, key| map.remove(key).expect("live"),
    |map: &CompactingPool<Item, _>, key| map.pin(key).expect("live")[0],
    |map: &mut CompactingPool<Item, _>, seen| {
        // As it is after a program's frames.
        map.compact();
        sum_of_compacted(map, seen)
    }
);
type SlotMap = slotmap::SlotMap<slotmap::DefaultKey, Item>;
keyed!(
    replace_slotmap,
    get_slotmap,
    walk_slotmap,
    SlotMap::new(),
    |map: &mut SlotMap, item| map.insert(item),
    |map: &mut SlotMap, key| map.remove(key).expect("live"),
    |map: &SlotMap, key| map.get(key).expect("live")[0],
    |map: &SlotMap, seen| sum_of(map.values(), seen)
);
type Dense = slotmap::DenseSlotMap<slotmap::DefaultKey, Item>;
keyed!(
    replace_dense,
    get_dense,
    walk_dense,
    Dense::new(),
    |map: &mut Dense, item| map.insert(item),
    |map: &mut Dense, key| map.remove(key).expect("live"),
    |map: &Dense, key| map.get(key).expect("live")[0],
    |map: &Dense, seen| sum_of(map.values(), seen)
);
type Slab = slab::Slab<Item>;
keyed!(
    replace_slab,
    get_slab,
    walk_slab,
    Slab::new(),
    |map: &mut Slab, item| map.insert(item),
    |map: &mut Slab, key| map.remove(key),
    |map: &Slab, key| map.get(key).expect("live")[0],
    |map: &Slab, seen| sum_of(map.iter().map(|(_, item)| item), seen)
);
type Sharded = sharded_slab::Slab<Item>;
keyed!(
    replace_sharded,
    get_sharded,
    walk_sharded,
    Sharded::new(),
    |map: &mut Sharded, item| map.insert(item).expect("memory"),
    |map: &mut Sharded, key| map.take(key).expect("live"),
    |map: &Sharded, key| map.get(key).expect("live")[0],
    |_: &Sharded, seen| sum_of(std::iter::empty(), seen)
);

/// The chase of raw pointers that a look-up is measured by.
fn get_pointers(probe: &mut Probe<impl Mode>) {
    let draws = draws(LIVE);
    let mut items: Vec<[u64; 8]> = (0..LIVE as u64).map(|n| [n; 8]).collect();
    let keys: Vec<*const [u64; 8]> = items.iter_mut().map(|item| &raw const *item).collect();
    let mut sum = 0;
    each_inlined!(probe, WARM, index, {
        // SAFETY: an item of the vector.
        let item = unsafe { &*keys[draws[index % DRAWS] as usize] };
        sum += item[0];
    });
    black_box(sum);
}

/// A million values: well beyond the cache.
fn many(
    probe: &mut Probe<impl Mode>,
    mut sum_of: impl FnMut(
        &HandlePool<Item, AnonymousPages>,
        &[heapwright_regions::Handle<Item>],
    ) -> u64,
) {
    const MANY: usize = 1_000_000;
    const GROUP: usize = 256;
    let mut map = HandlePool::new_in(AnonymousPages);
    let keys: Vec<_> = (0..MANY as u64).map(|n| map.insert([n; 7]).expect("memory")).collect();
    let random = &mut Random::new(3);
    let wanted: Vec<_> =
        (0..probe.count).map(|_| keys[random.below(MANY as u64) as usize]).collect();
    let mut sum = 0;
    let start = Instant::now();
    for group in wanted.chunks(GROUP) {
        let begun = cycle_counter();
        sum += sum_of(&map, group);
        probe.sample_group(begun, group.len());
    }
    probe.elapsed += start.elapsed();
    black_box(sum);
}

fn get_many_single(probe: &mut Probe<impl Mode>) {
    many(probe, |map, keys| keys.iter().map(|key| work(map.get(*key))).sum());
}

fn get_many_batched(probe: &mut Probe<impl Mode>) {
    many(probe, |map, keys| {
        let mut sum = 0;
        map.get_many(keys, |item| sum += work(item));
        sum
    });
}

/// What a program does with a value: too much for the processor to look ahead of it.
#[inline(always)]
fn work(item: Option<&Item>) -> u64 {
    let mut sum = item.map_or(0, |item| item[0]);
    for _ in 0..24 {
        sum = sum.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17);
    }
    sum
}
