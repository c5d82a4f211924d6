//! The cold half of making and ending values: where indices and places come from and go.

use core::cell::Cell;

use heapwright_core::backing::Backing;
use heapwright_core::region_error::AllocError;

use super::areas::Part;
use super::pass::Phase;
use super::pool::CompactingPool;
use super::spot::Spot;
use super::table::{
    AWAY, LISTED, LIVE, NONE, PAGE_TAGS, RETIRED, Record, SPREAD, WHOLE, dead_of, is_live,
    is_reusable,
};

/// Made at once, unless the values are long.
const BATCH: usize = 64;
const BATCH_BYTES: usize = 4 << 10;

impl<T, B: Backing> CompactingPool<T, B> {
    pub(super) fn record(&self, page: u32) -> &Record {
        debug_assert!(page * PAGE_TAGS < self.tag_count.get());
        // SAFETY: written when the page was made.
        unsafe { self.areas.element(Part::Records, page as usize) }
    }

    /// Where the value of an index of a page that is not packed is, if it is not at home.
    pub(super) fn place(&self, index: u32) -> u32 {
        debug_assert!(self.tag(index).get() & AWAY != 0, "V1: {index} is at home");
        // SAFETY: written when the value came to be away.
        unsafe { self.areas.element::<Cell<u32>>(Part::Places, index as usize) }.get()
    }

    /// Notes where the value of `index`, whose page is not packed, is.
    pub(super) fn set_place(&self, index: u32, place: u32) {
        let tag = self.tag(index);
        if place == index {
            return tag.set(tag.get() & !AWAY);
        }
        let places = self.areas.start(Part::Places).cast::<u32>();
        // SAFETY: committed as far as the tags are.
        let at = unsafe { places.add(index as usize) };
        // SAFETY: as above; no reference is held.
        unsafe { at.write(place) };
        tag.set(tag.get() | AWAY);
        self.record(index / PAGE_TAGS).run.set(SPREAD);
    }

    /// Lists a dead index whose home is nobody's: the next value gets both.
    pub(super) fn list(&self, index: u32) {
        let tag = self.tag(index);
        debug_assert!(is_reusable(tag.get()), "V2: {index} cannot be listed");
        tag.set(tag.get() | LISTED);
        self.stocked_count.set(self.stocked_count.get() + 1);
        self.push_free(index);
    }

    /// Gets places for values: `None` if there are some in the list now, else an index that has a
    /// place which is not its home, live.
    ///
    /// # Errors
    /// As `insert`.
    #[cold]
    #[inline(never)]
    pub(super) fn refill(&self) -> Result<Option<(u32, u32)>, AllocError> {
        // During a pass lists are forgotten, and what is made is used at once.
        let is_idle = self.sweep.phase() == Phase::Idle;
        let batch = if is_idle { (BATCH_BYTES / Self::SLOT_BYTES).clamp(1, BATCH) } else { 1 };
        let mut made = [0; BATCH];
        let mut count = 0;
        let mut away = None;
        while count < batch {
            match self.pair() {
                Ok((index, place)) if index == place => {
                    // Taken, so that no other place of this batch gets it.
                    self.tag(index).set(self.tag(index).get() | LISTED);
                    made[count] = index;
                }
                Ok(pair) => {
                    away = Some(pair);
                    break;
                }
                Err(error) if count == 0 => {
                    self.failure_count.set(self.failure_count.get() + 1);
                    return Err(error);
                }
                Err(_) => break,
            }
            count += 1;
        }
        for index in made[..count].iter().rev() {
            self.list(*index);
        }
        Ok(away)
    }

    /// Finds a place that is nobody's and an index for it: at home if that can be, to be listed;
    /// else it is made live here.
    fn pair(&self) -> Result<(u32, u32), AllocError> {
        self.areas.ensure(Self::SLOT_BYTES)?;
        self.locate();
        let place = self.nobodys_place()?;
        let index = match self.home_of(place) {
            Ok(Some(index)) => index,
            Ok(None) => match self.unlisted_index() {
                Ok(index) => index,
                Err(error) => {
                    self.disown(place);
                    return Err(error);
                }
            },
            Err(error) => {
                self.disown(place);
                return Err(error);
            }
        };
        if self.sweep.has_marks() {
            self.mark(place);
        }
        if index != place {
            let tag = self.tag(index);
            tag.set((tag.get() & !LISTED) | LIVE);
            self.set_place(index, place);
            self.next_index.set(index + 1);
        }
        Ok((index, place))
    }

    /// The index of `place`, if a value can be made at home there. Its page is not packed then.
    fn home_of(&self, place: u32) -> Result<Option<u32>, AllocError> {
        while place >= self.tag_count.get() {
            self.add_page()?;
        }
        self.thaw(place / PAGE_TAGS);
        Ok(self.is_unlisted(place).then_some(place))
    }

    /// Whether an index, whose page is not packed, has no value and is in no list.
    fn is_unlisted(&self, index: u32) -> bool {
        let tag = self.tag(index).get();
        is_reusable(tag) && (tag & LISTED == 0 || !self.sweep.has_listed(index / PAGE_TAGS))
    }

    /// A place that is nobody's. It is in no list any more.
    fn nobodys_place(&self) -> Result<u32, AllocError> {
        let orphan = self.orphans.get();
        if orphan != NONE {
            // SAFETY: an orphan's slot holds the next one.
            let next = unsafe { self.slot(orphan).cast::<u32>().read() };
            self.orphans.set(next);
            return Ok(orphan);
        }
        if let Some(hole) = self.sweeping_hole() {
            return Ok(hole);
        }
        let place = self.top.get();
        if place >= self.areas.slots_max() {
            return Err(self.full());
        }
        let count = place as usize + 1;
        self.areas.commit(Part::Slots, count * Self::SLOT_BYTES)?;
        if self.sweep.has_marks() {
            self.extend_marks(place)?;
        }
        self.top.set(place + 1);
        self.place_peak.set(self.place_peak.get().max(place + 1));
        Ok(place)
    }

    /// An index that has no value and is in no list; its page is not packed.
    fn unlisted_index(&self) -> Result<u32, AllocError> {
        let mut index = self.next_index.get();
        loop {
            if index >= self.tag_count.get() {
                self.add_page()?;
            }
            if index.is_multiple_of(PAGE_TAGS) || index == self.next_index.get() {
                self.thaw(index / PAGE_TAGS);
            }
            if self.is_unlisted(index) {
                return Ok(index);
            }
            index += 1;
            self.next_index.set(index);
        }
    }

    /// Makes the table a page longer.
    fn add_page(&self) -> Result<(), AllocError> {
        let count = self.tag_count.get();
        let wanted = count.saturating_add(PAGE_TAGS).min(self.areas.slots_max());
        if wanted == count {
            return Err(self.full());
        }
        let page = count / PAGE_TAGS;
        let bytes = wanted as usize * size_of::<u32>();
        self.areas.commit(Part::Records, (page as usize + 1) * size_of::<Record>())?;
        self.areas.commit(Part::Places, bytes)?;
        self.areas.commit(Part::Free, bytes)?;
        self.areas.commit(Part::Tags, bytes)?;
        let tags = self.areas.start(Part::Tags).cast::<Cell<u32>>();
        for index in count..wanted {
            // SAFETY: committed above.
            let at = unsafe { tags.add(index as usize) };
            // SAFETY: as above; beyond the count, so nobody refers to it.
            unsafe { at.write(Cell::new(0)) };
        }
        let records = self.areas.start(Part::Records).cast::<Record>();
        // SAFETY: committed above.
        let at = unsafe { records.add(page as usize) };
        let record = Record { run: Cell::new(WHOLE), floor: Cell::new(0) };
        // SAFETY: as for the tags.
        unsafe { at.write(record) };
        self.tag_count.set(wanted);
        if self.sweep.phase() == Phase::Idle {
            self.direct_count.set(wanted);
        }
        Ok(())
    }

    fn full(&self) -> AllocError {
        AllocError::Full {
            requested_bytes: size_of::<T>(),
            largest_free_bytes: 0,
            capacity_bytes: self.areas.slots_max() as usize * Self::SLOT_BYTES,
        }
    }

    /// Ends the value of an index, which is at `place`, whatever the pass is at.
    pub(super) fn bury(&self, index: u32, name: u32, spot: Spot<'_>, place: u32) {
        let dead = dead_of(name).unwrap_or(RETIRED);
        match spot {
            Spot::Table(tag) => {
                tag.set(dead);
                self.next_index.set(self.next_index.get().min(index));
            }
            Spot::Run { cell, at, .. } => self.bury_packed(index, cell, at, dead),
        }
        self.disown(place);
        self.check();
    }

    /// Makes a place nobody's: it is listed with its index, or is an orphan, or the pass comes by.
    pub(super) fn disown(&self, place: u32) {
        if self.sweep.has_marks() {
            self.unmark(place);
        }
        let page = place / PAGE_TAGS;
        if place < self.top.get() && self.sweep.has_listed(page) {
            self.list_place(place);
        }
    }

    /// Lists a place below the top, which is nobody's, with its index, or as an orphan.
    pub(super) fn list_place(&self, place: u32) {
        let page = place / PAGE_TAGS;
        let is_whole = place < self.tag_count.get() && self.record(page).packed().is_none();
        if is_whole && is_reusable(self.tag(place).get()) {
            return self.list(place);
        }
        // SAFETY: a slot that is nobody's.
        unsafe { self.slot(place).cast::<u32>().write(self.orphans.get()) };
        self.orphans.set(place);
    }

    /// Whether an index, whose page is not packed, has a value.
    pub(super) fn is_live(&self, index: u32) -> bool {
        is_live(self.tag(index).get())
    }

    /// Walks the invariants: O(indices + places). Empty in release builds.
    pub(super) fn check(&self) {
        #[cfg(test)]
        if self.sweep.checks() {
            self.walk_invariants();
        }
    }
}
