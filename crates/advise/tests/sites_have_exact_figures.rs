//! Made-up programs whose every figure is known beforehand.

use heapwright_advise::schema::{Site, Sizes};
use heapwright_advise::{AnalyseError, Analysis};
use heapwright_format::file::SessionInfo;
use heapwright_format::{AllocKind, FreeKind, LeafKind};
use heapwright_symbols::Symbolizer;

use synthetic::Synthetic;

mod synthetic;

fn analyse(program: Synthetic) -> Analysis {
    let (_folder, recording) = program.finish();
    Analysis::new(&recording, 0, &mut Symbolizer::new(), &mut |_, _| {}).expect("allocations")
}

/// The site whose innermost return address is `call`.
fn site(analysis: &Analysis, call: u64) -> &Site {
    let name = format!("{:#x}", call - 1);
    let mut named = analysis.sites.iter().filter(|site| site.function == name);
    let found = named.next().unwrap_or_else(|| panic!("no site {name}"));
    assert!(named.next().is_none(), "one site {name}");
    found
}

fn leaf(kind: AllocKind) -> LeafKind {
    LeafKind { kind, ..LeafKind::default() }
}

#[test]
fn nested_blocks_are_last_in_first_out() {
    let mut program = Synthetic::new();
    for _ in 0..50 {
        let outer = program.malloc(0, 100, &[0x100, 0x900]);
        let inner = program.malloc(0, 60, &[0x100, 0x900]);
        let innermost = program.malloc(0, 20, &[0x100, 0x900]);
        program.free(0, innermost);
        program.free(0, inner);
        program.free(0, outer);
    }
    let analysis = analyse(program);
    let site = site(&analysis, 0x100);
    assert_eq!((site.allocs, site.bytes), (150, 50 * 180));
    assert_eq!(site.sizes, Sizes { min: 20, median: 60, max: 100, distinct: 3 });
    assert_eq!((site.lifo_share, site.batch_share, site.same_thread_share), (1.0, 0.0, 1.0));
    assert_eq!(site.temporary_share, 50.0 / 150.0, "only the innermost is freed at once");
    assert_eq!(site.lifetime_median_bytes, 20, "0 for the innermost, 20, 80");
    assert_eq!((site.live_at_peak_bytes, site.live_at_end_bytes), (180, 0));
    assert_eq!((site.recommend.as_str(), site.kind.as_str()), ("stack", "malloc"));
    assert_eq!(site.stack.len(), 2);
    assert_eq!(site.stack[1].offset, 0x8ff);
    assert_eq!(analysis.totals.peak_live_bytes, 180);
    assert_eq!(analysis.totals.temporaries, 50);
}

#[test]
fn temporaries_are_freed_before_the_thread_allocates_again() {
    let mut program = Synthetic::new();
    for round in 0..100 {
        let block = program.malloc(0, 32, &[0x100]);
        // Another thread's allocations do not matter.
        let other = program.malloc(1, 8, &[0x200]);
        if round % 4 == 0 {
            let between = program.malloc(0, 8, &[0x300]);
            program.free(0, block);
            program.free(0, between);
        } else {
            program.free(0, block);
        }
        // Freed by the wrong thread: not temporary.
        program.free(0, other);
    }
    let analysis = analyse(program);
    assert_eq!(site(&analysis, 0x100).temporary_share, 0.75);
    assert_eq!(site(&analysis, 0x200).temporary_share, 0.0);
    assert_eq!(site(&analysis, 0x200).same_thread_share, 0.0);
    assert_eq!(site(&analysis, 0x300).temporary_share, 1.0, "a free between changes nothing");
}

#[test]
fn a_free_of_an_older_block_between_does_not_end_a_temporary() {
    let mut program = Synthetic::new();
    let old = program.malloc(0, 1, &[0x200]);
    let block = program.malloc(0, 1, &[0x100]);
    program.free(0, old);
    program.free(0, block);
    let analysis = analyse(program);
    assert_eq!(site(&analysis, 0x100).temporary_share, 1.0);
    assert_eq!(site(&analysis, 0x200).temporary_share, 0.0);
}

#[test]
fn blocks_of_a_request_die_together() {
    let mut program = Synthetic::new();
    for _ in 0..40 {
        let blocks: Vec<_> =
            (0..25).map(|size| program.malloc(0, 16 + size * 8, &[0x100])).collect();
        // First in, first out: no stack, but all at once.
        blocks.into_iter().for_each(|block| program.free(0, block));
    }
    let analysis = analyse(program);
    let site = site(&analysis, 0x100);
    assert_eq!(site.batch_share, 1.0);
    assert_eq!(site.lifo_share, 40.0 / 1000.0, "the last of each batch");
    assert_eq!(site.recommend, "linear");
    assert_eq!(site.sizes.distinct, 25);
}

#[test]
fn few_deaths_among_many_blocks_are_no_batch() {
    let mut program = Synthetic::new();
    let mut live: Vec<_> = (0..100).map(|_| program.malloc(0, 64, &[0x100])).collect();
    for round in 0..200 {
        // Four at a time out of a hundred, from the middle.
        for index in 0..4 {
            let at = (round * 7 + index * 23) % live.len();
            let block = live.swap_remove(at);
            program.free(0, block);
        }
        live.extend((0..4).map(|_| program.malloc(0, 64, &[0x100])));
    }
    let left = live.split_off(3);
    left.into_iter().for_each(|block| program.free(0, block));
    let analysis = analyse(program);
    let site = site(&analysis, 0x100);
    assert_eq!(site.batch_share, 97.0 / 897.0, "only the last run takes more than half");
    assert_eq!((site.recommend.as_str(), site.live_at_end_blocks), ("pool", 3));
}

#[test]
fn producer_and_consumer_are_two_threads() {
    let mut program = Synthetic::new();
    let mut queue = std::collections::VecDeque::new();
    for round in 0..300u64 {
        queue.push_back(program.malloc(0, 48 + 16 * (round % 3), &[0x100, 0x900]));
        if queue.len() > 10 {
            let block = queue.pop_front().expect("full");
            program.free(1, block);
        }
    }
    let analysis = analyse(program);
    let site = site(&analysis, 0x100);
    assert_eq!((site.threads, site.same_thread_share), (1, 0.0));
    assert_eq!((site.lifo_share, site.live_at_end_blocks), (0.0, 10));
    assert_eq!((site.recommend.as_str(), site.sizes.distinct), ("slab", 3));
    assert_eq!(analysis.totals.threads, 2);
    assert_eq!(analysis.info.events, 300 + 290);
}

#[test]
fn never_freed_blocks_are_an_arenas() {
    let mut program = Synthetic::new();
    for size in 0..100 {
        program.malloc(0, size, &[0x100]);
    }
    let analysis = analyse(program);
    let site = site(&analysis, 0x100);
    assert_eq!(site.recommend, "linear");
    assert_eq!((site.live_at_end_bytes, site.live_at_end_blocks), (4950, 100));
    assert_eq!((site.sizes.distinct, site.sizes.max), (65, 99));
    assert_eq!(site.same_thread_share, 1.0);
}

#[test]
fn large_powers_of_two_are_for_the_buddy_and_growing_blocks_for_malloc() {
    let mut program = Synthetic::new();
    for round in 0..100u64 {
        // Overlapping lives, freed out of order.
        let a = program.malloc(0, 65536 << (round % 3), &[0x100]);
        let b = program.malloc(0, 65536, &[0x100]);
        program.free(0, a);
        program.free(0, b);
        let growing = program.malloc(0, 10, &[0x200]);
        let grown = program.realloc(0, growing, 1000, &[0x300]);
        program.free(0, grown);
    }
    let analysis = analyse(program);
    assert_eq!(site(&analysis, 0x100).recommend, "buddy");
    let growing = site(&analysis, 0x200);
    assert_eq!((growing.allocs, growing.bytes), (100, 100_000), "growth counts, blocks do not");
    assert_eq!((growing.realloc_share, growing.recommend.as_str()), (1.0, "general"));
    assert_eq!(analysis.sites.len(), 2, "a resize has no site of its own");
    assert_eq!(analysis.totals.allocs, 300);
}

#[test]
fn blocks_that_grow_while_they_are_the_newest_and_die_together_are_an_arenas() {
    let mut program = Synthetic::new();
    for _ in 0..20 {
        let mut one_by_one = Vec::new();
        for _ in 0..10 {
            let text = program.malloc(0, 8, &[0x100]);
            let text = program.realloc(0, text, 16, &[0x300]);
            one_by_one.push(program.realloc(0, text, 100, &[0x300]));
        }
        let mut by_turns: Vec<_> = (0..10).map(|_| program.malloc(0, 8, &[0x200])).collect();
        for text in &mut by_turns {
            *text = program.realloc(0, *text, 100, &[0x300]);
        }
        for text in one_by_one.into_iter().chain(by_turns) {
            program.free(0, text);
        }
    }
    let analysis = analyse(program);
    assert_eq!(site(&analysis, 0x100).recommend, "linear");
    assert_eq!(site(&analysis, 0x200).recommend, "general");
}

#[test]
fn mapped_memory_failures_and_wrong_frees_are_apart() {
    let mut program = Synthetic::new();
    let mapping = program.alloc_at(0, 0x7000_0000, 0x10000, &[0x500], leaf(AllocKind::Mmap));
    let block = program.alloc(0, 40, &[0x100], leaf(AllocKind::New));
    let array = program.alloc(0, 80, &[0x100], leaf(AllocKind::NewArray));
    program.unmap(0, mapping, 0x4000);
    program.failed(0, 1 << 40, &[0x600]);
    program.free_as(0, block, FreeKind::Free);
    program.free_as(0, array, FreeKind::DeleteArraySized);
    let analysis = analyse(program);
    assert_eq!(analysis.sites.len(), 1);
    assert_eq!(site(&analysis, 0x100).kind, "new");
    let totals = &analysis.totals;
    assert_eq!((totals.mapped_allocs, totals.mapped_peak_bytes), (1, 0x10000));
    assert_eq!((totals.allocs, totals.peak_live_bytes, totals.end_live_bytes), (2, 120, 0));
    assert_eq!((totals.failed, totals.failed_bytes_max), (1, 1 << 40));
    assert_eq!(analysis.mismatches.len(), 1);
    let wrong = &analysis.mismatches[0];
    assert_eq!((wrong.alloc, wrong.free, wrong.blocks), (AllocKind::New, FreeKind::Free, 1));
    assert_eq!(wrong.function, "0xff");
}

#[test]
fn a_wrapper_without_a_telling_name_is_split_by_its_callers() {
    let mut program = Synthetic::new();
    let mut queue = std::collections::VecDeque::new();
    for _ in 0..1000 {
        // Through the same two functions: small short ones and large long-lived ones.
        let short = program.malloc(0, 16, &[0x100, 0x200, 0x300, 0x900]);
        program.free(0, short);
        queue.push_back(program.malloc(0, 4096, &[0x100, 0x200, 0x400, 0x900]));
        if queue.len() > 50 {
            let block = queue.pop_front().expect("full");
            program.free(0, block);
        }
        // Callers that do not differ stay one site.
        let call = if queue.len() % 2 == 0 { 0x600 } else { 0x700 };
        let block = program.malloc(0, 64, &[0x500, call, 0x900]);
        program.free(0, block);
    }
    let analysis = analyse(program);
    assert_eq!(analysis.sites.len(), 3);
    let (short, long) = (site(&analysis, 0x300), site(&analysis, 0x400));
    assert_eq!((short.allocs, short.recommend.as_str()), (1000, "stack"));
    assert_eq!((long.allocs, long.recommend.as_str()), (1000, "pool"));
    assert_eq!(long.lifetime_median_bytes.abs_diff(50 * (4096 + 16 + 64)) / 6500, 0);
    assert_eq!(site(&analysis, 0x500).allocs, 1000);
}

#[test]
fn a_truncated_stack_is_counted() {
    let mut program = Synthetic::new();
    let cut = LeafKind { truncated: true, ..LeafKind::default() };
    for round in 0..10 {
        let whole = round < 7;
        program.alloc(0, 8, &[0x100], if whole { LeafKind::default() } else { cut });
    }
    let analysis = analyse(program);
    assert!((analysis.info.stacks_complete - 0.7).abs() < 1e-12);
}

#[test]
fn a_sample_stands_for_more_and_has_no_order() {
    let session = SessionInfo { sample_bytes: 1000, ..SessionInfo::default() };
    let mut program = Synthetic::with_session(session);
    for _ in 0..100 {
        let block = program.malloc(0, 1000, &[0x100]);
        program.free(0, block);
    }
    let analysis = analyse(program);
    let weight = 1.0 / (1.0 - (-1f64).exp());
    assert_eq!(analysis.totals.allocs, (100.0 * weight).round() as u64);
    assert_eq!(analysis.totals.bytes, (100_000.0 * weight).round() as u64);
    assert_eq!(analysis.totals.peak_live_bytes, (1000.0 * weight).round() as u64);
    let site = site(&analysis, 0x100);
    assert_eq!(
        (site.lifo_share, site.temporary_share, site.recommend.as_str()),
        (0.0, 0.0, "general")
    );
    assert!(analysis.is_sampled);
}

#[test]
fn the_live_series_has_the_peak_and_the_end() {
    let mut program = Synthetic::new();
    let blocks: Vec<_> = (0..2000).map(|_| program.malloc(0, 10, &[0x100])).collect();
    program.wait(5000);
    blocks.into_iter().skip(1).for_each(|block| program.free(0, block));
    let analysis = analyse(program);
    let points = analysis.timeline();
    assert!(points.len() <= 600 && points.len() > 500);
    assert!(points.is_sorted_by_key(|point| point.events));
    assert!(points.is_sorted_by(|a, b| a.time_s <= b.time_s));
    let peak = points.iter().max_by_key(|point| point.live_bytes).expect("points");
    assert_eq!((peak.live_bytes, peak.events), (20_000, 2000));
    let end = points.last().expect("points");
    assert_eq!((end.live_bytes, end.events), (10, 3999));
    assert!((end.time_s - 8.998).abs() < 1e-9, "{}", end.time_s);
    assert!((analysis.info.duration_s - 8.998).abs() < 1e-9);
}

#[test]
fn nothing_to_analyse_is_an_error_with_a_next_step() {
    let (_folder, recording) = Synthetic::new().finish();
    let result = Analysis::new(&recording, 0, &mut Symbolizer::new(), &mut |_, _| {});
    let error = result.expect_err("no allocations");
    assert_eq!(error, AnalyseError::NoAllocations { exe: "/usr/bin/synthetic".into() });
    assert!(error.to_string().contains("heapwright::Recorded"));
    let result = Analysis::new(&recording, 7, &mut Symbolizer::new(), &mut |_, _| {});
    assert_eq!(result.err(), Some(AnalyseError::NoProcess { process: 7, processes: 1 }));
}

#[test]
fn absurd_sizes_do_not_stop_the_analysis() {
    let mut program = Synthetic::new();
    for _ in 0..3 {
        let huge = program.alloc_at(0, 0x5000, u64::MAX, &[0x100], LeafKind::default());
        program.free(0, huge);
        program.alloc_at(0, 0x6000, u64::MAX - 5, &[0x200], LeafKind::default());
    }
    let analysis = analyse(program);
    assert_eq!(site(&analysis, 0x100).sizes.max, u64::MAX);
    assert_eq!(analysis.totals.allocs, 6);
}
