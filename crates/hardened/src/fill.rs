//! Bytes of a slot: zeroed, and looked at.
//!
//! A loop over a slot's sixteens ends after a different number of rounds for each class, which a
//! processor foretells badly in a program that asks for many sizes: two wrong guesses a pair cost
//! more than all its other work. So a range is worked on in groups of four sixteens, which overlap
//! where it is not a multiple of the group: one group up to 64 bytes, two up to 128, else four.

/// Sixteen bytes, worked on at a time; all slots are multiples of them.
#[derive(Clone, Copy)]
#[repr(align(16))]
struct Quad([u64; 2]);

const STEP: usize = size_of::<Quad>();
/// Bytes of a group.
const GROUP: usize = 4 * STEP;
/// Longest range.
pub(crate) const FILL_BYTES_MAX: usize = 4 * GROUP;

/// A range from a slot's start: its length, and where the first group's sixteens lie in it beside
/// its start: none ends behind the range.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fill {
    pub(crate) bytes: usize,
    pub(crate) second: usize,
    pub(crate) third: usize,
    pub(crate) last: usize,
}

impl Fill {
    /// A range of `bytes`, a multiple of 16 above 0 and at most [`FILL_BYTES_MAX`].
    pub(crate) fn of(bytes: usize) -> Self {
        debug_assert!((STEP..=FILL_BYTES_MAX).contains(&bytes) && bytes.is_multiple_of(STEP));
        let last = (bytes - STEP).min(GROUP - STEP);
        let second = last.min(STEP);
        Self { bytes, second, third: last - second, last }
    }
}

/// Calls `work` with the place of each sixteen of a range from `start`, of some twice.
#[inline(always)]
fn each(start: *mut u8, fill: Fill, mut work: impl FnMut(*mut Quad)) {
    let Fill { bytes, second, third, last } = fill;
    for offset in [0, second, third, last] {
        work(start.wrapping_add(offset).cast());
    }
    if bytes > GROUP {
        let mut group = |from: *mut u8| {
            for number in 0..GROUP / STEP {
                work(from.cast::<Quad>().wrapping_add(number));
            }
        };
        group(start.wrapping_add(bytes - GROUP));
        if bytes > 2 * GROUP {
            group(start.wrapping_add(GROUP));
            group(start.wrapping_add((bytes - GROUP).min(2 * GROUP)));
        }
    }
}

/// Zeroes a range from `start`.
///
/// # Safety
/// - The range may be written and is nobody else's; `start` is aligned to 16.
#[inline(always)]
pub(crate) unsafe fn zero(start: *mut u8, fill: Fill) {
    debug_assert!(start.addr().is_multiple_of(STEP));
    // SAFETY: a sixteen of the range, aligned to 16.
    each(start, fill, |place| unsafe { place.write(Quad([0; 2])) });
}

/// Whether all of a range from `start` are 0.
///
/// # Safety
/// - The range may be read, and nobody writes to it now; `start` is aligned to 16.
#[inline(always)]
pub(crate) unsafe fn is_zero(start: *const u8, fill: Fill) -> bool {
    debug_assert!(start.addr().is_multiple_of(STEP));
    let mut seen = [0; 2];
    each(start.cast_mut(), fill, |place| {
        // SAFETY: a sixteen of the range, aligned to 16; it is only read.
        let here = unsafe { place.read() };
        seen = [seen[0] | here.0[0], seen[1] | here.0[1]];
    });
    seen[0] | seen[1] == 0
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
    use super::{Fill, first_set, is_zero, zero};

    #[repr(align(16))]
    struct Slot([u8; 256 + 16]);

    #[test]
    fn whole_ranges_are_zeroed_and_one_byte_is_seen() {
        for bytes in (1..=16).map(|count| 16 * count) {
            let mut slot = Slot([7; 256 + 16]);
            let start = slot.0.as_mut_ptr();
            // SAFETY: the range is inside the array.
            unsafe { zero(start, Fill::of(bytes)) };
            assert!(slot.0[..bytes].iter().all(|byte| *byte == 0));
            assert_eq!(slot.0[bytes], 7, "{bytes}");
            for distance in [0, 7, bytes / 2, bytes - 1] {
                slot.0[distance] = 1;
                let start = slot.0.as_ptr();
                // SAFETY: inside the array.
                assert!(!unsafe { is_zero(start, Fill::of(bytes)) });
                // SAFETY: inside the array.
                assert_eq!(unsafe { first_set(start, bytes) }, Some(distance));
                slot.0[distance] = 0;
            }
            // SAFETY: inside the array.
            assert!(unsafe { is_zero(slot.0.as_ptr(), Fill::of(bytes)) });
        }
    }
}
