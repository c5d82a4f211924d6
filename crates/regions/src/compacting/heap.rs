//! The heap of blocks of any size.

use core::cell::Cell;
use core::fmt;

use heapwright_core::backing::Backing;
use heapwright_core::region_error::AllocError;
use heapwright_core::region_statistics::{Figure, RegionStatistics};

use super::access::{AccessError, ResizeError};
use super::compaction::Sweep;
use super::header::{GRANULE_BYTES, Header, MOVING, NAMES, NONE, granules_of};
use super::holes::Holes;
use super::memory::Memory;
use super::names::{Found, Names, WHOLE_BYTES};
use crate::pool::Handle;

/// Bytes of a block are a `u32`, and its granules with the header fit one, too.
const BYTES_MAX: usize = u32::MAX as usize - 2 * GRANULE_BYTES;

/// Blocks of any size under handles, in one range of addresses, that may be moved while nobody has
/// them pinned.
///
/// Bytes are reached through [`pin`](Self::pin) and [`pin_mut`](Self::pin_mut). Blocks are aligned
/// to 16 bytes. Each costs 16 bytes in front of it, about 4.5 for its name, and what is missing to
/// a multiple of 16. Memory grows as blocks come, within 1 GiB of addresses of anonymous pages
/// unless a capacity is given, the rest of a buffer, 1 MiB of another allocator; 32 GiB at most.
///
/// A hole that a dead block leaves serves other blocks. What cannot be used that way is won back
/// by [`compact_for`](Self::compact_for), called now and then with the time that a frame or a
/// request can spare, or [`compact`](Self::compact) at once.
///
/// ```
/// # #[cfg(feature = "os")] {
/// use heapwright_regions::{AnonymousPages, CompactingHeap};
///
/// let heap = CompactingHeap::new_in(AnonymousPages);
/// let texts: Vec<_> = (0..1000).map(|_| heap.insert(&[7; 1000])).collect::<Result<_, _>>()?;
/// for (index, text) in texts.iter().enumerate() {
///     if index % 10 != 0 {
///         heap.remove(*text).expect("live, not pinned");
///     }
/// }
/// let before = heap.statistics().committed_bytes;
/// heap.compact();
/// assert!(heap.statistics().committed_bytes < before / 4);
/// assert_eq!(heap.pin(texts[990]).expect("live")[..], [7; 1000]);
/// # }
/// # Ok::<(), heapwright_regions::AllocError>(())
/// ```
/// A block cannot be used after its pin:
/// ```compile_fail,E0716
/// # use heapwright_regions::{AnonymousPages, CompactingHeap};
/// let heap = CompactingHeap::new_in(AnonymousPages);
/// let block = heap.insert(b"text").unwrap();
/// let first = heap.pin(block).unwrap().first();
/// heap.compact();
/// assert_eq!(first, Some(&b't'));
/// ```
/// It is used by one thread at a time:
/// ```compile_fail,E0277
/// # use heapwright_regions::{AnonymousPages, CompactingHeap};
/// fn share(_: impl Sync) {}
/// share(CompactingHeap::new_in(AnonymousPages));
/// ```
pub struct CompactingHeap<B: Backing> {
    pub(super) memory: Memory<B>,
    pub(super) names: Names,
    pub(super) holes: Holes,
    /// One past the last block, in granules.
    pub(super) top: Cell<u32>,
    /// Granules of holes below the top, listed or not.
    pub(super) dead_granules: Cell<u32>,
    pub(super) sweep: Sweep,
    /// Walks under way: nothing moves meanwhile.
    pub(super) walk_count: Cell<u32>,
    live_count: Cell<usize>,
    live_bytes: Cell<usize>,
    peak_bytes: Cell<usize>,
    failure_count: Cell<usize>,
}

// SAFETY: the memory belongs to this value alone, as a `Vec`'s does; guards borrow it, so that it
// does not go to another thread before them.
unsafe impl<B: Backing + Send> Send for CompactingHeap<B> {}

impl<B: Backing> CompactingHeap<B> {
    /// An empty heap. Takes nothing until it is used.
    pub const fn new_in(backing: B) -> Self {
        Self::with_capacity_max(backing, usize::MAX)
    }

    /// An empty heap of at most `bytes_max` bytes, bookkeeping included; it takes that many
    /// addresses at the first use, and memory as blocks come.
    pub const fn with_capacity_max(backing: B, bytes_max: usize) -> Self {
        Self {
            memory: Memory::new(backing, bytes_max),
            names: Names::new(),
            holes: Holes::new(),
            top: Cell::new(0),
            dead_granules: Cell::new(0),
            sweep: Sweep::new(),
            walk_count: Cell::new(0),
            live_count: Cell::new(0),
            live_bytes: Cell::new(0),
            peak_bytes: Cell::new(0),
            failure_count: Cell::new(0),
        }
    }

    /// Live blocks.
    pub fn len(&self) -> usize {
        self.live_count.get()
    }

    /// Whether there is no block.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A block with a copy of `contents`. O(1) and the copy.
    ///
    /// # Errors
    /// [`AllocError::Full`] with the longest free piece if nothing as long is free, however much
    /// is free in all: [`compact`](Self::compact) may help; what the backing says.
    pub fn insert(&self, contents: &[u8]) -> Result<Handle<[u8]>, AllocError> {
        let (handle, place) = self.alloc_uninit(contents.len())?;
        let data = self.memory.data(place);
        // SAFETY: a fresh block of that length, which nobody else has.
        unsafe {
            data.copy_from_nonoverlapping(core::ptr::NonNull::from(contents).cast(), contents.len())
        };
        Ok(handle)
    }

    /// A block of `bytes` zeros.
    ///
    /// # Errors
    /// As [`insert`](Self::insert).
    pub fn insert_zeroed(&self, bytes: usize) -> Result<Handle<[u8]>, AllocError> {
        let (handle, place) = self.alloc_uninit(bytes)?;
        // SAFETY: a fresh block of that length.
        unsafe { self.memory.data(place).write_bytes(0, bytes) };
        Ok(handle)
    }

    /// A block of `bytes`, whose contents the caller writes before anybody pins it, and its place.
    #[inline(always)]
    pub(super) fn alloc_uninit(&self, bytes: usize) -> Result<(Handle<[u8]>, u32), AllocError> {
        if bytes > BYTES_MAX {
            self.failure_count.set(self.failure_count.get() + 1);
            return Err(AllocError::TooLarge { requested_bytes: bytes });
        }
        let granules = granules_of(bytes as u32);
        let place = self.take(granules)?;
        let (index, generation) = match self.names.claim(&self.memory, place) {
            Some(name) => name,
            None => self.claim_slow(place, granules)?,
        };
        // SAFETY: taken above, nobody's.
        unsafe {
            self.memory.write_header(place, Header::block(index, generation, bytes as u32, 0))
        };
        self.live_count.set(self.live_count.get() + 1);
        let live_bytes = self.live_bytes.get() + bytes;
        self.live_bytes.set(live_bytes);
        self.peak_bytes.set(self.peak_bytes.get().max(live_bytes));
        Ok((Handle::of_parts(index, generation), place))
    }

    /// As `claim`, after making room for names. Gives the block back if there is none.
    #[cold]
    fn claim_slow(&self, place: u32, granules: u32) -> Result<(u32, u32), AllocError> {
        let room = self.names.make_room(&self.memory, self.top_bytes());
        let made = room.and_then(|group| self.make_places(group));
        if let Err(error) = made {
            self.put(place, granules);
            return Err(error);
        }
        match self.names.claim(&self.memory, place) {
            Some(name) => Ok(name),
            None => unreachable!("M4: a whole group with room is listed"),
        }
    }

    /// Gives `group` a block for the places of all its indices.
    fn make_places(&self, group: u32) -> Result<(), AllocError> {
        let granules = granules_of(WHOLE_BYTES);
        let place = self.take(granules)?;
        // SAFETY: taken above, nobody's.
        unsafe { self.memory.write_header(place, Header::block(group, NONE, WHOLE_BYTES, NAMES)) };
        // SAFETY: made for that.
        if let Some(old) = unsafe { self.names.make_whole(&self.memory, group, place) } {
            // SAFETY: the group's block of before, which is ours again.
            let granules = unsafe { self.memory.header(old) }.granules();
            self.put(old, granules);
        }
        Ok(())
    }

    /// Ends the block: the handle names nothing any more, and the memory is a hole. O(1).
    ///
    /// # Errors
    /// [`AccessError::Stale`] if the handle names nothing, [`AccessError::InUse`] if it is pinned;
    /// nothing has changed then.
    #[inline]
    pub fn remove(&self, handle: Handle<[u8]>) -> Result<(), AccessError> {
        let found = self.find_to_remove(handle.parts())?;
        // SAFETY: found, so a live block.
        let bytes = unsafe { self.memory.header(found.place) }.length.get();
        self.remove_found(found, bytes);
        Ok(())
    }

    /// A block that nobody has pinned.
    #[inline(always)]
    pub(super) fn find_to_remove(&self, name: (u32, u32)) -> Result<Found<'_>, AccessError> {
        let found = self.names.find(&self.memory, name.0).ok_or(AccessError::Stale)?;
        // SAFETY: the place of a live index (M1).
        let header = unsafe { self.memory.header(found.place) };
        if header.generation.get() != name.1 {
            return Err(AccessError::Stale);
        }
        if header.state.get() != 0 {
            self.settle_unpinned(header.state.get())?;
        }
        Ok(found)
    }

    /// Ends a move that is under way; refuses pins.
    #[cold]
    fn settle_unpinned(&self, state: u32) -> Result<(), AccessError> {
        if state != MOVING {
            return Err(AccessError::InUse);
        }
        self.finish_move();
        Ok(())
    }

    /// Ends a block of `bytes` that nobody has pinned.
    #[inline(always)]
    pub(super) fn remove_found(&self, found: Found<'_>, bytes: u32) {
        if let Some(places) = self.names.give(&self.memory, found) {
            // SAFETY: the group's block, which is ours again.
            let granules = unsafe { self.memory.header(places) }.granules();
            self.put(places, granules);
        }
        self.put(found.place, granules_of(bytes));
        self.live_count.set(self.live_count.get() - 1);
        self.live_bytes.set(self.live_bytes.get() - bytes as usize);
    }

    /// Makes the block `bytes` long; its first bytes are kept, new ones are zero. It may lie
    /// elsewhere then.
    ///
    /// # Errors
    /// As [`remove`](Self::remove) and [`insert`](Self::insert); the block is then as before.
    pub fn resize(&self, handle: Handle<[u8]>, bytes: usize) -> Result<(), ResizeError> {
        let (index, generation) = handle.parts();
        let place = self.find_to_remove((index, generation))?.place;
        if bytes > BYTES_MAX {
            return Err(AllocError::TooLarge { requested_bytes: bytes }.into());
        }
        // SAFETY: found, so a live block.
        let old = unsafe { self.memory.header(place) }.length.get() as usize;
        let (had, wants) = (granules_of(old as u32), granules_of(bytes as u32));
        let mut place = place;
        if wants > had {
            let to = self.take(wants)?;
            let copy = Header::block(index, generation, 0, 0);
            // SAFETY: taken above, nobody's.
            unsafe { self.memory.write_header(to, copy) };
            let (from, into) = (self.memory.data(place), self.memory.data(to));
            // SAFETY: two blocks of at least that length.
            unsafe { into.copy_from_nonoverlapping(from, old) };
            // SAFETY: the block's own index, live in a group with places.
            unsafe { self.names.set_place(&self.memory, index, to) };
            self.put(place, had);
            place = to;
        } else if wants < had {
            self.put(place + wants, had - wants);
        }
        // SAFETY: the block, where it is now.
        unsafe { self.memory.header(place) }.length.set(bytes as u32);
        if bytes > old {
            // SAFETY: inside the block, which is as long.
            let fresh = unsafe { self.memory.data(place).add(old) };
            // SAFETY: as above.
            unsafe { fresh.write_bytes(0, bytes - old) };
        }
        let live_bytes = self.live_bytes.get() - old + bytes;
        self.live_bytes.set(live_bytes);
        self.peak_bytes.set(self.peak_bytes.get().max(live_bytes));
        Ok(())
    }

    /// Where the block with that name is.
    #[inline(always)]
    pub(super) fn find(&self, index: u32, generation: u32) -> Option<u32> {
        let place = self.names.find(&self.memory, index)?.place;
        // SAFETY: the place of a live index (M1).
        let header = unsafe { self.memory.header(place) };
        (header.generation.get() == generation).then_some(place)
    }

    pub(super) fn top_bytes(&self) -> usize {
        self.top.get() as usize * GRANULE_BYTES
    }

    /// `granules` that nobody has, without a header.
    #[inline(always)]
    fn take(&self, granules: u32) -> Result<u32, AllocError> {
        if let Some((place, length)) = self.holes.take(&self.memory, granules) {
            if length > granules {
                // SAFETY: the rest of a hole, which is nobody's.
                unsafe { self.holes.put(&self.memory, place + granules, length - granules) };
            }
            self.dead_granules.set(self.dead_granules.get() - granules);
            return Ok(place);
        }
        self.take_fresh(granules)
    }

    /// From the gap of a sweep that is under way, or above all blocks.
    #[inline(never)]
    fn take_fresh(&self, granules: u32) -> Result<u32, AllocError> {
        if let Some(place) = self.take_gap(granules) {
            self.dead_granules.set(self.dead_granules.get() - granules);
            return Ok(place);
        }
        let place = self.top.get();
        let top_bytes = (place as usize + granules as usize) * GRANULE_BYTES;
        let had = self.memory.ensure().and_then(|()| self.memory.commit_low(top_bytes));
        if let Err(error) = had {
            self.failure_count.set(self.failure_count.get() + 1);
            return Err(match error {
                AllocError::Full { capacity_bytes, .. } => AllocError::Full {
                    requested_bytes: (granules as usize - 1) * GRANULE_BYTES,
                    largest_free_bytes: self.largest_free_bytes(self.memory.ceiling_bytes()),
                    capacity_bytes,
                },
                other => other,
            });
        }
        self.top.set(place + granules);
        Ok(place)
    }

    /// Makes a block's memory a hole.
    #[inline(always)]
    pub(super) fn put(&self, place: u32, granules: u32) {
        self.dead_granules.set(self.dead_granules.get() + granules);
        if place >= self.sweep.from() {
            // The sweep comes by; until then it is in no list (M5).
            // SAFETY: a block's memory that its owner gave up.
            unsafe { self.memory.write_header(place, Header::hole(granules, NONE)) };
        } else {
            // SAFETY: as above.
            unsafe { self.holes.put(&self.memory, place, granules) };
        }
    }

    /// The longest block that could be had if blocks may reach `end_bytes`.
    fn largest_free_bytes(&self, end_bytes: usize) -> usize {
        let above = end_bytes.saturating_sub(self.top_bytes()) / GRANULE_BYTES;
        let hole = self.holes.longest(&self.memory).max(self.gap_granules()) as usize;
        above.max(hole).saturating_sub(1) * GRANULE_BYTES
    }

    /// What the heap holds now. Live bytes are those asked for: there is no other use of a block's
    /// end. O(1), O(holes of the greatest length), and the kernel is asked about the memory.
    pub fn statistics(&self) -> RegionStatistics {
        let low = self.memory.low_bytes().min(self.memory.ceiling_bytes());
        let dead = self.dead_granules.get() as usize * GRANULE_BYTES;
        RegionStatistics {
            live_count: Figure::Exact(self.len()),
            live_bytes: Figure::Exact(self.live_bytes.get()),
            peak_live_bytes: Figure::Exact(self.peak_bytes.get()),
            requested_bytes: Figure::Exact(self.live_bytes.get()),
            reserved_bytes: self.memory.reserved_bytes(),
            committed_bytes: self.memory.committed_bytes(),
            resident_bytes: self.memory.resident_bytes().into(),
            free_bytes: Figure::Exact(dead + low.saturating_sub(self.top_bytes())),
            largest_free_bytes: self.largest_free_bytes(low),
            failure_count: Figure::Exact(self.failure_count.get()),
        }
    }

    /// Walks the invariants: O(blocks). Empty in release builds.
    pub(super) fn check(&self) {
        if !cfg!(debug_assertions) {
            return;
        }
        let (mut place, mut dead, mut live) = (0, self.gap_granules(), 0);
        let mut hole_count = 0;
        while place < self.top.get() {
            if Some(place) == self.gap_start() {
                place += self.gap_granules();
                continue;
            }
            // SAFETY: where the last block ended another begins (M1).
            let header = unsafe { self.memory.header(place) };
            let granules = header.granules();
            if header.state.get() & super::header::DEAD != 0 {
                dead += granules;
                hole_count += usize::from(place < self.sweep.from());
            } else if header.state.get() & NAMES == 0 {
                live += 1;
                let found = self.find(header.owner.get(), header.generation.get());
                assert_eq!(found, Some(place), "M1: a block's name leads elsewhere");
            }
            place += granules;
        }
        assert_eq!(place, self.top.get(), "M1: the last block ends at the top");
        assert_eq!(dead, self.dead_granules.get(), "M6");
        assert_eq!(live, self.len(), "M6: live blocks");
        self.holes.each(&self.memory, |place, _| {
            assert!(place < self.sweep.from(), "M5: a listed hole that the sweep has before it");
            hole_count -= 1;
        });
        assert_eq!(hole_count, 0, "M5: holes that are in no list");
        self.names.check(&self.memory);
    }
}

impl<B: Backing> fmt::Debug for CompactingHeap<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CompactingHeap")
            .field("live_count", &self.live_count)
            .field("live_bytes", &self.live_bytes)
            .field("top_bytes", &self.top_bytes())
            .field("dead_granules", &self.dead_granules)
            .finish_non_exhaustive()
    }
}
