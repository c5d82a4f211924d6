//! `heapwright gc tune`: the settings of a program's collector, by trying them; `gc show`: what its
//! heaps hold and when it paused.

use crate::console::Console;
use crate::failure::Failure;
use clap::{Args, Subcommand, ValueEnum};
use heapwright_report::CollectorReport;
use heapwright_tune::{Goal, Options, html, measure, search};
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;

/// What to do with a program that uses `heapwright-gc`.
#[derive(Debug, Args)]
pub(crate) struct GcOptions {
    #[command(subcommand)]
    command: GcCommand,
}

#[derive(Debug, Subcommand)]
enum GcCommand {
    /// Run CMD under many settings and write the best as a file
    Tune(TuneOptions),
    /// Show snapshots of heaps and logs of collectors: types, dominators, pauses over time
    Show(ShowOptions),
}

#[derive(Debug, Args)]
struct ShowOptions {
    /// Snapshots (`Snapshot::write_json`), and logs (HEAPWRIGHT_GC_LOG=timeline, with
    /// HEAPWRIGHT_GC_LOG_FILE)
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Where the page goes
    #[arg(short, long, value_name = "FILE", default_value = "heapwright-gc.html")]
    output: PathBuf,
}

#[derive(Debug, Args)]
struct TuneOptions {
    /// Where tune.html, tune.json and gc.conf go
    #[arg(short, long, value_name = "DIR", default_value = "heapwright-gc-tune")]
    output: PathBuf,
    /// Runs of CMD
    #[arg(long, value_name = "N", default_value_t = 20)]
    runs: usize,
    /// What is to be least
    #[arg(long, value_enum, default_value = "cpu")]
    goal: GoalName,
    /// Do not choose a setting whose 99th percentile of pauses is longer
    #[arg(long, value_name = "MS")]
    pause_ms: Option<f64>,
    /// The limit of each heap, such as 256m, or `container`
    #[arg(long, value_name = "BYTES")]
    limit: Option<String>,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum GoalName {
    Cpu,
    Memory,
    Pause,
}

pub(crate) fn run(options: &GcOptions, console: &Console) -> Result<u8, Failure> {
    match &options.command {
        GcCommand::Tune(options) => tune(options, console),
        GcCommand::Show(options) => show(options, console),
    }
}

fn show(options: &ShowOptions, console: &Console) -> Result<u8, Failure> {
    let mut report = CollectorReport::default();
    for path in &options.files {
        let name = path.display().to_string();
        let text = fs::read_to_string(path)
            .map_err(|error| Failure::ours(format!("gc show: {name}: {error}")))?;
        report
            .add(&name, &text)
            .map_err(|error| Failure::ours(format!("gc show: {name}: {error}")))?;
    }
    fs::write(&options.output, report.html())
        .map_err(|error| Failure::unwritable(&options.output, &error))?;
    if console.json() {
        console.print_json(&report)?;
    } else {
        console.print(&report.to_string())?;
    }
    console.message(&format!("wrote {}", options.output.display()));
    Ok(0)
}

fn tune(options: &TuneOptions, console: &Console) -> Result<u8, Failure> {
    fs::create_dir_all(&options.output)?;
    let log = options.output.join("runs.log");
    let goal = match options.goal {
        GoalName::Cpu => Goal::Cpu,
        GoalName::Memory => Goal::Memory,
        GoalName::Pause => Goal::Pause,
    };
    let search_options = Options { runs: options.runs, goal, pause_ms_max: options.pause_ms };
    let mut done = 0;
    let results = search(search_options, |setting| {
        done += 1;
        console.message(&format!("run {done} of {}: {setting}", options.runs));
        measure(&options.command, setting, options.limit.as_deref(), &log)
    });
    let _ = fs::remove_file(&log);
    let results = results.map_err(|error| Failure::ours(format!("gc tune: CMD {error}")))?;
    let words: Vec<_> = options.command.iter().map(|word| word.to_string_lossy()).collect();
    let json = serde_json::to_string(&results).map_err(Failure::ours)?;
    let conf = options.output.join("gc.conf");
    fs::write(options.output.join("tune.html"), html(&results, &words.join(" ")))?;
    fs::write(options.output.join("tune.json"), json)?;
    let mut lines = results.trials[0].setting.lines();
    if let Some(limit) = &options.limit {
        lines += &format!("limit = {limit}\n");
    }
    fs::write(&conf, lines)?;
    if console.json() {
        console.print_json(&results)?;
    } else {
        console.print(&results.to_string())?;
    }
    console.message(&format!("use it with HEAPWRIGHT_GC_CONFIG={}", conf.display()));
    Ok(0)
}
