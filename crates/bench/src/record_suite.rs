//! What does recording cost?
//!
//! Each program runs bare, under `heapwright record` and under heaptrack, alternately, in
//! rounds; CPU time is that of the program and all helpers until the file is closed. Compared
//! are medians, and ratios within a round. Expected winner: heapwright by time, since it walks
//! most stacks only to the frame it already knows; heaptrack by the size of its file, since it
//! keeps no times, no threads and no identity of objects.

use crate::heaptrack_file::read_heaptrack_file;
use crate::programs::{Program, Scale, find, programs, said};
use crate::sampled::{self, SampledCost};
use crate::stacks::complete_share;
use crate::statistics::{median, paired_ratio, spread};
use crate::tool::{Run, Tool};
use heapwright_launch::Machine;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::process::Command;

/// How the suite is run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The binary `heapwright`, its objects beside it.
    pub heapwright: PathBuf,
    /// Where inputs and recordings go; some hundred MB.
    pub directory: PathBuf,
    /// How much the programs do.
    pub scale: Scale,
    /// Rounds of each program.
    pub rounds: usize,
    /// Whether heaptrack runs too, when it is there.
    pub against_heaptrack: bool,
    /// Only programs whose name contains this.
    pub only: Option<String>,
}

/// What is known when the suite is done.
#[derive(Clone, Debug, Serialize)]
pub struct Results {
    /// Name of the suite: `record`.
    pub suite: &'static str,
    /// Where it ran.
    pub machine: Machine,
    /// Names and versions of what took part.
    pub versions: Vec<(String, String)>,
    /// Rounds of each program.
    pub rounds: usize,
    /// Whether the programs did so little that starting them is most of it.
    pub quick: bool,
    /// For each program and tool.
    pub rows: Vec<Row>,
    /// Programs that could not be measured, and why.
    pub missing: Vec<(String, String)>,
    /// Sampled recording, or why it could not be measured.
    pub sampled: Result<SampledCost, String>,
}

/// A program under a tool.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Program.
    pub workload: String,
    /// Tool: `bare`, `heapwright`, `heaptrack`.
    pub subject: &'static str,
    /// Median CPU seconds of the program and all helpers.
    pub cpu_s: f64,
    /// Largest minus smallest, as a share of the median.
    pub spread: f64,
    /// Median wall seconds.
    pub time_s: f64,
    /// CPU against the bare program of the same round: median, least, largest.
    pub cpu_ratio: (f64, f64, f64),
    /// Events by heapwright's count (a resize is one), for every tool.
    pub events: u64,
    /// Events lost, as the tool says.
    pub dropped: u64,
    /// CPU nanoseconds added per event: median of the rounds.
    pub ns_per_op: f64,
    /// Bytes of its file per event.
    pub bytes_per_event: f64,
    /// Share of allocations with a complete stack, or none when it could not be read.
    pub stacks_complete: Option<f64>,
}

/// Runs the suite and tells each run to `say`. The whole takes minutes at full scale.
pub fn run(options: &Options, say: &mut dyn FnMut(&str)) -> Results {
    let mut tools = vec![Tool::Native, Tool::Heapwright(options.heapwright.clone())];
    let mut versions = vec![("heapwright".to_owned(), version_of(&options.heapwright))];
    let mut missing = Vec::new();
    match find("heaptrack") {
        Ok(binary) if options.against_heaptrack => {
            versions.push(("heaptrack".into(), version_of(&binary)));
            tools.push(Tool::Heaptrack(binary));
        }
        Ok(_) => {}
        Err(reason) => missing.push(("heaptrack".to_owned(), reason)),
    }
    let mut rows = Vec::new();
    for (name, program) in programs(options.scale, &options.directory) {
        if options.only.as_ref().is_some_and(|only| !name.contains(only.as_str())) {
            continue;
        }
        let measured = program.and_then(|program| {
            versions.push((name.to_owned(), program.version.clone()));
            measure(name, &program, &tools, options, say)
        });
        match measured {
            Ok(measured) => rows.extend(measured),
            Err(reason) => missing.push((name.to_owned(), reason)),
        }
    }
    let pairs = if options.scale == Scale::Full { 100_000_000 } else { 100_000 };
    say("sampled recording");
    let sampled = sampled::measure(&options.heapwright, &options.directory, pairs, options.rounds);
    let machine = Machine::this();
    let rounds = options.rounds;
    let quick = options.scale == Scale::Quick;
    Results { suite: "record", machine, versions, rounds, quick, rows, missing, sampled }
}

/// All rounds of one program.
fn measure(
    name: &str,
    program: &Program,
    tools: &[Tool],
    options: &Options,
    say: &mut dyn FnMut(&str),
) -> Result<Vec<Row>, String> {
    let mut runs: Vec<Vec<Run>> = vec![Vec::new(); tools.len()];
    for round in 0..options.rounds {
        for turn in 0..tools.len() {
            // Each round begins with another tool, so that none always follows the same one.
            let index = (turn + round) % tools.len();
            let tool = &tools[index];
            let run = tool.run(program, &options.directory)?;
            say(&format!("{name}, round {}: {} {:.2} s", round + 1, tool.name(), run.cpu_s));
            runs[index].push(run);
        }
    }
    let events = runs[1].iter().map(|run| run.events as f64).collect::<Vec<_>>();
    let events = median(&events);
    let rows = tools.iter().zip(&runs).map(|(tool, of_tool)| {
        let cpu: Vec<f64> = of_tool.iter().map(|run| run.cpu_s).collect();
        let bare: Vec<f64> = runs[0].iter().map(|run| run.cpu_s).collect();
        let added: Vec<f64> = cpu.iter().zip(&bare).map(|(with, without)| with - without).collect();
        let file = of_tool.last().and_then(|run| run.file.as_ref());
        Row {
            workload: name.to_owned(),
            subject: tool.name(),
            cpu_s: median(&cpu),
            spread: spread(&cpu),
            time_s: median(&of_tool.iter().map(|run| run.wall_s).collect::<Vec<_>>()),
            cpu_ratio: paired_ratio(&cpu, &bare),
            events: events as u64,
            dropped: of_tool.iter().map(|run| run.dropped).sum(),
            ns_per_op: median(&added) * 1e9 / events,
            bytes_per_event: file.map_or(0.0, |(_, bytes)| *bytes as f64 / events),
            stacks_complete: file.and_then(|(path, _)| stacks_of(tool, path, program)),
        }
    });
    Ok(rows.collect())
}

fn stacks_of(tool: &Tool, file: &Path, program: &Program) -> Option<f64> {
    match tool {
        Tool::Native => None,
        Tool::Heapwright(_) => complete_share(file).ok(),
        Tool::Heaptrack(_) => {
            read_heaptrack_file(file, &program.exe).ok().map(|file| file.complete_share)
        }
    }
}

fn version_of(binary: &Path) -> String {
    let said = said(Command::new(binary).arg("--version")).unwrap_or_default();
    said.split_whitespace().last().unwrap_or_default().to_owned()
}
