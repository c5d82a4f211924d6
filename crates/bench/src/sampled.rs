//! What an event costs that sampled recording does not take.
//!
//! A loop of malloc and free of 64 bytes, bare and under `heapwright record --sample`: by CPU
//! time, and by instructions that callgrind counts, which repeat exactly. Expected: a few
//! nanoseconds, since an event not taken is a counter and a jump to the allocator. The cost of
//! the few events that are taken is in both figures, so they are upper bounds.

use crate::inputs::LOOP_C;
use crate::programs::{Program, said, write};
use crate::statistics::median;
use crate::tool::Tool;
use serde::Serialize;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Bytes between two samples on average; the usual choice of heap profilers.
pub(crate) const SAMPLE_BYTES: u64 = 524_288;

/// Pairs in the two counted runs: their difference leaves starting and ending out.
const COUNTED_PAIRS: [u64; 2] = [200_000, 400_000];

/// The cost of an event that is not taken.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SampledCost {
    /// Events of a run: a malloc and a free for each pair.
    pub events: u64,
    /// CPU nanoseconds of an event without a recorder.
    pub bare_ns: f64,
    /// CPU nanoseconds added to it by the recorder and the collector, median of the rounds.
    pub added_ns: f64,
    /// Instructions added to an event; none without valgrind.
    pub added_instructions: Option<f64>,
}

/// Measures it, `rounds` times alternately with `pairs` pairs of malloc and free.
///
/// # Errors
/// A sentence, such as that there is no C compiler.
pub(crate) fn measure(
    heapwright: &Path,
    directory: &Path,
    pairs: u64,
    rounds: usize,
) -> Result<SampledCost, String> {
    let source = directory.join("loop.c");
    let exe = directory.join("loop");
    write(&source, LOOP_C)?;
    said(Command::new("cc").args(["-O2", "-fno-builtin"]).arg(&source).arg("-o").arg(&exe))?;
    let program = |exe: &Path, arguments: Vec<OsString>| Program {
        exe: exe.to_owned(),
        arguments,
        environment: Vec::new(),
        load: None,
        version: String::new(),
    };
    let (mut bare, mut added) = (Vec::new(), Vec::new());
    let events = 2 * pairs;
    for _ in 0..rounds {
        let once = program(&exe, vec![pairs.to_string().into()]);
        let bare_run = Tool::Native.run(&once, directory)?;
        let recorded = Tool::Native.run(&sampled(heapwright, directory, &once), directory)?;
        bare.push(bare_run.cpu_s * 1e9 / events as f64);
        added.push((recorded.cpu_s - bare_run.cpu_s) * 1e9 / events as f64);
    }
    let counted = |recorded: bool| {
        let counts = COUNTED_PAIRS.map(|pairs| {
            instructions(&program(&exe, vec![pairs.to_string().into()]), heapwright, recorded)
        });
        match counts {
            [Ok(few), Ok(many)] => {
                let pairs = COUNTED_PAIRS[1] - COUNTED_PAIRS[0];
                Some((many - few) / (2 * pairs) as f64)
            }
            _ => None,
        }
    };
    let added_instructions =
        counted(true).zip(counted(false)).map(|(recorded, bare)| recorded - bare);
    Ok(SampledCost { events, bare_ns: median(&bare), added_ns: median(&added), added_instructions })
}

/// `program` under sampled recording, as a program.
fn sampled(heapwright: &Path, directory: &Path, program: &Program) -> Program {
    let mut arguments: Vec<OsString> = vec!["record".into(), "--sample".into()];
    arguments.extend([SAMPLE_BYTES.to_string().into(), "-o".into()]);
    arguments.extend([directory.join("sampled.hwr").into(), "--".into()]);
    arguments.push(program.exe.clone().into());
    arguments.extend(program.arguments.iter().cloned());
    Program { exe: heapwright.to_owned(), arguments, ..program.clone() }
}

/// Instructions of the program itself, as callgrind counts them.
fn instructions(program: &Program, heapwright: &Path, recorded: bool) -> Result<f64, String> {
    let directory = program.exe.parent().ok_or("a program without a directory")?;
    let counts: PathBuf = directory.join("callgrind.out");
    let mut arguments: Vec<OsString> = vec!["--tool=callgrind".into(), "-q".into()];
    arguments.push(format!("--callgrind-out-file={}", counts.display()).into());
    arguments.push(program.exe.clone().into());
    arguments.extend(program.arguments.iter().cloned());
    let mut counted =
        Program { exe: crate::programs::find("valgrind")?, arguments, ..program.clone() };
    if recorded {
        counted = sampled(heapwright, directory, &counted);
    }
    let _ = std::fs::remove_file(&counts);
    Tool::Native.run(&counted, directory)?;
    let text = std::fs::read_to_string(&counts).map_err(|error| error.to_string())?;
    total(&text).ok_or_else(|| "callgrind wrote no total".into())
}

/// The total of a file of callgrind's.
fn total(text: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix("totals: "))?;
    line.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::total;

    #[test]
    fn the_total_is_found() {
        assert_eq!(total("events: Ir\nsummary: 7\n1 2\ntotals: 12345\n"), Some(12345.0));
        assert_eq!(total("events: Ir\n"), None);
    }
}
