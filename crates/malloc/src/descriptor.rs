//! What is known about a slice of the region, 64 bytes out of band.
//!
//! All fields are relaxed atomics, which compile to plain loads and stores: who may write which
//! is a matter of ownership, not of ordering. The head (first slice) of a run speaks for all of
//! it; the other slices only lead to the head. Small spans: `span`.
//!
//! # Invariants
//! design/malloc.md#I1 to #I6.

use heapwright_sync::Link;
use heapwright_sync::atomic::{
    AtomicI32, AtomicPtr, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize,
};

use crate::heap::Heap;

/// Index of a slice in the region.
pub(crate) type SliceIndex = u32;
/// No slice: the first one is the descriptors'. 0, so that empty lists are zeroed memory.
pub(crate) const NO_SLICE: SliceIndex = 0;

// Values of `owner` that are no thread; thread pointers are higher.
/// A small span that no thread owns: its free slots are in the bitmap only, and it is whoever's
/// holds the lock of its class.
pub(crate) const PASSIVE: usize = 1;
/// Not a head: `run_slices` is the distance to it.
pub(crate) const INTERIOR: usize = 2;
/// The first or last slice of a free run, whose length is `run_slices`.
pub(crate) const FREE_RUN: usize = 3;
/// The head of a large block.
pub(crate) const LARGE: usize = 4;
/// A small span of a heap whose thread is not in this process: left behind by a fork.
pub(crate) const ORPHANED: usize = 5;
/// A small span of a zone.
pub(crate) const ZONE: usize = 6;
/// Owners from here on are threads.
pub(crate) const THREAD_MIN: usize = 4096;

/// Where a small span stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Place {
    /// Active: the span that refills its class.
    Current = 0,
    /// Active, has free slots; in the owner's available list.
    Available = 1,
    /// Active, few or no free slots; in the owner's full list.
    Full = 2,
    /// Passive, made so behind its owner's back; in the owner's pending list until the owner has
    /// been seen in a slow path.
    Pending = 3,
    /// Passive, without free slots; in no list.
    Packed = 4,
    /// Passive, more than three quarters used; in its class's list. The next ones are emptier.
    Bucket0 = 5,
    /// More than half used.
    Bucket1 = 6,
    /// More than a quarter used.
    Bucket2 = 7,
    /// At most a quarter used.
    Bucket3 = 8,
    /// Passive, with merged windows; in no list, and hands nothing out any more. See `merge`.
    Merged = 9,
    /// Merged while pending, and in the pending list still.
    MergedPending = 10,
    /// Pending, and what is linked has not been moved into the bitmap: the whole list is right.
    PendingLinked = 11,
}

impl Place {
    pub(crate) fn from_number(number: u8) -> Self {
        match number {
            0 => Self::Current,
            1 => Self::Available,
            2 => Self::Full,
            3 => Self::Pending,
            5 => Self::Bucket0,
            6 => Self::Bucket1,
            7 => Self::Bucket2,
            8 => Self::Bucket3,
            9 => Self::Merged,
            10 => Self::MergedPending,
            11 => Self::PendingLinked,
            _ => Self::Packed,
        }
    }

    /// Whether the span waits for its owner to be seen in a slow path.
    pub(crate) fn is_pending(self) -> bool {
        matches!(self, Self::Pending | Self::MergedPending | Self::PendingLinked)
    }

    /// Whether the span has merged windows.
    pub(crate) fn is_merged(self) -> bool {
        matches!(self, Self::Merged | Self::MergedPending)
    }

    /// Whether the span is in a list of its class.
    pub(crate) fn is_bucket(self) -> bool {
        matches!(self, Self::Bucket0 | Self::Bucket1 | Self::Bucket2 | Self::Bucket3)
    }

    /// Whether a thread may take the passive span over.
    pub(crate) fn is_adoptable(self) -> bool {
        self == Self::Packed || self.is_bucket()
    }
}

/// One slice's descriptor; all zero means never used.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Descriptor {
    /// Thread pointer of the owner, or one of the constants above.
    pub(crate) owner: AtomicUsize,
    /// Active span: slots freed by the owner, linked.
    pub(crate) local_free: AtomicPtr<Link>,
    /// Active span: frees left until one of them has to look at the span.
    pub(crate) until_wake: AtomicI32,
    /// Active span: `used` at that moment; so `used` is the sum of both.
    pub(crate) wake_at: AtomicI32,
    /// Active or pending span: its heap. Passive span that was handed on when it was full: its
    /// maker's, which may be another thread's by now. Span or large block of a zone: the zone's
    /// place.
    pub(crate) heap: AtomicPtr<Heap>,
    /// Length of the run in slices, at its head and, when free, its last slice; elsewhere the
    /// distance to the head.
    pub(crate) run_slices: AtomicU32,
    /// Neighbours in a circular list.
    pub(crate) next: AtomicU32,
    /// See `next`.
    pub(crate) prev: AtomicU32,
    /// Small span: slots that were ever linked or handed out; the ones from here on are free.
    pub(crate) extended_count: AtomicU16,
    /// Small span: free slots that only the bitmap tells of.
    pub(crate) bit_count: AtomicU16,
    /// Small span: its class.
    pub(crate) class_index: AtomicU8,
    /// Small span: a [`Place`].
    pub(crate) place: AtomicU8,
    /// Free run: 1 when its pages may be resident. Passive span: 1 when there may be pages to purge.
    /// Active span: 1 when it was full, or passive with free slots, before.
    pub(crate) is_dirty: AtomicU8,
    /// Small span: the part of the region, hence the NUMA node, that it lies in.
    pub(crate) node: AtomicU8,
    /// Free run: the epoch in which it last grew. Small span: what a purger saw last, see `purge`;
    /// with merged windows: which ones, a bit each.
    pub(crate) epoch: AtomicU32,
    /// Head of a large block: its usable bytes. Other slices, also of free runs, but for the rest
    /// of a large block: the slice's pages of 4 KiB that may be resident, a bit each.
    pub(crate) extra: AtomicU64,
}

const _: () = assert!(size_of::<Descriptor>() == 64);
