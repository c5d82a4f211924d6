//! Every shape of frame is unwound to the same addresses that libgcc finds.
#![cfg(target_arch = "x86_64")]

mod shapes;

use heapwright_unwind::{Memo, Registers, StackEnd};
use shapes::{FIRST_SHAPE, NAMES, Random, SAMPLE, libgcc_backtrace, play};

/// Captures here and asserts that libgcc sees the same callers.
#[inline(never)]
fn compare(memo: &mut Memo) -> usize {
    // SAFETY: this thread's registers; this function goes on running.
    let capture = unsafe { memo.capture(Registers::current()) };
    let theirs = libgcc_backtrace();
    assert_eq!(capture.end, StackEnd::Complete);
    assert_eq!(capture.depth, memo.frames().len());
    let ours: Vec<usize> = memo.frames().iter().rev().map(|f| f.return_address()).collect();
    // The innermost is this function at two different calls.
    assert_eq!(format!("{:x?}", &ours[1..]), format!("{:x?}", &theirs[1..]));
    capture.depth
}

#[test]
fn each_shape_alone_and_twice() {
    for (index, name) in NAMES.iter().enumerate() {
        for count in [1, 2] {
            let mut script = vec![FIRST_SHAPE + index as u8; count];
            script.push(SAMPLE);
            let mut memo = Box::new(Memo::new());
            let mut depth = 0;
            play(&script, || depth = compare(&mut memo));
            assert!(depth >= count + 3, "{name}: {depth}");
        }
    }
}

#[test]
fn pairs_of_shapes_in_every_order() {
    let mut memo = Box::new(Memo::new());
    for outer in 0..NAMES.len() as u8 {
        for inner in 0..NAMES.len() as u8 {
            let script =
                [FIRST_SHAPE + outer, FIRST_SHAPE, FIRST_SHAPE + inner, FIRST_SHAPE + 1, SAMPLE];
            let mut samples = 0;
            play(&script, || {
                compare(&mut memo);
                samples += 1;
            });
            assert_eq!(samples, 1);
        }
    }
}

#[test]
fn random_stacks_up_to_a_hundred_deep() {
    let mut memo = Box::new(Memo::new());
    let mut random = Random(0x1234_5678_9abc_def1);
    let mut deepest = 0;
    for _ in 0..300 {
        let length = 1 + random.below(100);
        let mut script: Vec<u8> =
            (0..length).map(|_| FIRST_SHAPE + random.below(NAMES.len()) as u8).collect();
        script.push(SAMPLE);
        play(&script, || deepest = deepest.max(compare(&mut memo)));
    }
    assert!(deepest > 80, "{deepest}");
}

#[test]
fn the_first_thread_and_others_are_complete() {
    let mut memo = Box::new(Memo::new());
    assert!(compare(&mut memo) > 3);
    let depth = std::thread::spawn(|| compare(&mut Box::new(Memo::new()))).join().expect("runs");
    assert!(depth > 3);
}
