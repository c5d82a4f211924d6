//! Pages that are there before they are touched.

use core::alloc::Layout;
use core::ops::Range;

use heapwright_core::backing::{Backing, BackingError, Extent, NodePolicy, Purge, Purged};
use heapwright_os::{Advice, advise, page_bytes};

use super::pass_on::{Route, pass_on};

/// Memory of `inner` whose pages are there as soon as they are committed: one call of the kernel
/// for all of them instead of a fault for each (`MADV_POPULATE_WRITE`, Linux 5.14; where that is
/// refused pages are touched one by one).
///
/// A fault costs several times what a page costs in a row, and falls on whoever touches it first:
/// this is for cold starts, and for programs whose every block must be quick. It costs residence
/// of all that is committed: an arena commits an eighth of its size ahead, 64 KiB at least and
/// 4 MiB at most. An `inner` without pages of its own (a buffer) is touched and nothing else.
///
/// ```
/// # #[cfg(feature = "os")] {
/// use heapwright_regions::{AnonymousPages, Linear, Prefaulted};
///
/// let arena: Linear<_> = Linear::new_in(Prefaulted::new(AnonymousPages));
/// assert_eq!(*arena.alloc(7), 7);
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Prefaulted<B> {
    inner: B,
}

impl<B> Prefaulted<B> {
    /// `inner`, whose committed pages are there.
    pub const fn new(inner: B) -> Self {
        Self { inner }
    }
}

impl<B: Backing> Prefaulted<B> {
    fn route(&self, extent: &Extent) -> Route<'_> {
        Route::straight(&self.inner, extent)
    }
}

/// Brings the pages of `range` in. A refusal leaves them to their first touch, as without this.
///
/// # Safety
/// - The range is committed memory of the extent, and nobody else uses it now.
unsafe fn populate(extent: &Extent, range: Range<usize>) {
    let page_bytes = page_bytes();
    // SAFETY: the caller's range.
    let start = unsafe { extent.start.add(range.start) };
    let is_whole = start.as_ptr().addr().is_multiple_of(page_bytes);
    let whole_bytes = range.len() & !(page_bytes - 1);
    // SAFETY: whole pages of the caller's; their contents stay.
    if is_whole && unsafe { advise(start, whole_bytes, Advice::Populate) }.is_ok() {
        return;
    }
    for offset in range.step_by(page_bytes) {
        // SAFETY: inside the caller's range.
        let byte = unsafe { extent.start.add(offset) }.cast::<core::mem::MaybeUninit<u8>>();
        // SAFETY: as above; whatever it holds is a `MaybeUninit`.
        let old = unsafe { byte.read_volatile() };
        // SAFETY: as above, and what was there.
        unsafe { byte.write_volatile(old) };
    }
}

// SAFETY: extents are those of the backing inside, unchanged; bringing pages in changes no
// contents.
unsafe impl<B: Backing> Backing for Prefaulted<B> {
    fn reserve(&self, layout: Layout) -> Result<Extent, BackingError> {
        let extent = self.inner.reserve(layout)?;
        // SAFETY: committed, and nobody has it yet.
        unsafe { populate(&extent, 0..extent.committed_bytes) };
        Ok(extent)
    }

    fn reserve_hint(&self, bytes_min: usize) -> usize {
        self.inner.reserve_hint(bytes_min)
    }

    unsafe fn commit(&self, extent: &Extent, range: Range<usize>) -> Result<(), BackingError> {
        // SAFETY: the caller's promise.
        unsafe { self.inner.commit(extent, range.clone()) }?;
        // SAFETY: committed just now, for the caller, who uses it after this.
        unsafe { populate(extent, range) };
        Ok(())
    }

    pass_on!(release, decommit, purge, guard, alias, bind, resident_bytes);
}

#[cfg(test)]
mod tests {
    use core::alloc::Layout;
    use core::mem::MaybeUninit;

    use heapwright_core::backing::Backing;
    use heapwright_os::AnonymousPages;

    use super::Prefaulted;
    use crate::{Buffer, Linear};

    #[test]
    fn committed_pages_are_resident_before_they_are_touched() {
        const BYTES: usize = 1 << 20;
        let pages = Prefaulted::new(AnonymousPages);
        let layout = Layout::from_size_align(4 * BYTES, 4096).expect("a layout");
        let extent = pages.reserve(layout).expect("addresses");
        // SAFETY: a live extent, and steps of it.
        unsafe { pages.commit(&extent, 0..BYTES) }.expect("memory");
        // SAFETY: as above.
        let resident = unsafe { pages.resident_bytes(&extent, 0..BYTES) };
        // SAFETY: as above, the committed part of the rest is none.
        let rest = unsafe { pages.resident_bytes(&extent, BYTES..2 * BYTES) };
        assert_eq!((resident.unwrap_or(BYTES), rest.unwrap_or(0)), (BYTES, 0));
        // SAFETY: the only use ends here.
        unsafe { pages.release(extent) };
    }

    #[test]
    fn a_buffer_keeps_its_contents() {
        let mut memory = [MaybeUninit::new(7u8); 10_000];
        let pages = Prefaulted::new(Buffer::new(&mut memory));
        let extent = pages.reserve(Layout::new::<[u8; 9000]>()).expect("room");
        // SAFETY: bytes of the buffer, which was written.
        let bytes = unsafe { core::slice::from_raw_parts(extent.start.as_ptr(), 9000) };
        assert!(bytes.iter().all(|byte| *byte == 7));
        let arena: Linear<_> = Linear::new_in(&pages);
        assert!(arena.try_alloc([0u8; 9000]).is_err(), "the buffer is in use");
    }
}
