//! The only place of Heapwright that names atomics and locks. no_std.
#![no_std]

pub mod atomic;
