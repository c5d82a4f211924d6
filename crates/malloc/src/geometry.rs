//! How a span of each class is cut into slots.
//!
//! Slots of up to 1 KiB do not cross a 16 KiB boundary: such a unit can then be looked at, purged
//! or merged with another span's unit by itself. The price is the rest of each unit, at most
//! 3.6 % and 1.3 % on average of these classes; larger slots would lose up to a third, and have
//! whole pages to purge anyway, so they lie one after the other.
//!
//! # Colours
//! The first lines of slots of 1 KiB at multiples of 1 KiB fall in a sixteenth of a cache's sets:
//! 2,048 of them fill those of 2 MiB, and each further one is a miss. So spans of 512 bytes and of
//! 1 KiB begin at one of 8 and 16 places a cache line apart, by the number of their slice. That
//! takes the last of 64 or 32 slots; the others then may cross a unit's boundary.
//! Source: Bonwick, "The Slab Allocator", USENIX Summer 1994 (slab colouring).
#![forbid(unsafe_code)]

use heapwright_core::size_class::{self, CLASS_COUNT, class_bytes};

use crate::descriptor::SliceIndex;
use crate::region::SLICE_BYTES;

/// Slots of up to 1 KiB do not cross a multiple of this.
pub(crate) const UNIT_BYTES: usize = 16 * 1024;
const UNIT_SLOT_BYTES_MAX: usize = 1024;
/// Powers of two from here to [`UNIT_SLOT_BYTES_MAX`] are coloured: smaller ones use a quarter of
/// the sets or more anyway, larger ones would lose more than a 32nd of their memory.
const COLOURED_BYTES_MIN: usize = 512;
/// Colours are so far apart: a cache line.
const COLOUR_BYTES: usize = 64;
/// At most this much is linked and handed to a thread at a time: links exist only in what is
/// about to be used, and an idle thread keeps no more than this a class.
const HAND_OUT_BYTES: usize = 8 * 1024;
/// But at least as many slots, so that a refill is worth its while.
const HAND_OUT_COUNT_MIN: usize = 4;

const _: () = assert!(SLICE_BYTES.is_multiple_of(UNIT_BYTES));

/// How spans of one class are cut.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Geometry {
    /// Length of a slot.
    pub(crate) slot_bytes: u32,
    /// Slots of a span.
    pub(crate) slot_count: u16,
    /// Slots of a unit; of the span when slots may cross units.
    pub(crate) unit_slots: u16,
    /// Slots handed to a thread at a time, at most.
    pub(crate) hand_out_count: u16,
    /// One less than what the first slot may be shifted by; 0 without colours.
    shift_mask: u16,
}

static GEOMETRIES: [Geometry; CLASS_COUNT] = {
    let mut geometries = [geometry(0); CLASS_COUNT];
    let mut class_index = 0;
    while class_index < CLASS_COUNT {
        geometries[class_index] = geometry(class_index);
        class_index += 1;
    }
    geometries
};

const fn geometry(class_index: usize) -> Geometry {
    let bytes = class_bytes(class_index);
    let is_coloured = is_coloured(bytes);
    let (unit_slots, slot_count) = if is_coloured {
        (SLICE_BYTES / bytes - 1, SLICE_BYTES / bytes - 1)
    } else if bytes <= UNIT_SLOT_BYTES_MAX {
        (UNIT_BYTES / bytes, UNIT_BYTES / bytes * (SLICE_BYTES / UNIT_BYTES))
    } else {
        (SLICE_BYTES / bytes, SLICE_BYTES / bytes)
    };
    let wished = HAND_OUT_BYTES / bytes;
    let wished = if wished < HAND_OUT_COUNT_MIN { HAND_OUT_COUNT_MIN } else { wished };
    let hand_out = if wished < slot_count { wished } else { slot_count };
    Geometry {
        slot_bytes: bytes as u32,
        slot_count: slot_count as u16,
        unit_slots: unit_slots as u16,
        hand_out_count: hand_out as u16,
        shift_mask: if is_coloured { bytes as u16 - 1 } else { 0 },
    }
}

const fn is_coloured(slot_bytes: usize) -> bool {
    slot_bytes.is_power_of_two()
        && slot_bytes >= COLOURED_BYTES_MIN
        && slot_bytes <= UNIT_SLOT_BYTES_MAX
}

/// The class that serves `bytes` at a multiple of `align_bytes`, a power of two; none above the
/// small sizes. Coloured slots are aligned to a cache line only, so that larger alignments of
/// 1 KiB take a slot of 2 KiB.
pub(crate) fn class_of_aligned(bytes: usize, align_bytes: usize) -> Option<usize> {
    let mut class_index = size_class::class_of_aligned(bytes, align_bytes)?;
    while align_bytes > COLOUR_BYTES && is_coloured(class_bytes(class_index)) {
        class_index = size_class::class_of_aligned(class_bytes(class_index) + 1, align_bytes)?;
    }
    Some(class_index)
}

/// The first refills of a class hand out no more than this, the next ones twice as much each.
const FIRST_HAND_OUT_BYTES: usize = 512;

/// From this refill of a class on, two slots at least, so that not each allocation is a refill.
const PAIR_REFILL_COUNT: u8 = 16;
/// But not of slots larger than this: filling one costs more than a refill.
const PAIR_SLOT_BYTES_MAX: u32 = 8 * 1024;
/// At least so many slots make a hot class's list.
const HOT_COUNT_MIN: usize = 4;
/// A list of so many slots makes a refill cheap enough, in whatever class.
const HOT_COUNT_MAX: usize = 32;
/// So many bytes of slots are as good as [`HOT_COUNT_MAX`] of them.
const HOT_BYTES: usize = 16 * 1024;
/// Spans of at most so many slots are coarse: see [`Geometry::is_coarse`].
const COARSE_SLOTS_MAX: u16 = 3;

/// A full span of so many slots or more is looked at again when a [`MANY_SLOTS_SHARE`]th is free:
/// that is four slots at least, enough for a refill.
const MANY_SLOTS: u16 = 128;
const MANY_SLOTS_SHARE: u16 = 32;
/// One of fewer than this at the first free slot: a refill costs less than filling what it waits for,
/// more than 1 KiB each.
const FEW_SLOTS: u16 = 31;
/// Between them, an eighth (of what it would be without colours): with less, programs of many sizes refill a third more often.
const FULL_SHARE: u16 = 8;

/// Spans of fewer slots stay their owner's when they are full: see [`Geometry::is_handed_on`].
const HANDED_ON_SLOTS_MIN: u16 = 24;

impl Geometry {
    /// Free slots at which a full span is looked at again. What waits below this is memory that
    /// nobody gets: up to an eighth of all live bytes in a program that replaces blocks at random.
    #[inline]
    pub(crate) fn wake_free_count(&self) -> i32 {
        i32::from(match self.slot_count {
            ..FEW_SLOTS => 1,
            FEW_SLOTS..MANY_SLOTS => (self.slot_count + 1) / FULL_SHARE,
            MANY_SLOTS.. => self.slot_count / MANY_SLOTS_SHARE,
        })
    }

    /// Slots to hand out at a refill when there were `refill_count` before.
    #[inline]
    pub(crate) fn hand_out(&self, refill_count: u8) -> usize {
        let bytes = FIRST_HAND_OUT_BYTES << refill_count.min(4);
        let is_pair = refill_count >= PAIR_REFILL_COUNT && self.slot_bytes <= PAIR_SLOT_BYTES_MAX;
        (bytes / self.slot_bytes as usize)
            .max(if is_pair { 2 } else { 1 })
            .min(usize::from(self.hand_out_count))
    }

    /// Slots that a hot class's list should have: with fewer going round new ones join them.
    #[inline]
    pub(crate) fn hot_count(&self) -> u8 {
        (HOT_BYTES / self.slot_bytes as usize).clamp(HOT_COUNT_MIN, HOT_COUNT_MAX) as u8
    }

    /// Whether spans have so few slots that slots are handed out one by one, never listed, and an
    /// empty span changes its class rather than wait for its own: what was in use last is still in
    /// the CPU's caches, and a thread with a few such blocks of many sizes needs few spans.
    #[inline]
    pub(crate) fn is_coarse(&self) -> bool {
        self.slot_count <= COARSE_SLOTS_MAX
    }

    /// Whether a span is nobody's when it is full for the first time. Taking it over again costs its
    /// maker two locks, which pays where it has many slots.
    #[inline]
    pub(crate) fn is_handed_on(&self) -> bool {
        self.slot_count >= HANDED_ON_SLOTS_MIN
    }

    /// Of the spans of `class_index`.
    #[inline]
    pub(crate) fn of(class_index: usize) -> &'static Self {
        &GEOMETRIES[class_index]
    }

    /// Where slot `number` of a span at slice `index` starts, from the start of the span.
    #[inline]
    pub(crate) fn slot_offset(&self, index: SliceIndex, number: usize) -> usize {
        let unit_slots = usize::from(self.unit_slots);
        let place =
            number / unit_slots * UNIT_BYTES + number % unit_slots * self.slot_bytes as usize;
        place + self.shift(index)
    }

    /// The slot of a span at slice `index` that holds the byte at `offset`, or the first one after
    /// it.
    #[inline]
    pub(crate) fn slot_at(&self, index: SliceIndex, offset: usize) -> usize {
        let bytes = self.slot_bytes as usize;
        if bytes > UNIT_SLOT_BYTES_MAX || self.shift_mask != 0 {
            return offset.saturating_sub(self.shift(index)) / bytes;
        }
        let unit_slots = usize::from(self.unit_slots);
        offset / UNIT_BYTES * unit_slots + (offset % UNIT_BYTES / bytes).min(unit_slots)
    }

    /// The colour of the span at slice `index`: where its first slot starts.
    #[inline]
    fn shift(&self, index: SliceIndex) -> usize {
        (index as usize * COLOUR_BYTES) & usize::from(self.shift_mask)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;

    use heapwright_core::size_class::{CLASS_COUNT, class_of};

    use super::{Geometry, UNIT_BYTES, UNIT_SLOT_BYTES_MAX, class_of_aligned, is_coloured};
    use crate::descriptor::SliceIndex;
    use crate::region::SLICE_BYTES;

    #[test]
    fn slots_are_inside_their_span_and_unit_and_do_not_overlap() {
        for class_index in 0..CLASS_COUNT {
            // Sixteen neighbours have every colour there is.
            (0..16).for_each(|index| check_slots(Geometry::of(class_index), index));
        }
    }

    fn check_slots(geometry: &Geometry, index: SliceIndex) {
        let bytes = geometry.slot_bytes as usize;
        let mut end = 0;
        for number in 0..usize::from(geometry.slot_count) {
            let offset = geometry.slot_offset(index, number);
            assert!(offset >= end && offset.is_multiple_of(16));
            assert!(offset == end || number == 0 || offset.is_multiple_of(UNIT_BYTES));
            end = offset + bytes;
            if bytes <= UNIT_SLOT_BYTES_MAX && !is_coloured(bytes) {
                assert_eq!(offset / UNIT_BYTES, (end - 1) / UNIT_BYTES, "{bytes} at {offset}");
            }
            assert_eq!(geometry.slot_at(index, offset), number);
            assert_eq!(geometry.slot_at(index, end - 1), number);
        }
        assert!(end <= SLICE_BYTES && geometry.slot_count >= 1);
        assert!(geometry.slot_at(index, end) >= usize::from(geometry.slot_count));
        let lost = SLICE_BYTES - usize::from(geometry.slot_count) * bytes;
        assert!(lost * 25 <= SLICE_BYTES || bytes > 1024, "{bytes}: {lost} lost");
    }

    #[test]
    fn coloured_spans_of_neighbouring_slices_use_every_line_of_a_slot() {
        for bytes in [512, 1024] {
            let geometry = Geometry::of(class_of(bytes));
            let mut starts: Vec<_> = (100..100 + bytes as u32 / 64)
                .map(|index| geometry.slot_offset(index, 0))
                .collect();
            starts.sort_unstable();
            assert_eq!(starts, (0..bytes).step_by(64).collect::<Vec<_>>());
        }
        // A page's alignment is kept by slots of a page.
        assert_eq!(Geometry::of(class_of(4096)).slot_offset(101, 1), 4096);
    }

    #[test]
    fn aligned_requests_avoid_colours() {
        for align_log2 in 4..16 {
            for bytes in 1..=4096 {
                let align_bytes = 1 << align_log2;
                let Some(class_index) = class_of_aligned(bytes, align_bytes) else { continue };
                let geometry = Geometry::of(class_index);
                assert!(geometry.slot_bytes as usize >= bytes);
                for index in [0, 1, 15] {
                    let last = usize::from(geometry.slot_count) - 1;
                    for number in [0, 1.min(last), last] {
                        let offset = geometry.slot_offset(index, number);
                        assert!(offset.is_multiple_of(align_bytes), "{bytes} at {align_bytes}");
                    }
                }
            }
        }
        assert_eq!(class_of_aligned(1024, 64), Some(class_of(1024)));
        assert_eq!(class_of_aligned(1024, 1024), Some(class_of(2048)));
        assert_eq!(class_of_aligned(512, 512), Some(class_of(1536)));
    }

    #[test]
    fn full_spans_wait_for_an_eighth_at_most() {
        for class_index in 0..CLASS_COUNT {
            let geometry = Geometry::of(class_index);
            let count = i32::from(geometry.slot_count);
            let wake = geometry.wake_free_count();
            assert!(wake >= 1 && wake * 8 <= (count + 1).max(8), "{wake} of {count}");
            assert!(wake >= 4 || geometry.slot_bytes > 1024, "{wake} of {count}");
        }
    }

    #[test]
    fn the_rest_of_a_unit_belongs_to_the_next_slot() {
        // 704 bytes: 23 slots in 16,192 bytes.
        let geometry = Geometry::of(class_of(704));
        assert_eq!(geometry.slot_bytes, 704);
        assert_eq!(geometry.slot_at(3, 16_200), 23);
        assert_eq!(geometry.slot_offset(3, 23), UNIT_BYTES);
    }
}
