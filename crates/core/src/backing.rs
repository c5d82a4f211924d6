//! Where memory comes from: the one interface under region allocators, heaps and collectors.
//!
//! The contract is in design/backing.md; invariants are cited from there.
//!
//! # Not here
//! Any backing: `heapwright-os` has those of the kernel, `heapwright-regions` the others.

use core::alloc::Layout;
use core::fmt;
use core::ops::Range;
use core::ptr::NonNull;

/// What one [`Backing::reserve`] gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// First byte; its provenance covers the extent.
    pub start: NonNull<u8>,
    /// Length in bytes, committed or not.
    pub reserved_bytes: usize,
    /// How many bytes from the start may be touched at once.
    pub committed_bytes: usize,
    /// Commit, decommit, purge and guard work on multiples of this many bytes; a power of two.
    pub step_bytes: usize,
    /// Bytes that nobody has written yet read as zero.
    pub zeroed: bool,
    /// The backing's own; callers hand it back unchanged.
    pub tag: usize,
}

/// How urgently dead pages go back to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purge {
    /// When the kernel wants them; cheap if they are used again soon.
    Lazy,
    /// Now.
    Now,
}

/// What purged bytes read as until they are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purged {
    /// Zero.
    Zeroed,
    /// Zero or what was there before.
    Undefined,
}

/// What a range of an extent that grows is made ready by, before it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prepare {
    /// Its pages come in now, in one call instead of a fault for each.
    Populate,
    /// The first touch of each huge page of it brings in all of that page.
    Huge,
    /// What is there already is copied into huge pages, and what is missing comes in with them.
    Collapse,
}

/// Which NUMA nodes the pages of a range come from. Bit `n` of a mask is node `n`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodePolicy {
    /// The node of the CPU that first touches a page.
    Local,
    /// These nodes only; otherwise memory is exhausted.
    Bind(u64),
    /// This node first, then any.
    Prefer(u32),
    /// These nodes in turn, page by page.
    Interleave(u64),
}

/// An operation that not every backing has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Operation {
    /// [`Backing::decommit`].
    Decommit,
    /// [`Backing::purge`].
    Purge,
    /// [`Backing::guard`].
    Guard,
    /// [`Backing::alias`].
    Alias,
    /// [`Backing::bind`].
    Bind,
    /// [`Backing::prepare`].
    Prepare,
}

/// Why a backing refused. Nothing has changed then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BackingError {
    /// No more memory, addresses or mappings.
    Exhausted {
        /// What was asked for.
        requested_bytes: usize,
        /// What could still have been had, as far as known.
        available_bytes: usize,
    },
    /// A quota would have been exceeded.
    OverLimit {
        /// What was asked for.
        requested_bytes: usize,
        /// Committed before.
        committed_bytes: usize,
        /// The quota.
        limit_bytes: usize,
    },
    /// The kernel's error number.
    Kernel {
        /// As in `errno`.
        errno: i32,
        /// The length of the range.
        bytes: usize,
    },
    /// The file under the memory was cut by somebody: touching what is missing is a signal.
    Truncated {
        /// How long it was made.
        expected_bytes: u64,
        /// How long it is.
        file_bytes: u64,
    },
    /// This backing cannot do that.
    Unsupported(Operation),
}

impl fmt::Display for BackingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Exhausted { requested_bytes, available_bytes } => {
                write!(f, "{requested_bytes} bytes wanted, {available_bytes} available")
            }
            Self::OverLimit { requested_bytes, committed_bytes, limit_bytes } => write!(
                f,
                "{requested_bytes} bytes wanted with {committed_bytes} of {limit_bytes} committed"
            ),
            Self::Kernel { errno, bytes } => {
                write!(f, "the kernel refused {bytes} bytes with error {errno}")
            }
            Self::Truncated { expected_bytes, file_bytes } => {
                write!(f, "the file under the memory has {file_bytes} of {expected_bytes} bytes")
            }
            Self::Unsupported(operation) => write!(f, "this backing has no {operation:?}"),
        }
    }
}

impl core::error::Error for BackingError {}

/// A source of memory.
///
/// Ranges are offsets in bytes from an extent's start, multiples of its `step_bytes`, and not
/// empty.
///
/// # Safety
/// - An implementor keeps design/backing.md#I1 to design/backing.md#I5. Allocators build on them
///   without checking.
pub unsafe trait Backing {
    /// Takes a range of addresses of at least `layout.size()` bytes (more if that is free),
    /// aligned to `layout.align()`.
    ///
    /// At most one system call or two.
    ///
    /// # Errors
    /// [`BackingError`]; [`BackingError::Unsupported`] only from a wrapper that needs more than
    /// what is inside can do, such as guards.
    fn reserve(&self, layout: Layout) -> Result<Extent, BackingError>;

    /// Gives an extent back.
    ///
    /// # Safety
    /// - `extent` came from this backing, unchanged but for `committed_bytes`, which says how many
    ///   bytes in all are committed now; it is given back for the first time, and nobody uses its
    ///   memory any more.
    unsafe fn release(&self, extent: Extent);

    /// How much to [`reserve`](Self::reserve) where a single range is wanted that can grow, if at
    /// least `bytes_min` are needed. A hint: the reservation may still fail.
    fn reserve_hint(&self, bytes_min: usize) -> usize {
        bytes_min
    }

    /// Makes `range` readable and writable.
    ///
    /// # Safety
    /// - `extent` is a live one of this backing, and `range` is inside it.
    ///
    /// # Errors
    /// [`BackingError`]; no part of the range is newly committed then.
    unsafe fn commit(&self, extent: &Extent, range: Range<usize>) -> Result<(), BackingError>;

    /// Gives the memory of `range` back and keeps its addresses; touching it is then a fault.
    ///
    /// # Safety
    /// - `extent` is a live one of this backing, and `range` is inside it and committed.
    /// - Nobody uses the range or needs its contents.
    ///
    /// # Errors
    /// [`BackingError::Unsupported`], or the kernel's reason.
    unsafe fn decommit(&self, extent: &Extent, range: Range<usize>) -> Result<(), BackingError> {
        let _ = (extent, range);
        Err(BackingError::Unsupported(Operation::Decommit))
    }

    /// Tells that the contents of `range` are dead; it stays committed.
    ///
    /// # Safety
    /// - As for [`Self::decommit`], except that the range may be used again at once.
    ///
    /// # Errors
    /// [`BackingError::Unsupported`], or the kernel's reason.
    unsafe fn purge(
        &self,
        extent: &Extent,
        range: Range<usize>,
        when: Purge,
    ) -> Result<Purged, BackingError> {
        let _ = (extent, range, when);
        Err(BackingError::Unsupported(Operation::Purge))
    }

    /// Makes every access to `range` a fault, until it is committed again.
    ///
    /// # Safety
    /// - As for [`Self::decommit`].
    ///
    /// # Errors
    /// [`BackingError::Unsupported`], or the kernel's reason.
    unsafe fn guard(&self, extent: &Extent, range: Range<usize>) -> Result<(), BackingError> {
        let _ = (extent, range);
        Err(BackingError::Unsupported(Operation::Guard))
    }

    /// Makes the range of the same length at `to` show the memory of `from`.
    ///
    /// # Safety
    /// - `extent` is a live one of this backing; both ranges are inside it, committed, and do not
    ///   overlap; nobody needs the contents at `to`, and nobody holds references into either
    ///   that the sharing would break.
    ///
    /// # Errors
    /// [`BackingError::Unsupported`], or the kernel's reason.
    unsafe fn alias(
        &self,
        extent: &Extent,
        from: Range<usize>,
        to: usize,
    ) -> Result<(), BackingError> {
        let _ = (extent, from, to);
        Err(BackingError::Unsupported(Operation::Alias))
    }

    /// Says where pages of `range` come from that are not there yet.
    ///
    /// # Safety
    /// - `extent` is a live one of this backing, and `range` is inside it.
    ///
    /// # Errors
    /// [`BackingError::Unsupported`], or the kernel's reason.
    unsafe fn bind(
        &self,
        extent: &Extent,
        range: Range<usize>,
        policy: NodePolicy,
    ) -> Result<(), BackingError> {
        let _ = (extent, range, policy);
        Err(BackingError::Unsupported(Operation::Bind))
    }

    /// Makes `range` ready for use that is near; contents stay. Only ever for speed: an allocator
    /// works as well where this is refused.
    ///
    /// # Safety
    /// - `extent` is a live one of this backing, and `range` is inside it and committed.
    ///
    /// # Errors
    /// [`BackingError::Unsupported`], or the kernel's reason; part of the range may be ready then.
    unsafe fn prepare(
        &self,
        extent: &Extent,
        range: Range<usize>,
        how: Prepare,
    ) -> Result<(), BackingError> {
        let _ = (extent, range, how);
        Err(BackingError::Unsupported(Operation::Prepare))
    }

    /// How many bytes of `range` are backed by memory now; `None` if that cannot be told.
    ///
    /// # Safety
    /// - `extent` is a live one of this backing, and `range` is inside it.
    unsafe fn resident_bytes(&self, extent: &Extent, range: Range<usize>) -> Option<usize> {
        let _ = (extent, range);
        None
    }
}

// SAFETY: every call goes to the same backing, which keeps the invariants.
unsafe impl<B: Backing + ?Sized> Backing for &B {
    fn reserve(&self, layout: Layout) -> Result<Extent, BackingError> {
        (**self).reserve(layout)
    }

    unsafe fn release(&self, extent: Extent) {
        // SAFETY: the caller's promise, about the same backing; likewise below.
        unsafe { (**self).release(extent) }
    }

    fn reserve_hint(&self, bytes_min: usize) -> usize {
        (**self).reserve_hint(bytes_min)
    }

    unsafe fn commit(&self, extent: &Extent, range: Range<usize>) -> Result<(), BackingError> {
        // SAFETY: as in `release`.
        unsafe { (**self).commit(extent, range) }
    }

    unsafe fn decommit(&self, extent: &Extent, range: Range<usize>) -> Result<(), BackingError> {
        // SAFETY: as in `release`.
        unsafe { (**self).decommit(extent, range) }
    }

    unsafe fn purge(
        &self,
        extent: &Extent,
        range: Range<usize>,
        when: Purge,
    ) -> Result<Purged, BackingError> {
        // SAFETY: as in `release`.
        unsafe { (**self).purge(extent, range, when) }
    }

    unsafe fn guard(&self, extent: &Extent, range: Range<usize>) -> Result<(), BackingError> {
        // SAFETY: as in `release`.
        unsafe { (**self).guard(extent, range) }
    }

    unsafe fn alias(
        &self,
        extent: &Extent,
        from: Range<usize>,
        to: usize,
    ) -> Result<(), BackingError> {
        // SAFETY: as in `release`.
        unsafe { (**self).alias(extent, from, to) }
    }

    unsafe fn bind(
        &self,
        extent: &Extent,
        range: Range<usize>,
        policy: NodePolicy,
    ) -> Result<(), BackingError> {
        // SAFETY: as in `release`.
        unsafe { (**self).bind(extent, range, policy) }
    }

    unsafe fn prepare(
        &self,
        extent: &Extent,
        range: Range<usize>,
        how: Prepare,
    ) -> Result<(), BackingError> {
        // SAFETY: as in `release`.
        unsafe { (**self).prepare(extent, range, how) }
    }

    unsafe fn resident_bytes(&self, extent: &Extent, range: Range<usize>) -> Option<usize> {
        // SAFETY: as in `release`.
        unsafe { (**self).resident_bytes(extent, range) }
    }
}
