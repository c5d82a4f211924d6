//! `heapwright-bench-gc`: collectors beside malloc and other collectors on four workloads.
//!
//! `heapwright-bench-gc [--quick] [--json] [--rounds N] [--only WORKLOAD] [--against PEER,...]` runs
//! the suite; `heapwright-bench-gc cell ...` runs one cell of it in its own process;
//! `heapwright-bench-gc tune` measures the tuner; `heapwright-bench-gc figures` prints what is asked
//! of the collectors beside what they give.

#[cfg(feature = "gc-peers")]
mod arena_graph;
mod boehm;
mod cell;
mod figures;
mod measure;
mod ours;
#[cfg(feature = "gc-peers")]
mod peers;
mod raw;
mod tune;
mod turns;
mod workload;

use heapwright_bench::gc_suite::{self, Options};
use heapwright_bench::{in_directory, printed};
use std::env;
use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    let result = match words.split_first() {
        Some((first, rest)) if first == "cell" => cell::run(rest).map(|row| row.to_string()),
        Some((first, rest)) if first == "tune" => tune::run(rest),
        Some((first, rest)) if first == "figures" => figures::run(rest),
        _ => suite(&words),
    };
    match result {
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

fn suite(words: &[String]) -> Result<String, String> {
    let mut options = Options {
        cells: env::current_exe().map_err(|error| error.to_string())?,
        rounds: 3,
        scale: "full",
        only: None,
        against: Vec::new(),
        directory: env::temp_dir().join(format!("heapwright-gc-{}", std::process::id())),
    };
    let mut json = false;
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().cloned().ok_or(format!("{word} needs a value"));
        match word.as_str() {
            "--quick" => (options.scale, options.rounds) = ("quick", 1),
            "--test" => (options.scale, options.rounds) = ("test", 1),
            "--json" => json = true,
            "--rounds" => {
                options.rounds = value()?.parse().map_err(|_| "--rounds needs a number")?;
            }
            "--only" => options.only = Some(value()?),
            "--against" => {
                options.against = value()?.split(',').map(str::to_owned).collect();
            }
            other => return Err(format!("unknown option `{other}`")),
        }
    }
    let results = in_directory(&options.directory, || {
        gc_suite::run(&options, &mut |line| eprintln!("{line}"))
    });
    results.and_then(|results| printed(&results, json))
}
