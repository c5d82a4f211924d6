//! Promise: stock tells what every resident byte is for, and blames the site whose blocks hold
//! free memory, under any allocator.

mod objects;
mod replaying;
mod synthetic;

use std::path::Path;

use heapwright_format::AllocKind;
use heapwright_format::file::Recording;
use heapwright_replay::{
    AllocatorSpec, Shape, Stock, compile, compile_with_births, stock_count_max, take_stock,
};
use replaying::options;
use synthetic::{Block, Program};

const MIB: u64 = 1 << 20;

/// Stock at the end, with a stack's number as the site's.
fn stock_at_end(path: &Path, allocator: &AllocatorSpec) -> Stock {
    let recording = Recording::open(path).expect("a recording");
    let site_of = |stack: heapwright_format::stacks::StackId| Some(stack.0);
    let plan = compile_with_births(&recording, 0, Shape::default(), &site_of, &mut |_| {})
        .expect("a plan");
    let last = plan.facts().samples.len() - 1;
    let stocks = take_stock(&plan, allocator, &[last], &options(&[]), &mut |_| {}).expect("stock");
    assert_eq!(stocks.len(), 1);
    stocks.into_iter().next().expect("one")
}

fn assert_told(stock: &Stock) {
    let (told, resident) = (stock.told_bytes(), stock.resident_bytes);
    let slack = (resident / 50).max(256 << 10);
    assert!(told.abs_diff(resident) <= slack, "{told} told, {resident} resident: {stock:?}");
    let blamed: u64 = stock.sites.iter().map(|site| site.pinned_bytes).sum();
    assert_eq!(blamed, stock.pinned_bytes);
}

/// Blocks of `size` bytes on `threads` threads, all freed but every `keep`th one, which are
/// made by `calloc`: they are the culprits.
fn burst(path: &Path, size: u64, threads: u32, keep: u64) -> u64 {
    let mut program = Program::new(path, MIB);
    let mut fillers: Vec<(u32, Block)> = Vec::new();
    let count = 24 * MIB / size;
    for number in 0..count {
        let thread = (number * u64::from(threads) / count) as u32;
        if number.is_multiple_of(keep) {
            program.alloc(thread, size, AllocKind::Calloc, 0);
        } else {
            fillers.push((thread, program.malloc(thread, size)));
        }
    }
    // Another thread frees, and one block is resized on its way.
    for (index, (thread, block)) in fillers.into_iter().enumerate() {
        let block = if index == 7 { program.realloc(thread, block, size * 3) } else { block };
        program.free((thread + 1) % threads, block);
    }
    program.finish();
    count.div_ceil(keep)
}

#[test]
fn the_site_that_holds_free_pages_is_blamed_for_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("burst.hwr");
    for (size, threads, keep) in [(120, 1, 64), (504, 2, 16), (1000, 1, 8)] {
        let kept = burst(&path, size, threads, keep);
        let stock = stock_at_end(&path, &AllocatorSpec::system());
        assert_told(&stock);
        let first = stock.sites.first().expect("a site");
        assert_eq!(first.blocks, kept, "only the culprits are alive: {stock:?}");
        assert!(first.live_bytes >= kept * size && first.live_bytes <= kept * (size + 16));
        // One or no culprit a page: each pins what is left of its page or two.
        let pages = kept * 4096;
        assert!(first.pinned_bytes >= pages / 2 - first.live_bytes, "{first:?}");
        assert_eq!(first.releasable_bytes, first.pinned_bytes + first.live_bytes);
        assert!(stock.external_fragmentation() > 0.5);
        assert!(stock.largest_free_bytes >= 4096);
        let classes: u64 = stock.classes.iter().map(|class| class.pinned_bytes).sum();
        assert_eq!(classes, stock.pinned_bytes);
    }
}

#[test]
fn stock_is_taken_under_any_allocator() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("burst.hwr");
    let kept = burst(&path, 200, 2, 32);
    let object = objects::build(folder.path(), "bump", &[]);
    let stock = stock_at_end(&path, &AllocatorSpec::object(&object));
    assert_told(&stock);
    assert_eq!(stock.blocks, kept);
}

#[test]
fn large_blocks_and_mappings_count_as_far_as_they_are_touched() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("large.hwr");
    let mut program = Program::new(&path, MIB);
    let block = program.malloc(0, 64 * MIB);
    program.touch(0, block, &[(0, 1024), (1024, 256)]);
    let mapped = program.alloc(0, 32 * MIB, AllocKind::Mmap, 0);
    program.touch(0, mapped, &[(0, 2048)]);
    let moved = program.malloc(0, 3 * MIB);
    program.realloc(1, moved, 5 * MIB);
    program.finish();
    let stock = stock_at_end(&path, &AllocatorSpec::system());
    assert_told(&stock);
    assert_eq!(stock.mapped_bytes, 2048 * 4096);
    let wanted = 1280 * 4096 + 5 * MIB;
    assert!(stock.requested_bytes.abs_diff(wanted) < MIB / 8, "{stock:?}");
    assert_eq!(stock.blocks, 2, "mappings are no blocks");
}

#[test]
fn a_plan_without_call_sites_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("plain.hwr");
    burst(&path, 4000, 1, 8);
    let recording = Recording::open(&path).expect("a recording");
    let plan = compile(&recording, 0, Shape::default(), &mut |_| {}).expect("a plan");
    assert!(stock_count_max(&plan) >= 1);
    let refused = take_stock(&plan, &AllocatorSpec::system(), &[0], &options(&[]), &mut |_| {});
    assert!(refused.is_err());
}
