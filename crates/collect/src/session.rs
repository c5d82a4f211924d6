//! The session: its directory in a memory file system, its header, its clock.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Instant;

use heapwright_format::spool::{
    COLLECTOR_LOCK_WORDS, PROCESS_BYTES, SESSION_BYTES, SPARE_FILE, SPOOL_MAGIC, SessionHeader,
};
use heapwright_os::{
    Fd, Mapping, OpenFlags, Protection, ROBUST_LOCK_WORDS, cycle_counter, effective_user_id,
    file_size_limit_bytes, file_system_space, has_invariant_cycle_counter, hold_robust_lock,
    map_shared, monotonic_ns, release_robust_lock,
};
use heapwright_sync::atomic::Ordering;
use tempfile::TempDir;

use crate::error::RecordError;

/// A time unit is 2^6 ticks of the cycle counter, some 25 ns: about the cost of the fastest
/// event, and finer times only make the file larger.
const TIME_SHIFT: u32 = 6;

/// Memory that the spool's file system must have free, where we choose it.
const SPOOL_FREE_BYTES_MIN: u64 = 64 << 20;

/// Environment variable that names the directory to put the spool into: a memory file system.
const SPOOL_DIRECTORY_VARIABLE: &str = "HEAPWRIGHT_SPOOL_DIR";

/// How spool directories are called.
const SPOOL_PREFIX: &str = "heapwright-";

/// What the recorders are told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SessionSettings {
    pub(crate) sample_bytes: u64,
    pub(crate) touch_bytes_min: u64,
    pub(crate) redact: bool,
}

/// A session; its directory goes away with it.
pub(crate) struct Session {
    directory: TempDir,
    mapping: Mapping,
    start: (u64, Instant),
}

impl Session {
    pub(crate) fn new(settings: SessionSettings, beside: &Path) -> Result<Self, RecordError> {
        let directory = spool_directory(beside)?;
        let spool = directory.path().to_owned();
        let failed = |error| RecordError::Spool { path: spool.clone(), error };
        // Processes that have given up root's rights must still find and make files here.
        if effective_user_id() == 0 {
            let mode = fs::Permissions::from_mode(0o1733);
            fs::set_permissions(directory.path(), mode).map_err(failed)?;
        }
        let path = directory.path().join("session");
        fs::write(&path, vec![0; SESSION_BYTES]).map_err(failed)?;
        if effective_user_id() == 0 {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).map_err(failed)?;
        }
        let name = CString::new(path.as_os_str().as_bytes()).map_err(|_| failed(invalid()))?;
        let file =
            Fd::open(&name, OpenFlags::ReadWrite).map_err(|errno| failed(io_error(errno)))?;
        let mapping = map_shared(&file, 0, SESSION_BYTES, Protection::ReadWrite)
            .map_err(|error| failed(io::Error::other(error.to_string())))?;
        let mut session = Self { directory, mapping, start: (0, Instant::now()) };
        session.hold().map_err(failed)?;
        session.fill(settings);
        session.start = (session.now_ticks(), Instant::now());
        session.keep_spare();
        Ok(session)
    }

    /// Makes a spare ring file if there is none. Without one a process that needs it is lost, and
    /// counted.
    pub(crate) fn keep_spare(&self) {
        let path = self.directory().join(SPARE_FILE.trim_start_matches('/'));
        // Our own limit would be ours to die of.
        if path.exists() || file_size_limit_bytes().is_some() {
            return;
        }
        let fresh = path.with_extension("new");
        let made = fs::File::create(&fresh).and_then(|file| file.set_len(PROCESS_BYTES as u64));
        if made.and_then(|()| fs::rename(&fresh, &path)).is_err() {
            let _ = fs::remove_file(&fresh);
        }
    }

    /// Takes the lock that tells recorders that we live: it is held by the calling thread, which
    /// is the one that records, until the session is dropped.
    fn hold(&self) -> io::Result<()> {
        // SAFETY: zeroed words of the mapping, as many as the lock takes, which no other process uses
        // yet: the magic is not there. Unmapped only after the lock was given up.
        unsafe { hold_robust_lock(self.collector_lock()) }.map_err(io_error)
    }

    fn collector_lock(&self) -> *mut u32 {
        let session = self.mapping.start().cast::<SessionHeader>().as_ptr();
        // SAFETY: a field of the header, inside the mapping.
        unsafe { &raw mut (*session).collector_lock }.cast()
    }

    fn fill(&self, settings: SessionSettings) {
        let header = self.header();
        header.collector.store(std::process::id(), Ordering::Relaxed);
        header.time_shift.store(TIME_SHIFT, Ordering::Relaxed);
        let clock = u32::from(!has_invariant_cycle_counter());
        header.clock.store(clock, Ordering::Relaxed);
        header.sample_bytes.store(settings.sample_bytes, Ordering::Relaxed);
        header.touch_bytes_min.store(settings.touch_bytes_min, Ordering::Relaxed);
        header.redact.store(u32::from(settings.redact), Ordering::Relaxed);
        header.pid_namespace.store(pid_namespace(), Ordering::Relaxed);
        // Release: a recorder that sees the magic sees the settings.
        header.magic.store(SPOOL_MAGIC, Ordering::Release);
    }

    /// The words shared with the recorders.
    pub(crate) fn header(&self) -> &SessionHeader {
        // SAFETY: the mapping is SESSION_BYTES long, lives as long as the process, and holds
        // only atomic words.
        unsafe { self.mapping.start().cast::<SessionHeader>().as_ref() }
    }

    /// Where the ring files are.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Now, in the recording's units.
    pub(crate) fn now(&self) -> u64 {
        self.now_ticks() >> TIME_SHIFT
    }

    /// Units a second, as measured since the start: better the later it is asked.
    pub(crate) fn units_per_second(&self) -> f64 {
        let (start_ticks, start) = self.start;
        while start.elapsed().as_millis() < 2 {
            std::hint::spin_loop();
        }
        let ticks = self.now_ticks() - start_ticks;
        ticks as f64 / start.elapsed().as_secs_f64() / f64::from(1u32 << TIME_SHIFT)
    }

    fn now_ticks(&self) -> u64 {
        if self.header().clock.load(Ordering::Relaxed) == 0 {
            cycle_counter()
        } else {
            monotonic_ns()
        }
    }
}

impl Drop for Session {
    /// Recorders that still run see that nobody collects any more.
    fn drop(&mut self) {
        self.header().stop.store(1, Ordering::Release);
        // SAFETY: made by `hold`, still mapped. (From another thread than the one that records libc
        // refuses; the lock then ends with its holder.)
        if unsafe { release_robust_lock(self.collector_lock()) } {
            // SAFETY: nobody has the mapping but this session; libc forgot the lock.
            unsafe { self.mapping.unmap() };
        }
    }
}

const _: () = assert!(ROBUST_LOCK_WORDS == COLLECTOR_LOCK_WORDS);

/// Number of our namespace of process ids; 0 when it cannot be known.
fn pid_namespace() -> u64 {
    let Ok(target) = fs::read_link("/proc/self/ns/pid") else { return 0 };
    let digits = target.to_string_lossy().into_owned();
    let digits: String = digits.chars().filter(char::is_ascii_digit).collect();
    digits.parse().unwrap_or(0)
}

pub(crate) fn io_error(errno: heapwright_os::Errno) -> io::Error {
    io::Error::from_raw_os_error(errno.0)
}

fn invalid() -> io::Error {
    io::Error::from(io::ErrorKind::InvalidInput)
}

/// A directory for the spool: where the user says, else in shared memory, else in the temporary
/// folder, else beside the recording (a disk: slower, and taken in advance, so that it cannot
/// run full under us).
fn spool_directory(beside: &Path) -> Result<TempDir, RecordError> {
    if let Some(place) = std::env::var_os(SPOOL_DIRECTORY_VARIABLE).map(PathBuf::from) {
        return make_directory(&place).map_err(|error| RecordError::Spool { path: place, error });
    }
    let beside = beside.parent().filter(|path| !path.as_os_str().is_empty());
    let places =
        [PathBuf::from("/dev/shm"), std::env::temp_dir(), beside.unwrap_or(Path::new(".")).into()];
    let mut last = None;
    for place in places {
        if free_bytes(&place).is_some_and(|free| free < SPOOL_FREE_BYTES_MIN) {
            last =
                Some(RecordError::Spool { path: place, error: io::ErrorKind::StorageFull.into() });
            continue;
        }
        match make_directory(&place) {
            Ok(directory) => return Ok(directory),
            Err(error) => last = Some(RecordError::Spool { path: place, error }),
        }
    }
    Err(last.expect("three places were tried"))
}

fn make_directory(place: &Path) -> io::Result<TempDir> {
    remove_abandoned(place);
    tempfile::Builder::new().prefix(SPOOL_PREFIX).tempdir_in(place)
}

/// Removes the spools of collectors that were killed: their memory would stay for ever. A program
/// that still writes into one keeps what it has mapped.
fn remove_abandoned(place: &Path) {
    let Ok(entries) = fs::read_dir(place) else { return };
    for entry in entries.flatten() {
        let is_ours = entry.file_name().to_string_lossy().starts_with(SPOOL_PREFIX)
            && entry.metadata().is_ok_and(|facts| facts.uid() == effective_user_id());
        if is_ours && is_abandoned(&entry.path().join("session")) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Whether the session at `path` is one of this version whose collector is gone.
fn is_abandoned(path: &Path) -> bool {
    let Ok(name) = CString::new(path.as_os_str().as_bytes()) else { return false };
    let Ok(file) = Fd::open(&name, OpenFlags::ReadWrite) else { return false };
    if file.stat().map(|stat| stat.bytes) != Ok(SESSION_BYTES as u64) {
        return false;
    }
    let Ok(mapping) = map_shared(&file, 0, SESSION_BYTES, Protection::ReadWrite) else {
        return false;
    };
    // SAFETY: SESSION_BYTES of atomic words, mapped until `unmap` below.
    let header: &SessionHeader = unsafe { mapping.start().cast().as_ref() };
    // The magic comes after the lock: a session that is being set up is not taken for a dead one.
    let is_complete = header.magic.load(Ordering::Acquire) == SPOOL_MAGIC;
    let is_abandoned = is_complete && !header.collector_lives();
    // SAFETY: the last use was above.
    unsafe { mapping.unmap() };
    is_abandoned
}

fn free_bytes(path: &Path) -> Option<u64> {
    let name = CString::new(path.as_os_str().as_bytes()).ok()?;
    file_system_space(&name).ok().map(|space| space.free_bytes)
}
