//! Arenas: the hot block, the cold start, growing vectors.

use std::hint::black_box;
use std::time::Instant;

use heapwright_regions::{
    AnonymousPages, Backing, HugePages, HugeWish, Kept, Lazy, Linear, Prefaulted, SharedLinear,
};

use super::floor::Cursor;
use super::measure::{Mode, Probe, Process, Subject, Workload, ours, peer, subject};

/// Blocks between two resets.
const BATCH: usize = 1000;
/// Pushes into each of the small vectors.
const PUSHES: usize = 16;

/// In steps of a huge page, from the first block on.
const HUGE: HugePages = HugePages::new(HugeWish::Advised);

type Bumpalo = bumpalo::Bump<8>;
type BumpScope = bump_scope::Bump<bump_scope::alloc::Global, bump_scope::settings::BumpSettings<8>>;
type Blink = blink_alloc::BlinkAlloc;

pub(crate) fn workloads() -> Vec<Workload> {
    let cold = |name, process, subjects| Workload { name, count: 10_000_000, process, subjects };
    vec![
        Workload {
            name: "linear_u64",
            count: 2_000_000,
            process: Process::Shared,
            subjects: vec![
                subject!("floor", "", "", hot_floor),
                ours!("", hot_ours),
                ours!("threads", hot_threads),
                peer!("bump-scope", hot_bump_scope),
                peer!("bumpalo", hot_bumpalo),
                peer!("blink-alloc", hot_blink),
                peer!("typed-arena", hot_typed_arena),
            ],
        },
        cold("linear_cold_8B", Process::Fresh, cold_subjects::<1>()),
        cold("linear_cold_64B", Process::Fresh, cold_subjects::<8>()),
        cold("linear_again_8B", Process::Shared, again_subjects::<1>()),
        cold("linear_again_64B", Process::Shared, again_subjects::<8>()),
        Workload {
            name: "linear_vecs_of_16",
            count: 1_600_000,
            process: Process::Shared,
            subjects: vec![
                ours!("", vecs_ours),
                peer!("bump-scope", vecs_bump_scope),
                peer!("bumpalo", vecs_bumpalo),
                peer!("blink-alloc", vecs_blink),
            ],
        },
    ]
}

/// The first arena of a process.
fn cold_subjects<const WORDS: usize>() -> Vec<Subject> {
    let mut subjects = vec![
        ours!("", |probe| cold_over::<_, WORDS>(probe, AnonymousPages)),
        ours!("plain pages", |probe| cold_over::<_, WORDS>(probe, Lazy::new(AnonymousPages))),
        ours!("huge pages", |probe| cold_over::<_, WORDS>(probe, HUGE)),
        ours!("prefaulted", |probe| {
            cold_over::<_, WORDS>(probe, Prefaulted::new(AnonymousPages));
        }),
    ];
    subjects.extend(cold_peers::<WORDS>());
    subjects
}

/// One more arena where there were others before: what those had, `malloc` has kept in part for
/// the peers, and [`Kept`] for ours.
fn again_subjects<const WORDS: usize>() -> Vec<Subject> {
    let mut subjects = vec![
        ours!("", |probe| cold_over::<_, WORDS>(probe, AnonymousPages)),
        ours!("kept", cold_kept::<WORDS>),
    ];
    subjects.extend(cold_peers::<WORDS>());
    subjects
}

fn cold_peers<const WORDS: usize>() -> [Subject; 3] {
    [
        peer!("bump-scope", cold_bump_scope::<WORDS>),
        peer!("bumpalo", cold_bumpalo::<WORDS>),
        peer!("blink-alloc", cold_blink::<WORDS>),
    ]
}

/// `count` times `one`, a reset after each batch.
fn hot<A>(probe: &mut Probe<impl Mode>, mut arena: A, one: fn(&A, u64), reset: fn(&mut A)) {
    let start = Instant::now();
    for _ in 0..probe.count / BATCH {
        probe.run(BATCH, |number| one(&arena, number as u64));
        reset(&mut arena);
    }
    probe.elapsed += start.elapsed();
}

fn hot_floor(probe: &mut Probe<impl Mode>) {
    let mut buffer = vec![0u64; BATCH];
    let start = Instant::now();
    for _ in 0..probe.count / BATCH {
        let mut cursor = Cursor::over(&mut buffer);
        probe.run(BATCH, |number| {
            black_box(cursor.alloc(number as u64));
        });
    }
    probe.elapsed += start.elapsed();
}

fn hot_ours(probe: &mut Probe<impl Mode>) {
    #[inline(never)]
    fn one(arena: &Linear<AnonymousPages>, value: u64) -> &mut u64 {
        arena.alloc(value)
    }
    hot(
        probe,
        Linear::new(),
        |arena, number| {
            black_box(one(arena, number));
        },
        Linear::reset,
    );
}

fn hot_threads(probe: &mut Probe<impl Mode>) {
    #[inline(never)]
    fn one<'a>(
        local: &heapwright_regions::LinearLocal<'a, AnonymousPages>,
        value: u64,
    ) -> Option<&'a mut u64> {
        local.alloc(value).ok()
    }
    let mut arena = SharedLinear::new_in(AnonymousPages, 1 << 30).expect("addresses");
    let start = Instant::now();
    for _ in 0..probe.count / BATCH {
        let local = arena.local();
        probe.run(BATCH, |number| {
            black_box(one(&local, number as u64));
        });
        arena.reset();
    }
    probe.elapsed += start.elapsed();
}

fn hot_bump_scope(probe: &mut Probe<impl Mode>) {
    #[inline(never)]
    fn one(arena: &BumpScope, value: u64) -> &mut u64 {
        bump_scope::BumpBox::leak(arena.alloc(value))
    }
    let reset = |arena: &mut BumpScope| arena.reset();
    hot(
        probe,
        BumpScope::new(),
        |arena, number| {
            black_box(one(arena, number));
        },
        reset,
    );
}

fn hot_bumpalo(probe: &mut Probe<impl Mode>) {
    #[inline(never)]
    fn one(arena: &Bumpalo, value: u64) -> &mut u64 {
        arena.alloc(value)
    }
    let arena = Bumpalo::with_min_align();
    hot(
        probe,
        arena,
        |arena, number| {
            black_box(one(arena, number));
        },
        Bumpalo::reset,
    );
}

fn hot_blink(probe: &mut Probe<impl Mode>) {
    #[inline(never)]
    fn one(arena: &blink_alloc::Blink, value: u64) -> &mut u64 {
        arena.put_no_drop(value)
    }
    let arena = blink_alloc::Blink::new();
    let reset = |arena: &mut blink_alloc::Blink| arena.reset();
    hot(
        probe,
        arena,
        |arena, number| {
            black_box(one(arena, number));
        },
        reset,
    );
}

fn hot_typed_arena(probe: &mut Probe<impl Mode>) {
    #[inline(never)]
    fn one(arena: &typed_arena::Arena<u64>, value: u64) -> &mut u64 {
        arena.alloc(value)
    }
    let arena = typed_arena::Arena::with_capacity(BATCH);
    let reset =
        |arena: &mut typed_arena::Arena<u64>| *arena = typed_arena::Arena::with_capacity(BATCH);
    hot(
        probe,
        arena,
        |arena, number| {
            black_box(one(arena, number));
        },
        reset,
    );
}

/// From nothing to `count` objects and back to nothing.
#[inline(always)]
fn cold<A>(probe: &mut Probe<impl Mode>, make: impl FnOnce() -> A, one: impl Fn(&A, usize)) {
    let start = Instant::now();
    let arena = make();
    probe.run(probe.count, |number| one(&arena, number));
    drop(arena);
    probe.elapsed += start.elapsed();
}

fn cold_over<B: Backing, const WORDS: usize>(probe: &mut Probe<impl Mode>, backing: B) {
    let make = || Linear::<B>::new_in(backing);
    cold(probe, make, |arena, number| {
        black_box(arena.alloc([number as u64; WORDS]));
    });
}

fn cold_kept<const WORDS: usize>(probe: &mut Probe<impl Mode>) {
    static WARM: Kept<AnonymousPages> = Kept::new(AnonymousPages, 1 << 30);
    cold_over::<_, WORDS>(probe, &WARM);
}

fn cold_bump_scope<const WORDS: usize>(probe: &mut Probe<impl Mode>) {
    cold(probe, BumpScope::new, |arena, number| {
        black_box(bump_scope::BumpBox::leak(arena.alloc([number as u64; WORDS])));
    });
}

fn cold_bumpalo<const WORDS: usize>(probe: &mut Probe<impl Mode>) {
    cold(probe, Bumpalo::with_min_align, |arena, number| {
        black_box(arena.alloc([number as u64; WORDS]));
    });
}

fn cold_blink<const WORDS: usize>(probe: &mut Probe<impl Mode>) {
    cold(probe, blink_alloc::Blink::new, |arena, number| {
        black_box(arena.put_no_drop([number as u64; WORDS]));
    });
}

/// Vectors of 16 numbers each, in an arena that is reset now and then; an operation is a push.
macro_rules! vecs {
    ($name:ident, $make:expr, $vec:path) => {
        fn $name(probe: &mut Probe<impl Mode>) {
            let mut arena = $make;
            let start = Instant::now();
            for round in 0..probe.count / PUSHES {
                let mut vec = $vec(&arena);
                probe.run(PUSHES, |number| vec.push(number as u64));
                black_box(vec.as_slice());
                drop(vec);
                if round % BATCH == BATCH - 1 {
                    arena.reset();
                }
            }
            probe.elapsed += start.elapsed();
        }
    };
}

use allocator_api2::vec::Vec as Vector;

vecs!(vecs_ours, Linear::<AnonymousPages>::new(), Vector::<u64, _>::new_in);
vecs!(vecs_bump_scope, BumpScope::new(), bump_scope::BumpVec::<u64, _>::new_in);
vecs!(vecs_bumpalo, bumpalo::Bump::new(), bumpalo::collections::Vec::<u64>::new_in);
vecs!(vecs_blink, Blink::new(), Vector::<u64, _>::new_in);
