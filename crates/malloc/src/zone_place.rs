//! Where zones live: places that are made once and used again, and what a fork does with them.

use heapwright_sync::atomic::{AtomicPtr, Ordering};
use heapwright_sync::{Guard, Lock};

use crate::descriptor::Descriptor;
use crate::heap::Heap;
use crate::life::before_shared_lock;
use crate::pool::{Futex, take};
use crate::zone_inside::Inside;

/// Where a zone lives; kept for another one after its end.
pub(crate) struct ZonePlace {
    inside: Lock<Inside, Futex>,
    /// Next in the pool's list of free places; under its lock.
    pub(crate) next: AtomicPtr<ZonePlace>,
    /// Next in the list of all places there ever were.
    next_place: AtomicPtr<ZonePlace>,
}

/// All places there ever were, the latest first.
static PLACES: AtomicPtr<ZonePlace> = AtomicPtr::new(core::ptr::null_mut());

/// All places there ever were, the latest first.
pub(crate) fn all_places() -> impl Iterator<Item = &'static ZonePlace> {
    // Acquire: pairs with the Release in `register`; the place is complete.
    let mut next = PLACES.load(Ordering::Acquire);
    core::iter::from_fn(move || {
        // SAFETY: places live for ever; the last one's link is null.
        let place = unsafe { next.as_ref() }?;
        next = place.next_place.load(Ordering::Relaxed);
        Some(place)
    })
}

/// The place made last.
pub(crate) fn latest_place() -> *const ZonePlace {
    PLACES.load(Ordering::Acquire)
}

/// Locks all places that came after `before`, for a fork; returns the latest.
pub(crate) fn lock_places_after(before: *const ZonePlace) -> *const ZonePlace {
    let latest: *const ZonePlace = PLACES.load(Ordering::Acquire);
    for place in all_places() {
        if core::ptr::eq(place, before) {
            break;
        }
        core::mem::forget(place.lock());
    }
    latest
}

/// In the child of a fork that was not announced: breaks the locks that are held. What is in the
/// zones concerned cannot be destroyed any more.
pub(crate) fn break_locks(me: usize) {
    for place in all_places() {
        if place.inside.break_if_held_by_other(me) {
            place.lock().forget();
        }
    }
}

/// The place of the zone that `head`, whose owner is [`ZONE`](crate::descriptor::ZONE) or a large
/// block's, belongs to; none when it is no zone's.
pub(crate) fn place_of(head: &Descriptor) -> Option<&'static ZonePlace> {
    let place = head.heap.load(Ordering::Relaxed).cast::<ZonePlace>();
    // SAFETY: set by `as_heap` for runs of zones; null for others. Places live for ever.
    unsafe { place.as_ref() }
}

impl ZonePlace {
    pub(crate) const fn new() -> Self {
        Self {
            inside: Lock::new(Inside::new()),
            next: AtomicPtr::new(core::ptr::null_mut()),
            next_place: AtomicPtr::new(core::ptr::null_mut()),
        }
    }

    pub(crate) fn lock(&'static self) -> Guard<'static, Inside, Futex> {
        before_shared_lock();
        take(&self.inside)
    }

    /// The lock itself, for forks.
    pub(crate) fn inside_lock(&self) -> &Lock<Inside, Futex> {
        &self.inside
    }

    /// What the lock guards, for who has locked everything (see `walk`).
    ///
    /// # Safety
    /// - The calling thread holds the lock and keeps no other reference to what it guards.
    pub(crate) unsafe fn inside_locked(&'static self) -> &'static Inside {
        // SAFETY: the caller's promise.
        unsafe { self.inside.value_while_held() }
    }

    /// Adds the place to the list of all; under the pool's lock.
    pub(crate) fn register(&'static self) {
        self.next_place.store(PLACES.load(Ordering::Relaxed), Ordering::Relaxed);
        // Release: pairs with the Acquire in `all_places`.
        PLACES.store(core::ptr::from_ref(self).cast_mut(), Ordering::Release);
    }

    /// As descriptors refer to it.
    pub(crate) fn as_heap(&'static self) -> *mut Heap {
        core::ptr::from_ref(self).cast_mut().cast()
    }
}
