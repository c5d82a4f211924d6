//! `heapwright-bench-malloc`: how fast and how lean each allocator is, beside its peers. It is
//! what `heapwright bench malloc` runs.
#![forbid(unsafe_code)]

use heapwright_bench::malloc_suite::{self, Options, Size};
use heapwright_bench::{in_directory, printed};
use std::env;
use std::path::PathBuf;
use std::process::ExitCode;

const USAGE: &str = "\
usage: heapwright bench malloc [--quick] [--json] [--only WORKLOAD,...] [--against PEER,...]
                               [--rounds N] [--objects DIR] [--in DIR]
  --quick    less work, one round, only the system's allocator and ours: under 45 s
  --json     one JSON object on stdout
  --only     these workloads; larson* means all whose name begins so
  --against  peers beside the system's: mimalloc, jemalloc, rpmalloc, snmalloc, PATH.so or
             NAME=PATH.so; all that are built when left out
  --rounds   rounds of each program (5)
  --objects  where the .so lie (beside this binary)
  --in       where programs and inputs are made, and kept (a directory that is removed)";

/// Rounds when nothing is said: enough for a median.
const ROUNDS: usize = 5;

fn main() -> ExitCode {
    match options(env::args().skip(1)) {
        Ok(Some((options, json))) => run(&options, json),
        Ok(None) => {
            println!("{USAGE}");
            ExitCode::SUCCESS
        }
        Err(message) => fail(&format!("{message}\n{USAGE}")),
    }
}

/// The options, and whether JSON is wanted; none when help is.
fn options(mut words: impl Iterator<Item = String>) -> Result<Option<(Options, bool)>, String> {
    let beside = env::current_exe().map_err(|error| error.to_string())?;
    let list = |text: String| text.split(',').map(str::to_owned).collect::<Vec<_>>();
    let mut options = Options {
        objects: beside.parent().map(PathBuf::from).unwrap_or_default(),
        directory: env::temp_dir().join(format!("heapwright-bench-{}", std::process::id())),
        size: Size::Full,
        rounds: ROUNDS,
        against: None,
        only: Vec::new(),
    };
    let mut json = false;
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
        match word.as_str() {
            "--quick" => (options.size, options.rounds) = (Size::Quick, 1),
            "--json" => json = true,
            "--only" => options.only = list(value()?),
            "--against" => options.against = Some(list(value()?)),
            "--rounds" => {
                let text = value()?;
                let rounds: usize =
                    text.parse().map_err(|_| format!("--rounds: no number: {text}"))?;
                options.rounds = rounds.max(1);
            }
            "--objects" => options.objects = PathBuf::from(value()?),
            "--in" => options.directory = PathBuf::from(value()?),
            "--help" | "-h" => return Ok(None),
            other => return Err(format!("unknown option `{other}`")),
        }
    }
    Ok(Some((options, json)))
}

fn run(options: &Options, json: bool) -> ExitCode {
    let results = in_directory(&options.directory, || {
        malloc_suite::run(options, &mut |line| eprintln!("{line}"))
    });
    match results.flatten().and_then(|results| printed(&results, json)) {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(message) => fail(&message),
    }
}

fn fail(message: &str) -> ExitCode {
    eprintln!("heapwright bench malloc: {message}");
    ExitCode::from(125)
}
