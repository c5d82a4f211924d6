//! What an operation costs: ours beside a hand-written floor, and with the feature `peers` beside
//! other crates.
//!
//! Question: are the hot paths as short as those written by hand? Expected: linear and pool equal
//! to the floor, handles below slotmap.
//!
//! `region_costs` prints nanoseconds, medians of alternating rounds, filling not counted; `region_costs instructions`
//! also runs itself under valgrind's callgrind, twice a row with different counts, and prints the
//! difference per operation, loop included. `region_costs ROW SUBJECT COUNT` runs one once.

use std::alloc::Layout;
use std::env;
use std::hint::black_box;
use std::process::Command;
use std::ptr::NonNull;
use std::time::{Duration, Instant};

use heapwright_regions::{AnonymousPages, Buddy, HandlePool, Linear, Pool, Tails, Upstream};
use heapwright_testkit::Random;

/// Operations of one timed round.
const OPERATIONS: usize = 1_000_000;
const ROUNDS: usize = 7;
/// Blocks between two resets of an arena.
const BATCH: usize = 1000;
const POOL_SMALL: usize = 1000;
const POOL_LARGE: usize = 100_000;

type Row = (&'static str, &'static [(&'static str, fn(usize) -> Duration)]);

const ROWS: &[Row] = &[
    (
        "linear_u64",
        &[
            ("floor", linear_floor),
            ("heapwright", linear_ours),
            #[cfg(feature = "peers")]
            ("bump-scope", peers::linear_bump_scope),
            #[cfg(feature = "peers")]
            ("bumpalo", peers::linear_bumpalo),
        ],
    ),
    (
        "linear_cold_64B",
        &[
            ("heapwright", cold_ours),
            #[cfg(feature = "peers")]
            ("bump-scope", peers::cold_bump_scope),
            #[cfg(feature = "peers")]
            ("bumpalo", peers::cold_bumpalo),
        ],
    ),
    (
        "pool_64B_1K",
        &[
            ("floor", |count| pool_floor(count, POOL_SMALL)),
            ("heapwright", |count| pool_ours(count, POOL_SMALL)),
            #[cfg(feature = "peers")]
            ("slab", |count| peers::pool_slab(count, POOL_SMALL)),
        ],
    ),
    (
        "pool_64B_100K",
        &[
            ("floor", |count| pool_floor(count, POOL_LARGE)),
            ("heapwright", |count| pool_ours(count, POOL_LARGE)),
            ("heapwright-bounded", |count| pool_bounded(count, POOL_LARGE)),
            #[cfg(feature = "peers")]
            ("slab", |count| peers::pool_slab(count, POOL_LARGE)),
        ],
    ),
    (
        "handles_replace_100K",
        &[
            ("heapwright", handles_ours),
            #[cfg(feature = "peers")]
            ("slotmap", peers::handles_slotmap),
        ],
    ),
    (
        "handles_get_100K",
        &[
            ("heapwright", get_ours),
            #[cfg(feature = "peers")]
            ("slotmap", peers::get_slotmap),
        ],
    ),
    (
        "buddy_pow2_2500",
        &[
            ("heapwright", |count| buddy_ours(count, Tails::Keep)),
            ("heapwright-trim", |count| buddy_ours(count, Tails::Trim)),
        ],
    ),
];

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let [row, subject, count] = arguments.as_slice() {
        let count = count.parse().expect("a count");
        let (_, subjects) = ROWS.iter().find(|(name, _)| name == row).expect("a row");
        let (_, run) = subjects.iter().find(|(name, _)| name == subject).expect("a subject");
        run(count);
        return;
    }
    let counting = arguments.iter().any(|argument| argument == "instructions");
    println!("{:<22} {:<16} {:>9} {:>9} {:>7}", "row", "subject", "ns/op", "min", "instr");
    for (row, subjects) in ROWS {
        let mut times = vec![Vec::new(); subjects.len()];
        for _ in 0..ROUNDS {
            for ((_, run), times) in subjects.iter().zip(&mut times) {
                times.push(run(OPERATIONS).as_secs_f64() * 1e9 / OPERATIONS as f64);
            }
        }
        for ((subject, _), times) in subjects.iter().zip(&mut times) {
            times.sort_by(f64::total_cmp);
            let instructions = if counting { instructions(row, subject) } else { None };
            let instructions = instructions.map_or("-".into(), |count| format!("{count:.1}"));
            let (median, least) = (times[ROUNDS / 2], times[0]);
            println!("{row:<22} {subject:<16} {median:>9.2} {least:>9.2} {instructions:>7}");
        }
    }
}

/// Instructions an operation, by callgrind, if it is installed.
fn instructions(row: &str, subject: &str) -> Option<f64> {
    const COUNTS: [u64; 2] = [200_000, 400_000];
    let collected = |count: u64| {
        let output = Command::new("valgrind")
            .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
            .arg(env::current_exe().ok()?)
            .args([row, subject, &count.to_string()])
            .output()
            .ok()?;
        let text = String::from_utf8(output.stderr).ok()?;
        text.split("Collected :").nth(1)?.split_whitespace().next()?.parse::<u64>().ok()
    };
    let (less, more) = (collected(COUNTS[0])?, collected(COUNTS[1])?);
    Some((more - less) as f64 / (COUNTS[1] - COUNTS[0]) as f64)
}

/// A bump pointer as one would write it for one type.
struct Cursor {
    next: *mut u64,
    end: *mut u64,
}

#[inline(never)]
fn bump_floor(cursor: &mut Cursor, value: u64) -> Option<&mut u64> {
    if cursor.next == cursor.end {
        return None;
    }
    let place = cursor.next;
    // SAFETY: below the end of the buffer.
    cursor.next = unsafe { place.add(1) };
    // SAFETY: as above; each place is given once a round.
    unsafe { place.write(value) };
    // SAFETY: written above.
    Some(unsafe { &mut *place })
}

fn linear_floor(count: usize) -> Duration {
    let mut buffer = vec![0u64; BATCH];
    let start = Instant::now();
    for _ in 0..count / BATCH {
        let range = buffer.as_mut_ptr_range();
        let mut cursor = Cursor { next: range.start, end: range.end };
        for number in 0..BATCH as u64 {
            black_box(bump_floor(&mut cursor, number));
        }
    }
    start.elapsed()
}

#[inline(never)]
fn bump_ours(arena: &Linear<AnonymousPages>, value: u64) -> &mut u64 {
    arena.alloc(value)
}

fn linear_ours(count: usize) -> Duration {
    let mut arena = Linear::new();
    let start = Instant::now();
    for _ in 0..count / BATCH {
        for number in 0..BATCH as u64 {
            black_box(bump_ours(&arena, number));
        }
        arena.reset();
    }
    start.elapsed()
}

fn cold_ours(count: usize) -> Duration {
    let arena = Linear::new();
    let start = Instant::now();
    for number in 0..count as u64 {
        black_box(arena.alloc([number; 8]));
    }
    start.elapsed()
}

/// Frees a random block and takes one, `count` times, with `live` blocks.
fn churn<B: Copy>(
    count: usize,
    live: usize,
    mut take: impl FnMut() -> B,
    mut give: impl FnMut(B),
) -> Duration {
    let mut random = Random::new(1);
    let mut blocks: Vec<B> = (0..live).map(|_| take()).collect();
    // Until caches and address translation know the blocks.
    replace(2 * live, &mut random, &mut blocks, &mut take, &mut give);
    let start = Instant::now();
    replace(count, &mut random, &mut blocks, &mut take, &mut give);
    let elapsed = start.elapsed();
    blocks.into_iter().for_each(give);
    elapsed
}

#[inline(never)]
fn replace<B: Copy>(
    count: usize,
    random: &mut Random,
    blocks: &mut [B],
    take: &mut impl FnMut() -> B,
    give: &mut impl FnMut(B),
) {
    for _ in 0..count {
        let index = random.below(blocks.len() as u64) as usize;
        give(blocks[index]);
        blocks[index] = take();
    }
}

/// An intrusive list as one would write it for one size.
struct List {
    free: Option<NonNull<Link>>,
    next: usize,
    memory: Vec<Link>,
}

#[repr(align(64))]
#[derive(Clone)]
struct Link(Option<NonNull<Link>>);

fn pool_floor(count: usize, live: usize) -> Duration {
    let list =
        std::cell::RefCell::new(List { free: None, next: 0, memory: vec![Link(None); live] });
    let list = list.as_ptr();
    let take = || {
        // SAFETY: the only reference, in one thread; likewise below.
        let list = unsafe { &mut *list };
        match list.free {
            Some(link) => {
                // SAFETY: a free slot of `memory`.
                list.free = unsafe { link.as_ref() }.0;
                link
            }
            None => {
                list.next += 1;
                NonNull::from(&mut list.memory[list.next - 1])
            }
        }
    };
    let give = |mut link: NonNull<Link>| {
        // SAFETY: as in `take`.
        let list = unsafe { &mut *list };
        // SAFETY: a live slot of `memory`, given up.
        unsafe { link.as_mut() }.0 = list.free;
        list.free = Some(link);
    };
    churn(count, live, take, give)
}

fn pool_ours(count: usize, live: usize) -> Duration {
    let layout = Layout::from_size_align(64, 64).expect("a layout");
    let pool: Pool<_> = Pool::new_in(AnonymousPages, layout);
    let take = || pool.alloc().expect("memory");
    // SAFETY: `churn` gives each block back once.
    churn(count, live, take, |block| unsafe { pool.free(block) })
}

fn pool_bounded(count: usize, live: usize) -> Duration {
    let layout = Layout::from_size_align(64, 64).expect("a layout");
    let upstream = Upstream(std::alloc::System);
    let pool = Pool::bounded(upstream, layout, live).expect("memory");
    let take = || pool.alloc().expect("bounded by its use");
    // SAFETY: `churn` gives each block back once.
    churn(count, live, take, |block| unsafe { pool.free(block) })
}

/// With a generation, one cache line.
type Item = [u64; 7];

fn handles_ours(count: usize) -> Duration {
    let mut pool = HandlePool::new_in(AnonymousPages);
    let mut random = Random::new(1);
    let mut keys: Vec<_> =
        (0..POOL_LARGE).map(|n| pool.insert([n as u64; 7]).expect("memory")).collect();
    let start = Instant::now();
    for _ in 0..count {
        let index = random.below(POOL_LARGE as u64) as usize;
        let item: Item = pool.remove(keys[index]).expect("live");
        keys[index] = pool.insert(item).expect("memory");
    }
    start.elapsed()
}

fn get_ours(count: usize) -> Duration {
    let mut pool: HandlePool<Item, _> = HandlePool::new_in(AnonymousPages);
    let mut random = Random::new(1);
    let keys: Vec<_> =
        (0..POOL_LARGE).map(|n| pool.insert([n as u64; 7]).expect("memory")).collect();
    let mut sum = 0;
    let start = Instant::now();
    for _ in 0..count {
        let key = keys[random.below(POOL_LARGE as u64) as usize];
        sum += pool.get(key).expect("live")[0];
    }
    let elapsed = start.elapsed();
    black_box(sum);
    elapsed
}

fn buddy_ours(count: usize, tails: Tails) -> Duration {
    let heap: Buddy<_> = Buddy::new_in(AnonymousPages, 64 << 20, 32, tails).expect("memory");
    let mut random = Random::new(2);
    let take = || {
        let layout = Layout::from_size_align(32 << random.below(12), 8).expect("a layout");
        (heap.try_alloc(layout).expect("room"), layout)
    };
    churn(count, 2500, take, |(block, layout)| {
        // SAFETY: `churn` gives each block back once.
        unsafe { heap.free(block, layout) }.expect("live");
    })
}

#[cfg(feature = "peers")]
mod peers {
    use super::{BATCH, Duration, Instant, Item, POOL_LARGE, Random, black_box, churn};

    #[inline(never)]
    fn bump_bumpalo(arena: &bumpalo::Bump<8>, value: u64) -> &mut u64 {
        arena.alloc(value)
    }

    pub(super) fn linear_bumpalo(count: usize) -> Duration {
        let mut arena = bumpalo::Bump::<8>::with_min_align();
        let start = Instant::now();
        for _ in 0..count / BATCH {
            for number in 0..BATCH as u64 {
                black_box(bump_bumpalo(&arena, number));
            }
            arena.reset();
        }
        start.elapsed()
    }

    pub(super) fn cold_bumpalo(count: usize) -> Duration {
        let arena = bumpalo::Bump::<8>::with_min_align();
        let start = Instant::now();
        for number in 0..count as u64 {
            black_box(arena.alloc([number; 8]));
        }
        start.elapsed()
    }

    type Scope = bump_scope::Bump<bump_scope::alloc::Global, bump_scope::settings::BumpSettings<8>>;

    #[inline(never)]
    fn bump_bump_scope(arena: &Scope, value: u64) -> &mut u64 {
        bump_scope::BumpBox::leak(arena.alloc(value))
    }

    pub(super) fn linear_bump_scope(count: usize) -> Duration {
        let mut arena = Scope::new();
        let start = Instant::now();
        for _ in 0..count / BATCH {
            for number in 0..BATCH as u64 {
                black_box(bump_bump_scope(&arena, number));
            }
            arena.reset();
        }
        start.elapsed()
    }

    pub(super) fn cold_bump_scope(count: usize) -> Duration {
        let arena = Scope::new();
        let start = Instant::now();
        for number in 0..count as u64 {
            black_box(bump_scope::BumpBox::leak(arena.alloc([number; 8])));
        }
        start.elapsed()
    }

    pub(super) fn pool_slab(count: usize, live: usize) -> Duration {
        let slab = std::cell::RefCell::new(slab::Slab::new());
        let take = || slab.borrow_mut().insert([0u64; 7]);
        churn(count, live, take, |key| {
            slab.borrow_mut().remove(key);
        })
    }

    pub(super) fn handles_slotmap(count: usize) -> Duration {
        let mut map = slotmap::SlotMap::new();
        let mut random = Random::new(1);
        let mut keys: Vec<_> = (0..POOL_LARGE).map(|n| map.insert([n as u64; 7])).collect();
        let start = Instant::now();
        for _ in 0..count {
            let index = random.below(POOL_LARGE as u64) as usize;
            let item: Item = map.remove(keys[index]).expect("live");
            keys[index] = map.insert(item);
        }
        start.elapsed()
    }

    pub(super) fn get_slotmap(count: usize) -> Duration {
        let mut map = slotmap::SlotMap::new();
        let mut random = Random::new(1);
        let keys: Vec<_> = (0..POOL_LARGE).map(|n| map.insert([n as u64; 7])).collect();
        let mut sum = 0;
        let start = Instant::now();
        for _ in 0..count {
            sum += map.get(keys[random.below(POOL_LARGE as u64) as usize]).expect("live")[0];
        }
        let elapsed = start.elapsed();
        black_box(sum);
        elapsed
    }
}
