//! Recording a test program, and the facts of the file.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

use heapwright_collect::{AfterStop, RecordOptions, RecordOutcome, Stdout, Target, record};
use heapwright_format::file::Recording;
use heapwright_format::merge::{MergedEvents, Module};
use heapwright_format::objects::{Change, MatchCounts, ObjectId, Objects};
use heapwright_format::stacks::{StackId, StackTree};
use heapwright_format::{AllocKind, FreeKind};
use heapwright_testkit::programs::{self, Counts, SIZE_MODULUS, SIZE_REMAINDER};
use tempfile::TempDir;

/// The recorder, in `HEAPWRIGHT_LIB_DIR`.
pub(crate) fn recorder() -> PathBuf {
    let directory = std::env::var_os("HEAPWRIGHT_LIB_DIR").expect(
        "HEAPWRIGHT_LIB_DIR is not set: build the recorder with \
         `cargo build --profile so -p heapwright-recorder` and name its directory",
    );
    let path = PathBuf::from(directory).join("libheapwright_recorder.so");
    assert!(path.exists(), "{} is not built", path.display());
    path.canonicalize().expect("it exists")
}

/// The testkit's program `name`, or ours in `programs/`.
pub(crate) fn program(name: &str) -> PathBuf {
    compile(name, &[])
}

/// A shared object from `programs/` or the testkit's.
pub(crate) fn object(name: &str) -> PathBuf {
    compile(name, &["-shared", "-fPIC"])
}

pub(crate) fn compile(name: &str, flags: &[&str]) -> PathBuf {
    let source =
        Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/recorder/programs/{name}.c"));
    let Ok(text) = fs::read(&source) else { return programs::compile_with(name, flags) };
    let mut hasher = DefaultHasher::new();
    (text, flags).hash(&mut hasher);
    let folder = std::env::temp_dir().join(format!("heapwright-recorded-{:x}", hasher.finish()));
    let target = folder.join(name);
    if target.exists() {
        return target;
    }
    fs::create_dir_all(&folder).expect("a directory");
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let fresh = folder.join(format!("{name}.{}.{number}", std::process::id()));
    let output = Command::new("cc")
        .args(["-O1", "-g", "-pthread", "-w", "-fno-builtin", "-I"])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../testkit/programs"))
        .args(flags)
        .arg("-o")
        .arg(&fresh)
        .arg(&source)
        .arg("-ldl")
        .output()
        .expect("cc; `cargo xtask test` installs it");
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    fs::rename(&fresh, &target).expect("renamed");
    target
}

/// `record`, the example, which the collector runs in for tests that kill it or limit it.
pub(crate) fn example() -> PathBuf {
    let test = std::env::current_exe().expect("our own path");
    let profile = test.parent().and_then(Path::parent).expect("a target directory");
    let example = profile.join("examples/record");
    assert!(example.exists(), "{} is not built: cargo build --examples", example.display());
    example
}

/// A command line.
pub(crate) fn words(program: &Path, arguments: &[&str]) -> Vec<OsString> {
    let mut words = vec![program.into()];
    words.extend(arguments.iter().map(OsString::from));
    words
}

/// A finished recording.
pub(crate) struct Run {
    pub(crate) outcome: RecordOutcome,
    pub(crate) recording: Recording,
    pub(crate) stdout: String,
    pub(crate) directory: TempDir,
}

/// Records `name` with `arguments`; it must end with status 0 and lose nothing.
#[track_caller]
pub(crate) fn record_whole(name: &str, arguments: &[&str]) -> Run {
    let run = record_command(words(&program(name), arguments), |_| {});
    assert_eq!(run.outcome.exit_status, Some(0), "{name}: {:?} {}", run.outcome, run.stdout);
    run.expect_whole();
    run
}

/// Records `command`, with options as `set` leaves them.
#[track_caller]
pub(crate) fn record_command(command: Vec<OsString>, set: impl FnOnce(&mut RecordOptions)) -> Run {
    let directory = tempfile::tempdir().expect("a directory");
    let output = directory.path().join("recording.hwr");
    let stdout = directory.path().join("stdout");
    let mut options = options_for(Target::Command(command), output.clone());
    options.stdout = Stdout::File(stdout.clone());
    set(&mut options);
    let outcome = record(options).expect("it starts");
    let recording = Recording::open(&output).expect("a recording");
    let stdout = fs::read_to_string(stdout).expect("text");
    Run { outcome, recording, stdout, directory }
}

/// Options with nothing special in them.
pub(crate) fn options_for(target: Target, output: PathBuf) -> RecordOptions {
    RecordOptions {
        target,
        output,
        recorder: recorder(),
        sample_bytes: 0,
        time_limit: None,
        bytes_max: None,
        load: None,
        load_delay: None,
        redact: false,
        foreground: false,
        stdout: Stdout::Inherit,
        after_stop: AfterStop::Wait,
        heapwright_version: "test".into(),
        machine: String::new(),
        progress: None,
    }
}

/// Records by the example, in a process of its own that `prepare` may change.
pub(crate) fn record_apart(
    output: &Path,
    command: &[OsString],
    prepare: impl FnOnce(&mut Command),
) -> Command {
    let mut apart = Command::new(example());
    apart.arg(recorder()).arg(output).args(command);
    prepare(&mut apart);
    apart
}

/// A number that the example printed as `name: N` or `name: Some(N)`.
pub(crate) fn printed(output: &Output, name: &str) -> u64 {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let (_, rest) = text.split_once(&format!(" {name}: ")).unwrap_or_else(|| panic!("{text}"));
    let digits: String = rest
        .chars()
        .skip_while(|letter| !letter.is_ascii_digit())
        .take_while(char::is_ascii_digit)
        .collect();
    digits.parse().expect("a number")
}

impl Run {
    /// Nothing was dropped, lost or unwritten, and the file is whole.
    #[track_caller]
    pub(crate) fn expect_whole(&self) {
        let outcome = &self.outcome;
        assert_eq!((outcome.dropped, outcome.unwritten_events, outcome.lost_processes), (0, 0, 0));
        assert!(outcome.output_error.is_none(), "{outcome:?}");
        assert_eq!(self.recording.problems(), [], "{outcome:?}");
        let events: u64 = self.recording.processes().iter().map(|process| process.events).sum();
        assert_eq!(events, outcome.events);
        assert_eq!(self.recording.processes().len() as u32, outcome.processes);
    }

    /// What the program's processes counted.
    pub(crate) fn counts(&self) -> Vec<Counts> {
        Counts::parse(&self.stdout)
    }

    /// The facts of the last process image with `pid`.
    pub(crate) fn facts_of(&self, pid: u32) -> Facts {
        let is_it = |process: &heapwright_format::file::ProcessRecord| process.info.pid == pid;
        let index = self.recording.processes().iter().rposition(is_it);
        Facts::of(&self.recording, index.unwrap_or_else(|| panic!("no process {pid}")))
    }

    /// The facts of the only process.
    pub(crate) fn facts(&self) -> Facts {
        assert_eq!(self.recording.processes().len(), 1);
        Facts::of(&self.recording, 0)
    }

    /// Each process's calls are recorded as it counted them, and no others of its sizes.
    #[track_caller]
    pub(crate) fn expect_counts(&self) {
        let all = self.counts();
        assert!(!all.is_empty(), "{}", self.stdout);
        for counts in all {
            self.facts_of(counts.pid).expect(&counts);
        }
    }
}

/// An allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Birth {
    pub(crate) kind: AllocKind,
    pub(crate) size: u64,
    pub(crate) align_log2: u8,
    pub(crate) is_complete: bool,
    pub(crate) depth: usize,
    pub(crate) thread: u32,
}

/// A resizing: sizes before and after, and whether the block moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Resizing {
    pub(crate) old_size: u64,
    pub(crate) size: u64,
}

/// Whether the dynamic loader asked for a block: its requests follow the lengths of paths, and now
/// and then have a size that test programs use.
fn is_loaders(stacks: &StackTree, modules: &[Module], stack: StackId) -> bool {
    let Some((address, _)) = stacks.frames(stack).next() else { return false };
    let holder = modules.iter().rfind(|module| (module.start..module.end).contains(&address));
    holder.is_some_and(|module| module.path.contains("/ld-linux"))
}

/// What a process did, by its recording, the dynamic loader's blocks left out.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    pub(crate) births: Vec<Birth>,
    pub(crate) deaths: Vec<(FreeKind, u64)>,
    pub(crate) resizings: Vec<Resizing>,
    pub(crate) failures: Vec<u64>,
    /// Sizes of blocks alive at the end.
    pub(crate) live: HashMap<ObjectId, u64>,
    pub(crate) touched: Vec<(ObjectId, u32, u32)>,
    pub(crate) matches: MatchCounts,
    pub(crate) threads: usize,
    pub(crate) threads_ended: usize,
    pub(crate) events: u64,
    pub(crate) modules: Vec<String>,
}

impl Facts {
    pub(crate) fn of(recording: &Recording, process: usize) -> Self {
        let mut facts = Self::default();
        let mut events = MergedEvents::new(recording, process);
        let mut objects = Objects::new();
        let mut loaders: HashSet<ObjectId> = HashSet::new();
        let mut last_time = 0;
        while let Some(merged) = events.next() {
            assert!(merged.time >= last_time, "events come in order of time");
            last_time = merged.time;
            facts.events += 1;
            let stacks = events.stacks();
            let modules = events.modules();
            objects.feed(&merged, stacks, |change| match change {
                Change::Born { object, stack, .. } if is_loaders(stacks, modules, stack) => {
                    loaders.insert(object);
                }
                Change::Resized { object, .. } | Change::Died { object, .. }
                    if loaders.contains(&object) => {}
                Change::Born { object, size, align_log2, kind, stack } => {
                    facts.live.insert(object, size);
                    facts.births.push(Birth {
                        kind,
                        size,
                        align_log2,
                        is_complete: !stacks.leaf(stack).truncated,
                        depth: stacks.frames(stack).count(),
                        thread: merged.thread,
                    });
                }
                Change::Resized { object, old_size, size, .. } => {
                    facts.live.insert(object, size);
                    facts.resizings.push(Resizing { old_size, size });
                }
                Change::Died { object, size, kind } => {
                    facts.live.remove(&object);
                    facts.deaths.push((kind, size));
                }
                Change::Failed { size, .. } => facts.failures.push(size),
                Change::Touched { object, resident_pages, page_count, .. } => {
                    facts.touched.push((object, resident_pages, page_count));
                }
                Change::ThreadEnd => facts.threads_ended += 1,
                _ => {}
            });
        }
        assert_eq!(events.problems(), []);
        facts.matches = objects.counts();
        facts.threads = events.threads().len();
        facts.modules = events.modules().iter().map(|module| module.path.clone()).collect();
        facts
    }

    /// Births with the sizes that test programs use.
    pub(crate) fn own_births(&self) -> impl Iterator<Item = &Birth> {
        self.births.iter().filter(|birth| is_own(birth.size))
    }

    /// Sizes of own blocks alive at the end.
    pub(crate) fn own_live(&self) -> usize {
        self.live.values().filter(|&&size| is_own(size)).count()
    }

    pub(crate) fn own_deaths(&self) -> usize {
        self.deaths.iter().filter(|&&(_, size)| is_own(size)).count()
    }

    /// The calls are those that the program counted; frees of blocks older than the process (a
    /// forked child's) are unknown ones.
    #[track_caller]
    pub(crate) fn expect(&self, counts: &Counts) {
        let born = |kinds: &[AllocKind]| {
            self.own_births().filter(|birth| kinds.contains(&birth.kind)).count() as u64
        };
        assert_eq!(born(&[AllocKind::Malloc]), counts.malloc, "malloc of {counts:?}");
        assert_eq!(born(&[AllocKind::Calloc]), counts.calloc, "calloc of {counts:?}");
        let resized = self.resizings.iter().filter(|resizing| is_own(resizing.size)).count() as u64;
        let realloc = born(&[AllocKind::Realloc, AllocKind::Reallocarray]) + resized;
        assert_eq!(realloc, counts.realloc, "realloc of {counts:?}");
        let freed = self.own_deaths() as u64 + self.matches.unknown_frees;
        assert_eq!(freed, counts.free, "frees of {counts:?}, {:?}", self.matches);
        assert_eq!(self.matches.lost_frees, 0, "{counts:?}");
        let bytes: u64 = self.own_births().map(|birth| birth.size).sum();
        let resized: u64 =
            self.resizings.iter().map(|resizing| resizing.size).filter(|&size| is_own(size)).sum();
        if counts.aligned == 0 {
            assert_eq!(bytes + resized, counts.bytes, "bytes of {counts:?}");
        }
    }

    /// All own stacks are whole.
    #[track_caller]
    pub(crate) fn expect_complete_stacks(&self) {
        let cut = self.own_births().filter(|birth| !birth.is_complete).count();
        assert_eq!(cut, 0, "of {} stacks", self.own_births().count());
    }
}

pub(crate) fn is_own(size: u64) -> bool {
    size % SIZE_MODULUS == SIZE_REMAINDER
}

/// Whether we may do what only root may.
pub(crate) fn is_root() -> bool {
    // SAFETY: asks for a number.
    unsafe { libc::geteuid() == 0 }
}
