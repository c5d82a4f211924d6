//! The one table of C allocation symbols, over any allocator.
#![no_std]
