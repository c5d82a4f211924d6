//! Event capture: what runs inside the recorded program.
//!
//! Each thread writes its events into a ring of its own in the session's spool
//! (`heapwright_format::spool`), with the calling-context tree of its stacks; no lock is shared
//! between threads on that path, and nothing here allocates from the program's allocator. The
//! hooks that call this are in `heapwright-recorder` (any program) and `heapwright::Recorded`
//! (a Rust program's own global allocator, by the table of [`hooks`]).
//!
//! # The path of an allocation
//! 1. The hook calls [`enter`]: the thread's recorder, marked busy, so that calls from inside
//!    the real allocator are not recorded twice.
//! 2. It calls the real allocator, then [`Guard::alloc`]: stack, clock, event.
//! 3. [`leave`] ends the busy mark.
//!
//! # Fork
//! The thread's and the process's private blocks are wiped by the kernel in a child
//! (`MADV_WIPEONFORK`), whatever kind of fork it was; a wiped block is not armed, so the child's
//! first event starts a ring file of its own. A `vfork` child shares the memory and goes on in
//! its parent's stream.
#![no_std]

mod clock;
mod confined;
mod dormant;
pub mod hooks;
mod kept_file;
mod large;
mod module_watch;
mod nodes;
mod path_text;
mod process;
mod ring;
mod sample;
mod session;
mod thread;
mod tls;
mod writer;

pub use confined::confine;
pub use dormant::{CONTROL, end_dormancy};
pub use large::flush_touched;
pub use module_watch::modules_changed;
pub use session::{Mode, mode, start, step_aside};
pub use thread::{Block, Guard, Resize, enter, leave};
