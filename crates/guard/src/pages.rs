//! Rooms of whole pages at addresses that are not used again: a page out of reach before and
//! behind each.
//!
//! The region is cut into steps of 2 MiB. Rooms of up to a quarter of a step lie one behind the
//! other in the current step, each followed by its guard; a larger one gets steps of its own. A
//! step whose rooms are all closed goes back to the kernel with its page tables.
//!
//! # Invariants
//! - I2 (design/safety#I2): a page is open exactly while a room that covers it is; all others
//!   of the region fault.
//! - I3: `live[step]` is the number of open rooms that lie in the step, in part at least or by
//!   their guard, plus one for the current step.

use core::ptr::NonNull;

use heapwright_os::{
    Advice, Protection, address_space_limit_bytes, advise, commit, install_guards, protect,
    release, remove_guards, renew, reserve,
};
use heapwright_sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use crate::record::BlockId;
use crate::table::Table;

/// The kernel's page here; checked at start.
pub(crate) const PAGE_BYTES: usize = 4096;
const STEP_BYTES: usize = 2 << 20;
/// Larger rooms get steps of their own.
const SHARED_BYTES_MAX: usize = STEP_BYTES / 4;
/// Addresses wanted, and the least to work with.
const REGION_BYTES_MAX: usize = 16 << 40;
const REGION_BYTES_MIN: usize = 64 << 20;
/// Of the kernel's limit on mappings, the part for guards that split them.
const MAPPING_COUNT_MAX: usize = 40_000;

const _: () = assert!(REGION_BYTES_MIN.is_multiple_of(STEP_BYTES));

/// How pages are put out of reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Method {
    /// Markers in the page tables.
    Markers = 1,
    /// Protection of mappings, which splits them: within a budget.
    Protect = 2,
}

/// A room, still closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    /// Its first byte.
    pub(crate) home: usize,
    /// Its bytes, whole pages.
    pub(crate) bytes: usize,
}

/// The region.
pub(crate) struct Pages {
    base: AtomicUsize,
    bytes: AtomicUsize,
    method: AtomicU32,
    /// Extra mappings that open rooms cost now.
    split_count: AtomicUsize,
    split_count_max: AtomicUsize,
    /// Times that addresses ran out and were begun anew.
    pub(crate) wrap_count: AtomicUsize,
    owners: Table<AtomicU32>,
    live: Table<AtomicU32>,
}

/// Where the next room comes from; under the heap's lock.
pub(crate) struct Cursor {
    /// Offset of the next free page in the current step, and the step's end.
    next: usize,
    end: usize,
    /// Steps up to here were handed out.
    step: usize,
    /// Whether the current step's pages wait behind markers.
    is_marked: bool,
}

impl Cursor {
    pub(crate) const fn new() -> Self {
        Self { next: 0, end: 0, step: 0, is_marked: false }
    }
}

impl Pages {
    pub(crate) const fn new() -> Self {
        Self {
            base: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            method: AtomicU32::new(0),
            split_count: AtomicUsize::new(0),
            split_count_max: AtomicUsize::new(0),
            wrap_count: AtomicUsize::new(0),
            owners: Table::new(),
            live: Table::new(),
        }
    }

    /// Takes the addresses; false when there are too few to work with. `markers` false forbids
    /// guard markers, as on a kernel without them.
    pub(crate) fn begin(&self, mapping_count_max: usize, markers: bool) -> bool {
        let limit = address_space_limit_bytes().unwrap_or(usize::MAX);
        let mut bytes = REGION_BYTES_MAX;
        let start = loop {
            // The tables take an eighth of a percent more.
            if bytes <= limit / 2
                && let Ok(start) = reserve(bytes, Protection::None)
            {
                break start;
            }
            bytes /= 2;
            if bytes < REGION_BYTES_MIN {
                return false;
            }
        };
        let base = start.as_ptr().expose_provenance().next_multiple_of(STEP_BYTES);
        let bytes = bytes - STEP_BYTES;
        if !self.owners.reserve(bytes / PAGE_BYTES) || !self.live.reserve(bytes / STEP_BYTES) {
            return false;
        }
        let splits = (mapping_count_max / 3 * 2).min(MAPPING_COUNT_MAX);
        self.split_count_max.store(splits, Ordering::Relaxed);
        let method = if markers && has_markers(base) { Method::Markers } else { Method::Protect };
        self.method.store(method as u32, Ordering::Relaxed);
        self.base.store(base, Ordering::Relaxed);
        // Release: pairs with the Acquire in `bytes`; the tables are there.
        self.bytes.store(bytes, Ordering::Release);
        true
    }

    /// Gives the addresses back: there will be no heap, and no room lies in them.
    pub(crate) fn end(&self) {
        // Acquire: pairs with the Release in `begin`.
        let bytes = self.bytes.swap(0, Ordering::Acquire);
        let base: *mut u8 =
            core::ptr::with_exposed_provenance_mut(self.base.load(Ordering::Relaxed));
        if let Some(start) = NonNull::new(base).filter(|_| bytes > 0) {
            // SAFETY: part of the mapping that `begin` made; no room was opened in it. A refusal
            // leaves it reserved.
            let _ = unsafe { release(start, bytes) };
        }
    }

    pub(crate) fn method(&self) -> Method {
        match self.method.load(Ordering::Relaxed) {
            1 => Method::Markers,
            _ => Method::Protect,
        }
    }

    /// The program gives up system calls: markers are not among those that sandboxes know.
    pub(crate) fn forgo_markers(&self) {
        self.method.store(Method::Protect as u32, Ordering::Relaxed);
    }

    /// Whether an address lies in the region.
    #[inline(always)]
    pub(crate) fn holds(&self, address: usize) -> bool {
        // Acquire: pairs with the Release in `begin`.
        address.wrapping_sub(self.base.load(Ordering::Relaxed)) < self.bytes.load(Ordering::Acquire)
    }

    /// The region's addresses.
    pub(crate) fn range(&self) -> (usize, usize) {
        let base = self.base.load(Ordering::Relaxed);
        // Acquire: as in `holds`.
        (base, base + self.bytes.load(Ordering::Acquire))
    }

    fn offset(&self, address: usize) -> usize {
        address - self.base.load(Ordering::Relaxed)
    }

    fn steps(&self) -> usize {
        self.live.len()
    }

    /// The record of the room that the page of `address` belongs to, or whose guard it is; 0 when
    /// there was never one.
    #[inline]
    pub(crate) fn owner(&self, address: usize) -> BlockId {
        if !self.holds(address) {
            return 0;
        }
        let entry = self.owners.get(self.offset(address) / PAGE_BYTES);
        entry.map_or(0, |entry| entry.load(Ordering::Relaxed))
    }

    fn own(&self, room: Room, id: BlockId) {
        let first = self.offset(room.home) / PAGE_BYTES;
        // The guard behind belongs to the room as well.
        for page in first..=first + room.bytes / PAGE_BYTES {
            if let Some(entry) = self.owners.get(page) {
                entry.store(id, Ordering::Relaxed);
            }
        }
    }

    fn add_live(&self, step: usize, count: u32) {
        if let Some(live) = self.live.get(step) {
            live.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// A closed room of `bytes` (whole pages, may be 0) whose end, or whose beginning if it is
    /// `first` that counts, is a multiple of `align_bytes` when that is more than a page. None
    /// when addresses ran out. To be called under the heap's lock.
    pub(crate) fn take(
        &self,
        cursor: &mut Cursor,
        bytes: usize,
        align_bytes: usize,
        id: BlockId,
    ) -> Option<Room> {
        let room = if bytes <= SHARED_BYTES_MAX && align_bytes <= PAGE_BYTES {
            self.take_shared(cursor, bytes)
        } else {
            self.take_steps(cursor, bytes, align_bytes)
        }?;
        self.own(room, id);
        Some(room)
    }

    fn take_shared(&self, cursor: &mut Cursor, bytes: usize) -> Option<Room> {
        // Pages behind markers are not opened by other means.
        let is_other = cursor.is_marked != (self.method() == Method::Markers);
        if cursor.next + bytes + PAGE_BYTES > cursor.end || is_other {
            let step = self.find_steps(cursor, 1)?;
            let old_end = cursor.end;
            if !self.arm(step) {
                return None;
            }
            self.add_live(step, 1);
            cursor.is_marked = self.method() == Method::Markers;
            (cursor.next, cursor.end) = (step * STEP_BYTES, (step + 1) * STEP_BYTES);
            // The first page of a step is the guard before its first room.
            cursor.next += PAGE_BYTES;
            if old_end != 0 {
                self.leave(old_end / STEP_BYTES - 1);
            }
        }
        let home = self.base.load(Ordering::Relaxed) + cursor.next;
        self.add_live(cursor.next / STEP_BYTES, 1);
        cursor.next += bytes + PAGE_BYTES;
        Some(Room { home, bytes })
    }

    fn take_steps(&self, cursor: &mut Cursor, bytes: usize, align_bytes: usize) -> Option<Room> {
        // A guard before and one behind, and addresses to align in.
        let slack = if align_bytes > PAGE_BYTES { align_bytes } else { 0 };
        let all = bytes.checked_add(slack)?.checked_add(2 * PAGE_BYTES)?;
        let count = all.checked_next_multiple_of(STEP_BYTES)? / STEP_BYTES;
        let step = self.find_steps(cursor, count)?;
        let end = self.base.load(Ordering::Relaxed) + (step + count) * STEP_BYTES - PAGE_BYTES;
        let home = (end - bytes) & !(align_bytes.max(PAGE_BYTES) - 1);
        let room = Room { home, bytes };
        for each in self.touched(room) {
            if bytes <= SHARED_BYTES_MAX && !self.arm(each) {
                return None;
            }
            self.add_live(each, 1);
        }
        Some(room)
    }

    /// The steps that a room and its guard lie in.
    fn touched(&self, room: Room) -> core::ops::RangeInclusive<usize> {
        let first = self.offset(room.home);
        first / STEP_BYTES..=(first + room.bytes) / STEP_BYTES
    }

    /// `count` steps in a row with no open room, behind the last ones; from the beginning again
    /// when the end is reached.
    fn find_steps(&self, cursor: &mut Cursor, count: usize) -> Option<usize> {
        let is_free =
            |step: usize| self.live.get(step).is_some_and(|live| live.load(Ordering::Relaxed) == 0);
        for _ in 0..2 {
            let mut first = cursor.step;
            while first + count <= self.steps() {
                match (first..first + count).rev().find(|step| !is_free(*step)) {
                    Some(taken) => first = taken + 1,
                    None => {
                        cursor.step = first + count;
                        return Some(first);
                    }
                }
            }
            cursor.step = 0;
            self.wrap_count.fetch_add(1, Ordering::Relaxed);
        }
        None
    }

    /// Makes a step's pages openable one by one.
    fn arm(&self, step: usize) -> bool {
        if self.method() == Method::Protect {
            return true;
        }
        let Some(start) = self.pointer(self.base.load(Ordering::Relaxed) + step * STEP_BYTES)
        else {
            return false;
        };
        // SAFETY: a step of our region in which no room is open (I3).
        if unsafe { commit(start, STEP_BYTES) }.is_err() {
            return false;
        }
        // SAFETY: as above.
        if unsafe { install_guards(start, STEP_BYTES) }.is_ok() {
            return true;
        }
        // SAFETY: as above.
        let _ = unsafe { protect(start, STEP_BYTES, Protection::None) };
        self.forgo_markers();
        true
    }

    fn pointer(&self, address: usize) -> Option<NonNull<u8>> {
        debug_assert!(self.range().0 <= address && address < self.range().1);
        NonNull::new(core::ptr::with_exposed_provenance_mut(address))
    }

    /// Makes a room usable, all zero. False when the kernel or the budget of mappings does not
    /// allow it; the room is then lost.
    pub(crate) fn open(&self, room: Room) -> bool {
        if room.bytes == 0 {
            return true;
        }
        let Some(start) = self.pointer(room.home) else { return false };
        if room.bytes <= SHARED_BYTES_MAX && self.method() == Method::Markers {
            // SAFETY: the room is ours and closed: nobody uses it.
            if unsafe { remove_guards(start, room.bytes) }.is_ok() {
                return true;
            }
        }
        if self.split_count.fetch_add(2, Ordering::Relaxed) + 2
            > self.split_count_max.load(Ordering::Relaxed)
        {
            self.split_count.fetch_sub(2, Ordering::Relaxed);
            return false;
        }
        // SAFETY: as above.
        let opened = unsafe { commit(start, room.bytes) }.is_ok();
        if !opened {
            self.split_count.fetch_sub(2, Ordering::Relaxed);
        }
        opened
    }

    /// Puts an open room out of reach and gives its memory back. False when the kernel refuses:
    /// the room is then as it was.
    pub(crate) fn close(&self, room: Room) -> bool {
        let Some(start) = self.pointer(room.home) else { return false };
        let small = room.bytes <= SHARED_BYTES_MAX;
        // SAFETY: an open room that its user gave up.
        let is_marked = room.bytes == 0
            || small
                && self.method() == Method::Markers
                && unsafe { install_guards(start, room.bytes) }.is_ok();
        if is_marked {
            self.touched(room).for_each(|step| self.leave(step));
            return true;
        }
        // SAFETY: as above.
        if unsafe { protect(start, room.bytes, Protection::None) }.is_err() {
            return false;
        }
        // SAFETY: as above.
        let _ = unsafe { advise(start, room.bytes, Advice::DontNeed) };
        // Rooms that were opened by markers are not in the count.
        let less = |count: usize| Some(count.saturating_sub(2));
        let _ = self.split_count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        self.touched(room).for_each(|step| self.leave(step));
        true
    }

    /// A room of the step is closed; the last one gives the step back.
    fn leave(&self, step: usize) {
        let Some(live) = self.live.get(step) else { return };
        // AcqRel: whoever takes the count to 0 comes after all the others.
        if live.fetch_sub(1, Ordering::AcqRel) != 1 {
            return;
        }
        if let Some(start) = self.pointer(self.base.load(Ordering::Relaxed) + step * STEP_BYTES) {
            // Each hole between open steps costs a mapping: a refusal costs page tables only.
            // SAFETY: no open room is left in the step (I3), and a new one only comes after the
            // region has been gone through.
            let _ = unsafe { renew(start, STEP_BYTES) };
        }
    }

    /// Makes the page of `address` accessible after an error was told, so that the program goes
    /// on. False when the kernel refuses.
    pub(crate) fn give_way(&self, address: usize) -> bool {
        let Some(start) = self.pointer(address & !(PAGE_BYTES - 1)) else { return false };
        if self.method() == Method::Markers {
            // SAFETY: a page of our region that nobody has a use for.
            let _ = unsafe { remove_guards(start, PAGE_BYTES) };
        }
        // SAFETY: as above.
        unsafe { commit(start, PAGE_BYTES) }.is_ok()
    }
}

/// Whether the kernel knows guard markers: tried on the region's first page.
fn has_markers(base: usize) -> bool {
    let Some(start) = NonNull::new(core::ptr::with_exposed_provenance_mut::<u8>(base)) else {
        return false;
    };
    // SAFETY: the first page of the fresh region, which is never part of a room.
    unsafe { install_guards(start, PAGE_BYTES) }.is_ok()
}

#[cfg(test)]
mod tests {
    use super::{Cursor, Method, PAGE_BYTES, Pages, Room, SHARED_BYTES_MAX, STEP_BYTES};
    use heapwright_os::is_readable;

    fn pages(markers: bool) -> Pages {
        let pages = Pages::new();
        assert!(pages.begin(60_000, markers));
        pages
    }

    fn take(pages: &Pages, cursor: &mut Cursor, bytes: usize, align: usize) -> Room {
        let room = pages.take(cursor, bytes, align, 7).expect("addresses");
        assert!(pages.open(room));
        room
    }

    #[test]
    fn rooms_are_open_between_closed_pages_by_either_method() {
        for markers in [true, false] {
            let pages = pages(markers);
            let mut cursor = Cursor::new();
            for bytes in [PAGE_BYTES, 3 * PAGE_BYTES, SHARED_BYTES_MAX, 5 * STEP_BYTES] {
                let room = take(&pages, &mut cursor, bytes, 16);
                assert!(is_readable(room.home) && is_readable(room.home + bytes - 8));
                assert!(!is_readable(room.home - 8) && !is_readable(room.home + bytes));
                assert_eq!(pages.owner(room.home + bytes), 7, "the guard is the room's");
                assert!(pages.close(room));
                assert!(!is_readable(room.home) && !is_readable(room.home + bytes - 8));
            }
        }
    }

    #[test]
    fn addresses_are_not_used_again() {
        let pages = pages(true);
        let mut cursor = Cursor::new();
        let mut last = 0;
        for round in 0..2000 {
            let room = take(&pages, &mut cursor, (round % 5) * PAGE_BYTES, 16);
            assert!(room.home > last);
            last = room.home + room.bytes;
            assert!(pages.close(room));
        }
    }

    #[test]
    fn alignments_beyond_a_page_are_kept() {
        let pages = pages(true);
        let mut cursor = Cursor::new();
        for shift in 12..24 {
            let room = take(&pages, &mut cursor, PAGE_BYTES, 1 << shift);
            assert!(room.home.is_multiple_of(1 << shift));
            assert!(!is_readable(room.home + PAGE_BYTES) && !is_readable(room.home - 8));
        }
    }

    #[test]
    fn markers_can_be_forgone_in_the_middle() {
        let pages = pages(true);
        let mut cursor = Cursor::new();
        let before = take(&pages, &mut cursor, PAGE_BYTES, 16);
        pages.forgo_markers();
        let after = take(&pages, &mut cursor, PAGE_BYTES, 16);
        assert!(is_readable(before.home) && is_readable(after.home));
        assert!(!is_readable(after.home + PAGE_BYTES));
        assert!(pages.close(before) && pages.close(after));
        assert!(!is_readable(before.home) && !is_readable(after.home));
    }

    #[test]
    fn without_markers_rooms_stay_within_the_budget_of_mappings() {
        let pages = Pages::new();
        assert!(pages.begin(300, false));
        assert_eq!(pages.method(), Method::Protect);
        let mut cursor = Cursor::new();
        let opened = (0..300).filter(|_| {
            let room = pages.take(&mut cursor, PAGE_BYTES, 16, 1).expect("addresses");
            pages.open(room)
        });
        assert_eq!(opened.count(), 100, "two thirds of the mappings, two a room");
    }
}
