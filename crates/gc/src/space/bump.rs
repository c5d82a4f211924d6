//! Bump space: one range, filled from the front, emptied or compacted as a whole.

use core::ptr::NonNull;

use crate::system::{Protection, commit, page_bytes, protect};

use crate::memory::{HUGE_PAGE_BYTES, purge};
use crate::space::{AddressRange, Hole};

/// Bytes given to the mutator at a time: few enough that a collection is due close to its
/// trigger, enough that the slow path does not count.
pub(crate) const GRANT_BYTES: usize = if cfg!(debug_assertions) { 1 << 10 } else { 64 << 10 };

/// A range whose first `top` bytes have been given out.
#[derive(Debug)]
pub(crate) struct BumpSpace {
    start: NonNull<u8>,
    bytes: usize,
    top: usize,
    /// Bytes from the start that may have memory behind them.
    touched: usize,
    /// For tests: bytes up to which memory is accessible, so that whoever follows a reference to
    /// an old place ends the process. None: everything is, always.
    open: Option<usize>,
}

impl BumpSpace {
    pub(crate) fn new(start: NonNull<u8>, bytes: usize) -> Self {
        Self { start, bytes, top: 0, touched: 0, open: None }
    }

    /// Makes places that objects have left inaccessible until they are given out again: for
    /// tests, as it costs system calls.
    pub(crate) fn guard(&mut self) {
        self.open = Some(self.bytes);
        self.close(0);
    }

    /// Makes the first `bytes` accessible, before they are copied to.
    pub(crate) fn open(&mut self, bytes: usize) {
        let page = page_bytes();
        let end = bytes.next_multiple_of(page).min(self.bytes);
        if let Some(open) = self.open.filter(|open| *open < end) {
            // SAFETY: inside the range.
            let first = unsafe { self.start.add(open) };
            // SAFETY: whole pages of ours: a space starts and ends at a multiple of a page.
            let opened = unsafe { commit(first, end - open) };
            assert!(opened.is_ok(), "the kernel makes the memory of a test accessible");
            self.open = Some(end);
        }
    }

    /// Makes everything from `top` on inaccessible.
    fn close(&mut self, top: usize) {
        let page = page_bytes();
        let end = top.next_multiple_of(page).min(self.bytes);
        if let Some(open) = self.open.filter(|open| *open > end) {
            // SAFETY: inside the range.
            let first = unsafe { self.start.add(end) };
            // SAFETY: whole pages of ours, which nothing is in.
            let closed = unsafe { protect(first, open - end, Protection::None) };
            assert!(closed.is_ok(), "the kernel makes the memory of a test inaccessible");
            self.open = Some(end);
        }
    }

    pub(crate) fn start(&self) -> NonNull<u8> {
        self.start
    }

    pub(crate) fn occupied_bytes(&self) -> usize {
        self.top
    }

    pub(crate) fn range(&self) -> AddressRange {
        AddressRange::new(self.start, self.bytes)
    }

    /// The part given out.
    pub(crate) fn used(&self) -> AddressRange {
        AddressRange::new(self.start, self.top)
    }

    /// How much at most [`BumpSpace::grant`] adds to what is occupied, when asked for `bytes`.
    pub(crate) fn granted_bytes(bytes: usize) -> usize {
        bytes.max(GRANT_BYTES)
    }

    /// A hole of at least `bytes`. It continues the hole whose unused rest begins at `cursor`, if
    /// that was the last one given out.
    pub(crate) fn grant(&mut self, cursor: *mut u8, bytes: usize) -> Option<Hole> {
        let offset = cursor.addr().wrapping_sub(self.start.addr().get());
        let from = if !cursor.is_null() && offset <= self.top { offset } else { self.top };
        let end = self.bytes.min((from + bytes).max(self.top + GRANT_BYTES));
        if end < from + bytes {
            return None;
        }
        self.top = end;
        self.touched = self.touched.max(end);
        self.open(end);
        // SAFETY: `from <= end <= bytes`.
        Some(Hole { start: unsafe { self.start.add(from) }, bytes: end - from })
    }

    /// Memory above what is given out that was touched and holds nothing: at most `bytes`, whole
    /// huge pages from an address where one can begin. The caller takes the pages away.
    pub(crate) fn spare(&mut self, bytes: usize) -> Option<(NonNull<u8>, usize)> {
        if self.open.is_some() {
            return None;
        }
        let address = self.start.addr().get();
        let begin = (address + self.top).next_multiple_of(HUGE_PAGE_BYTES) - address;
        let end = ((address + self.touched) & !(HUGE_PAGE_BYTES - 1)).checked_sub(address)?;
        let count = end.checked_sub(begin)?.min(bytes) & !(HUGE_PAGE_BYTES - 1);
        if count == 0 {
            return None;
        }
        let from = end - count;
        // SAFETY: `from < end <= touched`, inside the range.
        let pages = unsafe { self.start.add(from) };
        // SAFETY: inside the range, above `top`.
        let rest = unsafe { self.start.add(end) };
        // SAFETY: the range is ours, and nothing above `top` is needed.
        unsafe { purge(rest, self.touched - end) };
        self.touched = from;
        Some((pages, count))
    }

    /// Keeps the first `top` bytes; of the rest, memory beyond `keep` bytes goes back to the
    /// kernel.
    pub(crate) fn reset(&mut self, top: usize, keep: usize) {
        if cfg!(debug_assertions) {
            self.poison(top);
        }
        self.top = top;
        self.touched = self.touched.max(top);
        let keep = keep.max(top);
        if self.touched > keep {
            // SAFETY: inside the range.
            let first = unsafe { self.start.add(keep) };
            // SAFETY: the range is ours, and nothing above `top` is needed.
            unsafe { purge(first, self.touched - keep) };
            self.touched = keep;
        }
        self.close(top);
    }

    /// Fills what was given out above `top`, so that a stale reference is noticed.
    fn poison(&mut self, top: usize) {
        if self.top > top {
            // SAFETY: inside the range.
            let first = unsafe { self.start.add(top) };
            // SAFETY: as above, and nothing there is needed any more.
            unsafe { first.write_bytes(0xdb, self.top - top) };
        }
    }
}
