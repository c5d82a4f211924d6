//! A capture with a memo gives what a capture without one gives, whatever happened in between,
//! each frame has the hash
//! of its path, and tags stay with the frames that they were given to. So does a path by a trail.
#![cfg(target_arch = "x86_64")]

mod shapes;

use heapwright_unwind::{Memo, PathHash, Registers, StackEnd, Trails};
use shapes::{FIRST_SHAPE, NAMES, Random, SAMPLE, THROW, play, shape};

/// Two memos, one of which is made to forget before each capture.
struct Pair {
    memo: Box<Memo>,
    plain: Box<Memo>,
    /// Asked for paths, with trails.
    other: Box<Memo>,
    trails: Box<Trails>,
    by_trail: usize,
    captures: usize,
    frames: usize,
    unchanged: usize,
}

impl Pair {
    fn new() -> Self {
        let memo = || Box::new(Memo::new());
        let trails = Box::new(Trails::new());
        let (captures, frames, unchanged, by_trail) = (0, 0, 0, 0);
        Self {
            memo: memo(),
            plain: memo(),
            other: memo(),
            trails,
            by_trail,
            captures,
            frames,
            unchanged,
        }
    }

    #[inline(never)]
    fn compare(&mut self) {
        let registers = Registers::current();
        // SAFETY: this thread's registers; this function goes on running.
        let capture = unsafe { self.memo.capture(registers) };
        self.plain.forget();
        // SAFETY: as above.
        let plain = unsafe { self.plain.capture(registers) };
        assert_eq!(capture.end, StackEnd::Complete);
        assert_eq!((capture.depth, capture.end), (plain.depth, plain.end));
        let key =
            |frame: &heapwright_unwind::Frame| (frame.return_address(), frame.stack_pointer());
        assert!(self.memo.frames().iter().map(key).eq(self.plain.frames().iter().map(key)));
        let mut path = PathHash::ROOT;
        for (index, frame) in self.memo.frames_mut().iter_mut().enumerate() {
            path = path.child(frame.return_address() as u64);
            assert_eq!(frame.path(), path, "frame {index} of {}", capture.depth);
            let tag = if index < capture.unchanged { path.bits() as u32 } else { 0 };
            assert_eq!(frame.tag, tag, "frame {index} of {}", capture.depth);
            frame.tag = path.bits() as u32;
        }
        assert_eq!(self.memo.path(), path);
        let before = self.other.path();
        // SAFETY: as above.
        let told = unsafe { self.other.capture_path(&mut self.trails, registers) };
        assert_eq!(told, (path, StackEnd::Complete));
        self.by_trail += usize::from(self.other.path() == before && before != path);
        self.captures += 1;
        self.frames += capture.depth;
        self.unchanged += capture.unchanged;
    }
}

/// A random call tree: calls, returns, samples and throws.
fn tree(random: &mut Random, operations: usize, shapes: &[u8]) -> Vec<u8> {
    (0..operations)
        .map(|_| match random.below(16) {
            0..6 => SAMPLE,
            6..11 => 0,
            11 => THROW,
            _ => shapes[random.below(shapes.len())],
        })
        .collect()
}

#[test]
fn on_random_call_trees() {
    let all: Vec<u8> = (0..NAMES.len() as u8).map(|index| FIRST_SHAPE + index).collect();
    let mut pair = Pair::new();
    for seed in 1..=120 {
        let mut random = Random(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed));
        let mut script = vec![FIRST_SHAPE; random.below(30)];
        script.extend(tree(&mut random, 1200, &all));
        play(&script, || pair.compare());
    }
    assert!(pair.captures > 30_000, "{}", pair.captures);
    assert!(pair.unchanged * 2 > pair.frames, "{} of {}", pair.unchanged, pair.frames);
}

#[test]
fn on_trees_of_ordinary_calls() {
    let names = ["plain", "twin", "busy", "arguments", "variable", "catch"];
    let shapes: Vec<u8> = names.iter().map(|name| shape(name)).collect();
    let mut pair = Pair::new();
    for seed in 1..=60 {
        let mut random = Random(0xd134_2543_de82_ef95_u64.wrapping_mul(seed));
        let mut script: Vec<u8> =
            (0..random.below(60)).map(|_| shapes[random.below(shapes.len())]).collect();
        script.extend(tree(&mut random, 1500, &shapes));
        play(&script, || pair.compare());
    }
    assert!(pair.captures > 15_000, "{}", pair.captures);
}

#[test]
fn when_an_outer_frame_is_exchanged_for_its_twin() {
    let (plain, twin, busy) = (shape("plain"), shape("twin"), shape("busy"));
    let mut pair = Pair::new();
    for round in 0..200 {
        // The inner calls are the same and lie at the same addresses; one outer call differs.
        let outer = if round % 2 == 0 { plain } else { twin };
        play(&[plain, outer, plain, busy, plain, plain, SAMPLE, SAMPLE], || pair.compare());
    }
    assert_eq!(pair.captures, 400);
}

#[test]
fn where_a_program_allocates_from_a_few_places_in_turn() {
    // Each ends with one return.
    let names = ["plain", "twin", "arguments", "large", "realigned", "catch"];
    let shapes: Vec<u8> = names.iter().map(|name| shape(name)).collect();
    let mut pair = Pair::new();
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let mut script = vec![shape("busy"); 12];
    script.push(shapes[0]);
    for _ in 0..4000 {
        // Two calls deep from where the outer ones stand, each a turn of a few.
        let (outer, inner) = (shapes[random.below(3)], shapes[3 + random.below(3)]);
        script.extend([outer, inner, SAMPLE, 0, 0]);
        // Now and then another outer stack under the same inner calls.
        if random.below(200) == 0 {
            script.extend([0, shapes[random.below(shapes.len())]]);
        }
    }
    play(&script, || pair.compare());
    assert_eq!(pair.captures, 4000);
    assert!(pair.by_trail > 1000, "{} paths by a trail", pair.by_trail);
}

#[test]
fn after_stale_frames_of_a_longjmp() {
    let (plain, catch, twin) = (shape("plain"), shape("catch"), shape("twin"));
    let mut pair = Pair::new();
    for round in 0..100 {
        let deep = [plain, catch, twin, plain, plain, SAMPLE, THROW, SAMPLE, plain, SAMPLE];
        let skip = if round % 3 == 0 { 2 } else { 0 };
        play(&deep[skip..], || pair.compare());
    }
    assert_eq!(pair.captures, 300);
}

#[test]
fn across_coroutines_and_signal_stacks() {
    let (plain, coroutine) = (shape("plain"), shape("coroutine"));
    let (signal, other) = (shape("signal"), shape("other_stack"));
    let mut pair = Pair::new();
    for _ in 0..50 {
        let script = [
            plain, SAMPLE, coroutine, plain, SAMPLE, SAMPLE, 0, SAMPLE, 0, SAMPLE, signal, plain,
            SAMPLE, 0, 0, SAMPLE, other, SAMPLE, plain, SAMPLE, 0, 0, SAMPLE, plain, SAMPLE,
        ];
        play(&script, || pair.compare());
    }
    assert!(pair.captures >= 500, "{}", pair.captures);
}

#[test]
fn in_stacks_deeper_than_the_limit() {
    use heapwright_unwind::{FRAME_COUNT_MAX, Truncation};
    let plain = shape("plain");
    let mut memo = Box::new(Memo::new());
    let mut fresh = Box::new(Memo::new());
    let mut script = Vec::new();
    for call in 0..3 * FRAME_COUNT_MAX / 2 {
        script.push(plain);
        if call % 7 == 0 {
            script.push(SAMPLE);
        }
    }
    for _ in 0..FRAME_COUNT_MAX {
        script.extend([0, SAMPLE]);
    }
    let (mut whole, mut cut) = (0, 0);
    play(&script, || {
        let registers = Registers::current();
        // SAFETY: this thread's registers; this function goes on running.
        let capture = unsafe { memo.capture(registers) };
        fresh.forget();
        // SAFETY: as above.
        let expected = unsafe { fresh.capture(registers) };
        assert_eq!((capture.depth, capture.end), (expected.depth, expected.end));
        let pairs = memo.frames().iter().zip(fresh.frames());
        assert!(pairs.into_iter().all(|(a, b)| a.return_address() == b.return_address()));
        match capture.end {
            StackEnd::Complete => whole += 1,
            StackEnd::Truncated(Truncation::LimitReached) => {
                assert_eq!(capture.depth, FRAME_COUNT_MAX);
                cut += 1;
            }
            other => panic!("{other:?}"),
        }
    });
    assert!(whole > 100 && cut > 100, "{whole} {cut}");
}
