//! Promise: a call site's blocks are served by the real region whatever their threads and sizes,
//! and nothing of the program is lost by it.

mod replaying;
mod synthetic;

use std::collections::VecDeque;
use std::path::Path;

use heapwright_format::AllocKind;
use heapwright_format::file::Recording;
use heapwright_replay::{RegionKind, Shape, SiteFigures, compile_with_sites, measure_sites};
use replaying::options;
use synthetic::{Program, Random};

const MIB: u64 = 1 << 20;

/// Every block of the recording at `path` on a region of `kind`.
fn all_on(path: &Path, kind: RegionKind) -> SiteFigures {
    let recording = Recording::open(path).expect("a recording");
    let plan = compile_with_sites(&recording, 0, Shape::default(), &|_| Some(0), &mut |_| {})
        .expect("a plan");
    let figures = measure_sites(&plan, &[kind], &options(&[]), &mut |_| {}).expect("figures");
    assert_eq!(figures.len(), 1);
    figures.into_iter().next().expect("one")
}

/// Blocks of `sizes` that thread 1 makes and threads 2 and 3 end, a hundred between them.
fn passed_on(path: &Path, sizes: &[u64]) {
    let mut program = Program::new(path, 128 << 10);
    let mut random = Random(11);
    let mut queue = VecDeque::new();
    program.malloc(0, sizes[0]);
    for number in 0..20_000u32 {
        let size = sizes[random.below(sizes.len() as u64) as usize];
        queue.push_back(program.malloc(1, size));
        if queue.len() > 100 {
            let block = queue.pop_front().expect("a hundred");
            program.free(2 + number % 2, block);
        }
    }
    program.finish();
}

#[test]
fn blocks_that_pass_between_threads_are_measured_on_a_region_that_threads_share() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("passed.hwr");
    let few = [48, 96, 200];
    for (kind, sizes) in [
        (RegionKind::Pool, &few[..1]),
        (RegionKind::Slab, &few[..]),
        (RegionKind::Linear, &few[..]),
        (RegionKind::Buddy, &[16_000, 60_000]),
    ] {
        passed_on(&path, sizes);
        let figures = all_on(&path, kind);
        assert_eq!(figures.failure, "", "{kind:?}");
        assert!(figures.is_shared && figures.repeats >= 1, "{figures:?}");
        assert!(figures.held_bytes >= 100 * 48, "{figures:?}");
        // Linear never becomes empty here: one block stays.
        let dense = matches!(kind, RegionKind::Pool | RegionKind::Slab);
        assert!(!dense || figures.held_bytes < MIB, "{figures:?}");
    }
    // First in, first out: a stack of four times the peak is full before anything can go.
    let stack = all_on(&path, RegionKind::Stack);
    assert!(stack.failure.contains("no room"), "{stack:?}");
}

#[test]
fn a_site_of_one_thread_has_a_region_of_its_own() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("own.hwr");
    let mut program = Program::new(&path, 0);
    for thread in 0..3 {
        let blocks: Vec<_> = (0..500).map(|_| program.malloc(thread, 64)).collect();
        blocks.into_iter().for_each(|block| program.free(thread, block));
    }
    program.finish();
    let figures = all_on(&path, RegionKind::Pool);
    assert_eq!((figures.failure.as_str(), figures.is_shared), ("", false));
}

/// 1 MiB blocks of which 64 pages are written, four alive at a time: the region holds what was
/// written, not what was asked for, and of a pool the pages stay.
#[test]
fn large_blocks_are_measured_and_only_their_written_pages_count() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("large.hwr");
    let mut program = Program::new(&path, 128 << 10);
    let mut queue = VecDeque::new();
    for number in 0..100 {
        let block = program.malloc(0, MIB);
        program.touch(0, block, &[(0, 64)]);
        queue.push_back(block);
        if queue.len() == 4 {
            let block = queue.pop_front().expect("four");
            program.free(number % 2, block);
        }
    }
    program.finish();
    for kind in [RegionKind::Pool, RegionKind::Linear, RegionKind::Buddy] {
        let figures = all_on(&path, kind);
        assert_eq!(figures.failure, "", "{kind:?}");
        let written = match kind {
            RegionKind::Linear => 100,
            _ => 4,
        } * 64
            * 4096;
        let (peak, base) = (figures.peak_bytes, figures.base_peak_bytes);
        assert!(peak >= written && peak < 2 * written + MIB, "{kind:?}: {peak} of {written}");
        assert!((4 * 64 * 4096..3 * MIB).contains(&base), "{base}");
    }
}

#[test]
fn blocks_that_grow_beyond_the_limit_and_back_are_carried_over() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("resized.hwr");
    let mut program = Program::new(&path, 128 << 10);
    for number in 0..200u64 {
        let thread = (number % 2) as u32;
        let small = program.alloc(thread, 4000, AllocKind::Calloc, 0);
        let large = program.realloc(1 - thread, small, 200_000);
        program.touch(thread, large, &[(0, 3)]);
        let larger = program.realloc(thread, large, 400_000);
        let small = program.realloc(1 - thread, larger, 3000);
        if number % 10 != 0 {
            program.free(thread, small);
        }
    }
    program.finish();
    for kind in [RegionKind::Slab, RegionKind::Buddy, RegionKind::Linear] {
        let figures = all_on(&path, kind);
        assert_eq!((figures.failure.as_str(), figures.is_shared), ("", true), "{kind:?}");
        assert!(figures.peak_bytes > 0 && figures.held_bytes > 0, "{figures:?}");
    }
    let pool = all_on(&path, RegionKind::Pool);
    assert!(pool.failure.contains("more sizes"), "{pool:?}");
}

#[test]
fn the_programs_own_mappings_are_no_regions_blocks() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("mapped.hwr");
    let mut program = Program::new(&path, 128 << 10);
    let mapped = program.alloc(0, 8 * MIB, AllocKind::Mmap, 0);
    program.touch(0, mapped, &[(0, 100)]);
    let blocks: Vec<_> = (0..100).map(|_| program.malloc(0, 500)).collect();
    program.unmap(0, mapped.address, mapped.size);
    blocks.into_iter().for_each(|block| program.free(0, block));
    program.finish();
    let figures = all_on(&path, RegionKind::Pool);
    assert_eq!(figures.failure, "");
    assert!(figures.held_bytes < MIB, "{figures:?}");
}
