//! The recorded process: whether it records at all, its ring file, its slots.
//!
//! # Invariants
//! - I1: `SESSION` is set before `MODE` says on, and both never change back; the session's
//!   mapping is never taken away.
//! - I2: the process block is private memory that a fork wipes. `stage` goes 0 → BUILDING →
//!   READY (or FAILED) once per process; everything else in it is valid when it is READY.
//! - I3: a slot's address is stored before anybody uses the slot, and stays.

use core::ffi::CStr;
use core::mem::{ManuallyDrop, size_of};
use core::ptr::NonNull;

use heapwright_format::spool::{
    CHUNK_BYTES, CHUNKS_AT_FIRST, CHUNKS_PER_SLOT, COMMAND_BYTES, EXE_BYTES, PROCESS_BYTES,
    PROCESS_HEADER_BYTES, ProcessHeader, SESSION_BYTES, SLOT_ACTIVE, SLOT_BYTES, SLOT_CLAIMED,
    SLOT_ENDED, SLOT_FREE, SLOT_HEADER_BYTES, SLOTS_MAX, SPOOL_MAGIC, SPOOL_VARIABLE,
    SessionHeader, SlotHeader,
};
use heapwright_os::{
    Advice, Errno, Fd, OpenFlags, Protection, ThreadExit, advise, cycle_counter, env_var,
    file_size_limit_bytes, futex_wake, has_environment, is_secure, map_shared, monotonic_ns,
    page_bytes, parent_process_id, process_id, read_link, reserve,
};
use heapwright_sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

use crate::clock::Order;
use crate::confined::{is_confined, pause};
use crate::large::LargeBlocks;
use crate::thread::LateRecorder;

/// Whether this process records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Not decided yet: too early in the life of the process.
    Unknown,
    /// It does not, and will not.
    Off,
    /// It does.
    On,
}

const MODE_UNKNOWN: u32 = 0;
const MODE_DECIDING: u32 = 1;
const MODE_OFF: u32 = 2;
const MODE_ON: u32 = 3;

const STAGE_BUILDING: u32 = 1;
const STAGE_READY: u32 = 2;
const STAGE_FAILED: u32 = 3;

/// Descriptors are put above the first of these that the program's limit allows, out of the way
/// of programs that count on low numbers.
const FD_LEAST: [i32; 4] = [700, 200, 60, 20];
/// For a ring file without a descriptor: it is opened by its path each time.
const NO_FD: u32 = u32::MAX;
/// Rounds of waiting for another thread that sets the process up, some 0.1 s.
const BUILD_TRIES_MAX: usize = 200_000;
const PATH_BYTES: usize = 512;

static MODE: AtomicU32 = AtomicU32::new(MODE_UNKNOWN);
static SESSION: AtomicPtr<SessionHeader> = AtomicPtr::new(core::ptr::null_mut());
static PROCESS: AtomicPtr<Process> = AtomicPtr::new(core::ptr::null_mut());
static LAST_PID: AtomicU32 = AtomicU32::new(0);
/// The ring file as this process or, after a fork, its parent opened it.
static RING_FILE: RingFile =
    RingFile { fd: AtomicU32::new(NO_FD), device: AtomicU64::new(0), inode: AtomicU64::new(0) };
/// The thread-exit key plus one; 0 for none.
static EXIT_KEY: AtomicU32 = AtomicU32::new(0);
/// The session's directory as given at start-up (the environment may change later), one word
/// of eight bytes each.
static DIRECTORY: [AtomicU64; PATH_BYTES / 8] = [const { AtomicU64::new(0) }; PATH_BYTES / 8];

struct RingFile {
    fd: AtomicU32,
    device: AtomicU64,
    inode: AtomicU64,
}

impl RingFile {
    /// The descriptor, if it still means the file: the program may have closed it, and opened
    /// something else under its number.
    fn held(&self) -> Option<ManuallyDrop<Fd>> {
        let held = ManuallyDrop::new(Fd::from_raw(self.fd.load(Ordering::Relaxed) as i32));
        let stat = held.stat().ok()?;
        let same = stat.device == self.device.load(Ordering::Relaxed)
            && stat.inode == self.inode.load(Ordering::Relaxed);
        same.then_some(held)
    }

    fn keep(&self, file: Fd) -> Option<()> {
        let stat = file.stat().ok()?;
        self.device.store(stat.device, Ordering::Relaxed);
        self.inode.store(stat.inode, Ordering::Relaxed);
        let high = FD_LEAST.iter().find_map(|&least| file.duplicate_above(least).ok());
        self.fd.store(high.map_or(NO_FD, |fd| fd.into_raw() as u32), Ordering::Relaxed);
        Some(())
    }

    /// Closes what a child has inherited.
    fn close(&self) {
        if let Some(inherited) = self.held() {
            drop(ManuallyDrop::into_inner(inherited));
        }
        self.fd.store(NO_FD, Ordering::Relaxed);
    }
}

/// The private block of a process.
pub(crate) struct Process {
    stage: AtomicU32,
    growing: AtomicU32,
    header: AtomicPtr<ProcessHeader>,
    file_bytes: AtomicU64,
    path: [AtomicU64; PATH_BYTES / 8],
    slots: [AtomicPtr<u8>; SLOTS_MAX],
    /// Generation of the module list that has been written to a stream.
    pub(crate) modules_written: AtomicU32,
    /// Who may keep a reading of the clock.
    pub(crate) order: Order,
    /// Large blocks alive, watched for touched pages.
    pub(crate) large: LargeBlocks,
    /// For threads whose own recorder has ended.
    pub(crate) late: LateRecorder,
}

/// A slot that a thread has taken.
pub(crate) struct TakenSlot {
    pub(crate) start: NonNull<u8>,
    pub(crate) index: usize,
    pub(crate) thread: u32,
}

/// Decides, once, whether this process records. The first event does it otherwise; before libc
/// has its environment nothing can be known, so a constructor calls this with `at_last`.
pub fn start(at_last: bool) -> Mode {
    let decided = mode();
    if decided != Mode::Unknown {
        return decided;
    }
    let mut place = PathText::new();
    let directory = match session_directory(&mut place) {
        Ok(Some(directory)) => directory,
        Err(_) if !at_last => return Mode::Unknown,
        _ => {
            MODE.store(MODE_OFF, Ordering::Release);
            return mode();
        }
    };
    let claim =
        MODE.compare_exchange(MODE_UNKNOWN, MODE_DECIDING, Ordering::AcqRel, Ordering::Acquire);
    if claim.is_err() {
        return mode();
    }
    let session = if is_secure() { None } else { open_session(directory) };
    if let Some(session) = session {
        SESSION.store(session.as_ptr(), Ordering::Release);
        if let Some(key) = ThreadExit::new(crate::thread::at_thread_exit) {
            EXIT_KEY.store(key.to_raw() + 1, Ordering::Release);
        }
    }
    MODE.store(if session.is_some() { MODE_ON } else { MODE_OFF }, Ordering::Release);
    mode()
}

/// Leaves this process alone, since it cannot be recorded, and says so in the session. Has no
/// effect once it is decided that the process records.
pub fn step_aside() {
    let claim = MODE.compare_exchange(MODE_UNKNOWN, MODE_OFF, Ordering::AcqRel, Ordering::Acquire);
    if claim.is_ok()
        && !is_secure()
        && let Ok(Some(directory)) = session_directory(&mut PathText::new())
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
        _ => Mode::Unknown,
    }
}

/// Tells that modules are about to be loaded (call before `dlopen`).
pub fn modules_changed() {
    if mode() == Mode::On {
        MODULE_PAUSE_NS.store(0, Ordering::Relaxed);
        heapwright_unwind::modules_loaded();
    }
}

/// Wait between two readings of the module list for the sake of an unknown address, and when
/// the next may be: code without a file (a JIT's) must not make us read it all the time, and a
/// module whose loading we did not see must be found soon.
static MODULE_PAUSE_NS: AtomicU64 = AtomicU64::new(0);
static MODULE_NEXT_NS: AtomicU64 = AtomicU64::new(0);
const MODULE_PAUSE_NS_MIN: u64 = 5_000_000;
const MODULE_PAUSE_NS_MAX: u64 = 1_000_000_000;

/// Whether it is worth while to walk a stack again that ended at an unknown address: the list
/// of modules will be read anew.
#[cold]
pub(crate) fn may_look_for_modules() -> bool {
    let now_ns = monotonic_ns();
    let pause_ns = MODULE_PAUSE_NS.load(Ordering::Relaxed);
    if pause_ns != 0 && now_ns < MODULE_NEXT_NS.load(Ordering::Relaxed) {
        return false;
    }
    let pause_ns = (pause_ns * 2).clamp(MODULE_PAUSE_NS_MIN, MODULE_PAUSE_NS_MAX);
    MODULE_PAUSE_NS.store(pause_ns, Ordering::Relaxed);
    MODULE_NEXT_NS.store(now_ns + pause_ns, Ordering::Relaxed);
    heapwright_unwind::modules_loaded();
    true
}

/// Where the session is. Before libc has its environment (in the executable's preinit functions,
/// say) the kernel is asked for it.
fn session_directory(place: &mut PathText) -> Result<Option<&CStr>, Errno> {
    if has_environment() {
        return Ok(env_var(SPOOL_VARIABLE));
    }
    let file = Fd::open(c"/proc/self/environ", OpenFlags::Read)?;
    let mut buffer = [0; 256];
    // How much of `NAME=` the current variable has matched; none once it differs.
    let mut matched = Some(0);
    let name = SPOOL_VARIABLE.as_bytes();
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

/// The session; only when [`mode`] is on.
#[inline(always)]
pub(crate) fn session() -> Option<&'static SessionHeader> {
    // SAFETY: null, or a mapping that is never taken away (I1) and holds atomic words.
    unsafe { SESSION.load(Ordering::Acquire).as_ref() }
}

/// The calling process's block, made on first use and again after a fork. None when no ring
/// file can be had.
pub(crate) fn process() -> Option<&'static Process> {
    let process = block()?;
    // Bounded: it may be this very thread that builds, interrupted by a signal.
    for _ in 0..BUILD_TRIES_MAX {
        let stage = process.stage.load(Ordering::Acquire);
        match stage {
            STAGE_READY => return Some(process),
            STAGE_FAILED => return None,
            STAGE_BUILDING => pause(),
            _ if is_confined() => return None,
            _ => {
                let claim = process.stage.compare_exchange(
                    0,
                    STAGE_BUILDING,
                    Ordering::AcqRel,
                    Ordering::Acquire,
                );
                if claim.is_ok() {
                    let stage = if process.build().is_some() { STAGE_READY } else { STAGE_FAILED };
                    if stage == STAGE_FAILED
                        && let Some(session) = session()
                    {
                        session.lost_processes.fetch_add(1, Ordering::Relaxed);
                    }
                    // Release: what `build` stored is visible to who sees READY (I2).
                    process.stage.store(stage, Ordering::Release);
                }
            }
        }
    }
    None
}

fn block() -> Option<&'static Process> {
    let known = PROCESS.load(Ordering::Acquire);
    // SAFETY: null, or the block made below, which is never given back; zero words are valid.
    if let Some(process) = unsafe { known.as_ref() } {
        return Some(process);
    }
    let bytes = size_of::<Process>().next_multiple_of(page_bytes());
    let memory = reserve(bytes, Protection::ReadWrite).ok()?;
    // SAFETY: the mapping just made, whole pages, nobody else knows it.
    unsafe { advise(memory, bytes, Advice::WipeOnFork) }.ok()?;
    let fresh = memory.cast::<Process>().as_ptr();
    let null = core::ptr::null_mut();
    // AcqRel: one block wins; the loser's stays as an unused mapping.
    let _ = PROCESS.compare_exchange(null, fresh, Ordering::AcqRel, Ordering::Acquire);
    // SAFETY: as above, not null any more.
    unsafe { PROCESS.load(Ordering::Acquire).as_ref() }
}

impl Process {
    fn build(&self) -> Option<()> {
        let session = session()?;
        let pid = process_id();
        let forked_from = LAST_PID.swap(pid, Ordering::AcqRel);
        if forked_from != 0 {
            // SAFETY: a forked child has only the thread that forked, which is here.
            unsafe { heapwright_unwind::reset_after_fork() };
            RING_FILE.close();
        }
        let number = session.processes.fetch_add(1, Ordering::Relaxed);
        let mut path = PathText::new();
        path.push_words(&DIRECTORY);
        path.push(b"/");
        path.push_number(pid);
        path.push(b"-");
        path.push_number(number);
        path.push(b".ring");
        store_text(&self.path, path.as_c_str()?.to_bytes());
        let file = Fd::open(path.as_c_str()?, OpenFlags::CreateNew).ok()?;
        self.file_bytes.store(0, Ordering::Relaxed);
        self.grow_file(&file, PROCESS_HEADER_BYTES as u64).ok()?;
        file.allocate(0, PROCESS_HEADER_BYTES as u64).ok()?;
        let mapping = map_shared(&file, 0, PROCESS_HEADER_BYTES, Protection::ReadWrite).ok()?;
        let header = mapping.start().cast::<ProcessHeader>();
        // SAFETY: the mapping just made. A child has its own.
        let _ = unsafe { advise(mapping.start(), PROCESS_HEADER_BYTES, Advice::DontFork) };
        self.header.store(header.as_ptr(), Ordering::Release);
        fill(header, session, pid, forked_from);
        RING_FILE.keep(file)?;
        heapwright_unwind::refresh_modules();
        if session.ring() {
            futex_wake(&session.doorbell, 1);
        }
        Some(())
    }

    /// The header in the ring file.
    pub(crate) fn header(&self) -> &'static ProcessHeader {
        // SAFETY: set by `build` before the block was READY (I2), never unmapped.
        unsafe { &*self.header.load(Ordering::Relaxed) }
    }

    fn grow_file(&self, file: &Fd, bytes: u64) -> Result<(), Errno> {
        if file_size_limit_bytes().is_some_and(|limit| limit < bytes) {
            return Err(Errno::ENOSPC);
        }
        if bytes > self.file_bytes.load(Ordering::Relaxed) {
            file.set_bytes(bytes)?;
            self.file_bytes.store(bytes, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Runs `work` with the ring file open: by the descriptor that we hold, or, when the program
    /// has closed that (perhaps opened something else under its number), by its path.
    fn with_file<T>(&self, work: impl FnOnce(&Fd) -> Option<T>) -> Option<T> {
        if let Some(held) = RING_FILE.held() {
            return work(&held);
        }
        let mut path = PathText::new();
        path.push_words(&self.path);
        let file = Fd::open(path.as_c_str()?, OpenFlags::ReadWrite).ok()?;
        work(&file)
    }

    /// Takes a free slot; waits a little when all are taken. None when there is none to be had.
    pub(crate) fn take_slot(&self) -> Option<TakenSlot> {
        let header = self.header();
        for _ in 0..2000 {
            for (index, state) in header.slot_states.iter().enumerate() {
                // Acquire: pairs with the collector's Release when it freed the slot.
                let claim = state.compare_exchange(
                    SLOT_FREE,
                    SLOT_CLAIMED,
                    Ordering::Acquire,
                    Ordering::Relaxed,
                );
                if claim.is_err() {
                    continue;
                }
                let Some(start) = self.slot_memory(index) else {
                    state.store(SLOT_FREE, Ordering::Release);
                    return None;
                };
                // Release: the collector sees a slot with memory.
                state.store(SLOT_ACTIVE, Ordering::Release);
                header.slots_used.fetch_max(index as u32 + 1, Ordering::AcqRel);
                let thread = header.threads.fetch_add(1, Ordering::Relaxed);
                return Some(TakenSlot { start, index, thread });
            }
            pause();
        }
        None
    }

    /// The thread's part is over: the collector drains the rest and frees the slot.
    pub(crate) fn end_slot(&self, index: usize) {
        // Release: all events are visible before the state.
        self.header().slot_states[index].store(SLOT_ENDED, Ordering::Release);
    }

    fn slot_memory(&self, index: usize) -> Option<NonNull<u8>> {
        let known = NonNull::new(self.slots[index].load(Ordering::Acquire));
        if known.is_some() {
            return known;
        }
        if is_confined() {
            return None;
        }
        let offset = (PROCESS_HEADER_BYTES + index * SLOT_BYTES) as u64;
        self.lock_growth();
        let mapping = self.with_file(|file| {
            self.grow_file(file, offset + SLOT_BYTES as u64).ok()?;
            let first_bytes = SLOT_HEADER_BYTES + CHUNKS_AT_FIRST * CHUNK_BYTES;
            file.allocate(offset, first_bytes as u64).ok()?;
            map_shared(file, offset, SLOT_BYTES, Protection::ReadWrite).ok()
        });
        self.growing.store(0, Ordering::Release);
        let start = mapping?.start();
        // SAFETY: the mapping just made. A child must not find it: it makes its own.
        let _ = unsafe { advise(start, SLOT_BYTES, Advice::DontFork) };
        self.slots[index].store(start.as_ptr(), Ordering::Release);
        Some(start)
    }

    fn lock_growth(&self) {
        while self.growing.swap(1, Ordering::Acquire) != 0 {
            pause();
        }
    }
}

/// Takes memory for the later chunks of slot `index`; false when there is none.
pub(crate) fn allocate_slot_rest(index: usize) -> bool {
    let Some(process) = process() else { return false };
    let slot_offset = PROCESS_HEADER_BYTES + index * SLOT_BYTES;
    let first_bytes = SLOT_HEADER_BYTES + CHUNKS_AT_FIRST * CHUNK_BYTES;
    let (offset, bytes) = (slot_offset + first_bytes, SLOT_BYTES - first_bytes);
    process.with_file(|file| file.allocate(offset as u64, bytes as u64).ok()).is_some()
}

/// Takes all memory of all slots that have some, while that is still possible.
pub(crate) fn allocate_all_slots() {
    let Some(process) = process() else { return };
    for (index, slot) in process.slots.iter().enumerate() {
        let Some(start) = NonNull::new(slot.load(Ordering::Acquire)) else { continue };
        if allocate_slot_rest(index) {
            // SAFETY: a mapped slot begins with its header, all atomic words.
            let header: &SlotHeader = unsafe { start.cast().as_ref() };
            // The owner, too, would only store this very number.
            header.ring_chunks.store(CHUNKS_PER_SLOT as u32, Ordering::Relaxed);
        }
    }
}

/// The key by which threads tell their end.
pub(crate) fn exit_key() -> Option<ThreadExit> {
    let raw = EXIT_KEY.load(Ordering::Acquire).checked_sub(1)?;
    // SAFETY: stored by `start` from `to_raw`.
    Some(unsafe { ThreadExit::from_raw(raw) })
}

/// Fills the header of a fresh ring file; the magic comes last.
fn fill(header: NonNull<ProcessHeader>, session: &SessionHeader, pid: u32, forked_from: u32) {
    // SAFETY: the mapping is PROCESS_HEADER_BYTES long and nobody reads before the magic.
    let exe: &mut [u8; EXE_BYTES] = unsafe { &mut (*header.as_ptr()).exe };
    let exe_bytes = read_link(c"/proc/self/exe", exe).unwrap_or(0);
    // SAFETY: as above; another field.
    let command: &mut [u8; COMMAND_BYTES] = unsafe { &mut (*header.as_ptr()).command };
    let redacted = session.redact.load(Ordering::Relaxed) != 0;
    let mut command_bytes = 0;
    if !redacted && let Ok(file) = Fd::open(c"/proc/self/cmdline", OpenFlags::Read) {
        while command_bytes < command.len() {
            match file.read(&mut command[command_bytes..]) {
                Ok(count) if count > 0 => command_bytes += count,
                _ => break,
            }
        }
    }
    // SAFETY: zero or written words; the rest are atomics.
    let header: &ProcessHeader = unsafe { header.as_ref() };
    header.pid.store(pid, Ordering::Relaxed);
    header.parent.store(parent_process_id(), Ordering::Relaxed);
    header.forked_from.store(forked_from, Ordering::Relaxed);
    header.start_ticks.store(cycle_counter(), Ordering::Relaxed);
    header.start_ns.store(monotonic_ns(), Ordering::Relaxed);
    header.page_bytes.store(page_bytes() as u32, Ordering::Relaxed);
    header.exe_bytes.store(exe_bytes as u32, Ordering::Relaxed);
    header.command_bytes.store(command_bytes as u32, Ordering::Relaxed);
    // Release: pairs with the collector's Acquire; all of the above is visible.
    header.magic.store(SPOOL_MAGIC, Ordering::Release);
}

fn store_text(words: &[AtomicU64; PATH_BYTES / 8], text: &[u8]) {
    let mut bytes = [0u8; PATH_BYTES];
    let length = text.len().min(PATH_BYTES - 1);
    bytes[..length].copy_from_slice(&text[..length]);
    for (word, part) in words.iter().zip(bytes.chunks_exact(8)) {
        let part = part.try_into().expect("eight bytes");
        word.store(u64::from_ne_bytes(part), Ordering::Release);
    }
}

/// A path put together on the stack.
struct PathText {
    bytes: [u8; PATH_BYTES],
    length: usize,
}

impl PathText {
    fn new() -> Self {
        Self { bytes: [0; PATH_BYTES], length: 0 }
    }

    fn push(&mut self, text: &[u8]) {
        let length = text.len().min(PATH_BYTES - 1 - self.length);
        self.bytes[self.length..self.length + length].copy_from_slice(&text[..length]);
        self.length += length;
    }

    fn push_words(&mut self, words: &[AtomicU64; PATH_BYTES / 8]) {
        for word in words {
            let part = word.load(Ordering::Acquire).to_ne_bytes();
            let length = part.iter().position(|&byte| byte == 0).unwrap_or(8);
            self.push(&part[..length]);
            if length < 8 {
                return;
            }
        }
    }

    fn push_number(&mut self, mut number: u32) {
        let mut digits = [0u8; 10];
        let mut start = digits.len();
        loop {
            start -= 1;
            digits[start] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                break;
            }
        }
        self.push(&digits[start..]);
    }

    fn as_c_str(&self) -> Option<&CStr> {
        CStr::from_bytes_until_nul(&self.bytes).ok()
    }
}

const _: () = assert!(PROCESS_BYTES > PROCESS_HEADER_BYTES);
