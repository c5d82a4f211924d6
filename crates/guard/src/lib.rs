//! The guarded heap: each misuse of a block is found and told, in programs as they are.
//!
//! A block lies on pages of its own that end at a page out of reach, at addresses that are not
//! used again; what is known of it lies elsewhere. Blocks for which that would cost too much lie
//! beside others between canaries. Errors are written as lines of JSON with raw addresses;
//! `heapwright run --mode check` finds the names. The design: `docs/design/safety.md`.
//!
//! # Not here
//! The C functions and the interceptors of the C library (`preload-check`); names of places, and
//! what a report looks like (the command line).
#![no_std]

mod alloc;
mod boot;
mod canary;
mod depot;
mod end;
mod fault;
mod finding;
mod fork;
mod heap;
mod leaks;
mod nearest;
mod options;
mod packed;
mod pages;
mod plain;
mod range;
mod record;
mod release;
mod report;
pub mod sampled;
mod sites;
mod table;
mod thread;
mod threads;
mod tls;

/// A lock of the guarded heap.
type Lock<T> = heapwright_sync::Lock<T, heapwright_os::Futex>;

pub use depot::StackId;
pub use end::{Ending, at_exit, at_fatal_signal};
pub use fault::{exchange_action, is_kept};
pub use finding::Kind;
pub use heap::{Request, Return};
pub use heapwright_core::family::Family;
pub use options::VARIABLE;
pub use range::{bytes_left, check_read, check_write};
pub use record::{BlockId, State, Watch};

use heap::HEAP;

/// Makes the heap if it is not there yet. `own_address` lies in the caller's object, whose frames
/// are left out of stacks. Call it once, early. False when there is too little address space, or
/// the page size is not 4 KiB.
pub fn start(own_address: usize) -> bool {
    let ready = HEAP.ready();
    heapwright_unwind::refresh_modules();
    heapwright_unwind::visit_modules(|module| {
        if (module.start..module.end).contains(&own_address) {
            thread::set_own_code(module.start, module.end);
        }
    });
    ready
}

/// A block; null without memory. Some 3 us with pages of its own, 0.3 us without.
pub fn alloc(request: Request) -> *mut u8 {
    HEAP.alloc(request)
}

/// Takes a block back. An address that is no block's is told, and nothing else happens.
pub fn free(block: *mut u8, how: Return) {
    HEAP.free(block, how);
}

/// C's `realloc`: the block moves each time, so that an old pointer is found in use. 0 bytes
/// free it and give null.
pub fn realloc(block: *mut u8, bytes: usize) -> *mut u8 {
    HEAP.realloc(block, bytes)
}

/// Bytes of a live block, as requested; 0 for anything else.
pub fn usable_bytes(block: *mut u8) -> usize {
    HEAP.usable_bytes(block)
}

/// Bytes of live blocks, and of memory that guarded ones take.
pub fn usage() -> (usize, usize) {
    let counts = &HEAP.counts;
    let load = |counter: &heapwright_sync::atomic::AtomicUsize| {
        counter.load(heapwright_sync::atomic::Ordering::Relaxed)
    };
    (load(&counts.live_bytes), load(&counts.guarded_live_bytes))
}

/// The program is about to forbid itself system calls: from now on only those are made that
/// allocators make.
pub fn confine() {
    heapwright_unwind::refresh_modules();
    heapwright_unwind::freeze_modules();
    HEAP.pages.forgo_markers();
}
