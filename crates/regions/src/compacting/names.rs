//! Names: which block a handle means, in memory that shrinks with the blocks.
//!
//! 64 indices are a *group*: a record in the directory, and the places of their blocks in a block
//! of the heap, which is moved like any other. A group with few blocks is *packed*: its places are
//! those of live blocks only, and a single one is in the record. What is dead costs a quarter of
//! a byte.

use core::cell::Cell;

use heapwright_core::backing::Backing;
use heapwright_core::region_error::AllocError;

use super::header::{GRANULE_BYTES, NAMES, NONE, granules_of};
use super::memory::Memory;

/// Indices of a group.
pub(super) const GROUP_SLOTS: u32 = u64::BITS;
const GROUP_LOG2: u32 = GROUP_SLOTS.ilog2();
/// Bytes of the places of a whole group.
pub(super) const WHOLE_BYTES: u32 = GROUP_SLOTS * PLACE_BYTES;
const PLACE_BYTES: u32 = size_of::<u32>() as u32;
/// A group with at most so many blocks is packed.
const PACK_MAX: u32 = GROUP_SLOTS / 4;
/// Packed groups are made whole again, instead of new ones, when one in so many is packed.
const PACKED_SHARE: u32 = 4;
/// Bit of `Group::places`: packed.
const PACKED: u32 = 1 << 31;
/// A packed group without blocks.
const NOWHERE: u32 = NONE;
/// More groups would have indices that do not fit 32 bits.
const GROUPS_MAX: u32 = 1 << (u32::BITS - GROUP_LOG2);
/// A generation that no more follow.
pub(super) const LAST_GENERATION: u32 = u32::MAX;

/// A record of the directory.
#[repr(C)]
#[derive(Debug)]
pub(super) struct Group {
    /// Bit `s`: index `s` of the group names a block.
    pub(super) live: Cell<u64>,
    /// The block with the places, and whether it is packed.
    places: Cell<u32>,
    /// The last generation that was given in the group (M3).
    pub(super) generation: Cell<u32>,
}

const _: () = assert!(size_of::<Group>() == GRANULE_BYTES);

impl Group {
    #[inline(always)]
    pub(super) fn is_packed(&self) -> bool {
        self.places.get() & PACKED != 0
    }

    /// The block with the places, if there is one.
    fn block(&self) -> Option<u32> {
        let places = self.places.get();
        (places != NOWHERE && !self.is_alone()).then_some(places & !PACKED)
    }

    /// Packed with one block, whose place is in the record itself.
    fn is_alone(&self) -> bool {
        self.is_packed() && self.live.get().is_power_of_two()
    }

    /// The block with the places is at `place` now.
    pub(super) fn moved_to(&self, place: u32) {
        debug_assert_ne!(self.places.get(), NOWHERE);
        self.places.set(self.places.get() & PACKED | place);
    }

    fn rank(&self, slot: u32) -> u32 {
        (self.live.get() & ((1 << slot) - 1)).count_ones()
    }
}

/// The directory's figures. Records are in [`Memory`], at its end.
#[derive(Debug)]
pub(super) struct Names {
    group_count: Cell<u32>,
    /// The first whole group with a free index; the next is in the header of its places.
    room: Cell<u32>,
    packed_count: Cell<u32>,
    /// Where the search for a packed group goes on.
    search_from: Cell<u32>,
    /// No generation of a dropped group was greater.
    floor: Cell<u32>,
    /// The pass of packing that lists groups now.
    pass: Cell<u16>,
}

/// A live index.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found<'a> {
    group: &'a Group,
    at: u32,
    slot: u32,
    /// The block that it names.
    pub(super) place: u32,
}

impl Names {
    pub(super) const fn new() -> Self {
        Self {
            group_count: Cell::new(0),
            room: Cell::new(NONE),
            packed_count: Cell::new(0),
            search_from: Cell::new(0),
            floor: Cell::new(0),
            pass: Cell::new(0),
        }
    }

    pub(super) fn group_count(&self) -> u32 {
        self.group_count.get()
    }

    #[inline(always)]
    pub(super) fn group<'a, B: Backing>(&self, memory: &'a Memory<B>, group: u32) -> &'a Group {
        debug_assert!(group < self.group_count.get());
        // SAFETY: below the count.
        unsafe { memory.record(group) }
    }

    /// Where the place of the block with that index is kept: a number in the block of the group's
    /// places; none if it is in the record.
    ///
    /// # Safety
    /// - `slot` of `group`, which is packed, is live.
    unsafe fn packed_cell<'a, B: Backing>(
        memory: &'a Memory<B>,
        group: &Group,
        slot: u32,
    ) -> Option<&'a Cell<u32>> {
        let block = group.block()?;
        // SAFETY: inside the block, which has one for each live slot (M2).
        let cell = unsafe { memory.data(block).cast::<Cell<u32>>().add(group.rank(slot) as usize) };
        // SAFETY: written when the group was packed; only cells refer to it.
        Some(unsafe { cell.as_ref() })
    }

    /// The place of a packed group's block.
    ///
    /// # Safety
    /// - As for [`Self::packed_cell`].
    #[cold]
    unsafe fn packed_place<B: Backing>(memory: &Memory<B>, group: &Group, slot: u32) -> u32 {
        // SAFETY: the caller's promise.
        let cell = unsafe { Self::packed_cell(memory, group, slot) };
        cell.map_or(group.places.get() & !PACKED, Cell::get)
    }

    /// The cell with the place of a whole group's block.
    ///
    /// # Safety
    /// - `group` is whole, and `slot` is less than [`GROUP_SLOTS`].
    #[inline(always)]
    unsafe fn cell<'a, B: Backing>(
        memory: &'a Memory<B>,
        group: &Group,
        slot: u32,
    ) -> &'a Cell<u32> {
        debug_assert!(!group.is_packed() && slot < GROUP_SLOTS);
        let places = memory.data(group.places.get()).cast::<Cell<u32>>();
        // SAFETY: one of the 64 of the group's places (M2).
        let cell = unsafe { places.add(slot as usize) };
        // SAFETY: the block of places is zero or written from the beginning; only cells refer to
        // it.
        unsafe { cell.as_ref() }
    }

    /// The block that `index` names, if it names one.
    #[inline(always)]
    pub(super) fn find<'a, B: Backing>(
        &self,
        memory: &'a Memory<B>,
        index: u32,
    ) -> Option<Found<'a>> {
        let at = index >> GROUP_LOG2;
        if at >= self.group_count.get() {
            return None;
        }
        let group = self.group(memory, at);
        let slot = index % GROUP_SLOTS;
        if group.live.get() >> slot & 1 == 0 {
            return None;
        }
        let place = if group.is_packed() {
            // SAFETY: live.
            unsafe { Self::packed_place(memory, group, slot) }
        } else {
            // SAFETY: whole.
            unsafe { Self::cell(memory, group, slot) }.get()
        };
        Some(Found { group, at, slot, place })
    }

    /// Says where the block of a live index is.
    ///
    /// # Safety
    /// - `index` is live.
    #[inline]
    pub(super) unsafe fn set_place<B: Backing>(&self, memory: &Memory<B>, index: u32, place: u32) {
        let group = self.group(memory, index >> GROUP_LOG2);
        let slot = index % GROUP_SLOTS;
        debug_assert!(group.live.get() >> slot & 1 == 1);
        if !group.is_packed() {
            // SAFETY: whole.
            return unsafe { Self::cell(memory, group, slot) }.set(place);
        }
        // SAFETY: the caller's promise: live.
        match unsafe { Self::packed_cell(memory, group, slot) } {
            Some(cell) => cell.set(place),
            None => group.places.set(PACKED | place),
        }
    }

    /// A free index for the block at `place`, with its generation; none if no listed group has
    /// one: [`Self::make_room`].
    #[inline(always)]
    pub(super) fn claim<B: Backing>(&self, memory: &Memory<B>, place: u32) -> Option<(u32, u32)> {
        let at = self.room.get();
        if at == NONE {
            return None;
        }
        let group = self.group(memory, at);
        let live = group.live.get();
        debug_assert!(live != u64::MAX && !group.is_packed(), "a group with room");
        let slot = (!live).trailing_zeros();
        let live = live | 1 << slot;
        group.live.set(live);
        let generation = group.generation.get() + 1;
        group.generation.set(generation);
        // SAFETY: a listed group is whole.
        unsafe { Self::cell(memory, group, slot) }.set(place);
        if live == u64::MAX || generation == LAST_GENERATION {
            // SAFETY: a whole group has its places in a block.
            let header = unsafe { memory.header(group.places.get()) };
            self.room.set(header.generation.get());
        }
        Some((at << GROUP_LOG2 | slot, generation))
    }

    /// A group that has room once its places have a block of [`WHOLE_BYTES`]: a packed one, or a
    /// new one, with `top_bytes` of blocks in use.
    ///
    /// # Errors
    /// As the directory's growth.
    #[cold]
    pub(super) fn make_room<B: Backing>(
        &self,
        memory: &Memory<B>,
        top_bytes: usize,
    ) -> Result<u32, AllocError> {
        let count = self.group_count.get();
        if self.packed_count.get() >= count.div_ceil(PACKED_SHARE).max(1) {
            for step in 0..count {
                let at = (self.search_from.get() + step) % count;
                let group = self.group(memory, at);
                if group.is_packed() && group.generation.get() < LAST_GENERATION {
                    self.search_from.set(at);
                    return Ok(at);
                }
            }
        }
        if count == GROUPS_MAX {
            return Err(AllocError::TooLarge { requested_bytes: usize::MAX });
        }
        memory.grow_high(GRANULE_BYTES, top_bytes)?;
        memory.write_record(
            count,
            Group {
                live: Cell::new(0),
                places: Cell::new(NOWHERE),
                generation: Cell::new(self.floor.get()),
            },
        );
        self.group_count.set(count + 1);
        self.packed_count.set(self.packed_count.get() + 1);
        Ok(count)
    }

    /// Gives `group`, which is packed, the block at `place` for all its places, and lists it. The
    /// block that had them, if any, is the caller's then: its place.
    ///
    /// # Safety
    /// - A block of [`WHOLE_BYTES`] with the group's header is at `place`, and it is nobody's.
    pub(super) unsafe fn make_whole<B: Backing>(
        &self,
        memory: &Memory<B>,
        at: u32,
        place: u32,
    ) -> Option<u32> {
        let group = self.group(memory, at);
        debug_assert!(group.is_packed());
        let old = group.block();
        let cells = memory.data(place).cast::<Cell<u32>>();
        for slot in 0..GROUP_SLOTS {
            let is_live = group.live.get() >> slot & 1 == 1;
            // SAFETY: live, if it is asked.
            let from = if is_live { unsafe { Self::packed_place(memory, group, slot) } } else { 0 };
            // SAFETY: one of the 64 places of the new block.
            let to = unsafe { cells.add(slot as usize) };
            // SAFETY: as above; the caller's block.
            unsafe { to.write(Cell::new(from)) };
        }
        group.places.set(place);
        self.packed_count.set(self.packed_count.get() - 1);
        self.list(memory, at);
        old
    }

    /// Lists a whole group with room.
    fn list<B: Backing>(&self, memory: &Memory<B>, at: u32) {
        let group = self.group(memory, at);
        debug_assert!(!group.is_packed() && group.generation.get() < LAST_GENERATION);
        // SAFETY: a whole group has its places in a block.
        let header = unsafe { memory.header(group.places.get()) };
        header.generation.set(self.room.get());
        header.state.set(NAMES | u32::from(self.pass.get()));
        self.room.set(at);
    }

    /// Gives a live index up. If its group has no block any more and is packed, the block of its
    /// places is the caller's: its place.
    #[inline(always)]
    pub(super) fn give<B: Backing>(&self, memory: &Memory<B>, found: Found<'_>) -> Option<u32> {
        let Found { group, at, slot, .. } = found;
        let live = group.live.get();
        debug_assert!(live >> slot & 1 == 1);
        if group.is_packed() {
            return self.give_packed(memory, group, slot);
        }
        group.live.set(live & !(1 << slot));
        if live == u64::MAX && group.generation.get() < LAST_GENERATION {
            self.list(memory, at);
        }
        None
    }

    #[cold]
    fn give_packed<B: Backing>(&self, memory: &Memory<B>, group: &Group, slot: u32) -> Option<u32> {
        let (live, rank) = (group.live.get(), group.rank(slot));
        let left = live & !(1 << slot);
        let Some(block) = group.block() else {
            group.live.set(left);
            group.places.set(NOWHERE);
            return None;
        };
        let cells = memory.data(block).cast::<u32>();
        // SAFETY: one of the places of live slots.
        let to = unsafe { cells.add(rank as usize) };
        // SAFETY: the next one, or one past the last.
        let from = unsafe { to.add(1) };
        // SAFETY: those behind it, inside the block of the group's places.
        unsafe { from.copy_to(to, (live.count_ones() - rank - 1) as usize) };
        group.live.set(left);
        if !left.is_power_of_two() {
            return None;
        }
        // SAFETY: the place of the only live slot, which is the first now.
        let place = unsafe { cells.read() };
        group.places.set(PACKED | place);
        Some(block)
    }

    /// Begins a pass of packing: no group is listed until the pass has been there.
    pub(super) fn begin_pass(&self) {
        self.pass.set(self.pass.get().wrapping_add(1));
        self.room.set(NONE);
    }

    /// Packs group `at` if it has few blocks, otherwise lists it if it has room. What became free,
    /// as a place and granules, is the caller's.
    pub(super) fn visit<B: Backing>(&self, memory: &Memory<B>, at: u32) -> Option<(u32, u32)> {
        let group = self.group(memory, at);
        let block = group.block().filter(|_| !group.is_packed())?;
        // SAFETY: a whole group has its places in a block.
        let header = unsafe { memory.header(block) };
        let (live, count) = (group.live.get(), group.live.get().count_ones());
        let has_room = live != u64::MAX && group.generation.get() < LAST_GENERATION;
        if has_room && header.state.get() == NAMES | u32::from(self.pass.get()) {
            return None; // Listed since the pass began.
        }
        if count > PACK_MAX {
            if has_room {
                self.list(memory, at);
            }
            return None;
        }
        let cells = memory.data(block).cast::<u32>();
        let mut left = live;
        for to in 0..count {
            // SAFETY: the place of a live slot.
            let from = unsafe { cells.add(left.trailing_zeros() as usize) };
            // SAFETY: as above; `to` is not behind it.
            let to = unsafe { cells.add(to as usize) };
            // SAFETY: written when the slot became live; both inside the block.
            unsafe { from.copy_to(to, 1) };
            left &= left - 1;
        }
        self.packed_count.set(self.packed_count.get() + 1);
        let whole = header.granules();
        if count <= 1 {
            // SAFETY: the first place, written by the loop if there is one.
            let alone = unsafe { cells.cast::<u32>().read() };
            group.places.set(if count == 0 { NOWHERE } else { PACKED | alone });
            return Some((block, whole));
        }
        group.places.set(block | PACKED);
        header.length.set(count * PLACE_BYTES);
        header.state.set(NAMES);
        let kept = granules_of(count * PLACE_BYTES);
        Some((block + kept, whole - kept))
    }

    /// Drops groups at the end of the directory that name nothing.
    pub(super) fn drop_last<B: Backing>(&self, memory: &Memory<B>) {
        while let Some(last) = self.group_count.get().checked_sub(1) {
            let group = self.group(memory, last);
            let generation = group.generation.get();
            if group.live.get() != 0 || !group.is_packed() || generation == LAST_GENERATION {
                return;
            }
            self.floor.set(self.floor.get().max(generation));
            self.group_count.set(last);
            self.packed_count.set(self.packed_count.get() - 1);
            memory.shrink_high(GRANULE_BYTES);
        }
    }

    /// Walks M2 to M4.
    pub(super) fn check<B: Backing>(&self, memory: &Memory<B>) {
        let mut packed = 0;
        for at in 0..self.group_count.get() {
            let group = self.group(memory, at);
            packed += u32::from(group.is_packed());
            let Some(block) = group.block() else {
                let alone = group.is_alone() || group.live.get() == 0;
                assert!(alone, "M2: group {at} has blocks and no places");
                continue;
            };
            // SAFETY: a block that the group has.
            let header = unsafe { memory.header(block) };
            assert_eq!((header.owner.get(), header.state.get() & NAMES), (at, NAMES), "M2");
            let count = if group.is_packed() { group.live.get().count_ones() } else { GROUP_SLOTS };
            assert!(header.length.get() >= count * PLACE_BYTES, "M2: places of group {at}");
        }
        assert_eq!(packed, self.packed_count.get(), "M4");
        let (mut at, mut listed) = (self.room.get(), 0);
        while at != NONE {
            let group = self.group(memory, at);
            assert!(!group.is_packed() && group.live.get() != u64::MAX, "M4: {at} has no room");
            listed += 1;
            assert!(listed <= self.group_count.get(), "M4: a cycle");
            // SAFETY: a whole group has its places in a block.
            at = unsafe { memory.header(group.places.get()) }.generation.get();
        }
    }
}
