//! The program's own `malloc`, for the few objects that a C library hands out.

use core::alloc::Layout;
use core::ptr::NonNull;

/// What `malloc` aligns to on 64-bit systems.
const ALIGN_MAX: usize = 16;

/// A block of the program's `malloc`; none if it has none, or for alignments above 16.
pub fn c_allocate(layout: Layout) -> Option<NonNull<u8>> {
    if layout.align() > ALIGN_MAX {
        return None;
    }
    // SAFETY: any size may be asked for.
    NonNull::new(unsafe { libc::malloc(layout.size().max(1)) }.cast())
}

/// Gives it back.
///
/// # Safety
/// - `block` is of [`c_allocate`], given back once, and nobody uses it any more.
pub unsafe fn c_free(block: NonNull<u8>) {
    // SAFETY: the caller's promise.
    unsafe { libc::free(block.as_ptr().cast()) }
}

#[cfg(test)]
mod tests {
    use super::{c_allocate, c_free};
    use core::alloc::Layout;

    #[test]
    fn blocks_come_aligned_or_not_at_all() {
        let block = c_allocate(Layout::new::<[u128; 3]>()).expect("memory");
        assert!(block.as_ptr().addr().is_multiple_of(16));
        // SAFETY: just taken, unused.
        unsafe { c_free(block) };
        let wide = Layout::from_size_align(64, 64).expect("a layout");
        assert_eq!(c_allocate(wide), None);
    }
}
