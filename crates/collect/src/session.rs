//! The session: its directory in a memory file system, its header, its clock.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use heapwright_format::spool::{SESSION_BYTES, SPOOL_MAGIC, SessionHeader};
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

/// Memory that the spool's file system must have free.
const SPOOL_FREE_BYTES_MIN: u64 = 64 << 20;

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
        let failed = |error| RecordError::Spool { path: directory.path().to_owned(), error };
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
        let session = Self { directory, mapping, start: (0, Instant::now()) };
        session.fill(settings);
        let start = (session.now_ticks(), Instant::now());
        Ok(Self { start, ..session })
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

/// A directory for the spool: in shared memory, else in the temporary folder, else beside the
/// recording (a disk: slower, and taken in advance, so that it cannot run full under us).
fn spool_directory(beside: &Path) -> Result<TempDir, RecordError> {
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
        match tempfile::Builder::new().prefix("heapwright-").tempdir_in(&place) {
            Ok(directory) => return Ok(directory),
            Err(error) => last = Some(RecordError::Spool { path: place, error }),
        }
    }
    Err(last.expect("three places were tried"))
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
