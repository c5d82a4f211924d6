//! Replays one recording and prints a table: the engine on its own, for tests and for
//! measuring it. Users have `heapwright replay`.
//!
//! `heapwright-replay FILE [--json] [--repeats N] [--process N] [--strict] [SO...]`

use std::error::Error;
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use heapwright_format::file::Recording;
use heapwright_replay::{
    AllocatorSpec, ReplayOptions, ReplayReport, Shape, WORKER_ARGUMENT, replay, worker_main,
};

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    if arguments.first().is_some_and(|first| first == WORKER_ARGUMENT) {
        worker_main(&arguments[1..]);
    }
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("heapwright-replay: {error}");
            ExitCode::from(125)
        }
    }
}

fn run(arguments: &[OsString]) -> Result<(), Box<dyn Error>> {
    let mut options = ReplayOptions::default();
    let mut file = None;
    let mut is_json = false;
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let mut number = || -> Result<u32, Box<dyn Error>> {
            let text = rest.next().and_then(|text| text.to_str());
            Ok(text.ok_or("a number is missing")?.parse()?)
        };
        match argument.to_str() {
            Some("--json") => is_json = true,
            Some("--strict") => options.shape = Shape::strict(),
            Some("--repeats") => options.repeats = number()?,
            Some("--process") => options.process = Some(number()? as usize),
            _ if file.is_none() => file = Some(argument),
            _ => options.allocators.push(AllocatorSpec::object(Path::new(argument))),
        }
    }
    let file = file.ok_or("usage: heapwright-replay FILE [--json] [--repeats N] [SO...]")?;
    let recording = Recording::open(Path::new(file))?;
    let report = replay(&recording, &options, &mut |_| {})?;
    if is_json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print(&report);
    }
    Ok(())
}

fn print(report: &ReplayReport) {
    println!(
        "{} (pid {}): {} events, {} operations, {} threads, {} handovers, live peak {} KiB",
        report.exe,
        report.pid,
        report.events,
        report.operations,
        report.threads,
        report.handovers,
        report.peak_live_bytes >> 10
    );
    let null = &report.null;
    println!(
        "compiled in {:.2} s; plan {} KiB; null run {:.2} ns an operation (spread {:.0} %), \
         waiting {:.3} s",
        report.compile_s,
        report.plan_bytes >> 10,
        null.ns_per_op,
        100.0 * null.spread,
        null.wait_s
    );
    println!(
        "{:24} {:>8} {:>7} {:>8} {:>8} {:>9} {:>9} {:>9} {:>9} {:>6} {:>6}",
        "allocator",
        "ns/op",
        "spread",
        "wall s",
        "faults",
        "peak KiB",
        "mean KiB",
        "end KiB",
        "at live",
        "int",
        "ext"
    );
    for row in &report.allocators {
        let name = format!("{} {}", row.name, row.version);
        if !row.failure.is_empty() {
            println!("{name:24} failed: {}", row.failure);
            continue;
        }
        let memory = row.memory.clone().unwrap_or_default();
        println!(
            "{name:24} {:8.2} {:6.0}% {:8.3} {:8} {:9} {:9} {:9} {:9} {:6.3} {:6.3}",
            row.ns_per_op,
            100.0 * row.spread,
            row.wall_s,
            row.page_faults_minor,
            memory.peak_bytes >> 10,
            memory.mean_bytes >> 10,
            memory.end_bytes >> 10,
            memory.at_live_peak_bytes >> 10,
            memory.internal_fragmentation.unwrap_or(f64::NAN),
            memory.external_fragmentation.unwrap_or(f64::NAN)
        );
    }
    for note in &report.notes {
        println!("note: {note}");
    }
}
