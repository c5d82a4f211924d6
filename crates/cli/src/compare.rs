//! `heapwright compare`: the program itself under each allocator.

use crate::console::Console;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::progress::Progress;
use crate::units;
use clap::Args;
use heapwright_compare::{CompareOptions, Observer, Subject, compare, write_table};
use heapwright_launch::Objects;
use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

/// What to compare and how.
#[derive(Debug, Args)]
pub(crate) struct CompareCommandOptions {
    /// The allocators: names (system, heapwright, mimalloc, jemalloc, rpmalloc, snmalloc) or paths of .so
    #[arg(long, value_name = "NAME|PATH.so,...", value_delimiter = ',')]
    on: Vec<String>,
    /// Runs under each allocator
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: u32,
    /// Begin no round that would end later
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = units::duration)]
    time_limit: Duration,
    /// A single run that takes longer has failed [default: ten times the system's, and 10 s]
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    run_limit: Option<Duration>,
    /// CMD is a server: drive it with this shell command, then stop it
    #[arg(long, value_name = "CMD2")]
    load: Option<OsString>,
    /// How long a server may take until it listens
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = units::duration)]
    ready_limit: Duration,
    /// How long a server may take to end after SIGTERM, and again after SIGINT
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = units::duration)]
    grace: Duration,
    /// Also sum the proportional resident memory of the process tree this often (costs time)
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    sample_every: Option<Duration>,
    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// Shows the bar and passes Ctrl-C on.
pub(crate) struct Watch {
    progress: Progress,
    interrupt: Interrupt,
}

impl Watch {
    /// Takes Ctrl-C over.
    pub(crate) fn new() -> Result<Self, Failure> {
        Ok(Self { progress: Progress::new(1), interrupt: Interrupt::listen()? })
    }
}

impl Observer for Watch {
    fn run_starts(&self, index: u32, count: u32, subject: &str) {
        self.progress.set(u64::from(index), u64::from(count), subject);
    }

    fn interrupted(&self) -> bool {
        self.interrupt.asked()
    }
}

pub(crate) fn run(options: &CompareCommandOptions, console: &Console) -> Result<u8, Failure> {
    let objects = Objects::of_this_binary()?;
    let watch = Watch::new()?;
    let comparison = compare(
        &CompareOptions {
            command: options.command.clone(),
            subjects: subjects(&options.on, &objects)?,
            rounds: options.runs,
            time_limit: options.time_limit,
            run_limit: options.run_limit,
            load: options.load.clone(),
            ready_limit: options.ready_limit,
            grace: options.grace,
            sample_every: options.sample_every,
            stdout_copy: console.cmd_stdout().map(Path::to_owned),
        },
        &watch,
    )?;
    let interrupted = watch.interrupt.asked();
    drop(watch);
    if console.json() {
        console.print_json(&comparison)?;
    } else {
        let mut table = Vec::new();
        write_table(&comparison, console.color(), &mut table)?;
        console.print(String::from_utf8_lossy(&table).trim_end())?;
    }
    Ok(if interrupted { 130 } else { comparison.exit_status })
}

/// The named allocators, or all there are.
pub(crate) fn subjects(names: &[String], objects: &Objects) -> Result<Vec<Subject>, Failure> {
    if names.is_empty() {
        return Ok(Subject::all(objects));
    }
    names.iter().map(|name| Ok(Subject::named(name, objects)?)).collect()
}
