//! `mallinfo`, `mallinfo2`, `malloc_stats`, `malloc_info`: glibc's statistics calls, answered
//! with what the allocator knows; fields that have no meaning here are zero.

use core::ffi::{c_char, c_int, c_void};
use core::fmt::{self, Write};

use heapwright_os::{Errno, Fd, set_errno, write_all};

use crate::{CAllocator, Usage};

/// glibc's `struct mallinfo2`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Mallinfo2 {
    /// Bytes from the kernel for small blocks.
    pub arena: usize,
    /// Not used here.
    pub ordblks: usize,
    /// Not used here.
    pub smblks: usize,
    /// Large blocks.
    pub hblks: usize,
    /// Bytes of large blocks.
    pub hblkhd: usize,
    /// Not used here.
    pub usmblks: usize,
    /// Not used here.
    pub fsmblks: usize,
    /// Bytes in use, large blocks not counted (as glibc counts).
    pub uordblks: usize,
    /// Free bytes held.
    pub fordblks: usize,
    /// Bytes that trimming could give back.
    pub keepcost: usize,
}

/// glibc's `struct mallinfo`, whose fields are `int`: larger values are cut off at `INT_MAX`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Mallinfo {
    /// As in [`Mallinfo2`].
    pub arena: c_int,
    /// Not used here.
    pub ordblks: c_int,
    /// Not used here.
    pub smblks: c_int,
    /// As in [`Mallinfo2`].
    pub hblks: c_int,
    /// As in [`Mallinfo2`].
    pub hblkhd: c_int,
    /// Not used here.
    pub usmblks: c_int,
    /// Not used here.
    pub fsmblks: c_int,
    /// As in [`Mallinfo2`].
    pub uordblks: c_int,
    /// As in [`Mallinfo2`].
    pub fordblks: c_int,
    /// As in [`Mallinfo2`].
    pub keepcost: c_int,
}

impl From<Usage> for Mallinfo2 {
    fn from(usage: Usage) -> Self {
        Self {
            arena: usage.arena_bytes,
            hblks: usage.large_count,
            hblkhd: usage.large_bytes,
            uordblks: usage.in_use_bytes.saturating_sub(usage.large_bytes),
            fordblks: usage.free_bytes,
            keepcost: usage.trimmable_bytes,
            ..Self::default()
        }
    }
}

impl From<Mallinfo2> for Mallinfo {
    fn from(wide: Mallinfo2) -> Self {
        let cut = |value: usize| c_int::try_from(value).unwrap_or(c_int::MAX);
        Self {
            arena: cut(wide.arena),
            hblks: cut(wide.hblks),
            hblkhd: cut(wide.hblkhd),
            uordblks: cut(wide.uordblks),
            fordblks: cut(wide.fordblks),
            keepcost: cut(wide.keepcost),
            ..Self::default()
        }
    }
}

/// Text in a fixed buffer; what does not fit is dropped.
pub(crate) struct Text<const BYTES: usize> {
    buffer: [u8; BYTES],
    used_bytes: usize,
}

impl<const BYTES: usize> Text<BYTES> {
    pub(crate) fn new() -> Self {
        Self { buffer: [0; BYTES], used_bytes: 0 }
    }

    /// As a C string.
    pub(crate) fn as_ptr(&self) -> *const c_char {
        self.buffer.as_ptr().cast()
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.buffer.get(..self.used_bytes).unwrap_or(&[])
    }
}

impl<const BYTES: usize> Write for Text<BYTES> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // The last byte stays zero, so that the buffer is also a C string.
        let room = BYTES.saturating_sub(1).saturating_sub(self.used_bytes);
        let text = text.as_bytes();
        let text = text.get(..text.len().min(room)).unwrap_or(&[]);
        for (place, byte) in self.buffer.iter_mut().skip(self.used_bytes).zip(text) {
            *place = *byte;
        }
        self.used_bytes += text.len();
        Ok(())
    }
}

/// `malloc_stats`: a few lines on standard error.
pub fn malloc_stats<A: CAllocator>() {
    let usage = A::usage();
    let mut text = Text::<512>::new();
    let _ = write!(
        text,
        "system bytes     = {:>12}\nin use bytes     = {:>12}\nfree bytes held  = {:>12}\n\
         large blocks     = {:>12}\nlarge bytes      = {:>12}\nmerged bytes     = {:>12}\n\
         freed by merging = {:>12}\n",
        usage.arena_bytes + usage.large_bytes,
        usage.in_use_bytes,
        usage.free_bytes,
        usage.large_count,
        usage.large_bytes,
        usage.merged_bytes,
        usage.merge_freed_bytes,
    );
    // Nobody can be told of a failure here.
    let _ = write_all(&Fd::STDERR, text.bytes());
}

/// `malloc_info`: an XML document of one element with the totals; -1 and `EINVAL` for options
/// other than 0.
///
/// # Safety
/// - `stream` is an open C stream.
pub unsafe fn malloc_info<A: CAllocator>(options: c_int, stream: *mut c_void) -> c_int {
    unsafe extern "C" {
        fn fputs(text: *const c_char, stream: *mut c_void) -> c_int;
    }
    if options != 0 || stream.is_null() {
        set_errno(Errno::EINVAL);
        return -1;
    }
    let usage = A::usage();
    let mut text = Text::<512>::new();
    let _ = write!(
        text,
        "<malloc version=\"1\">\n<total type=\"rest\" size=\"{}\"/>\n\
         <total type=\"mmap\" count=\"{}\" size=\"{}\"/>\n\
         <system type=\"current\" size=\"{}\"/>\n<aspace type=\"total\" size=\"{}\"/>\n\
         <merged size=\"{}\" freed=\"{}\"/>\n</malloc>\n",
        usage.free_bytes,
        usage.large_count,
        usage.large_bytes,
        usage.arena_bytes + usage.large_bytes,
        usage.arena_bytes + usage.large_bytes,
        usage.merged_bytes,
        usage.merge_freed_bytes,
    );
    // SAFETY: the buffer ends with a zero byte (see `write_str`); the stream is the caller's.
    let written = unsafe { fputs(text.as_ptr(), stream) };
    if written < 0 { -1 } else { 0 }
}

#[cfg(test)]
mod tests {
    use core::fmt::Write;

    use super::{Mallinfo, Mallinfo2, Text};
    use crate::Usage;

    #[test]
    fn text_is_cut_at_its_buffer_and_stays_a_c_string() {
        let mut text = Text::<8>::new();
        text.write_str("abc").expect("never fails");
        text.write_str("defghi").expect("never fails");
        assert_eq!(text.bytes(), b"abcdefg");
        assert_eq!(text.buffer[7], 0);
    }

    #[test]
    fn narrow_counts_are_cut_not_wrapped() {
        let usage = Usage { arena_bytes: 5_000_000_000, large_count: 3, ..Usage::default() };
        let narrow = Mallinfo::from(Mallinfo2::from(usage));
        assert_eq!((narrow.arena, narrow.hblks), (i32::MAX, 3));
    }
}
