//! The linear arena: a cursor that moves up through chunks.
//!
//! # Invariants
//! design/regions.md#L1 to design/regions.md#L8.
//!
//! # Not here
//! Objects (`objects`), scopes and marks (`scope`), destructors (`destructors`), giving memory
//! back (`reset`), looking at all chunks (`inspect`).

use core::alloc::Layout;
use core::cell::Cell;
use core::fmt;
use core::num::NonZero;
use core::ptr::NonNull;

use heapwright_core::backing::Backing;
use heapwright_core::bump::{SMALL_BYTES_MAX, bump, bump_small, rounded};
use heapwright_core::region_error::AllocError;
use heapwright_core::region_statistics::{Counts, NoCounts};

use super::destructors::Destructor;
use crate::chunk::Chunk;
use crate::growth::Use;

/// First chunk where chunks have a price: half a small page of blocks for a small arena.
const CHUNK_BYTES_MIN: usize = 2 << 10;
/// Chunks double up to this; beyond, doubling saves nothing and wastes the last half.
const CHUNK_BYTES_MAX: usize = 1 << 20;

/// Blocks that die together.
///
/// An allocation moves a cursor; freeing is for all at once ([`reset`](Self::reset)), back to a
/// point ([`scope`](Self::scope)), or for the last block. `B` is where memory comes from, `C`
/// what is counted, and every block is aligned to `ALIGN` at least (a power of two, 1 to 4096):
/// types of that alignment or less cost no instruction for it.
///
/// ```
/// # #[cfg(feature = "os")] {
/// use heapwright_regions::{AnonymousPages, Linear};
///
/// let mut arena: Linear<AnonymousPages> = Linear::new();
/// let numbers = arena.alloc_slice_fill_with(3, |index| index * 10);
/// let name = arena.alloc_fmt(format_args!("frame {}", 7));
/// assert_eq!((numbers[2], &*name), (20, "frame 7"));
/// arena.reset();
/// # }
/// ```
///
/// A block does not outlive its arena, nor a reset:
///
/// ```compile_fail,E0502
/// # use heapwright_regions::{AnonymousPages, Linear};
/// let mut arena: Linear<AnonymousPages> = Linear::new();
/// let number = arena.alloc(1);
/// arena.reset();
/// *number = 2;
/// ```
/// ```compile_fail,E0597
/// # use heapwright_regions::{AnonymousPages, Linear};
/// let number = {
///     let arena: Linear<AnonymousPages> = Linear::new();
///     arena.alloc(1)
/// };
/// *number = 2;
/// ```
/// A reference to an arena does not go to another thread; an arena does:
///
/// ```compile_fail,E0277
/// # use heapwright_regions::{AnonymousPages, Linear};
/// let arena: Linear<AnonymousPages> = Linear::new();
/// std::thread::scope(|scope| { scope.spawn(|| { arena.alloc(1); }); });
/// ```
pub struct Linear<B: Backing, C: Counts = NoCounts, const ALIGN: usize = 8> {
    pub(super) cursor: Cell<NonNull<u8>>,
    pub(super) end: Cell<NonNull<u8>>,
    /// Address from which on the current chunk was never written.
    pub(super) high: Cell<usize>,
    /// Address below which no block may grow or come back: the innermost scope's.
    pub(super) floor: Cell<usize>,
    pub(super) first: Cell<Option<NonNull<Chunk>>>,
    pub(super) current: Cell<Option<NonNull<Chunk>>>,
    /// Chunks of one block each, newest first.
    pub(super) oversize: Cell<Option<NonNull<Chunk>>>,
    /// Such chunks whose block died.
    pub(super) spare: Cell<Option<NonNull<Chunk>>>,
    pub(super) destructors: Cell<Option<NonNull<Destructor>>>,
    pub(super) reset_count: Cell<usize>,
    /// Scopes ended since the last reset: counts are upper bounds.
    pub(super) rewound: Cell<bool>,
    pub(super) counts: C,
    pub(super) backing: B,
}

// SAFETY: the chunks belong to this value alone; a block's user holds a borrow of it, which a
// move to another thread cannot have beside it; registered values are `Send`.
unsafe impl<B: Backing + Send, C: Counts + Send, const ALIGN: usize> Send for Linear<B, C, ALIGN> {}

#[cfg(feature = "os")]
impl Linear<heapwright_os::AnonymousPages> {
    /// An arena of anonymous pages. Takes no memory until it is used.
    pub const fn new() -> Self {
        Self::new_in(heapwright_os::AnonymousPages)
    }
}

#[cfg(feature = "os")]
impl Default for Linear<heapwright_os::AnonymousPages> {
    fn default() -> Self {
        Self::new()
    }
}

impl<B: Backing> Linear<B> {
    /// An arena over `backing`. Takes no memory until it is used.
    pub const fn new_in(backing: B) -> Self {
        Self::counted_in(backing, NoCounts)
    }
}

impl<B: Backing, const ALIGN: usize> Linear<B, NoCounts, ALIGN> {
    /// An arena over `backing` whose blocks are aligned to `ALIGN` at least. Takes no memory until
    /// it is used.
    pub const fn aligned_in(backing: B) -> Self {
        Self::counted_in(backing, NoCounts)
    }
}

impl<B: Backing, C: Counts, const ALIGN: usize> Linear<B, C, ALIGN> {
    pub(super) const HEADER_BYTES: usize = Chunk::header_bytes(ALIGN);
    /// Where the cursor is without a chunk; nothing is read or written there.
    pub(super) const NOWHERE: NonNull<u8> = match NonZero::new(ALIGN) {
        Some(address) => NonNull::without_provenance(address),
        None => panic!("ALIGN is 0"),
    };
    const CHECKED: () = assert!(ALIGN.is_power_of_two() && ALIGN <= 4096, "ALIGN");

    /// An arena over `backing` that counts in `counts`. Takes no memory until it is used.
    pub const fn counted_in(backing: B, counts: C) -> Self {
        const { Self::CHECKED };
        Self {
            cursor: Cell::new(Self::NOWHERE),
            end: Cell::new(Self::NOWHERE),
            high: Cell::new(0),
            floor: Cell::new(0),
            first: Cell::new(None),
            current: Cell::new(None),
            oversize: Cell::new(None),
            spare: Cell::new(None),
            destructors: Cell::new(None),
            reset_count: Cell::new(0),
            rewound: Cell::new(false),
            counts,
            backing,
        }
    }

    /// Where memory comes from.
    pub fn backing(&self) -> &B {
        &self.backing
    }

    /// A block of `layout`, uninitialised. A few instructions; at worst a few system calls.
    ///
    /// # Errors
    /// What the backing says, or [`AllocError::TooLarge`].
    #[inline(always)]
    pub fn try_alloc_layout(&self, layout: Layout) -> Result<NonNull<u8>, AllocError> {
        match self.alloc_fast(layout) {
            Some(block) => Ok(block),
            None => self.alloc_slow(layout),
        }
    }

    /// A block of `layout`, uninitialised.
    ///
    /// # Panics
    /// If there is no memory; [`Self::try_alloc_layout`] says so instead.
    #[inline(always)]
    pub fn alloc_layout(&self, layout: Layout) -> NonNull<u8> {
        match self.alloc_fast(layout) {
            Some(block) => block,
            None => self.alloc_slow_or_panic(layout),
        }
    }

    #[inline(always)]
    fn alloc_fast(&self, layout: Layout) -> Option<NonNull<u8>> {
        if layout.size() == 0 {
            // L7: nothing of the arena is touched.
            return Some(dangling(layout));
        }
        let cursor = self.cursor.get();
        let end = self.end.get().as_ptr().addr();
        let placed = bump(cursor.as_ptr().addr(), end, layout, ALIGN)?;
        // SAFETY: by L1 cursor to end is in one chunk, and `bump` stays inside.
        let block = unsafe { cursor.add(placed.skip_bytes) };
        // SAFETY: as above.
        self.cursor.set(unsafe { cursor.add(placed.advance_bytes) });
        self.counts.on_alloc(layout.size(), placed.advance_bytes);
        Some(block)
    }

    /// A place for a `T`, chosen by what is known of it at compile time.
    #[inline(always)]
    fn place_fast<T>(&self) -> Option<NonNull<u8>> {
        let bytes = const { bytes_of::<T>(ALIGN) };
        if size_of::<T>() == 0 || align_of::<T>() > ALIGN || bytes > SMALL_BYTES_MAX {
            return self.alloc_fast(Layout::new::<T>());
        }
        let cursor = self.cursor.get();
        bump_small(cursor.as_ptr().addr(), self.end.get().as_ptr().addr(), bytes)?;
        // SAFETY: by L1 cursor to end is in one chunk, and the sum is not above the end.
        self.cursor.set(unsafe { cursor.add(bytes) });
        self.counts.on_alloc(size_of::<T>(), bytes);
        Some(cursor)
    }

    /// As [`Self::alloc_layout`], for a type.
    #[inline(always)]
    pub(super) fn place<T>(&self) -> NonNull<u8> {
        match self.place_fast::<T>() {
            Some(block) => block,
            None => self.alloc_slow_or_panic(Layout::new::<T>()),
        }
    }

    /// As [`Self::try_alloc_layout`], for a type.
    #[inline(always)]
    pub(super) fn try_place<T>(&self) -> Result<NonNull<u8>, AllocError> {
        match self.place_fast::<T>() {
            Some(block) => Ok(block),
            None => self.alloc_slow(Layout::new::<T>()),
        }
    }

    #[cold]
    #[inline(never)]
    fn alloc_slow_or_panic(&self, layout: Layout) -> NonNull<u8> {
        match self.alloc_slow(layout) {
            Ok(block) => block,
            Err(error) => out_of_memory(error),
        }
    }

    #[cold]
    #[inline(never)]
    fn alloc_slow(&self, layout: Layout) -> Result<NonNull<u8>, AllocError> {
        let result = self.make_room(layout);
        if result.is_err() {
            self.counts.on_failure();
        }
        self.check();
        result
    }

    fn make_room(&self, layout: Layout) -> Result<NonNull<u8>, AllocError> {
        let too_large = AllocError::TooLarge { requested_bytes: layout.size() };
        let slack = if layout.align() > ALIGN { layout.align() } else { 0 };
        let bytes = rounded(layout.size(), ALIGN)
            .and_then(|bytes| bytes.checked_add(slack))
            .filter(|bytes| *bytes <= isize::MAX as usize - Self::HEADER_BYTES)
            .ok_or(too_large)?;
        // What the reservation of this chunk, or a kept chunk, has room for.
        let mut candidate = self.current.get();
        while let Some(at) = candidate {
            let chunk = self.chunk(at);
            let from = if self.current.get() == candidate {
                self.cursor.get().as_ptr().addr() - chunk.at(0).as_ptr().addr()
            } else {
                chunk.used_bytes.set(Self::HEADER_BYTES);
                Self::HEADER_BYTES
            };
            // What cannot be committed here may be there already in the next one.
            if matches!(chunk.extend(&self.backing, from + bytes), Ok(true)) {
                self.enter(at, from);
                return self.alloc_fast(layout).ok_or(too_large);
            }
            candidate = chunk.next.get();
        }
        let last = self.current.get().map_or(0, |at| self.chunk(at).extent.get().reserved_bytes);
        let wanted = last.saturating_mul(2).clamp(CHUNK_BYTES_MIN, CHUNK_BYTES_MAX);
        let least = Self::HEADER_BYTES + bytes;
        let hint = self.backing.reserve_hint(wanted.max(least));
        if hint <= wanted.max(least) && bytes > wanted / 2 {
            return self.alloc_oversize(layout, least);
        }
        let at = Chunk::make(&self.backing, hint, least, ALIGN, Use::InOrder)?;
        self.append(at);
        self.enter(at, Self::HEADER_BYTES);
        self.alloc_fast(layout).ok_or(too_large)
    }

    /// A block in a chunk of its own, so that the arena's next chunk is not twice as large.
    fn alloc_oversize(&self, layout: Layout, bytes: usize) -> Result<NonNull<u8>, AllocError> {
        let at = match self.take_spare(bytes) {
            Some(at) => at,
            None => Chunk::make(&self.backing, bytes, bytes, ALIGN, Use::InOrder)?,
        };
        let chunk = self.chunk(at);
        chunk.next.set(self.oversize.get());
        self.oversize.set(Some(at));
        let start = chunk.at(Self::HEADER_BYTES).as_ptr().addr();
        let skip = start.wrapping_neg() & (layout.align() - 1);
        chunk.used_bytes.set(Self::HEADER_BYTES + skip + layout.size());
        self.counts.on_alloc(layout.size(), layout.size());
        Ok(chunk.at(Self::HEADER_BYTES + skip))
    }

    /// The first spare chunk of `bytes` to twice as many.
    fn take_spare(&self, bytes: usize) -> Option<NonNull<Chunk>> {
        let mut link = &self.spare;
        while let Some(at) = link.get() {
            let chunk = self.chunk(at);
            let has = chunk.extent.get().committed_bytes;
            if has >= bytes && has / 2 <= bytes {
                link.set(chunk.next.get());
                return Some(at);
            }
            link = &chunk.next;
        }
        None
    }

    /// The header at `at`.
    pub(super) fn chunk(&self, at: NonNull<Chunk>) -> &Chunk {
        // SAFETY: every pointer in our lists is that of a header that `Chunk::make` wrote, which
        // stays until the chunk is released, and that takes its pointer off the lists first. No
        // block overlaps it (L2), and it is changed through cells only.
        unsafe { at.as_ref() }
    }

    /// Puts a fresh chunk behind the current one; kept chunks come after it.
    fn append(&self, at: NonNull<Chunk>) {
        match self.current.get() {
            Some(current) => {
                let current = self.chunk(current);
                self.chunk(at).next.set(current.next.get());
                current.next.set(Some(at));
            }
            None => {
                self.chunk(at).next.set(self.first.get());
                self.first.set(Some(at));
            }
        }
    }

    /// Notes in the current chunk how far it is used and was ever written.
    pub(super) fn leave(&self) {
        if let Some(at) = self.current.get() {
            let chunk = self.chunk(at);
            let start = chunk.at(0).as_ptr().addr();
            let used = self.cursor.get().as_ptr().addr() - start;
            chunk.used_bytes.set(used);
            chunk.high_bytes.set(used.max(self.high.get() - start));
        }
    }

    /// Goes on at offset `from` of the chunk at `at`; the current one is left.
    pub(super) fn enter(&self, at: NonNull<Chunk>, from: usize) {
        self.leave();
        let chunk = self.chunk(at);
        if self.current.get() != Some(at) {
            self.floor.set(0);
        }
        self.current.set(Some(at));
        self.cursor.set(chunk.at(from));
        self.end.set(self.reach(chunk));
        self.high.set(chunk.at(chunk.high_bytes.get()).as_ptr().addr());
    }

    /// The last multiple of `ALIGN` at or below the end of `chunk` that the cursor may reach, at
    /// least `SMALL_BYTES_MAX` below the last address (L1).
    fn reach(&self, chunk: &Chunk) -> NonNull<u8> {
        let end = chunk.end().as_ptr().addr();
        let reach = end.min(usize::MAX - SMALL_BYTES_MAX) & !(ALIGN - 1);
        let start = chunk.at(0).as_ptr().addr();
        chunk.at(reach.saturating_sub(start).max(Self::HEADER_BYTES))
    }

    /// Whether the block of `size` bytes at `block` is the last one (L5).
    #[inline]
    pub(super) fn is_last(&self, block: NonNull<u8>, size: usize) -> bool {
        let start = block.as_ptr().addr();
        size > 0
            && start.wrapping_add(size.next_multiple_of(ALIGN)) == self.cursor.get().as_ptr().addr()
            && start >= self.floor.get()
    }

    /// Moves the cursor down to `bytes` below itself; a block ended there.
    #[inline]
    pub(super) fn lower(&self, bytes: usize) {
        let cursor = self.cursor.get();
        self.high.set(self.high.get().max(cursor.as_ptr().addr()));
        // SAFETY: the last block, of our chunk, is that long (L5); provenance is the cursor's
        // (L4).
        self.cursor.set(unsafe { cursor.sub(bytes) });
    }

    /// Ends the block if it is the last one; otherwise its memory waits for the reset. O(1).
    ///
    /// # Safety
    /// - `block` is a live block of this arena with `layout`, and nobody uses it any more.
    #[inline]
    pub unsafe fn dealloc(&self, block: NonNull<u8>, layout: Layout) {
        if self.is_last(block, layout.size()) {
            let bytes = layout.size().next_multiple_of(ALIGN);
            self.lower(bytes);
            self.counts.on_free(layout.size(), bytes);
        }
    }

    /// Makes a block longer, in place if it is the last one and there is room; otherwise its
    /// bytes are copied, and the old ones wait for the reset. The new bytes are uninitialised.
    ///
    /// # Errors
    /// As [`Self::try_alloc_layout`]; the block is then as before.
    ///
    /// # Safety
    /// - `block` is a live block of this arena with layout `old`; if the call succeeds, only the
    ///   returned pointer is used from then on.
    /// - `new.size()` is at least `old.size()`.
    #[inline]
    pub unsafe fn grow(
        &self,
        block: NonNull<u8>,
        old: Layout,
        new: Layout,
    ) -> Result<NonNull<u8>, AllocError> {
        debug_assert!(new.size() >= old.size());
        let aligned = block.as_ptr().addr() & (new.align() - 1) == 0;
        if aligned && self.is_last(block, old.size()) {
            let had = old.size().next_multiple_of(ALIGN);
            let wants = rounded(new.size(), ALIGN)
                .ok_or(AllocError::TooLarge { requested_bytes: new.size() })?;
            if wants - had <= self.room() || self.extend_current(wants - had) {
                let cursor = self.cursor.get();
                // SAFETY: the block is `had` bytes long and ends at the cursor (L5); the pointer
                // has the chunk's provenance (L4).
                let start = unsafe { cursor.sub(had) };
                // SAFETY: there is room for the difference above the cursor.
                self.cursor.set(unsafe { cursor.add(wants - had) });
                self.counts.on_free(old.size(), had);
                self.counts.on_alloc(new.size(), wants);
                return Ok(start);
            }
        }
        let moved = self.try_alloc_layout(new)?;
        // SAFETY: the old block is live, the new one is as long and another one.
        unsafe { moved.copy_from_nonoverlapping(block, old.size()) };
        Ok(moved)
    }

    /// Makes a block shorter; the last one gives its bytes back.
    ///
    /// # Errors
    /// As [`Self::try_alloc_layout`], if the new alignment asks for another place.
    ///
    /// # Safety
    /// - As for [`Self::grow`], with `new.size()` at most `old.size()`.
    #[inline]
    pub unsafe fn shrink(
        &self,
        block: NonNull<u8>,
        old: Layout,
        new: Layout,
    ) -> Result<NonNull<u8>, AllocError> {
        debug_assert!(new.size() <= old.size());
        if block.as_ptr().addr() & (new.align() - 1) != 0 {
            let moved = self.try_alloc_layout(new)?;
            // SAFETY: the old block is live, the new one is shorter and another one.
            unsafe { moved.copy_from_nonoverlapping(block, new.size()) };
            return Ok(moved);
        }
        if self.is_last(block, old.size()) {
            let had = old.size().next_multiple_of(ALIGN);
            let wants = new.size().next_multiple_of(ALIGN);
            self.lower(had - wants);
            self.counts.on_free(old.size(), had);
            if wants > 0 {
                self.counts.on_alloc(new.size(), wants);
            }
        }
        Ok(block)
    }

    #[inline]
    pub(super) fn room(&self) -> usize {
        self.end.get().as_ptr().addr() - self.cursor.get().as_ptr().addr()
    }

    /// Commits more of the current chunk; whether there are `bytes` above the cursor now.
    #[cold]
    #[inline(never)]
    fn extend_current(&self, bytes: usize) -> bool {
        let Some(at) = self.current.get() else { return false };
        let chunk = self.chunk(at);
        let used = self.cursor.get().as_ptr().addr() - chunk.at(0).as_ptr().addr();
        let reach = used.saturating_add(bytes);
        if !matches!(chunk.extend(&self.backing, reach), Ok(true)) {
            return false;
        }
        self.end.set(self.reach(chunk));
        bytes <= self.room()
    }

    /// A block of `layout` that reads as zero; memory that was never written is not cleared again.
    ///
    /// # Errors
    /// As [`Self::try_alloc_layout`].
    pub fn try_alloc_layout_zeroed(&self, layout: Layout) -> Result<NonNull<u8>, AllocError> {
        let block = self.try_alloc_layout(layout)?;
        let start = block.as_ptr().addr();
        let fresh_from = match self.current.get().map(|at| self.chunk(at)) {
            // L2; the block is a new one, so it was above the cursor.
            Some(chunk) if chunk.extent.get().zeroed && chunk.offset_of(start).is_some() => {
                self.high.get().saturating_sub(start).min(layout.size())
            }
            _ => layout.size(),
        };
        // SAFETY: the first bytes of a block of our own.
        unsafe { block.write_bytes(0, fresh_from) };
        Ok(block)
    }
}

const fn bytes_of<T>(unit: usize) -> usize {
    size_of::<T>().next_multiple_of(unit)
}

impl<B: Backing, C: Counts, const ALIGN: usize> fmt::Debug for Linear<B, C, ALIGN> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (cursor, end) = (self.cursor.get(), self.end.get());
        f.debug_struct("Linear").field("cursor", &cursor).field("end", &end).finish_non_exhaustive()
    }
}

/// A pointer for a block of no bytes.
pub(super) const fn dangling(layout: Layout) -> NonNull<u8> {
    match NonZero::new(layout.align()) {
        Some(address) => NonNull::without_provenance(address),
        None => NonNull::dangling(),
    }
}

/// The end of the infallible forms.
#[cold]
#[inline(never)]
pub(super) fn out_of_memory(error: AllocError) -> ! {
    panic!("no memory from the region: {error}")
}
