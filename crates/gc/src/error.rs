//! What a heap refuses.

use core::fmt;
use heapwright_os::Errno;

/// The heap holds all it may: leave the mutation, so that a collection can run, and come back.
///
/// It has no size, so that `Result<Gc<T>, LimitReached>` fits a register; the numbers are in
/// [`crate::Heap::refusal`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitReached;

impl fmt::Display for LimitReached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the heap's limit is reached: leave the mutation to collect")
    }
}

impl core::error::Error for LimitReached {}

/// The last allocation that a heap refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refusal {
    /// Bytes asked for, with header.
    pub requested_bytes: usize,
    /// Bytes that the heap held.
    pub occupied_bytes: usize,
    /// Its limit.
    pub limit_bytes: usize,
}

/// Why a heap could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeapError {
    /// The kernel gave no address space.
    Reserve {
        /// Bytes of addresses asked for.
        bytes: usize,
        /// The kernel's reason.
        errno: Errno,
    },
}

impl fmt::Display for HeapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Reserve { bytes, errno } = self;
        write!(f, "cannot reserve {bytes} bytes of addresses: {errno}")
    }
}

impl core::error::Error for HeapError {}
