//! A thread's part: its region, and what it knows of its last stack.
//!
//! Each thread that meets the site has a lane of its own, so a region needs no lock. Blocks that
//! other threads free are sent home and ended by the owner before its next block. The lane of a
//! thread that ended, with what is alive in it, is the next new thread's.
//!
//! # Invariants
//! - I1: a lane has one thread at a time, its owner, or none; what others touch of it is the queue
//!   and [`OwnRegion::room`] of a block that they have.
//! - I2: a lane's memory is mapped for good, and zero until the lane is first taken.

use core::cell::UnsafeCell;
use core::ffi::c_void;
use core::ptr::{NonNull, without_provenance_mut};

use heapwright_os::{Futex, ThreadExit, thread_pointer};
use heapwright_sync::atomic::{AtomicU32, AtomicU64, Ordering};
use heapwright_sync::{Link, Lock, RemoteQueue};
use heapwright_unwind::{Memo, Trails};

use crate::pages::LanePages;
use crate::region::OwnRegion;
use crate::service::Service;

mod tls {
    heapwright_os::thread_variable!("heapwright_site_thread_0_1", super::Lane);
}

/// Threads without a lane: one that is about to get it, one that gets none, one that has ended.
const STARTING: *mut Lane = without_provenance_mut(1);
const REFUSED: *mut Lane = without_provenance_mut(2);
const ENDED: *mut Lane = without_provenance_mut(3);
/// Smallest real pointer.
const POINTER_LEAST: usize = 4096;

/// A lane.
#[repr(C, align(64))]
pub(crate) struct Lane {
    pub(crate) region: OwnRegion,
    blocks: &'static AtomicU64,
    index: usize,
    remote: Remote,
    stack: UnsafeCell<StackKnown>,
    pages: LanePages,
}

/// What other threads write, on a line of its own.
#[repr(align(64))]
struct Remote(RemoteQueue);

/// What is known of the owner's last stack.
struct StackKnown {
    memo: Memo,
    trails: Trails,
}

/// Lanes whose thread has ended, and how many were ever made.
pub(crate) struct Free {
    indices: [u16; crate::LANE_COUNT],
    count: usize,
    made: usize,
}

impl Free {
    pub(crate) const fn new() -> Self {
        Self { indices: [0; crate::LANE_COUNT], count: 0, made: 0 }
    }
}

/// Key of libc's call at a thread's end, less one; 0 when there is none.
static EXIT_KEY: AtomicU32 = AtomicU32::new(0);

/// Has lanes given back when their threads end. Call it once, early.
pub(crate) fn watch_exits() {
    if let Some(key) = ThreadExit::new(at_thread_exit) {
        EXIT_KEY.store(key.to_raw() + 1, Ordering::Relaxed);
    }
}

unsafe extern "C" fn at_thread_exit(_value: *mut c_void) {
    let lane = tls::get();
    if lane.addr() < POINTER_LEAST {
        return;
    }
    tls::set(ENDED);
    // SAFETY: a real pointer is this thread's lane, mapped for good (I2).
    let lane = unsafe { &*lane };
    // SAFETY: the owner is here, and is none from now on (I1).
    unsafe { &mut *lane.stack.get() }.memo.change_thread();
    if let Some(service) = Service::running() {
        service.give_lane(lane.index);
    }
}

impl Lane {
    /// The calling thread's lane; none when it gets none.
    #[inline(always)]
    pub(crate) fn of_thread(service: &'static Service) -> Option<&'static Self> {
        let lane = tls::get();
        if lane.addr() >= POINTER_LEAST {
            // SAFETY: a real pointer is this thread's lane, mapped for good (I2).
            return Some(unsafe { &*lane });
        }
        Self::of_thread_slow(lane, service)
    }

    #[cold]
    #[inline(never)]
    fn of_thread_slow(lane: *mut Self, service: &'static Service) -> Option<&'static Self> {
        if !lane.is_null() {
            return None;
        }
        // Arming the key may allocate.
        tls::set(STARTING);
        let Some(lane) = service.take_lane() else {
            tls::set(REFUSED);
            return None;
        };
        if let Some(key) = EXIT_KEY.load(Ordering::Relaxed).checked_sub(1) {
            // SAFETY: made by `watch_exits`.
            unsafe { ThreadExit::from_raw(key) }.arm(lane.as_ptr().cast());
        }
        tls::set(lane.as_ptr());
        // SAFETY: taken for this thread, mapped for good (I2).
        Some(unsafe { lane.as_ref() })
    }

    /// Makes lane number `index` at `place`, with the region that `service` names, over `pages`.
    ///
    /// # Safety
    /// - The place is mapped for good, aligned, large enough and zero, and its memory nobody's.
    pub(crate) unsafe fn make(
        place: NonNull<Self>,
        index: usize,
        pages: LanePages,
        service: &'static Service,
    ) {
        // The stack's half stays as it is: zero is empty, and it is too large to be written.
        // SAFETY: a field of the caller's place.
        let own_pages = unsafe { &raw mut (*place.as_ptr()).pages };
        // SAFETY: as above.
        unsafe { own_pages.write(pages) };
        // SAFETY: written just now, never moved and mapped for good.
        let own_pages: &'static LanePages = unsafe { &*own_pages };
        // SAFETY: a field of the caller's place.
        let region = unsafe { &raw mut (*place.as_ptr()).region };
        // SAFETY: as above.
        unsafe { region.write(OwnRegion::new(service.facts(), own_pages)) };
        // SAFETY: a field of the caller's place.
        let blocks = unsafe { &raw mut (*place.as_ptr()).blocks };
        // SAFETY: as above.
        unsafe { blocks.write(service.table().lane_count(index)) };
        // SAFETY: a field of the caller's place.
        let own_index = unsafe { &raw mut (*place.as_ptr()).index };
        // SAFETY: as above.
        unsafe { own_index.write(index) };
        // SAFETY: a field of the caller's place.
        let remote = unsafe { &raw mut (*place.as_ptr()).remote };
        // SAFETY: as above.
        unsafe { remote.write(Remote(RemoteQueue::new())) };
    }

    /// A block for the site; null when the region has none.
    ///
    /// # Safety
    /// - The calling thread is the owner.
    #[inline(always)]
    pub(crate) unsafe fn alloc(&self, size: usize, align: usize) -> *mut u8 {
        if !self.remote.0.is_empty_hint() {
            self.end_remote();
        }
        self.count();
        self.region.alloc(size, align)
    }

    /// Counts a block of the site; the owner's call.
    #[inline(always)]
    pub(crate) fn count(&self) {
        // Relaxed, and not one step: the owner alone counts here, and is read at the end.
        self.blocks.store(self.blocks.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// Ends the blocks that other threads have freed.
    #[cold]
    #[inline(never)]
    fn end_remote(&self) {
        let mut link = self.remote.0.take();
        while let Some(block) = NonNull::new(link) {
            // SAFETY: in the queue, so a block that nobody uses, with a link.
            link = unsafe { block.read() }.next;
            // SAFETY: freed by who had it; the region is this lane's.
            unsafe { self.region.free(block.cast()) };
        }
    }

    /// Ends `block`: at once if the calling thread is the owner, else when that comes by.
    ///
    /// # Safety
    /// - `block` is a live block of this lane that nobody uses any more.
    #[inline(always)]
    pub(crate) unsafe fn free(&self, block: NonNull<u8>) {
        if self.is_mine() {
            // SAFETY: the caller's promise; the owner's call (I1).
            return unsafe { self.region.free(block) };
        }
        let link = block.as_ptr().cast::<Link>();
        // SAFETY: given up, at least 16 bytes long and aligned to as many. A lane's queue is never
        // closed.
        let _ = unsafe { self.remote.0.push(link, link) };
    }

    /// Whether the calling thread is the owner.
    #[inline(always)]
    pub(crate) fn is_mine(&self) -> bool {
        tls::get() == core::ptr::from_ref(self).cast_mut()
    }

    /// What is known of the owner's last stack.
    ///
    /// # Safety
    /// - The calling thread is the owner, and has no other such reference.
    #[allow(clippy::mut_from_ref, reason = "one owner (I1), one reference (the caller)")]
    pub(crate) unsafe fn stack(&self) -> (&mut Memo, &mut Trails) {
        // SAFETY: the caller's promise.
        let StackKnown { memo, trails } = unsafe { &mut *self.stack.get() };
        (memo, trails)
    }
}

/// Which lanes are free.
pub(crate) type FreeLanes = Lock<Free, Futex>;

/// Tries for the list of free lanes: the child of a fork may find it held by nobody.
const TRIES_MAX: usize = 10_000;

/// Runs `inside` with the list; none when it is not to be had.
pub(crate) fn with_free<R>(free: &FreeLanes, inside: impl FnOnce(&mut Free) -> R) -> Option<R> {
    for _ in 0..TRIES_MAX {
        if let Some(mut list) = free.try_lock(thread_pointer()) {
            return Some(inside(&mut list));
        }
        heapwright_os::yield_now();
    }
    None
}

impl Free {
    /// A lane to use, and whether it has to be made; none when there are no more.
    pub(crate) fn take(&mut self) -> Option<(usize, bool)> {
        if let Some(last) = self.count.checked_sub(1) {
            self.count = last;
            return Some((usize::from(self.indices[last]), false));
        }
        let index = self.made;
        (index < crate::LANE_COUNT).then(|| {
            self.made += 1;
            (index, true)
        })
    }

    /// Takes lane number `index` back.
    pub(crate) fn give(&mut self, index: usize) {
        self.indices[self.count] = index as u16;
        self.count += 1;
    }
}

const _: () = assert!(crate::LANE_COUNT <= u16::MAX as usize);
const _: () = assert!(core::mem::align_of::<Lane>() == 64);
