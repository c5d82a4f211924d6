//! `heapwright doctor`: what this machine offers, and what is done instead where it does not.

mod checks;
mod memory;
mod objects;

use crate::console::Console;
use crate::failure::Failure;
use clap::Args;
use heapwright_launch::Machine;
use serde::Serialize;

/// No options of its own.
#[derive(Debug, Args)]
pub(crate) struct DoctorOptions {}

/// How well a need is met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// As it should be.
    Ok,
    /// There, with a limit that shows.
    Limited,
    /// Not there.
    Missing,
}

/// One thing looked at.
#[derive(Debug, Serialize)]
pub(crate) struct Check {
    name: &'static str,
    state: State,
    value: String,
    /// What is done instead, or what to do; empty when all is well.
    fallback: String,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Diagnosis {
    schema: u32,
    heapwright_version: &'static str,
    machine: Machine,
    checks: Vec<Check>,
}

impl Check {
    /// All is well.
    fn ok(name: &'static str, value: impl Into<String>) -> Self {
        Self { name, state: State::Ok, value: value.into(), fallback: String::new() }
    }

    fn limited(name: &'static str, value: impl Into<String>, fallback: impl Into<String>) -> Self {
        Self { name, state: State::Limited, value: value.into(), fallback: fallback.into() }
    }

    fn missing(name: &'static str, value: impl Into<String>, fallback: impl Into<String>) -> Self {
        Self { name, state: State::Missing, value: value.into(), fallback: fallback.into() }
    }
}

/// Status 0 whatever was found: a limit of the machine is no failure of ours.
pub(crate) fn run(_options: &DoctorOptions, console: &Console) -> Result<u8, Failure> {
    let machine = Machine::this();
    let mut checks = checks::all(&machine);
    checks.extend(memory::all());
    checks.extend(objects::all());
    if console.json() {
        let heapwright_version = env!("CARGO_PKG_VERSION");
        console.print_json(&Diagnosis { schema: 1, heapwright_version, machine, checks })?;
        return Ok(0);
    }
    let lines: Vec<String> = checks.iter().map(|check| line(check, console.color())).collect();
    console.print(&lines.join("\n"))?;
    Ok(0)
}

fn line(check: &Check, color: bool) -> String {
    let (word, code) = match check.state {
        State::Ok => ("ok", "32"),
        State::Limited => ("limited", "33"),
        State::Missing => ("missing", "31"),
    };
    let word = format!("{word:<8}");
    let word = if color { format!("\x1b[{code}m{word}\x1b[0m") } else { word };
    let mut line = format!("{word} {:<22} {}", check.name, check.value);
    if !check.fallback.is_empty() {
        line += &format!("\n{:>31} -> {}", "", check.fallback);
    }
    line
}
