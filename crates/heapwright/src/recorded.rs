//! Recording of a Rust program's own allocator.

use core::alloc::{GlobalAlloc, Layout};

use heapwright_record::hooks::{self, AllocKind, Block, FreeKind, Hooks, Registers};

/// A global allocator that tells Heapwright's recorder what the program asks of `A`.
///
/// Calls of C's `malloc` are recorded without this; an allocator that is linked into a Rust program
/// (mimalloc, jemalloc, [`Heapwright`](crate::Heapwright)) has names that no recorder can hook.
/// Under `heapwright record` the calls go into the recording, with calls of `malloc` from inside
/// `A` left out; a statically linked program, into which no recorder can be preloaded, records by
/// itself. Otherwise a call costs one load and one branch more than `A`'s own.
///
/// ```
/// use std::alloc::System;
///
/// use heapwright::Recorded;
///
/// #[global_allocator]
/// static GLOBAL: Recorded<System> = Recorded::new(System);
///
/// let words = vec!["a", "b"].join(" ");
/// assert_eq!(words, "a b");
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Recorded<A> {
    inner: A,
}

impl<A> Recorded<A> {
    /// Records what is asked of `inner`.
    pub const fn new(inner: A) -> Self {
        Self { inner }
    }

    /// The allocator that is recorded.
    pub const fn inner(&self) -> &A {
        &self.inner
    }
}

/// A block as the recorder wants it. The alignment is told where C's would not do.
#[inline(always)]
fn block(address: *mut u8, size: usize, align: usize, kind: AllocKind) -> Block {
    let align_log2 = if align > 16 { align.trailing_zeros() as u8 } else { 0 };
    Block { address: address.addr(), size, kind, align_log2 }
}

/// Allocates by `allocate` and records it.
#[cold]
#[inline(never)]
fn recorded_alloc(
    hooks: &'static Hooks,
    layout: Layout,
    kind: AllocKind,
    allocate: impl FnOnce() -> *mut u8,
) -> *mut u8 {
    let Some(call) = hooks.enter() else { return allocate() };
    let result = allocate();
    let made = block(result, layout.size(), layout.align(), kind);
    // SAFETY: this function's own state, and it goes on running during the call.
    unsafe { call.alloc(made, Registers::current()) };
    result
}

// SAFETY: every call is answered by `A` with the caller's own arguments; recording neither changes
// blocks nor unwinds.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Recorded<A> {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise is the one that `A` asks for.
        let allocate = || unsafe { self.inner.alloc(layout) };
        match hooks::active() {
            None => allocate(),
            Some(hooks) => recorded_alloc(hooks, layout, AllocKind::Rust, allocate),
        }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        let allocate = || unsafe { self.inner.alloc_zeroed(layout) };
        match hooks::active() {
            None => allocate(),
            Some(hooks) => recorded_alloc(hooks, layout, AllocKind::RustZeroed, allocate),
        }
    }

    #[inline]
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        let call = hooks::active().and_then(Hooks::enter);
        if let Some(call) = &call {
            call.free(ptr.addr(), FreeKind::Rust);
        }
        // SAFETY: as above.
        unsafe { self.inner.dealloc(ptr, layout) };
    }

    #[inline]
    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: as above.
        let resize = || unsafe { self.inner.realloc(ptr, layout, new_size) };
        match hooks::active() {
            None => resize(),
            Some(hooks) => recorded_realloc(hooks, ptr, layout, new_size, resize),
        }
    }
}

/// Resizes by `resize` and records it.
#[cold]
#[inline(never)]
fn recorded_realloc(
    hooks: &'static Hooks,
    ptr: *mut u8,
    layout: Layout,
    new_size: usize,
    resize: impl FnOnce() -> *mut u8,
) -> *mut u8 {
    let Some(call) = hooks.enter() else { return resize() };
    let begun = call.resize_begins(ptr.addr());
    let result = resize();
    let made = block(result, new_size, layout.align(), AllocKind::RustRealloc);
    // SAFETY: this function's own state, and it goes on running during the call.
    unsafe { call.resized(begun, made, Registers::current()) };
    result
}
