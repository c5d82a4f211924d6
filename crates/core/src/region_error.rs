//! What region allocators say instead of giving a block.
#![forbid(unsafe_code)]

use core::alloc::Layout;
use core::fmt;

use crate::backing::BackingError;

/// No block could be had. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AllocError {
    /// The size, a count times a size, or size and alignment together exceed what any object may
    /// be (`isize::MAX`).
    TooLarge {
        /// What was asked for; `usize::MAX` if the product does not fit.
        requested_bytes: usize,
    },
    /// This allocator never has blocks of that size or alignment.
    Unfit {
        /// What was asked for.
        requested_bytes: usize,
        /// Its alignment.
        align_bytes: usize,
        /// The largest block there is.
        largest_bytes: usize,
    },
    /// A bounded allocator is full.
    Full {
        /// What was asked for.
        requested_bytes: usize,
        /// The largest block that is free now.
        largest_free_bytes: usize,
        /// Everything it may ever hold.
        capacity_bytes: usize,
    },
    /// The backing gave no more.
    Backing(BackingError),
}

impl AllocError {
    /// Why a heap of `capacity_bytes` has no block of `layout`: it never has one, its blocks being
    /// aligned to `align_bytes_max` at most, or it has none now.
    pub fn of_heap(
        layout: Layout,
        align_bytes_max: usize,
        capacity_bytes: usize,
        largest_free_bytes: impl FnOnce() -> usize,
    ) -> Self {
        let requested_bytes = layout.size();
        if layout.align() > align_bytes_max || requested_bytes > capacity_bytes {
            let (align_bytes, largest_bytes) = (layout.align(), capacity_bytes);
            return Self::Unfit { requested_bytes, align_bytes, largest_bytes };
        }
        Self::Full { requested_bytes, largest_free_bytes: largest_free_bytes(), capacity_bytes }
    }
}

impl From<BackingError> for AllocError {
    fn from(error: BackingError) -> Self {
        Self::Backing(error)
    }
}

impl fmt::Display for AllocError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::TooLarge { requested_bytes } => {
                write!(f, "{requested_bytes} bytes are more than any block may have")
            }
            Self::Unfit { requested_bytes, align_bytes, largest_bytes } => write!(
                f,
                "{requested_bytes} bytes aligned to {align_bytes} do not fit blocks of {largest_bytes}"
            ),
            Self::Full { requested_bytes, largest_free_bytes, capacity_bytes } => write!(
                f,
                "{requested_bytes} bytes wanted, {largest_free_bytes} free in one piece of {capacity_bytes}"
            ),
            Self::Backing(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for AllocError {}

/// A block could not be taken back. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FreeError {
    /// The address is not this allocator's.
    NotOwned {
        /// The address.
        address: usize,
    },
    /// The address is inside a block.
    NotBlockStart {
        /// The address.
        address: usize,
        /// How far from the start.
        distance_bytes: usize,
    },
    /// The block is free already.
    AlreadyFree {
        /// Its address or offset.
        address: usize,
    },
    /// A newer block of the stack is still live.
    OutOfOrder {
        /// The block's address.
        address: usize,
        /// The address of the newest one.
        newest_address: usize,
    },
}

impl fmt::Display for FreeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NotOwned { address } => write!(f, "{address:#x} is not this allocator's"),
            Self::NotBlockStart { address, distance_bytes } => {
                write!(f, "{address:#x} is {distance_bytes} bytes inside a block")
            }
            Self::AlreadyFree { address } => write!(f, "{address:#x} is free already"),
            Self::OutOfOrder { address, newest_address } => {
                write!(f, "{address:#x} is not the newest block, {newest_address:#x} is")
            }
        }
    }
}

impl core::error::Error for FreeError {}
