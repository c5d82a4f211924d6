//! `libheapwright_recorder.so`: preloaded, it records every allocation of a program and leaves
//! the program's own allocator in place.
//!
//! Each hook is a trampoline of two instructions that notes where its caller stands, a function
//! that calls the next object's allocator and tells `heapwright-record` what happened, and
//! nothing else. A process that is not part of a recording session passes straight through.
#![no_std]

mod caller;
mod cpp;
mod malloc;
mod pass;
mod process;
mod real;
mod regions;

use heapwright_record::hooks::Hooks;

/// For allocators inside the program ([`heapwright_record::hooks`]).
#[used]
#[unsafe(export_name = "heapwright_recorder_hooks_v1")]
static HOOKS: Hooks = Hooks::linked_in();

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    heapwright_os::abort()
}
