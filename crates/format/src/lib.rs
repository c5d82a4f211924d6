//! Heapwright's recording format: a writer that never allocates, and a reader.
#![no_std]
