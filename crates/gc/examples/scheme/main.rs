//! A Scheme interpreter on `heapwright_gc::vm`: runs a file, or expressions from standard
//! input, a line each; the line `,heap` tells what is reachable.
//!
//! `cargo run --release -p heapwright-gc --example scheme -- FILE`; the collector is chosen by
//! `HEAPWRIGHT_GC_COLLECTOR` and the other variables.

#[path = "interpreter.rs"]
mod interpreter;

use heapwright_gc::Config;
use interpreter::machine::Machine;
use std::io::{self, BufRead};
use std::process::ExitCode;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let config = Config::default().with_environment().map_err(|error| error.to_string())?;
    let mut machine = Machine::new(config).map_err(|error| error.to_string())?;
    if let Some(file) = std::env::args().nth(1) {
        let text = std::fs::read_to_string(&file).map_err(|error| format!("{file}: {error}"))?;
        let result = machine.eval(&text).map_err(|error| error.to_string());
        print!("{}", machine.output);
        return result.map(drop);
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
        match machine.eval(&line) {
            Ok(value) => println!("{}{value}", std::mem::take(&mut machine.output)),
            Err(error) => println!("{}{error}", std::mem::take(&mut machine.output)),
        }
    }
    Ok(())
}
