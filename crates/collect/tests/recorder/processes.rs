//! Forks and execs: every process has its own stream.

use heapwright_format::file::ProcessRecord;

use crate::recorded::{Run, record_whole};

fn of_pid(run: &Run, pid: u32) -> Vec<&ProcessRecord> {
    run.recording.processes().iter().filter(|process| process.info.pid == pid).collect()
}

#[test]
fn a_forked_child_has_its_own_stream_and_inherited_blocks_are_unknown_to_it() {
    let run = record_whole("fork_tree", &[]);
    let counts = run.counts();
    assert_eq!((counts.len(), run.outcome.processes), (5, 5));
    run.expect_counts();
    let parent = counts[4].pid;
    for child in &counts[..4] {
        let facts = run.facts_of(child.pid);
        assert_eq!(facts.matches.unknown_frees, 50, "inherited");
        assert_eq!((facts.own_deaths(), facts.own_live()), (100, 100));
        assert_eq!(of_pid(&run, child.pid)[0].info.forked_from, parent);
        facts.expect_complete_stacks();
    }
    let facts = run.facts_of(parent);
    assert_eq!((facts.own_live(), facts.matches.unknown_frees), (0, 0));
}

#[test]
fn children_of_raw_fork_calls_have_streams_of_their_own() {
    let run = record_whole("raw_forks", &[]);
    let counts = run.counts();
    assert_eq!((counts.len(), run.outcome.processes), (3, 3));
    run.expect_counts();
    for child in &counts[..2] {
        let facts = run.facts_of(child.pid);
        assert_eq!((facts.matches.unknown_frees, facts.own_live()), (20, 30));
    }
    assert_eq!(run.facts_of(counts[2].pid).own_live(), 0);
}

#[test]
fn forks_while_other_threads_allocate_stand_still_nowhere() {
    let run = record_whole("fork_while_allocating", &[]);
    assert_eq!(run.outcome.processes, 41);
    let children = run.recording.processes().iter().filter(|child| child.info.forked_from != 0);
    assert!(children.clone().count() == 40 && children.clone().all(|child| child.events >= 198));
}

#[test]
fn vfork_and_exec_leave_the_parents_stream_alone() {
    let run = record_whole("vfork_exec", &[]);
    assert_eq!(run.outcome.processes, 21);
    run.expect_counts();
}

#[test]
fn spawned_processes_are_recorded() {
    let run = record_whole("spawns", &[]);
    assert_eq!(run.outcome.processes, 11);
    run.expect_counts();
}

#[test]
fn each_image_of_a_process_that_executes_itself_has_a_stream() {
    let run = record_whole("exec_chain", &[]);
    let counts = run.counts();
    assert_eq!((counts.len(), run.outcome.processes), (4, 4));
    let pid = counts[0].pid;
    for (image, counts) in counts.iter().enumerate() {
        assert_eq!(of_pid(&run, pid)[image].info.forked_from, 0);
        let facts = crate::recorded::Facts::of(&run.recording, image);
        facts.expect(counts);
        assert_eq!(facts.own_live(), 5 * (image + 1));
    }
}
