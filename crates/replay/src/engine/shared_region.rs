//! The region of a call site whose blocks pass between threads: one that all replay threads use.
//!
//! Pool and slab are the ones made for threads; the other three are behind a lock, as a program
//! would have to do it. So is a pool of large blocks: threads' lists of 64 would hold too much.

use std::sync::{Mutex, PoisonError};

use heapwright_regions::{AnonymousPages, Lines, SharedPool, SharedSlab};

use super::own_region::{OwnRegion, pool_layout, resident};
use crate::RegionKind;
use crate::site::SiteRoute;

/// Blocks of which a thread should keep no list.
const LISTED_BYTES_MAX: usize = 16 << 10;

/// A region that threads share; each uses it through a [`super::lane::Lane`].
pub(super) enum SharedRegion {
    /// Handles with lists of their own.
    Pool(SharedPool<AnonymousPages>),
    /// Handles with spans of their own.
    Slab(Box<SharedSlab<AnonymousPages>>),
    /// One thread at a time.
    Locked(Mutex<OwnRegion>),
}

impl SharedRegion {
    /// The region for `route`, for the life of the process; none when there is no memory.
    pub(super) fn new(route: &SiteRoute) -> Option<&'static Self> {
        let region = match route.kind {
            RegionKind::Pool if route.sizes[0] < LISTED_BYTES_MAX => {
                Self::Pool(SharedPool::new_in(AnonymousPages, pool_layout(route)?))
            }
            RegionKind::Slab => {
                let bytes = route.capacity_bytes;
                let slab = SharedSlab::new_in(AnonymousPages, bytes, Lines::Packed).ok()?;
                Self::Slab(Box::new(slab))
            }
            _ => Self::Locked(Mutex::new(OwnRegion::new(route))),
        };
        Some(Box::leak(Box::new(region)))
    }

    /// Bytes that the region holds now, and so at most: none of them gives memory back.
    pub(super) fn held_bytes(&self) -> usize {
        match self {
            Self::Pool(pool) => pool.statistics().committed_bytes,
            Self::Slab(slab) => resident(&slab.statistics()),
            Self::Locked(lane) => lane.lock().unwrap_or_else(PoisonError::into_inner).held_bytes(),
        }
    }
}
