//! `heapwright bench`: a suite of measurements, which is a program of its own.

use crate::bench_fragmentation;
use crate::console::Console;
use crate::failure::Failure;
use clap::Args;
use std::env;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

/// Which suite; the rest is for it.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub(crate) struct BenchOptions {
    /// The suite (malloc, record, regions, gc, safety, fragmentation) and its options: --quick,
    /// --only WORKLOAD,..., --against PEER,..., --help
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "SUITE"
    )]
    words: Vec<OsString>,
}

/// Becomes the suite's program, which lies beside this one or in `../lib/heapwright`. Fragmentation
/// is measured by two of them.
pub(crate) fn run(options: &BenchOptions, console: &Console) -> Result<u8, Failure> {
    let Some((suite, rest)) = options.words.split_first() else {
        return Err(Failure::ours("bench: which suite?"));
    };
    if suite == "fragmentation" {
        return bench_fragmentation::run(rest, console.json());
    }
    let program = find(&format!("heapwright-bench-{}", suite.display()))?;
    let mut command = Command::new(&program);
    command.args(rest);
    if console.json() && !rest.iter().any(|word| word == "--json") {
        command.arg("--json");
    }
    let error = command.exec();
    Err(Failure::ours(format!("{}: cannot be run ({error})", program.display())))
}

/// The program `name` of a suite.
pub(crate) fn find(name: &str) -> Result<PathBuf, Failure> {
    let own = env::current_exe()?;
    let installed = own.parent().and_then(|bin| bin.parent()).map(|at| at.join("lib/heapwright"));
    let places = [Some(own.with_file_name(name)), installed.map(|at| at.join(name))];
    places.into_iter().flatten().find(|path| !name.contains('/') && path.is_file()).ok_or_else(
        || {
            Failure::ours(format!(
                "bench: there is no suite program {name} beside this binary; in the sources, \
                 `cargo xtask bench SUITE` builds it with its peers and runs it"
            ))
        },
    )
}
