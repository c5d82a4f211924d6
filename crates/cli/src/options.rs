//! The one table of options: flags, environment variables, man pages and completions.
//!
//! Every long flag `--some-flag` can be given as the variable `HEAPWRIGHT_SOME_FLAG`; a flag on
//! the command line wins.

use crate::{
    advise, bench, compare, demo, diff, doctor, export, gc, generate, profile, record, replay,
    report, run, serve, top,
};
use clap::builder::FalseyValueParser;
use clap::error::ErrorKind;
use clap::{Arg, ArgAction, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use heapwright_launch::OURS_FAILED;
use std::ffi::OsString;
use std::path::PathBuf;

/// Which allocator does a program need, and where does its memory go? Measured, not guessed.
#[derive(Debug, Parser)]
#[command(name = "heapwright", version, propagate_version = true, after_help = AFTER_HELP)]
pub(crate) struct Options {
    #[command(flatten)]
    pub global: GlobalOptions,
    #[command(subcommand)]
    pub command: Command,
}

const AFTER_HELP: &str = "\
Every --long-flag can be given as the variable HEAPWRIGHT_LONG_FLAG.\n\
Exit status: CMD's own; 125 heapwright failed, 126 CMD is not executable, 127 CMD is not found, \
128+N CMD was ended by signal N.";

/// Options of every command.
#[derive(Debug, Args)]
pub(crate) struct GlobalOptions {
    /// Print exactly one JSON object on stdout; what CMD prints there goes to stderr
    #[arg(long, global = true)]
    pub json: bool,
    /// Write what CMD prints on stdout to FILE
    #[arg(long, global = true, value_name = "FILE")]
    pub cmd_stdout: Option<PathBuf>,
    /// Colours: on a terminal, always, or never
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub color: ColorWhen,
}

/// When to use colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ColorWhen {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Also into files and pipes.
    Always,
    /// Nowhere.
    Never,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Record CMD, replay it on every allocator, and say which one serves it best
    Advise(advise::AdviseOptions),
    /// Record every allocation of CMD
    Record(record::RecordCommandOptions),
    /// Replay a recording on every allocator and measure
    Replay(replay::ReplayCommandOptions),
    /// Run CMD itself under every allocator, alternating, and compare
    Compare(compare::CompareCommandOptions),
    /// Measure a suite: allocators, collectors, regions, beside their peers
    Bench(bench::BenchOptions),
    /// Find the settings of a collector: gc tune -- CMD; show heaps and pauses: gc show FILE
    Gc(gc::GcOptions),
    /// Write the HTML report of a recording again
    Report(report::ReportOptions),
    /// Write a recording for other tools: pprof, Parquet
    Export(export::ExportOptions),
    /// Compare two recordings, and fail when the new one is worse
    Diff(diff::DiffOptions),
    /// Run CMD with Heapwright's allocator
    Run(run::RunOptions),
    /// Watch a live process: live against resident memory, classes, heaps, sites, a heap map
    Top(top::TopOptions),
    /// The same as a web page on the loopback, and for scrapers on a Unix socket
    Serve(serve::ServeOptions),
    /// The sampling heap profile of a live process: who holds memory, and who pins it
    Profile(profile::ProfileOptions),
    /// Say what this machine offers, and what is done instead where it does not
    Doctor(doctor::DoctorOptions),
    /// Record and advise a bundled program with a server's memory shape
    Demo(demo::DemoOptions),
    /// Write man pages or completions
    #[command(hide = true)]
    Generate(generate::GenerateOptions),
}

/// Parses a command line. An error has been printed: the value is the exit status (0 after
/// help or version).
pub(crate) fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Options, u8> {
    let parsed = command().try_get_matches_from(arguments);
    parsed.and_then(|matches| Options::from_arg_matches(&matches)).map_err(|error| {
        let shown = [
            ErrorKind::DisplayHelp,
            ErrorKind::DisplayVersion,
            ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand,
        ];
        if shown.contains(&error.kind()) {
            // Nobody left to tell when even this cannot be written.
            let _ = error.print();
            return if error.use_stderr() { OURS_FAILED } else { 0 };
        }
        eprintln!("heapwright: {}", one_line(&error));
        OURS_FAILED
    })
}

/// clap's error without its usage block, on one line, with the next step.
fn one_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let body = text.split("\n\nUsage:").next().unwrap_or(&text);
    let body = body.split("\n\nFor more information").next().unwrap_or(body);
    let words: Vec<&str> = body.split_whitespace().collect();
    let line = words.join(" ");
    format!("{}; see `heapwright --help`", line.strip_prefix("error: ").unwrap_or(&line))
}

/// The table as clap takes it, with a variable for every long flag.
pub(crate) fn command() -> clap::Command {
    with_variables(Options::command())
}

fn with_variables(command: clap::Command) -> clap::Command {
    command.mut_args(with_variable).mut_subcommands(with_variables)
}

fn with_variable(arg: Arg) -> Arg {
    let Some(name) = arg.get_long().filter(|name| !["help", "version"].contains(name)) else {
        return arg;
    };
    // clap keeps names for ever; a few dozen short ones, once.
    let variable = format!("HEAPWRIGHT_{}", name.to_uppercase().replace('-', "_")).leak();
    let arg = arg.env(&*variable);
    match arg.get_action() {
        // "0", "false", "no" and an empty value leave a switch off.
        ArgAction::SetTrue => arg.value_parser(FalseyValueParser::new()),
        _ => arg,
    }
}

#[cfg(test)]
mod tests {
    use super::{command, parse};

    fn words(line: &str) -> Vec<std::ffi::OsString> {
        line.split(' ').map(Into::into).collect()
    }

    #[test]
    fn the_table_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn every_long_flag_has_its_variable() {
        let command = command();
        let compare = command.find_subcommand("compare").expect("a subcommand");
        let runs = compare.get_arguments().find(|arg| arg.get_long() == Some("runs"));
        assert_eq!(runs.and_then(|arg| arg.get_env()), Some("HEAPWRIGHT_RUNS".as_ref()));
        let json = command.get_arguments().find(|arg| arg.get_long() == Some("json"));
        assert_eq!(json.and_then(|arg| arg.get_env()), Some("HEAPWRIGHT_JSON".as_ref()));
    }

    #[test]
    fn the_commands_own_flags_are_its_own() {
        for line in ["heapwright run -- ls --json -l", "heapwright run ls --json -l"] {
            let options = parse(words(line).into_iter()).expect("parsed");
            assert!(!options.global.json, "{line}");
        }
        let options = parse(words("heapwright run --json -- ls").into_iter()).expect("parsed");
        assert!(options.global.json);
    }

    #[test]
    fn a_wrong_flag_is_our_failure() {
        assert_eq!(parse(words("heapwright compare --bogus -- ls").into_iter()).err(), Some(125));
        assert_eq!(parse(words("heapwright compare").into_iter()).err(), Some(125));
    }
}
