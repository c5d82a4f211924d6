//! The file that merged windows map: a memfd of 128 KiB, written through a view of our own while
//! it is open, and never again.
//!
//! It is closed when it is full; from then on the windows that map it are all that keeps it, here
//! and in children that a fork made, announced or not. So nothing is ever punched out of it or
//! written over: the kernel frees it when nobody maps it any more.

use core::ptr::NonNull;

use heapwright_os::{
    Advice, Errno, Fd, Mapping, Protection, advise, file_size_limit_bytes, map_private_at,
    map_shared,
};

use crate::merge::homes::{self, SegmentId};
use crate::merge::mask::{Mask, WINDOW_BYTES, WINDOW_PAGES};
use crate::span::PAGE_UNIT_BYTES;

/// Groups of a segment: few, so that it is soon free of windows, or can be emptied; enough that
/// what the kernel keeps of a file (a KiB or so) is a hundredth of it.
const GROUP_COUNT: usize = 8;
const SEGMENT_BYTES: usize = GROUP_COUNT * WINDOW_BYTES;

/// A segment that is being filled.
#[derive(Debug)]
pub(crate) struct Segment {
    file: Fd,
    view: Mapping,
    id: SegmentId,
    group_count: usize,
    /// Pages that memory was taken for, a bit each.
    taken: [u8; GROUP_COUNT],
}

const _: () = assert!(WINDOW_PAGES <= u8::BITS as usize);

impl Segment {
    /// An empty one.
    ///
    /// # Errors
    /// The kernel's: `ENOSYS`, `EPERM` where there is no memfd. `ENOSPC` when the program may make
    /// no file that long (beyond that limit there is a signal).
    pub(crate) fn new() -> Result<Self, Errno> {
        if file_size_limit_bytes().is_some_and(|limit| limit < SEGMENT_BYTES as u64) {
            return Err(Errno::ENOSPC);
        }
        let file = Fd::shared_memory(c"heapwright-merged")?;
        file.set_bytes(SEGMENT_BYTES as u64)?;
        let view = map_shared(&file, 0, SEGMENT_BYTES, Protection::ReadWrite)
            .map_err(|_| Errno::ENOMEM)?;
        // A child has no use for the view. A refusal costs it the addresses.
        // SAFETY: the whole mapping made above.
        let _ = unsafe { advise(view.start(), SEGMENT_BYTES, Advice::DontFork) };
        Ok(Self { file, view, id: homes::begin(), group_count: 0, taken: [0; GROUP_COUNT] })
    }

    /// Its number.
    pub(crate) fn id(&self) -> SegmentId {
        self.id
    }

    /// Begins a group; none when the segment is full.
    pub(crate) fn begin_group(&mut self) -> Option<usize> {
        (self.group_count < GROUP_COUNT).then(|| {
            self.group_count += 1;
            self.group_count - 1
        })
    }

    /// Where the bytes of `group` are written, with memory for those of `mask`.
    ///
    /// # Errors
    /// `ENOMEM`, `ENOSPC` when the kernel has none.
    pub(crate) fn place_for(&mut self, group: usize, mask: &Mask) -> Result<*mut u8, Errno> {
        debug_assert!(group < self.group_count);
        for page in (0..WINDOW_PAGES).filter(|page| mask.has_page(*page)) {
            if self.taken[group] >> page & 1 == 0 {
                // Taken now: a write to a page that cannot be had would be a signal.
                let offset = (group * WINDOW_BYTES + page * PAGE_UNIT_BYTES) as u64;
                self.file.allocate(offset, PAGE_UNIT_BYTES as u64)?;
                self.taken[group] |= 1 << page;
                homes::note_taken(self.id, 1);
            }
        }
        Ok(self.view.start().as_ptr().wrapping_add(group * WINDOW_BYTES))
    }

    /// Bytes of memory that the segment takes.
    pub(crate) fn taken_bytes(&self) -> usize {
        let pages: u32 = self.taken.iter().map(|pages| pages.count_ones()).sum();
        pages as usize * PAGE_UNIT_BYTES
    }

    /// Maps the pages of `group` over a window.
    ///
    /// # Safety
    /// - The window is whole pages of the region's, and its live bytes are those of the group's
    ///   at the same offsets.
    ///
    /// # Errors
    /// The kernel's: `ENOMEM` when the mappings are used up; nothing has changed then.
    pub(crate) unsafe fn map_over(&self, window: NonNull<u8>, group: usize) -> Result<(), Errno> {
        debug_assert!(group < self.group_count);
        let offset = (group * WINDOW_BYTES) as u64;
        // SAFETY: the caller's promise; the file keeps its length, since nobody else has it.
        unsafe { map_private_at(window, &self.file, offset, WINDOW_BYTES) }
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        // SAFETY: the view is used through this value only.
        unsafe { self.view.unmap() };
    }
}
