//! `heapwright-bench-record`: what recording costs, beside the bare program and heaptrack.
#![forbid(unsafe_code)]

use heapwright_bench::record_suite::{self, Options};
use heapwright_bench::{Scale, in_directory, printed};
use std::env;
use std::path::PathBuf;
use std::process::ExitCode;

const USAGE: &str = "\
usage: heapwright-bench-record [--quick] [--json] [--rounds N] [--only NAME] [--without-heaptrack]
                               [--heapwright BINARY] [--in DIR]";

/// Rounds when nothing is said: enough for a median, few enough for ten minutes.
const ROUNDS: usize = 5;

fn main() -> ExitCode {
    match options(env::args().skip(1)) {
        Ok((options, json)) => run(&options, json),
        Err(message) => {
            eprintln!("{message}\n{USAGE}");
            ExitCode::FAILURE
        }
    }
}

fn options(mut words: impl Iterator<Item = String>) -> Result<(Options, bool), String> {
    let beside = env::current_exe().map_err(|error| error.to_string())?;
    let mut options = Options {
        heapwright: beside.with_file_name("heapwright"),
        directory: env::temp_dir().join(format!("heapwright-bench-{}", std::process::id())),
        scale: Scale::Full,
        rounds: ROUNDS,
        against_heaptrack: true,
        only: None,
    };
    let mut json = false;
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
        match word.as_str() {
            "--quick" => (options.scale, options.rounds) = (Scale::Quick, 1),
            "--json" => json = true,
            "--without-heaptrack" => options.against_heaptrack = false,
            "--rounds" => {
                let text = value()?;
                let rounds = text.parse().map_err(|_| format!("--rounds: no number: {text}"))?;
                options.rounds = std::cmp::max(rounds, 1);
            }
            "--only" => options.only = Some(value()?),
            "--heapwright" => options.heapwright = PathBuf::from(value()?),
            "--in" => options.directory = PathBuf::from(value()?),
            other => return Err(format!("unknown option `{other}`")),
        }
    }
    Ok((options, json))
}

fn run(options: &Options, json: bool) -> ExitCode {
    let results = in_directory(&options.directory, || {
        record_suite::run(options, &mut |line| eprintln!("{line}"))
    });
    match results.and_then(|results| printed(&results, json)) {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}
