//! The interpreter of `examples/scheme` with its objects in malloc's blocks, which nobody frees:
//! what it costs without a collector, to compare with.
//!
//! `cargo run --release -p heapwright-gc --example scheme_malloc -- FILE`

// Nothing looks into a heap that is none.
#[allow(dead_code)]
#[path = "../scheme/interpreter.rs"]
mod interpreter;
#[allow(dead_code)]
mod store;

use heapwright_gc::Config;
use interpreter::machine::Machine;
use std::process::ExitCode;

fn main() -> ExitCode {
    let Some(file) = std::env::args().nth(1) else {
        eprintln!("usage: scheme_malloc FILE");
        return ExitCode::FAILURE;
    };
    let run = || {
        let text = std::fs::read_to_string(&file).map_err(|error| format!("{file}: {error}"))?;
        let mut machine = Machine::new(Config::default()).map_err(|error| error.to_string())?;
        machine.has_console = true;
        let result = machine.eval(&text).map_err(|error| error.to_string());
        machine.show_output();
        result
    };
    match run() {
        Ok(_) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}
