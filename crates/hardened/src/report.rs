//! What is told of a misuse, one line, and what happens then.

use core::fmt::{self, Write};

use heapwright_core::family::Family;
use heapwright_os::{Fd, OpenFlags, abort, exit_now, process_id, thread_id, write_all};

use crate::options::{self, Reaction};

/// A line and its end must fit.
const LINE_BYTES_MAX: usize = 400;

/// A misuse.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Misuse {
    /// A block that is free already was given back.
    DoubleFree { slot_bytes: usize },
    /// An address inside a block was given back.
    FreeInside { distance: usize, start: usize, bytes: usize, family: Family },
    /// An address that is no block's was given back.
    FreeOfNoBlock,
    /// A block was given back by a function of another family.
    WrongFunction { bytes: usize, family: Family, taker: Family },
    /// A block was given back with a size that is not its own.
    WrongSize { bytes: usize, family: Family, told: usize },
    /// Bytes behind a block were written to.
    Overflow { bytes: usize, family: Family, at: usize },
    /// Bytes of a free slot, or before a block, were written to.
    WriteToFree { distance: usize, slot_bytes: usize },
    /// A slot that has not been touched yet was written to.
    WriteToUnused { distance: usize, slot_bytes: usize },
    /// Two threads gave a block back at once.
    RacingFree { slot_bytes: usize },
    /// The size of an address that is no live block's was asked for.
    SizeOfNoBlock,
}

/// Where a misuse was noticed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Noticed {
    /// At the block's own free.
    Free,
    /// At `realloc`.
    Realloc,
    /// When the slot was about to be handed out again.
    Reuse,
    /// When a size was asked for.
    Size,
    /// At the end of the program.
    Exit,
}

/// A line that is written at once.
struct Line {
    bytes: [u8; LINE_BYTES_MAX],
    length: usize,
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // Cut short rather than lost: the numbers come first.
        let room = LINE_BYTES_MAX - 1 - self.length;
        let count = text.len().min(room);
        self.bytes[self.length..self.length + count].copy_from_slice(&text.as_bytes()[..count]);
        self.length += count;
        Ok(())
    }
}

impl fmt::Display for Misuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::DoubleFree { slot_bytes } => {
                write!(f, "double free: the block is free already, in a slot of {slot_bytes} bytes")
            }
            Self::FreeInside { distance, start, bytes, family } => write!(
                f,
                "invalid free: {distance} bytes inside a block of {bytes} bytes by {} at {start:#x}",
                family.allocator()
            ),
            Self::FreeOfNoBlock => f.write_str("invalid free: no block of this heap"),
            Self::WrongFunction { bytes, family, taker } => write!(
                f,
                "mismatched free: a block of {bytes} bytes by {} was given to {}",
                family.allocator(),
                taker.deallocator()
            ),
            Self::WrongSize { bytes, family, told } => write!(
                f,
                "wrong size: a block of {bytes} bytes by {} was given back as one of {told}",
                family.allocator()
            ),
            Self::Overflow { bytes, family, at } => {
                let maker = family.allocator();
                write!(f, "overflow: a block of {bytes} bytes by {maker} was written to ")?;
                match at {
                    0 => f.write_str("just behind its end"),
                    1 => f.write_str("1 byte behind its end"),
                    _ => write!(f, "{at} bytes behind its end"),
                }
            }
            Self::WriteToFree { distance, slot_bytes } => write!(
                f,
                "write after free: byte {distance} of a free slot of {slot_bytes} bytes was written to"
            ),
            Self::WriteToUnused { distance, slot_bytes } => write!(
                f,
                "stray write: byte {distance} of an unused slot of {slot_bytes} bytes was written to"
            ),
            Self::RacingFree { slot_bytes } => {
                write!(f, "double free: by two threads at once, in a slot of {slot_bytes} bytes")
            }
            Self::SizeOfNoBlock => {
                f.write_str("use after free: size asked of what is no live block")
            }
        }
    }
}

impl Noticed {
    fn text(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Realloc => "realloc",
            Self::Reuse => "the slot's reuse",
            Self::Size => "malloc_usable_size",
            Self::Exit => "exit",
        }
    }
}

/// Tells of `misuse` of the block or address `address`. Returns only when the program is to go
/// on.
#[cold]
#[inline(never)]
pub(crate) fn tell(misuse: Misuse, address: usize, noticed: Noticed) {
    let mut line = Line { bytes: [0; LINE_BYTES_MAX], length: 0 };
    let (process, thread) = (process_id(), thread_id());
    // It never fails.
    let _ = write!(
        line,
        "heapwright: {misuse}; address {address:#x}, noticed at {}, thread {thread} of process {process}",
        noticed.text()
    );
    line.bytes[line.length] = b'\n';
    write_line(&line.bytes[..=line.length]);
    match options::reaction() {
        Reaction::Abort => abort(),
        Reaction::Exit(status) => exit_now(status),
        Reaction::Continue => {}
    }
}

fn write_line(line: &[u8]) {
    let written = options::with_path(|path| {
        let file = Fd::open(path, OpenFlags::Append)?;
        write_all(&file, line)
    });
    if !matches!(written, Some(Ok(()))) {
        // Nobody can be told when even this fails.
        let _ = write_all(&Fd::STDERR, line);
    }
}

/// Ends the process: a thread meets a lock that it holds.
#[cold]
#[inline(never)]
pub(crate) fn in_signal_handler() -> ! {
    write_line(b"heapwright: malloc called in a signal handler that interrupted malloc\n");
    abort()
}
