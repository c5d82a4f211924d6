//! `heapwright top`: a live process, on the terminal, as text or as JSON.

use crate::console::Console;
use crate::failure::Failure;
use crate::top_text;
use crate::top_view::View;
use crate::units;
use clap::Args;
use heapwright_monitor::{
    Look, MonitorError, Request, Threshold, Watched, directories, watched_processes,
};
use serde::Serialize;
use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

/// How long a process may take to answer a request.
const PATIENCE: Duration = Duration::from_secs(5);

/// Whom to watch and when to alarm.
#[derive(Debug, Args)]
pub(crate) struct TopOptions {
    /// The process; without one, lists those that can be watched
    #[arg(value_name = "PID|NAME")]
    process: Option<String>,
    /// Print one look and end (also where the output is no terminal)
    #[arg(long)]
    once: bool,
    /// Time between two looks
    #[arg(long, value_name = "TIME", default_value = "0.5s", value_parser = units::duration)]
    interval: Duration,
    /// End as soon as this holds: resident/live>3, largest-free<64M, headroom<64M, growth>10M/s,
    /// live, resident, retained, fragmentation; may be repeated
    #[arg(long, value_name = "THRESHOLD")]
    fail_if: Vec<Threshold>,
    /// The exit status of such an end
    #[arg(long, value_name = "N", default_value_t = 1)]
    error_exit: u8,
    /// Print a line when this begins to hold, and go on; may be repeated
    #[arg(long, value_name = "THRESHOLD")]
    warn_if: Vec<Threshold>,
    /// Look so long, with thresholds [default: until the process ends]
    #[arg(long = "for", value_name = "TIME", value_parser = units::duration)]
    for_time: Option<Duration>,
    /// Ask the process to give free memory back first
    #[arg(long)]
    release: bool,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct TopResult<'a> {
    heapwright_version: &'static str,
    #[serde(flatten)]
    look: &'a Look,
    reading: String,
    alarms: Vec<String>,
}

/// What `--json` prints without a process.
#[derive(Debug, Serialize)]
struct ListResult {
    schema: u32,
    heapwright_version: &'static str,
    processes: Vec<ListedProcess>,
}

#[derive(Debug, Serialize)]
struct ListedProcess {
    pid: u32,
    name: String,
}

impl From<MonitorError> for Failure {
    fn from(error: MonitorError) -> Self {
        Self::ours(error)
    }
}

pub(crate) fn run(options: &TopOptions, console: &Console) -> Result<u8, Failure> {
    let Some(process) = &options.process else { return list(console) };
    let watched = Watched::open(process, &directories())?;
    if options.release {
        watched.ask(Request::Release, PATIENCE)?;
    }
    let has_thresholds = !options.fail_if.is_empty() || !options.warn_if.is_empty();
    if has_thresholds && !options.once {
        return guard(&watched, options, console);
    }
    if options.once || console.json() || !io::stdout().is_terminal() {
        let look = Look::at(&watched, None)?;
        // Two looks where a rate is asked for.
        let look = if has_thresholds {
            std::thread::sleep(options.interval);
            Look::at(&watched, Some(&look))?
        } else {
            look
        };
        let alarms = alarms_of(&options.warn_if, &look);
        let failures = alarms_of(&options.fail_if, &look);
        return finish(&look, alarms, failures, options, console);
    }
    View::run(&watched, options.interval).map_err(Failure::from)?;
    Ok(0)
}

fn alarms_of(thresholds: &[Threshold], look: &Look) -> Vec<String> {
    thresholds.iter().filter_map(|threshold| threshold.alarm(look)).collect()
}

/// Prints `look` and what it crosses.
fn finish(
    look: &Look,
    mut alarms: Vec<String>,
    failures: Vec<String>,
    options: &TopOptions,
    console: &Console,
) -> Result<u8, Failure> {
    let status = if failures.is_empty() { 0 } else { options.error_exit };
    alarms.extend(failures);
    for alarm in &alarms {
        console.message(&format!("process {}: {alarm}", look.pid));
    }
    if console.json() {
        let heapwright_version = env!("CARGO_PKG_VERSION");
        let reading = look.reading();
        console.print_json(&TopResult { heapwright_version, look, reading, alarms })?;
    } else {
        console.print(top_text::look(look).trim_end())?;
    }
    Ok(status)
}

/// Looks until a threshold of `--fail-if` is crossed, the time is over or the process has ended.
fn guard(watched: &Watched, options: &TopOptions, console: &Console) -> Result<u8, Failure> {
    let start = Instant::now();
    let mut before: Option<Look> = None;
    let mut is_crossed = vec![false; options.warn_if.len()];
    loop {
        let look = match (Look::at(watched, before.as_ref()), &before) {
            (Ok(look), _) => look,
            // It has ended, as processes do; what it was last is the result.
            (Err(MonitorError::Exited(_)), Some(last)) => {
                return finish(last, Vec::new(), Vec::new(), options, console);
            }
            (Err(error), _) => return Err(error.into()),
        };
        for (threshold, is_crossed) in options.warn_if.iter().zip(&mut is_crossed) {
            let alarm = threshold.alarm(&look);
            if let Some(alarm) = &alarm
                && !*is_crossed
            {
                console.message(&format!("process {}: {alarm}", look.pid));
            }
            *is_crossed = alarm.is_some();
        }
        // Growth is known from the second look on.
        let failures = alarms_of(&options.fail_if, &look);
        if !failures.is_empty() {
            return finish(&look, Vec::new(), failures, options, console);
        }
        if options.for_time.is_some_and(|limit| start.elapsed() >= limit) {
            return finish(&look, Vec::new(), Vec::new(), options, console);
        }
        before = Some(look);
        std::thread::sleep(options.interval);
    }
}

fn list(console: &Console) -> Result<u8, Failure> {
    let found = watched_processes(&directories());
    if console.json() {
        let processes = found
            .into_iter()
            .map(|process| ListedProcess { pid: process.pid, name: process.name })
            .collect();
        let heapwright_version = env!("CARGO_PKG_VERSION");
        console.print_json(&ListResult { schema: 1, heapwright_version, processes })?;
        return Ok(0);
    }
    if found.is_empty() {
        return Err(Failure::ours(
            "no process is watched; start one with `heapwright run --watch -- CMD`",
        ));
    }
    for process in found {
        console.print(&format!("{:>8}  {}", process.pid, process.name))?;
    }
    Ok(0)
}
