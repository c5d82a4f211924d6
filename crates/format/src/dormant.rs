//! The control page of a recorder that is in a program and does not record yet.
//!
//! A program that is started with the recorder preloaded and [`DORMANT_VARIABLE`] set makes the
//! file [`control_path`] in shared memory, mode 0600, and maps it over the recorder's own
//! control page, shared; so do the children that it forks, by inheritance. Who may write the
//! file (its owner, root) puts a session's directory in and sets `awake`: the program's next
//! allocation opens the session and records. `awake` back at 0 lets the program pass by again.
//!
//! # Invariants
//! - I1: `awake` lies at the page's start; hooks test its first byte.
//! - I2: `directory` and `request` are written while `awake` is 0, and only by the holder of an
//!   exclusive `flock` on the file.

use heapwright_sync::atomic::{AtomicU32, AtomicU64};

/// "HWDORM" and the version of this layout and of the spool's: both sides must be of one build
/// line.
pub const DORMANT_MAGIC: u64 = 0x4857_444f_524d_0001;

/// The version in any magic of ours; none for one that is not.
pub fn magic_version(magic: u64) -> Option<u16> {
    (magic >> 16 == DORMANT_MAGIC >> 16).then_some(magic as u16)
}

/// Environment variable that asks for a dormant recorder: `1`.
pub const DORMANT_VARIABLE: &str = "HEAPWRIGHT_DORMANT";

/// What the names of control files begin with; the process id follows.
pub const DORMANT_PREFIX: &str = "/dev/shm/heapwright-dormant-";

/// Bytes of a control page: the largest OS page of the architecture.
pub const CONTROL_BYTES: usize = if cfg!(target_arch = "aarch64") { 65536 } else { 4096 };

/// Bytes of a session's directory name, with the NUL.
pub const DIRECTORY_BYTES: usize = 512;

/// The words of the page.
#[repr(C)]
#[cfg_attr(target_arch = "aarch64", repr(align(65536)))]
#[cfg_attr(not(target_arch = "aarch64"), repr(align(4096)))]
#[derive(Debug)]
pub struct Control {
    /// Not 0: calls go to the recorder. 0: they pass by it.
    pub awake: AtomicU32,
    /// Counts the recordings asked for.
    pub request: AtomicU32,
    /// [`DORMANT_MAGIC`], stored last.
    pub magic: AtomicU64,
    /// The process that made the file.
    pub pid: AtomicU32,
    /// Why a process did not follow the last request: a `REFUSED_` value, or 0.
    pub refusal: AtomicU32,
    /// The session's directory, ended by NUL, eight bytes a word.
    pub directory: [AtomicU64; DIRECTORY_BYTES / 8],
}

/// The session could not be opened, or belongs to another namespace of process ids.
pub const REFUSED_SESSION: u32 = 1;
/// The program has given up the system calls that recording takes (seccomp).
pub const REFUSED_CONFINED: u32 = 2;

impl Control {
    /// A page that sends all calls to the recorder: before anything is decided.
    pub const fn undecided() -> Self {
        Self {
            awake: AtomicU32::new(1),
            request: AtomicU32::new(0),
            magic: AtomicU64::new(0),
            pid: AtomicU32::new(0),
            refusal: AtomicU32::new(0),
            directory: [const { AtomicU64::new(0) }; DIRECTORY_BYTES / 8],
        }
    }
}

const _: () = assert!(core::mem::offset_of!(Control, awake) == 0, "I1");
const _: () = assert!(core::mem::size_of::<Control>() == CONTROL_BYTES);
