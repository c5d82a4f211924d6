//! The `heapwright` command.
//!
//! Each subcommand is a file: its options as a table for clap, and `run`. Flags, `HEAPWRIGHT_*`
//! variables, man pages and completions all come from those tables (`options`).
//!
//! Exit statuses: the command's own; 125 when something of ours failed, 126 when the command
//! cannot be executed, 127 when it is not found, 128 + N when signal N ended it.
#![forbid(unsafe_code)]

mod advise;
mod bench;
mod bench_fragmentation;
mod blame;
mod check;
mod compare;
mod confirm;
mod console;
mod demo;
mod diff;
mod doctor;
mod export;
mod failure;
mod gc;
mod generate;
mod interrupt;
mod options;
mod profile;
mod progress;
mod prove;
mod record;
mod replay;
mod report;
mod run;
mod serve;
mod site_runs;
mod source;
mod top;
mod top_tables;
mod top_text;
mod top_view;
mod units;

use console::Console;
use failure::Failure;
use heapwright_replay::{WORKER_ARGUMENT, worker_main};
use options::Command;
use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    if arguments.get(1).is_some_and(|first| first == WORKER_ARGUMENT) {
        // The replay starts this binary again for each run, with an allocator preloaded.
        worker_main(&arguments[2..]);
    }
    let options = match options::parse(arguments.into_iter()) {
        Ok(options) => options,
        Err(status) => return ExitCode::from(status),
    };
    let console = Console::new(&options.global);
    let result = match options.command {
        Command::Advise(options) => advise::run(&options, &console),
        Command::Record(options) => record::run(&options, &console),
        Command::Replay(options) => replay::run(&options, &console),
        Command::Compare(options) => compare::run(&options, &console),
        Command::Bench(options) => bench::run(&options, &console),
        Command::Report(options) => report::run(&options, &console),
        Command::Export(options) => export::run(&options, &console),
        Command::Diff(options) => diff::run(&options, &console),
        Command::Run(options) => run::run(&options, &console),
        Command::Serve(options) => serve::run(&options, &console),
        Command::Top(options) => top::run(&options, &console),
        Command::Profile(options) => profile::run(&options, &console),
        Command::Doctor(options) => doctor::run(&options, &console),
        Command::Demo(options) => demo::run(&options, &console),
        Command::Gc(options) => gc::run(&options, &console),
        Command::Generate(options) => generate::run(&options),
    };
    let status = result.unwrap_or_else(|failure: Failure| {
        console.message(&failure.message);
        failure.status
    });
    ExitCode::from(status)
}
