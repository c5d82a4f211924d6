//! Heapwright's general allocator.
#![no_std]
