//! The site of this process: from calls of the allocator to its region.

use core::ptr::{NonNull, null_mut};

use heapwright_os::{
    Fd, OpenFlags, Protection, at_fork, env_var, map_shared, page_bytes, read_link, reserve,
};
use heapwright_sync::Lock;
use heapwright_sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use heapwright_unwind::{Registers, modules_unloaded, modules_unloading, refresh_modules};

use crate::lane::{self, Free, FreeLanes, Lane};
use crate::pages::{LANE_BYTES, LANE_BYTES_LOG2, LanePages};
use crate::path::FrameKey;
use crate::recognise::Recognition;
use crate::region::ALIGN_MAX;
use crate::table::{LANE_COUNT, Served, SiteFacts, Table, Verdict};

/// Names the file of the table.
pub const TABLE_VARIABLE: &str = "HEAPWRIGHT_SITE_TABLE";

const RANGE_BYTES: usize = LANE_BYTES * LANE_COUNT;
const PATH_BYTES_MAX: usize = 4096;
/// No program's address is so high; nothing is in a range that begins here.
const NOWHERE: usize = 1 << 63;

/// Where all regions' blocks lie.
static RANGE_START: AtomicUsize = AtomicUsize::new(NOWHERE);
static SERVICE: AtomicPtr<Service> = AtomicPtr::new(null_mut());
static RECOGNITION: Recognition = Recognition::new();

/// A process's site.
pub struct Service {
    table: Table<'static>,
    facts: SiteFacts,
    lanes: NonNull<Lane>,
    lane_stride: usize,
    range: NonNull<u8>,
    free: FreeLanes,
}

// SAFETY: both pointers are to memory that is mapped for good; who touches it is the lanes' affair.
unsafe impl Sync for Service {}
// SAFETY: as above.
unsafe impl Send for Service {}

impl core::fmt::Debug for Service {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Service").field("facts", &self.facts).finish_non_exhaustive()
    }
}

/// Begins to serve, if this process is told of a site and is the one meant. Call it once, from the
/// object's constructor; blocks asked for before stay with the program's allocator.
pub fn start() {
    let Some(service) = env_var(TABLE_VARIABLE).and_then(Service::open) else { return };
    lane::watch_exits();
    refresh_modules();
    at_fork(before_fork, before_fork, in_child);
    service.table.count_process();
    RANGE_START.store(service.range.as_ptr().addr(), Ordering::Relaxed);
    // Release: pairs with the Acquire in `running`.
    SERVICE.store(core::ptr::from_ref(service).cast_mut(), Ordering::Release);
}

unsafe extern "C" fn before_fork() {}

unsafe extern "C" fn in_child() {
    // SAFETY: libc's call in the child, whose only thread was in `fork`.
    unsafe { heapwright_unwind::reset_after_fork() };
}

/// Call right before `dlclose`.
pub fn before_unloading() {
    if Service::running().is_some() {
        modules_unloading();
    }
}

/// Call right after `dlclose`: addresses may come to mean something else.
pub fn after_unloading() {
    if Service::running().is_some() {
        modules_unloaded();
        RECOGNITION.forget();
    }
}

/// A block for a call of the allocator, if that is of the site and its region has one; else null,
/// and the program's allocator serves it.
///
/// # Safety
/// - `caller` is the state of a function of this thread that is still running.
/// - `align` is a power of two, and at least 1.
#[inline(always)]
pub unsafe fn alloc(size: usize, align: usize, caller: Registers) -> *mut u8 {
    let Some(service) = Service::running() else { return null_mut() };
    match RECOGNITION.of_caller(caller.pc, &service.table) {
        Verdict::Other => null_mut(),
        // SAFETY: the caller's promises.
        Verdict::Site => unsafe { service.serve(size, align) },
        // SAFETY: the caller's promises.
        Verdict::Deeper => unsafe { service.look_deeper(size, align, caller) },
    }
}

/// Whether `block` is one of a region.
#[inline(always)]
pub fn is_served(block: *const u8) -> bool {
    block.addr().wrapping_sub(RANGE_START.load(Ordering::Relaxed)) < RANGE_BYTES
}

/// Ends a region's block.
///
/// # Safety
/// - [`is_served`]; the block is live, and nobody uses it any more.
#[inline(always)]
pub unsafe fn free(block: *mut u8) {
    if let (Some(lane), Some(block)) = (Service::lane_of(block), NonNull::new(block)) {
        // SAFETY: the caller's promise; the block's address says whose it is.
        unsafe { lane.free(block) };
    }
}

/// How many bytes of a region's block the program may touch, as far as that is known: at least as
/// many as the site ever asks for.
///
/// # Safety
/// - [`is_served`]; the block is live.
pub unsafe fn usable_bytes(block: *mut u8) -> usize {
    let (Some(lane), Some(block)) = (Service::lane_of(block), NonNull::new(block)) else {
        return 0;
    };
    let (sure, most) = lane.region.room(block);
    if sure != most
        && let Some(service) = Service::running()
    {
        service.table.count_size_asked();
    }
    sure
}

/// Resizes a region's block: a region's again, or by `elsewhere` one of the program's allocator;
/// null, and the block as before, when there is none.
///
/// # Safety
/// - [`is_served`]; the block is live, and after success only what comes back is used.
/// - `elsewhere` gives null or a fresh block of so many bytes.
pub unsafe fn resize(
    block: *mut u8,
    size: usize,
    elsewhere: impl FnOnce(usize) -> *mut u8,
) -> *mut u8 {
    let (Some(lane), Some(old)) = (Service::lane_of(block), NonNull::new(block)) else {
        return null_mut();
    };
    let is_mine = lane.is_mine();
    if is_mine
        // SAFETY: the caller's promise; the owner's call.
        && let Some(resized) = unsafe { lane.region.resize(old, size) }
    {
        return resized.as_ptr();
    }
    let mut new = if is_mine { lane.region.alloc(size, 1) } else { null_mut() };
    if new.is_null() {
        new = elsewhere(size);
    }
    let Some(to) = NonNull::new(new) else { return null_mut() };
    let (_, readable) = lane.region.room(old);
    // SAFETY: two blocks, the new one `size` bytes long, the old one readable so far.
    unsafe { to.copy_from_nonoverlapping(old, size.min(readable)) };
    // SAFETY: the caller gives it up.
    unsafe { lane.free(old) };
    new
}

impl Service {
    /// The service, if this process has one.
    #[inline(always)]
    pub(crate) fn running() -> Option<&'static Self> {
        // Acquire: pairs with the Release in `start`.
        let service = SERVICE.load(Ordering::Acquire);
        // SAFETY: null or what `start` made, for good.
        unsafe { service.as_ref() }
    }

    pub(crate) fn facts(&self) -> SiteFacts {
        self.facts
    }

    pub(crate) fn table(&self) -> &Table<'static> {
        &self.table
    }

    /// # Safety
    /// - As for [`alloc`].
    #[inline(always)]
    unsafe fn serve(&'static self, size: usize, align: usize) -> *mut u8 {
        let lane = Lane::of_thread(self);
        if self.facts.served == Served::Allocator {
            // No more than that: the block's way to the allocator should be any other block's.
            lane.inspect(|lane| lane.count());
            return null_mut();
        }
        let block = match lane {
            // SAFETY: the thread's own lane.
            Some(lane) => unsafe { lane.alloc(size, align) },
            None => null_mut(),
        };
        if block.is_null() {
            self.table.count_refused();
        }
        block
    }

    /// # Safety
    /// - As for [`alloc`].
    #[inline(never)]
    unsafe fn look_deeper(&'static self, size: usize, align: usize, caller: Registers) -> *mut u8 {
        let Some(lane) = Lane::of_thread(self) else { return null_mut() };
        // SAFETY: the thread's own lane, and the only such reference: what recognises does not
        // allocate.
        let known = unsafe { lane.stack() };
        // SAFETY: the caller's promise.
        if unsafe { RECOGNITION.of_stack(caller, known, &self.table) } {
            // SAFETY: the caller's promise.
            unsafe { self.serve(size, align) }
        } else {
            null_mut()
        }
    }

    /// The lane of a region's block.
    #[inline(always)]
    fn lane_of(block: *const u8) -> Option<&'static Lane> {
        let service = Self::running()?;
        let index = (block.addr() - service.range.as_ptr().addr()) >> LANE_BYTES_LOG2;
        debug_assert!(index < LANE_COUNT);
        // SAFETY: in the range, so a lane that was made.
        Some(unsafe { service.place(index).as_ref() })
    }

    /// Where lane number `index` is.
    #[inline(always)]
    fn place(&self, index: usize) -> NonNull<Lane> {
        // SAFETY: below the count, so in the mapping.
        unsafe { self.lanes.byte_add(index * self.lane_stride) }
    }

    /// A lane for the calling thread.
    pub(crate) fn take_lane(&'static self) -> Option<NonNull<Lane>> {
        let (index, is_new) = lane::with_free(&self.free, Free::take)??;
        let place = self.place(index);
        if is_new {
            // SAFETY: below the count of lanes, so in the range.
            let start = unsafe { self.range.add(index << LANE_BYTES_LOG2) };
            // SAFETY: a fresh place of the mapping, which is zero, and this thread's alone.
            unsafe { Lane::make(place, index, LanePages::new(start), self) };
        }
        Some(place)
    }

    /// Takes lane number `index` back from its thread.
    pub(crate) fn give_lane(&self, index: usize) {
        // When the list is not to be had the lane is lost, nothing else.
        lane::with_free(&self.free, |free| free.give(index));
    }

    /// The service that the table at `path` asks for; none if it is for another executable, or
    /// there is no memory.
    fn open(path: &core::ffi::CStr) -> Option<&'static Self> {
        let file = Fd::open(path, OpenFlags::ReadWrite).ok()?;
        let bytes = usize::try_from(file.stat().ok()?.bytes).ok()?;
        let mapping = map_shared(&file, 0, bytes, Protection::ReadWrite).ok()?;
        let words = mapping.start().cast::<AtomicU64>();
        // SAFETY: mapped for good, aligned to a page; the file's words are read and written as
        // atomics only while programs run.
        let words =
            unsafe { core::slice::from_raw_parts(words.as_ptr(), bytes / size_of::<AtomicU64>()) };
        let table = Table::of(words)?;
        let facts = table.facts()?;
        let mut exe = [0; PATH_BYTES_MAX];
        let length = read_link(c"/proc/self/exe", &mut exe).ok()?;
        if FrameKey::of_file(&exe[..length]) != facts.exe {
            return None;
        }
        let lane_stride = size_of::<Lane>().next_multiple_of(page_bytes());
        let lanes = reserve(lane_stride * LANE_COUNT, Protection::ReadWrite).ok()?.cast();
        // Blocks begin at multiples of what they may be aligned to.
        let range = reserve(RANGE_BYTES + ALIGN_MAX, Protection::None).ok()?;
        let free = Lock::new(Free::new());
        let place = reserve(size_of::<Self>(), Protection::ReadWrite).ok()?.cast::<Self>();
        // SAFETY: fresh memory, large enough, aligned to a page.
        unsafe { place.write(Self { table, facts, lanes, lane_stride, range, free }) };
        // SAFETY: written just now, mapped for good, and only shared from here on.
        Some(unsafe { place.as_ref() })
    }
}
