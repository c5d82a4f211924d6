//! Bump arithmetic: addresses in, addresses out.
#![forbid(unsafe_code)]

use core::alloc::Layout;

/// The first multiple of `align` (a power of two) at or above `address`.
#[inline(always)]
pub const fn align_up(address: usize, align: usize) -> Option<usize> {
    debug_assert!(align.is_power_of_two());
    match address.checked_add(align - 1) {
        Some(sum) => Some(sum & !(align - 1)),
        None => None,
    }
}

/// The bytes that a request takes when blocks are multiples of `unit` (a power of two); `None`
/// beyond `isize::MAX`.
#[inline(always)]
pub const fn rounded(size: usize, unit: usize) -> Option<usize> {
    match align_up(size, unit) {
        Some(bytes) if bytes <= isize::MAX as usize => Some(bytes),
        _ => None,
    }
}

/// What [`bump_small`] takes at most. Memory whose end is closer than this to the last address is
/// not used up to its end.
pub const SMALL_BYTES_MAX: usize = 4096;

/// The new cursor above a block of `bytes` at `cursor`, unless it ends above `end`: one addition
/// and one comparison.
///
/// `bytes` is at most [`SMALL_BYTES_MAX`] and a multiple of the cursor's alignment; `cursor` is at
/// most `end`, and `end` at most `usize::MAX - SMALL_BYTES_MAX`: the sum does not wrap.
#[inline(always)]
pub const fn bump_small(cursor: usize, end: usize, bytes: usize) -> Option<usize> {
    debug_assert!(bytes <= SMALL_BYTES_MAX && cursor <= end);
    debug_assert!(end <= usize::MAX - SMALL_BYTES_MAX);
    let next = cursor.wrapping_add(bytes);
    if next > end { None } else { Some(next) }
}

/// Where a block goes, as distances from the cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bumped {
    /// From the old cursor to the block.
    pub skip_bytes: usize,
    /// From the old cursor to the new one.
    pub advance_bytes: usize,
}

/// Places a block of `layout` at or above `cursor`, and the new cursor at a multiple of `unit`.
/// `None` if it does not end by `end`. `cursor` is a multiple of `unit`, at most `end`.
#[inline(always)]
pub const fn bump(cursor: usize, end: usize, layout: Layout, unit: usize) -> Option<Bumped> {
    debug_assert!(cursor <= end && cursor & (unit - 1) == 0);
    // How far the cursor is below the next multiple; known to be nothing for most types.
    let skip_bytes =
        if layout.align() <= unit { 0 } else { cursor.wrapping_neg() & (layout.align() - 1) };
    // At most isize::MAX + unit: no overflow, and the sum with `skip_bytes` (below an alignment
    // of at most 2^63) is below 2^64.
    let bytes = (layout.size() + (unit - 1)) & !(unit - 1);
    let room = end - cursor;
    if skip_bytes > room || bytes > room - skip_bytes {
        return None;
    }
    Some(Bumped { skip_bytes, advance_bytes: skip_bytes + bytes })
}

#[cfg(test)]
mod tests {
    use super::{Bumped, SMALL_BYTES_MAX, align_up, bump, bump_small, rounded};
    use core::alloc::Layout;

    fn layout(size: usize, align: usize) -> Layout {
        Layout::from_size_align(size, align).expect("a layout")
    }

    #[test]
    fn blocks_are_aligned_inside_and_leave_the_cursor_aligned() {
        for cursor in (64..256).step_by(8) {
            for size in 0..70 {
                for align in [1, 2, 4, 8, 16, 64] {
                    let Some(Bumped { skip_bytes, advance_bytes }) =
                        bump(cursor, 256, layout(size, align), 8)
                    else {
                        assert!(cursor.next_multiple_of(align) + size.next_multiple_of(8) > 256);
                        continue;
                    };
                    let block = cursor + skip_bytes;
                    assert!(block % align == 0 && block - cursor < align);
                    assert!(
                        block + size <= cursor + advance_bytes && cursor + advance_bytes <= 256
                    );
                    assert!((cursor + advance_bytes).is_multiple_of(8));
                }
            }
        }
    }

    #[test]
    fn small_blocks_end_by_the_end() {
        assert_eq!(bump_small(8, 16, 8), Some(16));
        assert_eq!(bump_small(8, 16, 16), None);
        assert_eq!(bump_small(8, 8, 0), Some(8));
        let end = usize::MAX - SMALL_BYTES_MAX;
        assert_eq!(bump_small(end - 8, end, SMALL_BYTES_MAX), None);
    }

    #[test]
    fn the_largest_layouts_do_not_wrap() {
        let huge = layout(isize::MAX as usize, 1);
        assert_eq!(bump(usize::MAX - 15, usize::MAX, huge, 16), None);
        assert_eq!(
            bump(8, usize::MAX, layout(0, 1 << 62), 8).map(|at| at.skip_bytes),
            Some((1 << 62) - 8)
        );
        assert_eq!(align_up(usize::MAX, 2), None);
        assert_eq!(rounded(isize::MAX as usize, 16), None);
        assert_eq!(rounded(17, 16), Some(32));
    }
}
