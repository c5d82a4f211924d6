//! What an allocator offers to C.

use core::ffi::{CStr, c_int};

use heapwright_core::family::Family;

/// The function by which a program asked for memory.
///
/// A constant at every call, so an allocator that does not look at it pays nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Entry {
    /// `malloc`.
    Malloc,
    /// `calloc`.
    Calloc,
    /// `realloc`.
    Realloc,
    /// `reallocarray`.
    Reallocarray,
    /// `posix_memalign`.
    PosixMemalign,
    /// `aligned_alloc`.
    AlignedAlloc,
    /// `memalign`.
    Memalign,
    /// `valloc`.
    Valloc,
    /// `pvalloc`.
    Pvalloc,
    /// `operator new(size)`.
    New,
    /// `operator new[](size)`.
    NewArray,
    /// `operator new(size, nothrow)`.
    NewNothrow,
    /// `operator new[](size, nothrow)`.
    NewArrayNothrow,
    /// `operator new(size, align)`, throwing or not.
    NewAligned,
    /// `operator new[](size, align)`, throwing or not.
    NewArrayAligned,
}

/// The function by which a program gave memory back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FreeEntry {
    /// `free`, `cfree`.
    Free,
    /// C23 `free_sized`, `free_aligned_sized`.
    FreeSized,
    /// `operator delete(ptr)`, also its nothrow form.
    Delete,
    /// `operator delete[](ptr)`, also its nothrow form.
    DeleteArray,
    /// `operator delete(ptr, size)`.
    DeleteSized,
    /// `operator delete[](ptr, size)`.
    DeleteArraySized,
    /// `operator delete(ptr, align)`, with or without a size.
    DeleteAligned,
    /// `operator delete[](ptr, align)`, with or without a size.
    DeleteArrayAligned,
}

impl Entry {
    /// The family of the blocks that it makes.
    #[inline(always)]
    pub const fn family(self) -> Family {
        match self {
            Self::New | Self::NewNothrow => Family::New,
            Self::NewArray | Self::NewArrayNothrow => Family::NewArray,
            Self::NewAligned => Family::NewAligned,
            Self::NewArrayAligned => Family::NewArrayAligned,
            Self::Malloc
            | Self::Calloc
            | Self::Realloc
            | Self::Reallocarray
            | Self::PosixMemalign
            | Self::AlignedAlloc
            | Self::Memalign
            | Self::Valloc
            | Self::Pvalloc => Family::Malloc,
        }
    }
}

impl FreeEntry {
    /// The family of the blocks that it takes back.
    #[inline(always)]
    pub const fn family(self) -> Family {
        match self {
            Self::Free | Self::FreeSized => Family::Malloc,
            Self::Delete | Self::DeleteSized => Family::New,
            Self::DeleteArray | Self::DeleteArraySized => Family::NewArray,
            Self::DeleteAligned => Family::NewAligned,
            Self::DeleteArrayAligned => Family::NewArrayAligned,
        }
    }
}

/// What a program says of a block that it gives back: true in right programs, and not to be
/// relied on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// The size, if the function takes one.
    pub bytes: Option<usize>,
    /// The alignment, if the function takes one.
    pub align_bytes: Option<usize>,
}

/// Bytes held by an allocator, for `mallinfo2` and its like. Zero where it does not know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes taken from the kernel for small blocks and their free space.
    pub arena_bytes: usize,
    /// Bytes of blocks with a mapping or a run of pages of their own.
    pub large_bytes: usize,
    /// How many of those blocks there are.
    pub large_count: usize,
    /// Bytes of blocks in use, large ones included; may count blocks cached by threads.
    pub in_use_bytes: usize,
    /// Free bytes held for reuse.
    pub free_bytes: usize,
    /// Of those, bytes that `malloc_trim` could give back.
    pub trimmable_bytes: usize,
    /// Bytes of the allocator's own bookkeeping, outside the blocks.
    pub metadata_bytes: usize,
    /// Bytes of addresses whose blocks share pages with others (mode compact).
    pub merged_bytes: usize,
    /// Bytes that merging gave back since the start.
    pub merge_freed_bytes: usize,
}

/// An allocator as C sees it. All functions may run at any time in any thread: before
/// constructors, after destructors, in a thread that is ending, in a child after fork.
///
/// Sizes are bytes as the program gave them, unchecked unless said otherwise. A null result
/// means that there is no memory; `errno` is then the face's business unless
/// [`KEEPS_C_RULES`](Self::KEEPS_C_RULES).
///
/// # Safety
/// - A non-null result points to as many bytes as were asked for, aligned to 16 (or to the
///   alignment asked for), that no other live block overlaps and nobody else uses until it is
///   freed.
/// - No function unwinds, and none calls a symbol of the table that is exported over it.
pub unsafe trait CAllocator {
    /// Whether the allocator sets `errno` itself when it returns null, so that the face can end
    /// in a tail call.
    const KEEPS_C_RULES: bool = false;

    /// Name and version, for `mallctl("version")` and the statistics as text.
    const VERSION: &'static CStr = c"";

    /// A block of `bytes` if one is at hand, else null, and [`malloc`](Self::malloc) is asked: the
    /// part that is worth inlining into the C function, which then needs no frame.
    #[inline(always)]
    fn malloc_at_once(_bytes: usize, _entry: Entry) -> *mut u8 {
        core::ptr::null_mut()
    }

    /// A block of `bytes`; a unique one also for 0.
    ///
    /// # Safety
    /// - None beyond C's: the result is used as a block.
    unsafe fn malloc(bytes: usize, entry: Entry) -> *mut u8;

    /// A zeroed block of `count * unit_bytes`; null when the product overflows.
    ///
    /// # Safety
    /// - As for [`malloc`](Self::malloc).
    unsafe fn calloc(count: usize, unit_bytes: usize) -> *mut u8;

    /// C's `realloc`: null acts as `malloc`; what 0 bytes mean is the allocator's choice.
    ///
    /// # Safety
    /// - `ptr` is null or a live block of this allocator, and after a non-null result it is not
    ///   used any more.
    unsafe fn realloc(ptr: *mut u8, bytes: usize, entry: Entry) -> *mut u8;

    /// A block of `bytes` whose address is a multiple of `align_bytes`, a power of two (checked
    /// by the face).
    ///
    /// # Safety
    /// - `align_bytes` is a power of two.
    unsafe fn memalign(align_bytes: usize, bytes: usize, entry: Entry) -> *mut u8;

    /// Gives a block back; null is nothing. A size that the program told is not passed on: it is
    /// too often wrong.
    ///
    /// # Safety
    /// - `ptr` is null or a live block of this allocator, not used after the call.
    unsafe fn free(ptr: *mut u8, entry: FreeEntry);

    /// [`free`](Self::free) by a function that takes a size or an alignment: for allocators that
    /// check them.
    ///
    /// # Safety
    /// - As for [`free`](Self::free).
    #[inline(always)]
    unsafe fn free_told(ptr: *mut u8, entry: FreeEntry, _told: Told) {
        // SAFETY: the caller's promise, passed on.
        unsafe { Self::free(ptr, entry) }
    }

    /// How many bytes of the block the program may touch; 0 for null.
    ///
    /// # Safety
    /// - `ptr` is null or a live block of this allocator.
    unsafe fn usable_bytes(ptr: *mut u8) -> usize;

    /// Gives free memory back to the kernel; whether any was given.
    fn trim() -> bool {
        false
    }

    /// `mallopt`, but for what only glibc's own workings need: whether the allocator knows the
    /// parameter and did what it says.
    fn set_parameter(_parameter: c_int, _value: c_int) -> bool {
        false
    }

    /// Bytes held.
    fn usage() -> Usage {
        Usage::default()
    }
}
