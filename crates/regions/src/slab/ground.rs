//! Where a slab's pages are, and a header for each of them out of band.

use core::cell::Cell;
use core::ptr::NonNull;

use heapwright_core::span_shape::PAGE_BYTES;
use heapwright_sync::Link;
use heapwright_sync::atomic::{AtomicU16, Ordering};

/// No page.
pub(super) const NIL: u32 = u32::MAX;
/// Class of a span that is one block.
pub(super) const LARGE: u8 = u8::MAX;
/// Owner of a span that nobody allocates from.
pub(super) const NOBODY: u16 = u16::MAX;

/// What is known of one page; most of it of meaning in the first page of a span or free run only.
#[derive(Debug)]
#[repr(C, align(32))]
pub(super) struct Header {
    /// Pages of the free run that starts or ends here; 0 for a page in use.
    pub(super) run_pages: Cell<u32>,
    /// Pages of the span that starts here.
    pub(super) pages: Cell<u32>,
    pub(super) next: Cell<u32>,
    pub(super) prev: Cell<u32>,
    /// The span's free slots.
    pub(super) free: Cell<*mut Link>,
    /// Slots with users, in caches and on their way home. Written by the owner only.
    used: AtomicU16,
    /// Slots at the end that were never used.
    pub(super) unused: Cell<u16>,
    owner: AtomicU16,
    /// Size class of a span; of a free run, 1 if its pages were written.
    pub(super) class: Cell<u8>,
    /// Pages back to the first page of the span.
    pub(super) back: Cell<u8>,
}

impl Header {
    const fn empty() -> Self {
        Self {
            run_pages: Cell::new(0),
            pages: Cell::new(0),
            next: Cell::new(NIL),
            prev: Cell::new(NIL),
            free: Cell::new(core::ptr::null_mut()),
            used: AtomicU16::new(0),
            unused: Cell::new(0),
            owner: AtomicU16::new(NOBODY),
            class: Cell::new(0),
            back: Cell::new(0),
        }
    }

    #[inline]
    pub(super) fn used(&self) -> u16 {
        self.used.load(Ordering::Relaxed)
    }

    /// For the owner: a plain store that others may read for statistics.
    #[inline]
    pub(super) fn set_used(&self, count: u16) {
        self.used.store(count, Ordering::Relaxed);
    }

    /// Who allocates from the span. What another thread reads may be old; a block that is sent
    /// to an old owner is sent on.
    #[inline]
    pub(super) fn owner(&self) -> u16 {
        self.owner.load(Ordering::Relaxed)
    }

    pub(super) fn set_owner(&self, owner: u16) {
        self.owner.store(owner, Ordering::Relaxed);
    }

    /// Slots of the span, which has a class.
    pub(super) fn slot_count(&self, slot_bytes: usize) -> usize {
        self.pages.get() as usize * PAGE_BYTES / slot_bytes
    }
}

/// The memory of all pages and the table of their headers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ground {
    /// First byte of page 0; its provenance covers all pages.
    base: NonNull<u8>,
    headers: NonNull<Header>,
    page_count: u32,
}

impl Ground {
    /// # Safety
    /// - `base` is the start of `page_count` pages and `headers` of as many headers; both ranges
    ///   are the caller's as long as the value or a copy is used.
    /// - Only pages whose header was written are named to [`Self::header`].
    pub(super) const unsafe fn new(
        base: NonNull<u8>,
        headers: NonNull<Header>,
        page_count: u32,
    ) -> Self {
        Self { base, headers, page_count }
    }

    pub(super) const fn page_count(&self) -> u32 {
        self.page_count
    }

    /// The header of `page`, which is below the pages' top.
    #[inline]
    pub(super) fn header(&self, page: u32) -> &Header {
        debug_assert!(page < self.page_count);
        // SAFETY: below the count, so in the table.
        let header = unsafe { self.headers.add(page as usize) };
        // SAFETY: written before the page was first taken (the promise to `new`), changed through
        // cells only, and there as long as the ground is.
        unsafe { header.as_ref() }
    }

    /// Writes an empty header for `page`, whose place in the table is committed.
    pub(super) fn write_header(&self, page: u32) {
        debug_assert!(page < self.page_count);
        // SAFETY: below the count, so in the table.
        let header = unsafe { self.headers.add(page as usize) };
        // SAFETY: committed, aligned, and no page in use has it.
        unsafe { header.write(Header::empty()) };
    }

    /// The address of byte `offset` of the pages.
    #[inline]
    pub(super) fn at(&self, offset: usize) -> NonNull<u8> {
        debug_assert!(offset <= self.page_count as usize * PAGE_BYTES);
        // SAFETY: inside the pages or one past them.
        unsafe { self.base.add(offset) }
    }

    /// How far `block` is from the first page; anything for what is not in the pages.
    #[inline]
    pub(super) fn offset_of(&self, block: NonNull<u8>) -> usize {
        block.as_ptr().addr().wrapping_sub(self.base.as_ptr().addr())
    }

    /// The first page of the span that `offset` is in; the offset is that of a slot in use.
    #[inline]
    pub(super) fn span_of(&self, offset: usize) -> u32 {
        let page = (offset / PAGE_BYTES) as u32;
        page - u32::from(self.header(page).back.get())
    }
}
