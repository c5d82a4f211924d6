//! `heapwright-bench-gc`: collectors beside malloc and other collectors on four workloads.
//!
//! Question: what do time, memory and pauses of each collector look like beside malloc and the
//! peers, on programs from "all garbage dies young" (gcbench) to "old objects die at random"
//! (lru)? Each cell runs in a process of its own, which this program starts.

mod cell;
mod measure;
mod ours;
mod raw;
mod workload;

use std::env;
use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    match words.split_first() {
        Some((first, rest)) if first == "cell" => match cell::run(rest) {
            Ok(row) => {
                println!("{row}");
                ExitCode::SUCCESS
            }
            Err(message) => {
                eprintln!("{message}");
                ExitCode::FAILURE
            }
        },
        _ => ExitCode::FAILURE,
    }
}
