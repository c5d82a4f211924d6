//! The `heapwright` command.
//!
//! Each subcommand is a file: its options as a table for clap, and `run`. Flags, `HEAPWRIGHT_*`
//! variables, man pages and completions all come from those tables (`options`).
//!
//! Exit statuses: the command's own; 125 when something of ours failed, 126 when the command
//! cannot be executed, 127 when it is not found, 128 + N when signal N ended it.
#![forbid(unsafe_code)]

mod advise;
mod compare;
mod console;
mod demo;
mod diff;
mod doctor;
mod failure;
mod generate;
mod interrupt;
mod options;
mod progress;
mod record;
mod replay;
mod report;
mod run;
mod units;

use console::Console;
use failure::Failure;
use options::Command;
use std::process::ExitCode;

fn main() -> ExitCode {
    let options = match options::parse(std::env::args_os()) {
        Ok(options) => options,
        Err(status) => return ExitCode::from(status),
    };
    let console = Console::new(&options.global);
    let result = match options.command {
        Command::Advise(options) => advise::run(&options, &console),
        Command::Record(options) => record::run(&options, &console),
        Command::Replay(options) => replay::run(&options, &console),
        Command::Compare(options) => compare::run(&options, &console),
        Command::Report(options) => report::run(&options, &console),
        Command::Diff(options) => diff::run(&options, &console),
        Command::Run(options) => run::run(&options, &console),
        Command::Doctor(options) => doctor::run(&options, &console),
        Command::Demo(options) => demo::run(&options, &console),
        Command::Generate(options) => generate::run(&options),
    };
    let status = result.unwrap_or_else(|failure: Failure| {
        console.message(&failure.message);
        failure.status
    });
    ExitCode::from(status)
}
