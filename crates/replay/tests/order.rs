//! Promise: the program's own threads, and the recorded order across them.

mod objects;
mod replaying;
mod synthetic;

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Mutex;

use heapwright_format::AllocKind;
use heapwright_replay::Shape;
use replaying::{options, row, run};
use synthetic::{Block, Program, Random, size};

/// What the observer saw in one run, the process's own start and end included.
struct Seen {
    threads: u64,
    allocs: u64,
    frees: u64,
    remote_frees: u64,
    bad_frees: u64,
    peak_bytes: u64,
}

/// Tests that use the observer one after the other: they say where it tells by environment.
static OBSERVER: Mutex<()> = Mutex::new(());

fn observe(folder: &Path, recording: &Path, shape: Shape) -> Seen {
    let _alone = OBSERVER.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let object = objects::build(folder, "observer", &[]);
    let told = folder.join("told");
    let mut options = options(&[&object]);
    options.shape = shape;
    // The program's name is a shell that sets the environment for the worker alone.
    let worker = options.worker.as_mut().expect("set by the helper");
    let script = format!("OBSERVER='{}' exec \"$0\" \"$@\"", told.display());
    let program = std::mem::replace(&mut worker.program, "/bin/sh".into());
    worker.arguments = vec!["-c".into(), script.into(), program.into()];
    let report = run(recording, &options).expect("a replay");
    row(&report, 0);
    assert_eq!(row(&report, 1).version, "1.0");
    let text = std::fs::read_to_string(&told).expect("the observer told");
    let numbers: Vec<u64> = text.split_whitespace().map(|n| n.parse().expect("number")).collect();
    let [threads, allocs, frees, remote_frees, bad_frees, peak_bytes] = numbers[..] else {
        panic!("the observer said {text}");
    };
    Seen { threads, allocs, frees, remote_frees, bad_frees, peak_bytes }
}

/// Producer and consumer with ten blocks between them: without the recorded order the producer
/// runs ahead and the peak grows; without the threads no free is another thread's.
#[test]
fn producer_and_consumer_keep_threads_and_order() {
    const BLOCKS: u64 = 60_000;
    const BLOCK_BYTES: u64 = 1000;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("pair.hwr");
    let mut program = Program::new(&path, 0);
    let mut queue = VecDeque::new();
    let own = program.malloc(0, 64);
    for _ in 0..BLOCKS {
        queue.push_back(program.malloc(1, BLOCK_BYTES));
        if queue.len() > 10 {
            let block = queue.pop_front().expect("eleven");
            program.free(2, block);
        }
    }
    for block in queue {
        program.free(2, block);
    }
    program.end_thread(1);
    program.end_thread(2);
    program.free(0, own);
    let peak_bytes = program.peak_bytes;
    program.finish();

    for shape in [Shape::default(), Shape::strict()] {
        let seen = observe(folder.path(), &path, shape);
        assert_eq!(seen.threads, 3);
        assert!(seen.remote_frees >= BLOCKS, "{} frees across threads", seen.remote_frees);
        assert!(seen.remote_frees < BLOCKS + 1000, "own blocks were freed by others");
        assert_eq!(seen.bad_frees, 0);
        assert!(seen.allocs - seen.frees < 100, "{} of {} freed", seen.frees, seen.allocs);
        // A window of events may be in flight beside the recorded ones; the worker's own start
        // takes some kilobytes.
        let window_events = if shape == Shape::strict() { 1 } else { 9 * 512 };
        let slack = window_events * BLOCK_BYTES + (64 << 10);
        assert!(seen.peak_bytes >= peak_bytes);
        assert!(seen.peak_bytes <= peak_bytes + slack, "{} > {peak_bytes}", seen.peak_bytes);
    }
}

/// A program of four threads that make, resize and free each other's blocks at random.
fn random_program(path: &Path, seed: u64, events: u64) -> (u64, u64) {
    let mut random = Random(seed);
    let mut program = Program::new(path, 1 << 16);
    let mut live: Vec<Block> = Vec::new();
    for _ in 0..events {
        let thread = random.below(4) as u32;
        if live.len() < 50 || random.below(100) < 48 {
            let size = size(&mut random);
            let (kind, align_log2) = match random.below(8) {
                0 => (AllocKind::Calloc, 0),
                1 => (AllocKind::PosixMemalign, 4 + random.below(6) as u8),
                2 => (AllocKind::New, 0),
                _ => (AllocKind::Malloc, 0),
            };
            live.push(program.alloc(thread, size, kind, align_log2));
            continue;
        }
        let index = random.below(live.len() as u64) as usize;
        let block = live.swap_remove(index);
        match random.below(6) {
            0 => {
                let size = size(&mut random);
                live.push(program.realloc(thread, block, size));
            }
            1 if block.size >= 1 << 16 => {
                program.touch(thread, block, &[(1, 3), (2, 5)]);
                live.push(block);
            }
            _ => program.free(thread, block),
        }
    }
    let (peak, operations) = (program.peak_bytes, program.operations);
    program.finish();
    (peak, operations)
}

#[test]
fn strict_order_gives_exactly_the_recorded_peak() {
    let folder = tempfile::tempdir().expect("a folder");
    for seed in [1, 22, 333] {
        let path = folder.path().join("random.hwr");
        let (peak, operations) = random_program(&path, seed, 6000);
        let mut options = options(&[]);
        options.shape = Shape::strict();
        let report = run(&path, &options).expect("a replay");
        let memory = row(&report, 0).memory.clone().expect("memory");
        assert_eq!(report.operations, operations, "seed {seed}");
        assert_eq!(report.peak_live_bytes, peak, "seed {seed}");
        assert_eq!(memory.counted_peak_live_bytes, peak, "seed {seed}");
        assert_eq!(row(&report, 0).threads, 4);
        assert!(report.handovers > 1000);
    }
}

/// `figures` refuses a run in which any sample's count of live blocks and bytes differs from the
/// recording's, so a row without failure is 400 such comparisons.
#[test]
fn random_programs_are_whole_at_every_sample() {
    let folder = tempfile::tempdir().expect("a folder");
    let object = objects::build(folder.path(), "observer", &[]);
    for seed in 1..6 {
        let path = folder.path().join("random.hwr");
        let (peak, _) = random_program(&path, 0x9e37 * seed, 40_000);
        let report = run(&path, &options(&[&object])).expect("a replay");
        for index in 0..2 {
            let memory = row(&report, index).memory.clone().expect("memory");
            assert!(memory.timeline.len() >= 300, "{} samples", memory.timeline.len());
            assert!(memory.counted_peak_live_bytes >= peak, "the peak itself is sampled");
            assert!(memory.peak_bytes > peak / 2);
        }
    }
}

#[test]
fn threads_come_and_go_as_recorded() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("threads.hwr");
    let mut program = Program::new(&path, 0);
    let kept = program.malloc(0, 100);
    for thread in 1..=600 {
        let mut blocks: Vec<Block> = (0..40).map(|_| program.malloc(thread, 200)).collect();
        let last = blocks.pop().expect("forty");
        blocks.into_iter().for_each(|block| program.free(thread, block));
        program.end_thread(thread);
        program.free(0, last);
    }
    program.free(0, kept);
    program.finish();
    let report = run(&path, &options(&[])).expect("a replay");
    let system = row(&report, 0);
    assert_eq!(report.threads, 601);
    assert_eq!(system.threads, 601);
    let at_once = system.memory.clone().expect("memory").threads_max;
    assert!((2..40).contains(&at_once), "{at_once} threads at once, where two were");
}
