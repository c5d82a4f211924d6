//! Bytes of a slot: zeroed, and looked at.
//!
//! A loop over a slot's sixteens ends after a different number of rounds for each class, which a
//! processor foretells badly in a program that asks for many sizes: two wrong guesses a pair cost
//! more than all its other work. So a range is worked on from both of its ends, in groups that
//! overlap: four sixteens up to 64 bytes, else nine. No range is shorter than two sixteens, so that
//! nothing but its length is to be known. Longer ranges are for who asked for them (`options`), and
//! are worked on in a loop.

/// Sixteen bytes, worked on at a time; all slots are multiples of them.
#[derive(Clone, Copy)]
#[repr(align(16))]
struct Quad([u64; 2]);

const STEP: usize = size_of::<Quad>();
/// Bytes of a group.
const GROUP: usize = 4 * STEP;
/// Shortest range.
pub(crate) const FILL_BYTES_MIN: usize = 2 * STEP;
/// Longest range without a loop: two groups and the sixteen between them.
pub(crate) const FILL_BYTES_MAX: usize = 2 * GROUP + STEP;

/// The places of four sixteens of a range of `bytes` from `start`: the two that lie `from` behind
/// its start, and the two as far before its end.
#[inline(always)]
fn four(start: *mut u8, bytes: usize, from: usize) -> [*mut Quad; 4] {
    let end = bytes - STEP - from;
    // In this order: neighbours beside each other would be loaded by halves and shuffled.
    [from, end, from + STEP, end - STEP].map(|distance| start.wrapping_add(distance).cast())
}

/// Zeroes four sixteens.
///
/// # Safety
/// - They may be written and are nobody else's; they are aligned to 16.
#[inline(always)]
unsafe fn zero_four(places: [*mut Quad; 4]) {
    for place in places {
        // SAFETY: the caller's promise.
        unsafe { place.write(Quad([0; 2])) };
    }
}

/// The bits that are set in any of four sixteens.
///
/// # Safety
/// - They may be read, and nobody writes to them now; they are aligned to 16.
#[inline(always)]
unsafe fn set_in_four(places: [*mut Quad; 4]) -> [u64; 2] {
    let mut set = [0; 2];
    for place in places {
        // SAFETY: the caller's promise.
        let here = unsafe { place.read() };
        set = [set[0] | here.0[0], set[1] | here.0[1]];
    }
    set
}

/// What [`zero`] and [`is_zero`] work on.
#[inline(always)]
fn check(start: *const u8, bytes: usize) {
    debug_assert!(bytes >= FILL_BYTES_MIN);
    debug_assert!(start.addr().is_multiple_of(STEP) && bytes.is_multiple_of(STEP));
}

/// Zeroes a range of `bytes` from `start`, a multiple of 16 from [`FILL_BYTES_MIN`] on; false, with
/// only a part done, when it is longer than [`FILL_BYTES_MAX`] and [`zero_long`] is to be called:
/// by the caller, at its own end, since a call in its middle has it save registers for each block.
///
/// # Safety
/// - The range may be written and is nobody else's; `start` is aligned to 16.
#[inline(always)]
pub(crate) unsafe fn zero(start: *mut u8, bytes: usize) -> bool {
    check(start, bytes);
    // SAFETY: sixteens of the range, aligned to 16, as it is.
    unsafe { zero_four(four(start, bytes, 0)) };
    if bytes > GROUP {
        if bytes > FILL_BYTES_MAX {
            return false;
        }
        // SAFETY: as above.
        unsafe { zero_four(four(start, bytes, 2 * STEP)) };
        // SAFETY: the sixteen behind the first group; the range is longer than that.
        unsafe { start.wrapping_add(GROUP).cast::<Quad>().write(Quad([0; 2])) };
    }
    true
}

/// Whether all of a range of `bytes` from `start` are 0; the length as [`zero`] has it. None when
/// it is long and [`is_zero_long`] is to be asked, as there.
///
/// # Safety
/// - The range may be read, and nobody writes to it now; `start` is aligned to 16.
#[inline(always)]
pub(crate) unsafe fn is_zero(start: *const u8, bytes: usize) -> Option<bool> {
    check(start, bytes);
    let place = start.cast_mut();
    let or = |one: [u64; 2], other: [u64; 2]| [one[0] | other[0], one[1] | other[1]];
    // SAFETY: sixteens of the range, aligned to 16, as it is; they are only read.
    let mut set = unsafe { set_in_four(four(place, bytes, 0)) };
    if bytes > GROUP {
        if bytes > FILL_BYTES_MAX {
            return None;
        }
        // SAFETY: as above.
        set = or(set, unsafe { set_in_four(four(place, bytes, 2 * STEP)) });
        // SAFETY: as in `zero`; it is only read.
        let between = unsafe { place.wrapping_add(GROUP).cast::<Quad>().read() };
        set = or(set, between.0);
    }
    Some(set[0] | set[1] == 0)
}

/// [`zero`] of a long range.
///
/// # Safety
/// - As there.
#[cold]
#[inline(never)]
pub(crate) unsafe fn zero_long(start: *mut u8, bytes: usize) {
    // SAFETY: the caller's promise.
    unsafe { start.write_bytes(0, bytes) };
}

/// [`is_zero`] of a long range.
///
/// # Safety
/// - As there.
#[cold]
#[inline(never)]
pub(crate) unsafe fn is_zero_long(start: *const u8, bytes: usize) -> bool {
    let places = (0..bytes / STEP).map(|index| start.wrapping_add(STEP * index));
    // Without a way out in between, so that several are looked at in one instruction.
    let set = places.fold([0; 2], |set: [u64; 2], place| {
        // SAFETY: a sixteen of the range, aligned to 16, as it is.
        let here = unsafe { place.cast::<Quad>().read() };
        [set[0] | here.0[0], set[1] | here.0[1]]
    });
    set[0] | set[1] == 0
}

/// Distance of the first byte from `start` that is not 0, among `bytes`.
///
/// # Safety
/// - The range may be read.
#[cold]
pub(crate) unsafe fn first_set(start: *const u8, bytes: usize) -> Option<usize> {
    (0..bytes).find(|distance| {
        // SAFETY: inside the range. Volatile: another thread may be writing there, wrongly.
        (unsafe { start.wrapping_add(*distance).read_volatile() }) != 0
    })
}

#[cfg(test)]
mod tests {
    use super::{
        FILL_BYTES_MAX, FILL_BYTES_MIN, first_set, is_zero, is_zero_long, zero, zero_long,
    };

    /// Some longer than what is done without a loop.
    const LONGEST: usize = FILL_BYTES_MAX + 160;

    #[repr(align(16))]
    struct Slot([u8; LONGEST + 16]);

    #[test]
    fn whole_ranges_are_zeroed_and_one_byte_is_seen() {
        for bytes in (FILL_BYTES_MIN..=LONGEST).step_by(16) {
            let mut slot = Slot([7; LONGEST + 16]);
            let start = slot.0.as_mut_ptr();
            let is_short = bytes <= FILL_BYTES_MAX;
            // SAFETY: the range is inside the array.
            assert_eq!(unsafe { zero(start, bytes) }, is_short);
            if !is_short {
                // SAFETY: as above.
                unsafe { zero_long(start, bytes) };
            }
            // SAFETY: as above.
            let asked = |start: *const u8| match unsafe { is_zero(start, bytes) } {
                Some(is_zero) => is_zero,
                // SAFETY: as above.
                None => unsafe { is_zero_long(start, bytes) },
            };
            assert!(slot.0[..bytes].iter().all(|byte| *byte == 0));
            assert_eq!(slot.0[bytes], 7, "{bytes}");
            for distance in 0..bytes {
                slot.0[distance] = 1;
                let start = slot.0.as_ptr();
                assert!(!asked(start));
                // SAFETY: inside the array.
                assert_eq!(unsafe { first_set(start, bytes) }, Some(distance));
                slot.0[distance] = 0;
            }
            assert!(asked(slot.0.as_ptr()));
        }
    }
}
