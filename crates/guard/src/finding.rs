//! What can be found, and what is told of it.

use crate::depot::StackId;
use crate::record::{Record, State, Watch};
use heapwright_core::family::Family;
use heapwright_sync::atomic::Ordering;

/// A kind of error. The names are part of the report's format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// An access behind the end of a block.
    Overflow,
    /// An access before the start of a block.
    Underflow,
    /// An access to a freed block.
    UseAfterFree,
    /// Bytes behind a block were overwritten; found later.
    OverwrittenAfter,
    /// Bytes before a block were overwritten; found later.
    OverwrittenBefore,
    /// A freed block was written to; found later.
    WriteAfterFree,
    /// A block was freed twice.
    DoubleFree,
    /// What was freed is no block, or not the start of one.
    InvalidFree,
    /// A block was freed by the wrong function.
    MismatchedFree,
    /// A size or alignment given to a free is wrong.
    WrongSizeFree,
    /// A block that nothing points to any more.
    Leak,
    /// The program crashed at an address outside the heap.
    Crash,
}

impl Kind {
    /// Its name in the report.
    pub fn name(self) -> &'static str {
        match self {
            Self::Overflow => "overflow",
            Self::Underflow => "underflow",
            Self::UseAfterFree => "use-after-free",
            Self::OverwrittenAfter => "overwritten-after",
            Self::OverwrittenBefore => "overwritten-before",
            Self::WriteAfterFree => "write-after-free",
            Self::DoubleFree => "double-free",
            Self::InvalidFree => "invalid-free",
            Self::MismatchedFree => "mismatched-free",
            Self::WrongSizeFree => "wrong-size-free",
            Self::Leak => "leak",
            Self::Crash => "crash",
        }
    }
}

/// A block as it was when an error was found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BlockView {
    pub(crate) start: usize,
    pub(crate) bytes: usize,
    pub(crate) state: State,
    pub(crate) family: Family,
    pub(crate) freed_by: Family,
    pub(crate) watch: Watch,
    pub(crate) alloc_stack: StackId,
    pub(crate) free_stack: StackId,
    pub(crate) alloc_thread: u32,
    pub(crate) free_thread: u32,
}

impl BlockView {
    pub(crate) fn of(record: &Record) -> Self {
        Self {
            start: record.start(),
            bytes: record.bytes(),
            state: record.state(),
            family: record.family(),
            freed_by: record.freed_by(),
            watch: record.watch(),
            alloc_stack: record.alloc_stack.load(Ordering::Relaxed),
            free_stack: record.free_stack.load(Ordering::Relaxed),
            alloc_thread: record.alloc_thread.load(Ordering::Relaxed),
            free_thread: record.free_thread.load(Ordering::Relaxed),
        }
    }

    /// One past the last byte.
    pub(crate) fn end(&self) -> usize {
        self.start + self.bytes
    }
}

/// An error.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Finding {
    pub(crate) kind: Kind,
    /// The address that was accessed, or given to a free.
    pub(crate) address: usize,
    /// How many bytes from there on were accessed; 0 when unknown.
    pub(crate) bytes: usize,
    /// Whether it was a write; none when unknown or not an access.
    pub(crate) is_write: Option<bool>,
    /// The library function in which it happened; empty for the program's own code.
    pub(crate) via: &'static str,
    /// Where it happened.
    pub(crate) stack: StackId,
    pub(crate) thread: u32,
    pub(crate) block: Option<BlockView>,
    /// Size or alignment given to a free; blocks of a group of leaks.
    pub(crate) told: usize,
    /// Bytes of a group of leaks, and those reached from other leaks.
    pub(crate) leaked_bytes: usize,
    pub(crate) is_indirect: bool,
    /// For a crash: the byte that fills unset or freed memory, when a register is full of it.
    pub(crate) filler: Option<u8>,
    /// For a crash: the signal.
    pub(crate) signal: i32,
    /// Whether the program ends by it.
    pub(crate) is_fatal: bool,
}

impl Finding {
    /// A finding without particulars.
    pub(crate) fn new(kind: Kind, address: usize) -> Self {
        Self {
            kind,
            address,
            bytes: 0,
            is_write: None,
            via: "",
            stack: 0,
            thread: 0,
            block: None,
            told: 0,
            leaked_bytes: 0,
            is_indirect: false,
            filler: None,
            signal: 0,
            is_fatal: false,
        }
    }
}
