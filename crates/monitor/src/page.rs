//! Reading a statistics page, and asking its process for things.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use heapwright_core::live_page::{
    CELL_COUNT, CLASS_WORDS, Cell, FIGURE_COUNT, Figures, HEAP_COUNT_MAX, HEAP_NAME_WORDS,
    HEAP_OF_THREAD, HEAP_WORDS, HEAP_ZONE, MAGIC, NODE_ROWS, NODE_WORDS, PAGE_BYTES,
    REQUEST_FIGURES, REQUEST_PROFILE, REQUEST_PROFILE_OFF, REQUEST_PROFILE_ON, REQUEST_RELEASE,
    VERSION, WORD_ANSWERED, WORD_CLASSES, WORD_FIGURES, WORD_HEAPS, WORD_MAGIC, WORD_MAP,
    WORD_NODES, WORD_PAGE_BYTES, WORD_PROCESS, WORD_REQUEST, WORD_RESULT, WORD_SEQUENCE,
    WORD_VERSION, request,
};
use heapwright_core::size_class::CLASS_COUNT;

use crate::MonitorError;
use crate::processes::{WatchedProcess, find};

/// Reads again so often when the writer was at it; each try waits a millisecond.
const READ_TRIES: u32 = 200;
/// How often an answer is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// What a process can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Fresh figures.
    Figures,
    /// Free memory back to the kernel.
    Release,
    /// The profile, as a file beside the page.
    Profile,
    /// Sampling on.
    ProfileOn,
    /// Sampling off.
    ProfileOff,
}

impl Request {
    fn kind(self) -> u64 {
        match self {
            Self::Figures => REQUEST_FIGURES,
            Self::Release => REQUEST_RELEASE,
            Self::Profile => REQUEST_PROFILE,
            Self::ProfileOn => REQUEST_PROFILE_ON,
            Self::ProfileOff => REQUEST_PROFILE_OFF,
        }
    }
}

/// A size class, as the page has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClassFigures {
    /// Bytes of a slot.
    pub slot_bytes: u64,
    /// Bytes of its spans.
    pub span_bytes: u64,
    /// Slots in use, those in threads' lists and on their way home included.
    pub used_slots: u64,
    /// All slots.
    pub slot_count: u64,
}

/// A heap, as the page has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeapFigures {
    /// `thread`, `zone` or `shared`.
    pub kind: &'static str,
    /// What tells it from others of its kind.
    pub number: u64,
    /// Bytes of its spans.
    pub span_bytes: u64,
    /// Of these, in use.
    pub used_bytes: u64,
    /// Usable bytes of its large blocks.
    pub large_bytes: u64,
    /// What it may hold; none for no limit.
    pub limit_bytes: Option<u64>,
    /// The program's name for it; empty for none, and where the process answers without its
    /// helper thread.
    pub name: String,
}

/// A NUMA node, as the page has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeFigures {
    /// Its number; 0 where there is one.
    pub node: u64,
    /// Bytes of spans of small blocks.
    pub span_bytes: u64,
    /// Of these, in use.
    pub used_bytes: u64,
    /// Usable bytes of large blocks.
    pub large_bytes: u64,
    /// Bytes of free runs that may be resident.
    pub free_dirty_bytes: u64,
    /// Bytes of free runs that were given back.
    pub free_clean_bytes: u64,
}

/// The page at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The figures.
    pub figures: Figures,
    /// Classes that have spans.
    pub classes: Vec<ClassFigures>,
    /// Heaps that have spans.
    pub heaps: Vec<HeapFigures>,
    /// NUMA nodes that have memory of the allocator's.
    pub nodes: Vec<NodeFigures>,
    /// The map: what each cell of `slices_per_cell` slices is, and how many fifteenths are used.
    pub map: Vec<(Cell, u8)>,
}

/// A process and its page.
#[derive(Debug)]
pub struct Watched {
    process: WatchedProcess,
    file: File,
}

impl Watched {
    /// Opens the page of the process that `pid_or_name` means, which is in one of `directories`
    /// ([`crate::directories`], as a rule).
    ///
    /// # Errors
    /// [`MonitorError`] says which of the many reasons it is.
    pub fn open(pid_or_name: &str, directories: &[PathBuf]) -> Result<Self, MonitorError> {
        let process = find(pid_or_name, directories)?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&process.page)
            .map_err(|error| MonitorError::io(&process.page, error))?;
        let watched = Self { process, file };
        watched.check()?;
        Ok(watched)
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.process.pid
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.process.name
    }

    /// The page's file.
    pub fn page_path(&self) -> &Path {
        &self.process.page
    }

    /// Where a requested profile is written.
    pub fn profile_path(&self) -> PathBuf {
        self.process.page.with_extension("profile")
    }

    /// Whether the process is there still.
    ///
    /// # Errors
    /// [`MonitorError::Exited`].
    pub fn check_alive(&self) -> Result<(), MonitorError> {
        // A name that is gone is the sign of a clean exit, whoever has the number now.
        let there =
            self.process.page.exists() && Path::new(&format!("/proc/{}/stat", self.pid())).exists();
        if there { Ok(()) } else { Err(MonitorError::Exited(self.pid())) }
    }

    fn check(&self) -> Result<(), MonitorError> {
        let damaged = || MonitorError::Damaged(self.process.page.clone());
        if self.word(WORD_MAGIC)? != MAGIC {
            return Err(damaged());
        }
        let theirs = self.word(WORD_VERSION)?;
        if theirs != VERSION {
            return Err(MonitorError::OtherVersion { pid: self.pid(), theirs });
        }
        if self.word(WORD_PAGE_BYTES)? != PAGE_BYTES as u64
            || self.word(WORD_PROCESS)? != u64::from(self.pid())
        {
            // Another process-id namespace writes another number.
            return Err(damaged());
        }
        Ok(())
    }

    fn io(&self, error: io::Error) -> MonitorError {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return MonitorError::Damaged(self.process.page.clone());
        }
        MonitorError::io(&self.process.page, error)
    }

    fn word(&self, index: usize) -> Result<u64, MonitorError> {
        let mut bytes = [0; 8];
        self.file.read_exact_at(&mut bytes, index as u64 * 8).map_err(|error| self.io(error))?;
        Ok(u64::from_ne_bytes(bytes))
    }

    /// The page as it is: at most some 0.3 s old in a process that allocates, older in one that
    /// does not. About 20 us.
    ///
    /// # Errors
    /// [`MonitorError::Exited`], [`MonitorError::Damaged`], [`MonitorError::Io`].
    pub fn read(&self) -> Result<Snapshot, MonitorError> {
        self.check_alive()?;
        let mut bytes = vec![0; PAGE_BYTES];
        for _ in 0..READ_TRIES {
            let before = self.word(WORD_SEQUENCE)?;
            self.file.read_exact_at(&mut bytes, 0).map_err(|error| self.io(error))?;
            if before % 2 == 0 && self.word(WORD_SEQUENCE)? == before {
                return Ok(Snapshot::of_bytes(&bytes));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Err(MonitorError::Damaged(self.process.page.clone()))
    }

    /// Asks for `what` and waits at most `patience` for it to be done.
    ///
    /// # Errors
    /// [`MonitorError::Silent`] when the process does not come by its slow paths meanwhile,
    /// [`MonitorError::Refused`] when it could not, [`MonitorError::Exited`].
    pub fn ask(&self, what: Request, patience: Duration) -> Result<(), MonitorError> {
        let number = (self.word(WORD_REQUEST)? >> 8).wrapping_add(1) & 0x00ff_ffff_ffff_ffff;
        let word = request(what.kind(), number);
        self.file
            .write_all_at(&word.to_ne_bytes(), WORD_REQUEST as u64 * 8)
            .map_err(|error| self.io(error))?;
        let start = Instant::now();
        while self.word(WORD_ANSWERED)? != word {
            self.check_alive()?;
            if start.elapsed() >= patience {
                let waited_s = patience.as_secs_f64();
                return Err(MonitorError::Silent { pid: self.pid(), waited_s });
            }
            std::thread::sleep(LOOK_EVERY);
        }
        match self.word(WORD_RESULT)? {
            0 => Ok(()),
            number => {
                let error = io::Error::from_raw_os_error(number as i32);
                Err(MonitorError::Refused { pid: self.pid(), error })
            }
        }
    }
}

impl Snapshot {
    fn of_bytes(bytes: &[u8]) -> Self {
        let word = |index: usize| {
            let start = index * 8;
            u64::from_ne_bytes(std::array::from_fn(|byte| bytes[start + byte]))
        };
        let words: [u64; FIGURE_COUNT] = std::array::from_fn(|index| word(WORD_FIGURES + index));
        let figures = Figures::from_words(&words);
        let class = |index: usize| {
            let first = WORD_CLASSES + index * CLASS_WORDS;
            ClassFigures {
                slot_bytes: word(first),
                span_bytes: word(first + 1),
                used_slots: word(first + 2),
                slot_count: word(first + 3),
            }
        };
        let heap = |index: usize| {
            let first = WORD_HEAPS + index * HEAP_WORDS;
            HeapFigures {
                kind: match word(first) {
                    HEAP_OF_THREAD => "thread",
                    HEAP_ZONE => "zone",
                    _ => "shared",
                },
                number: word(first + 1),
                span_bytes: word(first + 2),
                used_bytes: word(first + 3),
                large_bytes: word(first + 4),
                limit_bytes: Some(word(first + 5))
                    .filter(|limit| *limit != 0 && *limit != usize::MAX as u64),
                name: name_of((0..HEAP_NAME_WORDS).map(|at| word(first + 6 + at))),
            }
        };
        let node = |row: usize| {
            let first = WORD_NODES + row * NODE_WORDS;
            let node = word(first).checked_sub(1)?;
            Some(NodeFigures {
                node,
                span_bytes: word(first + 1),
                used_bytes: word(first + 2),
                large_bytes: word(first + 3),
                free_dirty_bytes: word(first + 4),
                free_clean_bytes: word(first + 5),
            })
        };
        let cells = (figures.cell_count as usize).min(CELL_COUNT);
        let map = bytes[WORD_MAP * 8..][..cells].iter().map(|byte| Cell::of_byte(*byte));
        Self {
            figures,
            classes: (0..CLASS_COUNT).map(class).filter(|class| class.span_bytes > 0).collect(),
            heaps: (0..HEAP_COUNT_MAX)
                .map(heap)
                .filter(|heap| heap.span_bytes > 0 || heap.large_bytes > 0)
                .collect(),
            nodes: (0..NODE_ROWS).filter_map(node).collect(),
            map: map.collect(),
        }
    }
}

/// The text in `words`, up to the first zero. The process may write anything there: control
/// characters are left out.
fn name_of(words: impl Iterator<Item = u64>) -> String {
    let bytes: Vec<u8> = words.flat_map(u64::to_le_bytes).take_while(|byte| *byte != 0).collect();
    String::from_utf8_lossy(&bytes).chars().filter(|letter| !letter.is_control()).collect()
}
