//! `heapwright-bench-safety`: which errors are told, beside valgrind and AddressSanitizer.
#![forbid(unsafe_code)]

use heapwright_bench::safety_suite::{self, Options};
use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

const USAGE: &str = "\
usage: heapwright-bench-safety [--quick] [--json] [--only NAME] [--against PEER,...]
                               [--heapwright BINARY] [--in DIR]
peers: valgrind, asan, hardened_malloc, scudo, mimalloc-secure";

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
        directory: env::temp_dir().join(format!("heapwright-safety-{}", std::process::id())),
        quick: false,
        only: None,
        against: Vec::new(),
    };
    let mut json = false;
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
        match word.as_str() {
            "--quick" => options.quick = true,
            "--json" => json = true,
            "--only" => options.only = Some(value()?),
            "--against" => options.against = value()?.split(',').map(str::to_owned).collect(),
            "--heapwright" => options.heapwright = PathBuf::from(value()?),
            "--in" => options.directory = PathBuf::from(value()?),
            other => return Err(format!("unknown option `{other}`")),
        }
    }
    Ok((options, json))
}

fn run(options: &Options, json: bool) -> ExitCode {
    let is_ours = !options.directory.exists();
    let results = safety_suite::run(options, &mut |line| eprintln!("{line}"));
    if is_ours {
        let _ = fs::remove_dir_all(&options.directory);
    }
    let printed = results.and_then(|results| match json {
        true => serde_json::to_string(&results).map_err(|error| error.to_string()),
        false => Ok(results.to_string()),
    });
    match printed {
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
