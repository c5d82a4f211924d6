//! Programs that make life hard for a recorder.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::recorded::{
    is_root, object, printed, program, record_apart, record_command, record_whole, words,
};

fn shell(script: &str, program: &Path) -> Vec<std::ffi::OsString> {
    words(Path::new("sh"), &["-c", script, program.to_str().expect("text")])
}

#[test]
fn a_program_that_closes_all_descriptors_keeps_its_own_numbers() {
    let run = record_command(words(&program("closes_all"), &[]), |_| {});
    if run.outcome.exit_status == Some(77) {
        return; // Too few descriptors are allowed here.
    }
    assert_eq!(run.outcome.exit_status, Some(0), "{}", run.stdout);
    run.expect_whole();
    run.expect_counts();
    assert_eq!(run.outcome.processes, 2);
}

#[test]
fn a_program_that_changes_directory_and_user_is_recorded_on() {
    let directory = tempfile::tempdir().expect("a directory");
    let everyone = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(directory.path(), everyone).expect("ours");
    let place = directory.path().to_str().expect("text");
    let run = record_whole("moves_house", &[place, "directory"]);
    run.expect_counts();
    assert_eq!(run.outcome.processes, 2);
}

#[test]
fn a_program_that_changes_root_is_recorded_on_with_its_children() {
    if !is_root() {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let everyone = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(directory.path(), everyone).expect("ours");
    let place = directory.path().to_str().expect("text");
    let run = record_command(words(&program("moves_house"), &[place, "root"]), |_| {});
    assert_eq!(run.outcome.exit_status, Some(0), "{}", run.stdout);
    run.expect_whole();
    run.expect_counts();
    assert_eq!(run.outcome.processes, 2);
}

#[test]
fn small_limits_of_descriptors_and_address_space_are_no_hindrance() {
    for limit in ["-n 30", "-v 200000"] {
        let script = format!("ulimit {limit} && exec \"$0\"");
        let run = record_command(shell(&script, &program("simple")), |_| {});
        assert_eq!(run.outcome.exit_status, Some(0), "{limit}");
        run.expect_whole();
        run.expect_counts();
    }
}

#[test]
fn a_file_size_limit_keeps_nothing_from_being_recorded() {
    for limit in ["1", "8", "600"] {
        let script = format!("ulimit -f {limit} && exec \"$0\"");
        let run = record_command(shell(&script, &program("simple")), |_| {});
        assert_eq!((run.outcome.exit_status, run.counts().len()), (Some(0), 1), "{limit}");
        run.expect_whole();
        run.expect_counts();
    }
}

#[test]
fn a_program_that_forbids_itself_system_calls_lives_on_and_is_recorded() {
    for way in ["prctl", "syscall"] {
        let run = record_whole("sandboxed", &[way]);
        run.expect_counts();
        run.facts().expect_complete_stacks();
    }
}

#[test]
fn an_emptied_environment_ends_the_recording_there() {
    let run = record_command(shell("env -i \"$0\"", &program("identity")), |_| {});
    assert_eq!(run.outcome.exit_status, Some(6));
    assert!(run.stdout.ends_with("plain\n"), "{}", run.stdout);
    let pid = run.counts()[0].pid;
    let exes: Vec<_> = run.recording.processes().iter().map(|process| &process.info).collect();
    assert!(exes.iter().all(|info| !info.exe.ends_with("identity")), "{pid}: {exes:?}");
}

#[test]
fn a_setuid_program_is_left_alone() {
    if !is_root() {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let copy = directory.path().join("setuid");
    std::fs::copy(program("identity"), &copy).expect("a copy");
    std::os::unix::fs::chown(&copy, Some(65534), None).expect("ours");
    std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o4755)).expect("ours");
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(directory.path(), open).expect("ours");
    let run = record_command(words(&copy, &[]), |_| {});
    assert_eq!((run.outcome.exit_status, run.outcome.processes), (Some(6), 0));
    assert!(run.stdout.ends_with("plain\n"), "the loader hides it: {}", run.stdout);
}

#[test]
fn a_process_in_another_namespace_is_left_alone_and_counted_as_lost() {
    let mut probe = Command::new("unshare");
    if !probe.args(["--pid", "--fork", "true"]).status().is_ok_and(|status| status.success()) {
        return; // Not allowed here.
    }
    let identity = program("identity");
    let command =
        words(Path::new("unshare"), &["--pid", "--fork", identity.to_str().expect("text")]);
    let run = record_command(command, |_| {});
    assert_eq!(run.outcome.exit_status, Some(6));
    // `unshare` itself forks into the new namespace and then becomes the program: both are lost.
    assert!(run.outcome.lost_processes >= 1, "{:?}", run.outcome);
    let exes: Vec<_> = run.recording.processes().iter().map(|process| &process.info.exe).collect();
    assert!(exes.iter().all(|exe| !exe.ends_with("identity")), "{exes:?}");
}

#[test]
fn other_preloaded_objects_stay() {
    let wasteful = object("wasteful_malloc");
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("both.hwr");
    let identity = words(&program("identity"), &[]);
    let output = record_apart(&file, &identity, |command| {
        command.env("LD_PRELOAD", &wasteful);
    })
    .output()
    .expect("it starts");
    assert_eq!(printed(&output, "exit_status"), 6, "{output:?}");
    let recording = heapwright_format::file::Recording::open(&file).expect("a recording");
    let facts = crate::recorded::Facts::of(&recording, 0);
    assert!(facts.modules.iter().any(|path| path.ends_with("wasteful_malloc")));
    assert_eq!((facts.own_births().count(), facts.own_live()), (100, 0));
}

#[test]
fn the_object_needs_libc_alone_and_no_new_version_of_it() {
    let path = crate::recorded::recorder();
    let dynamic = Command::new("readelf").arg("-dW").arg(&path).output().expect("readelf");
    let dynamic = String::from_utf8_lossy(&dynamic.stdout).into_owned();
    let needed: Vec<_> = dynamic.lines().filter(|line| line.contains("(NEEDED)")).collect();
    assert!(needed.len() == 1 && needed[0].contains("libc.so.6"), "{needed:?}");
    let symbols = Command::new("objdump").arg("-T").arg(&path).output().expect("objdump");
    let symbols = String::from_utf8_lossy(&symbols.stdout).into_owned();
    let minors = symbols.lines().filter_map(|line| {
        let (_, version) = line.split_once("(GLIBC_2.")?;
        version.split(['.', ')']).next()?.parse::<u32>().ok()
    });
    assert!(minors.clone().count() > 5, "{symbols}");
    assert!(minors.clone().all(|minor| minor <= 17), "{symbols}");
}
