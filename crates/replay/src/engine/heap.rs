//! What operations are carried out on: libc's names as the loader bound them (so the preloaded
//! allocator), or nothing but the same stores (the null run).

use std::ffi::{c_int, c_void};
use std::ptr::NonNull;

/// An allocator under replay. All calls are direct, through the same dispatch that a program
/// linked against libc has.
pub(crate) trait Heap: Copy + Send + Sync + 'static {
    /// A block of `size` bytes for `slot`; null when there is no memory.
    fn alloc(self, slot: u32, size: usize) -> *mut u8;

    /// The same, zeroed.
    fn alloc_zeroed(self, slot: u32, size: usize) -> *mut u8;

    /// The same, aligned to `1 << align_log2`.
    fn alloc_aligned(self, slot: u32, size: usize, align_log2: u32) -> *mut u8;

    /// The block with another size.
    ///
    /// # Safety
    /// - `block` came from this heap and was neither freed nor resized since.
    unsafe fn resize(self, block: *mut u8, size: usize) -> *mut u8;

    /// Frees the block.
    ///
    /// # Safety
    /// - As for [`Heap::resize`].
    unsafe fn free(self, block: *mut u8);

    /// Bytes that may be used of the block.
    ///
    /// # Safety
    /// - As for [`Heap::resize`].
    unsafe fn usable_bytes(self, block: *mut u8) -> usize;

    /// Writes the byte at `offset`.
    ///
    /// # Safety
    /// - `block` is as for [`Heap::resize`], or of [`crate::sys::map_private`], and longer than
    ///   `offset`.
    unsafe fn write(self, block: *mut u8, offset: usize);
}

unsafe extern "C" {
    // Not libc's own by necessity: whatever object comes first has these names.
    safe fn malloc(size: usize) -> *mut c_void;
    safe fn calloc(count: usize, size: usize) -> *mut c_void;
    fn realloc(block: *mut c_void, size: usize) -> *mut c_void;
    fn posix_memalign(out: *mut *mut c_void, align: usize, size: usize) -> c_int;
    fn free(block: *mut c_void);
    fn malloc_usable_size(block: *mut c_void) -> usize;
}

/// The process's `malloc`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProcessHeap;

impl Heap for ProcessHeap {
    #[inline(always)]
    fn alloc(self, _slot: u32, size: usize) -> *mut u8 {
        malloc(size).cast()
    }

    #[inline(always)]
    fn alloc_zeroed(self, _slot: u32, size: usize) -> *mut u8 {
        calloc(1, size).cast()
    }

    #[inline]
    fn alloc_aligned(self, _slot: u32, size: usize, align_log2: u32) -> *mut u8 {
        let mut block = std::ptr::null_mut();
        let align = (1 << align_log2.min(47)).max(size_of::<*mut u8>());
        // SAFETY: writes one pointer; the alignment is a power of two of at least a pointer.
        let result = unsafe { posix_memalign(&raw mut block, align, size) };
        if result == 0 { block.cast() } else { std::ptr::null_mut() }
    }

    #[inline(always)]
    unsafe fn resize(self, block: *mut u8, size: usize) -> *mut u8 {
        // SAFETY: the caller's block is a live one of this heap. Zero would free it.
        unsafe { realloc(block.cast(), size.max(1)) }.cast()
    }

    #[inline(always)]
    unsafe fn free(self, block: *mut u8) {
        // SAFETY: the caller's block is a live one of this heap.
        unsafe { free(block.cast()) }
    }

    #[inline]
    unsafe fn usable_bytes(self, block: *mut u8) -> usize {
        // SAFETY: the caller's block is a live one of this heap.
        unsafe { malloc_usable_size(block.cast()) }
    }

    #[inline(always)]
    unsafe fn write(self, block: *mut u8, offset: usize) {
        // SAFETY: the caller says that the block is longer.
        let byte = unsafe { block.add(offset) };
        // SAFETY: inside the block, which nobody else writes while this operation runs.
        unsafe { byte.write_volatile(1) }
    }
}

/// Distance of two slots' places in the null run's arena: a cache line, as a small block.
const LINE_BYTES: usize = 64;

/// Does nothing but write as many bytes, on an arena that is resident beforehand.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NullHeap {
    arena: NonNull<u8>,
    mask: usize,
}

// SAFETY: the arena is raw memory that outlives all threads; its bytes mean nothing, and are
// only ever written, by volatile stores of the same value.
unsafe impl Send for NullHeap {}
// SAFETY: as above.
unsafe impl Sync for NullHeap {}

impl NullHeap {
    /// Bytes of the arena for so many slots: as their lines would take, within reason.
    pub(crate) fn arena_bytes(slot_count: u32) -> usize {
        (slot_count as usize * LINE_BYTES).next_power_of_two().clamp(1 << 20, 1 << 26)
    }

    /// A heap over `arena`.
    ///
    /// # Safety
    /// - `arena` has `bytes` writable bytes, a power of two, for the life of the process.
    pub(crate) unsafe fn new(arena: NonNull<u8>, bytes: usize) -> Self {
        assert!(bytes.is_power_of_two(), "the mask needs a power of two");
        Self { arena, mask: bytes - 1 }
    }

    #[inline(always)]
    fn place(self, offset: usize) -> *mut u8 {
        // SAFETY: the masked offset is below the arena's length.
        unsafe { self.arena.add(offset & self.mask) }.as_ptr()
    }
}

impl Heap for NullHeap {
    #[inline(always)]
    fn alloc(self, slot: u32, _size: usize) -> *mut u8 {
        self.place(slot as usize * LINE_BYTES)
    }

    #[inline(always)]
    fn alloc_zeroed(self, slot: u32, size: usize) -> *mut u8 {
        self.alloc(slot, size)
    }

    #[inline(always)]
    fn alloc_aligned(self, slot: u32, size: usize, _align_log2: u32) -> *mut u8 {
        self.alloc(slot, size)
    }

    #[inline(always)]
    unsafe fn resize(self, block: *mut u8, _size: usize) -> *mut u8 {
        block
    }

    #[inline(always)]
    unsafe fn free(self, _block: *mut u8) {}

    #[inline(always)]
    unsafe fn usable_bytes(self, _block: *mut u8) -> usize {
        0
    }

    #[inline(always)]
    unsafe fn write(self, block: *mut u8, offset: usize) {
        let byte = self.place((block.addr() & self.mask).wrapping_add(offset));
        // SAFETY: `place` is inside the arena. Threads may write the same byte: relaxed atomic
        // stores of one byte, which no one reads.
        unsafe { std::sync::atomic::AtomicU8::from_ptr(byte) }
            .store(1, std::sync::atomic::Ordering::Relaxed);
    }
}
