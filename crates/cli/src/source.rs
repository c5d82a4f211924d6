//! A recording named on the command line: opened, a process chosen, analysed.

use crate::console::Console;
use crate::failure::Failure;
use crate::progress::Progress;
use heapwright_advise::Analysis;
use heapwright_format::file::{OpenError, Recording};
use heapwright_symbols::Symbolizer;
use std::path::Path;

/// The name of the recording in a directory that `advise` wrote.
pub(crate) const RECORDING_FILE: &str = "recording.hwr";
/// The name of the advice there.
pub(crate) const ADVICE_FILE: &str = "advice.json";
/// The name of the page there.
pub(crate) const REPORT_FILE: &str = "report.html";

/// Parts of a torn file that are named; the rest is counted.
const PROBLEMS_SHOWN: usize = 3;

/// Opens `path`, a recording or a directory that holds one, and says what cannot be read of it.
pub(crate) fn open(path: &Path, console: &Console) -> Result<Recording, Failure> {
    let file = if path.is_dir() { path.join(RECORDING_FILE) } else { path.to_owned() };
    let recording = Recording::open(&file)?;
    let problems = recording.problems();
    for problem in problems.iter().take(PROBLEMS_SHOWN) {
        console.message(&format!("{}: {problem}", file.display()));
    }
    if problems.len() > PROBLEMS_SHOWN {
        let more = problems.len() - PROBLEMS_SHOWN;
        console.message(&format!("{}: {more} more such places", file.display()));
    }
    Ok(recording)
}

/// The number of the process that `wanted` names: a process id, or (the end of) the path of an
/// executable; without it the one with most events.
pub(crate) fn choose(recording: &Recording, wanted: Option<&str>) -> Result<usize, Failure> {
    let processes = recording.processes();
    let chosen = match wanted {
        None => recording.main_process(),
        Some(name) => {
            let id = name.parse::<u32>().ok();
            let matches = |index: &usize| {
                let info = &processes[*index].info;
                id == Some(info.pid)
                    || info.exe == name
                    || info.name == name
                    || info.exe.rsplit('/').next() == Some(name)
            };
            (0..processes.len()).filter(matches).max_by_key(|index| processes[*index].events)
        }
    };
    chosen.ok_or_else(|| {
        let file = recording.path().display();
        let Some(name) = wanted else {
            return Failure::ours(format!("{file}: no process was recorded; record again"));
        };
        let known: Vec<String> = processes
            .iter()
            .map(|process| format!("{} {}", process.info.pid, process.info.exe))
            .collect();
        Failure::ours(format!("{file}: no process `{name}` (there are: {})", known.join(", ")))
    })
}

/// Analyses process number `process`, with a bar.
pub(crate) fn analyse(recording: &Recording, process: usize) -> Result<Analysis, Failure> {
    let progress = Progress::new(1);
    let mut symbolizer = Symbolizer::new();
    Analysis::new(recording, process, &mut symbolizer, &mut |done, all| {
        progress.set(done, all, "analysing");
    })
    .map_err(Failure::ours)
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        Self::ours(error)
    }
}
