//! Whether this process records, and into which session.
//!
//! # Invariants
//! - I1: `SESSION` is set before `MODE` says on; a session's mapping is never taken away.
//! - I2: `MODE` goes unknown → on or off, for good, or → dormant; a dormant process goes on and
//!   back as often as its control page asks.

use core::ffi::CStr;
use core::ptr::NonNull;

use heapwright_format::spool::{SESSION_BYTES, SPOOL_MAGIC, SPOOL_VARIABLE, SessionHeader};
use heapwright_os::{
    Errno, Fd, OpenFlags, Protection, ThreadExit, env_var, has_environment, is_secure, map_shared,
    read_link,
};
use heapwright_sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

use crate::dormant::{self, CONTROL};
use crate::kept_file::SPOOL_DIRECTORY;
use crate::path_text::{PATH_BYTES, PathText, StoredText, store_text};

/// Whether this process records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Not decided yet: too early in the life of the process.
    Unknown,
    /// It does not, and will not.
    Off,
    /// It does.
    On,
    /// It does not until it is asked to.
    Dormant,
}

const MODE_UNKNOWN: u32 = 0;
const MODE_DECIDING: u32 = 1;
const MODE_OFF: u32 = 2;
const MODE_ON: u32 = 3;
const MODE_DORMANT: u32 = 4;

static MODE: AtomicU32 = AtomicU32::new(MODE_UNKNOWN);
static SESSION: AtomicPtr<SessionHeader> = AtomicPtr::new(core::ptr::null_mut());
/// The thread-exit key plus one; 0 for none.
static EXIT_KEY: AtomicU32 = AtomicU32::new(0);
/// The session's directory as given at start-up (the environment may change later).
static DIRECTORY: StoredText = [const { AtomicU64::new(0) }; PATH_BYTES / 8];

/// Decides, once, whether this process records. The first event does it otherwise; before libc
/// has its environment nothing can be known, so a constructor calls this with `at_last`.
///
/// A dormant process is asked again each time, and begins to record when it has been told to.
pub fn start(at_last: bool) -> Mode {
    match MODE.load(Ordering::Acquire) {
        MODE_UNKNOWN => decide(at_last),
        MODE_DORMANT => dormant::wake(),
        _ => {}
    }
    mode()
}

#[cold]
fn decide(at_last: bool) {
    let (mut place, mut word) = (PathText::new(), PathText::new());
    let directory = variable(SPOOL_VARIABLE, &mut place);
    if directory.is_err() && !at_last {
        return;
    }
    if !claim(MODE_UNKNOWN) {
        return;
    }
    let mode = if is_secure() {
        MODE_OFF
    } else if let Ok(Some(directory)) = directory {
        let session = open_session(directory);
        session.inspect(|&session| enter_session(session)).map_or(MODE_OFF, |_| MODE_ON)
    } else if variable(heapwright_format::dormant::DORMANT_VARIABLE, &mut word).is_ok_and(is_yes)
        && dormant::begin()
    {
        MODE_DORMANT
    } else {
        MODE_OFF
    };
    if mode == MODE_OFF {
        // Hooks pass by us from now on.
        CONTROL.awake.store(0, Ordering::Release);
    }
    MODE.store(mode, Ordering::Release);
}

fn is_yes(value: Option<&CStr>) -> bool {
    value.is_some_and(|value| !matches!(value.to_bytes(), b"" | b"0" | b"false" | b"no"))
}

/// Takes the decision on: from `before` to deciding.
fn claim(before: u32) -> bool {
    let claim = MODE.compare_exchange(before, MODE_DECIDING, Ordering::AcqRel, Ordering::Acquire);
    claim.is_ok()
}

fn enter_session(session: NonNull<SessionHeader>) {
    crate::process::forget();
    crate::sample::SampledSet::forget();
    SESSION.store(session.as_ptr(), Ordering::Release);
    if EXIT_KEY.load(Ordering::Acquire) == 0
        && let Some(key) = ThreadExit::new(crate::thread::at_thread_exit)
    {
        EXIT_KEY.store(key.to_raw() + 1, Ordering::Release);
    }
}

/// Records into the session in `directory` from now on, if this process is dormant and the
/// session takes it. None when another thread is at it.
pub(crate) fn wake_into(directory: &CStr) -> Option<bool> {
    if !claim(MODE_DORMANT) {
        return None;
    }
    let session = open_session(directory)
        // SAFETY: a mapping just made, of atomic words.
        .filter(|session| unsafe { session.as_ref() }.stop.load(Ordering::Relaxed) == 0);
    if let Some(session) = session {
        enter_session(session);
    }
    MODE.store(if session.is_some() { MODE_ON } else { MODE_DORMANT }, Ordering::Release);
    Some(session.is_some())
}

/// Back from recording to dormant: the session is over.
pub(crate) fn fall_asleep() {
    let _ = MODE.compare_exchange(MODE_ON, MODE_DORMANT, Ordering::AcqRel, Ordering::Acquire);
}

/// Leaves this process alone, since it cannot be recorded, and says so in the session. Has no
/// effect once it is decided that the process records.
pub fn step_aside() {
    let claim = MODE.compare_exchange(MODE_UNKNOWN, MODE_OFF, Ordering::AcqRel, Ordering::Acquire);
    if claim.is_err() {
        return;
    }
    CONTROL.awake.store(0, Ordering::Release);
    if !is_secure()
        && let Ok(Some(directory)) = variable(SPOOL_VARIABLE, &mut PathText::new())
        && let Some(session) = open_session(directory)
    {
        // SAFETY: the session's mapping holds atomic words.
        unsafe { session.as_ref() }.lost_processes.fetch_add(1, Ordering::Relaxed);
    }
}

/// Whether this process records.
#[inline]
pub fn mode() -> Mode {
    match MODE.load(Ordering::Acquire) {
        MODE_ON => Mode::On,
        MODE_OFF => Mode::Off,
        MODE_DORMANT => Mode::Dormant,
        _ => Mode::Unknown,
    }
}

/// The session; only when [`mode`] is on.
#[inline(always)]
pub(crate) fn session() -> Option<&'static SessionHeader> {
    // SAFETY: null, or a mapping that is never taken away (I1) and holds atomic words.
    unsafe { SESSION.load(Ordering::Acquire).as_ref() }
}

/// The key by which threads tell their end.
pub(crate) fn exit_key() -> Option<ThreadExit> {
    let raw = EXIT_KEY.load(Ordering::Acquire).checked_sub(1)?;
    // SAFETY: stored by `enter_session` from `to_raw`.
    Some(unsafe { ThreadExit::from_raw(raw) })
}

/// The session's directory.
pub(crate) fn push_directory(path: &mut PathText) {
    path.push_words(&DIRECTORY);
}

/// The value of environment variable `name`. Before libc has its environment (in the executable's
/// preinit functions, say) the kernel is asked for it, and `place` holds the answer.
fn variable<'a>(name: &str, place: &'a mut PathText) -> Result<Option<&'a CStr>, Errno> {
    if has_environment() {
        return Ok(env_var(name));
    }
    let file = Fd::open(c"/proc/self/environ", OpenFlags::Read)?;
    let mut buffer = [0; 256];
    // How much of `NAME=` the current variable has matched; none once it differs.
    let mut matched = Some(0);
    let name = name.as_bytes();
    loop {
        let length = file.read(&mut buffer)?;
        if length == 0 {
            return Ok(None);
        }
        for &byte in &buffer[..length] {
            match (matched, byte) {
                (Some(count), 0) if count > name.len() => return Ok(place.as_c_str()),
                (_, 0) => matched = Some(0),
                (Some(count), _) if count < name.len() => {
                    matched = (byte == name[count]).then_some(count + 1);
                }
                (Some(count), b'=') if count == name.len() => matched = Some(count + 1),
                (Some(count), _) if count > name.len() => place.push(&[byte]),
                _ => matched = None,
            }
        }
    }
}

fn open_session(directory: &CStr) -> Option<NonNull<SessionHeader>> {
    let directory = directory.to_bytes();
    if directory.len() + 64 > PATH_BYTES {
        return None;
    }
    store_text(&DIRECTORY, directory);
    let mut path = PathText::new();
    path.push(directory);
    SPOOL_DIRECTORY.close();
    if let Ok(kept) = Fd::open_directory(path.as_c_str()?) {
        SPOOL_DIRECTORY.keep(kept)?;
    }
    path.push(b"/session");
    let file = Fd::open(path.as_c_str()?, OpenFlags::ReadWrite).ok()?;
    let mapping = map_shared(&file, 0, SESSION_BYTES, Protection::ReadWrite).ok()?;
    let session = mapping.start().cast::<SessionHeader>();
    // SAFETY: the file has SESSION_BYTES (the collector made it) and holds only atomic words.
    let header: &SessionHeader = unsafe { session.as_ref() };
    let fits = header.magic.load(Ordering::Acquire) == SPOOL_MAGIC;
    if !fits || !header.collector_lives() {
        return None;
    }
    // The collector could not tell whether a process of another namespace still runs.
    let expected = header.pid_namespace.load(Ordering::Relaxed);
    let other = pid_namespace().is_some_and(|found| expected != 0 && found != expected);
    if other {
        header.lost_processes.fetch_add(1, Ordering::Relaxed);
    }
    (!other).then_some(session)
}

/// Number of this process's namespace of process ids.
fn pid_namespace() -> Option<u64> {
    let mut target = [0; 64];
    let length = read_link(c"/proc/self/ns/pid", &mut target).ok()?;
    let digits = target[..length].iter().filter(|byte| byte.is_ascii_digit());
    Some(digits.fold(0u64, |number, &digit| number * 10 + u64::from(digit - b'0')))
}
