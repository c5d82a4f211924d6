//! The recorded process: its ring file and its slots.
//!
//! # Invariants
//! - I1: a process block is never given back; a further session of a dormant process gets one of
//!   its own, and the one before stays for the threads that still hold it.
//! - I2: the process block is private memory that a fork wipes. `stage` goes 0 → BUILDING →
//!   READY (or FAILED) once per process; everything else in it is valid when it is READY.
//! - I3: a slot's address is stored before anybody uses the slot, and stays.

use core::ffi::CStr;
use core::mem::size_of;
use core::ptr::NonNull;

use heapwright_format::chunk::CHUNK_BYTES;
use heapwright_format::spool::{
    CHUNKS_AT_FIRST, CHUNKS_PER_SLOT, COMMAND_BYTES, EXE_BYTES, PROCESS_BYTES,
    PROCESS_HEADER_BYTES, ProcessHeader, SLOT_ACTIVE, SLOT_BYTES, SLOT_CLAIMED, SLOT_ENDED,
    SLOT_FREE, SLOT_HEADER_BYTES, SLOTS_MAX, SPARE_FILE, SPOOL_MAGIC, SessionHeader, SlotHeader,
};
use heapwright_os::{
    Advice, Errno, Fd, OpenFlags, Protection, advise, cycle_counter, file_size_limit_bytes,
    futex_wake, map_shared, monotonic_ns, page_bytes, parent_process_id, process_id, read_link,
    rename, reserve,
};
use heapwright_sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

use crate::clock::Order;
use crate::confined::{is_confined, pause};
use crate::dormant;
use crate::kept_file::{RING_FILE, SPOOL_DIRECTORY};
use crate::large::LargeBlocks;
use crate::path_text::{PathText, StoredText, store_text};
use crate::session::{push_directory, session};
use crate::thread::LateRecorder;

/// Tries for the spare ring file, some 50 ms.
const SPARE_TRIES_MAX: usize = 50_000;

const STAGE_BUILDING: u32 = 1;
const STAGE_READY: u32 = 2;
const STAGE_FAILED: u32 = 3;

/// Rounds of waiting for another thread that sets the process up, some 0.1 s.
const BUILD_TRIES_MAX: usize = 200_000;

static PROCESS: AtomicPtr<Process> = AtomicPtr::new(core::ptr::null_mut());
static LAST_PID: AtomicU32 = AtomicU32::new(0);
/// The private block of a process.
pub(crate) struct Process {
    stage: AtomicU32,
    growing: AtomicU32,
    header: AtomicPtr<ProcessHeader>,
    file_bytes: AtomicU64,
    path: StoredText,
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

/// Lets the block of an earlier session go: the next use makes another.
pub(crate) fn forget() {
    PROCESS.store(core::ptr::null_mut(), Ordering::Release);
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
        let last_pid = LAST_PID.swap(pid, Ordering::AcqRel);
        let forked_from = if last_pid == pid { 0 } else { last_pid };
        if forked_from != 0 {
            // SAFETY: a forked child has only the thread that forked, which is here.
            unsafe { heapwright_unwind::reset_after_fork() };
        }
        // A parent's, or that of the session before.
        RING_FILE.close();
        let number = session.processes.fetch_add(1, Ordering::Relaxed);
        let mut path = PathText::new();
        push_directory(&mut path);
        path.push(b"/");
        path.push_number(pid);
        path.push(b"-");
        path.push_number(number);
        path.push(b".ring");
        store_text(&self.path, path.as_c_str()?.to_bytes());
        let file = self.make_file(&path)?;
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

    /// Makes the ring file. A process that may make no file so long takes the spare one, which the
    /// collector has made: within its length no limit is asked for.
    fn make_file(&self, path: &PathText) -> Option<Fd> {
        let is_limited = file_size_limit_bytes().is_some_and(|limit| limit < PROCESS_BYTES as u64);
        if is_limited {
            let mut spare = PathText::new();
            push_directory(&mut spare);
            spare.push(SPARE_FILE.as_bytes());
            for _ in 0..SPARE_TRIES_MAX {
                if rename(spare.as_c_str()?, path.as_c_str()?).is_ok() {
                    self.file_bytes.store(PROCESS_BYTES as u64, Ordering::Relaxed);
                    return Fd::open(path.as_c_str()?, OpenFlags::ReadWrite).ok();
                }
                // Another one has taken it; the collector makes the next within 20 ms.
                pause();
            }
        }
        let file = self.open_file(path, OpenFlags::CreateNew)?;
        self.file_bytes.store(0, Ordering::Relaxed);
        self.grow_file(&file, PROCESS_HEADER_BYTES as u64).ok()?;
        Some(file)
    }

    /// Opens the ring file by its path, or in the directory where the path does not lead there.
    fn open_file(&self, path: &PathText, flags: OpenFlags) -> Option<Fd> {
        let path = path.as_c_str()?;
        if let Ok(file) = Fd::open(path, flags) {
            return Some(file);
        }
        let slash = path.to_bytes().iter().rposition(|&byte| byte == b'/')?;
        let name = CStr::from_bytes_with_nul(&path.to_bytes_with_nul()[slash + 1..]).ok()?;
        SPOOL_DIRECTORY.held()?.open_in(name, flags).ok()
    }

    /// The header in the ring file.
    pub(crate) fn header(&self) -> &'static ProcessHeader {
        // SAFETY: set by `build` before the block was READY (I2), never unmapped.
        unsafe { &*self.header.load(Ordering::Relaxed) }
    }

    fn grow_file(&self, file: &Fd, bytes: u64) -> Result<(), Errno> {
        if bytes > self.file_bytes.load(Ordering::Relaxed) {
            if file_size_limit_bytes().is_some_and(|limit| limit < bytes) {
                return Err(Errno::ENOSPC);
            }
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
        let file = self.open_file(&path, OpenFlags::ReadWrite)?;
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
    header.attached.store(u32::from(dormant::is_controlled()), Ordering::Relaxed);
    // Release: pairs with the collector's Acquire; all of the above is visible.
    header.magic.store(SPOOL_MAGIC, Ordering::Release);
}

const _: () = assert!(PROCESS_BYTES > PROCESS_HEADER_BYTES);
