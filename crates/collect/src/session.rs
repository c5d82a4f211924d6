//! The session: its directory in a memory file system, its header, its clock.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Instant;

use heapwright_format::spool::{COLLECTOR_LOCK_WORDS, SESSION_BYTES, SPOOL_MAGIC, SessionHeader};
use heapwright_os::{
    Fd, Mapping, OpenFlags, Protection, cycle_counter, has_invariant_cycle_counter, map_shared,
    monotonic_ns,
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
        if heapwright_is_root() {
            let mode = fs::Permissions::from_mode(0o1733);
            fs::set_permissions(directory.path(), mode).map_err(failed)?;
        }
        let path = directory.path().join("session");
        fs::write(&path, vec![0; SESSION_BYTES]).map_err(failed)?;
        if heapwright_is_root() {
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
        Ok(session)
    }

    /// Takes the lock that tells recorders that we live: it is held by the calling thread, which
    /// is the one that records, until the session is dropped.
    fn hold(&self) -> io::Result<()> {
        let done = |code: i32| match code {
            0 => Ok(()),
            error => Err(io::Error::from_raw_os_error(error)),
        };
        let mut attributes = std::mem::MaybeUninit::<libc::pthread_mutexattr_t>::uninit();
        let place = attributes.as_mut_ptr();
        // SAFETY: libc initialises the attributes at `place`.
        done(unsafe { libc::pthread_mutexattr_init(place) })?;
        // SAFETY: initialised above.
        let shared =
            unsafe { libc::pthread_mutexattr_setpshared(place, libc::PTHREAD_PROCESS_SHARED) };
        // SAFETY: as above.
        let robust =
            unsafe { libc::pthread_mutexattr_setrobust(place, libc::PTHREAD_MUTEX_ROBUST) };
        let lock = self.collector_lock();
        // SAFETY: zeroed memory, large enough and aligned (asserted below), that no other
        // process uses yet: the magic is not there.
        let made = unsafe { libc::pthread_mutex_init(lock, place) };
        // SAFETY: initialised above, used no more.
        unsafe { libc::pthread_mutexattr_destroy(place) };
        done(shared).and(done(robust)).and(done(made))?;
        // SAFETY: initialised just now.
        done(unsafe { libc::pthread_mutex_lock(lock) })
    }

    fn collector_lock(&self) -> *mut libc::pthread_mutex_t {
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
        // SAFETY: made by `hold`; the thread that records also drops the session. (From another
        // thread libc refuses; the lock then ends with its holder.)
        if unsafe { libc::pthread_mutex_unlock(self.collector_lock()) } == 0 {
            // SAFETY: nobody has the mapping but this session; libc forgot the lock.
            unsafe { self.mapping.unmap() };
        }
    }
}

const _: () =
    assert!(size_of::<libc::pthread_mutex_t>() <= size_of::<u32>() * COLLECTOR_LOCK_WORDS);

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

fn heapwright_is_root() -> bool {
    // SAFETY: asks for a number.
    unsafe { libc::geteuid() == 0 }
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
            // SAFETY: asks for a number.
            && entry.metadata().is_ok_and(|facts| facts.uid() == unsafe { libc::geteuid() });
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
    let mut facts = std::mem::MaybeUninit::<libc::statvfs>::zeroed();
    // SAFETY: the path is NUL-terminated; libc fills the structure.
    let result = unsafe { libc::statvfs(name.as_ptr(), facts.as_mut_ptr()) };
    // SAFETY: zeroed, and every bit pattern is valid.
    let facts = unsafe { facts.assume_init() };
    (result == 0).then(|| facts.f_bavail * facts.f_frsize)
}
