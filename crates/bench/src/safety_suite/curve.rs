//! How likely is a bug met that sits in one block of a hot site, against the memory allowed?
//!
//! Check mode guards the first blocks of a site and ever fewer of the later ones, within its
//! budget. Each program makes many blocks at one place and errs with one of them; it is run with
//! the bug at places spread over them all. Expected: all writes are met, whatever the budget, and
//! reads with the share of blocks that are guarded.

use super::Options;
use serde::Serialize;
use serde_json::Value;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use heapwright_launch::Machine;

const HOT_SITE: &str = include_str!("../../safety/hot_site.c");
const FREED: &str = include_str!("../../safety/hot_site_freed.c");
/// Programs: name, source, a compiler's flags, and what they do.
const PROGRAMS: [(&str, &str, &[&str], &str); 3] = [
    ("hot_site", HOT_SITE, &[], "read behind the end"),
    ("hot_site_freed", FREED, &[], "read after free"),
    ("hot_site_write", HOT_SITE, &["-DWRITES"], "write behind the end"),
];
const HEADER: &str = include_str!("../../safety/twin.h");
/// Times what the program holds.
const BUDGETS: [u32; 4] = [2, 5, 10, 30];

/// A point of the curve.
#[derive(Clone, Debug, Serialize)]
pub struct Point {
    /// The program.
    pub program: String,
    /// What it does wrong.
    pub bug: String,
    /// Blocks of its site.
    pub block_count: u32,
    /// `--budget`.
    pub budget: u32,
    /// Runs in which the bug was told.
    pub detected: u32,
    /// Runs: the bug sits in another block in each.
    pub of: u32,
    /// Largest peak resident size of a run, in KiB.
    pub peak_kb: u64,
    /// The program's own in mode fast.
    pub plain_peak_kb: u64,
}

/// All points.
#[derive(Clone, Debug, Serialize)]
pub struct Curve {
    suite: &'static str,
    machine: Machine,
    /// By program, number of blocks and budget.
    pub points: Vec<Point>,
}

/// Builds the programs and runs them; `say` gets a line of progress.
///
/// # Errors
/// A sentence when there is no C compiler or the binary under test does not answer.
pub fn curve(options: &Options, say: &mut dyn FnMut(&str)) -> Result<Curve, String> {
    let (counts, places): (&[u32], u32) =
        if options.quick { (&[1000, 10_000], 8) } else { (&[1000, 10_000, 100_000], 20) };
    let mut points = Vec::new();
    for (name, source, flags, bug) in PROGRAMS {
        if options.only.as_ref().is_some_and(|only| !name.contains(only.as_str())) {
            continue;
        }
        let program = compile(&options.directory, name, source, flags)?;
        for &block_count in counts {
            say(&format!("{name} {block_count}"));
            let plain = Run { mode: &["--mode", "fast"], block_count, which: 0 };
            let plain_peak_kb = plain.measure(options, &program)?.peak_kb;
            for budget in BUDGETS {
                let (mut detected, mut peak_kb) = (0, 0);
                for place in 0..places {
                    // The middle of each stretch.
                    let which = (2 * place + 1) * (block_count / places) / 2;
                    let text = budget.to_string();
                    let mode = &["--mode", "check", "--no-leaks", "--budget", &text];
                    let run = Run { mode, block_count, which };
                    let told = run.measure(options, &program)?;
                    detected += u32::from(told.is_found);
                    peak_kb = told.peak_kb.max(peak_kb);
                }
                points.push(Point {
                    program: name.into(),
                    bug: bug.into(),
                    block_count,
                    budget,
                    detected,
                    of: places,
                    peak_kb,
                    plain_peak_kb,
                });
            }
        }
    }
    Ok(Curve { suite: "safety-curve", machine: Machine::this(), points })
}

fn compile(directory: &Path, name: &str, source: &str, flags: &[&str]) -> Result<PathBuf, String> {
    crate::programs::write(&directory.join("twin.h"), HEADER)?;
    let file = directory.join(format!("{name}.c"));
    crate::programs::write(&file, source)?;
    let program = directory.join(name);
    let mut command = Command::new("cc");
    command.args(["-g", "-O0", "-fno-builtin", "-w"]).args(flags);
    command.arg("-o").arg(&program).arg(&file);
    crate::programs::said(&mut command)?;
    Ok(program)
}

/// One run of a program.
struct Run<'a> {
    mode: &'a [&'a str],
    block_count: u32,
    which: u32,
}

/// What a run gave.
struct Told {
    is_found: bool,
    peak_kb: u64,
}

impl Run<'_> {
    fn measure(&self, options: &Options, program: &Path) -> Result<Told, String> {
        let mut command = Command::new(&options.heapwright);
        command.args(["run", "--json"]).args(self.mode).arg("--").arg(program);
        command.args([self.block_count.to_string(), self.which.to_string()]);
        let output = command.stdin(Stdio::null()).output();
        let output = output.map_err(|error| format!("heapwright: {error}"))?;
        let value: Value = serde_json::from_slice(&output.stdout)
            .map_err(|error| format!("{}: no JSON from heapwright: {error}", program.display()))?;
        let is_found = value["findings"].as_array().is_some_and(|all| !all.is_empty());
        Ok(Told { is_found, peak_kb: value["peak_rss_kb"].as_u64().unwrap_or_default() })
    }
}

impl fmt::Display for Curve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Machine { cpu, kernel, libc, .. } = &self.machine;
        writeln!(f, "{cpu}, Linux {kernel}, {libc}")?;
        writeln!(f, "bugs met in one run, and peak resident size against mode fast")?;
        write!(f, "{:<22}{:>8}", "bug in one of", "blocks")?;
        for budget in BUDGETS {
            write!(f, "{:>18}", format!("--budget {budget}"))?;
        }
        for line in self.points.chunks(BUDGETS.len()) {
            let Some(first) = line.first() else { continue };
            write!(f, "\n{:<22}{:>8}", first.bug, first.block_count)?;
            for point in line {
                let met = format!("{} of {}", point.detected, point.of);
                let times = point.peak_kb as f64 / point.plain_peak_kb.max(1) as f64;
                write!(f, "{:>18}", format!("{met}, {times:.1}x"))?;
            }
        }
        Ok(())
    }
}
