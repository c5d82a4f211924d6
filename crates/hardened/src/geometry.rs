//! How classes and spans are cut, as arithmetic.
//!
//! A class is cut into slots that lie at multiples of their size from address *0*, as if nothing lay
//! between: so one multiplication leads from an address to its slot. A span is 256 KiB
//! of a class's addresses, the last of them a guard; the slots that lie wholly in it before its
//! guard are the span's. Words lie in the order of slots, one row a class; a head and a bit for
//! each slot are kept for each span. An **offset** is an address's
//! distance from the region's start.
#![forbid(unsafe_code)]

use heapwright_core::size_class::{self, QUANTUM_BYTES, class_of_aligned};

use crate::fill::{FILL_BYTES_MAX, FILL_BYTES_MIN};
use crate::word::BYTES_TOLD_MAX;

/// Bytes behind each small block that nobody asked for: its canary.
pub(crate) const CANARY_BYTES: usize = size_of::<u64>();
/// log2 of a span's addresses.
pub(crate) const SPAN_LOG2: u32 = 18;
/// Addresses of a span, its guard included.
pub(crate) const SPAN_BYTES: usize = 1 << SPAN_LOG2;
/// The guard at a span's end: a whole number of pages, also where they are large.
pub(crate) const GUARD_BYTES: usize = if cfg!(target_arch = "x86_64") { 4096 } else { 65_536 };
/// Bytes of a span that hold slots.
pub(crate) const SPAN_SLOTS_BYTES: usize = SPAN_BYTES - GUARD_BYTES;
/// Bytes of a span's head.
pub(crate) const HEAD_BYTES: usize = 32;
/// Requests with a class found by table.
pub(crate) const TINY_BYTES_MAX: usize = 1024 - CANARY_BYTES;
/// Bytes of what tables keep of each class: a cache line.
pub(crate) const KEY_STEP_BYTES: usize = 64;
/// Classes of the other heaps, which come first.
const COMMON_COUNT: usize = size_class::CLASS_COUNT;
/// Classes above them step by so much: slots of whole pages on most machines, and a slack that a
/// word holds.
const WIDE_STEP_BYTES: usize = 4096;
/// Smallest slot: the class below it, of 16 bytes for requests of up to 8, would need a case of its
/// own wherever a slot is zeroed or looked at, six instructions a pair for all classes.
const SLOT_BYTES_MIN: usize = FILL_BYTES_MIN;
/// Largest slot. A mapping for each block would cost a fault for each of its pages, twenty and
/// more, whenever one is made.
const SLOT_BYTES_MAX: usize = 128 * 1024;
/// log2 of the addresses of a class, at most: where no limit makes them fewer.
pub(crate) const CLASS_LOG2_MAX: u32 = 34;
/// Number of classes.
pub(crate) const CLASS_COUNT: usize =
    COMMON_COUNT + (SLOT_BYTES_MAX - size_class::SMALL_BYTES_MAX) / WIDE_STEP_BYTES;
/// Classes whose words tell all of a block's bytes; they come first.
pub(crate) const NARROW_COUNT: usize = class_of(BYTES_TOLD_MAX + 1);
/// Places of tables by class: a power of two, so that a mask takes the place of a check.
pub(crate) const CLASS_PLACES: usize = 128;
/// Largest request that lies in a slot.
pub(crate) const SMALL_REQUEST_BYTES_MAX: usize = SLOT_BYTES_MAX - CANARY_BYTES;
/// Slots up to this are zeroed and looked at whole.
const WHOLE_BYTES_MAX: usize = FILL_BYTES_MAX;
/// Of larger ones so many bytes from the start: each further cache line, which the program often
/// has not touched for long, costs as much as all the rest of a free.
const ZEROED_BYTES_MIN: usize = 64;
/// Places of a thread's stack of a class, at most. A slot that changes threads brings its word
/// along, which shares a cache line with those of its neighbours: so a thread keeps what it has
/// freed while that is little.
pub(crate) const STACK: usize = 256;
/// Bytes of slots in a full stack, about.
const STACK_BYTES: usize = 32 * 1024;
/// Bytes of the words of a batch, at least: a cache line, so that the threads which have two
/// batches do not write to the same one.
const BATCH_WORDS_BYTES: usize = 64;
/// Places of a thread's quarantine of a class, at most.
pub(crate) const KEPT_MAX: usize = 4;
/// Places of a thread's quarantine of a class, at least; of wide slots one, since each holds
/// memory that nobody uses.
const KEPT_MIN: usize = 2;
const KEPT_WIDE_BYTES_MIN: usize = 8192;
/// Bytes of slots in a quarantine, about.
const KEPT_BYTES: usize = 2048;
/// Bytes of slots that a refill brings, about.
const BATCH_BYTES: usize = 16 * 1024;
/// Slots that a refill brings, at most.
pub(crate) const BATCH_MAX: usize = 32;
/// Slots that a refill brings, at least, of the common classes: a lock and a search for one or two
/// would cost more than they do.
const BATCH_MIN: usize = 4;
/// Bytes of slots that a class's depot may hold in any case, about, and at most.
const DEPOT_SHARE_BYTES: usize = 128 * 1024;
const DEPOT_BYTES: usize = 4 << 20;
/// Addresses that a program may have, without asking for more, have so many bits at most.
const ADDRESS_LOG2: u32 = 48;
/// Alignments above this are for large blocks.
const ALIGN_BYTES_MAX: usize = 4096;

const _: () = assert!(SLOT_BYTES_MAX < SPAN_SLOTS_BYTES);
const _: () = assert!(CLASS_COUNT <= CLASS_PLACES);
const _: () = assert!(class_bytes(NARROW_COUNT - 1) <= BYTES_TOLD_MAX);
const _: () = assert!(ZEROED_BYTES_MIN <= FILL_BYTES_MAX && FILL_BYTES_MIN <= ZEROED_BYTES_MIN);
// The most that a slot exceeds its request by: one just above a multiple of its alignment.
const _: () =
    assert!(ALIGN_BYTES_MAX + size_class::SMALL_BYTES_MAX / 9 + CANARY_BYTES <= BYTES_TOLD_MAX);
const _: () = assert!(WIDE_STEP_BYTES >= ALIGN_BYTES_MAX);
const _: () = assert!(WIDE_STEP_BYTES + CANARY_BYTES <= BYTES_TOLD_MAX);

/// Bytes of a slot of `class_index`, which is below [`CLASS_COUNT`].
pub(crate) const fn class_bytes(class_index: usize) -> usize {
    if class_index < COMMON_COUNT {
        size_class::class_bytes(class_index)
    } else {
        size_class::SMALL_BYTES_MAX + (class_index - COMMON_COUNT + 1) * WIDE_STEP_BYTES
    }
}

/// Class of slots of `bytes`, at most [`SLOT_BYTES_MAX`].
const fn class_of(bytes: usize) -> usize {
    let bytes = if bytes < SLOT_BYTES_MIN { SLOT_BYTES_MIN } else { bytes };
    if bytes <= size_class::SMALL_BYTES_MAX {
        return size_class::class_of(bytes);
    }
    COMMON_COUNT + (bytes - size_class::SMALL_BYTES_MAX).div_ceil(WIDE_STEP_BYTES) - 1
}

/// A class as hot paths name it: where its line lies in a table of lines.
///
/// # Invariant
/// - K1: a multiple of [`KEY_STEP_BYTES`] below [`CLASS_PLACES`] of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key(u16);

impl Key {
    /// Of `class_index`, which is below [`CLASS_PLACES`].
    #[inline(always)]
    pub(crate) const fn of(class_index: usize) -> Self {
        Self(((class_index % CLASS_PLACES) * KEY_STEP_BYTES) as u16)
    }

    /// Of the class that the byte at `offset` lies in, if it is one of the first `COUNT`; `shift`
    /// is [`shift`](Self::shift)'s.
    #[inline(always)]
    pub(crate) fn at<const COUNT: usize>(offset: usize, shift: u32) -> Option<Self> {
        const MASK: usize = (CLASS_PLACES - 1) * KEY_STEP_BYTES;
        const { assert!(COUNT <= CLASS_COUNT) };
        let key = offset >> (shift % usize::BITS);
        (key < COUNT * KEY_STEP_BYTES).then_some(Self((key & MASK) as u16))
    }

    /// How far an offset is shifted where classes have `1 << class_log2` bytes.
    pub(crate) const fn shift(class_log2: u32) -> u32 {
        class_log2 - KEY_STEP_BYTES.ilog2()
    }

    /// The class's number.
    #[inline(always)]
    pub(crate) fn index(self) -> usize {
        self.offset() / KEY_STEP_BYTES
    }

    /// Bytes from a table's start to the class's line.
    #[inline(always)]
    pub(crate) fn offset(self) -> usize {
        usize::from(self.0)
    }
}

/// Class of each request of at most [`TINY_BYTES_MAX`], its canary included.
static TINY_CLASSES: [Key; TINY_BYTES_MAX + 1] = {
    let mut table = [Key::of(0); TINY_BYTES_MAX + 1];
    let mut bytes = 0;
    while bytes < table.len() {
        table[bytes] = Key::of(class_of(bytes + CANARY_BYTES));
        bytes += 1;
    }
    table
};

/// How one class is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    /// Bytes of a slot.
    pub(crate) slot_bytes: u32,
    /// Slots of a span, at most.
    pub(crate) slot_count_max: u32,
    /// Bytes of a unit: a part of the slot, so that the words of all units lie 2 bytes apart.
    pub(crate) unit_bytes: u32,
    /// log2 of a slot's units; the first of them has the slot's word, the others have none.
    pub(crate) units_log2: u32,
    /// Of the unit's bytes, 64 bits of fraction, rounded up: for [`unit_at`].
    pub(crate) reciprocal: u64,
    /// The least bytes that a live block may have: what its word tells is added to them.
    pub(crate) bytes_min: u32,
    /// log2 of the bytes of a span's bits.
    pub(crate) bits_log2: u32,
    /// Bytes of a slot that are zeroed at its free.
    pub(crate) zeroed_bytes: u32,
    /// Slots that wait in a thread's quarantine; a power of two.
    pub(crate) kept_count: u32,
    /// Slots that a refill brings.
    pub(crate) batch_count: u32,
    /// Slots of a full stack: whole batches, and an even number of them; none of wide classes, whose
    /// slots all go through the depot.
    pub(crate) stack_count: u32,
    /// Places of the class's depot.
    pub(crate) depot_count: u32,
    /// Slots that the depot may hold whatever the others hold.
    pub(crate) depot_share: u32,
}

impl Cut {
    /// Of `class_index`.
    pub(crate) const fn of(class_index: usize) -> Self {
        let bytes = class_bytes(class_index);
        let count = SPAN_SLOTS_BYTES / bytes;
        let kept = KEPT_BYTES / bytes;
        let kept = if bytes > KEPT_WIDE_BYTES_MIN {
            1
        } else if kept < 2 {
            KEPT_MIN
        } else if kept > KEPT_MAX {
            KEPT_MAX
        } else {
            1 << kept.ilog2()
        };
        let batch = BATCH_BYTES / bytes;
        let batch = if class_index >= COMMON_COUNT {
            1
        } else if batch < BATCH_MIN {
            BATCH_MIN
        } else if batch > BATCH_MAX {
            BATCH_MAX
        } else {
            batch
        };
        let units_log2 = units_log2(bytes, batch);
        let unit = bytes >> units_log2;
        let pairs = if STACK_BYTES / bytes < STACK { STACK_BYTES / bytes } else { STACK };
        let pairs = if pairs < 2 * batch { 1 } else { pairs / (2 * batch) };
        let share = DEPOT_SHARE_BYTES / bytes / batch;
        let zeroed = if bytes <= WHOLE_BYTES_MAX { bytes } else { ZEROED_BYTES_MIN };
        Self {
            slot_bytes: bytes as u32,
            slot_count_max: count as u32,
            unit_bytes: unit as u32,
            units_log2,
            reciprocal: (u64::MAX / unit as u64) + 1,
            bytes_min: bytes.saturating_sub(BYTES_TOLD_MAX) as u32,
            bits_log2: bits_bytes(count).next_power_of_two().ilog2(),
            zeroed_bytes: zeroed as u32,
            kept_count: kept as u32,
            batch_count: batch as u32,
            stack_count: if class_index < COMMON_COUNT { (pairs * 2 * batch) as u32 } else { 0 },
            depot_count: (DEPOT_BYTES / bytes / batch * batch) as u32,
            depot_share: (if share < 2 { 2 } else { share } * batch) as u32,
        }
    }

    /// Whether slots are so wide that threads keep none: what each class and thread would keep adds
    /// up to more than programs have in such blocks, and a lock is nothing beside writing to one.
    pub(crate) const fn is_wide(&self) -> bool {
        self.stack_count == 0
    }

    /// Bytes of the words of the units that have a byte in the `bytes` from address `start` on, and
    /// the first of these words' distance from that of the unit at address 0; both whole cache
    /// lines.
    pub(crate) fn words_of(&self, start: usize, bytes: usize) -> (usize, usize) {
        let place = |address: usize| unit_at(address, self.reciprocal).0 * size_of::<u16>();
        let first = place(start) / BATCH_WORDS_BYTES * BATCH_WORDS_BYTES;
        let end = (place(start + bytes - 1) + 1).next_multiple_of(BATCH_WORDS_BYTES);
        (first, end - first)
    }

    /// The slots of the span at address `start`: the first one's number, counted from address 0, and
    /// how many there are. They lie wholly before the span's guard; the first one's word begins a
    /// cache line, so that the batches that follow each other have lines of their own. No division:
    /// it is asked for each slot that comes back.
    pub(crate) fn slots_of(&self, start: usize) -> (usize, usize) {
        let (slot, is_start) = slot_at(start, self);
        let line = self.slots_of_line();
        debug_assert!(line.is_power_of_two());
        let first = (slot + usize::from(!is_start) + line - 1) & !(line - 1);
        (first, slot_at(start + SPAN_SLOTS_BYTES, self).0 - first)
    }

    /// Slots whose words share a cache line, at least one.
    fn slots_of_line(&self) -> usize {
        ((BATCH_WORDS_BYTES / size_of::<u16>()) >> self.units_log2).max(1)
    }
}

/// log2 of the units of a slot of `bytes`, where `batch` of them are taken together: as few as
/// keep the words of two batches from sharing a cache line.
const fn units_log2(bytes: usize, batch: usize) -> u32 {
    let step = BATCH_WORDS_BYTES.div_ceil(batch).next_power_of_two();
    let units = if step < size_of::<u16>() { 1 } else { step / size_of::<u16>() };
    assert!(bytes.is_multiple_of(units * QUANTUM_BYTES) || units == 1);
    // What a reciprocal is rounded up by is less than the unit's bytes, of a fraction for each of
    // the units below an address: so their sum is less than the address and a unit, and has to be
    // below the reciprocal, a unit's part of all 64 bits.
    assert!(((1 << ADDRESS_LOG2) + bytes / units) < usize::MAX / (bytes / units));
    units.ilog2()
}

const fn bits_bytes(slot_count: usize) -> usize {
    slot_count.div_ceil(64) * 8
}

/// The slot of a class cut so that the byte at `address` lies in, and whether it is the slot's
/// first.
pub(crate) fn slot_at(address: usize, cut: &Cut) -> (usize, bool) {
    let (unit, is_start) = unit_at(address, cut.reciprocal);
    let slot = unit >> cut.units_log2;
    (slot, is_start && slot << cut.units_log2 == unit)
}

/// The unit that the byte at `address` lies in, and whether it is the unit's first: the
/// product's fraction is then less than that of one byte more. Exact, since what the reciprocal
/// is rounded up by, times the address, stays below one byte's fraction ([`ADDRESS_LOG2`]).
#[inline(always)]
pub(crate) fn unit_at(address: usize, reciprocal: u64) -> (usize, bool) {
    let product = u128::from(reciprocal) * address as u128;
    let (whole, fraction) = ((product >> u64::BITS) as usize, product as u64);
    (whole, fraction < reciprocal)
}

/// Class of a request of `bytes` if the table has it.
#[inline(always)]
pub(crate) fn class_for_tiny(bytes: usize) -> Option<Key> {
    TINY_CLASSES.get(bytes).copied()
}

/// Class of a request of `bytes`; none for large ones.
#[inline(always)]
pub(crate) fn class_for(bytes: usize) -> Option<usize> {
    match TINY_CLASSES.get(bytes) {
        Some(class) => Some(class.index()),
        None if bytes <= SMALL_REQUEST_BYTES_MAX => Some(class_of(bytes + CANARY_BYTES)),
        None => None,
    }
}

/// Class of a request of `bytes` at multiples of `align_bytes`, a power of two; none for those
/// that need a mapping.
pub(crate) fn class_for_aligned(bytes: usize, align_bytes: usize) -> Option<usize> {
    if bytes > SMALL_REQUEST_BYTES_MAX || align_bytes > ALIGN_BYTES_MAX {
        return None;
    }
    if align_bytes <= QUANTUM_BYTES {
        return class_for(bytes);
    }
    let room_bytes = bytes + CANARY_BYTES;
    if room_bytes > size_class::SMALL_BYTES_MAX {
        // Their slots lie at multiples of the step, and no alignment is larger.
        return Some(class_of(room_bytes));
    }
    class_of_aligned(room_bytes, align_bytes)
}

/// The class of `class_index`, which is below [`CLASS_COUNT`].
pub(crate) static CUTS: [Cut; CLASS_COUNT] = {
    let mut cuts = [Cut::of(0); CLASS_COUNT];
    let mut class_index = 0;
    while class_index < CLASS_COUNT {
        cuts[class_index] = Cut::of(class_index);
        class_index += 1;
    }
    cuts
};

#[cfg(test)]
mod tests {
    use super::{
        ADDRESS_LOG2, CANARY_BYTES, CLASS_COUNT, CLASS_LOG2_MAX, CUTS, Cut, KEPT_MAX, Key,
        NARROW_COUNT, SMALL_REQUEST_BYTES_MAX, SPAN_BYTES, SPAN_SLOTS_BYTES, STACK, class_for,
        class_for_aligned, slot_at, unit_at,
    };
    use crate::word::BYTES_TOLD_MAX;
    use heapwright_core::size_class::SMALL_BYTES_MAX;

    /// Addresses of a class where it has most.
    const CLASS_BYTES: usize = 1 << CLASS_LOG2_MAX;

    /// The region's start: as far up as a span can begin, so that what is rounded counts most.
    const BASE: usize = (1 << ADDRESS_LOG2) - (CLASS_COUNT + 1) * CLASS_BYTES - SPAN_BYTES;

    /// Each class's cut and its first address where classes are largest.
    fn cuts() -> impl Iterator<Item = (usize, &'static Cut)> {
        CUTS.iter().enumerate().map(|(class_index, cut)| (BASE + class_index * CLASS_BYTES, cut))
    }

    #[test]
    fn every_class_has_its_key() {
        for class_index in 0..CLASS_COUNT {
            let key = Key::of(class_index);
            assert_eq!(key.index(), class_index);
            let found = |offset| Key::at::<CLASS_COUNT>(offset, Key::shift(34));
            assert_eq!(found((class_index << 34) + 12_345), Some(key));
            assert_eq!(found((class_index << 34) + CLASS_BYTES - 1), Some(key));
        }
        let narrow =
            |class_index: usize| Key::at::<NARROW_COUNT>(class_index << 34, Key::shift(34));
        assert_eq!(narrow(NARROW_COUNT - 1), Some(Key::of(NARROW_COUNT - 1)));
        assert_eq!(narrow(NARROW_COUNT), None);
        for outside in [CLASS_COUNT << 34, usize::MAX / 2, usize::MAX - 4096] {
            assert_eq!(Key::at::<CLASS_COUNT>(outside, Key::shift(34)), None);
        }
    }

    #[test]
    fn every_byte_of_a_class_leads_to_its_slot() {
        for (class_start, cut) in cuts() {
            let (bytes, unit) = (cut.slot_bytes as usize, cut.unit_bytes as usize);
            let (first, last) = (class_start.div_ceil(bytes), (class_start + CLASS_BYTES) / bytes);
            let some = SPAN_BYTES / bytes;
            for slot in (first..first + some).chain(last - some..last) {
                let start = slot * bytes;
                for distance in (0..bytes.min(4096)).chain([bytes - 1]) {
                    assert_eq!(slot_at(start + distance, cut), (slot, distance == 0));
                    let found = unit_at(start + distance, cut.reciprocal);
                    let expected = (start + distance) / unit;
                    assert_eq!(found, (expected, (start + distance).is_multiple_of(unit)));
                }
            }
        }
    }

    #[test]
    fn each_unit_of_a_class_has_a_word_among_the_class_s() {
        for (start, cut) in cuts() {
            let (first, words_bytes) = cut.words_of(start, CLASS_BYTES);
            for byte in [start, start + 1, start + CLASS_BYTES - 1] {
                let word = 2 * unit_at(byte, cut.reciprocal).0;
                assert!(first <= word && word + 2 <= first + words_bytes);
            }
            assert!(first.is_multiple_of(64) && words_bytes.is_multiple_of(64));
        }
    }

    #[test]
    fn spans_slots_lie_in_them_and_before_their_guard() {
        for (class_start, cut) in cuts() {
            let bytes = cut.slot_bytes as usize;
            for span in (0..300).chain([(CLASS_BYTES / SPAN_BYTES) - 1]) {
                let start = class_start + span * SPAN_BYTES;
                let (first_slot, count) = cut.slots_of(start);
                let first = first_slot * bytes;
                let line_bytes = bytes * cut.slots_of_line();
                assert!(first >= start && first < start + line_bytes);
                assert!(first.is_multiple_of(line_bytes));
                assert!((1..=cut.slot_count_max as usize).contains(&count));
                assert!(first + count * bytes <= start + SPAN_SLOTS_BYTES);
                assert!(first + (count + 1) * bytes > start + SPAN_SLOTS_BYTES);
            }
        }
    }

    #[test]
    fn cuts_fit_together() {
        assert!(CUTS[..NARROW_COUNT].iter().all(|cut| cut.bytes_min == 0));
        assert!(CUTS[NARROW_COUNT..].iter().all(|cut| cut.bytes_min > 0));
        for cut in &CUTS {
            assert!((cut.slot_count_max as usize).div_ceil(64) * 8 <= 1 << cut.bits_log2);
            assert_eq!(cut.unit_bytes << cut.units_log2, cut.slot_bytes);
            assert!(cut.kept_count.is_power_of_two());
            assert!(cut.kept_count as usize <= KEPT_MAX);
            assert!(cut.stack_count as usize <= STACK);
            assert_eq!(cut.is_wide(), cut.slot_bytes as usize > SMALL_BYTES_MAX);
            assert!(!cut.is_wide() || cut.batch_count == 1);
            assert!(cut.stack_count.is_multiple_of(2 * cut.batch_count), "a refill fits");
            assert!(cut.batch_count << (cut.units_log2 + 1) >= 64);
            assert!(cut.depot_share >= 2 * cut.batch_count);
            assert!(cut.depot_count >= cut.depot_share);
            assert!(cut.depot_count.is_multiple_of(cut.batch_count));
        }
    }

    #[test]
    fn each_request_has_room_for_its_canary_and_a_size_that_its_word_holds() {
        let fits = |bytes: usize, class_index: usize| {
            let cut = &CUTS[class_index];
            let least = cut.bytes_min as usize;
            assert!(bytes + CANARY_BYTES <= cut.slot_bytes as usize);
            assert!((least..=least + BYTES_TOLD_MAX).contains(&bytes), "{bytes}");
        };
        for bytes in 0..=SMALL_REQUEST_BYTES_MAX {
            fits(bytes, class_for(bytes).expect("small"));
            for align in [16, 32, 512, 4096] {
                let Some(class_index) = class_for_aligned(bytes, align) else { continue };
                assert!((CUTS[class_index].slot_bytes as usize).is_multiple_of(align));
                fits(bytes, class_index);
            }
        }
        assert_eq!(class_for(SMALL_REQUEST_BYTES_MAX + 1), None);
        assert_eq!(class_for(usize::MAX), None);
        assert_eq!(class_for_aligned(16, 8192), None);
    }
}
