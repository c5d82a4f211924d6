//! A Scheme interpreter on `heapwright_gc::vm`: runs a file, or expressions from standard
//! input, a line each; the line `,heap` tells what is reachable.
//!
//! `cargo run --release -p heapwright-gc --example scheme -- FILE`; the collector is chosen by
//! `HEAPWRIGHT_GC_COLLECTOR` and the other variables.

#[path = "interpreter.rs"]
mod interpreter;

/// Where the interpreter's objects lie; `scheme_malloc` has another.
mod store {
    pub use heapwright_gc::vm::VmHeap as Store;
}

use heapwright_gc::Config;
use interpreter::error::Error;
use interpreter::machine::Machine;
use std::io::{self, BufRead};
use std::process::ExitCode;

fn main() -> ExitCode {
    match run() {
        Ok(status) => status,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<ExitCode, String> {
    let config = Config::default().with_environment().map_err(|error| error.to_string())?;
    let mut machine = Machine::new(config).map_err(|error| error.to_string())?;
    machine.has_console = true;
    if let Some(file) = std::env::args().nth(1) {
        let text = std::fs::read_to_string(&file).map_err(|error| format!("{file}: {error}"))?;
        let result = machine.eval(&text);
        machine.show_output();
        return ended(result.map(drop));
    }
    for line in io::stdin().lock().lines() {
        let line = line.map_err(|error| error.to_string())?;
        if line.trim() == ",heap" {
            let (objects, bytes) = machine.memory.verify();
            let symbols = machine.memory.symbol_count();
            let pauses = machine.memory.heap().statistics().pauses();
            println!("{objects} objects, {bytes} bytes, {symbols} symbols, {pauses} pauses");
            continue;
        }
        let result = machine.eval(&line);
        machine.show_output();
        match result {
            Ok(value) => println!("{value}"),
            Err(error @ Error::Exit(_)) => return ended(Err(error)),
            Err(error) => println!("{error}"),
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The status of the process after a program.
fn ended(result: Result<(), Error>) -> Result<ExitCode, String> {
    match result {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(Error::Exit(status)) => Ok(ExitCode::from(status as u8)),
        Err(error) => Err(error.to_string()),
    }
}
