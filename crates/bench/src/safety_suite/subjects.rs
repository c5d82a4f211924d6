//! Who watches a program, and what they told.

use super::corpus::Case;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A watcher.
#[derive(Debug)]
pub(super) enum Subject {
    /// Check mode of the binary: one run, or with `--both --uninit`.
    Check { binary: PathBuf, all_runs: bool },
    /// Mode fast with each block offered to a guard.
    Sampled { binary: PathBuf },
    /// Hardened mode, looking at all blocks at the end.
    Hardened { binary: PathBuf },
    /// valgrind's memcheck.
    Valgrind,
    /// A build of its own by the C compiler.
    AddressSanitizer,
    /// Another allocator, put before the program's: it can stop a program, no more.
    Preloaded { name: &'static str, object: PathBuf },
}

/// Where distributions put the other allocators, and their names.
const PRELOADED: [(&str, &str, &[&str]); 3] = [
    ("hardened_malloc", "libhardened_malloc.so", &["/usr/lib", "/usr/local/lib"]),
    (
        "scudo",
        "libclang_rt.scudo_standalone-x86_64.so",
        &[
            "/usr/lib/llvm-14/lib/clang/14.0.6/lib/linux",
            "/usr/lib/llvm-16/lib/clang/16/lib/linux",
            "/usr/lib/llvm-19/lib/clang/19/lib/linux",
        ],
    ),
    (
        "mimalloc-secure",
        "libmimalloc-secure.so.2",
        &["/usr/lib/x86_64-linux-gnu", "/usr/lib", "/usr/local/lib"],
    ),
];

/// What was told of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Nothing,
    Told { right_place: bool },
}

/// The status by which valgrind says that it found something.
const VALGRIND_STATUS: i32 = 99;

impl Subject {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Check { .. } => "heapwright",
            Self::Valgrind => "valgrind",
            Self::AddressSanitizer => "asan",
            Self::Preloaded { name, .. } => name,
            Self::Sampled { .. } | Self::Hardened { .. } => "heapwright",
        }
    }

    pub(super) fn variant(&self) -> &'static str {
        match self {
            Self::Check { all_runs: false, .. } => "check",
            Self::Check { all_runs: true, .. } => "check --both --uninit",
            Self::Sampled { .. } => "fast --sample 1",
            Self::Hardened { .. } => "hardened --sweep",
            _ => "",
        }
    }

    /// The allocator of this name, if the machine has it where distributions put it; an error when
    /// there is no such peer.
    pub(super) fn preloaded(peer: &str) -> Result<Option<Self>, String> {
        let Some((name, file, places)) = PRELOADED.iter().find(|(name, ..)| *name == peer) else {
            let names = PRELOADED.map(|(name, ..)| name).join(", ");
            return Err(format!("unknown peer `{peer}`; there are valgrind, asan, {names}"));
        };
        let object = places.iter().map(|place| Path::new(place).join(file)).find(|at| at.exists());
        Ok(object.map(|object| Self::Preloaded { name, object }))
    }

    /// Runs a twin and says what was told of it.
    pub(super) fn run(&self, program: &Path, case: &Case, bad: bool) -> Result<Verdict, String> {
        let mut command = match self {
            Self::Check { binary, all_runs } => {
                let mut command = Command::new(binary);
                command.args(["run", "--json", "--mode", "check"]);
                if *all_runs {
                    command.args(["--both", "--uninit"]);
                }
                command.arg("--").arg(program);
                command
            }
            Self::Valgrind => {
                let mut command = Command::new("valgrind");
                command.args(["-q", "--leak-check=full", "--error-exitcode=99"]).arg(program);
                command
            }
            Self::Sampled { binary } => {
                let mut command = Command::new(binary);
                command.args(["run", "--json", "--mode", "fast", "--sample", "1", "--"]);
                command.arg(program);
                command
            }
            Self::Hardened { binary } => {
                let mut command = Command::new(binary);
                command.args(["run", "--mode", "hardened", "--sweep", "--"]).arg(program);
                command
            }
            Self::AddressSanitizer => Command::new(program),
            Self::Preloaded { object, .. } => {
                let mut command = Command::new(program);
                command.env("LD_PRELOAD", object);
                command
            }
        };
        let output = command.stdin(Stdio::null()).output();
        let output = output.map_err(|error| format!("{}: {error}", self.name()))?;
        let text = String::from_utf8_lossy(&output.stderr);
        let place = format!("{}:{}", case.name, case.marks.bug_line());
        Ok(match self {
            Self::Check { .. } | Self::Sampled { .. } => judge_json(&output.stdout, case, bad)?,
            // One line without stacks.
            Self::Hardened { .. } if text.starts_with("heapwright: ") => {
                Verdict::Told { right_place: false }
            }
            // The twins of the corpus end with 0 when nobody stops them.
            Self::Hardened { .. } | Self::Preloaded { .. } if !output.status.success() => {
                Verdict::Told { right_place: false }
            }
            Self::Valgrind if output.status.code() == Some(VALGRIND_STATUS) => {
                Verdict::Told { right_place: text.contains(&place) }
            }
            Self::AddressSanitizer if !output.status.success() => {
                Verdict::Told { right_place: text.contains(&place) }
            }
            _ => Verdict::Nothing,
        })
    }
}

/// Our own answer: a finding of the right kind, or none.
fn judge_json(stdout: &[u8], case: &Case, bad: bool) -> Result<Verdict, String> {
    let value: Value = serde_json::from_slice(stdout)
        .map_err(|error| format!("{}: no JSON from heapwright: {error}", case.name))?;
    let findings = value["findings"].as_array().map_or(&[][..], Vec::as_slice);
    let right = |finding: &&Value| case.kinds.iter().any(|kind| finding["kind"] == kind.as_str());
    let found: Vec<&Value> = findings.iter().filter(right).collect();
    if found.is_empty() {
        // The error may keep a block from being freed: such a leak is not the error.
        let is_leak = |finding: &Value| finding["kind"] == "leak";
        let is_side_effect = bad && findings.iter().all(is_leak);
        return Ok(match is_side_effect || findings.is_empty() {
            true => Verdict::Nothing,
            false => Verdict::Told { right_place: false },
        });
    }
    // Both sides of a block tell the same error twice: each must be right.
    Ok(Verdict::Told { right_place: found.iter().all(|finding| case.marks.agree(finding)) })
}
