//! `heapwright-bench-safety`: which errors are told, beside valgrind and AddressSanitizer.
#![forbid(unsafe_code)]

use heapwright_bench::safety_suite::{self, Options};
use heapwright_bench::{in_directory, printed};
use std::env;
use std::path::PathBuf;
use std::process::ExitCode;

const USAGE: &str = "\
usage: heapwright-bench-safety [--quick] [--json] [--only NAME] [--against PEER,...]
                               [--curve] [--heapwright BINARY] [--in DIR]
--curve: instead, how often check mode meets a bug in one block of a hot site, by --budget
peers: valgrind, asan, hardened_malloc, scudo, mimalloc-secure";

fn main() -> ExitCode {
    match options(env::args().skip(1)) {
        Ok((options, form)) => run(&options, form),
        Err(message) => {
            eprintln!("{message}\n{USAGE}");
            ExitCode::FAILURE
        }
    }
}

/// How the results are made and printed.
#[derive(Clone, Copy, Debug, Default)]
struct Form {
    json: bool,
    curve: bool,
}

fn options(mut words: impl Iterator<Item = String>) -> Result<(Options, Form), String> {
    let beside = env::current_exe().map_err(|error| error.to_string())?;
    let mut options = Options {
        heapwright: beside.with_file_name("heapwright"),
        directory: env::temp_dir().join(format!("heapwright-safety-{}", std::process::id())),
        quick: false,
        only: None,
        against: Vec::new(),
    };
    let mut form = Form::default();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
        match word.as_str() {
            "--quick" => options.quick = true,
            "--json" => form.json = true,
            "--curve" => form.curve = true,
            "--only" => options.only = Some(value()?),
            "--against" => options.against = value()?.split(',').map(str::to_owned).collect(),
            "--heapwright" => options.heapwright = PathBuf::from(value()?),
            "--in" => options.directory = PathBuf::from(value()?),
            other => return Err(format!("unknown option `{other}`")),
        }
    }
    Ok((options, form))
}

fn run(options: &Options, form: Form) -> ExitCode {
    let mut say = |line: &str| eprintln!("{line}");
    let results = in_directory(&options.directory, || match form.curve {
        true => safety_suite::curve(options, &mut say).and_then(|curve| printed(&curve, form.json)),
        false => safety_suite::run(options, &mut say).and_then(|all| printed(&all, form.json)),
    });
    match results.flatten() {
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
