//! Watching a process from beside it: figures, residence, profile, blame, requests, budget.

mod program;

use heapwright_monitor::{
    Blame, Look, RawProfile, Request, Threshold, Watched, open_metrics, watched_processes,
};
use program::{PATIENCE, Program};
use std::time::Instant;

/// The kernel's own sum of what is resident for process `pid`.
fn kernel_pss(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("readable");
    let line = text.lines().find(|line| line.starts_with("Pss:")).expect("a line");
    let kib: u64 = line.split_ascii_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("KiB");
    kib * 1024
}

/// A look at `program`, and the kernel's figure, which was the same before and after it: what is
/// purged by the clock may go just between two readings.
fn look_and_pss(program: &Program) -> (Look, u64) {
    let watched = program.watched();
    let end = Instant::now() + PATIENCE;
    loop {
        let before = kernel_pss(program.pid());
        let look = Look::at(&watched, None).expect("a look");
        if kernel_pss(program.pid()) == before {
            return (look, before);
        }
        assert!(Instant::now() < end, "what is resident never stays as it is");
    }
}

#[test]
fn what_resident_bytes_are_for_adds_up_to_the_kernels_figure() {
    for scene in ["one_size", "many_sizes", "with_table"] {
        let program = Program::start(scene, &[]);
        let (look, kernel) = look_and_pss(&program);
        let sum: u64 = look.residence.parts().iter().map(|(_, bytes)| bytes).sum();
        assert_eq!(look.residence_problem, "");
        assert!(sum.abs_diff(kernel) * 50 <= kernel, "{scene}: {sum} of {kernel}");
        assert_eq!(sum, look.residence.total);
        // The blocks that the program says live, and what their sizes are rounded up by.
        let live = look.live;
        assert!(live >= program.live_bytes, "{scene}: {live} of {}", program.live_bytes);
        assert!(live <= program.live_bytes * 2, "{scene}: {live} of {}", program.live_bytes);
        assert!(look.resident_of_allocator >= live / 2, "{scene}");
        assert!(look.residence.free_in_spans > live, "{scene}: most of it is fragmentation");
        assert!(look.external_fragmentation > 0.5, "{scene}");
        let in_spans: u64 = look.classes.iter().map(|class| class.span_bytes).sum();
        assert!(in_spans <= look.committed, "{scene}: {in_spans} of {}", look.committed);
        assert!(live <= in_spans + look.committed / 4, "{scene}: {live} of {in_spans}");
        assert!(look.map.chars().any(|cell| cell.is_ascii_digit()), "{scene}: {}", look.map);
        let used: u64 = look.classes.iter().map(|class| class.used_bytes).sum();
        let in_heaps: u64 = look.heaps.iter().map(|heap| heap.used_bytes).sum();
        assert_eq!(used, in_heaps, "{scene}: by class and by heap is the same");
        let metrics = open_metrics(&look);
        assert!(metrics.contains(&format!("heapwright_live_bytes {live}\n")));
    }
}

#[test]
fn release_gives_free_memory_back_and_says_so() {
    let program = Program::start("one_size", &[]);
    let watched = program.watched();
    let before = Look::at(&watched, None).expect("a look");
    watched.ask(Request::Release, PATIENCE).expect("done");
    let after = Look::at(&watched, Some(&before)).expect("a look");
    assert!(after.purged > before.purged);
    assert!(after.retained < before.retained, "{} of {}", after.retained, before.retained);
    assert_eq!(after.live / 100, before.live / 100);
}

fn blame_of(program: &Program) -> (RawProfile, Blame) {
    let watched = program.watched();
    watched.ask(Request::Profile, PATIENCE).expect("written");
    let text = std::fs::read_to_string(watched.profile_path()).expect("there");
    let profile = RawProfile::parse(&text).expect("a profile");
    let blame = Blame::new(&profile, None);
    (profile, blame)
}

#[test]
fn blame_names_the_culprit_and_its_interval_covers_the_truth() {
    // All that is pinned is so by the sessions, and the allocator knows exactly how much that is.
    for scene in ["one_size", "many_sizes", "with_table"] {
        let sampled = [("HEAPWRIGHT_PROFILE", "1"), ("HEAPWRIGHT_PROFILE_RATE", "32K")];
        let program = Program::start(scene, &sampled);
        let (profile, blame) = blame_of(&program);
        assert_eq!(profile.lost, 0, "{scene}");
        let first = &blame.sites[0];
        assert!(first.function.contains("keep_session"), "{scene}: {}", first.function);
        assert!(first.file.ends_with("watched_program.rs"), "{scene}: {}", first.file);
        let truth = blame.pinned_bytes as f64;
        assert!(truth > 1e6, "{scene}: {truth}");
        let interval = blame.pinned_interval;
        // Seeds differ from run to run, and one interval in twenty misses: a wider one here; how
        // often intervals cover the truth is `estimate`'s test.
        let slack = interval.high - interval.low;
        assert!(
            (interval.low - slack..=interval.high + slack).contains(&truth),
            "{scene}: {truth} is not in {interval:?}"
        );
        let others: f64 = blame.sites[1..].iter().map(|site| site.pinned_bytes).sum();
        assert!(others < first.pinned_bytes / 2.0, "{scene}: {others} of {}", first.pinned_bytes);
        assert!(blame.sites.iter().any(|site| site.function.contains("make_request")));
        let profile = heapwright_monitor::pprof(&profile, None);
        assert!(profile.string_table.iter().any(|text| text.contains("keep_session")));
        assert!(!profile.string_table.iter().any(|text| text.starts_with("heapwright_watch::")));
    }
}

/// How often the live interval holds what the allocator knows exactly: 95 % by right. Of 60 runs
/// nine or more miss once in five thousand times then.
#[test]
#[ignore = "long tier: intervals"]
fn tier_live_intervals_cover_the_truth() {
    let (mut misses, mut firsts) = (0, 0);
    for run in 0..60 {
        let scene = ["one_size", "many_sizes", "with_table"][run % 3];
        let sampled = [("HEAPWRIGHT_PROFILE", "1"), ("HEAPWRIGHT_PROFILE_RATE", "64K")];
        let program = Program::start(scene, &sampled);
        let (profile, blame) = blame_of(&program);
        assert_eq!(profile.lost, 0, "{scene}");
        let (truth, interval) = (blame.pinned_bytes as f64, blame.pinned_interval);
        let is_covered = (interval.low..=interval.high).contains(&truth);
        println!(
            "{scene}: {:.3} to {:.3} of the truth",
            interval.low / truth,
            interval.high / truth
        );
        misses += u32::from(!is_covered);
        firsts += u32::from(blame.sites[0].function.contains("keep_session"));
    }
    println!("{misses} of 60 missed, the culprit first in {firsts}");
    assert_eq!(firsts, 60);
    assert!(misses < 9, "{misses} of 60 missed");
}

#[test]
fn sampling_begins_and_ends_on_request() {
    let program = Program::start("nothing", &[]);
    let watched = program.watched();
    assert_eq!(watched.read().expect("figures").figures.sample_count, 0);
    watched.ask(Request::ProfileOn, PATIENCE).expect("on");
    for _ in 0..20 {
        // A mebibyte each, twice the mean between samples.
        program.step("more");
    }
    program.step("large");
    assert_eq!(program.line(), "granted");
    watched.ask(Request::ProfileOff, PATIENCE).expect("off");
    let figures = watched.read().expect("figures").figures;
    assert!(figures.sample_count >= 1, "of 20 MB none was sampled");
    assert_eq!(figures.profile_rate_bytes, 0);
    let (profile, blame) = blame_of(&program);
    assert!(blame.sites.iter().any(|site| site.function.contains("load_table")), "{profile:?}");
}

#[test]
fn a_large_request_fails_in_a_full_budget_the_monitor_warned_and_compaction_makes_it_succeed() {
    let program = Program::start("budget", &[("HEAPWRIGHT_HARD_LIMIT", "56M")]);
    let watched = program.watched();
    let look = Look::at(&watched, None).expect("a look");
    let warning: Threshold = "headroom<24M".parse().expect("a threshold");
    assert!(warning.alarm(&look).is_some(), "{:?} is left", look.headroom);
    let warning: Threshold = "largest-free<24M".parse().expect("a threshold");
    assert!(warning.alarm(&look).is_some(), "{} is largest", look.largest_free);
    let free: u64 = look.classes.iter().map(|class| class.free_bytes).sum();
    assert!(free > 24 << 20, "{free} bytes are free, more than is asked for");
    program.step("large");
    assert_eq!(program.line(), "refused");
    // What pins the pages goes under handles, close together; then the rest can go.
    program.step("move");
    assert_eq!(program.line(), "whole");
    watched.ask(Request::Release, PATIENCE).expect("done");
    let look = Look::at(&watched, None).expect("a look");
    let warning: Threshold = "headroom<24M".parse().expect("a threshold");
    assert!(warning.alarm(&look).is_none(), "{:?} is left", look.headroom);
    program.step("large");
    assert_eq!(program.line(), "granted");
}

#[test]
fn a_heap_of_the_programs_own_is_told_by_its_name_and_nodes_add_up() {
    let program = Program::start("heaps", &[]);
    let watched = program.watched();
    watched.ask(Request::Figures, PATIENCE).expect("answered");
    let look = Look::at(&watched, None).expect("a look");
    let own = look.heaps.iter().find(|heap| heap.name == "level \"3\"");
    let own = own.unwrap_or_else(|| panic!("{:?}", look.heaps));
    assert_eq!((own.kind, own.limit), ("zone", Some(64 << 20)));
    assert!((3_000_000..4_000_000).contains(&own.used_bytes), "{}", own.used_bytes);
    assert!((1 << 20..2 << 20).contains(&own.large_bytes), "{}", own.large_bytes);
    assert!(own.external_fragmentation < 0.3, "{}", own.external_fragmentation);
    let metrics = open_metrics(&look);
    assert!(metrics.contains(r#"heapwright_heap_used_bytes{heap="level \"3\""}"#), "{metrics}");
    // By class, by heap and by node it is the same.
    let used: u64 = look.classes.iter().map(|class| class.used_bytes).sum();
    assert_eq!(look.heaps.iter().map(|heap| heap.used_bytes).sum::<u64>(), used);
    assert_eq!(look.nodes.iter().map(|node| node.used_bytes).sum::<u64>(), used);
    let spans: u64 = look.classes.iter().map(|class| class.span_bytes).sum();
    assert_eq!(look.nodes.iter().map(|node| node.span_bytes).sum::<u64>(), spans);
    assert!(metrics.contains("heapwright_node_live_bytes{node=\"0\"}"), "{metrics}");
}

#[test]
fn a_page_is_there_as_long_as_its_process() {
    let mut program = Program::start("nothing", &[]);
    let directories = program.directories();
    let found = watched_processes(&directories);
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].pid, found[0].name.as_str()), (program.pid(), "watched_program"));
    let watched = Watched::open("watched_program", &directories).expect("found by its name");
    let mode = std::fs::metadata(watched.page_path()).expect("there").permissions();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777, 0o600);
    program.end();
    assert!(!watched.page_path().exists(), "a clean exit removes the page");
    assert!(watched.read().is_err());
}
