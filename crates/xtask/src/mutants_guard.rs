//! `test --tier mutants`: check mode without one of its checks, for each of them: its tests must
//! fail then.
//!
//! Each check is taken away in a copy of the sources; the object that is built of it is put beside
//! the binary of this build, and the tests of check mode run on those. `HEAPWRIGHT_MUTANTS=3..9`
//! tries some of them.

use crate::mutant;
use crate::shell;
use crate::workspace::Workspace;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

type Mutant = mutant::Mutant<Tests>;

#[derive(Clone, Copy)]
enum Tests {
    /// Those of `heapwright-guard` itself.
    Own,
    /// A test program of the command line.
    Program(&'static str),
}

const CHECK: Tests = Tests::Program("check");
const PROMISES: Tests = Tests::Program("check_promises");
const OBJECT: &str = "heapwright-preload-check";
const OBJECT_FILE: &str = "libheapwright_check.so";

const fn without(
    promise: &'static str,
    file: &'static str,
    from: &'static str,
    to: &'static str,
    tests: Tests,
) -> Mutant {
    Mutant { promise, file, from, to, tests }
}

const MUTANTS: &[Mutant] = &[
    without(
        "a block is freed once",
        "guard/src/release.rs",
        "&& record.take(family)",
        "&& { let _ = record.take(family); true }",
        CHECK,
    ),
    without(
        "I1: one of two racing frees takes the block",
        "guard/src/record.rs",
        "if packed & 0xff != State::Live as u32 {",
        "if false {",
        Tests::Own,
    ),
    without(
        "what is freed is a block's start",
        "guard/src/release.rs",
        "&& record.start() == address\n            && record.take",
        "&& record.take",
        CHECK,
    ),
    without(
        "the functions fit together",
        "guard/src/release.rs",
        "if record.family() != family {",
        "if false {",
        CHECK,
    ),
    without(
        "a size that is told is the block's",
        "guard/src/release.rs",
        "how.bytes.filter(|bytes| *bytes != record.bytes())",
        "how.bytes.filter(|_| false)",
        CHECK,
    ),
    without(
        "canaries are looked at by a free",
        "guard/src/release.rs",
        "            self.check_canaries(record, Some(trace));\n",
        "",
        CHECK,
    ),
    without(
        "canaries behind a block",
        "guard/src/canary.rs",
        "first_other(after.0, after.1, CANARY) } {",
        "first_other(after.1, after.1, CANARY) } {",
        CHECK,
    ),
    without(
        "canaries before a block",
        "guard/src/canary.rs",
        "first_other(before.0, before.1, CANARY) }?",
        "first_other(before.1, before.1, CANARY) }?",
        CHECK,
    ),
    without(
        "canaries are looked at when the program ends",
        "guard/src/end.rs",
        "(State::Live, _) => HEAP.check_canaries(record, None),",
        "(State::Live, _) => {}",
        PROMISES,
    ),
    without(
        "poison is looked at when the program ends",
        "guard/src/end.rs",
        "(State::Freed, Watch::Packed) => HEAP.check_poison(record),",
        "(State::Freed, Watch::Packed) => {}",
        PROMISES,
    ),
    without(
        "poison is looked at before a slot is used again",
        "guard/src/release.rs",
        "            self.check_poison(record);\n",
        "",
        PROMISES,
    ),
    without(
        "I2: a freed block's pages are closed",
        "guard/src/release.rs",
        "if self.pages.close(room) {",
        "if true {",
        CHECK,
    ),
    without(
        "I2: new pages are closed until their room is opened",
        "guard/src/pages.rs",
        "{ install_guards(start, STEP_BYTES) }.is_ok() {\n            return true;",
        "{ install_guards(start, 0) }.is_ok() {\n            return true;",
        Tests::Own,
    ),
    without(
        "I2: a guard lies behind each room",
        "guard/src/pages.rs",
        "cursor.next += bytes + PAGE_BYTES;",
        "cursor.next += bytes;",
        Tests::Own,
    ),
    without(
        "I3: a step goes back with its last room only",
        "guard/src/pages.rs",
        "if live.fetch_sub(1, Ordering::AcqRel) != 1 {",
        "if live.fetch_sub(1, Ordering::AcqRel) == 0 {",
        CHECK,
    ),
    without(
        "a fault in the heap is explained",
        "guard/src/fault.rs",
        "let is_ours = is_access &&",
        "let is_ours = false && is_access &&",
        CHECK,
    ),
    without(
        "the program's own handler is called",
        "guard/src/fault.rs",
        "if has_handler && !(is_ours && again) {",
        "if false {",
        CHECK,
    ),
    without(
        "what a function was told for is not told again by the fault",
        "guard/src/fault.rs",
        "if range::was_told(state.address, thread) {",
        "if false {",
        PROMISES,
    ),
    without(
        "an error in a loop is told once",
        "guard/src/report.rs",
        "Err(other) if other == hash => return true,",
        "Err(other) if other == hash => return false,",
        PROMISES,
    ),
    without(
        "functions that read are checked",
        "guard/src/range.rs",
        "        check_slow(address, bytes, false, via);\n",
        "        let _ = (address, bytes, via);\n",
        CHECK,
    ),
    without(
        "functions that write are checked",
        "guard/src/range.rs",
        "        check_slow(address, bytes, true, via);\n",
        "        let _ = (address, bytes, via);\n",
        CHECK,
    ),
    without(
        "a string is not read on behind its block",
        "guard/src/range.rs",
        "if HEAP.holds(address) { bytes_left_slow(address) } else { usize::MAX }",
        "if false { bytes_left_slow(address) } else { usize::MAX }",
        CHECK,
    ),
    without(
        "strings that a format prints are checked",
        "preload-check/src/format.rs",
        "{ check_string(arguments.word(), is_wide, limit, via) };",
        "{ let _ = (arguments.word(), is_wide, limit, via); };",
        CHECK,
    ),
    without(
        "what a format writes is checked",
        "preload-check/src/printf.rs",
        "        check_write(to, count.saturating_add(1).min(limit).saturating_mul(unit_bytes), via);\n",
        "        let _ = (to, count, limit, unit_bytes, via);\n",
        CHECK,
    ),
    without(
        "buffers that the kernel fills are checked",
        "preload-check/src/io.rs",
        "Ok(arrived) => check_write(to.addr(), arrived.min(asked), via),",
        "Ok(_) => {}",
        CHECK,
    ),
    without(
        "wide strings are checked",
        "preload-check/src/wide.rs",
        "            check_write(to.addr(), bytes_of(length + 1), $via);\n",
        "",
        CHECK,
    ),
    without(
        "the size of a dead block is no question",
        "guard/src/release.rs",
        "            && record.state() == State::Live\n        {\n            return record.bytes();",
        "        {\n            return record.bytes();",
        PROMISES,
    ),
    without(
        "leaks: what lies below the stack pointer is no root",
        "guard/src/leaks.rs",
        "let used = stack.and_then(|(stopped, sp)| {",
        "let used = stack.filter(|_| false).and_then(|(stopped, sp)| {",
        CHECK,
    ),
    without(
        "leaks: a pointer to the end is one to the block",
        "guard/src/leaks.rs",
        "word >= record.start() && word <= record.end();",
        "word >= record.start() && word < record.end();",
        PROMISES,
    ),
    without(
        "leaks: blocks lead to blocks",
        "guard/src/leaks.rs",
        "        self.drain();\n        true\n",
        "        true\n",
        PROMISES,
    ),
    without(
        "leaks: what is lost through another is said to be",
        "guard/src/leaks.rs",
        "        marker.scan_block(record);\n        marker.drain();\n",
        "        let _ = marker.first;\n",
        PROMISES,
    ),
    without(
        "--both: the other side of a block is at a guard",
        "guard/src/alloc.rs",
        "let is_left = self.options.has(Flag::Left) ||",
        "let is_left =",
        CHECK,
    ),
    without(
        "--uninit: new blocks are filled",
        "guard/src/alloc.rs",
        "if !(is_zero && byte == 0) {",
        "if false {",
        CHECK,
    ),
    without(
        "the first blocks of a site are guarded",
        "guard/src/sites.rs",
        "if before < self.first_count {\n            return true;",
        "if before < self.first_count {\n            return false;",
        Tests::Own,
    ),
    without(
        "a later block of a site has its least share",
        "guard/src/sites.rs",
        ".min(self.one_in_max);",
        ".max(self.one_in_max);",
        Tests::Own,
    ),
];

/// Tries every mutant, or those of `HEAPWRIGHT_MUTANTS`; all must be seen.
pub(crate) fn run(workspace: &Workspace) -> Result<(), String> {
    let place = Place::prepare(workspace)?;
    place.build()?;
    for tests in [Tests::Own, CHECK, PROMISES] {
        place.test(workspace, tests).map_err(|_| "the tests fail without any mutant")?;
    }
    let chosen = mutant::chosen(MUTANTS)?;
    let run = |one: &Mutant| place.test(workspace, one.tests);
    mutant::try_each(&place.copy, &chosen, |_| place.build(), run)
}

/// Where mutants are built and tried.
struct Place {
    /// The sources.
    copy: PathBuf,
    /// What Cargo makes of them.
    target: PathBuf,
    /// The binary, and the objects beside it.
    binaries: PathBuf,
}

impl Place {
    /// Copies the sources, and what was built by `cargo xtask build`.
    fn prepare(workspace: &Workspace) -> Result<Self, String> {
        let place = Self {
            copy: workspace.target.join("mutants-guard"),
            target: workspace.target.join("mutants-guard-target"),
            binaries: workspace.target.join("mutants-guard-target/binaries"),
        };
        mutant::copy_sources(&workspace.root, &place.copy)?;
        fs::create_dir_all(&place.binaries).map_err(|error| error.to_string())?;
        for file in [
            "heapwright",
            "heapwright-bench-safety",
            "libheapwright_preload.so",
            "libheapwright_hardened.so",
        ] {
            let from = workspace.release().join(file);
            fs::copy(&from, place.binaries.join(file))
                .map_err(|error| format!("{}: {error}; cargo xtask build", from.display()))?;
        }
        Ok(place)
    }

    /// Builds the object. Not optimised as a whole: that takes most of the time, and what is
    /// asked is what it finds.
    fn build(&self) -> Result<(), String> {
        let mut command = Command::new("cargo");
        command.args(["build", "--quiet", "--profile", "so", "--package", OBJECT]);
        command.env("CARGO_PROFILE_SO_LTO", "thin").env("CARGO_TARGET_DIR", &self.target);
        shell::output(command.current_dir(&self.copy))?;
        let built = self.target.join("so").join(OBJECT_FILE);
        fs::copy(&built, self.binaries.join(OBJECT_FILE))
            .map(|_| ())
            .map_err(|error| format!("{}: {error}", built.display()))
    }

    /// Runs tests for at most three minutes.
    fn test(&self, workspace: &Workspace, tests: Tests) -> Result<(), String> {
        let mut command = Command::new("timeout");
        command.args(["180", "cargo", "test", "--quiet"]);
        match tests {
            Tests::Own => {
                command.args(["--package", "heapwright-guard", "--lib"]);
                command.current_dir(&self.copy).env("CARGO_TARGET_DIR", &self.target);
            }
            Tests::Program(name) => {
                command.args(["--package", "heapwright-cli", "--features", "preload-tests"]);
                command.args(["--test", name]).current_dir(&workspace.root);
                command.env("HEAPWRIGHT_BINARY", self.binaries.join("heapwright"));
            }
        }
        shell::output(&mut command).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_mutants_take_away_is_there() {
        crate::mutant::expect_in_sources(super::MUTANTS);
    }
}
