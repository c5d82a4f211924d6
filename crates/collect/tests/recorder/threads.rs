//! Threads: many, short, late, and passing blocks to each other.

use crate::recorded::{program, record_command, record_whole, words};

#[test]
fn sixty_four_threads_at_once_lose_nothing() {
    let run = record_whole("many_threads", &[]);
    run.expect_counts();
    let facts = run.facts();
    assert_eq!((facts.threads, facts.threads_ended), (65, 64), "main does not end as a thread");
    assert_eq!((facts.own_live(), facts.matches.unknown_frees), (0, 0));
    facts.expect_complete_stacks();
}

#[test]
fn ten_thousand_short_threads_are_all_there_and_leave_no_memory_behind() {
    let run = record_whole("short_threads", &[]);
    run.expect_counts();
    let facts = run.facts();
    assert_eq!(facts.own_live(), 0);
    // A thread that frees after its own recorder's end shares a last one with its like.
    assert!((10_001..=10_002).contains(&facts.threads), "{} threads", facts.threads);
    assert_eq!(facts.threads_ended, 10_000);
    let grown: i64 = run
        .stdout
        .lines()
        .find_map(|line| line.strip_prefix("grown "))
        .and_then(|pages| pages.parse().ok())
        .expect("a number of pages");
    assert!(grown < 256, "8000 threads left {grown} private pages behind");
}

#[test]
fn thread_specific_destructors_are_recorded() {
    let run = record_whole("thread_churn", &[]);
    run.expect_counts();
    assert_eq!(run.facts().own_live(), 0);
}

#[test]
fn threads_that_outlive_main_are_recorded_to_their_end() {
    for name in ["main_exits_first", "outlives_main"] {
        let run = record_whole(name, &[]);
        run.expect_counts();
        assert_eq!(run.recording.end().and_then(|end| end.exit_status), Some(0));
    }
}

#[test]
fn threads_in_the_middle_of_allocating_do_not_hold_the_exit_up() {
    let run = record_command(words(&program("return_with_threads"), &[]), |_| {});
    assert_eq!(run.outcome.exit_status, Some(3));
    run.expect_whole();
    assert!(run.facts().births.len() >= 1000);
}

#[test]
fn frees_by_other_threads_are_matched() {
    let run = record_whole("producer_consumer", &[]);
    run.expect_counts();
    let facts = run.facts();
    assert_eq!((facts.own_live(), facts.matches.unknown_frees), (0, 0));
}

#[test]
fn an_address_reused_before_its_free_was_written_belongs_to_the_right_block() {
    for name in ["address_reuse", "relay"] {
        let run = record_whole(name, &[]);
        run.expect_counts();
        let facts = run.facts();
        let left = (facts.own_live(), facts.matches.unknown_frees, facts.matches.lost_frees);
        assert_eq!(left, (0, 0, 0), "{name}: {:?}", facts.matches);
    }
}

#[test]
fn the_smallest_stack_is_large_enough() {
    let run = record_whole("small_stacks", &[]);
    run.expect_counts();
    let used: usize = run
        .stdout
        .lines()
        .find_map(|line| line.strip_prefix("stack "))
        .and_then(|bytes| bytes.parse().ok())
        .expect("a number of bytes");
    assert!(used <= 6 << 10, "a thread's first event took {used} bytes of stack");
}
