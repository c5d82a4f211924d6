//! Whole stacks, or cut ones that say so.

use crate::recorded::{Birth, compile, record_command, record_whole, words};

#[test]
fn deep_stacks_are_whole_to_the_last_frame() {
    let run = record_whole("deep_stack", &[]);
    run.expect_counts();
    let facts = run.facts();
    facts.expect_complete_stacks();
    let depths: Vec<usize> = facts.own_births().map(|birth| birth.depth).collect();
    assert!(depths.windows(2).all(|pair| pair[1] > pair[0]), "each one is deeper");
    assert!(depths[399] > 600, "two or three frames a step: {}", depths[399]);
}

#[test]
fn stacks_need_no_frame_pointers_and_take_them() {
    for flag in ["-fomit-frame-pointer", "-fno-omit-frame-pointer"] {
        let sites = heapwright_testkit::programs::compile_with("sites", &[flag]);
        let run = record_command(words(&sites, &[]), |_| {});
        run.expect_whole();
        run.facts().expect_complete_stacks();
    }
}

#[test]
fn a_stack_beyond_the_limit_is_said_to_be_cut() {
    let source = compile("endless", &[]);
    let run = record_command(words(&source, &[]), |_| {});
    run.expect_whole();
    let facts = run.facts();
    let (whole, cut): (Vec<&Birth>, Vec<&Birth>) =
        facts.own_births().partition(|birth| birth.is_complete);
    assert!(whole.iter().all(|birth| birth.depth <= 1024), "{whole:?}");
    assert_eq!((whole.len() + cut.len(), cut.len() >= 1900), (3000, true));
}

#[test]
fn coroutines_on_stacks_of_their_own_are_recorded() {
    let run = record_whole("coroutines", &[]);
    run.expect_counts();
    let facts = run.facts();
    assert_eq!(facts.own_live(), 0);
    facts.expect_complete_stacks();
}
