//! Blocks beside others, for those that get no pages of their own: slots with canaries on both
//! sides, freed ones held back.
//!
//! # Invariants
//! - I5 (design/safety#I5): slot `i` of a slab has the record `first_record + i`, for ever.

use core::ptr::NonNull;

use heapwright_os::{Protection, commit, reserve};
use heapwright_sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use crate::record::BlockId;
use crate::table::{Table, Zeroed};

const SLAB_BYTES: usize = 64 << 10;
const REGION_BYTES_MAX: usize = 1 << 40;
const REGION_BYTES_MIN: usize = 16 << 20;
/// Bytes before a block: they keep its alignment.
pub(crate) const BEFORE_BYTES: usize = 16;
/// Largest slot; larger blocks get pages whatever they cost.
const SLOT_BYTES_MAX: usize = 8 << 10;
/// Largest request that finds a slot.
#[cfg(test)]
const PACKED_BYTES_MAX: usize = SLOT_BYTES_MAX - BEFORE_BYTES - 1;
pub(crate) const CLASS_COUNT: usize = 32;
const LINEAR_BYTES_MAX: usize = 256;
const LINEAR_CLASS_COUNT: usize = LINEAR_BYTES_MAX / 32;

/// Class of a slot of at least `bytes`: steps of 32 up to 256, then four a doubling.
fn class_of(bytes: usize) -> usize {
    if bytes <= LINEAR_BYTES_MAX {
        return bytes.div_ceil(32).max(1) - 1;
    }
    let log2 = (bytes - 1).ilog2() as usize;
    let quarter = (bytes - 1) >> (log2 - 2) & 3;
    LINEAR_CLASS_COUNT + (log2 - 8) * 4 + quarter
}

/// Bytes of a slot of `class`.
fn class_bytes(class: usize) -> usize {
    match class.checked_sub(LINEAR_CLASS_COUNT) {
        None => (class + 1) * 32,
        Some(index) => {
            let (log2, quarter) = (8 + index / 4, index % 4);
            (1 << log2) + (quarter + 1) * (1 << (log2 - 2))
        }
    }
}

/// The class of slots of exactly `bytes`.
pub(crate) fn class_of_slot(bytes: usize) -> Option<usize> {
    let class = class_of(bytes);
    (class < CLASS_COUNT && class_bytes(class) == bytes).then_some(class)
}

const _: () = assert!(LINEAR_CLASS_COUNT + 5 * 4 <= CLASS_COUNT);

#[repr(C)]
struct Slab {
    slot_bytes: AtomicUsize,
    first_record: AtomicU32,
    unused: AtomicU32,
}

// SAFETY: atomics only; zero is a slab that is not there.
unsafe impl Zeroed for Slab {}

/// The region of slabs.
pub(crate) struct Packed {
    base: AtomicUsize,
    bytes: AtomicUsize,
    slabs: Table<Slab>,
}

/// What is free; under the heap's lock.
pub(crate) struct PackedState {
    /// First free record of each class, linked by their `next`.
    pub(crate) free: [BlockId; CLASS_COUNT],
    slab_count: usize,
}

/// New slots.
pub(crate) struct NewSlab {
    pub(crate) start: usize,
    pub(crate) slot_bytes: usize,
    pub(crate) slot_count: usize,
    index: usize,
}

impl PackedState {
    pub(crate) const fn new() -> Self {
        Self { free: [0; CLASS_COUNT], slab_count: 0 }
    }
}

impl Packed {
    pub(crate) const fn new() -> Self {
        Self { base: AtomicUsize::new(0), bytes: AtomicUsize::new(0), slabs: Table::new() }
    }

    /// Takes the addresses; false when there are none.
    pub(crate) fn begin(&self) -> bool {
        let limit = heapwright_os::address_space_limit_bytes().unwrap_or(usize::MAX);
        let mut bytes = REGION_BYTES_MAX;
        let start = loop {
            if bytes <= limit / 8
                && let Ok(start) = reserve(bytes, Protection::None)
            {
                break start;
            }
            bytes /= 2;
            if bytes < REGION_BYTES_MIN {
                return false;
            }
        };
        let base = start.as_ptr().expose_provenance().next_multiple_of(SLAB_BYTES);
        let bytes = bytes - SLAB_BYTES;
        if !self.slabs.reserve(bytes / SLAB_BYTES) {
            return false;
        }
        self.base.store(base, Ordering::Relaxed);
        // Release: pairs with the Acquire in `holds`.
        self.bytes.store(bytes, Ordering::Release);
        true
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

    /// The record of the slot at an address; 0 when there is none.
    #[inline]
    pub(crate) fn owner(&self, address: usize) -> BlockId {
        if !self.holds(address) {
            return 0;
        }
        let offset = address - self.base.load(Ordering::Relaxed);
        let Some(slab) = self.slabs.get(offset / SLAB_BYTES) else { return 0 };
        // Acquire: pairs with the Release in `settle`.
        let slot_bytes = slab.slot_bytes.load(Ordering::Acquire);
        if slot_bytes == 0 {
            return 0;
        }
        let slot = offset % SLAB_BYTES / slot_bytes;
        if (slot + 1) * slot_bytes > SLAB_BYTES {
            return 0;
        }
        slab.first_record.load(Ordering::Relaxed) + slot as u32
    }

    /// The class for a block; none when it is too large or too aligned.
    pub(crate) fn class(bytes: usize, align_bytes: usize) -> Option<usize> {
        let slack = if align_bytes > BEFORE_BYTES { align_bytes } else { 0 };
        let wanted = bytes.checked_add(BEFORE_BYTES + 1 + slack)?;
        (wanted <= SLOT_BYTES_MAX).then(|| class_of(wanted))
    }

    /// A fresh slab of `class`, committed; [`Packed::settle`] makes it known.
    pub(crate) fn grow(&self, state: &mut PackedState, class: usize) -> Option<NewSlab> {
        let index = state.slab_count;
        if index >= self.slabs.len() {
            return None;
        }
        let start = self.base.load(Ordering::Relaxed) + index * SLAB_BYTES;
        let place = NonNull::new(core::ptr::with_exposed_provenance_mut::<u8>(start))?;
        // SAFETY: a part of our region that no slab has.
        unsafe { commit(place, SLAB_BYTES) }.ok()?;
        state.slab_count += 1;
        let slot_bytes = class_bytes(class);
        Some(NewSlab { start, slot_bytes, slot_count: SLAB_BYTES / slot_bytes, index })
    }

    /// Gives the slots of a new slab their records.
    pub(crate) fn settle(&self, slab: &NewSlab, first_record: BlockId) {
        if let Some(entry) = self.slabs.get(slab.index) {
            entry.first_record.store(first_record, Ordering::Relaxed);
            // Release: pairs with the Acquire in `owner`.
            entry.slot_bytes.store(slab.slot_bytes, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{BEFORE_BYTES, CLASS_COUNT, PACKED_BYTES_MAX, Packed, PackedState};
    use super::{class_bytes, class_of};

    #[test]
    fn a_class_holds_what_it_is_for_and_wastes_little() {
        for bytes in 1..=PACKED_BYTES_MAX + BEFORE_BYTES + 1 {
            let class = class_of(bytes);
            assert!(class < CLASS_COUNT);
            let slot = class_bytes(class);
            assert!(slot >= bytes && slot.is_multiple_of(16), "{bytes} in {slot}");
            assert!(slot - bytes <= 31.max(bytes / 4), "{bytes} in {slot}");
        }
        assert!(Packed::class(PACKED_BYTES_MAX, 16).is_some());
        assert!(Packed::class(PACKED_BYTES_MAX + 1, 16).is_none());
        assert!(Packed::class(usize::MAX, 16).is_none());
    }

    #[test]
    fn each_address_of_a_slot_leads_to_its_record() {
        let packed = Packed::new();
        assert!(packed.begin());
        let mut state = PackedState::new();
        let class = Packed::class(100, 16).expect("small");
        let slab = packed.grow(&mut state, class).expect("memory");
        assert_eq!(packed.owner(slab.start), 0, "not settled yet");
        packed.settle(&slab, 1000);
        for slot in 0..slab.slot_count {
            let start = slab.start + slot * slab.slot_bytes;
            assert_eq!(packed.owner(start), 1000 + slot as u32);
            assert_eq!(packed.owner(start + slab.slot_bytes - 1), 1000 + slot as u32);
        }
        assert_eq!(packed.owner(slab.start + slab.slot_count * slab.slot_bytes), 0);
    }
}
