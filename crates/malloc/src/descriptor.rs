//! What is known about a slice of the region, 64 bytes out of band.
//!
//! All fields are relaxed atomics, which compile to plain loads and stores: who may write which
//! is a matter of ownership, not of ordering. The head (first slice) of a run speaks for all of
//! it; the other slices only lead to the head.
//!
//! # Invariants
//! - I1: `owner` of a small span's head is the address of the heap that owns it, or
//!   [`ABANDONED`]. Only the owner, or the holder of the pool's lock when it is abandoned, writes
//!   the other fields.
//! - I2: `used_count` is the number of slots handed out and not yet back in `local_free`: live
//!   blocks, blocks in a thread's list, and blocks on their way home.
//! - I3: slots from `extended_count` on have never been linked; their memory may be untouched.

use heapwright_sync::Link;
use heapwright_sync::atomic::{AtomicI32, AtomicPtr, AtomicU8, AtomicU16, AtomicU32, AtomicUsize};

/// Index of a slice in the region.
pub(crate) type SliceIndex = u32;
/// No slice.
pub(crate) const NO_SLICE: SliceIndex = u32::MAX;

// Values of `owner` that are no heap; heaps have higher addresses.
/// A small span whose owner has ended.
pub(crate) const ABANDONED: usize = 1;
/// Not a head: `run_slices` is the distance to it.
pub(crate) const INTERIOR: usize = 2;
/// The first or last slice of a free run, whose length is `run_slices`.
pub(crate) const FREE_RUN: usize = 3;
/// The head of a large block.
pub(crate) const LARGE: usize = 4;
/// Owners from here on are heaps.
pub(crate) const HEAP_MIN: usize = 4096;

/// Where a small span stands with its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Place {
    /// The span that refills its class.
    Current = 0,
    /// Has free slots; in the owner's available list.
    Available = 1,
    /// Few or no free slots; in the owner's full list.
    Full = 2,
    /// Abandoned, with free slots; in the pool's list of its class.
    Listed = 3,
    /// Abandoned, without free slots; in no list.
    Unlisted = 4,
}

impl Place {
    pub(crate) fn from_number(number: u8) -> Self {
        match number {
            0 => Self::Current,
            1 => Self::Available,
            2 => Self::Full,
            3 => Self::Listed,
            _ => Self::Unlisted,
        }
    }
}

/// One slice's descriptor; all zero means never used.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Descriptor {
    /// Owner, or one of the constants above.
    pub(crate) owner: AtomicUsize,
    /// Slots freed by the owner.
    pub(crate) local_free: AtomicPtr<Link>,
    /// See I2.
    pub(crate) used_count: AtomicI32,
    /// A free that brings `used_count` down to this takes the slow path; -1 never.
    pub(crate) wake_at_count: AtomicI32,
    /// See I3.
    pub(crate) extended_count: AtomicU32,
    /// Length of the run in slices, at its head and, when free, its last slice; elsewhere the
    /// distance to the head.
    pub(crate) run_slices: AtomicU32,
    /// Neighbours in a circular list.
    pub(crate) next: AtomicU32,
    /// See `next`.
    pub(crate) prev: AtomicU32,
    /// Small span: its class.
    pub(crate) class_index: AtomicU8,
    /// Small span: a [`Place`].
    pub(crate) place: AtomicU8,
    /// Free run: 1 when its pages may be resident. Otherwise unused.
    pub(crate) is_dirty: AtomicU8,
    pub(crate) _spare: AtomicU8,
    /// Free run: the epoch in which it last grew.
    pub(crate) epoch: AtomicU16,
    /// Large block: usable bytes.
    pub(crate) usable_bytes: AtomicUsize,
}

const _: () = assert!(size_of::<Descriptor>() == 64);
