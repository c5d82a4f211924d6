//! One extent in seven parts, each used from its start.

use core::cell::Cell;
use core::ops::Range;
use core::ptr::NonNull;

use heapwright_core::backing::{Backing, Extent, Purge};
use heapwright_core::bump::align_up;
use heapwright_core::region_error::AllocError;

use super::packed::{CELL_BYTES, RUN_SHARE_BYTES};
use super::table::{PAGE_TAGS, Record};
use crate::compacting::addresses::Wanted;

/// An area commits an eighth of what it has, between these.
const COMMIT_BYTES_MIN: usize = 16 << 10;
const COMMIT_BYTES_MAX: usize = 4 << 20;
const COMMIT_SHARE_LOG2: u32 = 3;
/// Places and indices are below this, and offsets of runs, too.
const SLOTS_MAX: usize = 1 << 31;

/// What an area holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// The values.
    Slots,
    /// A tag for each index.
    Tags,
    /// Where the values are that are not at home: by index, on pages that need it.
    Places,
    /// A record for each page of the table.
    Records,
    /// A bit for each place that has a value: during a pass only.
    Marks,
    /// The listed indices: a stack.
    Free,
    /// Tags and places of pages that are packed.
    Runs,
}

const PART_COUNT: usize = 7;

#[derive(Debug)]
struct Area {
    /// Offset in the extent.
    from: Cell<usize>,
    reserved_bytes: Cell<usize>,
    /// From the area's start.
    committed_bytes: Cell<usize>,
}

impl Area {
    const fn new() -> Self {
        Self { from: Cell::new(0), reserved_bytes: Cell::new(0), committed_bytes: Cell::new(0) }
    }
}

/// The memory of a pool.
#[derive(Debug)]
pub(super) struct Areas<B: Backing> {
    extent: Cell<Option<Extent>>,
    areas: [Area; PART_COUNT],
    bytes_max: usize,
    /// Slots, and indices, that there can be.
    slots_max: Cell<u32>,
    /// The backing takes nothing back before the end.
    keeps: Cell<bool>,
    backing: B,
}

impl<B: Backing> Areas<B> {
    pub(super) const fn new(backing: B, bytes_max: usize) -> Self {
        Self {
            extent: Cell::new(None),
            areas: [const { Area::new() }; PART_COUNT],
            bytes_max,
            slots_max: Cell::new(0),
            keeps: Cell::new(false),
            backing,
        }
    }

    /// Slots, and indices, that there can be; 0 before [`Self::ensure`].
    pub(super) fn slots_max(&self) -> u32 {
        self.slots_max.get()
    }

    fn step_bytes(&self) -> usize {
        self.extent.get().map_or(1, |extent| extent.step_bytes)
    }

    /// Whether parts of the table may go back while the rest stays.
    pub(super) fn purges(&self) -> bool {
        let page_bytes = PAGE_TAGS as usize * size_of::<u32>();
        !self.keeps.get()
            && self.area(Part::Runs).reserved_bytes.get() > 0
            && page_bytes.is_multiple_of(self.step_bytes())
    }

    /// Takes the addresses, if that was not done, for slots of `slot_bytes`.
    ///
    /// # Errors
    /// The backing's; [`AllocError::TooLarge`] if not one slot fits.
    pub(super) fn ensure(&self, slot_bytes: usize) -> Result<(), AllocError> {
        if self.extent.get().is_some() {
            return Ok(());
        }
        let least = slot_bytes + 384;
        let wanted = Wanted { bytes_max: self.bytes_max, least, most: usize::MAX };
        let (extent, bytes) = wanted.reserve(&self.backing)?;
        let step = extent.step_bytes.max(size_of::<u64>());
        let whole = extent.reserved_bytes.min(bytes.max(extent.step_bytes)) & !(step - 1);
        if !self.divide(whole, step, slot_bytes, &extent) {
            // SAFETY: the extent, once; nothing of it was used.
            unsafe { self.backing.release(extent) };
            return Err(AllocError::TooLarge { requested_bytes: slot_bytes });
        }
        self.extent.set(Some(extent));
        Ok(())
    }

    /// Cuts `whole` bytes into areas; false if there is not room for a slot.
    fn divide(&self, whole: usize, step: usize, slot_bytes: usize, extent: &Extent) -> bool {
        // What comes committed does not go back, so nothing is ever packed there.
        let run_bytes = if extent.committed_bytes < whole { RUN_SHARE_BYTES } else { 0 };
        let fixed = PART_COUNT * step + size_of::<Record>() + size_of::<u64>();
        let each = slot_bytes + 3 * size_of::<u32>() + run_bytes;
        let page = PAGE_TAGS as usize;
        let page_bytes = each
            .saturating_mul(page)
            .saturating_add(size_of::<Record>() + page / u8::BITS as usize);
        let count = whole.saturating_sub(fixed).saturating_mul(page) / page_bytes;
        let count = count.min(SLOTS_MAX);
        if count == 0 {
            return false;
        }
        let pages = count.div_ceil(page);
        let wanted = [
            count * slot_bytes,
            count * size_of::<u32>(),
            count * size_of::<u32>(),
            pages * size_of::<Record>(),
            count.div_ceil(u64::BITS as usize) * size_of::<u64>(),
            count * size_of::<u32>(),
            0,
        ];
        let mut from = 0;
        for (area, bytes) in self.areas.iter().zip(wanted) {
            let rounded = align_up(bytes, step).unwrap_or(whole);
            area.from.set(from);
            area.reserved_bytes.set(rounded);
            from += rounded;
        }
        if from > whole {
            return false;
        }
        if run_bytes > 0 {
            self.area(Part::Runs).reserved_bytes.set((whole - from).min(CELL_BYTES * SLOTS_MAX));
        } else {
            // Nothing is packed: the rest belongs to the records.
            let records = self.area(Part::Records);
            records.reserved_bytes.set(records.reserved_bytes.get() + whole - from);
        }
        for area in &self.areas {
            let committed = extent.committed_bytes.saturating_sub(area.from.get());
            area.committed_bytes.set(committed.min(area.reserved_bytes.get()));
        }
        self.slots_max.set(count as u32);
        true
    }

    fn area(&self, part: Part) -> &Area {
        &self.areas[part as usize]
    }

    /// The start of a part; [`Self::ensure`] was successful.
    pub(super) fn start(&self, part: Part) -> NonNull<u8> {
        let start = self.extent.get().map_or(NonNull::dangling(), |extent| extent.start);
        // SAFETY: the offset of an area, which is inside the extent; 0 if there is none.
        unsafe { start.add(self.area(part).from.get()) }
    }

    /// The element `index` of a part that holds `E`s.
    ///
    /// # Safety
    /// - `part` holds `E`s, which are changed through cells only, and the one at `index` is
    ///   committed and was written.
    #[inline(always)]
    pub(super) unsafe fn element<E>(&self, part: Part, index: usize) -> &E {
        debug_assert!((index + 1) * size_of::<E>() <= self.area(part).committed_bytes.get());
        // SAFETY: inside the area, which is committed that far.
        let at = unsafe { self.start(part).cast::<E>().add(index) };
        // SAFETY: the caller's promise; areas are aligned to 8 at least.
        unsafe { at.as_ref() }
    }

    /// Makes `bytes` from the start of a part usable; true if that needed the backing.
    ///
    /// # Errors
    /// Full, if the area has no more; the backing's.
    pub(super) fn commit(&self, part: Part, bytes: usize) -> Result<bool, AllocError> {
        let area = self.area(part);
        let (had, most) = (area.committed_bytes.get(), area.reserved_bytes.get());
        if bytes <= had {
            return Ok(false);
        }
        let Some(extent) = self.extent.get().filter(|_| bytes <= most) else {
            return Err(AllocError::Full {
                requested_bytes: bytes - had,
                largest_free_bytes: 0,
                capacity_bytes: most,
            });
        };
        let step = extent.step_bytes;
        let least = align_up(bytes, step).unwrap_or(most).min(most);
        let ahead = (had >> COMMIT_SHARE_LOG2).clamp(COMMIT_BYTES_MIN, COMMIT_BYTES_MAX);
        let ahead = align_up(had + ahead, step).unwrap_or(most).clamp(least, most);
        let (start, have) = (area.from.get(), area.from.get() + had);
        // SAFETY: a live extent of this backing, whole steps of an area inside it.
        if ahead > least && unsafe { self.backing.commit(&extent, have..start + ahead) }.is_ok() {
            area.committed_bytes.set(ahead);
            return Ok(true);
        }
        // SAFETY: as above.
        unsafe { self.backing.commit(&extent, have..start + least) }?;
        area.committed_bytes.set(least);
        Ok(true)
    }

    /// Gives up to `bytes_max` of what is committed behind the first `used_bytes` of a part back.
    /// None if there is none, or the backing keeps what it gave.
    pub(super) fn give_back(
        &self,
        part: Part,
        used_bytes: usize,
        bytes_max: usize,
    ) -> Option<usize> {
        let extent = self.extent.get()?;
        if !self.has_spare(part, used_bytes) {
            return None;
        }
        let (area, step) = (self.area(part), extent.step_bytes);
        let end = area.committed_bytes.get();
        let keep = align_up(used_bytes, step)?;
        let from = keep.max(end.saturating_sub(bytes_max.max(step)) & !(step - 1));
        let range = area.from.get() + from..area.from.get() + end;
        // SAFETY: a live extent; whole steps behind all that is used, committed.
        if unsafe { self.backing.decommit(&extent, range) }.is_err() {
            self.keeps.set(true);
            return None;
        }
        area.committed_bytes.set(from);
        Some(end - from)
    }

    /// Whether a step or more is committed behind the first `used_bytes` of a part.
    pub(super) fn has_spare(&self, part: Part, used_bytes: usize) -> bool {
        let keep = align_up(used_bytes, self.step_bytes());
        let committed = self.area(part).committed_bytes.get();
        !self.keeps.get() && keep.is_some_and(|keep| keep < committed & !(self.step_bytes() - 1))
    }

    /// Gives up to `bytes_max` of what is committed of a part behind its first `used_bytes` and
    /// below `end` back, the last of it; it stays usable, and what was there is lost. Where that
    /// began; none if there is nothing between, or the backing keeps what it gave.
    ///
    /// # Safety
    /// - Nobody needs what is behind the first `used_bytes`.
    pub(super) unsafe fn purge_behind(
        &self,
        part: Part,
        used_bytes: usize,
        end: usize,
        bytes_max: usize,
    ) -> Option<usize> {
        let step = self.step_bytes();
        let end = end.min(self.committed_of(part)) & !(step - 1);
        let keep = align_up(used_bytes, step).filter(|keep| *keep < end && !self.keeps.get())?;
        let from = keep.max(end.saturating_sub(bytes_max.max(step)) & !(step - 1));
        // SAFETY: whole steps, committed, behind all that is needed.
        (unsafe { self.purge(part, from..end) } > 0).then_some(from)
    }

    /// Tells that nobody needs what is in a range of a part; it stays usable, and zero if it is.
    /// The bytes that went back.
    ///
    /// # Safety
    /// - The range is committed, whole steps, and nobody needs more of it than its zeros.
    pub(super) unsafe fn purge(&self, part: Part, range: Range<usize>) -> usize {
        let Some(extent) = self.extent.get() else { return 0 };
        let (from, bytes) = (self.area(part).from.get(), range.len());
        let range = from + range.start..from + range.end;
        // SAFETY: the caller's promise. What is there is zero, so it is zero afterwards, also if
        // the backing may leave it as it was.
        match unsafe { self.backing.purge(&extent, range, Purge::Now) } {
            Ok(_) => bytes,
            Err(_) => {
                self.keeps.set(true);
                0
            }
        }
    }

    /// Addresses taken.
    pub(super) fn reserved_bytes(&self) -> usize {
        self.extent.get().map_or(0, |extent| extent.reserved_bytes)
    }

    /// Bytes that may be touched.
    pub(super) fn committed_bytes(&self) -> usize {
        self.areas.iter().map(|area| area.committed_bytes.get()).sum()
    }

    /// Bytes of a part that may be touched.
    pub(super) fn committed_of(&self, part: Part) -> usize {
        self.area(part).committed_bytes.get()
    }

    /// Bytes that are there, as far as the backing can tell.
    pub(super) fn resident_bytes(&self) -> Option<usize> {
        let extent = self.extent.get()?;
        let mut sum = 0;
        for area in &self.areas {
            let (from, bytes) = (area.from.get(), area.committed_bytes.get());
            if bytes > 0 {
                // SAFETY: a live extent of this backing, and a range of it.
                sum += unsafe { self.backing.resident_bytes(&extent, from..from + bytes) }?;
            }
        }
        Some(sum)
    }
}

impl<B: Backing> Drop for Areas<B> {
    fn drop(&mut self) {
        if let Some(extent) = self.extent.get() {
            let used: usize = self.areas.iter().map(|area| area.reserved_bytes.get()).sum();
            // What came committed and is in no area.
            let rest = extent.committed_bytes.saturating_sub(used);
            let committed_bytes = self.committed_bytes() + rest;
            // SAFETY: the extent, once; nothing of it is used any more.
            unsafe { self.backing.release(Extent { committed_bytes, ..extent }) };
        }
    }
}
