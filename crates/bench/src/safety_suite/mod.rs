//! What do memory errors in programs as they are get told, and are right programs left alone?
//!
//! Each program of `safety/` is built twice, with its error and without, for blocks of several
//! sizes, and run under each subject: check mode in one run, in all its runs, sampling at one in
//! one, hardened mode, valgrind, AddressSanitizer (which needs a build of its own), and other
//! hardened allocators, of which only is known whether they stopped the program. Expected: check
//! mode finds all in all its runs, and all but reads below a block and unset bytes in one; nobody
//! tells of a right program.

mod corpus;
mod curve;
mod places;
mod subjects;

use corpus::{Case, Corpus};
pub use curve::{Curve, Point, curve};
use heapwright_launch::Machine;
use serde::Serialize;
use std::fmt;
use std::path::PathBuf;
use subjects::{Subject, Verdict};

/// What to measure.
#[derive(Debug)]
pub struct Options {
    /// The binary under test.
    pub heapwright: PathBuf,
    /// Where programs are built.
    pub directory: PathBuf,
    /// One size instead of all.
    pub quick: bool,
    /// Programs whose name contains this only.
    pub only: Option<String>,
    /// Peers: `valgrind`, `asan`, and allocators: `hardened_malloc`, `scudo`, `mimalloc-secure`.
    pub against: Vec<String>,
}

/// One line of the results.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The program.
    pub workload: String,
    /// Who watched.
    pub subject: String,
    /// How.
    pub variant: String,
    /// Errors told, of those there are.
    pub detected: u32,
    /// Errors there are: one a size.
    pub of: u32,
    /// Right programs of which something was told.
    pub false_alarms: u32,
    /// Errors told with file and line of the access, of the allocation and of the free, as far as
    /// its kind has them; by peers, of the access.
    pub right_place: u32,
}

/// All results.
#[derive(Clone, Debug, Serialize)]
pub struct Results {
    suite: &'static str,
    machine: Machine,
    /// One a program and subject.
    pub rows: Vec<Row>,
}

/// Builds and runs everything; `say` gets a line of progress.
///
/// # Errors
/// When a compiler is missing, or a program of the corpus does not compile.
pub fn run(options: &Options, say: &mut dyn FnMut(&str)) -> Result<Results, String> {
    let corpus = Corpus::new(&options.directory)?;
    let mut subjects = vec![
        Subject::Check { binary: options.heapwright.clone(), all_runs: false },
        Subject::Check { binary: options.heapwright.clone(), all_runs: true },
        Subject::Sampled { binary: options.heapwright.clone() },
        Subject::Hardened { binary: options.heapwright.clone() },
    ];
    for peer in &options.against {
        match peer.as_str() {
            "valgrind" => subjects.push(Subject::Valgrind),
            "asan" => subjects.push(Subject::AddressSanitizer),
            other => match Subject::preloaded(other)? {
                Some(subject) => subjects.push(subject),
                None => say(&format!("{other}: not on this machine, left out")),
            },
        }
    }
    let mut rows = Vec::new();
    for case in corpus.cases(options.only.as_deref())? {
        say(&case.name);
        for subject in &subjects {
            rows.push(judge(&corpus, &case, subject, options.quick)?);
        }
    }
    Ok(Results { suite: "safety", machine: Machine::this(), rows })
}

fn judge(corpus: &Corpus, case: &Case, subject: &Subject, quick: bool) -> Result<Row, String> {
    let mut row = Row {
        workload: case.name.clone(),
        subject: subject.name().into(),
        variant: subject.variant().into(),
        detected: 0,
        of: 0,
        false_alarms: 0,
        right_place: 0,
    };
    for bytes in corpus::sizes(quick) {
        let sanitize = matches!(subject, Subject::AddressSanitizer);
        // The stable compiler of Rust has no sanitizers.
        if sanitize && case.is_rust() {
            continue;
        }
        let bad = corpus.build(case, bytes, true, sanitize)?;
        let good = corpus.build(case, bytes, false, sanitize)?;
        row.of += 1;
        if let Verdict::Told { right_place } = subject.run(&bad, case, true)? {
            row.detected += 1;
            row.right_place += u32::from(right_place);
        }
        row.false_alarms += u32::from(subject.run(&good, case, false)? != Verdict::Nothing);
    }
    Ok(row)
}

impl fmt::Display for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Machine { cpu, kernel, libc, .. } = &self.machine;
        writeln!(f, "{cpu}, Linux {kernel}, {libc}")?;
        let mut subjects: Vec<(String, String)> = Vec::new();
        for row in &self.rows {
            let subject = (row.subject.clone(), row.variant.clone());
            if !subjects.contains(&subject) {
                subjects.push(subject);
            }
        }
        for (name, variant) in subjects {
            let of_subject = self.rows.iter().filter(|row| row.subject == name);
            let rows: Vec<&Row> = of_subject.filter(|row| row.variant == variant).collect();
            let sum = |value: fn(&Row) -> u32| rows.iter().map(|row| value(row)).sum::<u32>();
            writeln!(
                f,
                "{name} {variant}: {} of {} found, {} with the right place; {} false alarms",
                sum(|row| row.detected),
                sum(|row| row.of),
                sum(|row| row.right_place),
                sum(|row| row.false_alarms)
            )?;
            for row in rows.iter().filter(|row| row.detected < row.of || row.false_alarms > 0) {
                let missed = row.of - row.detected;
                writeln!(f, "  {}: {missed} missed, {} false", row.workload, row.false_alarms)?;
            }
        }
        Ok(())
    }
}
