//! First-class heaps: blocks that any thread allocates and frees, and that can all be destroyed at
//! once.
//!
//! A zone has spans of its own, so destroying it is giving them back, whatever lives in them. It
//! is one lock with free lists behind it: slower than the threads' own heaps (two atomics an
//! operation), and meant for data that dies together or has a budget. Its blocks are freed and
//! resized like all others, and stay in the zone when they are resized.
//!
//! # Invariants
//! design/malloc.md#I8; Z1 and Z2 in `zone_inside`.

use core::alloc::Layout;
use core::fmt;
use core::ptr::NonNull;

use heapwright_sync::Guard;

use crate::alloc::{BLOCK_BYTES_MAX, fits_in_place};
use crate::block::Block;
use crate::descriptor::{Descriptor, LARGE, ZONE};
use crate::free::{free, head_of, usable_bytes};
use crate::nodes::NodeWish;
use crate::pool::{Futex, lock};
use crate::sampling;
use crate::zone_inside::Inside;
use crate::zone_place::{ZonePlace, all_places, place_of};

/// Bytes of a zone's name; the rest is cut off.
const NAME_BYTES_MAX: usize = 32;

/// How a zone is to be. `ZoneOptions::new()` is without limit, name and node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ZoneOptions {
    limit_bytes: usize,
    node: Option<u32>,
    name: [u8; NAME_BYTES_MAX],
    name_bytes: u8,
}

impl ZoneOptions {
    /// Without limit and name, where its threads run.
    pub const fn new() -> Self {
        Self { limit_bytes: usize::MAX, node: None, name: [0; NAME_BYTES_MAX], name_bytes: 0 }
    }

    /// With at most `bytes` of usable bytes in live blocks; beyond, allocations fail.
    #[must_use]
    pub const fn limit(self, bytes: usize) -> Self {
        Self { limit_bytes: bytes, ..self }
    }

    /// With memory of NUMA node `node` as long as it has any, then of the nearest ones. Without
    /// effect on machines with one node.
    #[must_use]
    pub const fn node(self, node: u32) -> Self {
        Self { node: Some(node), ..self }
    }

    /// With a name for reports; of longer ones the first 32 bytes at most are kept.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        let mut bytes = name.len().min(NAME_BYTES_MAX);
        while !name.is_char_boundary(bytes) {
            bytes -= 1;
        }
        self.name[..bytes].copy_from_slice(&name.as_bytes()[..bytes]);
        self.name_bytes = bytes as u8;
        self
    }

    /// The limit in bytes; `usize::MAX` is none.
    pub const fn limit_bytes(&self) -> usize {
        self.limit_bytes
    }

    /// The node asked for.
    pub const fn wished_node(&self) -> NodeWish {
        match self.node {
            Some(node) => NodeWish::Node(node),
            None => NodeWish::Local,
        }
    }

    /// The name; empty for none.
    pub fn as_name(&self) -> &str {
        let bytes = self.name.get(..usize::from(self.name_bytes)).unwrap_or(&[]);
        core::str::from_utf8(bytes).unwrap_or("")
    }
}

impl Default for ZoneOptions {
    fn default() -> Self {
        Self::new()
    }
}

/// What a zone holds, exact at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ZoneStatistics {
    /// Blocks allocated and not freed.
    pub live_count: usize,
    /// Usable bytes of these.
    pub live_bytes: usize,
    /// The most there were.
    pub peak_live_bytes: usize,
    /// Bytes of addresses of its spans and large blocks; pages that were never touched cost
    /// nothing.
    pub held_bytes: usize,
    /// The limit; `usize::MAX` is none.
    pub limit_bytes: usize,
    /// Blocks ever allocated.
    pub allocated_count: u64,
    /// Requests refused.
    pub failure_count: u64,
}

/// Why a zone has no block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ZoneError {
    /// The zone was destroyed.
    Destroyed,
    /// The block would be over the zone's limit.
    OverLimit {
        /// What the block, or its growth, would add.
        usable_bytes: usize,
        /// What is live.
        live_bytes: usize,
        /// The limit.
        limit_bytes: usize,
    },
    /// No more memory, addresses or mappings; or the process's hard limit.
    OutOfMemory {
        /// What was asked for.
        requested_bytes: usize,
    },
}

impl fmt::Display for ZoneError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Destroyed => f.write_str("the heap was destroyed"),
            Self::OverLimit { usable_bytes, live_bytes, limit_bytes } => write!(
                f,
                "{usable_bytes} bytes more than {live_bytes} are over the heap's limit of \
                 {limit_bytes} bytes"
            ),
            Self::OutOfMemory { requested_bytes } => {
                write!(f, "no memory for {requested_bytes} bytes")
            }
        }
    }
}

impl core::error::Error for ZoneError {}

/// A heap of one's own.
///
/// A copyable name: using it after [`Zone::destroy`] is noticed and fails.
#[derive(Clone, Copy)]
pub struct Zone {
    place: &'static ZonePlace,
    id: u64,
}

impl PartialEq for Zone {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Zone {}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Zone").field("id", &self.id).finish()
    }
}

impl Zone {
    /// A zone without blocks; none when there is no memory. One lock; some KiB when it is used.
    pub fn create() -> Option<Self> {
        Self::create_with(ZoneOptions::new())
    }

    /// A zone without blocks; none when there is no memory. One lock; some KiB when it is used.
    pub fn create_with(options: ZoneOptions) -> Option<Self> {
        let (place, id) = lock().take_zone()?;
        place.lock().begin(id, options);
        Some(Self { place, id })
    }

    /// Number of the zone: not 0, and no other zone of the process ever has it.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The zone, as two numbers for a face that has no types: see [`Zone::from_raw`].
    pub fn to_raw(self) -> (*const (), u64) {
        (core::ptr::from_ref(self.place).cast(), self.id)
    }

    /// The zone that [`Zone::to_raw`] told of, which may be destroyed already; none for null.
    ///
    /// # Safety
    /// - `place` is null, or a result of `to_raw` in this process.
    pub unsafe fn from_raw(place: *const (), id: u64) -> Option<Self> {
        // SAFETY: the caller's promise; places live for ever.
        let place = unsafe { place.cast::<ZonePlace>().as_ref() }?;
        Some(Self { place, id })
    }

    /// The zone that the live block at `ptr` belongs to; none for blocks of no zone. O(1).
    ///
    /// # Safety
    /// - `ptr` is null or a live block.
    pub unsafe fn of(ptr: *mut u8) -> Option<Self> {
        let place = zone_place_of(ptr)?;
        let id = place.lock().id;
        Some(Self { place, id })
    }

    /// Where it lives.
    pub(crate) fn place(&self) -> &'static ZonePlace {
        self.place
    }

    /// The zone with that number in that place.
    pub(crate) fn named(place: &'static ZonePlace, id: u64) -> Self {
        Self { place, id }
    }

    fn enter(&self) -> Result<Guard<'static, Inside, Futex>, ZoneError> {
        let inside = self.place.lock();
        if inside.id == self.id { Ok(inside) } else { Err(ZoneError::Destroyed) }
    }

    /// A block for `layout`, from any thread; a unique one also for 0 bytes. Two atomics.
    ///
    /// # Errors
    /// [`ZoneError`]; nothing has changed then.
    pub fn alloc(&self, layout: Layout) -> Result<NonNull<u8>, ZoneError> {
        Ok(self.enter()?.alloc(layout, self.place)?.0)
    }

    /// [`Zone::alloc`] with the first `layout.size()` bytes zero.
    ///
    /// # Errors
    /// As [`Zone::alloc`].
    pub fn alloc_zeroed(&self, layout: Layout) -> Result<NonNull<u8>, ZoneError> {
        let (block, is_zeroed) = self.enter()?.alloc(layout, self.place)?;
        if !is_zeroed {
            // SAFETY: a fresh block of at least that size.
            unsafe { block.write_bytes(0, layout.size()) };
        }
        Ok(block)
    }

    /// Resizes the block at `block`, aligned to `align_bytes` (a power of two), to at least
    /// `bytes`, keeping what fits; from any thread. In place where that can be done.
    ///
    /// # Errors
    /// As [`Zone::alloc`]; the block is as before then. A block that moves is live twice for a
    /// moment, and both count for the limit.
    ///
    /// # Safety
    /// - `block` is a live block of this zone; after success only the result is used.
    pub unsafe fn realloc(
        &self,
        block: NonNull<u8>,
        align_bytes: usize,
        bytes: usize,
    ) -> Result<NonNull<u8>, ZoneError> {
        // SAFETY: the caller's promise.
        let old_bytes = unsafe { usable_bytes(block.as_ptr()) };
        let too_large = ZoneError::OutOfMemory { requested_bytes: bytes };
        let layout = Layout::from_size_align(bytes, align_bytes).map_err(|_| too_large)?;
        let is_aligned = block.addr().get().is_multiple_of(align_bytes);
        let mut inside = self.enter()?;
        if is_aligned && fits_in_place(old_bytes, bytes) {
            return Ok(block);
        }
        let is_large = head_of(block.as_ptr()).is_some_and(|head| is_owned(head, LARGE));
        if is_aligned && is_large && large_stays(bytes) {
            // SAFETY: the caller's promise; both sizes are large.
            if unsafe { inside.resize_large(block, bytes) } {
                return Ok(block);
            }
        }
        let (moved, _) = inside.alloc(layout, self.place)?;
        drop(inside);
        // SAFETY: both blocks are live and different, and hold at least that many bytes.
        unsafe { moved.copy_from_nonoverlapping(block, old_bytes.min(bytes)) };
        // SAFETY: the caller gives the old block up for the new one.
        unsafe { free(block.as_ptr()) };
        Ok(moved)
    }

    /// How many blocks are live.
    ///
    /// # Errors
    /// [`ZoneError::Destroyed`].
    pub fn live_count(&self) -> Result<usize, ZoneError> {
        Ok(self.statistics()?.live_count)
    }

    /// What the zone holds. O(1).
    ///
    /// # Errors
    /// [`ZoneError::Destroyed`].
    pub fn statistics(&self) -> Result<ZoneStatistics, ZoneError> {
        Ok(self.enter()?.statistics())
    }

    /// The options in force.
    ///
    /// # Errors
    /// [`ZoneError::Destroyed`].
    pub fn options(&self) -> Result<ZoneOptions, ZoneError> {
        Ok(self.enter()?.options)
    }

    /// Sets the limit for what is allocated from now on; `usize::MAX` is none.
    ///
    /// # Errors
    /// [`ZoneError::Destroyed`].
    pub fn set_limit(&self, bytes: usize) -> Result<(), ZoneError> {
        let mut inside = self.enter()?;
        inside.options = inside.options.limit(bytes);
        Ok(())
    }

    /// Gives what holds no block back to the pool. O(free slots at hand): microseconds.
    ///
    /// # Errors
    /// [`ZoneError::Destroyed`].
    pub fn trim(&self) -> Result<(), ZoneError> {
        self.enter()?.trim();
        Ok(())
    }

    /// Frees all blocks at once: O(spans and large blocks), not O(blocks).
    ///
    /// # Errors
    /// [`ZoneError::Destroyed`] already.
    ///
    /// # Safety
    /// - Nobody uses a block of the zone any more, nor frees one.
    pub unsafe fn destroy(self) -> Result<(), ZoneError> {
        let mut inside = self.enter()?;
        inside.id = 0;
        inside.give_everything();
        drop(inside);
        lock().keep_zone(self.place);
        Ok(())
    }
}

/// All zones that are there now, in no order; some may be destroyed when they are returned.
pub fn zones() -> impl Iterator<Item = Zone> {
    all_places().filter(|place| !sampling::is_samples(place)).filter_map(|place| {
        let id = place.lock().id;
        (id != 0).then_some(Zone { place, id })
    })
}

fn is_owned(head: &Descriptor, owner: usize) -> bool {
    head.owner.load(heapwright_sync::atomic::Ordering::Relaxed) == owner
}

/// Whether a block of `bytes` is a large one, and no larger than any.
fn large_stays(bytes: usize) -> bool {
    bytes > heapwright_core::size_class::SMALL_BYTES_MAX && bytes <= BLOCK_BYTES_MAX
}

/// The place of the zone that the block at `ptr` belongs to; none for a sample, which lies in a
/// zone of ours and is the default heap's to the program.
fn zone_place_of(ptr: *mut u8) -> Option<&'static ZonePlace> {
    let head = head_of(ptr)?;
    let is_zones = is_owned(head, ZONE) || is_owned(head, LARGE);
    place_of(head).filter(|place| is_zones && !sampling::is_samples(place))
}

/// Whether the live block at `ptr` belongs to a zone.
#[inline]
pub(crate) fn is_in_zone(ptr: *mut u8) -> bool {
    zone_place_of(ptr).is_some()
}

/// Resizes a block of a zone inside the zone; null when that cannot be done.
///
/// # Safety
/// - `ptr` is a live block for which [`is_in_zone`]; after a non-null result only that is used.
pub(crate) unsafe fn realloc(ptr: *mut u8, bytes: usize) -> *mut u8 {
    let (Some(zone), Some(block)) = (
        // SAFETY: the caller's promise.
        unsafe { Zone::of(ptr) },
        NonNull::new(ptr),
    ) else {
        return core::ptr::null_mut();
    };
    let align_bytes = heapwright_core::size_class::QUANTUM_BYTES;
    // SAFETY: the caller's promise.
    let moved = unsafe { zone.realloc(block, align_bytes, bytes) };
    moved.map_or(core::ptr::null_mut(), NonNull::as_ptr)
}

/// Frees `block`, given up by the program, of a zone's span.
pub(crate) fn free_small(head: &'static Descriptor, block: Block) {
    let Some(place) = place_of(head) else { return };
    if !sampling::is_samples(place) {
        give_back(head, block);
        return;
    }
    // Before somebody else can have the address.
    let held = sampling::freed(block);
    give_back(head, block);
    // SAFETY: null, or a place that was held for this block and that nobody has seen.
    unsafe { free(held) };
}

/// [`free_small`] of what nobody is told of.
pub(crate) fn give_back(head: &'static Descriptor, block: Block) {
    if let Some(place) = place_of(head) {
        place.lock().free_small(head, block);
    }
}

/// Takes a large block that is to be freed or moved out of its zone's list, if it has a zone.
pub(crate) fn forget_large(head: &'static Descriptor) {
    debug_assert!(is_owned(head, LARGE));
    if let Some(place) = place_of(head) {
        place.lock().forget_large(head);
    }
}
