//! The one table of C and C++ allocation symbols, over any allocator.
//!
//! An allocator implements [`CAllocator`]; [`export_c_symbols!`] turns it into the complete set
//! of functions that a drop-in replacement must define: `malloc` and its family, glibc's
//! `__libc_*` doubles, the statistics calls, and every form of C++ `operator new` and `delete`.
//! A partial set is the commonest way a preloaded allocator breaks a program: a block of one
//! allocator then reaches the `free` of another.
//!
//! The functions check arguments, set `errno` and nothing else: they allocate nothing, do not
//! panic, and are compiled to tail calls where the allocator keeps C's rules itself.
//!
//! # Not here
//! Any allocation: that is the allocator's. Interposing of other calls (`mmap`, `fork`).
#![no_std]

mod allocator;
mod c_library;
pub mod control;
pub mod extensions;
pub mod face;
pub mod operator_new;
mod report;
mod table;

pub use allocator::{CAllocator, Entry, FreeEntry, Told, Usage};
pub use report::{Mallinfo, Mallinfo2};
