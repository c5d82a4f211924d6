//! A capture with a memo gives what a capture without one gives, whatever happened in between,
//! and each frame has the hash of its path.
#![cfg(target_arch = "x86_64")]

mod shapes;

use heapwright_unwind::{Memo, PathHash, Registers, StackEnd};
use shapes::{FIRST_SHAPE, NAMES, Random, SAMPLE, THROW, play, shape};

/// Two memos, one of which is made to forget before each capture.
struct Pair {
    memo: Box<Memo>,
    plain: Box<Memo>,
    captures: usize,
    frames: usize,
    unchanged: usize,
}

impl Pair {
    fn new() -> Self {
        let (memo, plain) = (Box::new(Memo::new()), Box::new(Memo::new()));
        Self { memo, plain, captures: 0, frames: 0, unchanged: 0 }
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
        for (index, frame) in self.memo.frames().iter().enumerate() {
            path = path.child(frame.return_address() as u64);
            assert_eq!(frame.path(), path, "frame {index} of {}", capture.depth);
        }
        assert_eq!(self.memo.path(), path);
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
