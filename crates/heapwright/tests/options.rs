//! Options of the program's static, of the environment and at run time, in processes of their own.

use std::process::Command;

use heapwright::options::{OptionError, option, set_option};
use heapwright::{Heapwright, Limits};

#[global_allocator]
static GLOBAL: Heapwright = Heapwright;

heapwright::options!("soft_limit=3G,purger=0,hard_limit=oops,nonsense=1");

/// Says in a child process what `soft_limit` and `purger` are, by a test of this file.
fn in_child(variables: &[(&str, &str)]) -> String {
    let program = std::env::current_exe().expect("a path");
    let mut child = Command::new(program);
    child.args(["--exact", "child_says_what_holds", "--nocapture", "--test-threads=1"]);
    child.env("HEAPWRIGHT_TEST_CHILD", "1").envs(variables.iter().copied());
    let output = child.output().expect("the test program itself");
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("text");
    let start = text.find("holds: ").expect("the child's answer");
    text[start..].lines().next().expect("a line").to_owned()
}

#[test]
fn child_says_what_holds() {
    if std::env::var_os("HEAPWRIGHT_TEST_CHILD").is_some() {
        let names = ["soft_limit", "hard_limit", "purger"];
        let values = names.map(|name| option(name).expect("an option"));
        println!("\nholds: {values:?}");
    }
}

#[test]
fn the_environment_wins_over_the_static_and_nonsense_is_ignored() {
    let none = usize::MAX;
    assert_eq!(in_child(&[]), format!("holds: {:?}", [3 << 30, none, 0]));
    let variables = [("HEAPWRIGHT_SOFT_LIMIT", "1G"), ("HEAPWRIGHT_PURGER", "yes")];
    assert_eq!(in_child(&variables), format!("holds: {:?}", [1 << 30, none, 0]));
    let variables = [("HEAPWRIGHT_HARD_LIMIT", "8G"), ("HEAPWRIGHT_PURGER", "1")];
    assert_eq!(in_child(&variables), format!("holds: {:?}", [3 << 30, 8usize << 30, 1]));
}

#[test]
fn run_time_wins_over_both_and_errors_are_told() {
    assert_eq!(set_option("hard_limit", "64G"), Ok(()));
    assert_eq!(GLOBAL.limits().hard_bytes, 64 << 30);
    GLOBAL.limit(Limits { hard_bytes: usize::MAX, ..GLOBAL.limits() });
    assert_eq!(option("hard_limit"), Some(usize::MAX));
    assert_eq!(set_option("hard_limit", "much"), Err(OptionError::Value));
    assert_eq!(set_option("no_such", "1"), Err(OptionError::Unknown));
    assert_eq!(set_option("numa", "1"), Err(OptionError::TooLate));
}

#[test]
fn figures_follow_what_is_allocated_and_trimmed() {
    let before = GLOBAL.stats();
    let block = vec![1u8; 10 << 20];
    let with_block = GLOBAL.stats();
    assert!(with_block.large_bytes >= before.large_bytes + (10 << 20));
    let live = GLOBAL.live_blocks().expect("memory");
    let found = live.filter(|live| live.start.addr() == block.as_ptr().addr()).count();
    assert_eq!(found, 1, "the block is told of once");
    drop(block);
    GLOBAL.trim();
    assert!(GLOBAL.live_blocks().expect("memory").all(|live| live.usable_bytes < 10 << 20));
}
