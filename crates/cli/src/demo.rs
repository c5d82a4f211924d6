//! `heapwright demo`: the main job on a bundled program.

use crate::advise::{self, AdviseOptions};
use crate::console::Console;
use crate::failure::Failure;
use clap::{Args, FromArgMatches};
use std::env;
use std::ffi::OsString;
use std::path::PathBuf;

/// How large.
#[derive(Debug, Args)]
pub(crate) struct DemoOptions {
    /// Where recording.hwr, report.html and advice.json go
    #[arg(short, long, value_name = "DIR", default_value = "heapwright-demo-advice")]
    output: PathBuf,
    /// Requests that the bundled server answers
    #[arg(long, value_name = "N", default_value_t = 16_000)]
    requests: u64,
}

pub(crate) fn run(options: &DemoOptions, console: &Console) -> Result<u8, Failure> {
    let program = env::current_exe()?.with_file_name("heapwright-demo");
    if !program.is_file() {
        let path = program.display();
        return Err(Failure::ours(format!(
            "{path}: the bundled program is missing; `cargo xtask build` makes it"
        )));
    }
    let requests = options.requests.to_string();
    let words: [OsString; 7] = [
        "advise".into(),
        "-o".into(),
        options.output.clone().into(),
        "--".into(),
        program.into(),
        "--requests".into(),
        requests.into(),
    ];
    let matches =
        AdviseOptions::augment_args(clap::Command::new("advise")).try_get_matches_from(words);
    let advise = matches.and_then(|matches| AdviseOptions::from_arg_matches(&matches));
    advise::run(&advise.map_err(Failure::ours)?, console)
}
