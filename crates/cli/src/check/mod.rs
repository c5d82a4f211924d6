//! `heapwright run --mode check`: runs a program on the guarded heap, in one run or several, and
//! tells what was found.

mod finding;
mod lines;
mod sarif;
mod suppressions;
mod text;
mod uninitialised;

use crate::console::Console;
use crate::failure::Failure;
use clap::Args;
use finding::Finding;
use heapwright_launch::{Ended, PreloadObject, Program, Running, Stdin};
use heapwright_launch::{describe_status, shell_status};
use heapwright_symbols::Symbolizer;
use lines::{Counts, Reader};
use serde::Serialize;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use suppressions::Suppressions;

/// The variable that the object reads.
const VARIABLE: &str = "HEAPWRIGHT_CHECK";
/// How often the report file is looked at while the program runs.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What a checked run may find no word for: only another build finds it.
pub(crate) const NOT_CHECKED: &str = "\
not checked without rebuilding: arrays on the stack and global ones (clang -g -O1 \
-fsanitize=address; cargo +nightly build -Zbuild-std --target x86_64-unknown-linux-gnu with \
RUSTFLAGS=-Zsanitizer=address), and uses of unset values that change no output (clang -g -O1 \
-fsanitize=memory -fsanitize-memory-track-origins; RUSTFLAGS=-Zsanitizer=memory)";

/// How to check. These have a meaning with `--mode check` only.
#[derive(Debug, Args)]
pub(crate) struct CheckOptions {
    /// With --mode check: exit with N when something was found
    #[arg(long, value_name = "N")]
    error_exit: Option<u8>,
    /// With --mode check: run CMD twice, blocks ending at a guard and beginning at one
    #[arg(long)]
    both: bool,
    /// With --mode check: run CMD again with other values in new blocks, and look for the block
    /// whose unset bytes change what it prints
    #[arg(long)]
    uninit: bool,
    /// With --mode check: most memory, as a multiple of what CMD needs
    #[arg(long, value_name = "TIMES", default_value_t = 10)]
    budget: u32,
    /// With --mode check: guard the first N blocks of each call site, and a share of later ones
    #[arg(long, value_name = "N")]
    guard_first: Option<u32>,
    /// With --mode check: go on after an access out of bounds
    #[arg(long)]
    keep_going: bool,
    /// With --mode check: do not look for leaks
    #[arg(long)]
    no_leaks: bool,
    /// With --mode check: let blocks end at any byte (programs may rely on alignment)
    #[arg(long)]
    exact: bool,
    /// With --mode check: leave out what FILE lists, one KIND:PATTERN a line
    #[arg(long, value_name = "FILE")]
    suppressions: Option<PathBuf>,
    /// With --mode check: write the report to FILE
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// With --mode check: also write the findings to FILE, as SARIF 2.1.0
    #[arg(long, value_name = "FILE")]
    sarif: Option<PathBuf>,
}

impl CheckOptions {
    /// Whether anything but the budget was asked for.
    pub(crate) fn is_used(&self) -> bool {
        self.is_for_check_only()
            || self.keep_going
            || self.error_exit.is_some()
            || self.suppressions.is_some()
            || self.report.is_some()
            || self.sarif.is_some()
    }

    /// Whether something was asked for that sampling has not.
    pub(crate) fn is_for_check_only(&self) -> bool {
        let switches = [self.both, self.uninit, self.no_leaks, self.exact];
        switches.contains(&true) || self.guard_first.is_some()
    }
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct CheckResult<'a> {
    schema: u32,
    heapwright_version: &'static str,
    command: Vec<String>,
    mode: &'static str,
    object: String,
    exit_status: u8,
    wall_s: f64,
    cpu_s: f64,
    peak_rss_kb: u64,
    runs: u32,
    findings: &'a [Finding],
    suppressed: usize,
    processes: &'a [Counts],
    uninitialised: &'static str,
    not_checked: &'static str,
}

/// A checked program, over its runs.
pub(crate) struct Session<'a> {
    options: &'a CheckOptions,
    console: &'a Console,
    program: &'a Program,
    command: &'a [OsString],
    object: &'a PreloadObject,
    /// One block in so many is guarded; none: all that can be.
    sample: Option<Sample>,
    directory: PathBuf,
    symbolizer: Symbolizer,
    suppressions: Suppressions,
    report: Option<File>,
    findings: Vec<Finding>,
    suppressed: usize,
    counts: Vec<Counts>,
    runs: u32,
}

/// Sampled guarding in a mode that is not check.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    /// The mode's name.
    pub mode: &'static str,
    /// One block in so many.
    pub one_in: u32,
    /// A variable for the object of that mode, and its words.
    pub variable: Option<(&'static str, String)>,
}

/// Runs and tells; the exit status.
pub(crate) fn run(
    options: &CheckOptions,
    console: &Console,
    program: &Program,
    command: &[OsString],
    object: &PreloadObject,
    sample: Option<Sample>,
) -> Result<u8, Failure> {
    if let Some(reason) = own_checks(program.image()) {
        return Err(Failure::ours(format!("{} {reason}", program.image().display())));
    }
    let suppressions = match &options.suppressions {
        Some(path) => Suppressions::read(path)?,
        None => Suppressions::default(),
    };
    let report = match &options.report {
        Some(path) => Some(File::create(path).map_err(|error| Failure::unwritable(path, &error))?),
        None => None,
    };
    let directory = std::env::temp_dir().join(format!("heapwright-check-{}", std::process::id()));
    fs::create_dir(&directory).map_err(|error| {
        Failure::ours(format!("{}: cannot be made ({error}); set TMPDIR", directory.display()))
    })?;
    let mut session = Session {
        options,
        console,
        program,
        command,
        object,
        sample,
        directory: directory.clone(),
        symbolizer: Symbolizer::new(),
        suppressions,
        report,
        findings: Vec::new(),
        suppressed: 0,
        counts: Vec::new(),
        runs: 0,
    };
    let result = session.all_runs();
    // What is left there is of no use to anybody.
    let _ = fs::remove_dir_all(&directory);
    result
}

/// Why a program that brings its own checks cannot be run here.
fn own_checks(image: &Path) -> Option<&'static str> {
    let bytes = fs::read(image).ok()?;
    let has = |name: &[u8]| bytes.windows(name.len()).any(|window| window == name);
    has(b"\0__asan_init\0").then_some(
        "is built with AddressSanitizer, which replaces malloc itself; run it as it is, or build \
         it without -fsanitize=address",
    )
}

impl Session<'_> {
    fn all_runs(&mut self) -> Result<u8, Failure> {
        let ended = self.first_run()?;
        let mut status = shell_status(ended.status);
        if self.options.both {
            self.silent_run("side=left")?;
        }
        let uninitialised = match self.options.uninit {
            true => uninitialised::search(self)?,
            false => "not searched",
        };
        if !self.findings.is_empty() {
            self.close_report();
            status = self.options.error_exit.unwrap_or(status);
        }
        self.write_sarif()?;
        if self.console.json() {
            let words = self.command.iter().map(|word| word.to_string_lossy().into_owned());
            self.console.print_json(&CheckResult {
                schema: 1,
                heapwright_version: env!("CARGO_PKG_VERSION"),
                command: words.collect(),
                mode: self.sample.as_ref().map_or("check", |sample| sample.mode),
                object: self.object.path().display().to_string(),
                exit_status: status,
                wall_s: ended.wall.as_secs_f64(),
                cpu_s: ended.cpu_s(),
                peak_rss_kb: ended.usage.peak_rss_bytes / 1024,
                runs: self.runs,
                findings: &self.findings,
                suppressed: self.suppressed,
                processes: &self.counts,
                uninitialised,
                not_checked: NOT_CHECKED,
            })?;
        }
        Ok(status)
    }

    /// The program's command, with the words for the object and its report file.
    fn prepare(&mut self, more: &str) -> Result<(Command, Reader), Failure> {
        self.runs += 1;
        let path = self.directory.join(format!("run-{}", self.runs));
        File::create(&path).map_err(|error| Failure::unwritable(&path, &error))?;
        let CheckOptions { budget, keep_going, no_leaks, exact, guard_first, .. } = self.options;
        let mut words = format!("log={},budget={budget}", path.display());
        if *keep_going {
            words += ",keep=1";
        }
        if *no_leaks {
            words += ",leaks=0";
        }
        if *exact {
            words += ",exact=1";
        }
        if let Some(first) = guard_first {
            words += &format!(",first={first}");
        }
        if let Some(Sample { one_in, .. }) = &self.sample {
            words += &format!(",sample={one_in}");
        }
        if !more.is_empty() {
            words += &format!(",{more}");
        }
        let mut command = Command::new(self.program.path());
        command.args(&self.command[1..]);
        command.env("LD_PRELOAD", self.object.ld_preload()).env(VARIABLE, words);
        if let Some((name, words)) =
            self.sample.as_ref().and_then(|sample| sample.variable.as_ref())
        {
            command.env(name, words);
        }
        Ok((command, Reader::new(path)))
    }

    fn refused(&self, error: &std::io::Error) -> Failure {
        Failure::not_executable(self.program.path(), error)
    }

    /// The run that the user sees.
    fn first_run(&mut self) -> Result<Ended, Failure> {
        let (mut command, mut reader) = self.prepare("")?;
        command.stdout(self.console.child_stdout()?);
        let running = Running::start_in_our_group(&mut command);
        let mut running = running.map_err(|error| self.refused(&error))?;
        // Ctrl-C goes to CMD as well; it decides, and we report.
        let _interrupt = crate::interrupt::Interrupt::listen()?;
        let ended = loop {
            if let Some(ended) = running.wait_for(LOOK_EVERY, &|| false)? {
                break ended;
            }
            self.take(&mut reader)?;
        };
        self.take(&mut reader)?;
        Ok(ended)
    }

    /// A further run, whose output nobody needs.
    fn silent_run(&mut self, words: &str) -> Result<(), Failure> {
        let (mut command, mut reader) = self.prepare(words)?;
        command.stdin(Stdin::repeatable().open()?).stdout(Stdio::null()).stderr(Stdio::null());
        let running = Running::start(&mut command);
        running.map_err(|error| self.refused(&error))?.wait()?;
        self.take(&mut reader)
    }

    /// Takes in and tells what was written since the last time.
    fn take(&mut self, reader: &mut Reader) -> Result<(), Failure> {
        for line in reader.lines()? {
            match line {
                lines::Line::Counts(counts) => self.counts.push(counts),
                lines::Line::Found(raw) => {
                    let finding = Finding::name(*raw, &mut self.symbolizer);
                    self.enter(finding);
                }
                lines::Line::Site(_) | lines::Line::Sites(_) => {}
            }
        }
        Ok(())
    }

    /// Keeps and tells a finding, unless it is suppressed or known from another run.
    fn enter(&mut self, finding: Finding) {
        if self.suppressions.cover(&finding) {
            self.suppressed += 1;
        } else if !self.findings.iter().any(|known| known.is_same(&finding)) {
            self.tell(&text::describe(&finding));
            self.findings.push(finding);
        }
    }

    fn tell(&mut self, text: &str) {
        let _ = match &mut self.report {
            Some(file) => file.write_all(text.as_bytes()),
            None => std::io::stderr().lock().write_all(text.as_bytes()),
        };
    }

    fn write_sarif(&self) -> Result<(), Failure> {
        let Some(path) = &self.options.sarif else { return Ok(()) };
        let text = format!("{:#}\n", sarif::log(&self.findings));
        fs::write(path, text).map_err(|error| Failure::unwritable(path, &error))
    }

    /// The lines below all findings.
    fn close_report(&mut self) {
        let unguardable: u64 = self.counts.iter().map(|counts| counts.unguardable).sum();
        let unchecked: u64 = self.counts.iter().map(|counts| counts.unchecked).sum();
        let mut text = format!("heapwright: {} found", self.findings.len());
        if self.suppressed > 0 {
            text += &format!(", {} suppressed", self.suppressed);
        }
        if unguardable + unchecked > 0 {
            text += &format!(
                "; {unguardable} blocks could have no guard pages and {unchecked} no check at all"
            );
        }
        text += "\n";
        if self.sample.is_none() {
            text += &format!("heapwright: {NOT_CHECKED}\n");
        }
        self.tell(&text);
    }
}

/// What a run printed, and how it ended: as far as a fill of new blocks may not change it.
pub(crate) fn outcome(output: std::process::Output) -> (String, Vec<u8>) {
    (describe_status(output.status), output.stdout)
}
