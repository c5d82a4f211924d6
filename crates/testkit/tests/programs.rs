//! Every program compiles, ends as it says and prints the counts it is known for.

use heapwright_testkit::programs::{Counts, compile};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Output};

fn run(name: &str, arguments: &[&str]) -> Output {
    let program = compile(name);
    Command::new(program).args(arguments).output().expect("the program starts")
}

fn counts(output: &Output) -> Vec<Counts> {
    Counts::parse(&String::from_utf8_lossy(&output.stdout))
}

fn clean(name: &str) -> Vec<Counts> {
    let output = run(name, &[]);
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{name}: {message}");
    counts(&output)
}

#[test]
fn one_process_programs_print_their_calls() {
    let known = [
        ("simple", 1000, 990),
        ("constructor", 41, 41),
        ("deep_stack", 400, 400),
        ("entry_points", 12, 10),
        ("fork_while_allocating", 40, 40),
        ("main_exits_first", 600, 500),
        ("many_threads", 64_000, 64_000),
        ("operators", 16, 16),
        ("producer_consumer", 40_000, 40_000),
        ("signals", 50_050, 50_050),
        ("sites", 47_200, 47_001),
        ("thread_churn", 10_500, 10_500),
        ("touched_pages", 2, 2),
    ];
    for (name, allocations, frees) in known {
        let counts = clean(name);
        assert_eq!(counts.len(), 1, "{name}");
        assert_eq!((counts[0].allocations(), counts[0].free), (allocations, frees), "{name}");
    }
}

#[test]
fn programs_of_many_processes_print_a_line_each() {
    let fork = clean("fork_tree");
    assert_eq!(fork.len(), 5);
    assert!(fork[..4].iter().all(|child| (child.malloc, child.free) == (200, 150)));
    assert_eq!((fork[4].malloc, fork[4].free), (100, 100));
    let exec = clean("exec_chain");
    assert_eq!(exec.iter().map(|image| image.malloc).collect::<Vec<_>>(), [10, 20, 30, 40]);
    let vfork = clean("vfork_exec");
    assert_eq!(vfork.len(), 21);
    assert!(vfork[..20].iter().all(|child| child.malloc == 5));
}

#[test]
fn programs_end_as_they_say() {
    let ends = |name: &str, arguments: &[&str]| run(name, arguments).status;
    assert_eq!(ends("quick_exit", &[]).code(), Some(5));
    assert_eq!(ends("return_with_threads", &[]).code(), Some(3));
    assert_eq!(ends("kill_self", &[]).signal(), Some(9));
    assert_eq!(ends("crash", &[]).signal(), Some(11));
    assert_eq!(ends("crash", &["abort"]).signal(), Some(6));
    assert_eq!(ends("status", &["42"]).code(), Some(42));
    assert_eq!(ends("status", &["signal", "15"]).signal(), Some(15));
    let _: ExitStatus = ends("varying_output", &[]);
}

#[test]
fn addresses_are_reused_across_threads() {
    let output = run("address_reuse", &[]);
    let text = String::from_utf8_lossy(&output.stdout);
    let reused = text.lines().find_map(|line| line.strip_prefix("reused ")).expect("a line");
    let times: u32 = reused.split(' ').next().unwrap_or("").parse().expect("a number");
    assert!(times > 10_000, "the address came back {times} times of 20000");
}

#[test]
fn a_plug_in_is_loaded_and_unloaded() {
    let plugin = compile("plugin");
    let output = run("dlopen_churn", &[plugin.to_str().expect("a plain path")]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!((counts(&output)[0].malloc, counts(&output)[0].free), (1000, 1000));
}
