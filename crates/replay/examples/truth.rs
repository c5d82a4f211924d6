//! Does replay tell the truth about memory? Runs a command, watches the anonymous memory of
//! the recorded process in it, and puts the replay on the same allocator beside it:
//!
//! `truth FILE.hwr [--on PATH.so] -- CMD...`
//!
//! `FILE.hwr` is a recording of the same command; the process watched is the first one among
//! CMD and its descendants that runs the recorded executable. The command must use the same
//! allocator as the replay: the system's, or the one that `--on` names.
//!
//! Two figures for the program: growth of all its anonymous memory since it was first seen
//! (some milliseconds after its start), and the anonymous memory in mappings without a file at
//! the peak, which leaves out written data of its objects and needs no first moment.

use std::error::Error;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use heapwright_format::file::Recording;
use heapwright_replay::{
    AllocatorSpec, ReplayOptions, ResidentMeter, WORKER_ARGUMENT, replay, worker_main,
};

/// Between looks, after the first [`DENSE`].
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// So long after the start there is no pause between looks.
const DENSE: Duration = Duration::from_millis(100);

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    if arguments.first().is_some_and(|first| first == WORKER_ARGUMENT) {
        worker_main(&arguments[1..]);
    }
    let usage = "usage: truth FILE.hwr [--on PATH.so] -- CMD...";
    let dashes = arguments.iter().position(|word| word == "--").ok_or(usage)?;
    let (ours, command) = (&arguments[..dashes], &arguments[dashes + 1..]);
    let (file, allocator) = match ours {
        [file] => (file, AllocatorSpec::system()),
        [file, on, object] if on == "--on" => (file, AllocatorSpec::object(Path::new(object))),
        _ => return Err(usage.into()),
    };
    if command.is_empty() {
        return Err(usage.into());
    }
    let recording = Recording::open(Path::new(file))?;
    let main = recording.main_process().ok_or("the recording has no process")?;
    let exe = PathBuf::from(&recording.processes()[main].info.exe);

    let program = watch(&exe, command)?;
    let allocators = vec![allocator];
    let options = ReplayOptions { allocators, repeats: 0, ..ReplayOptions::default() };
    let report = replay(&recording, &options, &mut |_| {})?;
    let row = report.allocators.first().ok_or("no row")?;
    let memory = row.memory.as_ref().ok_or_else(|| row.failure.clone())?;

    let replayed = memory.peak_bytes as f64;
    let line = |what: &str, bytes: f64| {
        println!(
            "{what:46} {:10.0} KiB   replay / program {:.3}",
            bytes / 1024.0,
            replayed / bytes
        );
    };
    println!("{} ({} looks)", exe.display(), program.looks);
    println!("{:46} {:10.0} KiB", "replay, growth to the peak", replayed / 1024.0);
    line("program, growth since first seen", program.growth_bytes as f64);
    line("program, anonymous without a file at the peak", program.unnamed_bytes as f64);
    for note in &report.notes {
        println!("note: {note}");
    }
    Ok(())
}

/// What watching a program showed.
#[derive(Default)]
struct Watched {
    growth_bytes: u64,
    unnamed_bytes: u64,
    looks: u64,
}

fn watch(exe: &Path, command: &[OsString]) -> Result<Watched, Box<dyn Error>> {
    let mut child = Command::new(&command[0])
        .args(&command[1..])
        .stdout(Stdio::null())
        .env("PYTHONHASHSEED", "0")
        .spawn()?;
    let started = Instant::now();
    let mut found = None;
    let mut first = None;
    let mut watched = Watched::default();
    let mut peak_bytes = 0;
    while is_running(&mut child)? {
        let pid = match found {
            Some(pid) => pid,
            None => match find(child.id(), exe) {
                Some(pid) => *found.insert(pid),
                None => continue,
            },
        };
        let read = ResidentMeter::of_process(pid).ok().and_then(|meter| meter.read());
        if let Some(resident) = read.filter(|resident| resident.anonymous_bytes > 0) {
            let bytes = resident.anonymous_bytes;
            let first = *first.get_or_insert(bytes);
            watched.looks += 1;
            // Reading mapping by mapping is slow: only where the peak has moved.
            if bytes > peak_bytes + peak_bytes / 200 {
                peak_bytes = bytes;
                watched.unnamed_bytes = watched.unnamed_bytes.max(unnamed_bytes(pid));
            }
            watched.growth_bytes = watched.growth_bytes.max(bytes.saturating_sub(first));
        }
        if started.elapsed() > DENSE {
            std::thread::sleep(LOOK_EVERY);
        }
    }
    if watched.looks == 0 {
        return Err(format!("no process of the command runs {}", exe.display()).into());
    }
    Ok(watched)
}

fn is_running(child: &mut Child) -> std::io::Result<bool> {
    Ok(child.try_wait()?.is_none())
}

/// The process that runs `exe` among `pid` and its descendants.
fn find(pid: u32, exe: &Path) -> Option<u32> {
    if std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|path| path == exe) {
        return Some(pid);
    }
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    tasks
        .flatten()
        .filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok())
        .flat_map(|list| list.split_whitespace().filter_map(|n| n.parse().ok()).collect::<Vec<_>>())
        .find_map(|child| find(child, exe))
}

/// Anonymous memory in mappings that have no file and are not the first stack.
fn unnamed_bytes(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap_or_default();
    let mut is_unnamed = false;
    let mut sum_kb = 0;
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("Anonymous:") {
            let kb: u64 = rest.trim().trim_end_matches(" kB").parse().unwrap_or(0);
            sum_kb += if is_unnamed { kb } else { 0 };
        } else if line.split(' ').next().is_some_and(|range| range.contains('-')) {
            let mut fields = line.split_whitespace();
            let has_no_file = fields.nth(4) == Some("0");
            is_unnamed = has_no_file && fields.next() != Some("[stack]");
        }
    }
    sum_kb << 10
}
