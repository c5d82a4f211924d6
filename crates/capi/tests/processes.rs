//! Pitfall 11 and the life of threads: forks of every kind at any moment, threads that end.
//!
//! The counts are small here; the long tier is `cargo xtask test --tier forks`.

mod built;

use built::{compile_as, expect_fine, object, run_under, subject};
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

fn program() -> &'static PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| compile_as("cc", "life/processes.c", "processes", &[]))
}

/// Runs the case `name` `count` times, which may take `limit_s` seconds.
#[track_caller]
fn case_is_fine(name: &str, count: u32, limit_s: u32) {
    let mut command = Command::new(program());
    command.arg(name).args([count.to_string(), limit_s.to_string()]);
    expect_fine(&run_under(&subject(), &mut command));
}

#[test]
fn p11_fork_while_other_threads_allocate() {
    case_is_fine("fork_under_load", 200, 60);
}

#[test]
fn p11_fork_from_any_thread() {
    case_is_fine("fork_from_any_thread", 30, 60);
}

#[test]
fn p11_fork_without_handlers_while_other_threads_allocate() {
    case_is_fine("plain_fork_under_load", 100, 60);
}

#[test]
fn p11_raw_fork_while_other_threads_allocate() {
    case_is_fine("raw_fork_under_load", 100, 60);
}

#[test]
fn p11_children_of_children() {
    case_is_fine("generations_of_forks", 40, 60);
}

#[test]
fn p11_vfork_children_that_allocate() {
    case_is_fine("vfork_that_allocates", 50, 60);
}

#[test]
fn p11_a_storm_of_spawns() {
    case_is_fine("storm_of_spawns", 50, 60);
}

#[test]
fn p11_handlers_of_fork_that_allocate() {
    case_is_fine("fork_handlers_that_allocate", 50, 60);
}

#[test]
fn p11_handlers_of_fork_that_wait_for_who_allocates() {
    case_is_fine("fork_handlers_that_wait_for_who_allocates", 5, 60);
}

#[test]
fn p11_fork_while_another_thread_flushes_all_files() {
    case_is_fine("fork_while_files_are_flushed", 200, 60);
}

#[test]
fn p11_handlers_of_signals_that_fork() {
    case_is_fine("handlers_of_signals_that_fork", 600, 60);
    for mode in ["libheapwright_compact.so", "libheapwright_hardened.so"] {
        let mut command = Command::new(program());
        command.args(["handlers_of_signals_that_fork", "600", "60"]);
        expect_fine(&run_under(&object(mode), &mut command));
    }
}

#[test]
fn p11_handlers_of_fork_in_check_mode() {
    for (case, count) in [
        ("fork_handlers_that_allocate", "50"),
        ("fork_handlers_that_wait_for_who_allocates", "2"),
        ("fork_while_files_are_flushed", "50"),
        ("handlers_of_signals_that_fork", "200"),
    ] {
        let mut command = Command::new(program());
        command.args([case, count, "60"]);
        expect_fine(&run_under(&object("libheapwright_check.so"), &mut command));
    }
}

#[test]
fn a_thread_that_ends_after_a_rest_is_joined() {
    case_is_fine("threads_end_after_a_rest", 2, 90);
}

#[test]
fn ten_thousand_short_threads_leave_nothing_behind() {
    case_is_fine("short_threads_leave_nothing_behind", 5000, 60);
}

#[test]
fn blocks_outlive_the_threads_that_made_them() {
    case_is_fine("blocks_outlive_their_threads", 400, 60);
}

#[test]
#[ignore = "long tier: minutes"]
fn tier_forks_two_thousand_of_each_kind() {
    case_is_fine("fork_under_load", 2000, 300);
    case_is_fine("fork_from_any_thread", 400, 300);
    case_is_fine("vfork_that_allocates", 700, 300);
    case_is_fine("storm_of_spawns", 700, 300);
}

#[test]
#[ignore = "long tier: minutes"]
fn tier_forks_two_thousand_without_handlers() {
    case_is_fine("plain_fork_under_load", 2000, 300);
    case_is_fine("raw_fork_under_load", 2000, 300);
}
