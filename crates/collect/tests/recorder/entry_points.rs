//! Every way to allocate and to free.

use std::collections::HashMap;

use heapwright_format::{AllocKind, FreeKind};

use crate::recorded::{Birth, Facts, compile, is_own, object, record_command, record_whole, words};

fn by_kind(facts: &Facts) -> Vec<(AllocKind, u64, u8)> {
    let own = |birth: &&Birth| is_own(birth.size) || birth.size == 4096;
    let mut all: Vec<_> = facts
        .births
        .iter()
        .filter(own)
        .map(|birth| (birth.kind, birth.size, birth.align_log2))
        .collect();
    all.sort_unstable();
    all
}

#[test]
fn every_c_function_is_recorded_with_its_kind_size_and_alignment() {
    let run = record_whole("entry_points", &[]);
    let facts = run.facts();
    let size = |n: u64| n * 64 + 27;
    let expected = [
        (AllocKind::Malloc, size(1), 0),
        (AllocKind::Calloc, size(2), 0),
        (AllocKind::Realloc, size(3), 0),
        (AllocKind::Reallocarray, 27 * 65, 0),
        (AllocKind::PosixMemalign, size(4), 6),
        (AllocKind::PosixMemalign, size(5), 12),
        (AllocKind::AlignedAlloc, size(6), 7),
        (AllocKind::Memalign, size(7), 8),
        (AllocKind::Valloc, size(8), 12),
        (AllocKind::Pvalloc, 4096, 12),
    ];
    assert_eq!(by_kind(&facts), expected);
    let sizes: Vec<_> =
        facts.resizings.iter().map(|resizing| (resizing.old_size, resizing.size)).collect();
    assert_eq!(sizes, [(size(1), size(40)), (size(40), size(1))]);
    let freed = facts.deaths.iter().filter(|(_, size)| is_own(*size) || *size == 4096).count();
    assert_eq!((freed as u64, facts.own_live()), (run.counts()[0].free, 0));
    facts.expect_complete_stacks();
}

#[test]
fn every_cpp_operator_is_recorded_with_its_kind_size_and_alignment() {
    let run = record_whole("operators", &[]);
    let facts = run.facts();
    let mut births: HashMap<(AllocKind, u64, u8), usize> = HashMap::new();
    for birth in facts.own_births() {
        *births.entry((birth.kind, birth.size, birth.align_log2)).or_default() += 1;
    }
    let size = 5 * 64 + 27;
    let expected = HashMap::from([
        ((AllocKind::New, size, 0), 2),
        ((AllocKind::NewArray, size, 0), 2),
        ((AllocKind::NewNothrow, size, 0), 2),
        ((AllocKind::NewArrayNothrow, size, 0), 2),
        // Throwing and not.
        ((AllocKind::NewAligned, size, 6), 4),
        ((AllocKind::NewArrayAligned, size, 6), 4),
    ]);
    assert_eq!(births, expected);
    let mut deaths: HashMap<FreeKind, usize> = HashMap::new();
    for (kind, _) in facts.deaths.iter().filter(|(_, size)| is_own(*size)) {
        *deaths.entry(*kind).or_default() += 1;
    }
    for kind in [
        FreeKind::Delete,
        FreeKind::DeleteArray,
        FreeKind::DeleteSized,
        FreeKind::DeleteArraySized,
        FreeKind::DeleteAligned,
        FreeKind::DeleteArrayAligned,
    ] {
        assert!(deaths.contains_key(&kind), "{kind:?} in {deaths:?}");
    }
    assert_eq!(deaths.values().sum::<usize>() as u64, run.counts()[0].free);
    assert_eq!(facts.own_live(), 0);
    facts.expect_complete_stacks();
}

#[test]
fn realloc_is_recorded_in_all_its_corner_cases() {
    let run = record_whole("reallocs", &[]);
    let facts = run.facts();
    let size = |n: u64| n * 64 + 27;
    let resizings: Vec<_> =
        facts.resizings.iter().map(|resizing| (resizing.old_size, resizing.size)).collect();
    let expected = [
        (size(1), size(2)),
        (size(2), size(2)),
        (size(2), 35),
        (size(4096), size(65536)),
        (size(65536), size(3)),
    ];
    assert_eq!(resizings, expected);
    assert_eq!(facts.failures, [u64::MAX / 2], "one asked the allocator, one overflowed before");
    assert!(facts.deaths.contains(&(FreeKind::ReallocZero, 35)));
    assert!(facts.deaths.contains(&(FreeKind::Free, 0)), "malloc(0) gives a block");
    assert!(facts.births.iter().any(|birth| birth.kind == AllocKind::Reallocarray));
    assert_eq!(facts.own_live(), 0);
    assert_eq!((facts.matches.unknown_frees, facts.matches.lost_frees), (0, 0));
}

#[test]
fn errno_stays_as_it_was() {
    assert_eq!(record_whole("errno_stays", &[]).stdout, "kept\n");
}

#[test]
fn another_malloc_that_the_program_is_linked_with_is_recorded() {
    let library = object("wasteful_malloc");
    let folder = library.parent().expect("a folder").to_str().expect("text");
    let path = format!("-Wl,--no-as-needed,-rpath,{folder}");
    let linked = compile("simple", &[&path, library.to_str().expect("text")]);
    let run = record_command(words(&linked, &[]), |_| {});
    assert_eq!(run.outcome.exit_status, Some(0), "{}", run.stdout);
    run.expect_whole();
    run.expect_counts();
    assert_eq!(run.facts().own_live(), 10);
    assert!(run.facts().modules.iter().any(|path| path.ends_with("wasteful_malloc")));
}

#[test]
fn an_executable_with_a_malloc_of_its_own_is_left_alone_and_counted_as_lost() {
    let own = compile("own_malloc", &["-rdynamic"]);
    let run = record_command(words(&own, &[]), |_| {});
    assert_eq!((run.outcome.exit_status, run.stdout.as_str()), (Some(0), "fine\n"));
    assert_eq!((run.outcome.lost_processes, run.outcome.events), (1, 0));
}

#[test]
fn an_allocator_that_maps_its_first_pages_is_not_called_again_meanwhile() {
    let early = compile("mapping_malloc", &["-shared", "-fPIC", "-DEARLY"]);
    let folder = early.parent().expect("a folder").to_str().expect("text");
    let flags = [
        "-rdynamic",
        &format!("-Wl,--no-as-needed,-rpath,{folder}"),
        early.to_str().expect("text"),
    ];
    let own = compile("mapping_malloc", &flags);
    let run = record_command(words(&own, &[]), |_| {});
    assert_eq!((run.outcome.exit_status, run.stdout.as_str()), (Some(0), "fine\n"));
    assert_eq!((run.outcome.lost_processes, run.outcome.events), (1, 0));
}
