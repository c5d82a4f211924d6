//! How a span of each class is cut into slots.
//!
//! Slots of up to 1 KiB do not cross a 16 KiB boundary: such a unit can then be looked at, purged
//! or merged with another span's unit by itself. The price is the rest of each unit, at most
//! 3.6 % and 1.3 % on average of these classes; larger slots would lose up to a third, and have
//! whole pages to purge anyway, so they lie one after the other.
#![forbid(unsafe_code)]

use heapwright_core::size_class::{CLASS_COUNT, class_bytes};

use crate::region::SLICE_BYTES;

/// Slots of up to 1 KiB do not cross a multiple of this.
pub(crate) const UNIT_BYTES: usize = 16 * 1024;
const UNIT_SLOT_BYTES_MAX: usize = 1024;
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
    let (unit_slots, slot_count) = if bytes <= UNIT_SLOT_BYTES_MAX {
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
    }
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
const FEW_SLOTS: u16 = 32;
/// Between them, an eighth: with less, programs of many sizes refill a third more often.
const FULL_SHARE: u16 = 8;

impl Geometry {
    /// Free slots at which a full span is looked at again. What waits below this is memory that
    /// nobody gets: up to an eighth of all live bytes in a program that replaces blocks at random.
    #[inline]
    pub(crate) fn wake_free_count(&self) -> i32 {
        i32::from(match self.slot_count {
            ..FEW_SLOTS => 1,
            FEW_SLOTS..MANY_SLOTS => self.slot_count / FULL_SHARE,
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

    /// Of the spans of `class_index`.
    #[inline]
    pub(crate) fn of(class_index: usize) -> &'static Self {
        &GEOMETRIES[class_index]
    }

    /// Where slot `number` starts, from the start of the span.
    #[inline]
    pub(crate) fn slot_offset(&self, number: usize) -> usize {
        let unit_slots = usize::from(self.unit_slots);
        number / unit_slots * UNIT_BYTES + number % unit_slots * self.slot_bytes as usize
    }

    /// The slot that holds the byte at `offset`, or the first one after it.
    #[inline]
    pub(crate) fn slot_at(&self, offset: usize) -> usize {
        let bytes = self.slot_bytes as usize;
        if bytes > UNIT_SLOT_BYTES_MAX {
            return offset / bytes;
        }
        let unit_slots = usize::from(self.unit_slots);
        offset / UNIT_BYTES * unit_slots + (offset % UNIT_BYTES / bytes).min(unit_slots)
    }
}

#[cfg(test)]
mod tests {
    use heapwright_core::size_class::CLASS_COUNT;

    use super::{Geometry, UNIT_BYTES, UNIT_SLOT_BYTES_MAX};
    use crate::region::SLICE_BYTES;

    #[test]
    fn slots_are_inside_their_span_and_unit_and_do_not_overlap() {
        for class_index in 0..CLASS_COUNT {
            let geometry = Geometry::of(class_index);
            let bytes = geometry.slot_bytes as usize;
            let mut end = 0;
            for number in 0..usize::from(geometry.slot_count) {
                let offset = geometry.slot_offset(number);
                assert!(offset >= end && offset.is_multiple_of(16));
                end = offset + bytes;
                if bytes <= UNIT_SLOT_BYTES_MAX {
                    assert_eq!(offset / UNIT_BYTES, (end - 1) / UNIT_BYTES, "{bytes} at {offset}");
                }
                assert_eq!(geometry.slot_at(offset), number);
                assert_eq!(geometry.slot_at(end - 1), number);
            }
            assert!(end <= SLICE_BYTES && geometry.slot_count >= 1);
            let lost = SLICE_BYTES - usize::from(geometry.slot_count) * bytes;
            assert!(lost * 25 <= SLICE_BYTES || bytes > 1024, "{bytes}: {lost} lost");
        }
    }

    #[test]
    fn full_spans_wait_for_an_eighth_at_most() {
        for class_index in 0..CLASS_COUNT {
            let geometry = Geometry::of(class_index);
            let count = i32::from(geometry.slot_count);
            let wake = geometry.wake_free_count();
            assert!(wake >= 1 && wake * 8 <= count.max(8), "{wake} of {count}");
            assert!(wake >= 4 || geometry.slot_bytes > 1024, "{wake} of {count}");
        }
    }

    #[test]
    fn the_rest_of_a_unit_belongs_to_the_next_slot() {
        // 704 bytes: 23 slots in 16,192 bytes.
        let class_index =
            (0..CLASS_COUNT).find(|index| Geometry::of(*index).slot_bytes == 704).expect("a class");
        assert_eq!(Geometry::of(class_index).slot_at(16_200), 23);
        assert_eq!(Geometry::of(class_index).slot_offset(23), UNIT_BYTES);
    }
}
