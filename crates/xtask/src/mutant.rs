//! Mutants: each takes a check away in a copy of the sources, and the tests must fail.

use crate::shell;
use std::env;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// A check taken away.
pub(crate) struct Mutant<T> {
    /// What it promises: the invariant's name in docs/design first, where it has one.
    pub(crate) promise: &'static str,
    /// Below `crates`.
    pub(crate) file: &'static str,
    pub(crate) from: &'static str,
    pub(crate) to: &'static str,
    /// Which tests must see it.
    pub(crate) tests: T,
}

impl<T> Mutant<T> {
    /// Whether `word` is the invariant's name, as in `P1: ...`, or one of them, as in `L4, L5: ...`.
    fn is_of(&self, word: &str) -> bool {
        let names = self.promise.split(':').next().unwrap_or_default();
        names.split(", ").any(|name| name == word)
    }
}

/// Those that `HEAPWRIGHT_MUTANTS` names by their invariants (`L7,P2`) or numbers (`3..9`); all
/// without it.
pub(crate) fn chosen<T>(all: &'static [Mutant<T>]) -> Result<Vec<&'static Mutant<T>>, String> {
    let Ok(text) = env::var("HEAPWRIGHT_MUTANTS") else { return Ok(all.iter().collect()) };
    let mut chosen = Vec::new();
    for word in text.split(',') {
        let before = chosen.len();
        match range(word) {
            Some((low, high)) => chosen.extend(all.iter().take(high).skip(low)),
            None => chosen.extend(all.iter().filter(|mutant| mutant.is_of(word))),
        }
        if chosen.len() == before {
            return Err(format!("HEAPWRIGHT_MUTANTS: no invariant or numbers {word:?} here"));
        }
    }
    Ok(chosen)
}

fn range(word: &str) -> Option<(usize, usize)> {
    let (low, high) = word.split_once("..")?;
    Some((low.parse().ok()?, high.parse().ok()?))
}

/// Tries each of `mutants` in `copy`, a copy of the sources, which is as before afterwards: `build`
/// makes a program of it, `test` must fail then.
pub(crate) fn try_each<T>(
    copy: &Path,
    mutants: &[&Mutant<T>],
    build: impl Fn(&Mutant<T>) -> Result<(), String>,
    test: impl Fn(&Mutant<T>) -> Result<(), String>,
) -> Result<(), String> {
    let mut alive = Vec::new();
    for mutant in mutants {
        let file = copy.join("crates").join(mutant.file);
        let text = fs::read_to_string(&file).map_err(|error| format!("{file:?}: {error}"))?;
        if !text.contains(mutant.from) {
            return Err(format!("{} has no {:?} any more", mutant.file, mutant.from));
        }
        write(&file, &text.replace(mutant.from, mutant.to))?;
        let outcome = build(mutant)
            .map_err(|error| format!("{}: the mutant is no program: {error}", mutant.promise))
            .map(|()| test(mutant));
        write(&file, &text)?;
        match outcome? {
            Err(how) => println!("seen : {} ({how})", mutant.promise),
            Ok(()) => {
                println!("ALIVE: {}", mutant.promise);
                alive.push(mutant.promise);
            }
        }
    }
    println!("{} of {} mutants were seen", mutants.len() - alive.len(), mutants.len());
    if alive.is_empty() { Ok(()) } else { Err(format!("alive: {}", alive.join("; "))) }
}

/// Builds tests of `package` in a copy of the sources.
pub(crate) fn build_tests(
    copy: &Path,
    target: &Path,
    package: &str,
    tests: &[&str],
) -> Result<(), String> {
    let mut command = Command::new("cargo");
    command.args(["test", "--quiet", "--no-run"]);
    cargo_test(&mut command, copy, target, package, tests)
}

/// Runs tests of `package` in a copy of the sources, for at most `seconds`: a mutant may wait for
/// ever. What went wrong is said in one line.
pub(crate) fn run_tests(
    copy: &Path,
    target: &Path,
    package: &str,
    tests: &[&str],
    seconds: u32,
) -> Result<(), String> {
    let mut command = Command::new("timeout");
    command.args([&seconds.to_string(), "cargo", "test", "--quiet"]);
    cargo_test(&mut command, copy, target, package, tests)
}

fn cargo_test(
    command: &mut Command,
    copy: &Path,
    target: &Path,
    package: &str,
    tests: &[&str],
) -> Result<(), String> {
    command.args(["--package", package]).args(tests);
    command.current_dir(copy).env("CARGO_TARGET_DIR", target);
    let output = command.stdout(Stdio::null()).output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    // What `timeout` says.
    if output.status.code() == Some(124) {
        return Err("no end".into());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let how = text.lines().find(|line| line.starts_with("error"));
    Err(how.or(text.lines().next()).unwrap_or("it says nothing").into())
}

fn write(file: &Path, text: &str) -> Result<(), String> {
    fs::write(file, text).map_err(|error| format!("{file:?}: {error}"))
}

/// All files that are under version control, as they are now.
pub(crate) fn copy_sources(root: &Path, copy: &Path) -> Result<(), String> {
    let list = shell::output(Command::new("git").arg("ls-files").current_dir(root))?;
    for name in list.lines() {
        let (from, to) = (root.join(name), copy.join(name));
        let Ok(contents) = fs::read(&from) else { continue };
        // The same file keeps its time, so that nothing is built anew for it.
        if fs::read(&to).is_ok_and(|there| there == contents) {
            continue;
        }
        let folder = to.parent().unwrap_or(copy);
        fs::create_dir_all(folder).map_err(|error| format!("{folder:?}: {error}"))?;
        fs::write(&to, contents).map_err(|error| format!("{to:?}: {error}"))?;
    }
    Ok(())
}

/// That each mutant's text stands in its file.
#[cfg(test)]
pub(crate) fn expect_in_sources<T>(mutants: &[Mutant<T>]) {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for mutant in mutants {
        let text = fs::read_to_string(crates.join(mutant.file)).expect("a source file");
        let count = text.matches(mutant.from).count();
        assert!(count > 0, "{}: {:?}", mutant.promise, mutant.from);
    }
}
