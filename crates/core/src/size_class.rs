//! Size classes: a slot size that serves a range of requests.
//!
//! Steps of 16 bytes to 128, then eight classes per doubling to 32 KiB: 72 classes. A request of
//! 129 bytes or more never wastes more than one ninth of its slot.
//!
//! # Invariants
//! - I1: class sizes grow strictly and are multiples of 16.
//! - I2: a request goes to the smallest class that holds it.
//! - I3: above 128 bytes a class is at most 12.5 % larger than the one before.
//! - I4: every power of two from 16 to 32 KiB is a class.
//!
//! Source for eight steps per doubling: half the internal fragmentation of the usual four
//! (Wilson et al., "Dynamic Storage Allocation: A Survey and Critical Review", 1995, on the
//! bound that linear steps inside a doubling give).

/// All class sizes are multiples of this: the alignment that C promises every block.
pub const QUANTUM_BYTES: usize = 16;
/// Largest request that has a class.
pub const SMALL_BYTES_MAX: usize = 32 * 1024;
/// Number of classes.
pub const CLASS_COUNT: usize = 72;
/// Largest request that [`class_of_tiny`] takes.
pub const TINY_BYTES_MAX: usize = 1024;

/// Classes up to here step by [`QUANTUM_BYTES`].
const LINEAR_BYTES_MAX: usize = 128;
const LINEAR_COUNT: usize = LINEAR_BYTES_MAX / QUANTUM_BYTES;
const STEPS_PER_DOUBLING_LOG2: u32 = 3;
const LINEAR_LOG2: u32 = LINEAR_BYTES_MAX.ilog2();

const _: () = assert!(class_bytes(CLASS_COUNT - 1) == SMALL_BYTES_MAX);
const _: () = assert!(CLASS_COUNT <= u8::MAX as usize);

/// Class of each request of at most [`TINY_BYTES_MAX`]. An entry for each byte count, not for each
/// 16: rounding would cost two more instructions in every `malloc`, the longer table at most 16
/// cache lines, of which a program uses few.
static TINY_CLASSES: [u8; TINY_BYTES_MAX + 1] = {
    let mut table = [0; TINY_BYTES_MAX + 1];
    let mut bytes = 0;
    while bytes < table.len() {
        table[bytes] = class_of(bytes) as u8;
        bytes += 1;
    }
    table
};

/// Slot size of class `class_index` in bytes.
///
/// # Panics
/// In constant evaluation and debug builds, when `class_index` is not below [`CLASS_COUNT`].
#[inline]
pub const fn class_bytes(class_index: usize) -> usize {
    debug_assert!(class_index < CLASS_COUNT);
    if class_index < LINEAR_COUNT {
        return (class_index + 1) * QUANTUM_BYTES;
    }
    let above = class_index - LINEAR_COUNT;
    let doubling = above >> STEPS_PER_DOUBLING_LOG2;
    let step = above & ((1 << STEPS_PER_DOUBLING_LOG2) - 1);
    (LINEAR_BYTES_MAX << doubling) + (((step + 1) * QUANTUM_BYTES) << doubling)
}

/// Class for a request of `bytes`, at most [`SMALL_BYTES_MAX`]; 0 bytes go to the smallest.
///
/// By counting leading zeros, without a table.
#[inline]
pub const fn class_of(bytes: usize) -> usize {
    debug_assert!(bytes <= SMALL_BYTES_MAX);
    if bytes <= LINEAR_BYTES_MAX {
        return bytes.saturating_sub(1) / QUANTUM_BYTES;
    }
    let last = bytes - 1;
    let log2 = last.ilog2();
    let doubling = (log2 - LINEAR_LOG2) as usize;
    let step = (last >> (log2 - STEPS_PER_DOUBLING_LOG2)) & ((1 << STEPS_PER_DOUBLING_LOG2) - 1);
    LINEAR_COUNT + (doubling << STEPS_PER_DOUBLING_LOG2) + step
}

/// [`class_of`] for requests of at most [`TINY_BYTES_MAX`] bytes: one load from a table of 1,025
/// bytes. None above.
#[inline(always)]
pub fn class_of_tiny(bytes: usize) -> Option<usize> {
    TINY_CLASSES.get(bytes).map(|class| usize::from(*class))
}

/// Smallest class that holds `bytes` and whose size is a multiple of `align_bytes` (a power of
/// two), so that every slot of a span aligned as strictly is aligned. None when there is none.
#[inline]
pub const fn class_of_aligned(bytes: usize, align_bytes: usize) -> Option<usize> {
    debug_assert!(align_bytes.is_power_of_two());
    if bytes > SMALL_BYTES_MAX || align_bytes > SMALL_BYTES_MAX {
        return None;
    }
    let least = if bytes < align_bytes { align_bytes } else { bytes };
    let mut class_index = class_of(least);
    // At most eight steps: the next power of two is a class and a multiple (I4).
    while class_bytes(class_index) & (align_bytes - 1) != 0 {
        class_index += 1;
    }
    Some(class_index)
}

#[cfg(test)]
mod tests {
    use super::{
        CLASS_COUNT, QUANTUM_BYTES, SMALL_BYTES_MAX, TINY_BYTES_MAX, class_bytes, class_of,
        class_of_aligned, class_of_tiny,
    };

    #[test]
    fn sizes_grow_by_at_most_an_eighth_and_keep_the_quantum() {
        for class_index in 0..CLASS_COUNT {
            let bytes = class_bytes(class_index);
            assert!(bytes.is_multiple_of(QUANTUM_BYTES));
            if class_index > 0 {
                let before = class_bytes(class_index - 1);
                assert!(bytes > before);
                assert!(bytes <= 128 || (bytes - before) * 8 <= before, "{before} to {bytes}");
            }
        }
    }

    #[test]
    fn every_request_gets_the_smallest_class_that_holds_it() {
        for bytes in 0..=SMALL_BYTES_MAX {
            let class_index = class_of(bytes);
            assert!(class_bytes(class_index) >= bytes);
            assert!(class_index == 0 || class_bytes(class_index - 1) < bytes);
            let tiny = (bytes <= TINY_BYTES_MAX).then_some(class_index);
            assert_eq!(class_of_tiny(bytes), tiny);
        }
        assert_eq!(class_of_tiny(usize::MAX), None);
    }

    #[test]
    fn aligned_requests_get_the_smallest_class_of_that_alignment() {
        for shift in 0..=15 {
            let align_bytes = 1 << shift;
            for bytes in (0..=SMALL_BYTES_MAX).step_by(7) {
                let class_index = class_of_aligned(bytes, align_bytes).expect("I4");
                let found = class_bytes(class_index);
                assert!(found >= bytes && found.is_multiple_of(align_bytes));
                let smaller = (0..class_index).map(class_bytes);
                assert_eq!(
                    smaller.filter(|size| *size >= bytes && size % align_bytes == 0).count(),
                    0
                );
            }
        }
        assert_eq!(class_of_aligned(16, 2 * SMALL_BYTES_MAX), None);
        assert_eq!(class_of_aligned(SMALL_BYTES_MAX + 1, 16), None);
    }
}
