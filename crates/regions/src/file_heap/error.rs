//! Why a file is no heap, or not yet again.

use core::fmt;

use heapwright_core::region_error::AllocError;
use heapwright_os::{Errno, MapError};

/// A part of the file that carries a checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilePart {
    /// The first page: what the heap is.
    Header,
    /// The bits that say what is free and where blocks begin.
    Table,
}

/// Why a file cannot be opened as a heap, or written back. The file is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FileHeapError {
    /// The kernel refused to open, lock, read or write it.
    Kernel(Errno),
    /// Somebody has it open as a heap.
    InUse,
    /// A heap cannot be made in a file that has something in it.
    NotEmpty {
        /// Its length.
        file_bytes: u64,
    },
    /// It does not begin as a heap's file does.
    Foreign {
        /// Its first bytes.
        magic: [u8; 8],
    },
    /// It was written on a machine with the other order of bytes.
    OtherByteOrder,
    /// Another version of the format.
    Version {
        /// The file's.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// It is another application's heap, or another kind of this one's.
    OtherApplication {
        /// The file's number.
        found: u64,
        /// The number asked for.
        expected: u64,
    },
    /// A checksum does not fit: it was torn by a crash, or changed by a stranger.
    Torn {
        /// What it guards.
        part: FilePart,
        /// What the file says.
        stored: u64,
        /// What its bytes give.
        computed: u64,
    },
    /// It is shorter than it was made.
    Truncated {
        /// How long it was made.
        expected_bytes: u64,
        /// How long it is.
        file_bytes: u64,
    },
    /// It was not closed: the process or the machine stopped while it was open. Its blocks may be
    /// old, new or torn; `FileHeap::salvage` opens it if its bits are sound.
    NotClosed {
        /// How often it was closed before.
        close_count: u64,
    },
    /// The bits are such that no heap can have left them.
    Unsound,
    /// The disk has no room.
    NoSpace {
        /// What was asked for.
        requested_bytes: u64,
        /// What is free.
        free_bytes: u64,
    },
    /// It could not be mapped.
    Map(MapError),
    /// There is no heap of these numbers.
    Shape(AllocError),
}

impl From<Errno> for FileHeapError {
    fn from(errno: Errno) -> Self {
        Self::Kernel(errno)
    }
}

impl fmt::Display for FileHeapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kernel(errno) => write!(f, "the heap's file: {errno}"),
            Self::InUse => f.write_str("the heap is open elsewhere"),
            Self::NotEmpty { file_bytes } => write!(f, "the file has {file_bytes} bytes already"),
            Self::Foreign { magic } => write!(f, "no heap's file: it begins with {magic:02x?}"),
            Self::OtherByteOrder => f.write_str("the heap was made with the other byte order"),
            Self::Version { found, known } => {
                write!(f, "the heap has format {found}, {known} is known")
            }
            Self::OtherApplication { found, expected } => {
                write!(f, "the heap is of application {found:#x}, not of {expected:#x}")
            }
            Self::Torn { part, stored, computed } => {
                write!(f, "{part:?} is torn: its checksum is {computed:#x}, not {stored:#x}")
            }
            Self::Truncated { expected_bytes, file_bytes } => {
                write!(f, "the heap's file has {file_bytes} of {expected_bytes} bytes")
            }
            Self::NotClosed { close_count } => {
                write!(f, "the heap was not closed since its close number {close_count}")
            }
            Self::Unsound => f.write_str("no heap can have left such a table"),
            Self::NoSpace { requested_bytes, free_bytes } => {
                write!(f, "{requested_bytes} bytes of disk wanted, {free_bytes} free")
            }
            Self::Map(error) => error.fmt(f),
            Self::Shape(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for FileHeapError {}
