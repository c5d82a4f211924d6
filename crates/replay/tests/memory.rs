//! Promise: blocks are touched as the program touched them, and nothing of the replay's own
//! counts as the program's memory.

mod replaying;
mod synthetic;

use std::path::Path;

use heapwright_format::AllocKind;
use heapwright_replay::MemoryFigures;
use replaying::{options, row, run};
use synthetic::Program;

const MIB: u64 = 1 << 20;
/// Pages of threads' stacks, of libc's arenas, of the allocator's own tables.
const SLACK_BYTES: u64 = MIB;

fn memory(path: &Path) -> MemoryFigures {
    let report = run(path, &options(&[])).expect("a replay");
    row(&report, 0).memory.clone().expect("memory")
}

fn assert_near(bytes: u64, expected: u64) {
    let low = expected.saturating_sub(expected / 50);
    assert!((low..=expected + SLACK_BYTES).contains(&bytes), "{bytes}, expected {expected}");
}

#[test]
fn pages_of_a_large_block_are_touched_as_far_as_the_recording_says() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("large.hwr");
    let mut program = Program::new(&path, MIB);
    let block = program.malloc(0, 64 * MIB);
    program.touch(0, block, &[(0, 1024), (1024, 256)]);
    let small: Vec<_> = (0..1000).map(|_| program.malloc(0, 100)).collect();
    program.touch(0, block, &[(0, 3072)]);
    small.into_iter().for_each(|block| program.free(0, block));
    program.free(0, block);
    program.finish();
    let memory = memory(&path);
    // The second look's pages count from the first look on.
    assert_near(memory.peak_bytes, 3072 * 4096);
    assert_near(memory.end_bytes, 0);
    let external = memory.external_fragmentation.expect("told by libc");
    assert!(external < 0.2, "untouched pages are left out of both sides: {external}");
}

#[test]
fn without_looks_every_page_is_touched() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("whole.hwr");
    // Recorded without looks, and with looks that missed this block.
    for touch_bytes_min in [0, MIB] {
        let mut program = Program::new(&path, touch_bytes_min);
        let block = program.malloc(0, 40 * MIB);
        let block = program.realloc(0, block, 50 * MIB);
        let other = program.alloc(1, 10 * MIB, AllocKind::Calloc, 0);
        program.free(1, block);
        program.free(0, other);
        program.finish();
        assert_near(memory(&path).peak_bytes, 60 * MIB);
    }
}

#[test]
fn a_resized_block_keeps_its_pages_and_gains_the_new_ones() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("resized.hwr");
    let mut program = Program::new(&path, MIB);
    let block = program.malloc(0, 32 * MIB);
    program.touch(0, block, &[(0, 2048)]);
    let block = program.realloc(1, block, 64 * MIB);
    program.touch(1, block, &[(0, 2048), (6144, 1024)]);
    program.free(0, block);
    program.finish();
    assert_near(memory(&path).peak_bytes, 3072 * 4096);
}

#[test]
fn mappings_are_made_trimmed_and_unmapped() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("mapped.hwr");
    let mut program = Program::new(&path, 65_536);
    let block = program.alloc(0, 1024 * MIB, AllocKind::Mmap, 0);
    program.touch(0, block, &[(0, 4096), (1024, 4096)]);
    program.unmap(1, block.address, 16 * MIB);
    let kept = program.malloc(0, 100);
    program.unmap(0, block.address + 16 * MIB, 1008 * MIB);
    program.free(0, kept);
    program.finish();
    let memory = memory(&path);
    assert_near(memory.peak_bytes, 32 * MIB);
    assert_near(memory.end_bytes, 0);
}

#[test]
fn the_replay_itself_adds_no_memory() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("churn.hwr");
    let mut program = Program::new(&path, 0);
    let mut live = std::collections::VecDeque::new();
    for round in 0..400_000u64 {
        live.push_back(program.malloc(0, 16 + round % 64));
        if live.len() > 100 {
            let block = live.pop_front().expect("blocks");
            program.free(0, block);
        }
    }
    program.finish();
    let memory = memory(&path);
    assert!(memory.peak_bytes < MIB / 4, "{} bytes for 8 KiB alive", memory.peak_bytes);
    assert_eq!(memory.counted_peak_live_bytes, program_peak(&memory));
}

/// The highest live bytes among the points, which the peak is one of.
fn program_peak(memory: &MemoryFigures) -> u64 {
    memory.timeline.iter().map(|point| point.live_bytes).max().unwrap_or(0)
}
