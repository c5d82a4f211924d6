//! Which free list a run of slices belongs to, by its length.
//!
//! Runs of 1 to 63 slices have a bin for each length; longer ones share four bins per doubling.
//! A bin's runs are all at least [`bin_slices_min`] long, so any run of a later bin than a
//! request's own serves the request.
//!
//! Source: Masmano et al., "TLSF: A New Dynamic Memory Allocator for Real-Time Systems", 2004.

/// Number of bins; their occupancy fits one `u128`.
pub const BIN_COUNT: usize = 128;

const EXACT_COUNT: usize = 63;
const EXACT_LOG2: u32 = 6;
const STEPS_LOG2: u32 = 2;

const _: () = assert!(BIN_COUNT <= u128::BITS as usize);
const _: () = assert!(EXACT_COUNT + 1 == 1 << EXACT_LOG2);

/// The bin that a run of `slices` (at least 1) is kept in.
#[inline]
pub const fn bin_of(slices: u32) -> usize {
    debug_assert!(slices > 0);
    if slices as usize <= EXACT_COUNT {
        return slices as usize - 1;
    }
    let log2 = slices.ilog2();
    let step = (slices >> (log2 - STEPS_LOG2)) & ((1 << STEPS_LOG2) - 1);
    let bin = EXACT_COUNT + (((log2 - EXACT_LOG2) << STEPS_LOG2) + step) as usize;
    if bin < BIN_COUNT { bin } else { BIN_COUNT - 1 }
}

/// The shortest run that bin `bin` keeps, in slices.
#[inline]
pub const fn bin_slices_min(bin: usize) -> u32 {
    if bin < EXACT_COUNT {
        return bin as u32 + 1;
    }
    let above = (bin - EXACT_COUNT) as u32;
    let log2 = EXACT_LOG2 + (above >> STEPS_LOG2);
    let step = above & ((1 << STEPS_LOG2) - 1);
    (1 << log2) + (step << (log2 - STEPS_LOG2))
}

/// The first occupied bin at or after `bin`; `occupied` has a bit for each bin.
#[inline]
pub const fn first_occupied(occupied: u128, bin: usize) -> Option<usize> {
    if bin >= BIN_COUNT {
        return None;
    }
    let rest = occupied >> bin;
    if rest == 0 { None } else { Some(bin + rest.trailing_zeros() as usize) }
}

#[cfg(test)]
mod tests {
    use super::{BIN_COUNT, bin_of, bin_slices_min, first_occupied};

    #[test]
    fn bins_are_monotone_and_start_where_they_say() {
        let mut last = 0;
        for slices in 1..100_000 {
            let bin = bin_of(slices);
            assert!(bin == last || bin == last + 1 || slices == 1);
            assert!(bin_slices_min(bin) <= slices);
            assert!(bin + 1 >= BIN_COUNT || bin_slices_min(bin + 1) > slices);
            last = bin;
        }
        assert_eq!(bin_of(u32::MAX), BIN_COUNT - 1);
        assert_eq!(bin_slices_min(bin_of(1 << 20)), 1 << 20);
    }

    #[test]
    fn the_next_occupied_bin_is_found() {
        let occupied = 1 << 3 | 1 << 127;
        assert_eq!(first_occupied(occupied, 0), Some(3));
        assert_eq!(first_occupied(occupied, 4), Some(127));
        assert_eq!(first_occupied(occupied, 128), None);
        assert_eq!(first_occupied(0, 0), None);
    }
}
