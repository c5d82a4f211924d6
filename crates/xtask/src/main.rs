//! Automation, as `cargo xtask COMMAND`: everything that a person or CI does to the project.
#![forbid(unsafe_code)]

mod bench;
mod build;
mod bundle;
mod demo;
mod dist;
mod hot_path;
mod interpreted;
mod mutant;
mod mutants;
mod mutants_gc;
mod mutants_guard;
mod mutants_hardened;
mod numa;
mod package;
mod setup;
mod shell;
mod test;
mod tidy;
mod workspace;

use std::env;
use std::process::ExitCode;
use workspace::Workspace;

const USAGE: &str = "\
usage: cargo xtask COMMAND
  build    the binary, the demo program and every .so, into target/release
           (--snmalloc: that peer too; --parquet: an export that writes Parquet)
  demo     build, then run the main job on the bundled program
  test     install what is missing, build, and run every check and test; with --tier NAME
           only that long tier (forks, programs, compact, faults): build and run its ignored tests
           (--tier numa: only tests of placement, in guests of several NUMA nodes, without KVM;
           --tier mutants: region allocators, collectors, hardened and check mode without one
            check each, whose tests must fail; --tier mutants-guard: check mode only;
            --tier mutants-regions: regions and malloc's refills only;
            --tier mutants-gc: collectors only;
           --tier miri, --tier asan: region allocators under a nightly toolchain's tools;
           --tier loom: the state machines of malloc in every order of their steps;
           --tier aarch64: core, sync and malloc for that processor, under emulation;
           --tier load: the examples under ten minutes of load each;
           --tier scheme: the suite that HEAPWRIGHT_SCHEME_SUITE names, on every collector)
  bench    build, then measure a suite beside its peers (malloc, record, regions, fragmentation, gc,
           safety; gc-figures: what the collectors are asked beside what they give), or, without
           one, compare allocators on the bundled program
  tidy     dependency directions, links, unsafe arguments, machine paths
  bundle   build the report's page from npm packages; fails if the committed one differs
  hot-path instructions of malloc and free in the built object, against their budget
  dist     a tarball and a Debian package in target/dist
  package  `cargo package` for every library crate
";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let rest = arguments.get(1..).unwrap_or_default();
    let result = Workspace::find().and_then(|workspace| {
        match arguments.first().map_or("help", String::as_str) {
            "build" => {
                let words: Vec<&str> = rest.iter().map(String::as_str).collect();
                build::run(&workspace, &words)
            }
            "demo" => demo::run(&workspace, rest),
            "test" => test::run(&workspace, rest),
            "bench" => bench::run(&workspace, rest),
            "tidy" => tidy::run(&workspace),
            "bundle" => bundle::run(&workspace),
            "dist" => dist::run(&workspace),
            "hot-path" => hot_path::run(&workspace),
            "package" => package::run(&workspace),
            "help" | "-h" | "--help" => {
                print!("{USAGE}");
                Ok(())
            }
            other => Err(format!("unknown command `{other}`\n{USAGE}")),
        }
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}
