//! The cold half of making and ending values: where indices and places come from and go.

use heapwright_core::backing::Backing;
use heapwright_core::region_error::AllocError;

use super::areas::Part;
use super::pass::Phase;
use super::pool::CompactingPool;
use super::table::{Entry, LIVE, Link, NONE, PAGE_ENTRIES, RETIRED, Record};

/// Made at once, unless the values are long.
const BATCH: usize = 64;
const BATCH_BYTES: usize = 4 << 10;

impl<T, B: Backing> CompactingPool<T, B> {
    /// One past the last place in use.
    pub(super) fn end(&self) -> u32 {
        self.top.get().max(self.ceiling.get())
    }

    /// The index that has `place`, which is below [`Self::end`].
    pub(super) fn owner(&self, place: u32) -> u32 {
        debug_assert!(place < self.end());
        // SAFETY: written when the place came into use.
        unsafe { self.areas.element::<core::cell::Cell<u32>>(Part::Owners, place as usize) }.get()
    }

    pub(super) fn set_owner(&self, place: u32, index: u32) {
        let owners = self.areas.start(Part::Owners).cast::<u32>();
        // SAFETY: the owners are committed as far as the places are.
        let at = unsafe { owners.add(place as usize) };
        // SAFETY: as above; no reference is held.
        unsafe { at.write(index) };
    }

    /// The entry of an index that has a place or a value.
    pub(super) fn entry_of(&self, index: u32) -> &Entry {
        let entry = self.entry(index);
        if self.record(index / PAGE_ENTRIES).run.get() == NONE {
            return entry;
        }
        self.find_packed(index).unwrap_or(entry)
    }

    pub(super) fn record(&self, page: u32) -> &Record {
        debug_assert!(page * PAGE_ENTRIES < self.entry_count.get());
        // SAFETY: written when the page was made.
        unsafe { self.areas.element(Part::Records, page as usize) }
    }

    /// Lists a dead index with its place: the next value gets both.
    pub(super) fn list(&self, index: u32, place: u32) {
        // SAFETY: the slot of a dead index, nobody's.
        unsafe { self.slot(place).cast::<Link>().write(self.free.get()) };
        self.free.set(Link::new(index, place));
    }

    /// Lists dead indices with places; the first of them.
    ///
    /// # Errors
    /// As `insert`.
    #[cold]
    #[inline(never)]
    pub(super) fn refill(&self) -> Result<Link, AllocError> {
        if self.sweep.phase() == Phase::Sliding && self.list_holes() {
            return Ok(self.free.get());
        }
        // A pass has dead indices before it that no list knows; what is made now is used at once.
        let is_idle = self.sweep.phase() == Phase::Idle;
        let batch = if is_idle { (BATCH_BYTES / Self::SLOT_BYTES).clamp(1, BATCH) } else { 1 };
        let mut made = [(0, 0); BATCH];
        let mut count = 0;
        while count < batch {
            match self.pair() {
                Ok(pair) => made[count] = pair,
                Err(error) if count == 0 => {
                    self.failure_count.set(self.failure_count.get() + 1);
                    return Err(error);
                }
                Err(_) => break,
            }
            count += 1;
        }
        for (index, place) in made[..count].iter().rev() {
            self.list(*index, *place);
        }
        Ok(self.free.get())
    }

    /// Gives an index that has none a place that has none.
    fn pair(&self) -> Result<(u32, u32), AllocError> {
        self.areas.ensure(Self::SLOT_BYTES)?;
        self.locate();
        let index = self.unpaired_index()?;
        let place = match self.orphans.get() {
            NONE => self.fresh_place()?,
            place => {
                // SAFETY: an orphan's slot holds the next one.
                let next = unsafe { self.slot(place).cast::<u32>().read() };
                self.orphans.set(next);
                place
            }
        };
        self.set_owner(place, index);
        self.entry(index).place.set(place);
        self.next_index.set(index + 1);
        Ok((index, place))
    }

    /// The first index that has neither value nor place. It stays so.
    fn unpaired_index(&self) -> Result<u32, AllocError> {
        let mut index = self.next_index.get();
        loop {
            if index >= self.entry_count.get() {
                self.add_page()?;
            }
            if index.is_multiple_of(PAGE_ENTRIES) || index == self.next_index.get() {
                self.thaw(index / PAGE_ENTRIES);
            }
            let entry = self.entry(index);
            if !entry.is_live() && entry.place.get() == NONE && entry.tag.get() != RETIRED {
                self.next_index.set(index);
                return Ok(index);
            }
            index += 1;
        }
    }

    /// Makes the table a page longer.
    fn add_page(&self) -> Result<(), AllocError> {
        let count = self.entry_count.get();
        let wanted = count.saturating_add(PAGE_ENTRIES).min(self.areas.slots_max());
        if wanted == count {
            return Err(self.full());
        }
        let page = count / PAGE_ENTRIES;
        self.areas.commit(Part::Records, (page as usize + 1) * size_of::<Record>())?;
        self.areas.commit(Part::Entries, wanted as usize * size_of::<Entry>())?;
        let entries = self.areas.start(Part::Entries).cast::<Entry>();
        for index in count..wanted {
            // SAFETY: committed above.
            let at = unsafe { entries.add(index as usize) };
            // SAFETY: as above; beyond the count, so nobody refers to it.
            unsafe { at.write(Entry::new(0, NONE)) };
        }
        let records = self.areas.start(Part::Records).cast::<Record>();
        // SAFETY: committed above.
        let at = unsafe { records.add(page as usize) };
        let record = Record { run: core::cell::Cell::new(NONE), floor: core::cell::Cell::new(0) };
        // SAFETY: as for the entries.
        unsafe { at.write(record) };
        self.entry_count.set(wanted);
        if self.sweep.phase() == Phase::Idle {
            self.direct_count.set(wanted);
        }
        Ok(())
    }

    /// The next place above all that have an index.
    fn fresh_place(&self) -> Result<u32, AllocError> {
        let mut place = self.top.get();
        while place < self.ceiling.get() && self.owner(place) != NONE {
            place += 1;
        }
        if place >= self.areas.slots_max() {
            return Err(self.full());
        }
        let count = place as usize + 1;
        self.areas.commit(Part::Owners, count * size_of::<u32>())?;
        self.areas.commit(Part::Slots, count * Self::SLOT_BYTES)?;
        self.top.set(place + 1);
        self.place_peak.set(self.place_peak.get().max(place + 1));
        Ok(place)
    }

    fn full(&self) -> AllocError {
        AllocError::Full {
            requested_bytes: size_of::<T>(),
            largest_free_bytes: 0,
            capacity_bytes: self.areas.slots_max() as usize * Self::SLOT_BYTES,
        }
    }

    /// Ends an index's value, whatever the pass is at.
    pub(super) fn bury(&self, index: u32, entry: &Entry) {
        let place = entry.place.get();
        if self.record(index / PAGE_ENTRIES).run.get() != NONE {
            self.bury_packed(index);
            self.disown(place);
            return self.check();
        }
        let Some(dead) = entry.tag.get().checked_add(LIVE) else {
            entry.tag.set(RETIRED);
            entry.place.set(NONE);
            self.disown(place);
            return self.check();
        };
        entry.tag.set(dead);
        match self.sweep.phase() {
            // The pass comes by: above, to take the place; below the top, to fill it.
            Phase::Sliding if place >= self.top.get() => self.part(index, place),
            Phase::Sliding if place >= self.sweep.low() => {}
            // The pass comes by, to pack the page or to list the index.
            Phase::Packing(page) if index / PAGE_ENTRIES >= page => {}
            _ => self.list(index, place),
        }
        self.check();
    }

    /// Takes the place of a dead index, which is in no list, away.
    pub(super) fn part(&self, index: u32, place: u32) {
        self.entry(index).place.set(NONE);
        self.set_owner(place, NONE);
        self.next_index.set(self.next_index.get().min(index));
    }

    /// Makes a place nobody's: the next index that needs one gets it, once the pass has been there.
    pub(super) fn disown(&self, place: u32) {
        self.set_owner(place, NONE);
        let is_passed = self.sweep.phase() != Phase::Sliding || place < self.sweep.low();
        if is_passed && place < self.top.get() {
            // SAFETY: a slot that is nobody's.
            unsafe { self.slot(place).cast::<u32>().write(self.orphans.get()) };
            self.orphans.set(place);
        }
    }

    /// Walks the invariants: O(indices + places). Empty in release builds.
    pub(super) fn check(&self) {
        #[cfg(test)]
        if self.sweep.checks() {
            self.walk_invariants();
        }
    }
}
