//! `test`: every check and every test, the cheap ones first.

use crate::workspace::Workspace;
use crate::{
    build, hot_path, interpreted, mutants, mutants_gc, mutants_guard, mutants_hardened, numa,
    setup, shell, tidy,
};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

/// Features that only turn tests on; each is given to the crates that have it.
const TEST_FEATURES: [&str; 3] = ["preload-tests", "browser-tests", "recorder-tests"];

/// Tests that ran, as the runner's closing lines have it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: u32,
    failed: u32,
    ignored: u32,
}

/// Installs what is missing, builds, checks, tests; ends with `N passed, N failed`. With
/// `--tier NAME` instead: builds, and runs the ignored tests whose names begin with `tier_NAME`.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<(), String> {
    match arguments {
        [] => {}
        [flag, name] if flag == "--tier" && name == "numa" => return numa::run(workspace),
        [flag, name] if flag == "--tier" && name == "mutants" => {
            mutants::run(workspace)?;
            mutants_gc::run(workspace)?;
            mutants_hardened::run(workspace)?;
            return mutants_guard::run(workspace);
        }
        [flag, name] if flag == "--tier" && name == "mutants-regions" => {
            return mutants::run(workspace);
        }
        [flag, name] if flag == "--tier" && name == "mutants-gc" => {
            return mutants_gc::run(workspace);
        }
        [flag, name] if flag == "--tier" && name == "mutants-guard" => {
            return mutants_guard::run(workspace);
        }
        [flag, name] if flag == "--tier" && name == "miri" => return interpreted::miri(workspace),
        [flag, name] if flag == "--tier" && name == "aarch64" => {
            return interpreted::aarch64(workspace);
        }
        [flag, name] if flag == "--tier" && name == "loom" => return interpreted::loom(workspace),
        [flag, name] if flag == "--tier" && name == "asan" => return interpreted::asan(workspace),
        [flag, name] if flag == "--tier" => return tier(workspace, name),
        _ => return Err("test: it takes nothing, or --tier NAME".into()),
    }
    setup::run(setup::TO_TEST)?;
    shell::run(workspace.cargo("fmt").args(["--all", "--check"]))?;
    tidy::run(workspace)?;
    build::run(workspace, &[])?;
    hot_path::run(workspace)?;
    clippy(workspace)?;
    let (tally, result) = tests(workspace, &[], &[], &[])?;
    let Tally { passed, failed, ignored } = tally;
    println!("{passed} passed, {failed} failed, {ignored} skipped");
    if passed == 0 && result.is_ok() {
        return Err("no test ran".into());
    }
    result
}

/// One after the other: they use all of the machine. The tier `compact` is programs and forks in
/// mode compact, with everything merged each 10 ms that can be.
fn tier(workspace: &Workspace, name: &str) -> Result<(), String> {
    build::run(workspace, &[])?;
    let filter = format!("tier_{name}");
    let words = ["--ignored", "--test-threads=1", "--nocapture"];
    let (tally, result) = if name == "compact" {
        let words = [&words[..], &["tier_programs", "tier_forks", "tier_compact"]].concat();
        let settings = [
            ("HEAPWRIGHT_SUBJECT", "libheapwright_compact.so"),
            ("HEAPWRIGHT_MERGE_FORCED_MS", "10"),
        ];
        tests(workspace, &[], &words, &settings)?
    } else {
        tests(workspace, &[&filter], &words, &[])?
    };
    println!("{} passed, {} failed", tally.passed, tally.failed);
    if tally.passed + tally.failed == 0 && result.is_ok() {
        return Err(format!("there is no test {filter}_*"));
    }
    result
}

fn clippy(workspace: &Workspace) -> Result<(), String> {
    let mut crates = workspace.cargo("clippy");
    crates.args(["--quiet", "--workspace", "--all-targets"]);
    without_objects(workspace, &mut crates);
    shell::run(crates.args(["--", "-D", "warnings"]))?;
    // The shells have no unwinding; they are checked in the profile that they are built in.
    let mut objects = workspace.cargo("clippy");
    objects.args(["--quiet", "--profile", "so"]);
    for object in workspace.objects() {
        objects.args(["--package", &object.name]);
    }
    shell::run(objects.args(["--", "-D", "warnings"]))
}

/// Runs those that `filters` leave, with `words` for the runner and `settings` in the environment,
/// and counts; the result is that
/// of the runner.
fn tests(
    workspace: &Workspace,
    filters: &[&str],
    words: &[&str],
    settings: &[(&str, &str)],
) -> Result<(Tally, Result<(), String>), String> {
    let mut command = workspace.cargo("test");
    command.args(["--workspace", "--no-fail-fast"]);
    without_objects(workspace, &mut command);
    command.args(filters).arg("--").args(words);
    // Some tests run programs under the objects that were just built.
    command.env("HEAPWRIGHT_LIB_DIR", workspace.release()).envs(settings.iter().copied());
    shell::show(&command);
    let failed = |error: std::io::Error| format!("cargo test: {error}");
    let mut child = command.stdout(Stdio::piped()).spawn().map_err(failed)?;
    let mut tally = Tally::default();
    if let Some(output) = child.stdout.take() {
        for line in BufReader::new(output).split(b'\n') {
            let line = line.map_err(failed)?;
            let line = String::from_utf8_lossy(&line);
            println!("{line}");
            tally.add(&line);
        }
    }
    let status = child.wait().map_err(failed)?;
    let result = if status.success() { Ok(()) } else { Err(format!("cargo test: {status}")) };
    Ok((tally, result))
}

/// Leaves the `.so` crates out and turns the test features on.
fn without_objects(workspace: &Workspace, command: &mut Command) {
    for object in workspace.objects() {
        command.args(["--exclude", &object.name]);
    }
    for one in workspace.crates.iter().filter(|one| !one.is_object) {
        for feature in TEST_FEATURES.iter().filter(|name| one.features.iter().any(|f| f == *name)) {
            command.arg("--features").arg(format!("{}/{feature}", one.name));
        }
    }
}

impl Tally {
    /// Adds a line such as `test result: ok. 3 passed; 0 failed; 1 ignored; ...`.
    fn add(&mut self, line: &str) {
        let Some((_, counts)) =
            line.split_once("test result: ").and_then(|(_, rest)| rest.split_once(". "))
        else {
            return;
        };
        for count in counts.split(';') {
            let mut words = count.split_whitespace();
            let number = words.next().and_then(|word| word.parse::<u32>().ok()).unwrap_or(0);
            match words.next() {
                Some("passed") => self.passed += number,
                Some("failed") => self.failed += number,
                Some("ignored") => self.ignored += number,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Tally;

    #[test]
    fn closing_lines_are_added_up() {
        let mut tally = Tally::default();
        tally.add("test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out");
        tally.add("test result: FAILED. 2 passed; 4 failed; 0 ignored; 0 measured");
        tally.add("test other ... ok");
        assert_eq!(tally, Tally { passed: 5, failed: 4, ignored: 1 });
    }
}
