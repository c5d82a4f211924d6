//! A region whose misuse is caught: bounds, double and foreign frees, uses after free and reset.
//!
//! Each block has a tag in front and canaries on both sides; dead bytes are poison. Freed blocks
//! wait in a short quarantine, whose poison is looked at when they leave it.
//!
//! # Invariants
//! design/regions.md#C1 to design/regions.md#C3.

use core::alloc::Layout;
use core::cell::Cell;
use core::fmt;
use core::marker::PhantomData;
use core::ptr::NonNull;

use heapwright_core::backing::Backing;
use heapwright_core::region_error::AllocError;
use heapwright_core::region_statistics::{Counts, Figure, RegionStatistics};
use heapwright_sync::atomic::{AtomicUsize, Ordering};

use crate::annotate;
use crate::linear::Linear;
use crate::misuse::{Misuse, report};
use crate::region::Region;

/// What dead bytes are filled with.
const POISON: u8 = 0xdd;
/// What fresh bytes are filled with: not zero, so that a program notices.
const FRESH: u8 = 0xa5;
const CANARY: u8 = 0xc3;
const BACK_BYTES: usize = 16;
const QUARANTINE_COUNT: usize = 16;
const LIVE: usize = 0x6c69_7665_6c69_7665;
const DEAD: usize = 0x6465_6164_6465_6164;

/// Whether a [`Checked`] region checks: a type, so that off costs nothing.
pub trait Checks {
    /// Whether it does.
    const ON: bool;
    /// What it keeps.
    type State: Default;
}

/// Checks everything.
#[derive(Clone, Copy, Debug)]
pub struct On;

/// Checks nothing: a [`Checked`] region is then the region itself, instruction for instruction.
#[derive(Clone, Copy, Debug)]
pub struct Off;

/// A freed block that waits.
#[derive(Clone, Copy, Debug)]
struct Freed {
    block: NonNull<u8>,
    layout: Layout,
}

/// The quarantine, and which region this is.
#[derive(Debug)]
pub struct Quarantine {
    freed: [Cell<Option<Freed>>; QUARANTINE_COUNT],
    next: Cell<usize>,
    region_id: usize,
}

impl Default for Quarantine {
    fn default() -> Self {
        static NEXT_ID: AtomicUsize = AtomicUsize::new(1);
        Self {
            freed: [const { Cell::new(None) }; QUARANTINE_COUNT],
            next: Cell::new(0),
            region_id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
        }
    }
}

impl Checks for On {
    const ON: bool = true;
    type State = Quarantine;
}

impl Checks for Off {
    const ON: bool = false;
    type State = ();
}

/// What stands in front of a block.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct Tag {
    /// `LIVE` or `DEAD`, mixed with the block's address and the region's number.
    state: usize,
    bytes: usize,
    align: usize,
    canary: [u8; 8],
}

const TAG_BYTES: usize = size_of::<Tag>();

/// Region `R`, checked if `P` is [`On`].
///
/// ```should_panic
/// # #[cfg(feature = "os")] {
/// use core::alloc::Layout;
/// use heapwright_regions::{AnonymousPages, Checked, Lines, Region, Slab};
///
/// let slab = Slab::new_in(AnonymousPages, 1 << 20, Lines::Packed).unwrap();
/// let slab: Checked<_> = Checked::new(slab);
/// let layout = Layout::new::<[u8; 10]>();
/// let block = slab.try_alloc_block(layout).unwrap();
/// // SAFETY: wrong: the block is freed twice. That is caught, with a report.
/// unsafe { slab.free_block(block, layout) };
/// // SAFETY: as above.
/// unsafe { slab.free_block(block, layout) };
/// # }
/// # #[cfg(not(feature = "os"))] panic!();
/// ```
/// A block costs 48 bytes more, and every byte of it is written when it is made and when it ends.
/// Under a sanitizer or valgrind, which then see reads of dead bytes too, the same build tells
/// them.
pub struct Checked<R, P: Checks = On> {
    state: P::State,
    region: R,
    policy: PhantomData<P>,
}

impl<R: Region, P: Checks> Checked<R, P> {
    /// Checks `region`, of which no block is live.
    pub fn new(region: R) -> Self {
        Self { state: P::State::default(), region, policy: PhantomData }
    }

    /// The region. Blocks of its own are none of ours.
    pub const fn region(&self) -> &R {
        &self.region
    }
}

/// Bytes in front of a block with alignment `align`.
const fn front_bytes(align: usize) -> usize {
    if align > TAG_BYTES { align } else { TAG_BYTES }
}

/// The layout of a block with its tag and canaries.
fn wide(layout: Layout) -> Result<Layout, AllocError> {
    let too_large = AllocError::TooLarge { requested_bytes: layout.size() };
    let bytes = layout.size().checked_add(front_bytes(layout.align()) + BACK_BYTES);
    let align = layout.align().max(align_of::<Tag>());
    Layout::from_size_align(bytes.ok_or(too_large)?, align).map_err(|_| too_large)
}

/// Offset of the first of `bytes` bytes that is not `value`.
fn first_other(start: NonNull<u8>, bytes: usize, value: u8) -> Option<usize> {
    (0..bytes).find(|offset| {
        // SAFETY: inside the bytes, which callers have.
        let at = unsafe { start.add(*offset) };
        // SAFETY: as above; ours, and written before.
        unsafe { at.read() != value }
    })
}

impl<R: Region> Checked<R, On> {
    fn mixed(&self, state: usize, block: NonNull<u8>) -> usize {
        state ^ block.as_ptr().addr() ^ self.state.region_id.rotate_left(48)
    }

    fn tag_of(block: NonNull<u8>) -> NonNull<Tag> {
        // Of no object yet when the address is a foreign one, so by wrapping arithmetic.
        let tag = block.as_ptr().wrapping_sub(TAG_BYTES).cast();
        NonNull::new(tag).unwrap_or(NonNull::dangling())
    }

    fn alloc_checked(&self, layout: Layout) -> Result<NonNull<u8>, AllocError> {
        let all = wide(layout)?;
        let start = self.region.try_alloc_block(all)?;
        annotate::permit(start, all.size());
        let stale = self.region.stale_bytes(start, all.size());
        if let Some(offset) = first_other(start, stale, POISON) {
            report(Misuse::UseAfterReset { address: start.as_ptr().addr() + offset });
        }
        let front = front_bytes(layout.align());
        // SAFETY: the front of the block.
        unsafe { start.write_bytes(CANARY, front) };
        // SAFETY: `front` bytes into a block that is longer.
        let block = unsafe { start.add(front) };
        // SAFETY: the block's own bytes.
        unsafe { block.write_bytes(FRESH, layout.size()) };
        // SAFETY: behind them are `BACK_BYTES` more.
        let back = unsafe { block.add(layout.size()) };
        // SAFETY: as above.
        unsafe { back.write_bytes(CANARY, BACK_BYTES) };
        let tag = Tag {
            state: self.mixed(LIVE, block),
            bytes: layout.size(),
            align: layout.align(),
            canary: [CANARY; 8],
        };
        // SAFETY: the last bytes of the front, aligned as the block is, to eight at least.
        unsafe { Self::tag_of(block).write(tag) };
        annotate::forbid(start, front);
        annotate::forbid(back, BACK_BYTES);
        annotate::fresh(block, layout.size());
        Ok(block)
    }

    /// Gives a block back after looking at it and around it.
    ///
    /// # Errors
    /// [`Misuse`]; nothing has changed then.
    ///
    /// # Safety
    /// - If `block` is a live block of this region, nobody uses it any more. It may be anything,
    ///   but the 32 bytes before it can be read.
    pub unsafe fn try_free(&self, block: NonNull<u8>, layout: Layout) -> Result<(), Misuse> {
        let address = block.as_ptr().addr();
        let place = Self::tag_of(block);
        if !place.is_aligned() || !readable(place) {
            return Err(Misuse::NoBlock { address });
        }
        annotate::permit(place.cast(), TAG_BYTES);
        // SAFETY: aligned; readable, as the caller promises and, with an operating system, the
        // line above asked.
        let tag = unsafe { place.read() };
        if tag.state == self.mixed(DEAD, block) {
            return Err(Misuse::DoubleFree { address });
        }
        if tag.state != self.mixed(LIVE, block) {
            return Err(Misuse::NoBlock { address });
        }
        if (tag.bytes, tag.align) != (layout.size(), layout.align()) {
            return Err(Misuse::WrongLayout {
                address,
                made_bytes: tag.bytes,
                given_bytes: layout.size(),
            });
        }
        self.look_around(block, layout)?;
        // SAFETY: the tag of a live block of ours, by its state.
        unsafe { place.write(Tag { state: self.mixed(DEAD, block), ..tag }) };
        // SAFETY: the block's bytes, which the caller gave up.
        unsafe { block.write_bytes(POISON, layout.size()) };
        annotate::forbid(block, layout.size());
        annotate::forbid(place.cast(), TAG_BYTES);
        self.detain(Freed { block, layout })
    }

    /// The canaries of a live block.
    fn look_around(&self, block: NonNull<u8>, layout: Layout) -> Result<(), Misuse> {
        let address = block.as_ptr().addr();
        let front = front_bytes(layout.align());
        // SAFETY: the block has so many bytes in front of it (C1).
        let start = unsafe { block.sub(front) };
        annotate::permit(start, front);
        if let Some(offset) = first_other(start, front - TAG_BYTES, CANARY) {
            return Err(Misuse::Underflow { address, distance_bytes: front - offset });
        }
        // SAFETY: inside the tag.
        let last = unsafe { block.sub(8) };
        if let Some(offset) = first_other(last, 8, CANARY) {
            return Err(Misuse::Underflow { address, distance_bytes: 8 - offset });
        }
        // SAFETY: one past the block's bytes, where the canary is (C1).
        let back = unsafe { block.add(layout.size()) };
        annotate::permit(back, BACK_BYTES);
        match first_other(back, BACK_BYTES, CANARY) {
            Some(distance_bytes) => {
                Err(Misuse::Overflow { address, block_bytes: layout.size(), distance_bytes })
            }
            None => Ok(()),
        }
    }

    /// Puts a dead block into the quarantine; the one that waited longest leaves it.
    fn detain(&self, freed: Freed) -> Result<(), Misuse> {
        let next = self.state.next.get();
        self.state.next.set((next + 1) % QUARANTINE_COUNT);
        match self.state.freed[next].replace(Some(freed)) {
            Some(oldest) => self.release(oldest),
            None => Ok(()),
        }
    }

    /// Gives a dead block to the region, after a look at its poison.
    fn release(&self, Freed { block, layout }: Freed) -> Result<(), Misuse> {
        let address = block.as_ptr().addr();
        let front = front_bytes(layout.align());
        // SAFETY: the block has so many bytes in front of it (C1).
        let start = unsafe { block.sub(front) };
        let Ok(all) = wide(layout) else { return Ok(()) };
        annotate::permit(start, all.size());
        let written = first_other(block, layout.size(), POISON);
        // SAFETY: the whole block, dead.
        unsafe { start.write_bytes(POISON, all.size()) };
        // SAFETY: a block of the region with that layout, made by `alloc_checked` and given back
        // once: its tag was live before.
        unsafe { self.region.free_block(start, all) };
        written.map_or(Ok(()), |offset_bytes| Err(Misuse::UseAfterFree { address, offset_bytes }))
    }

    /// Lets every block out of the quarantine.
    ///
    /// # Errors
    /// The first [`Misuse`]; all have left nevertheless.
    pub fn settle(&self) -> Result<(), Misuse> {
        let mut all = Ok(());
        for place in &self.state.freed {
            if let Some(freed) = place.take() {
                all = all.and(self.release(freed));
            }
        }
        all
    }
}

impl<B: Backing, C: Counts, const ALIGN: usize> Checked<Linear<B, C, ALIGN>, On> {
    /// Ends every block, as [`Linear::reset`]; what is written to them from here on is told when
    /// their memory is used again.
    ///
    /// # Panics
    /// If a block in the quarantine was written to.
    pub fn reset(&mut self) {
        let settled = self.settle();
        self.region.reset();
        self.region.poison(POISON);
        if let Err(misuse) = settled {
            report(misuse);
        }
    }
}

/// Whether the tag at `place` can be read.
fn readable(place: NonNull<Tag>) -> bool {
    #[cfg(feature = "os")]
    return heapwright_os::is_readable(place.as_ptr().addr())
        && heapwright_os::is_readable(place.as_ptr().addr() + TAG_BYTES - 8);
    #[cfg(not(feature = "os"))]
    {
        let _ = place;
        true
    }
}

// SAFETY: blocks of the region, or parts of them that do not overlap.
unsafe impl<R: Region> Region for Checked<R, On> {
    fn try_alloc_block(&self, layout: Layout) -> Result<NonNull<u8>, AllocError> {
        let block = self.alloc_checked(layout);
        if block.is_ok() {
            return block;
        }
        // The quarantine may hold what is missing.
        if let Err(misuse) = self.settle() {
            report(misuse);
        }
        self.alloc_checked(layout)
    }

    /// # Panics
    /// With a [`Misuse`].
    unsafe fn free_block(&self, block: NonNull<u8>, layout: Layout) {
        // SAFETY: the caller's promise.
        if let Err(misuse) = unsafe { self.try_free(block, layout) } {
            report(misuse);
        }
    }

    /// Of the region; tags, canaries and the quarantine count as live bytes.
    fn region_statistics(&self) -> RegionStatistics {
        let mut seen = self.region.region_statistics();
        let waiting = self.state.freed.iter().filter(|place| place.get().is_some()).count();
        if let Figure::Exact(count) = seen.live_count {
            seen.live_count = Figure::Exact(count.saturating_sub(waiting));
        }
        seen.live_bytes = seen.live_bytes.value().map_or(Figure::Unknown, Figure::AtMost);
        seen.requested_bytes = seen.requested_bytes.value().map_or(Figure::Unknown, Figure::AtMost);
        seen
    }
}

// SAFETY: the region itself.
unsafe impl<R: Region> Region for Checked<R, Off> {
    #[inline(always)]
    fn try_alloc_block(&self, layout: Layout) -> Result<NonNull<u8>, AllocError> {
        self.region.try_alloc_block(layout)
    }

    #[inline(always)]
    fn try_alloc_block_zeroed(&self, layout: Layout) -> Result<NonNull<u8>, AllocError> {
        self.region.try_alloc_block_zeroed(layout)
    }

    #[inline(always)]
    unsafe fn free_block(&self, block: NonNull<u8>, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { self.region.free_block(block, layout) }
    }

    #[inline(always)]
    unsafe fn resize_block(
        &self,
        block: NonNull<u8>,
        old: Layout,
        new: Layout,
    ) -> Result<NonNull<u8>, AllocError> {
        // SAFETY: the caller's promise.
        unsafe { self.region.resize_block(block, old, new) }
    }

    fn region_statistics(&self) -> RegionStatistics {
        self.region.region_statistics()
    }
}

impl<R: fmt::Debug, P: Checks> fmt::Debug for Checked<R, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checked").field("on", &P::ON).field("region", &self.region).finish()
    }
}
