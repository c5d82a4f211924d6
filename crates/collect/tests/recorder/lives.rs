//! Beginnings and ends: constructors, destructors, `_exit`, signals, dlopen.

use crate::recorded::{object, program, record_command, record_whole, words};

#[test]
fn calls_before_constructors_and_after_destructors_are_recorded() {
    let run = record_whole("constructor", &[]);
    run.expect_counts();
    assert_eq!(run.facts().own_live(), 0);
}

#[test]
fn every_way_to_end_leaves_all_events() {
    for (name, arguments, status, live) in [
        ("quick_exit", &[][..], 5, 100),
        ("kill_self", &[], 137, 5000),
        ("crash", &[], 139, 250),
        ("crash", &["abort"], 134, 250),
    ] {
        let run = record_command(words(&program(name), arguments), |_| {});
        assert_eq!(run.outcome.exit_status, Some(status), "{name} {arguments:?}");
        run.expect_whole();
        run.expect_counts();
        assert_eq!(run.facts().own_live(), live, "{name} {arguments:?}");
    }
}

#[test]
fn objects_that_come_and_go_have_modules_and_whole_stacks() {
    let plugin = object("plugin");
    let run = record_whole("dlopen_churn", &[plugin.to_str().expect("text")]);
    run.expect_counts();
    let facts = run.facts();
    facts.expect_complete_stacks();
    let loads = facts.modules.iter().filter(|path| path.ends_with("/plugin")).count();
    assert!(loads >= 1, "{:?}", facts.modules);
    assert_eq!(facts.own_live(), 0);
}

#[test]
fn handlers_that_allocate_are_recorded() {
    let run = record_whole("signals", &[]);
    run.expect_counts();
    run.facts().expect_complete_stacks();
}

#[test]
fn a_handler_in_the_middle_of_an_event_costs_at_most_its_own_calls() {
    let bump = object("bump");
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("storm.hwr");
    let storm = words(&program("storm"), &[]);
    let output = crate::recorded::record_apart(&file, &storm, |command| {
        command.env("LD_PRELOAD", &bump);
    })
    .output()
    .expect("it starts");
    assert_eq!(crate::recorded::printed(&output, "exit_status"), 0, "{output:?}");
    let counts =
        heapwright_testkit::programs::Counts::parse(&String::from_utf8_lossy(&output.stdout));
    let made = counts[0].malloc + counts[0].free;
    let recording = heapwright_format::file::Recording::open(&file).expect("a recording");
    assert_eq!(recording.problems(), []);
    let facts = crate::recorded::Facts::of(&recording, 0);
    let told = facts.own_births().count() as u64
        + facts.own_deaths() as u64
        + crate::recorded::printed(&output, "dropped");
    // Calls from inside the real allocator are its own: a handler's cannot be told from them.
    assert!(told <= made && told * 100 >= made * 95, "{told} of {made}");
    assert_eq!(facts.matches.unknown_frees, 0);
}
