//! The spool: shared memory between recorded processes and the collector.
//!
//! A session is a directory in a memory file system. Its file `session` holds
//! [`SessionHeader`]; each process makes a file `<pid>-<n>.ring` with a [`ProcessHeader`] and
//! one slot a thread. A slot is a [`SlotHeader`] and a ring of [`CHUNKS_PER_SLOT`] chunks that
//! the thread fills and the collector drains. Since the memory is a file of the kernel's,
//! nothing written is lost when the program is killed, execs or calls `_exit`; and since no
//! disk is involved, no full disk can hurt the program.
//!
//! # Invariants
//! - I1: each chunk that is being filled or waits to be read has a position of its own, whose
//!   bit is set in `busy`; `order[n % CHUNKS_PER_SLOT]` is the position of chunk `n`. The thread
//!   takes the lowest free position: while the collector keeps up, two or three positions are
//!   used again and again and stay in the CPU's cache.
//! - I2: only the thread writes `published`, `used` and `order` and sets bits of `busy`; only
//!   the collector writes `drained` and clears bits.
//! - I3: heads of a chunk below `used` are of whole events, whose fields are in the other columns.
//!   `used` is stored with Release after the event's bytes and loaded with Acquire before they are
//!   read; likewise `published`.
//! - I4: a slot goes free → claimed → active (by its thread, once it has memory) → ended (by the
//!   thread) → free (by the collector, when all is drained).

use heapwright_sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::chunk::{CHUNK_BYTES, COLUMN_COUNT};

/// "HWSPOOL" and the version of this layout.
pub const SPOOL_MAGIC: u64 = 0x4857_5350_4f4f_4c04;

/// Chunks of a slot: at 5 bytes an event and 20 M events a second the collector has 10 ms.
pub const CHUNKS_PER_SLOT: usize = 16;

/// Chunks whose memory a slot takes at first; it takes the others when these are full, so that
/// short threads and processes stay cheap.
pub const CHUNKS_AT_FIRST: usize = 2;

/// Bytes before the chunks of a slot.
pub const SLOT_HEADER_BYTES: usize = 4096;

/// Bytes of a slot.
pub const SLOT_BYTES: usize = SLOT_HEADER_BYTES + CHUNKS_PER_SLOT * CHUNK_BYTES;

/// Bytes before the slots of a process.
pub const PROCESS_HEADER_BYTES: usize = 32 << 10;

/// Threads alive at once that a process can record; a further one's events are counted as
/// dropped.
pub const SLOTS_MAX: usize = 4096;

/// Bytes of a process's (sparse) ring file.
pub const PROCESS_BYTES: usize = PROCESS_HEADER_BYTES + SLOTS_MAX * SLOT_BYTES;

/// Bytes of the session file.
pub const SESSION_BYTES: usize = 4096;

/// Most bytes of the executable's path that are kept.
pub const EXE_BYTES: usize = 1024;

/// Most bytes of the command line that are kept (words ended by NUL).
pub const COMMAND_BYTES: usize = 8192;

/// Environment variable that tells a recorder the session's directory.
pub const SPOOL_VARIABLE: &str = "HEAPWRIGHT_SPOOL";

/// Name, in the session's directory, of an empty ring file in full length, for processes that may
/// make none (`RLIMIT_FSIZE`): they rename it.
pub const SPARE_FILE: &str = "/spare";

/// What all processes of a session share.
#[repr(C)]
pub struct SessionHeader {
    /// [`SPOOL_MAGIC`].
    pub magic: AtomicU64,
    /// Process id of the collector.
    pub collector: AtomicU32,
    /// 1 once nothing more is to be recorded.
    pub stop: AtomicU32,
    /// 1 while the collector sleeps on `doorbell`.
    pub sleeping: AtomicU32,
    /// Counts calls to the collector; what it sleeps on.
    pub doorbell: AtomicU32,
    /// Processes that have made a ring file.
    pub processes: AtomicU32,
    /// Processes that wanted to record but could not make a ring file.
    pub lost_processes: AtomicU32,
    /// Time units are the clock's ticks shifted right by this.
    pub time_shift: AtomicU32,
    /// 0 for the cycle counter, 1 for the monotonic clock in nanoseconds.
    pub clock: AtomicU32,
    /// Mean bytes between samples; 0 records everything.
    pub sample_bytes: AtomicU64,
    /// Blocks of at least this many bytes are watched for touched pages.
    pub touch_bytes_min: AtomicU64,
    /// 1 when command lines must not be kept.
    pub redact: AtomicU32,
    /// Number of the collector's process id namespace; 0 when unknown.
    pub pid_namespace: AtomicU64,
    /// A robust, process-shared mutex of libc's that the collector holds: its first word is the
    /// holder's thread id, and the kernel marks it when the holder dies, however that happens.
    pub collector_lock: [AtomicU32; COLLECTOR_LOCK_WORDS],
}

/// Room for libc's mutex.
pub const COLLECTOR_LOCK_WORDS: usize = 16;

/// Bits of a robust mutex's first word, from the kernel's interface.
const LOCK_HOLDER_BITS: u32 = 0x3fff_ffff;
const LOCK_HOLDER_DIED: u32 = 0x4000_0000;

impl SessionHeader {
    /// Whether the collector is still there. One load; right in any process id namespace, and
    /// also while the dead collector waits for its parent to ask for its status.
    pub fn collector_lives(&self) -> bool {
        // Acquire: what the collector stored before it went is visible.
        let word = self.collector_lock[0].load(Ordering::Acquire);
        word & LOCK_HOLDER_BITS != 0 && word & LOCK_HOLDER_DIED == 0
    }

    /// Calls the collector if it sleeps. Returns whether a wake-up of `doorbell` is due (the
    /// caller makes the system call).
    pub fn ring(&self) -> bool {
        // AcqRel: orders the publication before it against the collector's check after it has
        // said that it sleeps; pairs with the collector's swap of `sleeping`.
        if self.sleeping.swap(0, Ordering::AcqRel) == 0 {
            return false;
        }
        self.doorbell.fetch_add(1, Ordering::Release);
        true
    }
}

/// What a process tells about itself.
#[repr(C)]
pub struct ProcessHeader {
    /// [`SPOOL_MAGIC`], stored last, with Release.
    pub magic: AtomicU64,
    /// Process id.
    pub pid: AtomicU32,
    /// Parent's process id.
    pub parent: AtomicU32,
    /// Clock at the start, in ticks.
    pub start_ticks: AtomicU64,
    /// Monotonic nanoseconds at the same moment.
    pub start_ns: AtomicU64,
    /// Process id of the process this one was forked from without exec, else 0: its blocks are
    /// alive here too.
    pub forked_from: AtomicU32,
    /// Slots that have ever been used: the collector looks at those below.
    pub slots_used: AtomicU32,
    /// Threads ever registered; the next thread's number.
    pub threads: AtomicU32,
    /// Events of threads without a slot.
    pub unrecorded: AtomicU64,
    /// Kernel page size, for touch events.
    pub page_bytes: AtomicU32,
    /// Length of `exe`.
    pub exe_bytes: AtomicU32,
    /// Length of `command`.
    pub command_bytes: AtomicU32,
    /// 1 when recording began in the middle of the process's life: it has older blocks.
    pub attached: AtomicU32,
    /// States of the slots: [`SLOT_FREE`], [`SLOT_CLAIMED`], [`SLOT_ACTIVE`] or [`SLOT_ENDED`].
    pub slot_states: [AtomicU32; SLOTS_MAX],
    /// Path of the executable; written before `magic`.
    pub exe: [u8; EXE_BYTES],
    /// Command line, words ended by NUL; written before `magic`.
    pub command: [u8; COMMAND_BYTES],
}

/// A slot is free.
pub const SLOT_FREE: u32 = 0;
/// A thread fills the slot.
pub const SLOT_ACTIVE: u32 = 1;
/// The thread has ended; the collector drains the rest.
pub const SLOT_ENDED: u32 = 2;
/// A thread has taken the slot, whose memory may not be there yet: nothing to read.
pub const SLOT_CLAIMED: u32 = 3;

/// The control words of a thread's ring.
#[repr(C)]
pub struct SlotHeader {
    /// Positions with memory: [`CHUNKS_AT_FIRST`], then [`CHUNKS_PER_SLOT`] if there is some.
    pub ring_chunks: AtomicU32,
    /// Kernel's thread id.
    pub thread_id: AtomicU32,
    /// The thread's number within the process, from 0, never reused.
    pub thread: AtomicU32,
    /// 1 while the thread sleeps on `drained_word` because the ring is full.
    pub waiting: AtomicU32,
    /// Chunks completed.
    pub published: AtomicU64,
    /// Low half: bytes of heads in the chunk being filled; high half: events in it.
    pub used: AtomicU64,
    /// Events in completed chunks.
    pub events: AtomicU64,
    /// Time at the start of the chunk being filled, and of the completed ones.
    pub chunk_times: [AtomicU64; CHUNKS_PER_SLOT],
    /// Number of the first node defined in each chunk.
    pub chunk_nodes: [AtomicU32; CHUNKS_PER_SLOT],
    /// Bytes in each column of each completed chunk.
    pub chunk_lengths: [[AtomicU32; COLUMN_COUNT]; CHUNKS_PER_SLOT],
    /// Events in each completed chunk.
    pub chunk_events: [AtomicU32; CHUNKS_PER_SLOT],
    /// Positions in use, a bit each.
    pub busy: AtomicU32,
    /// Position of chunk `n` at `n % CHUNKS_PER_SLOT`.
    pub order: [AtomicU32; CHUNKS_PER_SLOT],
    /// Chunks drained by the collector.
    pub drained: AtomicU64,
    /// The low half of `drained`, to sleep on.
    pub drained_word: AtomicU32,
}

impl SlotHeader {
    /// Position of chunk `number`, which is being filled or waits to be read.
    #[inline]
    pub fn position(&self, number: u64) -> usize {
        // Relaxed: published with the chunk (I3); masked, so that a torn value stays inside.
        let entry = &self.order[(number % CHUNKS_PER_SLOT as u64) as usize];
        entry.load(Ordering::Relaxed) as usize % CHUNKS_PER_SLOT
    }

    /// The lowest free position with memory; none when all are in use.
    pub fn free_position(&self) -> Option<usize> {
        // Acquire: pairs with the collector's Release; it has read what lies there.
        let busy = self.busy.load(Ordering::Acquire);
        let position = (!busy).trailing_zeros();
        (position < self.ring_chunks.load(Ordering::Relaxed)).then_some(position as usize)
    }

    /// Takes `position`, which is free, for chunk `number`.
    pub fn take_position(&self, number: u64, position: usize) {
        let bit = 1 << position;
        let before = self.busy.fetch_or(bit, Ordering::Relaxed);
        debug_assert_eq!(before & bit, 0, "I1: a free position");
        let entry = &self.order[(number % CHUNKS_PER_SLOT as u64) as usize];
        entry.store(position as u32, Ordering::Relaxed);
    }
}

const _: () = assert!(CHUNKS_AT_FIRST >= 2 && CHUNKS_PER_SLOT < 32);
const _: () = assert!(core::mem::size_of::<SessionHeader>() <= SESSION_BYTES);
const _: () = assert!(core::mem::offset_of!(SessionHeader, collector_lock).is_multiple_of(8));
const _: () = assert!(core::mem::size_of::<ProcessHeader>() <= PROCESS_HEADER_BYTES);
const _: () = assert!(core::mem::size_of::<SlotHeader>() <= SLOT_HEADER_BYTES);

/// Packs the `used` word: bytes of heads, and events.
#[inline(always)]
pub fn pack_used(bytes: u32, events: u32) -> u64 {
    u64::from(bytes) | u64::from(events) << 32
}

/// Takes the `used` word apart into bytes and events.
#[inline(always)]
pub fn unpack_used(word: u64) -> (u32, u32) {
    (word as u32, (word >> 32) as u32)
}
